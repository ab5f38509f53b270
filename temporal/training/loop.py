"""Training a recipe: one loop, every random number drawn from (seed, step or epoch, recording).

Nothing in a run depends on what was drawn before, so a run that was stopped anywhere between two steps and resumed gives
the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from temporal.datasets import BucketSampler
from temporal.models import save

from ._board import Board
from ._checkpoint import Position, restore_checkpoint, save_checkpoint
from ._fields import differences
from ._step import (
    TrainingStep,
    accelerator_of,
    delay_schedule,
    fit_normalisation,
    optimizer_of,
    seed_of,
    spec_of,
    widest_delay,
)
from .data import AnyBatch, batches, fingerprints, gather, open_part
from .evaluation import predict
from .health import Health, not_finite
from .progress import Progress
from .recipe import Recipe
from .run import Run, write_json, write_lines
from .sessions import note_session

__all__ = ["Interrupted", "train"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C between two steps; the run folder holds everything to resume from."""


def train(
    recipe: Recipe,
    out: str | os.PathLike | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Run:
    """Train a recipe into a run folder, evaluate it once on its test part, and draw its pictures.

    Args:
        recipe: what to train.
        out: the run folder; ``None`` is a new ``runs/NAME-DATE-TIME``.
        resume: continue the run in ``out``, which must have been started with this recipe.
        device: "auto", "cpu" or "cuda".
        progress: where progress is shown; ``None`` shows nothing.
    Returns:
        The run. ``run.result()`` is the test result, ``run.model()`` the trained model.
    Raises:
        FileExistsError: ``out`` exists and ``resume`` is not set.
        FileNotFoundError: nothing to resume, or no recordings there.
        ValueError: a run of another recipe; recordings that cannot be split or read.
        FloatingPointError: a loss that is not finite.
        Interrupted: Ctrl-C; resume later.
    """
    progress = progress or Progress.silent()
    run = _resumed(recipe, out) if resume else _fresh(recipe, out)
    training = _Training(run, recipe, device, progress)
    if not resume:
        training.begin()
    progress.say(f"run folder: {run.folder}")
    training.fit()
    training.finish()
    return run


class _Training:
    """Everything that lives while a run trains."""

    def __init__(self, run: Run, recipe: Recipe, device: str, progress: Progress) -> None:
        from lightning.fabric import Fabric

        self.run, self.recipe, self.progress = run, recipe, progress
        self.fabric = Fabric(accelerator=accelerator_of(device), devices=1)
        self.data = open_part(recipe, "train")
        self.validation = open_part(recipe, "validation", self.data.labels) if self._has_validation() else None
        self.test = open_part(recipe, "test", self.data.labels)  # now: a split without one is no news for the end
        if not len(self.test):
            raise ValueError(f"data.split={recipe.data.split!r} leaves no recording to test on: choose another split")
        for message in self.data.messages:
            progress.say(f"training recordings: {message}")
        if getattr(recipe.augment, "background", None) is not None and not getattr(self.data, "background", None):
            progress.say("training recordings: no folder of recorded noise beside them, so none is mixed in")
        self.spec = spec_of(recipe, self.data)
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.model = self.spec.build()
        self.health = Health(self.model, recipe, self.data)  # now: it notes the delays as they were drawn
        self.sampler = BucketSampler(self.data.durations, recipe.batch_size, seed=recipe.seed)
        self.total_steps = recipe.epochs * len(self.sampler)
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        self.stop = False
        optimizer = optimizer_of(self.model, recipe)
        self.learning_rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=self.total_steps,
            pct_start=recipe.optimizer.warmup,
            cycle_momentum=False,
        )
        if run.checkpoint_file.is_file():
            self.rows = restore_checkpoint(
                run.checkpoint_file, self.model, optimizer, self.learning_rate, self.position
            )
            self.health.resume(run, self.position.epoch)
        else:
            fit_normalisation(self.model, batches(self.data, 64))
        self.step, self.optimizer = self.fabric.setup(TrainingStep(self.model, recipe, self.data), optimizer)
        self.delays = delay_schedule(recipe, self.model)

    def begin(self) -> None:
        """Make the run folder, now that everything that could be refused was not."""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.run.training_files, fingerprints(self.data))
        self.recipe.to_toml(self.run.recipe_file)  # last: a folder with a recipe is a run

    def fit(self) -> None:
        """Train from where the run stands to its last epoch."""
        if self.position.epoch < self.recipe.epochs:
            note_session(self.run, self.fabric.device, self.position.epoch)
            self.board = Board(self.run.folder, self.rows, self.health.lines, self.progress.say)
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.progress.say(
            f"{len(self.data)} recordings to train on, {len(self.validation or ())} to watch, "
            f"{len(self.data.labels)} classes, {parameters:,} parameters, {self.recipe.epochs} epochs"
        )
        with _stop_on_interrupt(self), self.progress.training(self.recipe.epochs, len(self.sampler)):
            while self.position.epoch < self.recipe.epochs:
                self._epoch()

    def finish(self) -> None:
        """Evaluate once on the test part, and draw."""
        if self.run.result_file.is_file():
            return
        from .pictures import draw

        with self.progress.evaluating() as done:
            result = predict(self.model, self.test, progress=done)
        draw(self.run, self.model, self.rows, result, self.test)
        about = {"split": self.data.by, "epochs": self.recipe.epochs, "trained_speakers": _known(self.data.speakers)}
        write_json(self.run.result_file, about | result.to_dict())
        for message in result.messages:
            self.progress.say(f"test recordings: {message}")
        self.progress.say(f"test {result}")

    def _epoch(self) -> None:
        here, started = self.position, time.monotonic()
        self.model.train()
        self.sampler.set_epoch(here.epoch)
        self.sampler.start = here.batch
        for rows in self.sampler:
            batch = self._batch(rows)
            step = here.epoch * len(self.sampler) + here.batch
            if self.delays is not None:
                self.delays.apply(self.model, step / self.total_steps)
            torch.manual_seed(seed_of(self.recipe.seed, "step", step))  # dropout
            loss, right = self.step(batch, here.epoch)
            if not math.isfinite(loss.item()):
                self._lost(loss.item(), step, batch)
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.optimizer.step()
            self.learning_rate.step()
            here.advance(len(rows), loss.item(), int(right))
            self.progress.step(here.epoch, here.batch, here.loss, here.accuracy)
            if self.stop and here.batch < len(self.sampler):
                self._interrupt()
        row = {
            "epoch": here.epoch + 1,
            "step": (here.epoch + 1) * len(self.sampler),
            "train_loss": here.loss,
            "train_accuracy": here.accuracy,
            "learning_rate": self.learning_rate.get_last_lr()[0],
        }
        if self.delays is not None:
            width = widest_delay(self.model)
            row |= {"sigma": width, "rounded": width == 0}
        row |= self._validate() | {"seconds": round(time.monotonic() - started, 3)}
        self.rows.append(row)
        found = self.health.check(self.rows)
        here.next_epoch()
        self._save()
        self.board.write(row, self.health.lines[-1])
        self.progress.epoch(row)
        for finding in found:
            self.progress.say(f"health: {finding}")
        if self.stop and here.epoch < self.recipe.epochs:
            self._interrupt()

    def _batch(self, rows: list[int]) -> AnyBatch:
        return self.fabric.to_device(gather(self.data, rows))

    def _validate(self) -> dict[str, float]:
        """Loss and accuracy on recordings that are not trained on, with the delays as they are now. Chooses nothing."""
        if not self.validation:
            return {}
        self.model.eval()
        loss, right = 0.0, 0
        with torch.inference_mode():
            for batch in map(self.fabric.to_device, batches(self.validation, 2 * self.recipe.batch_size)):
                logits = self.model(*batch[:2])
                loss += float(cross_entropy(logits, batch.labels, reduction="sum"))
                right += int((logits.argmax(-1) == batch.labels).sum())
        total = len(self.validation)
        return {"validation_loss": loss / total, "validation_accuracy": right / total}

    def _lost(self, loss: float, step: int, batch: AnyBatch) -> None:
        """End the run where its loss is not finite, saying which tensor was the first."""

        def again() -> None:
            torch.manual_seed(seed_of(self.recipe.seed, "step", step))
            self.step(batch, self.position.epoch)

        finding = not_finite(self.model, loss, step + 1, again, self.recipe)
        self.health.lost(self.position.epoch + 1, finding)
        self.health.save(self.run)
        raise FloatingPointError(f"{finding}; the run stays as the last epoch left it")

    def _save(self) -> None:
        self.health.save(self.run)  # before the checkpoint: it may say more than that, never less
        save_checkpoint(
            self.run.checkpoint_file, self.model, self.optimizer, self.learning_rate, self.position, self.rows
        )
        save(self.model, self.spec, self.run.weights_file)
        write_lines(self.run.metrics_file, self.rows)

    def _interrupt(self) -> None:
        self._save()
        raise Interrupted(
            f"stopped in epoch {self.position.epoch + 1} of {self.recipe.epochs}; continue with --resume --out "
            f"{self.run.folder}"
        )

    def _has_validation(self) -> bool:
        data = self.recipe.data
        return data.path is None or data.validation != 0


def _known(speakers: Sequence[str]) -> list[str]:
    return sorted(set(speakers) - {""})


def _fresh(recipe: Recipe, out: str | os.PathLike | None) -> Run:
    """The run to be made; its folder is made only when training can begin."""
    folder = Path(out) if out is not None else Path("runs") / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: exists already; continue that run with --resume, or choose another folder")
    return Run(folder)


def _resumed(recipe: Recipe, out: str | os.PathLike | None) -> Run:
    """The run to be continued, which must be of the same recipe."""
    if out is None:
        raise ValueError("train: resume=True needs out, the folder of the run to continue")
    run = Run.open(out)
    changed = differences(run.recipe().to_dict(), recipe.to_dict())
    if changed:
        list_of = ", ".join(f"{key} (there {theirs!r}, here {ours!r})" for key, (theirs, ours) in changed.items())
        raise ValueError(f"{out}: cannot be resumed, it is a run of another recipe: {list_of}")
    return run


@contextlib.contextmanager
def _stop_on_interrupt(training: _Training) -> Iterator[None]:
    """The first Ctrl-C lets the step under way end; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        training.stop = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
