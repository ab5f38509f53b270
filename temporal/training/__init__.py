"""Recipes, and the loop that trains them. Reading and changing a recipe loads no torch; training does."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .recipe import Augment, Data, Delays, Optimizer, Recipe
from .recipes import find_recipe, recipes
from .run import Run
from .spikes import SpikeAugment, Spikes

if _TYPE_CHECKING:
    from .evaluation import Result, engines_agree, evaluate
    from .loop import Interrupted, train
    from .planning import Plan, plan
    from .progress import Progress
    from .reporting import report

_HOME = {
    "Interrupted": "loop",
    "Plan": "planning",
    "Progress": "progress",
    "Result": "evaluation",
    "engines_agree": "evaluation",
    "evaluate": "evaluation",
    "plan": "planning",
    "report": "reporting",
    "train": "loop",
}

__all__ = [
    "Augment",
    "Data",
    "Delays",
    "Interrupted",
    "Optimizer",
    "Plan",
    "Progress",
    "Recipe",
    "Result",
    "Run",
    "SpikeAugment",
    "Spikes",
    "engines_agree",
    "evaluate",
    "find_recipe",
    "plan",
    "recipes",
    "report",
    "train",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
