"""What is compared: a case, its contenders, and the least that any of them must do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Case", "Floor"]


@dataclass(frozen=True)
class Floor:
    """The unavoidable work of a case, done as fast as this machine can: what no contender beats.

    Args:
        what: what it does, for the table ("copy of 134 MB").
        run: does it once.
        share: how often one run does the unavoidable work of the case, > 0. Copies need large buffers, so one run may
            move more bytes than the case does; its time is divided by this number.
    """

    what: str
    run: Callable[[], object]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison: the same work, done by several contenders on the same input.

    Args:
        name: short; name and shape are unique in a group.
        scope: what a ratio of it speaks of: "neuron only", "end to end".
        shape: the sizes, with their letters: "T=100 B=128 N=512".
        dtype: of the input.
        items: how many of ``item`` one call computes; the table shows the time of one.
        item: the unit: "neuron-step", "frame".
        contenders: name and function; its result goes to ``check``. None instead of a function: it is not installed.
        baseline: the contender that the others' ratios refer to: how many times faster than it they are.
        check: the error of a contender's result. A contender is timed only if it is at most ``tolerance``.
        tolerance: largest error, with its reason in a comment of the group.
        bytes: that one call must move between memory and processor, reads and writes.
        flops: that one call must compute, where they are the limit.
        density: share of inputs or outputs that are not 0, 0..1, where it matters.
        floor: the time that the bytes or flops cannot be faster than.
        default_allocator: contenders that are measured a second time, in a process with the allocator as it comes; None is
            the first of this package, except at the points of a line.
        memory: also show the peak memory of each contender, which is measured in a fresh process of its own.
        sweep: this case is a point of the line that bears its name: the axis' label, and where on it.
        excused: contenders that compute something else and are timed all the same, whatever their error; and what it is.
            The table shows the error, and says so.
        each: every call is timed by itself, for the 99th percentile: of a stream, whose next chunk cannot wait. Each turn
            of a contender begins with a call that is not timed, since the others' turns emptied the caches.
    Raises:
        ValueError: a name that is not among the contenders, nothing to count.

    >>> case = Case(
    ...     name="sum", scope="sum only", shape="N=3", dtype="int", items=3, item="number", bytes=24, baseline="loop",
    ...     contenders={"loop": lambda: sum([1, 2, 3]), "other": None}, check=lambda total: abs(total - 6), tolerance=0,
    ... )
    >>> case.check(case.contenders["loop"]())
    0
    """

    name: str
    scope: str
    shape: str
    dtype: str
    items: int
    item: str
    contenders: Mapping[str, Callable[[], Any] | None]
    baseline: str
    check: Callable[[Any], float]
    tolerance: float
    bytes: int = 0
    flops: int = 0
    density: float | None = None
    floor: Floor | None = None
    default_allocator: tuple[str, ...] | None = None
    memory: bool = False
    sweep: tuple[str, float] | None = None
    excused: Mapping[str, str] = field(default_factory=dict)
    each: bool = False

    def __post_init__(self) -> None:
        if self.default_allocator is None:
            ours = [name for name, call in self.contenders.items() if call and name.startswith("temporal")]
            object.__setattr__(self, "default_allocator", () if self.sweep else tuple(ours[:1]))
        for name in (self.baseline, *(self.default_allocator or ()), *self.excused):
            if name not in self.contenders:
                raise ValueError(f"Case {self.name!r}: {name!r} is not a contender; there are {list(self.contenders)}")
        if self.items < 1 or self.bytes + self.flops < 1:
            raise ValueError(f"Case {self.name!r}: count items and bytes or flops, each at least 1")
