"""The studies that have a name."""

from __future__ import annotations

from typing import Any

from temporal.models.specs import known
from temporal.training import Recipe, find_recipe

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
                "random": _one_each("random", "synapse"),
                "axonal": _one_each("learned", "axon"),
                "synaptic": _one_each("learned", "synapse"),
                "gru": {"network": {"kind": "gru"}, "readout": "mean-over-time", "tail": 0},  # nothing arrives late
            },
        ),
        "ingredients": Study(
            name="ingredients",
            about="what each part of a recipe for words buys: one left out, or one more, at a time",
            recipe=find_recipe("commands-small"),
            control="recipe",
            seeds=(0,),
            arms={
                "recipe": {},
                "synaptic": _one_each("learned", "synapse"),
                "no-masks": {"augment": {"band_mask": 0, "time_mask": 0}},
                "no-speed-no-pitch": {"augment": {"speed": 0.0, "pitch": 0.0}},
                "no-average": {"ema": 0.0},
                "sigma-stops": {"delays": {"sigma_end": 0.5, "until": 0.25, "round_at": 1.0}},
                "finer-steps": _finer(find_recipe("commands-small"), 2),
                "adaptive": {"network": {"neuron": "adlif"}},
                "many-tau": {"network": {"tau_max": 16.0}},
                "recurrent": {"network": {"recurrent": "axon", "recurrent_min_delay": 10}},
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


def _one_each(delays: str, per: str) -> dict[str, Any]:
    """One synapse a pair of neurons, whatever the recipe has: the kinds of delays that are compared everywhere."""
    return {"network.delays": delays, "network.per": per, "network.synapses": 1}


def _finer(recipe: Recipe, times: int) -> dict[str, Any]:
    """So many steps where there was one; what is counted in steps stays as long in seconds."""
    net, ear = recipe.network, recipe.frontend
    return {
        "frontend": {"hop_length": ear.hop_length // times},
        "network": {
            "max_delay": net.max_delay * times,
            "tau": net.tau * times,
            "readout_tau": net.readout_tau * times,
        },
        "tail": recipe.tail * times,
        "augment": {"time_mask": recipe.augment.time_mask * times},
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
