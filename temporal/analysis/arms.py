"""The arms of a study beside each other: what each of their runs reached, and at what cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import INK, TEXT, legend, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_against_cost", "accuracy_by_arm"]

# Of Okabe and Ito, in an order in which neighbours differ in lightness; marks differ too, so that grey tells them apart.
_COLORS = ("#0072b2", "#e69f00", "#007a5a", "#d55e00", "#56b4e9", "#cc79a7", "#222222")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_APART = 0.5  # of a row, over which the runs of an arm are spread
_WIDE = 5.0  # largest cost over smallest, from which on the axis is logarithmic


def accuracy_by_arm(arms: Mapping[str, Sequence[float]]) -> Figure:
    """A dot for each run, and a bar across the mean of each arm; the first arm is on top.

    Args:
        arms: name -> the accuracies of its runs, 0..1, which may be none.
    Raises:
        ValueError: no arm that has a run, or an accuracy outside 0..1.

    Example:
        >>> from temporal.analysis import accuracy_by_arm
        >>> figure = accuracy_by_arm({"none": [0.51, 0.53], "learned": [0.88, 0.90]})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['learned  89.0 ± 1.4 %', 'none  52.0 ± 1.4 %']
    """
    given = list(reversed([(name, list(runs)) for name, runs in arms.items() if len(runs)]))
    everything = [value for _, runs in given for value in runs]
    if not everything:
        raise ValueError("accuracy_by_arm: no arm has a run")
    _check("accuracy_by_arm", everything)
    figure, (axes,) = new_axes(6.4, [0.42 * len(given) + 0.3])
    styled(axes, x="accuracy (%), a mark each run, a bar the mean")
    for place, (name, runs) in enumerate(given):
        style = _style(list(arms).index(name))
        middle = 100 * statistics.fmean(runs)
        axes.plot([middle] * 2, [place - 0.32, place + 0.32], color=INK, linewidth=2.0, solid_capstyle="butt")
        offsets = [place + _APART * ((n + 0.5) / len(runs) - 0.5) for n in range(len(runs))]
        axes.plot([100 * value for value in runs], offsets, linestyle="", markersize=5.5, zorder=3, **style)
    axes.set_yticks(range(len(given)), [_named(name, runs) for name, runs in given], **plain())
    axes.set_ylim(-0.6, len(given) - 0.4)
    return figure


def accuracy_against_cost(
    arms: Mapping[str, Sequence[tuple[float, float]]], cost: str = "parameters that are learned"
) -> Figure:
    """A mark for each run, its cost to the right and its accuracy up; arms differ in marks. Left and high is good.

    Args:
        arms: name -> of each run its cost, >= 0, and its accuracy, 0..1; an arm without runs is left out.
        cost: what the cost is, with its unit.
    Returns:
        A figure, whose cost axis is logarithmic where costs differ more than fivefold.
    Raises:
        ValueError: no run, an accuracy outside 0..1, or a cost below 0.

    Example:
        >>> from temporal.analysis import accuracy_against_cost
        >>> figure = accuracy_against_cost({"none": [(900, 0.5)], "gru": [(9000, 0.9)]})
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_xscale()
        ('parameters that are learned', 'log')
    """
    runs = [run for of_arm in arms.values() for run in of_arm]
    if not runs:
        raise ValueError("accuracy_against_cost: no arm has a run")
    _check("accuracy_against_cost", [accuracy for _, accuracy in runs])
    costs = [value for value, _ in runs]
    if not min(costs) >= 0:
        raise ValueError(f"accuracy_against_cost: a cost is {min(costs)}; 0 or more is right")
    figure, (axes,) = new_axes(6.4, [2.8])
    styled(axes, x=cost, y="accuracy (%)")
    for number, (name, of_arm) in enumerate(arms.items()):
        if of_arm:
            places = [value for value, _ in of_arm], [100 * accuracy for _, accuracy in of_arm]
            label = _short(name)
            axes.plot(*places, linestyle="", markersize=6, alpha=0.85, label=label, **_style(number))
    if min(costs) > 0 and max(costs) > _WIDE * min(costs):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(_counted)
    axes.xaxis.set_minor_formatter(_counted_few)
    axes.tick_params(which="minor", labelsize=TEXT["small"], labelcolor=INK)
    axes.margins(0.08)
    legend(axes, loc="center left", bbox_to_anchor=(1.01, 0.5))
    shown = axes.get_legend()
    for text in shown.get_texts() if shown is not None else ():
        text.set_parse_math(False)  # names are the user's
    return figure


def _style(number: int) -> dict[str, Any]:
    """Of an arm, the same in every picture."""
    color = _COLORS[number % len(_COLORS)]
    hollow = number // len(_MARKS) % 2 == 1
    return {
        "color": color,
        "marker": _MARKS[number % len(_MARKS)],
        "markerfacecolor": "white" if hollow else color,
        "markeredgecolor": color if hollow else INK,
        "markeredgewidth": 1.2 if hollow else 0.6,
    }


def _named(name: str, runs: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(runs):.1f}" if len(runs) > 1 else ""
    return f"{_short(name)}  {100 * statistics.fmean(runs):.1f}{spread} %"


def _short(name: str) -> str:
    most = 24
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _counted(value: float, place: float = 0.0) -> str:
    """12,000 as people read it."""
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def _counted_few(value: float, place: float = 0.0) -> str:
    """Between the powers of ten, twice and five times them are named."""
    first = f"{value:e}"[0]
    return _counted(value) if first in "25" else ""


def _check(who: str, accuracies: Sequence[float]) -> None:
    wrong = [value for value in accuracies if not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"{who}: an accuracy is {wrong[0]}; a part, 0..1, is right")
