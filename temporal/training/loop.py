"""Training a recipe: one loop, every random number drawn from (seed, step or epoch, recording).

Nothing in a run depends on what was drawn before, so a run that was stopped anywhere between two steps and resumed gives
the same bits as one that was not. Several processes share each batch of one: the first alone writes and talks.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from temporal.datasets import BucketSampler
from temporal.delays import DelayedLinear
from temporal.kernels.delayed import unprojected
from temporal.layers import Dropout
from temporal.layers._rows import rows_of_batch
from temporal.models import save

from ._checkpoint import Position, restore_checkpoint, save_checkpoint, share_checkpoint
from ._fields import differences
from ._ranks import Ranks, Share
from ._step import (
    TrainingStep,
    delay_schedule,
    fit_normalisation,
    optimizer_of,
    seed_of,
    spec_of,
    widest_delay,
)
from .data import batches, fingerprints, gather, open_part
from .evaluation import predict
from .progress import Progress
from .recipe import Recipe
from .run import Run, write_json, write_lines

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

    In processes that ``torchrun`` started, each calls this with the same arguments and they train one run together, on the
    batches of one process.

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
    ranks = Ranks(device)
    progress = progress if progress is not None and ranks.first else Progress.silent()
    try:
        run = ranks.from_first(lambda: _resumed(recipe, out) if resume else _fresh(recipe, out))
        training = _Training(run, recipe, ranks, progress)
        if not resume and ranks.first:
            training.begin()
        progress.say(f"run folder: {run.folder}")
        training.fit()
        training.finish()
    except (FloatingPointError, Interrupted) as error:  # which all processes raise alike
        if not ranks.first:
            ranks.leave(130 if isinstance(error, Interrupted) else 1)
        raise
    except RuntimeError as error:
        if ranks.lost(error):
            raise ConnectionError(f"process {ranks.rank}: another process of this training has stopped") from None
        raise
    return run


class _Training:
    """Everything that lives while a run trains."""

    def __init__(self, run: Run, recipe: Recipe, ranks: Ranks, progress: Progress) -> None:
        self.run, self.recipe, self.ranks, self.progress = run, recipe, ranks, progress
        self.fabric = ranks.fabric
        with ranks.first_ahead():
            self._open()
        for message in self.data.messages:
            progress.say(f"training recordings: {message}")
        if getattr(recipe.augment, "background", None) is not None and not getattr(self.data, "background", None):
            progress.say("training recordings: no folder of recorded noise beside them, so none is mixed in")
        self.spec = spec_of(recipe, self.data)
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.model = self.spec.build()
        self.seeds_alike = any(isinstance(layer, Dropout) and layer.p > 0 for layer in self.model.modules())
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
        parts = (self.model, optimizer, self.learning_rate, self.position)
        if ranks.from_first(run.checkpoint_file.is_file):
            if ranks.first:
                self.rows = restore_checkpoint(run.checkpoint_file, *parts)
            self.rows = share_checkpoint(ranks, *parts, self.rows)
        else:
            fit_normalisation(self.model, batches(self.data, 64))
        step = TrainingStep(self.model, recipe, self.data)
        self.silence = step.silence
        self.step, self.optimizer = ranks.setup(step, optimizer)
        self.delays = delay_schedule(recipe, self.model)

    def _open(self) -> None:
        """The recordings; whatever is wrong with them is said now."""
        recipe = self.recipe
        self.data = open_part(recipe, "train")
        self.validation = open_part(recipe, "validation", self.data.labels) if self._has_validation() else None
        self.test = open_part(recipe, "test", self.data.labels)  # now: a split without one is no news for the end
        if not len(self.test):
            raise ValueError(f"data.split={recipe.data.split!r} leaves no recording to test on: choose another split")

    def begin(self) -> None:
        """Make the run folder, now that everything that could be refused was not."""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.run.training_files, fingerprints(self.data))
        self.recipe.to_toml(self.run.recipe_file)  # last: a folder with a recipe is a run

    def fit(self) -> None:
        """Train from where the run stands to its last epoch."""
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        together = f", {self.ranks.size} processes" if self.ranks.size > 1 else ""
        self.progress.say(
            f"{len(self.data)} recordings to train on, {len(self.validation or ())} to watch, "
            f"{len(self.data.labels)} classes, {parameters:,} parameters, {self.recipe.epochs} epochs{together}"
        )
        with _stop_on_interrupt(self), self.progress.training(self.recipe.epochs, len(self.sampler)):
            while self.position.epoch < self.recipe.epochs:
                self._epoch()

    def finish(self) -> None:
        """Evaluate once on the test part, and draw."""
        if self.ranks.from_first(self.run.result_file.is_file):
            return
        from .pictures import draw

        with self.progress.evaluating() as done:
            result = predict(self.model, self.test, progress=done, ranks=self.ranks)
        if not self.ranks.first:
            return
        draw(self.run, self.model, self.rows, result, self.test)
        write_json(self.run.result_file, {"split": self.data.by, "epochs": self.recipe.epochs} | result.to_dict())
        for message in result.messages:
            self.progress.say(f"test recordings: {message}")
        self.progress.say(f"test {result}")

    def _epoch(self) -> None:
        here, started = self.position, time.monotonic()
        self.model.train()
        self.sampler.set_epoch(here.epoch)
        self.sampler.start = here.batch
        for rows in self.sampler:
            step = here.epoch * len(self.sampler) + here.batch
            if self.delays is not None:
                self.delays.apply(self.model, step / self.total_steps)
            loss, right, stop = self._update(rows, step)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} at step {step + 1}: the run stays as the last epoch left it; a smaller "
                    "--optimizer.lr or --optimizer.lr_delay often helps"
                )
            self.optimizer.step()
            self.learning_rate.step()
            here.advance(len(rows), loss, int(right))
            self.progress.step(here.epoch, here.batch, here.loss, here.accuracy)
            # Of several processes all must stop at one step, so a Ctrl-C that only one has seen so far waits for the next.
            if (stop if self.ranks.size > 1 else self.stop) and here.batch < len(self.sampler):
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
        here.next_epoch()
        self._save()
        self.progress.epoch(row)
        if self.ranks.add([float(self.stop)])[0] and here.epoch < self.recipe.epochs:
            self._interrupt()

    def _update(self, rows: list[int], step: int) -> tuple[float, float, float]:
        """Gradients of one batch: (its loss, how many were right, whether any process is to stop), over all processes."""
        mine, share = self.ranks.share(rows, self.silence)
        batch = self.fabric.to_device(gather(self.data, mine or rows[:1]))
        # Dropout of temporal draws for the whole batch, from the same seed everywhere; other layers' draws must differ.
        rank = () if self.ranks.first or self.seeds_alike else ("rank", self.ranks.rank)
        torch.manual_seed(seed_of(self.recipe.seed, "step", step, *rank))
        self.optimizer.zero_grad(set_to_none=True)
        with _as_one(self.model, share) if self.ranks.size > 1 else contextlib.nullcontext():
            loss, right = self.step(batch, self.position.epoch, share)
            self.fabric.backward(loss * self.ranks.size)  # gradients of processes are averaged, and their losses add up
        total, right, stop = self.ranks.add([loss.item(), float(right), float(self.stop)])
        return total, right, stop

    def _validate(self) -> dict[str, float]:
        """Loss and accuracy on recordings that are not trained on, with the delays as they are now. Chooses nothing."""
        if not self.validation:
            return {}
        self.model.eval()
        loss, right = 0.0, 0
        with torch.inference_mode():
            mine = batches(self.validation, 2 * self.recipe.batch_size, self.ranks.rank, self.ranks.size)
            for batch in map(self.fabric.to_device, mine):
                logits = self.model(*batch[:2])
                loss += float(cross_entropy(logits, batch.labels, reduction="sum"))
                right += int((logits.argmax(-1) == batch.labels).sum())
        loss, right = self.ranks.add([loss, right])
        total = len(self.validation)
        return {"validation_loss": loss / total, "validation_accuracy": right / total}

    def _save(self) -> None:
        if not self.ranks.first:
            return
        save_checkpoint(
            self.run.checkpoint_file, self.model, self.optimizer, self.learning_rate, self.position, self.rows
        )
        save(self.model, self.spec, self.run.weights_file)
        write_lines(self.run.metrics_file, self.rows)

    def _interrupt(self) -> None:
        self._save()
        self.ranks.meet()  # a process that ends would end the first while it writes
        raise Interrupted(
            f"stopped in epoch {self.position.epoch + 1} of {self.recipe.epochs}; continue with --resume --out "
            f"{self.run.folder}"
        )

    def _has_validation(self) -> bool:
        data = self.recipe.data
        return data.path is None or data.validation != 0


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
def _as_one(model: torch.nn.Module, share: Share) -> Iterator[None]:
    """Around a forward and a backward pass in which processes share a batch: as if one had all of it."""
    with rows_of_batch(*share.rows), unprojected():
        yield
    for layer in model.modules():
        if isinstance(layer, DelayedLinear):
            layer.project_gradient()  # of the sum over all processes


@contextlib.contextmanager
def _stop_on_interrupt(training: _Training) -> Iterator[None]:
    """The first Ctrl-C lets the step under way end; a second one stops at once.

    Not so under torchrun, which hands a terminal's Ctrl-C on to processes that got it already; a second one ends torchrun.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        training.stop = True
        if training.ranks.size == 1:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
