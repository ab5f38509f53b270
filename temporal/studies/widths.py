"""Arms that learn equally many numbers: the width of each network is solved for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from temporal.training import Recipe

from .study import Study

if TYPE_CHECKING:
    from temporal.training.data import AnyData

__all__ = ["equalize"]


def equalize(study: Study) -> Study:
    """Write out the widths of a study's equal arms; see :meth:`temporal.studies.Study.equalized`."""
    if not study.equal:
        return study
    recipes = {cell.arm: cell.recipe for cell in study.cells()}
    for arm in study.equal:
        if type(getattr(recipes[arm].network, "hidden", None)) is not int:
            raise ValueError(
                f"study {study.name!r}: arm {arm!r} is in equal, but its network has no number called hidden"
            )
    counts = _Counts()
    budget = study.equal[0] if study.parameters is None else study.parameters
    if isinstance(budget, str):
        budget = counts.of(recipes[budget])
    arms = dict(study.arms)
    for arm in study.equal:
        width = _width(lambda hidden, recipe=recipes[arm]: counts.of(recipe, hidden), budget, arm)  # type: ignore[misc]
        arms[arm] = {**arms[arm], "network.hidden": width}
    return dataclasses.replace(study, arms=arms, parameters=budget)


class _Counts:
    """How many numbers the networks of recipes learn, on their recordings, which are opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, AnyData] = {}

    def of(self, recipe: Recipe, hidden: int | None = None) -> int:
        """Of a recipe, or of its network with another width."""
        import torch

        from temporal.training._step import spec_of

        if hidden is not None:
            recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=hidden))
        with torch.random.fork_rng(devices=[]):
            model = spec_of(recipe, self._data(recipe)).build()
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    def _data(self, recipe: Recipe) -> AnyData:
        from temporal.training.data import open_part

        # Classes and features are those of any part; "all" needs no rule of a split.
        which = repr((recipe.data, recipe.spikes, recipe.frontend))
        if which not in self._opened:
            self._opened[which] = open_part(recipe, "all")
        return self._opened[which]


def _width(count: Callable[[int], int], budget: int, arm: str) -> int:
    """The width whose count, which rises with it, is nearest to the budget."""
    low, high = 1, 2
    if count(low) > budget:
        raise ValueError(
            f"study: parameters={budget} is less than arm {arm!r} learns with one hidden neuron, {count(low)}"
        )
    while count(high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    return min((low, high), key=lambda hidden: abs(count(hidden) - budget))
