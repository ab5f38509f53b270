"""Whether a network says the same however it is run: on whole recordings, on a stream, and on events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from temporal.layers import Model
from temporal.models.deploy import deploy

from .runner import Runner
from .stream import Stream

__all__ = ["Agreement", "compare_engines"]


@dataclass(frozen=True)
class Agreement:
    """How far apart the outputs of one deployed model are when it is run in three ways.

    Args:
        recordings: how many were run.
        streamed: the largest difference of a class's score, 0..1, between the whole recording and a stream of it; None where
            it cannot be streamed.
        streamed_labels: recordings that the stream decides otherwise; None likewise.
        event: the same difference between the whole recording and the event engine; None where that has not all layers.
        event_labels: recordings that it decides otherwise; None likewise.
        streamed_logits, event_logits: the largest difference of a logit, likewise.
        no_stream, no_events: why; "" where there is nothing to say.
    """

    recordings: int
    streamed: float | None = None
    streamed_labels: int | None = None
    event: float | None = None
    event_labels: int | None = None
    no_stream: str = ""
    no_events: str = ""
    streamed_logits: float | None = None
    event_logits: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self)

    def __str__(self) -> str:
        ways = [
            ("in a stream", self.streamed_logits, self.streamed, self.streamed_labels, f"no stream: {self.no_stream}"),
            ("on events", self.event_logits, self.event, self.event_labels, f"no event engine: {self.no_events}"),
        ]
        told = [
            why
            if score is None
            else f"logits differ by at most {logit:.1e} {way}, scores by {score:.1e} ({labels} other labels)"
            for way, logit, score, labels, why in ways
        ]
        return f"dense, streamed and event-driven, {self.recordings} recordings: {'; '.join(told)}"


@torch.inference_mode()
def compare_engines(
    model: Model, recordings: Iterable[Tensor], *, chunk: int = 160, steps_per_second: float | None = None
) -> Agreement:
    """Run recordings through the deployed model whole, as a stream, and through the event engine.

    Whole and stream are float64, as `temporal evaluate` and `temporal stream` run; the event engine is float32, as it
    is on a device, so a neuron on its threshold may fire there and not here: that is what this measures.

    Args:
        model: a trained model; it stays as it is.
        recordings: one by one: [samples], or [T, units] for a model without a front end.
        chunk: length of the stream's chunks, in samples (without a front end: steps), >= 1.
        steps_per_second: of a model without a front end.
    Raises:
        ValueError: no recording.

    Example:
        >>> import torch
        >>> from temporal.layers import Model, Sequential, SumSoftmax
        >>> from temporal.neurons import LI
        >>> model = Model(None, Sequential(torch.nn.Linear(4, 2), LI(2.0)), SumSoftmax(), labels=["no", "yes"])
        >>> agreement = compare_engines(model, torch.rand(3, 30, 4).unbind(), steps_per_second=100.0)
        >>> agreement.streamed < 1e-12, agreement.event < 1e-5
        (True, True)
    """
    deployed = deploy(model)
    rate = None if deployed.frontend is not None else steps_per_second
    ways: list[_Way] = [_Streams(deployed, rate, chunk), _Events(model, deployed)]
    count = 0
    for recording in recordings:
        count += 1
        signal = recording.to(next(iter(deployed.parameters()), recording.double()))
        whole = deployed(_batched(deployed, signal))[0]
        for way in ways:
            way.compare(whole, signal)
    if not count:
        raise ValueError("compare_engines: no recording to run")
    streamed, events = ways
    return Agreement(
        recordings=count,
        streamed=streamed.score,
        streamed_labels=streamed.other,
        event=events.score,
        event_labels=events.other,
        no_stream=streamed.fault,
        no_events=events.fault,
        streamed_logits=streamed.logit,
        event_logits=events.logit,
    )


class _Way:
    """One way to run a model, and how far from the whole recording it has been."""

    def __init__(self) -> None:
        self.logit: float | None = 0.0
        self.score: float | None = 0.0
        self.other: int | None = 0
        self.fault = ""

    def run(self, signal: Tensor) -> Tensor | None:
        """The logits of one recording; None where it has no step."""
        raise NotImplementedError

    def compare(self, whole: Tensor, signal: Tensor) -> None:
        if self.logit is None or self.score is None or self.other is None:
            return
        try:
            found = self.run(signal)
        except (TypeError, ValueError) as error:  # a layer, or a front end, that cannot do this
            self.give_up(error)
            return
        if found is not None:
            found = found.to(whole)
            self.logit = max(self.logit, float((whole - found).abs().max()))
            self.score = max(self.score, float((whole.softmax(-1) - found.softmax(-1)).abs().max()))
            self.other += int(whole.argmax() != found.argmax())

    def give_up(self, error: Exception) -> None:
        self.logit, self.score, self.other, self.fault = None, None, None, str(error)


class _Streams(_Way):
    def __init__(self, deployed: Model, rate: float | None, chunk: int) -> None:
        super().__init__()
        self.deployed, self.rate, self.chunk = deployed, rate, chunk

    def run(self, signal: Tensor) -> Tensor | None:
        stream = Stream(self.deployed, self.rate)
        for part in signal.split(self.chunk):
            stream.push(part)
        stream.finish()
        return stream.whole


class _Events(_Way):
    def __init__(self, model: Model, deployed: Model) -> None:
        super().__init__()
        self.deployed = deployed
        narrow = deploy(model, torch.float32)
        try:
            self.runner = Runner(narrow.network, "event", readout=narrow.readout)
        except (TypeError, ValueError) as error:
            self.give_up(error)

    def run(self, signal: Tensor) -> Tensor | None:
        x, _ = self.deployed.steps(_batched(self.deployed, signal))
        x = torch.cat([x, x.new_zeros(self.deployed.tail, *x.shape[1:])])
        self.runner.reset()
        self.runner.run(x.float())
        return None if self.runner.logits is None else self.runner.logits[0]


def _batched(model: Model, signal: Tensor) -> Tensor:
    return signal.unsqueeze(1 if model.frontend is None else 0)
