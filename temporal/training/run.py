"""A run folder: what a training leaves behind, and how it is written so that a crash loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from temporal.layers import Model

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """The folder of a training run.

    ========================= ===========================================================
    ``recipe.toml``           the configuration, complete
    ``model.safetensors``     weights and the specification that rebuilds the model
    ``metrics.jsonl``         one JSON object an epoch
    ``checkpoint.pt``         what ``--resume`` continues from
    ``training_files.json``   fingerprints of the recordings that were trained on
    ``result.json``           the test result, written once, at the end
    ``health.jsonl``          one JSON object an epoch: firing rates, delays, what ails the training
    ``sessions.json``         versions, device and threads of each call that trained
    ``events.out.tfevents.*`` the metrics once more, for TensorBoard
    ``*.png``                 learning curve, confusion matrix, raster of one recording
    ========================= ===========================================================

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
            raise FileNotFoundError(f"{folder}: not a run folder (it holds no {run.recipe_file.name})")
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
        """The finished epochs, one dict each; a last line that was cut while it was written is left out."""
        if not self.metrics_file.is_file():
            return []
        rows = []
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                if number < len(lines):
                    raise ValueError(f"{self.metrics_file}: line {number} is not JSON") from None
        return rows

    def result(self) -> dict[str, Any] | None:
        """The test result as it is stored, or ``None`` before the run has ended."""
        return json.loads(self.result_file.read_text(encoding="utf-8")) if self.result_file.is_file() else None

    def model(self, network: nn.Module | None = None) -> Model:
        """The trained model; see :func:`temporal.load`."""
        from temporal.models import load

        return load(self.folder, network)


def write_atomically(file: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then put it in the place of ``file`` in one step, on disk."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    _write_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, in one step."""
    _write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def _write_text(file: Path, text: str) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(file, write)
