"""What a recipe will take before it is trained: steps, parameters, memory, and hours from steps measured on this machine."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from temporal.datasets import BucketSampler

from ._optimizer import optimizer_of
from ._ranks import accelerator_of
from ._step import TrainingStep, delay_schedule, fit_normalisation, seed_of, spec_of
from .data import AnyData, gather, open_part
from .recipe import Recipe

__all__ = ["Plan", "plan"]

_FLOAT = 4
# As published: recordings to train, to validate, to test on, and classes.
_PUBLISHED = {
    "shd": (8156, 0, 2264, 20),
    "ssc": (75466, 9981, 20382, 35),
    "speech-commands": (84843, 9981, 11005, 35),
    "spoken-digits": (3000, 400, 600, 20),
}
_CLASSES = 10  # where nobody knows


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will take.

    Args:
        recordings, validation, test: how many there are to train, to watch and to test on; ``None``: not known.
        classes, parameters: of the network.
        epochs, batch_size: of the recipe.
        steps_per_epoch, steps: updates; ``None``: not known.
        seconds_per_step: of an update, measured, with augmentation.
        seconds_per_reading: of reading its recordings, measured; later epochs may have them in memory.
        seconds_per_watching: of one recording that is watched, measured.
        hours: of all epochs, from these; ``None``: the number of steps is not known.
        state_bytes: weights, gradients, the optimiser's two moments, and the average of the weights if there is one.
        memory_bytes: the most that this process held while it was measured, libraries included; of a GPU what torch held.
        measured: what was measured on.
        device, threads: where.
    """

    recordings: int | None
    validation: int | None
    test: int | None
    classes: int
    parameters: int
    epochs: int
    batch_size: int
    steps_per_epoch: int | None
    steps: int | None
    seconds_per_step: float
    seconds_per_reading: float
    seconds_per_watching: float
    hours: float | None
    state_bytes: int
    memory_bytes: int
    measured: str
    device: str
    threads: int

    def __str__(self) -> str:
        def count(number: int | None) -> str:
            return "an unknown number" if number is None else f"{number:,}"

        where = f"{self.device}, {self.threads} threads"
        hours = "unknown without the recordings" if self.hours is None else _duration(3600 * self.hours)
        return "\n".join(
            (
                f"recordings: {count(self.recordings)} to train on, {count(self.validation)} to watch, {count(self.test)} "
                f"to test on; {self.classes} classes",
                f"steps:      {count(self.steps_per_epoch)} an epoch of {self.batch_size} recordings each, "
                f"{count(self.steps)} in {self.epochs} epochs",
                f"parameters: {self.parameters:,}",
                f"memory:     {self.memory_bytes / 1e9:.1f} GB at most, measured; {self.state_bytes / 1e6:.1f} MB of it are "
                "weights, gradients, the optimiser's moments and the weights' average, if there is one",
                f"time:       {hours} on this machine ({where}): {self.seconds_per_step:.3f} s "
                f"a step and {self.seconds_per_reading:.3f} s to read it, measured on {self.measured}",
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return dataclasses.asdict(self)


def plan(recipe: Recipe, *, device: str = "auto") -> Plan:
    """Say what training a recipe will take. Four real steps are made, on a network that is thrown away.

    The first, on the longest recordings, compiles and shows the memory; then come batches of short, middle and long
    recordings. Delays are as wide as at the beginning of a training, when a step takes longest. Where the recipe says no
    path, recordings of the same shape are drawn: ``measured`` says what was done.

    Args:
        recipe: what would be trained.
        device: "auto", "cpu" or "cuda".
    Raises:
        FileNotFoundError, ValueError: as by :func:`train`.

    Example:
        >>> from temporal.training import find_recipe, plan
        >>> small = find_recipe("shd").override({"network.hidden": 8, "batch_size": 4})
        >>> plan(small, device="cpu").steps_per_epoch  # of the 8,156 published recordings, less a tenth to watch
        1835
    """
    with torch.random.fork_rng():
        if recipe.data.path is not None:
            data = open_part(recipe, "train")
            counts = _counts(recipe, data)
            return _planned(recipe, data, counts, "recordings of the training part", device)
        with tempfile.TemporaryDirectory(prefix="temporal-plan-") as folder:
            *published, classes = _published(recipe)
            data = open_part(_drawn(recipe, Path(folder), classes), "all")
            counts = _cut(recipe, *published)
            return _planned(recipe, data, counts, "drawn recordings of a second, since no --data is given", device)


def _planned(recipe: Recipe, data: AnyData, counts: list[int | None], measured: str, device: str) -> Plan:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator=accelerator_of(device), devices=1)
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    model = spec_of(recipe, data).build()
    sampler = BucketSampler(data.durations, recipe.batch_size, seed=recipe.seed)
    lengths = data.durations
    rows = sorted(sampler, key=lambda chosen: max(lengths[row] for row in chosen))
    fit_normalisation(model, [gather(data, rows[-1])])
    step, optimizer = fabric.setup(TrainingStep(model, recipe, data), optimizer_of(model, recipe))
    if (delays := delay_schedule(recipe, model)) is not None:
        delays.apply(model, 0.0)

    def train(chosen: list[int]) -> tuple[float, float]:
        (batch, reading) = _timed(fabric, lambda: fabric.to_device(gather(data, chosen)))

        def update() -> None:
            loss, _ = step(batch, 0)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()

        return _timed(fabric, update)[1], reading

    def watch(chosen: list[int]) -> float:
        batch = fabric.to_device(gather(data, chosen))
        with torch.inference_mode():
            return _timed(fabric, lambda: model(*batch[:2]))[1] / len(chosen)

    model.train()
    train(rows[-1])
    updates, readings = zip(*(train(rows[len(rows) * part // 4]) for part in (1, 2, 3)), strict=True)
    model.eval()
    watching = [watch(rows[len(rows) // 2]) for _ in range(2)][-1]
    return _summed(recipe, model, counts, sum(updates) / 3, sum(readings) / 3, watching, measured, fabric.device)


def _summed(
    recipe: Recipe,
    model: torch.nn.Module,
    counts: list[int | None],
    update: float,
    reading: float,
    watching: float,
    measured: str,
    device: torch.device,
) -> Plan:
    recordings, validation, test = counts
    per_epoch = None if recordings is None else -(-recordings // recipe.batch_size)
    hours = None
    if per_epoch is not None:
        per_recording = watching + reading / recipe.batch_size
        hours = recipe.epochs * (per_epoch * (update + reading) + (validation or 0) * per_recording) / 3600
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Plan(
        recordings=recordings,
        validation=validation,
        test=test,
        classes=len(model.labels),  # type: ignore[arg-type]
        parameters=learnt,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        steps_per_epoch=per_epoch,
        steps=None if per_epoch is None else recipe.epochs * per_epoch,
        seconds_per_step=update,
        seconds_per_reading=reading,
        seconds_per_watching=watching,
        hours=hours,
        state_bytes=(5 if recipe.ema else 4) * _FLOAT * learnt,
        memory_bytes=_most_memory(device),
        measured=f"3 steps with {measured}",
        device=device.type,
        threads=torch.get_num_threads(),
    )


def _timed(fabric: Any, do: Callable[[], Any]) -> tuple[Any, float]:
    on_gpu = fabric.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = do()
    if on_gpu:
        torch.cuda.synchronize()
    return result, time.perf_counter() - started


def _most_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _counts(recipe: Recipe, train: AnyData) -> list[int | None]:
    """Recordings to train, to watch and to test on, of those that are there."""
    watched = len(open_part(recipe, "validation", train.labels)) if recipe.data.validation != 0 else 0
    return [len(train), watched, len(open_part(recipe, "test", train.labels))]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def _published(recipe: Recipe) -> tuple[int | None, int | None, int | None, int]:
    """The same, and classes, of the published data set of a recipe without a path."""
    data = recipe.data
    if data.kind == "speech-commands" and data.words not in (None, 35):
        return None, None, None, data.words or _CLASSES
    return _PUBLISHED.get(data.embedded or data.kind, (None, None, None, _CLASSES))


def _cut(recipe: Recipe, train: int | None, validation: int | None, test: int | None) -> list[int | None]:
    share = recipe.data.validation
    if train is not None and validation == 0 and not isinstance(share, str):
        validation = round(share * train)
        train -= validation
    return [train, validation, test]


def _drawn(recipe: Recipe, folder: Path, classes: int) -> Recipe:
    """The recipe with recordings that are drawn: of a second, two batches of them, all classes."""
    from temporal.datasets import write_events

    draw, count = np.random.default_rng(0), max(2 * recipe.batch_size, classes)
    names = [f"word {number}" for number in range(classes)]
    labels = [number % classes for number in range(count)]
    if recipe.spikes is not None:
        units, spikes = recipe.spikes.units, 8000  # as many as the published recordings have, by and large
        drawn = ((np.sort(draw.random(spikes)), draw.integers(0, units, spikes)) for _ in labels)
        write_events(folder / "drawn.h5", drawn, labels=labels, classes=names, units=units)
        where = {"path": str(folder / "drawn.h5")}
    else:
        import soundfile

        rate = recipe.frontend.sample_rate
        for number, label in enumerate(labels):
            (folder / names[label]).mkdir(exist_ok=True)
            wave = 0.1 * draw.standard_normal(rate)
            soundfile.write(folder / names[label] / f"{number}.wav", wave.clip(-1, 1), rate)
        where = {"path": str(folder), "kind": "folder"}
    data = dataclasses.replace(recipe.data, embedded=None, words=None, download=False, **where)  # type: ignore[arg-type]
    return dataclasses.replace(recipe, data=data)
