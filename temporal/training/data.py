"""The recordings that a recipe names, opened: sound or spikes, behind one way to draw batches of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from torch import Tensor

from temporal.datasets import (
    SHD,
    SSC,
    AudioFolder,
    Batch,
    SpeechCommands,
    SpikeBatch,
    SpokenDigits,
    collate,
    collate_spikes,
    spikes_of_folder,
)
from temporal.layers import Model

from .recipe import Recipe

__all__ = ["AnyBatch", "AnyData", "batches", "channels_of", "fingerprints", "gather", "open_part", "seconds_per_step"]

AnyData: TypeAlias = AudioFolder | SHD
AnyBatch: TypeAlias = Batch | SpikeBatch  # both begin with what a model is called with: signal, lengths

_CUT = 0  # where a run tests must not change with its seed, so the cuts have a seed of their own, always the same


def open_part(recipe: Recipe, part: str, labels: Sequence[str] | None = None) -> AnyData:
    """One part of a recipe's recordings.

    Args:
        recipe: says where they are and how they are split.
        part: "train", "validation", "test" or "all".
        labels: the classes of an earlier training, in their order.
    Raises:
        ValueError: the recipe has no embedded data set and no path; whatever the data set refuses.
        FileNotFoundError: the folder is not there.
    """
    data = recipe.data
    if data.path is None and data.embedded is None:
        folder = recipe.spikes is None or data.kind == "cochlea"
        what = "FOLDER" if folder else "PATH, a folder with the published files or one file of spikes"
        raise ValueError(
            f"recipe {recipe.name!r} has no embedded data set: say where the recordings are with --data {what}"
        )
    if recipe.spikes is not None:
        return _spikes(recipe, part, labels)
    return _sound(recipe, part, labels)


def batches(dataset: AnyData, batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[AnyBatch]:
    """Every recording once, in batches of like length, which pad little; ``indices`` say which they are.

    Of several ``ranks``, each gets every so many-th batch: the batches do not depend on their number.
    """
    order = sorted(range(len(dataset)), key=dataset.durations.__getitem__)
    for start in range(rank * batch_size, len(order), ranks * batch_size):
        yield gather(dataset, order[start : start + batch_size])


def gather(dataset: AnyData, rows: Sequence[int]) -> AnyBatch:
    """These recordings as a batch."""
    if isinstance(dataset, SHD):
        return collate_spikes(dataset.__getitems__(rows))
    return collate([dataset[row] for row in rows])


def spread(total: int, count: int) -> list[int]:
    """So many rows from all over a data set."""
    count = min(count, total)
    return sorted({round(k * (total - 1) / max(1, count - 1)) for k in range(count)})


def one_by_one(dataset: AnyData, rows: Sequence[int]) -> Iterator[Tensor]:
    """These recordings without their padding, as a stream would bring them: [samples], or [T, channels] of spikes."""
    for row in rows:
        signal, lengths = gather(dataset, [row])[:2]
        yield (signal[:, 0] if isinstance(dataset, SHD) else signal[0])[: lengths[0]]


def channels_of(dataset: AnyData) -> int | None:
    """How many features a step of spikes has; ``None`` for sound, of which the front end decides."""
    return getattr(dataset, "channels", None)


def seconds_per_step(model: Model, dataset: AnyData) -> float:
    """What a step of a model lasts on a data set, in seconds."""
    if model.frontend is not None and model.sample_rate:
        return model.frontend.hop_length / model.sample_rate
    return getattr(getattr(dataset, "binning", None), "dt", 1.0)


def fingerprints(dataset: AnyData) -> dict[str, str]:
    """A fingerprint of each recording -> its key: recognises a recording wherever it lies. Made silence has none."""
    return {hashlib.blake2b(content, digest_size=8).hexdigest(): key for key, content in _contents(dataset)}


def _contents(dataset: AnyData) -> Iterator[tuple[str, bytes]]:
    for number, key in enumerate(dataset.keys):
        if isinstance(dataset, SHD):
            times, units = dataset.events(number)
            yield key, times.astype("<f8").tobytes() + units.astype("<u2").tobytes()
        elif (dataset.root / key).is_file():
            yield key, (dataset.root / key).read_bytes()


def _spikes(recipe: Recipe, part: str, labels: Sequence[str] | None) -> SHD:
    data, spikes = recipe.data, recipe.spikes
    if data.path is None or spikes is None:
        raise ValueError(f"recipe {recipe.name!r}: an embedded data set holds no spikes; give --data PATH")
    path: str | os.PathLike = data.path
    if data.kind == "cochlea":
        if data.download:
            raise ValueError("data.download is of published files; leave it out for a folder that a cochlea hears")
        if not os.path.isfile(path):
            path = spikes_of_folder(path, on_error=data.on_error)
    elif data.on_error != "raise":
        raise ValueError(f"data.on_error={data.on_error!r}: a file of spikes that is damaged is not used in part")
    held = data.validation
    speakers = [name.strip() for name in held.removeprefix("speaker=").split(",")] if isinstance(held, str) else None
    return (SSC if data.kind == "ssc" else SHD)(
        path,
        part,
        data.split,
        binning=spikes.binning(),
        validation=speakers if speakers is not None else held,  # type: ignore[arg-type]
        seed=_CUT,
        labels=labels,
        units=spikes.units,
        cache=True,
        download=data.download,
    )


def _sound(recipe: Recipe, part: str, labels: Sequence[str] | None) -> AudioFolder:
    if recipe.frontend is None:
        raise ValueError(f"recipe {recipe.name!r} has no front end for sound, and no spikes=Spikes() for spikes either")
    data, rate = recipe.data, recipe.frontend.sample_rate
    if data.path is None:
        if data.embedded != "spoken-digits":
            raise ValueError(
                f"recipe {recipe.name!r}: data.embedded={data.embedded!r} is unknown; known: spoken-digits"
            )
        if data.duration is not None:
            raise ValueError(
                f"data.duration={data.duration}: the embedded digits keep their lengths; give --data FOLDER"
            )
        if data.split not in ("auto", "official"):
            raise ValueError(f"data.split={data.split!r}: the embedded digits have one split; --data FOLDER has others")
        return SpokenDigits(sample_rate=rate, split=part, cache=True, on_error=data.on_error)
    if isinstance(data.validation, str):
        raise ValueError(f"data.validation={data.validation!r}: of sound, a part is right, 0..1")
    common = {
        "labels": labels,
        "validation": data.validation,
        "seed": _CUT,
        "duration": data.duration,
        "on_error": data.on_error,
        "cache": True,
    }
    if data.kind == "speech-commands":
        return SpeechCommands(
            data.path,
            rate,
            part,
            data.split,
            words=data.words,
            silence_from=data.silence_from,
            download=data.download,
            **common,  # type: ignore[arg-type]
        )
    if data.download or data.words is not None:
        raise ValueError("data.words and data.download are of kind speech-commands; leave them out for a folder")
    return AudioFolder(data.path, rate, part, data.split, **common)  # type: ignore[arg-type]
