"""What a trained network does with recordings, in the form in which it is deployed."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from temporal.analysis import Activity, raster, record_spikes
from temporal.layers import Model
from temporal.models import deploy
from temporal.streaming import Agreement, compare_engines

from ..activity import activity_of, steps_of
from ..data import AnyData, one_by_one, open_part, seconds_per_step, spread
from ..evaluation import Result
from ..recipe import Recipe

__all__ = ["Measured", "measure"]

_COMPARED = 8


@dataclass(frozen=True)
class Measured:
    """A network on recordings.

    Args:
        part: which recordings: "test", "held-out" or "training".
        total: how many there are in it.
        activity: of the network, summed over some of them.
        seconds_per_step: of the network.
        rasters: (title, figure) of the chosen recordings.
        agreement: of the ways to run it.
        messages: what a reader should know.
    """

    part: str
    total: int
    activity: Activity
    seconds_per_step: float
    rasters: list[tuple[str, Any]]
    agreement: Agreement
    messages: list[str]


@torch.inference_mode()
def measure(
    recipe: Recipe,
    model: Model,
    result: Result | None,
    *,
    data: str | os.PathLike | None = None,
    recordings: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Measure a trained model on its run's recordings.

    Args:
        recipe: of the run.
        model: of the run.
        result: of the run; without one the test part is left alone, and recordings held out from training are taken.
        data: where the recordings are now, if they have moved.
        recordings: names of those to show; else the surest, the least sure, and the surest mistake.
        progress: called with (recordings done, recordings in all).
    Raises:
        FileNotFoundError, ValueError: no recordings there, or none of a wanted name.
    """
    if data is not None:
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, path=os.fspath(data)))
    part, dataset = _open(recipe, model, "test" if result is not None else "held-out")
    deployed = deploy(model).cpu()
    chosen, messages = _chosen(dataset, result, recordings)
    activity = activity_of(deployed, dataset, progress=progress)
    step = seconds_per_step(model, dataset)
    rasters = [_raster(deployed, dataset, row, title, step) for row, title in chosen]
    agreement = compare_engines(model, one_by_one(dataset, spread(len(dataset), _COMPARED)), steps_per_second=1 / step)
    return Measured(part, len(dataset), activity, step, rasters, agreement, messages)


def _open(recipe: Recipe, model: Model, part: str) -> tuple[str, AnyData]:
    names = {"test": "test", "held-out": "validation", "training": "train"}
    if part == "held-out":
        try:
            dataset = open_part(recipe, names[part], labels=model.labels)
            if len(dataset):
                return part, dataset
        except ValueError:  # nothing is held out
            pass
        part = "training"
    dataset = open_part(recipe, names[part], labels=model.labels)
    if not len(dataset):
        raise ValueError(f"{dataset.root}: no {part} recordings")
    return part, dataset


def _chosen(dataset: AnyData, result: Result | None, wanted: Sequence[str]) -> tuple[list[tuple[int, str]], list[str]]:
    """(row, title) of the recordings to show."""
    place = {key: row for row, key in enumerate(dataset.keys)}
    if result is None:
        rows = [_row_of(dataset, name) for name in wanted] or spread(len(dataset), 2)
        return [(row, f"{dataset.keys[row]}: {dataset.labels[dataset.targets[row]]}") for row in rows], []
    there = [number for number, key in enumerate(result.keys) if key in place]
    messages = []
    if len(there) < result.total:
        lost = result.total - len(there)
        messages.append(f"{lost} of the {result.total} recordings that were tested on are not where they were.")
    numbers = {key: number for number, key in enumerate(result.keys)}
    if wanted:
        rows = [_row_of(dataset, name) for name in wanted]
        return [(row, _title(result, numbers.get(dataset.keys[row]), dataset.keys[row])) for row in rows], messages
    right = [number for number in there if result.targets[number] == result.predictions[number]]
    wrong = [number for number in there if result.targets[number] != result.predictions[number]]
    by_score = result.scores.__getitem__
    picks = {}
    if right:
        picks[max(right, key=by_score)] = "the surest"
        picks.setdefault(min(right, key=by_score), "right, and the least sure")
    if wrong:
        picks[max(wrong, key=by_score)] = "the surest mistake"
    return [
        (place[result.keys[number]], f"{_title(result, number, result.keys[number])}: {why}")
        for number, why in picks.items()
    ], messages


def _title(result: Result, number: int | None, key: str) -> str:
    if number is None:
        return key
    said, true = result.labels[result.predictions[number]], result.labels[result.targets[number]]
    sure = f"{100 * result.scores[number]:.0f} %"
    return f"{key}: {true} ({sure})" if said == true else f"{key}: {true}, taken for {said} ({sure})"


def _row_of(dataset: AnyData, name: str) -> int:
    """The recording of a name, which may lack its folders or its ending."""
    fitting = [
        row
        for row, key in enumerate(dataset.keys)
        if name == key or key.endswith(f"/{name}") or key.rpartition("/")[2].rpartition(".")[0] == name
    ]
    if len(fitting) != 1:
        near = difflib.get_close_matches(name, dataset.keys, n=3, cutoff=0.3) or dataset.keys[:3]
        what = f"{len(fitting)} recordings are" if fitting else "no recording is"
        raise ValueError(f"report: {what} called {name!r}; there are, for example, {', '.join(near)}")
    return fitting[0]


def _raster(model: Model, dataset: AnyData, row: int, title: str, step: float) -> tuple[str, Any]:
    x, _ = steps_of(model, dataset, [row])
    output, _ = model.network(x)
    frequencies = _frequencies(model, x.shape[2])
    figure = raster(
        record_spikes(model.network, x),
        features=x[:, 0].flatten(1).T,
        readout=output[:, 0],
        labels=model.labels,
        seconds_per_step=step,
        title=title,
        frequencies=frequencies,
        source="front end" if model.frontend is not None else "input spikes",
    )
    return title, figure


def _frequencies(model: Model, bins: int) -> list[float] | None:
    """Of the bins, in Hz, where a part of the front end knows them."""
    for part in () if model.frontend is None else model.frontend.modules():
        try:
            known = getattr(part, "frequencies", None)
        except ValueError:  # a part that was given no sample rate
            continue
        if isinstance(known, Tensor) and known.shape == (bins,):
            return known.tolist()
    return None
