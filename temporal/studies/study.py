"""What a study is: a recipe, its variants, seeds and folds, as plain data; and its cells, each a run of its own."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporal.models.specs import known
from temporal.training import Recipe, find_recipe

__all__ = ["Cell", "Study"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
_FIELDS = ("name", "about", "recipe", "control", "seeds", "equal", "parameters", "set", "arms", "folds")


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        arm, fold: their names; the fold is "" in a study without.
        recipe: complete, its seed included.
    """

    arm: str
    fold: str
    recipe: Recipe

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.recipe.seed

    @property
    def key(self) -> str:
        """Its name, which is that of its folder, too."""
        return "_".join(filter(None, (self.arm, self.fold, f"seed{self.seed}")))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A grid of runs: arms x folds x seeds of one recipe.

    Args:
        name: of the study; of its folder, if none is given.
        recipe: what all arms start from.
        arms: what each changes in it: nested tables, or dotted names, as in a recipe's file. ``{"network": {"kind":
            "gru"}}`` takes another network.
        seeds: one run of each for every arm and fold.
        control: the arm that the others are compared with; ``None``: the first.
        equal: arms of which each gets the width, its network's ``hidden``, at which it learns as many numbers as the others;
            :meth:`equalized` writes the widths out. The other arms stay as they are.
        parameters: how many numbers that are, or the arm that learns so many as it is; ``None``: the first of ``equal``.
        folds: what each fold changes, such as ``{"ann": {"data.split": "speaker=ann"}}``; empty: one fold without a name.
        about: a line of what it asks.
    Raises:
        ValueError: no arm or seed, a name that is no name of a folder, a change that the recipe does not have, a recipe
            whose network only a file of the user's knows, ``parameters`` without ``equal``.

    Example:
        >>> from temporal.studies import Study
        >>> from temporal.training import find_recipe
        >>> arms = {"narrow": {"network.hidden": 64}, "wide": {"network.hidden": 256}}
        >>> study = Study(name="width", recipe=find_recipe("digits"), arms=arms, seeds=(0, 1))
        >>> [cell.key for cell in study.cells()]
        ['narrow_seed0', 'narrow_seed1', 'wide_seed0', 'wide_seed1']
    """

    name: str
    recipe: Recipe
    arms: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int] = (0, 1, 2)
    control: str | None = None
    folds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    equal: Sequence[str] = ()
    parameters: int | str | None = None
    about: str = ""

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError(f"study {self.name!r}: arms is empty; at least one is right")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"study {self.name!r}: seeds={list(self.seeds)}; at least one is right, each once")
        for what, name in (
            ("study", self.name),
            *(("arm", arm) for arm in self.arms),
            *(("fold", f) for f in self.folds),
        ):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r}: letters, digits and . _ + = - are right, it names a folder")
        if self.control is not None:
            known("arm for the control", self.control, self.arms)
        self._check_budget()
        keys = [cell.key for cell in self.cells()]
        if len(set(keys)) < len(keys):
            raise ValueError(
                f"study {self.name!r}: two cells are called {max(keys, key=keys.count)}; rename an arm or a fold"
            )

    def _check_budget(self) -> None:
        for arm in self.equal:
            known("arm in equal", arm, self.arms)
        if isinstance(self.parameters, str):
            known("arm for parameters", self.parameters, self.arms)
        elif self.parameters is not None and (type(self.parameters) is not int or self.parameters < 1):
            raise ValueError(
                f"study {self.name!r}: parameters={self.parameters!r}; a number, 1 or more, or an arm is right"
            )
        if self.parameters is not None and not self.equal:
            raise ValueError(
                f"study {self.name!r}: parameters={self.parameters!r} needs equal, the arms that learn so many"
            )

    @property
    def reference(self) -> str:
        """The arm that the others are compared with."""
        return self.control or next(iter(self.arms))

    def cells(self) -> list[Cell]:
        """All runs, arm by arm."""
        return [
            Cell(arm, fold, dataclasses.replace(recipe, seed=seed))
            for arm, changes in self.arms.items()
            for fold, cut in (self.folds or {"": {}}).items()
            for recipe in [_changed(_changed(self.recipe, cut, f"fold {fold!r}"), changes, f"arm {arm!r}")]
            for seed in self.seeds
        ]

    def equalized(self) -> Study:
        """The same study with the widths written out at which the arms of ``equal`` learn ``parameters`` numbers each.

        The recordings are opened: how many features and classes they have is part of the count. A width is a whole number,
        so the counts are those nearest to the budget. A study without such arms stays as it is.

        Raises:
            ValueError: a network without a width, a budget that a single hidden neuron exceeds, no recordings.
            FileNotFoundError: the recordings are not there.
        """
        from .widths import equalize

        return equalize(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, names and tables, the recipe complete: what tells whether two studies are the same."""
        cells = {cell.key: cell.recipe.to_dict() for cell in self.cells()}
        budget = {"equal": list(self.equal), "parameters": self.parameters} if self.equal else {}
        return {"name": self.name, "control": self.reference, **budget, "cells": cells}

    @classmethod
    def from_toml(cls, file: str | os.PathLike) -> Study:
        """Read a study from a TOML file.

        ``recipe = "NAME or FILE"`` and one table for each arm, ``[arms.NAME]``, are needed; ``name``, ``about``,
        ``control``, ``seeds``, ``equal``, ``parameters``, ``[set]`` (changes for all arms) and ``[folds.NAME]`` are not. A
        recipe's file is looked for beside the study's.

        Raises:
            FileNotFoundError: no such file, or no such recipe file.
            ValueError: broken TOML, unknown or missing fields, changes that the recipe does not have.
        """
        import tomllib

        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"{file}: no such study file")
        try:
            stored = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: not valid TOML: {error}") from None
        try:
            return cls._from_dict(stored, path)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    @classmethod
    def _from_dict(cls, stored: dict[str, Any], path: Path) -> Study:
        for name in stored:
            known("field of a study", name, _FIELDS)
        for name in ("recipe", "arms"):
            if name not in stored:
                raise ValueError(f'a study needs {name}, such as recipe = "digits" and [arms.NAME]')
        for name in ("set", "arms", "folds"):
            inner = stored.get(name, {})
            tables = inner.values() if isinstance(inner, dict) and name != "set" else [inner]
            if not isinstance(inner, dict) or not all(isinstance(table, dict) for table in tables):
                raise ValueError(f"{name}: a table is right, [{name}] or [{name}.NAME]")
        seeds = stored.get("seeds", [0, 1, 2])
        if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
            raise ValueError(f"seeds={seeds!r}; a list of whole numbers is right")
        equal = stored.get("equal", [])
        if not isinstance(equal, list) or not all(isinstance(arm, str) for arm in equal):
            raise ValueError(f"equal={equal!r}; a list of arms is right")
        named = str(stored["recipe"])
        beside = path.parent / named
        recipe = find_recipe(str(beside) if named.endswith((".toml", ".py")) and beside.is_file() else named)
        return cls(
            name=str(stored.get("name", path.stem)),
            recipe=_changed(recipe, stored.get("set", {}), "set"),
            arms=stored["arms"],
            seeds=tuple(seeds),
            control=stored.get("control"),
            folds=stored.get("folds", {}),
            equal=tuple(equal),
            parameters=stored.get("parameters"),
            about=str(stored.get("about", "")),
        )


def _changed(recipe: Recipe, changes: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.from_dict(dict(changes), recipe)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
