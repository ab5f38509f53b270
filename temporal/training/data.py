"""The recordings that a recipe names, opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .recipe import Recipe

if TYPE_CHECKING:
    from temporal.datasets import AudioFolder, Batch

__all__ = ["batches", "fingerprints", "open_part"]


def open_part(recipe: Recipe, part: str, labels: Sequence[str] | None = None) -> AudioFolder:
    """One part of a recipe's recordings.

    Args:
        recipe: says where they are and how they are split.
        part: "train", "validation", "test" or "all".
        labels: the classes of an earlier training, in their order.
    Raises:
        ValueError: the recipe has no embedded data set and no path; whatever the data set refuses.
        FileNotFoundError: the folder is not there.
    """
    from temporal.datasets import AudioFolder, SpokenDigits

    data, rate = recipe.data, recipe.frontend.sample_rate
    if data.path is not None:
        # Where a run tests must not change with its seed, so the cuts have a seed of their own, always the same.
        return AudioFolder(
            data.path,
            rate,
            part,
            data.split,
            labels=labels,
            validation=data.validation,
            seed=0,
            on_error=data.on_error,
            cache=True,
        )
    if data.embedded == "spoken-digits":
        if data.split not in ("auto", "official"):
            raise ValueError(f"data.split={data.split!r}: the embedded digits have one split; --data FOLDER has others")
        return SpokenDigits(sample_rate=rate, split=part, cache=True, on_error=data.on_error)
    raise ValueError(
        f"recipe {recipe.name!r} has no embedded data set: say where the recordings are with --data FOLDER"
    )


def batches(dataset: AudioFolder, batch_size: int) -> Iterator[Batch]:
    """Every recording once, in batches of like length, which pad little; ``indices`` say which they are."""
    from temporal.datasets import collate

    order = sorted(range(len(dataset)), key=dataset.durations.__getitem__)
    for start in range(0, len(order), batch_size):
        yield collate([dataset[i] for i in order[start : start + batch_size]])


def fingerprints(dataset: AudioFolder) -> dict[str, str]:
    """A fingerprint of each file's bytes -> its key: recognises a recording wherever it lies."""
    return {hashlib.blake2b((dataset.root / key).read_bytes(), digest_size=8).hexdigest(): key for key in dataset.keys}
