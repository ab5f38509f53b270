"""The metrics of a run once more, in the form that TensorBoard reads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Board"]

_SCALARS = {
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "schedule/learning_rate",
    "sigma": "schedule/sigma_steps",
    "seconds": "time/seconds_per_epoch",
}


class Board:
    """A TensorBoard file in a run folder: metrics, firing rates and delays, with the epoch as the step.

    A run that goes on begins a new file with all its epochs, and removes the old one: no epoch is there twice. A file that
    cannot be written ends no training; that is said once.

    Args:
        folder: of the run.
        rows: the metrics of the finished epochs.
        health: the lines of ``health.jsonl``.
        say: is told what goes wrong.
    """

    def __init__(
        self,
        folder: Path,
        rows: Sequence[dict[str, Any]],
        health: Sequence[dict[str, Any]],
        say: Callable[[str], None],
    ) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._say, self._file = say, None
        name = f"events.out.tfevents.{time.time_ns() // 10**6}.{os.getpid()}"  # TensorBoard reads them in this order
        try:
            old = list(folder.glob("events.out.tfevents.*"))
            self._file = folder / name
            self._put([Event(wall_time=time.time(), file_version="brain.Event:2")])
            for file in old:
                file.unlink()
        except OSError as error:
            self._give_up(error)
        ends = time.time() - sum(row.get("seconds", 0.0) for row in rows)
        lines = {line["epoch"]: line for line in health}
        if 0 in lines:
            self.write({"epoch": 0}, lines[0], ends)
        for row in rows:
            ends += row.get("seconds", 0.0)
            self.write(row, lines.get(row["epoch"], {}), ends)

    def write(self, row: dict[str, Any], health: dict[str, Any], when: float | None = None) -> None:
        """Add one epoch.

        Args:
            row: its metrics.
            health: its line of ``health.jsonl``.
            when: it ended, in seconds of the clock; None: now.
        """
        if self._file is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event

        summaries = [*_scalars(row, health), *_histograms(health)]
        when = time.time() if when is None else when
        try:
            self._put([Event(wall_time=when, step=row["epoch"], summary=summary) for summary in summaries])
        except OSError as error:
            self._give_up(error)

    def _put(self, events: Sequence[Any]) -> None:
        """All at once and then closed: nothing is left in a buffer when the process is killed, and no thread writes."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None, "a board that gave up writes nothing"
        with open(self._file, "ab") as opened:
            writer = RecordWriter(opened)
            for event in events:
                writer.write(event.SerializeToString())

    def _give_up(self, error: OSError) -> None:
        self._file = None
        self._say(f"TensorBoard's file cannot be written ({error}): training goes on without it")


def _scalars(row: dict[str, Any], health: dict[str, Any]) -> list[Any]:
    from torch.utils.tensorboard.summary import scalar

    values = {tag: row[name] for name, tag in _SCALARS.items() if row.get(name) is not None}
    for layer in health.get("layers", ()):
        values[f"spikes_per_step/{layer['layer']}"] = layer["rate"]
        values[f"dead_neurons/{layer['layer']}"] = layer["dead"]
    return [scalar(tag, value) for tag, value in values.items()]


def _histograms(health: dict[str, Any]) -> list[Any]:
    """Of the delays, a bucket a step."""
    from torch.utils.tensorboard.summary import histogram_raw

    made = []
    for part in health.get("delays", ()):
        counts, first = part["counts"], part["first"]
        number, total, squares = (sum(n * step**power for step, n in enumerate(counts, first)) for power in (0, 1, 2))
        ends = [first + step + 0.5 for step in range(len(counts))]
        tag = f"delays_steps/{part['layer']}"
        made.append(histogram_raw(tag, first, first + len(counts) - 1, number, total, squares, ends, counts))
    return made
