"""Measured speed: contenders side by side in one process, each exact before it is timed, beside the machine's floor.

A group is one file in ``temporal/benchmarks/groups``: its docstring's first line says what it compares, and its function
``cases(quick)`` returns a list of functions without arguments, each of which builds one :class:`Case`. Nothing else has
to be told about it. ``temporal bench GROUP`` runs it, shows the table, and writes the files that hold the results.
"""

from ._case import Case, Floor
from ._machine import copy_floor
from ._measure import CaseResult, Row, Spread
from ._report import show, write
from ._run import GroupResult, list_groups, run

__all__ = [
    "Case",
    "CaseResult",
    "Floor",
    "GroupResult",
    "Row",
    "Spread",
    "copy_floor",
    "list_groups",
    "run",
    "show",
    "write",
]
