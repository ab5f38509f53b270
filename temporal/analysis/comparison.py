"""Several trainings beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import INK, LINES, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compare_curves"]

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_PANELS = (("train_loss", "training loss", 1.0), ("validation_accuracy", "held-out accuracy (%)", 100.0))


def compare_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training loss and held-out accuracy of several runs over their epochs; each line ends in the run's name.

    Args:
        runs: name -> one mapping an epoch, as for :func:`learning_curve`. Where no run has a held-out accuracy, the
            training accuracy is drawn. Values that are not finite leave a gap.
    Raises:
        ValueError: no run that has an epoch.

    Example:
        >>> from temporal.analysis import compare_curves
        >>> rows = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 1 - 0.5 / e} for e in range(1, 11)]
        >>> [axes.get_ylabel() for axes in compare_curves({"a": rows, "b": rows[:5]}).axes]
        ['training loss', 'training accuracy (%)']
    """
    runs = {name: rows for name, rows in runs.items() if rows}
    if not runs:
        raise ValueError("compare_curves: no run has an epoch")
    panels_of = list(_PANELS)
    if not any("validation_accuracy" in row for rows in runs.values() for row in rows):
        panels_of[1] = ("train_accuracy", "training accuracy (%)", 100.0)
    figure, panels = new_axes(6.4, [2.2, 2.2])
    for axes, (column, label, scale) in zip(panels, panels_of, strict=True):
        styled(axes, y=label)
        ends = []
        for number, (name, rows) in enumerate(runs.items()):
            pairs = [(row["epoch"], _number(row[column]) * scale) for row in rows if row.get(column) is not None]
            if not pairs:
                continue
            style = {"color": LINES[number % len(LINES)]["color"], "linestyle": _DASHES[number % len(_DASHES)]}
            mark = "o" if len(pairs) == 1 else ""
            axes.plot(*zip(*pairs, strict=True), linewidth=1.5, marker=mark, markersize=4, **style)
            finite = [value for _, value in pairs if math.isfinite(value)]
            if finite:
                ends.append((finite[-1], pairs[-1][0], name, style["color"]))
        _name_ends(axes, ends)
    panels[-1].set_xlabel("epoch", fontsize=TEXT["label"], color=INK)
    return figure


def _name_ends(axes: Any, ends: list[tuple[float, float, str, Any]]) -> None:
    """Names beside the lines' ends, on the right of the panel, moved apart where they would touch."""
    low, high = axes.get_ylim()
    most = 30  # characters of a name, its end, which tells runs apart; a longer one would leave no room for the lines
    gap, place = 0.085 * (high - low), -math.inf
    for value, _, name, color in sorted(ends):
        place = max(value, place + gap)
        axes.annotate(
            name if len(name) <= most else f"…{name[1 - most :]}",
            (1.0, place),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            **(plain() | {"color": color}),
        )
    axes.set_ylim(low, high)


def _number(value: Any) -> float:
    number = float(value)
    return number if math.isfinite(number) else math.nan
