"""What a run folder tells, with a word on everything that it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from temporal.analysis import DelayCounts, count_delays

from ..evaluation import Result
from ..health import read_health
from ..protocol import protocol_of
from ..recipe import Recipe
from ..run import Run
from ..sessions import read_sessions

if TYPE_CHECKING:
    from torch import nn

    from temporal.layers import Model

    from .measured import Measured

__all__ = ["RunFacts", "read_run"]

T = TypeVar("T")


@dataclass
class RunFacts:
    """A run, read.

    Args:
        run, recipe: of it.
        name: of its folder.
        rows: its finished epochs.
        health: the lines of ``health.jsonl``.
        sessions: the calls that trained.
        result: on the test part; None before the end.
        about: what ``result.json`` says besides.
        model: as it was trained, if it can be built.
        measured: on recordings, if they are there.
        missing: what is not there, in words.
    """

    run: Run
    name: str
    recipe: Recipe
    rows: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    result: Result | None = None
    about: dict[str, Any] = field(default_factory=dict)
    model: Model | None = None
    measured: Measured | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int | None:
        """How many numbers the model has learned."""
        return None if self.model is None else sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def told(self) -> list[str]:
        """The figure and what belongs to it, as ``temporal evaluate`` says it; nothing before there is a result."""
        if self.result is None or not self.result.total:
            return []
        split, epochs = self.about.get("split", "unknown"), self.about.get("epochs", self.recipe.epochs)
        engines = [] if self.measured is None else [str(self.measured.agreement)]
        protocol = protocol_of(f"split “{split}”", epochs, averaged=self.recipe.ema > 0)
        return [str(self.result), str(self.result.heard), protocol, *engines]

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def delays_before(self) -> list[DelayCounts] | None:
        """As the network was drawn."""
        return _counts(self.health[0]) if self.health and self.health[0]["epoch"] == 0 else None

    @property
    def delays_after(self) -> list[DelayCounts]:
        """As they are now; of a model that cannot be built, after the last epoch that was noted."""
        if self.model is not None:
            return count_delays(self.model.network)
        return _counts(self.health[-1]) if self.health and self.rows else []

    @property
    def findings(self) -> list[tuple[dict[str, str], list[int]]]:
        """What ailed the training, and in which epochs."""
        found: dict[tuple[str, str], tuple[dict[str, str], list[int]]] = {}
        for line in self.health:
            for one in line.get("findings", ()):
                _, epochs = found.get((one["kind"], one["where"]), (one, []))
                found[one["kind"], one["where"]] = (one, [*epochs, line["epoch"]])
        return list(found.values())


def read_run(folder: str | os.PathLike, network: nn.Module | None = None) -> RunFacts:
    """Read everything in a run folder but its recordings.

    Args:
        folder: of a run, finished or not.
        network: for a run with a network class of the user's own.
    Raises:
        FileNotFoundError, ValueError: no run folder, or a recipe that cannot be read.
    """
    run = Run.open(folder)
    facts = RunFacts(run, run.folder.resolve().name, run.recipe())
    facts.rows = _tried(facts, "the metrics", run.metrics) or []
    facts.health, facts.sessions = read_health(run), read_sessions(run)
    facts.model = _tried(facts, "the model", lambda: run.model(network))
    stored = _tried(facts, "the result", run.result)
    if stored is not None:
        facts.about = {name: value for name, value in stored.items() if name != "predictions"}
        facts.result = _tried(facts, "the result", lambda: _result(stored, facts.model))
    if not facts.rows:
        facts.missing.append("No epoch is finished, so there are no learning curves.")
    if not facts.health:
        facts.missing.append(
            "There is no health.jsonl: the run was trained by an older version, or the file was removed."
        )
    return facts


def _tried(facts: RunFacts, what: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        facts.missing.append(f"{what[0].upper()}{what[1:]} cannot be read: {text}")
        return None


def _result(stored: dict[str, Any], model: Model | None) -> Result:
    rows = stored["predictions"]
    labels = list(model.labels or []) if model is not None else []
    labels += sorted({row[name] for row in rows for name in ("label", "prediction")} - set(labels))
    number = {label: place for place, label in enumerate(labels)}
    return Result(
        labels=labels,
        keys=[row["file"] for row in rows],
        targets=[number[row["label"]] for row in rows],
        predictions=[number[row["prediction"]] for row in rows],
        scores=[row["score"] for row in rows],
        speakers=[row["speaker"] for row in rows],
        messages=list(stored.get("messages", [])),
        trained_speakers=stored.get("trained_speakers"),
    )


def _counts(line: dict[str, Any]) -> list[DelayCounts]:
    return [
        DelayCounts(part["layer"], tuple(part["counts"]), part["learned"], part.get("first", 0))
        for part in line.get("delays", ())
    ]
