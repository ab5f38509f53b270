"""How time is taken: after the exactness check, in alternating runs, with the spread and the page faults."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ._case import Case
from ._machine import page_faults, peak_memory

__all__ = ["CaseResult", "Pace", "Row", "Spread", "measure", "measure_memory", "time_text"]

_FLOOR = object()  # the floor's place among the contenders' names


@dataclass(frozen=True)
class Pace:
    """How many rounds, each of which runs every contender once: at least so many, then until the time is up."""

    least: int = 7
    most: int = 51
    seconds: float = 8.0
    sample: float = 0.005  # shorter calls are repeated until they take that long, in seconds


QUICK = Pace(least=2, most=2, sample=0.0)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing: their median, the middle half, and all."""

    median: float
    q1: float
    q3: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of at least one value."""
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median, q1, q3, min(values), max(values))


@dataclass
class Row:
    """What came out for one contender.

    ``status`` is "ok", "not installed", "wrong" (it failed the exactness check) or "failed" (it raised); all but the
    first have no times. ``seconds`` is of one call, ``ratio`` how many times faster than the baseline (round by round),
    ``page_faults`` the median a call, ``times_floor`` the median time over the floor's, ``peak_bytes`` the peak memory of a
    call over that before it, where the case asks for it and the system tells. ``late`` is the 99th percentile of single
    calls, where each is timed. ``message`` says what is wrong, or, of a row that is "ok", what other thing it computes.
    """

    contender: str
    status: str
    allocator: str
    error: float | None = None
    message: str = ""
    rounds: int = 0
    seconds: Spread | None = None
    ratio: Spread | None = None
    times_floor: float | None = None
    bytes_per_second: float | None = None
    flops_per_second: float | None = None
    page_faults: float | None = None
    peak_bytes: int | None = None
    late: float | None = None


@dataclass
class CaseResult:
    """What came out of a case; the first fields are the case's own."""

    name: str
    scope: str
    shape: str
    dtype: str
    density: float | None
    items: int
    item: str
    bytes: int
    flops: int
    baseline: str
    tolerance: float
    default_allocator: tuple[str, ...] | None
    memory: bool
    sweep: tuple[str, float] | None
    each: bool = False
    floor: str | None = None
    floor_seconds: Spread | None = None  # of the unavoidable work
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class _Sample:
    seconds: float  # of one call
    faults: float
    single: tuple[float, ...] = ()  # of each call, where it counts


def measure(
    case: Case, *, allocator: str = "pinned", names: tuple[str, ...] = (), pace: Pace | None = None
) -> CaseResult:
    """Check every contender, then time those that are exact, and check them once more.

    Args:
        case: what to compare.
        allocator: how this process's allocator is set, for the rows.
        names: measure these contenders only; empty for all.
        pace: how long to measure.
    """
    chosen = {name: call for name, call in case.contenders.items() if not names or name in names}
    rows = {name: _checked(case, name, call, allocator) for name, call in chosen.items()}
    calls: dict[Any, Callable[[], Any]] = {name: chosen[name] for name, row in rows.items() if row.status == "ok"}  # type: ignore[misc]
    if case.floor is not None and calls:
        calls[_FLOOR] = case.floor.run
    samples = _alternate(calls, pace or Pace(), case.each)
    for name, row in rows.items():
        if row.status == "ok":  # a kernel that reuses memory may be right the first time only
            again = _checked(case, name, chosen[name], allocator)
            rows[name] = again if again.status != "ok" else row
            row.error = max(row.error or 0.0, again.error or 0.0)
    result = CaseResult(**{name: getattr(case, name) for name in _SHARED}, rows=list(rows.values()))
    if case.floor is not None and calls:
        result.floor = case.floor.what
        result.floor_seconds = Spread.of([sample.seconds / case.floor.share for sample in samples[_FLOOR]])
    for row in result.rows:
        if row.status == "ok":
            _fill(row, result, samples)
    return result


def measure_memory(case: Case, name: str) -> int | None:
    """The peak memory of a contender, which passed its check elsewhere; to be run in a process of its own.

    A first call compiles, imports and allocates what stays, so that the call that counts does not.
    """
    call = case.contenders[name]
    if call is None:
        return None
    call()
    return peak_memory(call)


