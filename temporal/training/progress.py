"""Showing how a run goes: a bar where there is a terminal, one line an epoch everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """What a run reports to.

    Args:
        console: a rich console, by default on standard error, so that standard output holds results alone.

    Example:
        >>> from temporal.training import Progress
        >>> Progress.silent().say("nobody hears this")
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Bar | None = None
        self._task: Any = None
        self._epochs = self._steps = 0

    @classmethod
    def silent(cls) -> Progress:
        """A progress that shows nothing."""
        return cls(Console(quiet=True))

    def say(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def training(self, epochs: int, steps: int) -> Iterator[None]:
        """Around a training of so many epochs with so many steps each."""
        self._epochs, self._steps = epochs, steps
        with self._shown("training", epochs * steps):
            yield

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[Callable[[int, int], None]]:
        """Around an evaluation; gives the function to call with (recordings done, recordings in all)."""
        with self._shown("evaluating", None):
            yield lambda done, total: self._move(done, "", total)

    def step(self, epoch: int, batch: int, loss: float, accuracy: float) -> None:
        """A training step ended; loss and accuracy are the epoch's so far."""
        self._move(epoch * self._steps + batch, f"loss {loss:.3f}  accuracy {100 * accuracy:5.1f} %")

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch ended."""
        parts = [
            f"epoch {row['epoch']:3d}/{self._epochs}",
            f"loss {row['train_loss']:.3f}",
            f"accuracy {100 * row['train_accuracy']:5.1f} %",
        ]
        if "validation_accuracy" in row:
            parts.append(f"held out {100 * row['validation_accuracy']:5.1f} %")
        if "sigma" in row:
            parts.append("whole-step delays" if row["rounded"] else f"sigma {row['sigma']:.2f}")
        parts.append(f"{row['seconds']:.1f} s")
        self.say("  ".join(parts))

    @contextlib.contextmanager
    def _shown(self, what: str, total: int | None) -> Iterator[None]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
        )
        with Bar(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as self._bar:
            self._task = self._bar.add_task(what, total=total, more="")
            try:
                yield
            finally:
                self._bar = None

    def _move(self, done: int, more: str, total: int | None = None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, more=more, total=total)
