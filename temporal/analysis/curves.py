"""How a training went, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import INK, LINES, TEXT, legend, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["learning_curve"]

_MOST_MARKS = 40  # epochs; beyond, marks on a line run into each other


def learning_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss, accuracy, and the width of the delays beside the learning rate, over the epochs of a run.

    Args:
        rows: one mapping an epoch, as in a run's ``metrics.jsonl``: "epoch", "train_loss", "train_accuracy" (0..1), and,
            each where it is known, "validation_loss", "validation_accuracy" (0..1), "sigma" (steps), "learning_rate",
            and "rounded" (True from the epoch on in which delays are whole steps: a line marks it).
    Returns:
        A figure with two panels, three where "sigma" or "learning_rate" is there. Values that are not finite leave a
        gap, and the panel names their epochs.
    Raises:
        ValueError: no row, or a row without "epoch".

    Example:
        >>> from temporal.analysis import learning_curve
        >>> rows = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 1 - 0.5 / e} for e in range(1, 11)]
        >>> [axes.get_ylabel() for axes in learning_curve(rows).axes]
        ['loss', 'accuracy (%)']
    """
    if not rows:
        raise ValueError("learning_curve: no rows; at least one epoch is right")
    missing = [number for number, row in enumerate(rows) if "epoch" not in row]
    if missing:
        raise ValueError(f"learning_curve: row {missing[0]} has no 'epoch', only {sorted(rows[missing[0]])}")
    schedule = [name for name in ("sigma", "learning_rate") if any(row.get(name) is not None for row in rows)]
    figure, panels = new_axes(6.4, [2.2, 2.2] + [1.2] * bool(schedule))

    _draw_column(styled(panels[0], y="loss"), rows, "loss", "{:.3f}", "upper right")
    _draw_column(styled(panels[1], y="accuracy (%)"), rows, "accuracy", "{:.1f} %", "lower right", scale=100)
    if schedule:
        _draw_schedule(panels[2], rows, schedule)
    _mark_rounding(panels, rows)
    _number_epochs(panels[-1], [row["epoch"] for row in rows])
    return figure


def _draw_column(
    axes: Axes, rows: Sequence[Mapping[str, Any]], what: str, form: str, corner: str, scale: float = 1.0
) -> None:
    """One measure in training and validation: lines, their last values in the legend, and a word on what is missing."""
    lost = []
    for style, part in zip(LINES, ("train", "validation"), strict=False):
        epochs, values = _column(rows, f"{part}_{what}", scale)
        finite = [value for value in values if math.isfinite(value)]
        lost += [f"{part} {epoch}" for epoch, value in zip(epochs, values, strict=True) if not math.isfinite(value)]
        if finite:
            shown = [value if math.isfinite(value) else math.nan for value in values]
            label = f"{part}, last {form.format(finite[-1])}"
            axes.plot(epochs, shown, label=label, linewidth=1.4, **_marked(style, len(rows)))
    if axes.lines:
        legend(axes, loc=corner)
    if lost:
        some = ", ".join(lost[:6]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
        axes.set_title(
            f"not a finite number in epoch: {some}", fontsize=TEXT["tick"], color=LINES[1]["color"], loc="left"
        )


def _draw_schedule(axes: Axes, rows: Sequence[Mapping[str, Any]], names: list[str]) -> None:
    """Width of the delays on the left, learning rate on the right; one of them alone on the left."""
    units = {"sigma": "sigma (steps)", "learning_rate": "learning rate"}
    lines: list[Any] = []
    for name, style in zip(names, LINES, strict=False):
        own = axes if not lines else axes.twinx()
        epochs, values = _column(rows, name)
        (line,) = own.plot(epochs, values, label=units[name], linewidth=1.4, **_marked(style, len(rows)))
        lines.append(line)
        styled(own, y=units[name], grid=own is axes)
        own.set_ylim(bottom=0)
        own.spines["right"].set_visible(own is not axes)
        own.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
        own.yaxis.get_offset_text().set_fontsize(TEXT["small"])
    if len(lines) > 1:
        legend(own, handles=lines, loc="upper right")  # on the axes that are drawn last, above both lines


def _mark_rounding(panels: Sequence[Axes], rows: Sequence[Mapping[str, Any]]) -> None:
    epoch = next((row["epoch"] for row in rows if row.get("rounded")), None)
    if epoch is None:
        return
    for axes in panels:
        axes.axvline(epoch, color=INK, linewidth=1.0, linestyle=(0, (1, 1.5)))
    panels[0].annotate(
        f"whole-step delays from epoch {epoch}",
        (epoch, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=TEXT["tick"],
        color=INK,
        ha="center",
    )


def _number_epochs(axes: Axes, epochs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", fontsize=TEXT["label"], color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)


def _column(rows: Sequence[Mapping[str, Any]], name: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """The epochs that have a value, and the values."""
    pairs = [(row["epoch"], scale * float(row[name])) for row in rows if row.get(name) is not None]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _marked(style: dict[str, Any], epochs: int) -> dict[str, Any]:
    return style | ({"markersize": 3.5} if epochs <= _MOST_MARKS else {"marker": ""})
