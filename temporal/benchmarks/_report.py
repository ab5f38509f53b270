"""Results in words: the table on a terminal, the section of RESULTS.md, the JSON file."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._machine import RETURNING
from ._measure import CaseResult, Row, Spread, time_text
from ._run import GroupResult

__all__ = ["replace_section", "show", "write"]

_OURS = "temporal"  # how the names of this package's contenders begin
_WIDTH = 160  # characters; in a narrower terminal the lines run over, which reads better than columns of syllables

_TITLE = """# Results

Written by `temporal bench GROUP`, never by hand; each run replaces its own group's section. A contender is timed only after
its result passed the exactness check in the same process, and its row shows the error. Contenders take turns (A B C, A B C,
...) on the same input with the same threads.

- Time: the median of one call, its middle half in brackets, then the smallest and the largest.
- Times faster: the baseline's time over this one's, round by round; below 1 it is slower.
- Floor: the unavoidable work alone, on this machine in the same run; times floor says how far from it a contender is.
- Lost: whoever is faster than the fastest of this package.
- A star beside an error: a contender that computes something else; a line below the table says what.
- Page faults: pages mapped afresh, a call. The allocator (glibc) is told to keep its memory, except in the rows that say
  "default allocator".
"""


def show(result: GroupResult, console: Console | None = None) -> None:
    """Tables for people, one a case; on standard error unless another console is given."""
    console = console or Console(stderr=True, highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(f"{result.group}: {result.about}", markup=False)
    console.print(_machine(result), markup=False, soft_wrap=True)
    for case in result.cases:
        console.print(f"\n{_heading(case, result)}", markup=False, soft_wrap=True, style="bold")
        console.print(_floor(case), markup=False, soft_wrap=True)
        table = Table(*_columns(case), box=None, pad_edge=False)
        for row in case.rows:
            table.add_row(*(escape(cell) for cell in _cells(row, case)))
        console.print(table)
        for text in (*_excuses(case), *_losses(case), *_overhead(result, case)):
            console.print(text, markup=False, soft_wrap=True)
    if result.quick:
        console.print("\n--quick: tiny sizes and two rounds; these times say nothing.", markup=False)


def write(result: GroupResult, folder: Path) -> list[Path]:
    """RESULTS.md (this group's section), GROUP.json and GROUP.png in a folder, which is made if it is missing."""
    from temporal.analysis import save

    from ._picture import picture

    folder.mkdir(parents=True, exist_ok=True)
    results, data, image = folder / "RESULTS.md", folder / f"{result.group}.json", folder / f"{result.group}.png"
    before = results.read_text(encoding="utf-8") if results.is_file() else _TITLE
    results.write_text(replace_section(before, result.group, _section(result)), encoding="utf-8")
    data.write_text(json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save(picture(result), image, colors=32)
    return [results, data, image]


def replace_section(text: str, group: str, section: str) -> str:
    """The text with the group's section replaced, or added at the end; all else stays as it is.

    >>> replace_section("before\\n", "lif", "new")
    'before\\n\\n<!-- begin lif -->\\nnew\\n<!-- end lif -->\\n'
    """
    begin, end = f"<!-- begin {group} -->", f"<!-- end {group} -->"
    whole = f"{begin}\n{section.strip()}\n{end}\n"
    before, found, rest = text.partition(f"{begin}\n")
    if not found:
        return f"{text.rstrip()}\n\n{whole}"
    _, closed, after = rest.partition(f"{end}\n")
    if not closed:
        raise ValueError(f"bench: RESULTS.md opens the section of {group} and never ends it: no line {end}")
    return before + whole + after


def _section(result: GroupResult) -> str:
    lines = [f"## {result.group}", "", result.about, "", f"![{result.group}]({result.group}.png)", "", _machine(result)]
    for case in result.cases:
        columns = _columns(case)
        lines += [
            "",
            f"### {_heading(case, result)}",
            "",
            _floor(case),
            "",
            _line(columns),
            _line(["---"] * len(columns)),
        ]
        lines += [_line(_cells(row, case)) for row in case.rows]
        lines += [part for text in (*_excuses(case), *_losses(case), *_overhead(result, case)) for part in ("", text)]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _machine(result: GroupResult) -> str:
    machine: dict[str, Any] = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    cache = machine["last_level_cache_bytes"] / (1 << 20)
    chosen = "".join(f", {name}={value}" for name, value in machine["settings"].items())
    return (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, threads {machine['threads']}, last-level "
        f"cache {cache:g} MiB, {machine['system']}, huge pages {machine['huge_pages']}, load average "
        f"{machine['load_average']}{chosen}; {versions}."
    )


def _heading(case: CaseResult, result: GroupResult) -> str:
    density = "" if case.density is None else f", density {case.density:.2f}"
    return f"{case.name}: {case.shape} {case.dtype}{density}; {case.scope}; threads {result.machine['threads']}"


def _floor(case: CaseResult) -> str:
    counts = {"bytes": case.bytes, "flops": case.flops}
    each = " and ".join(f"{count / case.items:.3g} {what}" for what, count in counts.items() if count)
    text = f"Unavoidable: {each} a {case.item}, {case.items:,} a call."
    if case.floor_seconds is not None:
        rate = f", {case.bytes / case.floor_seconds.median / 1e9:.3g} GB/s" if case.bytes else ""
        text += f" Floor ({case.floor}): {time_text(case.floor_seconds.median)}{rate}."
    text += f" Largest error allowed: {case.tolerance:g}."
    if case.each:
        text += " Every call is timed by itself; each turn of a contender begins with one that is not, for warm caches."
    if case.memory:
        settings = ", ".join(f"{name}={value}" for name, value in RETURNING.items())
        text += (
            " Peak memory: resident, of one call, over that before it, each in a fresh process whose allocator gives freed "
            f"memory back ({settings})."
        )
    return text


def _excuses(case: CaseResult) -> list[str]:
    """What those compute that were timed in spite of their error; one line for those with the same reason."""
    reasons: dict[str, list[str]] = {}
    for row in case.rows:
        if row.status == "ok" and row.message and row.contender not in reasons.setdefault(row.message, []):
            reasons[row.message].append(row.contender)
    return [f"* {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _losses(case: CaseResult) -> list[str]:
    """Who is faster than the fastest of this package, so that nobody has to look for it."""
    timed = {row.contender: row.seconds.median for row in case.rows if row.seconds and row.allocator == "pinned"}
    ours = [(seconds, name) for name, seconds in timed.items() if name.startswith(_OURS)]
    if not ours:
        return []
    best, name = min(ours)
    faster = [f"{peer} ({best / seconds:.2f} times as fast)" for peer, seconds in timed.items()
              if not peer.startswith(_OURS) and seconds < best]  # fmt: skip
    return [f"Lost: {name} is slower than {', '.join(faster)}."] if faster else []


def _overhead(result: GroupResult, last: CaseResult) -> list[str]:
    """After the last case of a line that starts at 1: what a call costs before its first step, or other unit."""
    line = [case for case in result.cases if case.sweep and last.sweep and case.name == last.name]
    if len(line) < 2 or last is not line[-1]:
        return []
    (label, first), (_, end) = line[0].sweep, last.sweep  # type: ignore[misc]
    if first != 1:
        return []
    times = [{row.contender: row.seconds for row in case.rows if row.allocator == "pinned"} for case in (line[0], last)]
    told = []
    for name, at_first in times[0].items():
        if at_first and (at_end := times[1].get(name)):
            step = max(0.0, (at_end.median - at_first.median) / (end - first))
            told.append(f"{name} {time_text(max(0.0, at_first.median - step))}, then {time_text(step)} each")
    how = f"the time at 1 less that of one more, by the line from 1 to {end:g}"
    return [f"Overhead of a call, {label} ({how}): {'; '.join(told)}."] if told else []


def _columns(case: CaseResult) -> list[str]:
    faster = f"times faster than {case.baseline}"
    times = ["time", "least..most", f"ns a {case.item}", faster, "times floor"]
    late = ["99 % within"] if case.each else []
    memory = [f"peak memory (of {case.baseline}'s)"] if case.memory else []
    return ["contender", "error", *times, "GB/s", "page faults", "rounds", *late, *memory]


def _cells(row: Row, case: CaseResult) -> list[str]:
    name = row.contender if row.allocator == "pinned" else f"{row.contender}, {row.allocator} allocator"
    error = _error(row)
    if row.seconds is None:
        told = row.status if error or not row.message else f"{row.status}: {row.message}"
        return [name, error, told, *[""] * (len(_columns(case)) - 3)]
    seconds = row.seconds
    return [
        name,
        error,
        f"{time_text(seconds.median)} ({time_text(seconds.q1)}..{time_text(seconds.q3)})",
        f"{time_text(seconds.least)}..{time_text(seconds.most)}",
        f"{seconds.median / case.items * 1e9:.3g}",
        _ratio(row.ratio),
        "" if row.times_floor is None else f"{row.times_floor:.2f}",
        "" if row.bytes_per_second is None else f"{row.bytes_per_second / 1e9:.3g}",
        "" if row.page_faults is None else f"{row.page_faults:.0f}",
        str(row.rounds),
        *([time_text(row.late) if row.late else ""] if case.each else []),
        *([_memory(row, case)] if case.memory else []),
    ]


def _error(row: Row) -> str:
    """A star marks another definition, or a mistake: the line below the table says which."""
    if row.error is None:
        return ""
    return (f"{row.error:.1e}" if row.error else "0") + (" *" if row.status == "ok" and row.message else "")


def _memory(row: Row, case: CaseResult) -> str:
    """In MB, and as a share of the baseline's."""
    if row.peak_bytes is None:
        return ""
    base = next((other.peak_bytes for other in case.rows if other.contender == case.baseline), None)
    return f"{row.peak_bytes / 1e6:,.1f} MB" + (f" ({row.peak_bytes / base:.2f})" if base else "")


def _ratio(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.q1:.2f}..{ratio.q3:.2f})"
