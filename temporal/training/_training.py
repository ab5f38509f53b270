"""A run as it trains: everything that lives meanwhile, epoch by epoch and step by step."""

from __future__ import annotations

import contextlib
import errno
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from temporal._failpoints import failpoint
from temporal.datasets import BucketSampler
from temporal.delays import DelayedLinear, prune_delays
from temporal.kernels.delayed import unprojected
from temporal.layers import Dropout, Model
from temporal.layers._rows import rows_of_batch
from temporal.models import save

from ._average import Average
from ._board import Board
from ._checkpoint import Position, restore_checkpoint, save_checkpoint, share_checkpoint
from ._optimizer import learning_rate_of, optimizer_of
from ._ranks import Ranks, Share
from ._step import (
    TrainingStep,
    delay_remarks,
    delay_schedule,
    fit_normalisation,
    pruning_step,
    schedule_of,
    seed_of,
    spec_of,
    widest_delay,
)
from .data import batches, fingerprints, gather, open_part
from .evaluation import predict
from .health import Health, not_finite
from .progress import Progress
from .recipe import Recipe
from .run import Run, alone, is_blank, write_json, write_lines
from .sessions import note_session

__all__ = ["Interrupted", "Training", "taken"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM between two steps; the run folder holds everything to resume from."""


class Training:
    """Everything that lives while a run trains."""

    def __init__(self, run: Run, recipe: Recipe, ranks: Ranks, progress: Progress, checkpoint_every: float) -> None:
        self.run, self.recipe, self.ranks, self.progress = run, recipe, ranks, progress
        self.checkpoint_every, self.saved = checkpoint_every, time.monotonic()
        self.fabric = ranks.fabric
        schedule_of(recipe)  # what is wrong with it is said before the recordings are read
        with ranks.first_ahead():
            self._open()
        for message in self.data.messages:
            progress.say(f"training recordings: {message}")
        if getattr(recipe.augment, "background", None) is not None and not getattr(self.data, "background", None):
            progress.say("training recordings: no folder of recorded noise beside them, so none is mixed in")
        self.spec = spec_of(recipe, self.data)
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.model = self.spec.build()
        self.health = Health(self.model, recipe, self.data)  # now: it notes the delays as they were drawn
        self.seeds_alike = any(isinstance(layer, Dropout) and layer.p > 0 for layer in self.model.modules())
        self.sampler = BucketSampler(self.data.durations, recipe.batch_size, seed=recipe.seed)
        self.total_steps = recipe.epochs * len(self.sampler)
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        self.stop = False
        optimizer = optimizer_of(self.model, recipe)
        self.learning_rate = learning_rate_of(optimizer, recipe, len(self.sampler))
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        parts = (self.model, optimizer, self.learning_rate, self.position)
        rows = restore_checkpoint(run, recipe, *parts, progress.say, self.average) if ranks.first else None
        if ranks.first:
            self.health.resume(run, self.position.epoch)
        if ranks.from_first(lambda: rows is not None):
            self.rows = share_checkpoint(ranks, *parts, rows or [], self.average)
        else:
            if ranks.first:
                self._check_that_nothing_is_lost()
            fit_normalisation(self.model, batches(self.data, 64))
            if self.average is not None:
                self.average.begin(self.model)
            share_checkpoint(ranks, *parts, [], self.average)  # of machines that may round in other ways
        step = TrainingStep(self.model, recipe, self.data)
        self.silence = step.silence
        self.step, self.optimizer = ranks.setup(step, optimizer)
        if self.average is not None:
            self.average.to(self.fabric.device)
        self.delays = delay_schedule(recipe, self.model)
        self.prunes_at = pruning_step(recipe, self.total_steps)

    def _open(self) -> None:
        """The recordings; whatever is wrong with them is said now."""
        recipe = self.recipe
        self.data = open_part(recipe, "train")
        self.validation = open_part(recipe, "validation", self.data.labels) if self._has_validation() else None
        self.test = open_part(recipe, "test", self.data.labels)  # now: a split without one is no news for the end
        if not len(self.test):
            raise ValueError(f"data.split={recipe.data.split!r} leaves no recording to test on: choose another split")

    @property
    def judged(self) -> Model:
        """What is validated, saved and tested: the model, or the average of its weights."""
        return self.model if self.average is None else self.average.model

    def begin(self, held: contextlib.ExitStack) -> None:
        """Make the run folder, now that everything that could be refused was not, and hold it."""
        failpoint("begin")
        self.run.folder.mkdir(parents=True, exist_ok=True)
        failpoint("folder")
        held.enter_context(alone(self.run.folder))
        if not is_blank(self.run.folder):  # another process was faster
            raise taken(self.run.folder)
        self.recipe.to_toml(self.run.recipe_file)

    def settle(self) -> None:
        """Write what a run that was killed may lack, and see that it goes on with the recordings that it began with."""
        now = fingerprints(self.data)
        try:
            before = self.run.trained_on()
        except (FileNotFoundError, ValueError):
            write_json(self.run.training_files, now)
        else:
            if changed := sorted(before.keys() ^ now.keys()):
                name = before.get(changed[0]) or now[changed[0]]
                raise ValueError(
                    f"{self.run.folder}: cannot be resumed, the recordings to train on are not those that it began with: "
                    f"{len(changed)} were added, removed or changed, such as {name}"
                )
        if self.position.epoch:
            self._write_metrics()
            if not self.position.batch:
                save(self.judged, self.spec, self.run.weights_file)

    def fit(self) -> None:
        """Train from where the run stands to its last epoch."""
        if self.ranks.first and self.position.epoch < self.recipe.epochs:
            note_session(self.run, self.fabric.device, self.position.epoch)
            self.board = Board(self.run.folder, self.rows, self.health.lines, self.progress.say)
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        together = f", {self.ranks.size} processes" if self.ranks.size > 1 else ""
        self.progress.say(
            f"{len(self.data)} recordings to train on, {len(self.validation or ())} to watch, "
            f"{len(self.data.labels)} classes, {parameters:,} parameters, {self.recipe.epochs} epochs{together}"
        )
        for remark in delay_remarks(self.recipe, self.model, self.data, self.total_steps):
            self.progress.say(remark)
        with _stop_on_interrupt(self), self.progress.training(self.recipe.epochs, len(self.sampler)):
            while self.position.epoch < self.recipe.epochs:
                self._epoch()

    def finish(self) -> None:
        """Evaluate once on the test part, and draw."""
        from .pictures import draw

        with self.progress.evaluating() as done:
            result = predict(self.judged, self.test, progress=done, ranks=self.ranks)
        if not self.ranks.first:
            return
        failpoint("evaluated")
        if not self.run.has_result():
            about = {
                "split": self.data.by,
                "epochs": self.recipe.epochs,
                "trained_speakers": _known(self.data.speakers),
            }
            write_json(self.run.result_file, about | result.to_dict())
        draw(self.run, self.judged, self.rows, result, self.test)
        for message in result.messages:
            self.progress.say(f"test recordings: {message}")
        self.progress.say(f"test {result}")

    def _epoch(self) -> None:
        here, started = self.position, time.monotonic() - self.position.seconds
        self.model.train()
        self.sampler.set_epoch(here.epoch)
        self.sampler.start = here.batch
        for rows in self.sampler:
            step = here.epoch * len(self.sampler) + here.batch
            whole = self._narrow(step)
            loss, right, stop = self._update(rows, step)
            if not math.isfinite(loss):
                self._lost(loss, rows, step)
            self.optimizer.step()
            failpoint("optimizer")
            self.learning_rate.step()
            if self.average is not None:
                self.average.update(self.model, whole)
            here.advance(len(rows), loss, int(right))
            self.progress.step(here.epoch, here.batch, here.loss, here.accuracy)
            if here.batch < len(self.sampler):
                here.seconds = time.monotonic() - started
                # Several processes must stop at one step: a Ctrl-C that only one has seen so far waits for the next.
                if stop if self.ranks.size > 1 else self.stop:
                    self._interrupt()
                if time.monotonic() - self.saved >= self.checkpoint_every:
                    self._save()
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
        failpoint("epoch")
        row |= self._validate() | {"seconds": round(time.monotonic() - started, 3)}
        failpoint("validated")
        self.rows.append(row)
        found = self.health.check(self.rows) if self.ranks.first else []
        here.next_epoch()
        self._save()
        if self.ranks.first:
            self.board.write(row, self.health.lines[-1])
        self.progress.epoch(row)
        for finding in found:
            self.progress.say(f"health: {finding}")
        if self.ranks.add([float(self.stop)])[0] and here.epoch < self.recipe.epochs:
            self._interrupt()

    def _narrow(self, step: int) -> bool:
        """Set the width of the delays for a step, and prune before one; whether they are whole steps then."""
        if self.delays is None:
            return False
        recipe = self.recipe
        progress = step / self.total_steps if recipe.delays.every == "step" else self.position.epoch / recipe.epochs
        self.delays.apply(self.model, progress)
        if step == self.prunes_at:  # what a checkpoint of a later step holds is pruned
            out = prune_delays(self.model, recipe.delays.prune)
            self.progress.say(f"{out:,} synapses with delays are pruned")
            if self.average is not None:  # of other synapses: their mean with these is none
                self.average.begin(self.model)
        return self.delays.rounded(progress)

    def _update(self, rows: list[int], step: int) -> tuple[float, float, float]:
        """Gradients of one batch: (its loss, how many were right, whether any process is to stop), over all processes."""
        mine, share = self.ranks.share(rows, self.silence)
        batch = self.fabric.to_device(gather(self.data, mine or rows[:1]))
        # Dropout of temporal draws for the whole batch, from the same seed everywhere; other layers' draws must differ.
        rank = () if self.ranks.first or self.seeds_alike else ("rank", self.ranks.rank)
        torch.manual_seed(seed_of(self.recipe.seed, "step", step, *rank))
        self.optimizer.zero_grad(set_to_none=True)
        with self._as_one(share):
            failpoint("step")
            loss, right = self.step(batch, self.position.epoch, share)
            self.fabric.backward(loss * self.ranks.size)  # gradients of processes are averaged, and their losses add up
        failpoint("backward")
        total, right, stop = self.ranks.add([loss.item(), float(right), float(self.stop)])
        return total, right, stop

    @contextlib.contextmanager
    def _as_one(self, share: Share) -> Iterator[None]:
        """Around a forward and a backward pass: as if one process had all of the batch, and the loss were of one part."""
        several, delays = self.ranks.size > 1, self.recipe.delays
        if not (several or delays.depth_penalty or delays.spread_penalty):
            yield
            return
        with rows_of_batch(*share.rows) if several else contextlib.nullcontext(), unprojected():
            yield
        for layer in self.model.modules():
            if isinstance(layer, DelayedLinear):
                layer.project_gradient()  # of the sum over all processes, penalties included

    def _validate(self) -> dict[str, float]:
        """Loss and accuracy on recordings that are not trained on, with the delays as they are now. Chooses nothing."""
        if not self.validation:
            return {}
        model = self.judged.eval()
        loss, right = 0.0, 0
        with torch.inference_mode():
            mine = batches(self.validation, 2 * self.recipe.batch_size, self.ranks.rank, self.ranks.size)
            for batch in map(self.fabric.to_device, mine):
                logits = model(*batch[:2])
                loss += float(cross_entropy(logits, batch.labels, reduction="sum"))
                right += int((logits.argmax(-1) == batch.labels).sum())
        loss_sum, correct = self.ranks.add([loss, right])
        total = len(self.validation)
        return {"validation_loss": loss_sum / total, "validation_accuracy": correct / total}

    def _lost(self, loss: float, rows: list[int], step: int) -> None:
        """End the run where its loss is not finite, saying which tensor was the first."""
        if self.ranks.size > 1:  # to look for it, each process would have to stop at the same layer
            raise FloatingPointError(
                f"the loss is {loss} at step {step + 1}; one process says which tensor was the first; the run stays as the "
                "last epoch left it"
            )
        batch = self.fabric.to_device(gather(self.data, rows))

        def again() -> None:
            torch.manual_seed(seed_of(self.recipe.seed, "step", step))
            self.step(batch, self.position.epoch)

        finding = not_finite(self.model, loss, step + 1, again, self.recipe)
        self.health.lost(self.position.epoch + 1, finding)
        with contextlib.suppress(OSError):  # of the two, the loss is the news
            self.health.save(self.run)
        raise FloatingPointError(f"{finding}; the run stays as the last epoch left it")

    def _save(self) -> None:
        """Write a checkpoint and, after an epoch, weights and metrics. If there is no room, the run goes on without."""
        if not self.ranks.first:
            return
        try:
            self.health.save(self.run)  # before the checkpoint: it may say more than that, never less
            parts = (self.model, self.optimizer, self.learning_rate, self.position, self.rows)
            save_checkpoint(self.run, self.recipe, *parts, self.average)
            if self.position.batch == 0:
                save(self.judged, self.spec, self.run.weights_file)
                self._write_metrics()
        except OSError as error:
            if error.errno not in _NO_ROOM or self.stop or self.position.epoch == self.recipe.epochs:
                raise OSError(
                    f"{error}; the checkpoint before is kept: make room, then continue with --resume --out {self.run.folder}"
                ) from None
            self.progress.say(f"{error}; the one before is kept, and training goes on: make room meanwhile")
        self.saved = time.monotonic()

    def _write_metrics(self) -> None:
        write_lines(self.run.metrics_file, self.rows)

    def _interrupt(self) -> None:
        self._save()
        self.ranks.meet()  # a process that ends would end the first while it writes
        raise Interrupted(
            f"stopped in epoch {self.position.epoch + 1} of {self.recipe.epochs}; continue with --resume --out "
            f"{self.run.folder}"
        )

    def _check_that_nothing_is_lost(self) -> None:
        """A run without a checkpoint begins at its beginning, unless it had come further."""
        done = [file.name for file in (self.run.metrics_file, self.run.weights_file) if file.is_file()]
        if done:
            raise ValueError(
                f"{self.run.folder}: holds {' and '.join(done)}, but no {self.run.checkpoint_file.name} to continue from: "
                "evaluate it as it is, or begin a new run in another folder"
            )

    def _has_validation(self) -> bool:
        data = self.recipe.data
        return data.path is None or data.validation != 0


def _known(speakers: Sequence[str]) -> list[str]:
    return sorted(set(speakers) - {""})


def taken(folder: Path) -> FileExistsError:
    """A run folder that is not free."""
    return FileExistsError(f"{folder}: exists already; continue that run with --resume, or choose another folder")


@contextlib.contextmanager
def _stop_on_interrupt(training: Training) -> Iterator[None]:
    """The first Ctrl-C, or SIGTERM of a cluster, lets the step under way end; a second one stops at once.

    Not so under torchrun, which hands a terminal's Ctrl-C on to processes that got it already; a second one ends torchrun.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        training.stop = True
        if training.ranks.size == 1:
            restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
