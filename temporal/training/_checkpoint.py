"""What a run continues from: weights, optimiser, schedules, and the place in the order of recordings."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._ranks import Ranks
from .run import write_atomically

FORMAT = 1


@dataclass
class Position:
    """Where a run stands, and what its present epoch has summed up so far."""

    epoch: int = 0
    batch: int = 0
    recordings: int = 0
    loss_sum: float = 0.0
    right: int = 0

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
        self.epoch, self.batch, self.recordings, self.loss_sum, self.right = self.epoch + 1, 0, 0, 0.0, 0


def save_checkpoint(
    file: Path, model: nn.Module, optimizer: Any, schedule: Any, position: Position, rows: list[dict[str, Any]]
) -> None:
    """Write a checkpoint in one step: a run that is killed meanwhile keeps the one before."""
    stored = {
        "format": FORMAT,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "position": dataclasses.asdict(position),
        "rows": rows,
    }
    write_atomically(file, lambda temporary: torch.save(stored, temporary))


def restore_checkpoint(
    file: Path, model: nn.Module, optimizer: Any, schedule: Any, position: Position
) -> list[dict[str, Any]]:
    """Put a run back to where its checkpoint was written; returns the metrics of its finished epochs.

    Raises:
        ValueError: a file that is cut off or of another version, or that does not fit the recipe.
    """
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)  # tensors and plain values, no code
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{file}: not a readable checkpoint ({reason})") from None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"{file}: not a checkpoint of this version of temporal")
    try:
        model.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        schedule.load_state_dict(stored["schedule"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: does not fit the recipe: {str(error).splitlines()[-1].strip()}") from None
    for name, value in stored["position"].items():
        setattr(position, name, value)
    return stored["rows"]


def share_checkpoint(
    ranks: Ranks, model: nn.Module, optimizer: Any, schedule: Any, position: Position, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put all processes where the first one stands, which alone needs to see the file; returns its metrics."""
    if ranks.size == 1:
        return rows
    parts = (model, optimizer, schedule)
    states, place, rows = ranks.from_first(lambda: ([part.state_dict() for part in parts], vars(position), rows))
    if not ranks.first:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        vars(position).update(place)
    return rows