_SHARED = (
    "name", "scope", "shape", "dtype", "density", "items", "item", "bytes", "flops", "baseline", "tolerance",
    "default_allocator", "memory", "sweep", "each",
)  # fmt: skip


def _checked(case: Case, name: str, call: Callable[[], Any] | None, allocator: str) -> Row:
    if call is None:
        return Row(name, "not installed", allocator)
    try:
        error = float(case.check(call()))
    except Exception as problem:  # of a peer in another version, say: it loses its row, the others stay
        said = str(problem).strip().partition("\n")[0]
        return Row(name, "failed", allocator, message=f"{type(problem).__name__}: {said}")
    if name in case.excused and math.isfinite(error):
        return Row(name, "ok", allocator, error, message=case.excused[name])
    if not error <= case.tolerance:  # so written for an error that is NaN
        shown = error if math.isfinite(error) else None  # JSON has no NaN
        return Row(name, "wrong", allocator, shown, f"error {error:.3g} is above {case.tolerance:.3g}")
    return Row(name, "ok", allocator, error)


def _alternate(calls: Mapping[Any, Callable[[], Any]], pace: Pace, each: bool = False) -> dict[Any, list[_Sample]]:
    """Rounds of A B C A B C ..., so that whatever else the machine does meets all of them alike."""
    repeats = {name: _repeats(call, pace) for name, call in calls.items()}
    samples: dict[Any, list[_Sample]] = {name: [] for name in calls}
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()  # what is there already is not looked through in every round
    try:
        started, done = time.perf_counter(), 0
        while done < pace.least or (done < pace.most and time.perf_counter() - started < pace.seconds):
            gc.collect()
            for name, call in calls.items():
                samples[name].append(_each(call, repeats[name]) if each else _sample(call, repeats[name]))
            done += 1
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return samples


def _repeats(call: Callable[[], Any], pace: Pace) -> int:
    """How many calls make one sample; finding out warms up."""
    call()
    return max(1, math.ceil(pace.sample / max(_sample(call, 1).seconds, 1e-9)))


def _sample(call: Callable[[], Any], repeats: int) -> _Sample:
    faults, started = page_faults(), time.perf_counter()
    for _ in range(repeats):
        call()
    seconds = time.perf_counter() - started
    return _Sample(seconds / repeats, (page_faults() - faults) / repeats)


def _each(call: Callable[[], Any], repeats: int) -> _Sample:
    call()  # untimed: the others have emptied the caches, which a stream that goes on finds full
    faults, marks = page_faults(), [time.perf_counter()]
    for _ in range(repeats):
        call()
        marks.append(time.perf_counter())
    single = tuple(after - before for before, after in pairwise(marks))
    return _Sample(statistics.median(single), (page_faults() - faults) / repeats, single)


def _fill(row: Row, result: CaseResult, samples: Mapping[Any, list[_Sample]]) -> None:
    own = [sample.seconds for sample in samples[row.contender]]
    row.rounds, row.seconds = len(own), Spread.of(own)
    single = [seconds for sample in samples[row.contender] for seconds in sample.single]
    row.late = statistics.quantiles(single, n=100, method="inclusive")[-1] if len(single) > 1 else None
    row.page_faults = statistics.median(sample.faults for sample in samples[row.contender])
    if any(other.contender == result.baseline and other.status == "ok" for other in result.rows):
        baseline = [sample.seconds for sample in samples[result.baseline]]
        row.ratio = Spread.of([theirs / ours for theirs, ours in zip(baseline, own, strict=True)])
    if result.floor_seconds is not None:
        row.times_floor = row.seconds.median / result.floor_seconds.median
    row.bytes_per_second = result.bytes / row.seconds.median if result.bytes else None
    row.flops_per_second = result.flops / row.seconds.median if result.flops else None


def time_text(seconds: float) -> str:
    """A time with three digits and a unit.

    >>> time_text(0.01234), time_text(4.2e-6), time_text(75.0)
    ('12.3 ms', '4.2 µs', '75 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"
