"""Results as a picture: bars for each case with the floor as a line, and lines for the cases that sweep a size."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from temporal.analysis.style import INK, LINES, PALE, legend, new_columns, plain, styled

from ._measure import CaseResult, Row, time_text
from ._run import GroupResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["picture"]

_BAR, _MARGIN, _LINE, _LINES_HEIGHT = 0.19, 0.85, 0.15, 3.2  # inches
_WIDTH, _LETTERS = 6.0, 76  # of a column, in inches, and of a line of its titles
_PANELS = 7  # in a column, at most, before there are two of them; never more than three


def picture(result: GroupResult) -> Figure:
    """One panel a case, each with a time axis of its own, then one panel for each line of cases; in up to three columns."""
    bars = [case for case in result.cases if case.sweep is None]
    lines: dict[str, list[CaseResult]] = {}
    for case in result.cases:
        if case.sweep is not None:
            lines.setdefault(f"{case.name}; {case.scope}", []).append(case)
    heights = [
        _MARGIN + _LINE * _title(case).count("\n") + _BAR * max(2, sum(_name(row).count("\n") + 1 for row in case.rows))
        for case in bars
    ] + [_LINES_HEIGHT] * len(lines)
    figure, axes = new_columns(_WIDTH, _columns(heights))
    for axis, case in zip(axes, bars, strict=False):
        _draw_bars(axis, case)
    for axis, (title, cases) in zip(axes[len(bars) :], lines.items(), strict=True):
        _draw_lines(axis, title, cases)
    return figure


def _columns(heights: list[float]) -> list[list[float]]:
    """The panels in their order, in columns of about one height."""
    count = min(3, -(-len(heights) // _PANELS))
    columns: list[list[float]] = [[] for _ in range(count)]
    total, done = sum(heights), 0.0
    for height in heights:
        columns[min(count - 1, int((done + height / 2) / total * count))].append(height)
        done += height
    return [column for column in columns if column]


def _title(case: CaseResult) -> str:
    return textwrap.fill(f"{case.name}: {case.shape} {case.dtype}; {case.scope}", _LETTERS)


def _draw_bars(axes: Axes, case: CaseResult) -> None:
    scale, unit = _unit(max((row.seconds.median for row in case.rows if row.seconds), default=1.0))
    styled(axes, x=f"time of a call, {unit}")
    # Room for the legend below the title, in points: panels differ in height, and no number may be hidden.
    axes.set_title(_title(case), loc="left", pad=16, **plain())
    for place, row in enumerate(case.rows):
        if row.seconds is None:
            axes.annotate(f" {row.status}", (0, place), va="center", **plain("small"))
            continue
        seconds = row.seconds
        reach = [[(seconds.median - seconds.q1) / scale], [(seconds.q3 - seconds.median) / scale]]
        color = LINES[0]["color"] if row.contender.startswith("temporal") else PALE
        axes.barh(
            place, seconds.median / scale, height=0.7, color=color, xerr=reach, error_kw={"ecolor": INK, "lw": 0.8}
        )
        told = time_text(seconds.median) + ("" if row.ratio is None else f", {row.ratio.median:.2f} times as fast")
        axes.annotate(f"  {told}", (seconds.q3 / scale, place), va="center", **plain("small"))
    if case.floor_seconds is not None:
        axes.axvline(
            case.floor_seconds.median / scale, color=LINES[1]["color"], linestyle="--", label=f"floor: {case.floor}"
        )
        legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)
    axes.set_yticks(range(len(case.rows)), [_name(row) for row in case.rows], parse_math=False)
    axes.set_ylim(len(case.rows) - 0.4, -0.6)  # the first row on top
    axes.set_xlim(0, axes.get_xlim()[1] * 1.3)  # room for the numbers


def _draw_lines(axes: Axes, title: str, cases: list[CaseResult]) -> None:
    label = cases[0].sweep[0] if cases[0].sweep else ""
    styled(axes, x=label, y="time of a call, s")
    axes.set_title(title, loc="left", **plain())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(
        [case.sweep[1] for case in cases if case.sweep], [f"{case.sweep[1]:,}" for case in cases if case.sweep]
    )
    axes.minorticks_off()
    names = list(dict.fromkeys(row.contender for case in cases for row in case.rows))
    for number, name in enumerate(names):
        points = [
            (case.sweep[1], row.seconds)
            for case in cases
            for row in case.rows
            if case.sweep and row.contender == name and row.seconds
        ]
        if points:
            at, medians = [x for x, _ in points], [seconds.median for _, seconds in points]
            look = LINES[number % len(LINES)] if number < len(LINES) else {"color": PALE, "marker": "v"}
            axes.plot(at, medians, label=name, markersize=4, **look)
    floors = [(case.sweep[1], case.floor_seconds.median) for case in cases if case.sweep and case.floor_seconds]
    if floors:
        axes.plot(*zip(*floors, strict=True), color=INK, linestyle=":", label="floor")
    if axes.get_legend_handles_labels()[0]:
        legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside the lines


def _name(row: Row) -> str:
    return row.contender if row.allocator == "pinned" else f"{row.contender}\n({row.allocator} allocator)"


def _unit(seconds: float) -> tuple[float, str]:
    return next(((size, unit) for size, unit in ((1.0, "s"), (1e-3, "ms")) if seconds >= size), (1e-6, "µs"))
