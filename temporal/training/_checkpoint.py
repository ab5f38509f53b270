"""What a run continues from: weights, optimiser, schedules, and the place in the order of recordings."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

import temporal
from temporal._files import write_atomically

from ._average import Average
from ._fields import differences
from ._ranks import Ranks
from .recipe import Recipe
from .run import Run

FORMAT = 2


class Unreadable(ValueError):
    """A file that is cut off or damaged, or that is no checkpoint."""


@dataclass
class Position:
    """Where a run stands, and what its present epoch has summed up so far."""

    epoch: int = 0
    batch: int = 0
    recordings: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss of the present epoch."""
        return self.loss_sum / max(1, self.recordings)

    @property
    def accuracy(self) -> float:
        """Part of the recordings decided right in the present epoch, 0..1."""
        return self.right / max(1, self.recordings)

    def advance(self, recordings: int, loss: float, right: int) -> None:
        """Count one more batch."""
        self.batch += 1
        self.recordings += recordings
        self.loss_sum += loss * recordings
        self.right += right

    def next_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch, self.batch, self.recordings = self.epoch + 1, 0, 0
        self.loss_sum, self.right, self.seconds = 0.0, 0, 0.0


def save_checkpoint(
    run: Run,
    recipe: Recipe,
    model: nn.Module,
    optimizer: Any,
    schedule: Any,
    position: Position,
    rows: list[dict[str, Any]],
    average: Average | None = None,
) -> None:
    """Write a checkpoint in one step and keep the one before, so that there is a whole one at every moment."""
    stored = {
        "format": FORMAT,
        "temporal": temporal.__version__,
        "recipe": recipe.to_dict(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "position": dataclasses.asdict(position),
        "rows": rows,
    }
    if average is not None:
        stored["average"] = average.state_dict()

    def write(file: IO[bytes]) -> None:
        careful = _Careful(file)
        torch.save(stored, careful)  # type: ignore[arg-type]
        if careful.error is not None:
            raise careful.error

    write_atomically(run.checkpoint_file, write, keep=run.previous_checkpoint_file)


def restore_checkpoint(
    run: Run,
    recipe: Recipe,
    model: nn.Module,
    optimizer: Any,
    schedule: Any,
    position: Position,
    say: Callable[[str], None],
    average: Average | None = None,
) -> list[dict[str, Any]] | None:
    """Put a run back to where its newest whole checkpoint was written.

    Args:
        run, recipe: the run, and the recipe that it must be of.
        model, optimizer, schedule, position, average: what is changed.
        say: told where the newest checkpoint could not be used, and the one before was.
    Returns:
        The metrics of the finished epochs; ``None`` for a run that was stopped before its first checkpoint.
    Raises:
        ValueError: no whole checkpoint; one of another version or recipe, or that does not fit the model.
    """
    file, stored = _newest(run, say)
    if file is None or stored is None:
        return None
    changed = differences(_recipe_of(file, stored, recipe), recipe.to_dict())
    if changed:
        what = ", ".join(f"{key} (there {theirs!r}, here {ours!r})" for key, (theirs, ours) in changed.items())
        raise ValueError(f"{file}: a checkpoint of another recipe: {what}")
    try:
        model.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        schedule.load_state_dict(stored["schedule"])
        if average is not None:
            average.load_state_dict(stored["average"])
        for name, value in stored["position"].items():
            setattr(position, name, value)
        return list(stored["rows"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: does not fit the recipe: {str(error).splitlines()[-1].strip()}") from None


def share_checkpoint(
    ranks: Ranks,
    model: nn.Module,
    optimizer: Any,
    schedule: Any,
    position: Position,
    rows: list[dict[str, Any]],
    average: Average | None = None,
) -> list[dict[str, Any]]:
    """Put all processes where the first one stands, which alone needs to see the file; returns its metrics."""
    if ranks.size == 1:
        return rows
    parts = (model, optimizer, schedule) if average is None else (model, optimizer, schedule, average)
    states, place, rows = ranks.from_first(lambda: ([part.state_dict() for part in parts], vars(position), rows))
    if not ranks.first:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        vars(position).update(place)
    return rows


def _recipe_of(file: Path, stored: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The recipe that a checkpoint is of; what a version before could not say yet, it did in the way of the defaults."""
    try:
        return Recipe.from_dict(stored.get("recipe", recipe.to_dict())).to_dict()
    except ValueError as error:
        raise ValueError(f"{file}: of a recipe that this version does not know: {error}") from None


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What a checkpoint holds, after every byte of it was checked. Tensors and plain values: it executes nothing.

    Raises:
        Unreadable: a file that is cut off or damaged, or that is no checkpoint.
        ValueError: one of another version.
        PermissionError: it may not be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch writes sums over its tensors, and does not look at them
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # whatever a damaged file makes its readers raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Unreadable(f"{file}: not a readable checkpoint ({reason})") from None
    if not isinstance(stored, dict) or "format" not in stored:
        raise Unreadable(f"{file}: not a checkpoint of temporal")
    if stored["format"] != FORMAT:
        writer = stored.get("temporal", "another version")
        raise ValueError(
            f"{file}: written in format {stored['format']} by temporal {writer}; this one, {temporal.__version__}, reads "
            f"format {FORMAT}: continue with the version that began the run, or begin a new one"
        )
    return stored


class _Careful:
    """A file that keeps the first error to itself: torch's writer would raise one of its own, which says nothing of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        pass


def _newest(run: Run, say: Callable[[str], None]) -> tuple[Path | None, dict[str, Any] | None]:
    """The newest checkpoint that is whole, and what it holds."""
    newest, before = run.checkpoint_file, run.previous_checkpoint_file
    if not newest.is_file():
        if not before.is_file():
            return None, None
        say(f"{newest}: is not there; {before.name} is, so the run continues from that")
        return before, read_checkpoint(before)
    try:
        return newest, read_checkpoint(newest)
    except Unreadable as error:
        if not before.is_file():
            raise
        stored = read_checkpoint(before)
        # Out of the way, or it would take the place of the good one when the next is written.
        os.replace(newest, newest.with_name(f"damaged_{newest.name}"))
        say(f"{error}: it is damaged_{newest.name} now, and the run continues from {before.name}")
        return before, stored
