"""A run folder: what a training leaves behind, and how it is written so that a crash loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal._files import leftovers, lock, write_atomically

from .recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from temporal.layers import Model

__all__ = ["Run"]

_LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """The folder of a training run.

    ========================== ===========================================================
    ``recipe.toml``            the configuration, complete
    ``model.safetensors``      weights and the specification that rebuilds the model
    ``metrics.jsonl``          one JSON object an epoch
    ``checkpoint.pt``          what ``--resume`` continues from
    ``previous_checkpoint.pt`` the one before, should that be damaged
    ``training_files.json``    fingerprints of the recordings that were trained on
    ``result.json``            the test result, written once, at the end
    ``health.jsonl``           one JSON object an epoch: firing rates, delays, what ails the training
    ``sessions.json``          versions, device and threads of each call that trained
    ``events.out.tfevents.*``  the metrics once more, for TensorBoard
    ``*.png``                  learning curve, confusion matrix, raster of one recording
    ``.lock``                  held by the process that trains
    ========================== ===========================================================

    Args:
        folder: the folder.
    Raises:
        FileNotFoundError: by :meth:`open`, where the folder is not that of a run.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | os.PathLike) -> Run:
        """An existing run."""
        run = cls(Path(folder))
        if not run.folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such run folder")
        if not run.recipe_file.is_file():
            lost = next((file.name for file in (run.checkpoint_file, run.weights_file) if file.is_file()), None)
            raise FileNotFoundError(
                f"{folder}: not a run folder (it holds no {run.recipe_file.name})"
                if lost is None
                else f"{folder}: holds {lost}, but no {run.recipe_file.name}: write it again, with temporal train RECIPE, "
                f"the options of the run, and --dry-run > {run.recipe_file}"
            )
        return run

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.toml"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def previous_checkpoint_file(self) -> Path:
        return self.folder / "previous_checkpoint.pt"

    @property
    def training_files(self) -> Path:
        return self.folder / "training_files.json"

    @property
    def result_file(self) -> Path:
        return self.folder / "result.json"

    @property
    def weights_file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def health_file(self) -> Path:
        return self.folder / "health.jsonl"

    @property
    def sessions_file(self) -> Path:
        return self.folder / "sessions.json"

    def recipe(self) -> Recipe:
        """The recipe that the run was trained with."""
        return Recipe.from_toml(self.recipe_file)

    def metrics(self) -> list[dict[str, Any]]:
        """The finished epochs, one dict each; a last line that was cut while it was written is left out.

        Raises:
            ValueError: a line that is damaged and is not the last.
        """
        if not self.metrics_file.is_file():
            return []
        rows = []
        lines = self.metrics_file.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            elif number < len(lines):
                raise ValueError(f"{self.metrics_file}: line {number} is not a JSON object{self._again}")
        return rows

    def result(self) -> dict[str, Any] | None:
        """The test result as it is stored, or ``None`` before the run has ended.

        Raises:
            ValueError: a file that is cut off or damaged.
        """
        return self._read(self.result_file) if self.result_file.is_file() else None

    def trained_on(self) -> dict[str, str]:
        """Fingerprints of the recordings that were trained on, with their names; see :func:`temporal.training.evaluate`.

        Raises:
            FileNotFoundError, ValueError: the file is missing, or damaged.
        """
        return self._read(self.training_files)

    def has_result(self) -> bool:
        """Whether the run has ended, and its result is whole."""
        try:
            return self.result() is not None
        except ValueError:
            return False

    def is_finished(self) -> bool:
        """Whether the run has its result and everything else that a run leaves."""
        if not self.has_result() or not all(file.is_file() for file in (self.weights_file, *self.pictures)):
            return False
        try:
            return bool(self.trained_on()) and len(self.metrics()) == self.result()["epochs"]  # type: ignore[index]
        except (FileNotFoundError, ValueError, KeyError):
            return False

    @property
    def pictures(self) -> list[Path]:
        return [self.folder / f"{name}.png" for name in ("learning_curve", "confusion_matrix", "raster")]

    @property
    def _again(self) -> str:
        kept = self.checkpoint_file.is_file() or self.previous_checkpoint_file.is_file()
        return f"; temporal train RECIPE --resume --out {self.folder} writes it again" if kept else ""

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            stored = json.loads(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file}: not readable, perhaps cut off ({error}){self._again}") from None
        if not isinstance(stored, dict):
            raise ValueError(f"{file}: not what temporal writes{self._again}")
        return stored

    def model(self, network: nn.Module | None = None) -> Model:
        """The trained model; see :func:`temporal.load`."""
        from temporal.models import load

        return load(self.folder, network)


def is_blank(folder: Path) -> bool:
    """Whether nothing of a run is in a folder: it is empty, or of a process that was stopped before it wrote anything."""
    return set(folder.iterdir()) <= {folder / _LOCK, *leftovers(folder)}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process, until the block or the process ends, and clear what a killed one has left.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the folder cannot be written to.
    """
    try:
        file = open(folder / _LOCK, "a+b", buffering=0)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise type(error)(f"{folder}: cannot be written to ({error.strerror}), so no run can train in it") from None
    with file:
        if not lock(file):
            file.seek(0)
            who = file.read().decode(errors="replace").strip() or "another process"
            raise BlockingIOError(f"{folder}: {who} is training in this folder; wait for it or stop it, or use another")
        with contextlib.suppress(OSError):  # a full disk: then nobody is told who it is
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        for left in leftovers(folder):
            left.unlink(missing_ok=True)
        yield


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    _write_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, in one step."""
    _write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def _write_text(file: Path, text: str) -> None:
    write_atomically(file, lambda opened: opened.write(text.encode()))
