"""How well a run does on recordings, in the form in which it is deployed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .data import batches, fingerprints, one_by_one, open_part, seconds_per_step, spread
from .protocol import Heard, heard, protocol_of, share
from .run import Run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from temporal.layers import Model
    from temporal.streaming import Agreement

    from ._ranks import Ranks
    from .data import AnyData

__all__ = ["Result", "engines_agree", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a model said of each recording.

    Args:
        labels: the names of the classes.
        keys, targets, predictions, scores: of each recording its name, its class, the predicted class, and that class's
            share in the softmax of the logits.
        speakers: of each recording, "" where unknown.
        messages: what a reader should know: resampled, skipped, trained on.
        trained_speakers: whom the run was trained on; ``None`` where nobody knows.
        protocol: how the figure came about, in a line.
        engines: how far the answers are apart when the network is run in other ways; ``None`` if that was not asked.

    Example:
        >>> from temporal.training import Result
        >>> result = Result(labels=["no", "yes"], keys=["a", "b"], targets=[0, 1], predictions=[0, 0], scores=[.9, .6])
        >>> str(result), result.confusion
        ('accuracy: 50.00 % (1 of 2)', [[1, 0], [1, 0]])
    """

    labels: list[str]
    keys: list[str]
    targets: list[int]
    predictions: list[int]
    scores: list[float]
    speakers: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    trained_speakers: list[str] | None = None
    protocol: str = ""
    engines: Agreement | None = None

    @property
    def total(self) -> int:
        """Number of recordings."""
        return len(self.targets)

    @property
    def correct(self) -> int:
        """Number of recordings whose predicted class is theirs."""
        return sum(a == b for a, b in zip(self.targets, self.predictions, strict=True))

    @property
    def accuracy(self) -> float:
        """Part of the recordings that is right, 0..1."""
        return self.correct / self.total

    @property
    def confusion(self) -> list[list[int]]:
        """Counts [true class][predicted class]."""
        matrix = [[0] * len(self.labels) for _ in self.labels]
        for true, predicted in zip(self.targets, self.predictions, strict=True):
            matrix[true][predicted] += 1
        return matrix

    @property
    def heard(self) -> Heard:
        """The recordings by whether their speakers were heard in training."""
        right = (a == b for a, b in zip(self.targets, self.predictions, strict=True))
        return heard(self.speakers or [""] * self.total, right, self.trained_speakers)

    @property
    def remarks(self) -> list[str]:
        """What belongs to the accuracy, a line each: whose voices it is about, how it came about, the other engines."""
        return [*self.messages, str(self.heard), *filter(None, (self.protocol, str(self.engines or "")))]

    def __str__(self) -> str:
        return f"accuracy: {share(self.correct, self.total)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names: the figures, and one entry a recording."""
        names = self.labels
        speakers = self.speakers or [""] * self.total
        rows = zip(self.keys, speakers, self.targets, self.predictions, self.scores, strict=True)
        return {
            "accuracy": self.accuracy,
            "correct": self.correct,
            "total": self.total,
            "messages": self.messages,
            **self._known(),
            "predictions": [
                {"file": key, "speaker": who, "label": names[true], "prediction": names[said], "score": score}
                for key, who, true, said, score in rows
            ],
        }

    def _known(self) -> dict[str, Any]:
        """Of what need not be there, what is."""
        about: dict[str, Any] = {"speakers": self.heard.to_dict(), "protocol": self.protocol} if self.protocol else {}
        return about | ({"engines": self.engines.to_dict()} if self.engines is not None else {})


