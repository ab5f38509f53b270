"""Running a group: in a process of its own with the allocator pinned, then in one with the allocator as it comes.

Peak memory takes one more process a contender, in which the allocator keeps nothing.
"""

import dataclasses
import importlib
import os
import pickle
import pkgutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import temporal

from ._machine import PINNED, RETURNING
from ._measure import CaseResult, Row

__all__ = ["GroupResult", "list_groups", "run"]

_STDERR = 2  # the file descriptor: standard output holds results alone, whatever a peer prints


@dataclass
class GroupResult:
    """What came out of a group: the machine, and one result a case."""

    group: str
    about: str
    quick: bool
    machine: dict[str, Any]
    cases: list[CaseResult]

    @property
    def faults(self) -> list[str]:
        """One line for each contender that failed, or was wrong."""
        return [
            f"{case.name} ({case.shape}): {row.contender} {row.status}: {row.message}"
            for case in self.cases
            for row in case.rows
            if row.status in ("wrong", "failed")
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in GROUP.json: numbers in seconds, bytes and counts."""
        return dataclasses.asdict(self)


def list_groups() -> dict[str, str]:
    """The groups that can be run, each with a line that says what it compares.

    >>> "lif" in list_groups()
    True
    """
    package = importlib.import_module(f"{__package__}.groups")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))
    return {name: (group_module(name).__doc__ or "").strip().partition("\n")[0] for name in names}


def group_module(name: str) -> Any:
    """The module of a group."""
    return importlib.import_module(f"{__package__}.groups.{name}")


def run(group: str, *, quick: bool = False, threads: int | None = None) -> GroupResult:
    """Measure a group, in processes of its own.

    Args:
        group: its name.
        quick: tiny sizes and two rounds: whether everything works, not how fast it is.
        threads: that torch may use, >= 1; its own choice otherwise.
    Raises:
        ValueError: there is no such group, or threads is below 1.
        ChildProcessError: a process that measures came to grief; it has said on standard error why.
    """
    known = list_groups()
    if group not in known:
        raise ValueError(f"bench: unknown group {group!r}; known: {', '.join(known)}")
    if threads is not None and threads < 1:
        raise ValueError(f"bench: threads={threads} must be at least 1")
    request: dict[str, Any] = {"group": group, "quick": quick, "threads": threads}
    machine, cases = _in_own_process(request | {"allocator": "pinned", "only": {}})
    again = {index: case.default_allocator for index, case in enumerate(cases) if case.default_allocator}
    if quick:  # one table is enough to see that it works
        again = dict(list(again.items())[:1])
    if again:
        _, others = _in_own_process(request | {"allocator": "default", "only": again})
        for index, other in zip(again, others, strict=True):
            cases[index].rows += other.rows
    for index, case in enumerate(cases):
        if case.memory:
            case.rows = [_with_memory(row, request, index) for row in case.rows]
    return GroupResult(group, known[group], quick, machine, cases)


def _with_memory(row: Row, request: dict[str, Any], index: int) -> Row:
    """The row with its contender's peak memory, or what went wrong when that was measured."""
    if row.status != "ok" or row.allocator != "pinned":
        return row
    try:
        _, (peak,) = _in_own_process(request | {"allocator": "returning", "only": {index: (row.contender,)}})
    except ChildProcessError as problem:  # killed for its memory, say
        return Row(row.contender, "failed", row.allocator, message=str(problem))
    return dataclasses.replace(row, peak_bytes=peak)


def _in_own_process(request: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    environment = {name: value for name, value in os.environ.items() if name not in PINNED | RETURNING}
    environment |= {"pinned": PINNED, "returning": RETURNING}.get(request["allocator"], {})
    # The process measures the copy of the package that asks, wherever it is started (-P: not the current folder's).
    root = str(Path(temporal.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        command = [sys.executable, "-P", "-m", f"{__package__}._worker", str(answer)]
        done = subprocess.run(command, input=pickle.dumps(request), stdout=_STDERR, env=environment)
        if done.returncode:
            raise ChildProcessError(f"bench: the process that measures {request['group']} ended with {done.returncode}")
        return pickle.loads(answer.read_bytes())
