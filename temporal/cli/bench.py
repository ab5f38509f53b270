"""``temporal bench``."""

from __future__ import annotations

import json as _json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import temporal

from ._app import Flag, Folder, command

# The groups' names without loading them, which would load torch; shells complete them.
_GROUPS = tuple(sorted(file.stem for file in Path(temporal.__path__[0], "benchmarks", "groups").glob("[!_]*.py")))
Group = Literal[_GROUPS] | str  # type: ignore[valid-type]


@command
def bench(
    group: Annotated[Group | None, Parameter(show_choices=False)] = None,
    /,
    *,
    listed: Annotated[Flag, Parameter(name="--list")] = False,
    quick: Flag = False,
    threads: int | None = None,
    out: Folder = None,
    json: Flag = False,
) -> None:
    """Measure speed beside the libraries that do the same, each exact before it is timed, and the machine's own limit.

    The tables go to standard error, and into RESULTS.md, GROUP.json and GROUP.png. The status is not 0 if a contender
    was not exact, or failed.

    Examples:
        temporal bench --list
        temporal bench lif
        temporal bench frontends --quick --json

    Args:
        group: what to measure; every group otherwise.
        listed: list the groups.
        quick: tiny sizes and two rounds, to see that everything works; written only if --out is given.
        threads: that torch may use.
        out: the folder for the results; benchmarks/ in a checkout, else none.
        json: print the results as one JSON object.
    """
    from temporal import benchmarks

    known = benchmarks.list_groups()
    if listed:
        print(_json.dumps(known) if json else "\n".join(f"{name:10} {about}" for name, about in known.items()))
        return

    if out is None and not quick and Path("temporal/benchmarks/__init__.py").is_file():
        out = Path("benchmarks")
    results = []
    for name in [group] if group else known:
        results.append(benchmarks.run(name, quick=quick, threads=threads))
        benchmarks.show(results[-1])
        for file in benchmarks.write(results[-1], out) if out else []:
            print(f"written: {file}", file=sys.stderr)
    if json:
        print(_json.dumps({"groups": [result.to_dict() for result in results]}, ensure_ascii=False))
    if faults := [f"{result.group}: {fault}" for result in results for fault in result.faults]:
        raise ValueError("\n  ".join(["bench: not everything is right", *faults]))
