"""``temporal doctor``."""

from __future__ import annotations

import json as _json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ._app import Flag, command

if TYPE_CHECKING:
    from ._doctor import Section


@command
def doctor(
    *, check: Annotated[bool, Parameter(negative="--no-check", show_default=False)] = True, json: Flag = False
) -> int:
    """Say what is installed and what works here: packages, kernels, threads, memory, caches, sound, and a quick check.

    The status is 1 if something that must work does not. What is only worth knowing is a note.

    Examples:
        temporal doctor
        temporal doctor --no-check
        temporal doctor --json > doctor.json

    Args:
        check: also compute with a few operators, some ten seconds: exact, and how near the limit of this machine?
        json: print all of it as one JSON object.
    """
    from ._doctor import examine

    sections = examine(check)
    problems = [finding for section in sections for finding in section.problems]
    if json:
        found = {section.name: [asdict(finding) for finding in section.findings] for section in sections}
        print(_json.dumps({"healthy": not problems, "sections": found}, ensure_ascii=False))
    else:
        _show(sections)
    return 1 if problems else 0


def _show(sections: list[Section]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    looks = {"ok": ("", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "bold red")}
    names = max(len(finding.name) for section in sections for finding in section.findings)
    for section in sections:
        console.print(Text(f"\n{section.name}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(width=len("PROBLEM"), justify="right")
        table.add_column(width=names, no_wrap=True)
        table.add_column(overflow="fold")
        for finding in section.findings:
            word, style = looks[finding.state]
            table.add_row(Text(word, style), Text(finding.name), Text(finding.text))
            if finding.hint:
                table.add_row("", "", Text(finding.hint, style="italic"))
        console.print(table)
    states = [finding.state for section in sections for finding in section.findings]
    problems, notes = states.count("problem"), states.count("note")
    last = f"{problems} problem{'s' * (problems != 1)}" if problems else "what must work works"
    console.print(Text(f"\n{last}; {notes} note{'s' * (notes != 1)}", style="bold red" if problems else "bold green"))
