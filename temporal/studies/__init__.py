"""Studies: one recipe, trained in several variants and with several seeds, side by side or over a cluster, into one table.

Reading a study loads no torch.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .named import find_study, studies
from .study import Cell, Study

if _TYPE_CHECKING:
    from .running import Outcome, run_study
    from .summary import Summary, summarize

_HOME = {"Outcome": "running", "Summary": "summary", "run_study": "running", "summarize": "summary"}

__all__ = ["Cell", "Outcome", "Study", "Summary", "find_study", "run_study", "studies", "summarize"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
