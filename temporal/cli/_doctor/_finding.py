"""One thing that was found, and a list of them that survives whatever looking for it raises."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "Section", "State", "guarded"]

State = Literal["ok", "note", "problem"]


@dataclass
class Finding:
    """What was found.

    Args:
        name: what was looked at.
        text: what is the case.
        state: "problem": something that must work does not; "note": worth knowing, and nothing is broken.
        hint: what to do about it, where there is something to do.
        data: the same as numbers, for --json.
    """

    name: str
    text: str
    state: State = "ok"
    hint: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Section:
    """What was found of one subject."""

    name: str
    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        """Those that must not be."""
        return [finding for finding in self.findings if finding.state == "problem"]


def guarded(name: str, find: Callable[[], Iterator[Finding]]) -> Section:
    """All findings up to an exception, which is one itself: a doctor must not fall ill."""
    found: list[Finding] = []
    try:
        found.extend(find())
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        found.append(Finding(name, f"{type(error).__name__}: {lines[0]}", "problem"))
    return Section(name, found)