def evaluate(
    run: Run | str | os.PathLike,
    data: str | os.PathLike | None = None,
    split: str | None = None,
    *,
    on_error: str | None = None,
    network: nn.Module | None = None,
    engines: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Evaluate a trained run as it is deployed: whole-step delays, folded normalisation, float64.

    Args:
        run: a run or its folder.
        data: a folder or a file of the recipe's kind: all of its recordings, unless ``split`` is given; ``None``: the
            test part of the run's own.
        split: a split rule ("official", "lists", "speaker=NAME", ...): only its test part.
        on_error: "raise" on a recording that cannot be read, or "skip" it and count; ``None``: as in the recipe.
        network: for a run with a network class of the user's own; see :func:`temporal.load`.
        engines: run so many of the recordings as a stream and through the event engine, too; see :func:`engines_agree`.
        progress: called with (recordings done, recordings in all).
    Raises:
        FileNotFoundError, ValueError: no such run or folder, a label that the run does not know, no recordings.
    """
    if type(engines) is not int or engines < 0:
        raise ValueError(f"evaluate: engines={engines!r}; a number of recordings, 0 or more, is right")
    run = run if isinstance(run, Run) else Run.open(run)
    recipe, model = run.recipe(), run.model(network)
    dataset = _asked(run, model, data, split, on_error)
    result = predict(model, dataset, progress=progress)
    which = f"all of {data}" if data is not None and split is None else f"split “{dataset.by}”"
    which += f" of {data}" if data is not None and split is not None else ""
    return dataclasses.replace(
        result,
        messages=[*result.messages, *_trained_on(run, dataset)],
        trained_speakers=(run.result() or {}).get("trained_speakers") if run.has_result() else None,
        protocol=protocol_of(which, recipe.epochs, _epochs_done(run), averaged=recipe.ema > 0),
        engines=_agreement(model, dataset, engines) if engines else None,
    )


def engines_agree(
    run: Run | str | os.PathLike,
    data: str | os.PathLike | None = None,
    split: str | None = None,
    *,
    recordings: int = 50,
    on_error: str | None = None,
    network: nn.Module | None = None,
) -> Agreement:
    """How far apart the answers of a run are on whole recordings, on a stream, and through the event engine.

    Args:
        run, data, split, on_error, network: as for :func:`evaluate`.
        recordings: how many, spread over all, >= 1.
    Raises:
        FileNotFoundError, ValueError: as :func:`evaluate`; fewer than one recording.
    """
    if recordings < 1:
        raise ValueError(f"engines_agree: recordings={recordings}; at least 1 is right")
    run = run if isinstance(run, Run) else Run.open(run)
    model = run.model(network)
    return _agreement(model, _asked(run, model, data, split, on_error), recordings)


def _agreement(model: Model, dataset: AnyData, recordings: int) -> Agreement:
    from temporal.streaming import compare_engines

    signals = one_by_one(dataset, spread(len(dataset), recordings))
    return compare_engines(model, signals, steps_per_second=1 / seconds_per_step(model, dataset))


def _epochs_done(run: Run) -> int | None:
    """How many epochs of a run that has not ended are done; ``None`` of one that has."""
    return None if run.has_result() else len(run.metrics())


def _asked(run: Run, model: Model, data: str | os.PathLike | None, split: str | None, on_error: str | None) -> AnyData:
    """The recordings that are meant."""
    recipe = run.recipe()
    data_spec = recipe.data
    if data is not None:
        data_spec = dataclasses.replace(data_spec, path=os.fspath(data), split=split or data_spec.split)
    elif split is not None:
        data_spec = dataclasses.replace(data_spec, split=split)
    data_spec = dataclasses.replace(data_spec, on_error=on_error or data_spec.on_error)
    part = "all" if data is not None and split is None else "test"
    return open_part(dataclasses.replace(recipe, data=data_spec), part, labels=model.labels)


def predict(
    model: Model,
    dataset: AnyData,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> Result:
    """What a model, deployed, says of every recording of a data set; ``ranks`` share the work, and all get the result."""
    import torch

    from temporal.models import deploy

    if not len(dataset):
        raise ValueError(f"{dataset.root}: no recording to evaluate")
    deployed = deploy(model)
    device = next(deployed.parameters()).device
    logits: dict[int, Tensor] = {}
    rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
    with torch.inference_mode():
        for batch in batches(dataset, batch_size, rank, size):
            rows, batch = batch.indices.tolist(), batch.to(device)
            signal, lengths = batch[:2]
            logits |= zip(rows, deployed(signal.double(), lengths), strict=True)
            if progress is not None:
                progress(min(size * len(logits), len(dataset)), len(dataset))
    if ranks is not None and size > 1:
        logits = {row: values for part in ranks.gather(_to_host(logits)) for row, values in part.items()}
    scores, predictions = torch.stack([logits[i] for i in range(len(dataset))]).softmax(-1).max(-1)
    return Result(
        labels=list(model.labels or []),
        keys=dataset.keys,
        targets=dataset.targets,
        predictions=predictions.tolist(),
        scores=scores.tolist(),
        speakers=dataset.speakers,
        messages=dataset.messages,
    )


def _to_host(logits: dict[int, Tensor]) -> dict[int, Tensor]:
    """The same in the host's memory, each without the batch that it is a view of."""
    return {row: values.cpu().clone() for row, values in logits.items()}


def _trained_on(run: Run, dataset: AnyData) -> list[str]:
    """What a reader should know of recordings that the run has seen."""
    try:
        trained = run.trained_on()
    except FileNotFoundError:
        return [f"{run.training_files} is not there, so nobody can say which recordings were trained on"]
    seen = len(fingerprints(dataset).keys() & trained.keys())
    return [f"{seen} of {len(dataset)} recordings were trained on"] if seen else []
