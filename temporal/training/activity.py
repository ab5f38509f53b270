"""How busy a deployed network is with the recordings of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from temporal.analysis import Activity, measure_activity
from temporal.layers import Model

from .data import AnyData, gather, spread

__all__ = ["MEASURED", "activity_of", "steps_of"]

MEASURED = 128  # recordings, from all over a part
_BATCH = 32


@torch.inference_mode()
def activity_of(
    deployed: Model,
    dataset: AnyData,
    *,
    recordings: int = MEASURED,
    progress: Callable[[int, int], None] | None = None,
) -> Activity:
    """Measure a deployed model, in float64 on the CPU, on recordings from all over a data set.

    Args:
        deployed: as :func:`temporal.models.deploy` makes it.
        dataset: the recordings, one at least.
        recordings: how many at most; which ones depends on this number and theirs alone.
        progress: called with (recordings done, recordings in all).
    """
    rows = spread(len(dataset), recordings)
    parts = []
    for start in range(0, len(rows), _BATCH):
        parts.append(measure_activity(deployed.network, *steps_of(deployed, dataset, rows[start : start + _BATCH])))
        if progress is not None:
            progress(min(start + _BATCH, len(rows)), len(rows))
    return sum(parts[1:], start=parts[0])


def steps_of(model: Model, dataset: AnyData, rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """What the network is given of these recordings, the tail included: (steps [T, B, features], lengths)."""
    signal, lengths = gather(dataset, rows)[:2]
    x, steps = model.steps(signal.double(), lengths)
    x = torch.cat([x, x.new_zeros(model.tail, *x.shape[1:])])
    return x, None if steps is None else steps + model.tail
