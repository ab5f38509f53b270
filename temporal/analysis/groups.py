"""Accuracy group by group, with what chance leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .intervals import wilson_interval
from .style import INK, LINES, PALE, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_by_group"]


def accuracy_by_group(groups: Sequence[tuple[str, int, int]], kind: str = "class") -> Figure:
    """A dot a group for its accuracy and a line for its 95 % confidence interval, worst group last.

    Args:
        groups: of each its name, how many of its recordings were right, and how many it has, > 0.
        kind: what the groups are: "class", "speaker".
    Returns:
        A figure that grows with the number of groups; a dashed line marks the accuracy of all of them together.
    Raises:
        ValueError: no group, or one without recordings.

    Example:
        >>> from temporal.analysis import accuracy_by_group
        >>> figure = accuracy_by_group([("anna", 48, 50), ("ben", 40, 50)], "speaker")
        >>> figure.axes[0].get_xlabel()
        'accuracy (%), 95 % confidence interval'
    """
    if not groups:
        raise ValueError("accuracy_by_group: no group; at least one is right")
    ordered = sorted(groups, key=lambda group: (group[1] / max(1, group[2]), group[2]))
    ends = [wilson_interval(right, total) for _, right, total in ordered]
    row = 0.24 if len(groups) <= 40 else 0.16
    figure, (axes,) = new_axes(6.4, [max(0.6, row * len(groups) + 0.3)])
    styled(axes, x="accuracy (%), 95 % confidence interval")
    places = range(len(ordered))
    axes.hlines(places, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=INK, linewidth=1.4)
    shares = [100 * right / total for _, right, total in ordered]
    axes.plot(shares, places, linestyle="", marker="o", markersize=4.5, color=LINES[0]["color"], zorder=3)
    size = "tick" if len(groups) <= 40 else "small"
    axes.set_yticks(places, [f"{name}  ({right} of {total})" for name, right, total in ordered], **plain(size))
    everything = 100 * sum(right for _, right, _ in groups) / sum(total for *_, total in groups)
    axes.axvline(everything, color=PALE, linestyle="--", linewidth=1.2, zorder=0)
    axes.set_title(f"by {kind}; all together {everything:.1f} %", fontsize=TEXT["label"], color=INK, loc="left")
    lowest = min(100 * low for low, _ in ends)
    axes.set_xlim(10 * int(max(0.0, lowest - 2) // 10), 101)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    return figure
