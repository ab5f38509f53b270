"""The studies that have a name."""

from __future__ import annotations

from typing import Any

from temporal.models.specs import known
from temporal.training import find_recipe

from .study import Study

__all__ = ["find_study", "studies"]


def studies() -> dict[str, Study]:
    """All named studies."""
    return {
        "delays": Study(
            name="delays",
            about="what learning delays buys: none, random ones, learned axonal and synaptic ones, and a GRU beside them",
            recipe=find_recipe("digits"),
            control="none",
            equal=("none", "random", "axonal", "synaptic"),
            parameters="synaptic",
            arms={
                "none": {"network.delays": "none"},
                "random": {"network.delays": "random"},
                "axonal": {"network.delays": "learned", "network.per": "axon"},
                "synaptic": {"network.delays": "learned", "network.per": "synapse"},
                "gru": {"network": {"kind": "gru"}, "readout": "mean-over-time"},
            },
        ),
        "cochlea": Study(
            name="cochlea",
            about="what a cochlea's spikes are worth beside mel bands, to one network of one size and training",
            recipe=find_recipe("fsdd-mel"),
            control="mel",
            arms={"mel": {}, "cochlea": _ear_of("fsdd-cochlea")},
        ),
    }


def _ear_of(name: str) -> dict[str, Any]:
    """What makes a recipe for sound one for spikes, as that recipe has it; its network and training are not touched."""
    stored = find_recipe(name).to_dict()
    return {"data": {"kind": stored["data"]["kind"]}} | {key: stored[key] for key in ("name", "spikes", "augment")}


def find_study(name: str) -> Study:
    """A study by its name, or from a ``.toml`` file.

    Args:
        name: a name of :func:`studies`, or the path of a file; see :meth:`Study.from_toml`.
    Raises:
        ValueError: no such study (the nearest is named), or a file that holds none.
        FileNotFoundError: no such file.

    Example:
        >>> from temporal.studies import find_study
        >>> list(find_study("delays").arms)
        ['none', 'random', 'axonal', 'synaptic', 'gru']
    """
    return Study.from_toml(name) if name.endswith(".toml") else studies()[known("study", name, studies())]
