"""The pictures of a run: how it learned, what it confuses, what it does with one recording."""

from __future__ import annotations

from typing import Any

import torch

from temporal.analysis import confusion_matrix, learning_curve, raster, record_spikes, save
from temporal.layers import Model
from temporal.models import deploy

from .activity import steps_of
from .data import AnyData, seconds_per_step
from .evaluation import Result
from .run import Run

__all__ = ["draw"]


def draw(run: Run, model: Model, rows: list[dict[str, Any]], result: Result, test: AnyData) -> None:
    """Write ``learning_curve.png``, ``confusion_matrix.png`` and ``raster.png`` into a run folder."""
    if rows:
        save(learning_curve(rows), run.folder / "learning_curve.png")
    save(confusion_matrix(torch.tensor(result.confusion).numpy(), result.labels), run.folder / "confusion_matrix.png")
    _draw_raster(run, deploy(model).cpu(), result, test)


@torch.inference_mode()
def _draw_raster(run: Run, model: Model, result: Result, test: AnyData) -> None:
    """The first recording of the test part that is recognised, or the first one."""
    right = (i for i, (a, b) in enumerate(zip(result.targets, result.predictions, strict=True)) if a == b)
    index = next(right, 0)
    x, _ = steps_of(model, test, [index])
    output, _ = model.network(x)
    figure = raster(
        record_spikes(model.network, x),
        features=x[:, 0].T,
        readout=output[:, 0],
        labels=result.labels,
        seconds_per_step=seconds_per_step(model, test),
        title=f"{test.keys[index]}: {result.labels[result.predictions[index]]}",
    )
    save(figure, run.folder / "raster.png")
