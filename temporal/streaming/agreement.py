"""Whether a network says the same however it is run: on whole recordings, on a stream, and on events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from temporal.layers import Model, Sequential, fold
from temporal.models.deploy import deploy

from .runner import Runner
from .stream import Stream

__all__ = ["Agreement", "compare_engines"]


@dataclass(frozen=True)
class Agreement:
    """How far apart the outputs of one deployed model are when it is run in three ways.

    Args:
        recordings: how many were run.
        streamed: the largest difference of a class's score, 0..1, between the whole recording and a stream of it.
        streamed_labels: recordings that the stream decides otherwise.
        event: the same difference between the whole recording and the event engine; None where that has not all layers.
        event_labels: recordings that it decides otherwise; None likewise.
        why: what the event engine lacks; "" where it lacks nothing.
    """

    recordings: int
    streamed: float
    streamed_labels: int
    event: float | None = None
    event_labels: int | None = None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self)

    def __str__(self) -> str:
        text = (
            f"dense, streamed and event-driven, {self.recordings} recordings: scores differ by at most {self.streamed:.1e} "
            f"in a stream ({self.streamed_labels} other labels)"
        )
        if self.event is None:
            return f"{text}; no event engine: {self.why}"
        return f"{text}, {self.event:.1e} on events ({self.event_labels} other labels)"


@torch.inference_mode()
def compare_engines(
    model: Model, recordings: Iterable[Tensor], *, chunk: int = 1000, steps_per_second: float | None = None
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
    runner, why = _runner(model)
    streamed, events, other = [0.0], [0.0], [0, 0]
    count = 0
    for recording in recordings:
        count += 1
        signal = recording.double()
        whole = deployed(signal.unsqueeze(0) if deployed.frontend is not None else signal.unsqueeze(1))[0]
        stream = Stream(deployed, None if deployed.frontend is not None else steps_per_second)
        for part in signal.split(chunk):
            stream.push(part)
        stream.finish()
        _note(whole, stream.whole, streamed, other, 0)
        if runner is not None:
            _note(whole, _on_events(runner, deployed, signal), events, other, 1)
    if not count:
        raise ValueError("compare_engines: no recording to run")
    if runner is None:
        return Agreement(count, max(streamed), other[0], why=why)
    return Agreement(count, max(streamed), other[0], max(events), other[1])


def _runner(model: Model) -> tuple[Runner | None, str]:
    """The event engine of the deployed network in float32, or why there is none."""
    deployed = deploy(model, torch.float32)
    network = (
        fold(deployed.network) if isinstance(deployed.network, torch.nn.Sequential) else Sequential(deployed.network)
    )
    try:
        return Runner(network, "event", readout=deployed.readout), ""
    except TypeError as error:
        return None, str(error)


def _on_events(runner: Runner, deployed: Model, signal: Tensor) -> Tensor | None:
    x, _ = deployed.steps(signal.unsqueeze(0) if deployed.frontend is not None else signal.unsqueeze(1))
    if deployed.tail:
        x = torch.cat([x, x.new_zeros(deployed.tail, *x.shape[1:])])
    runner.reset()
    runner.run(x.float())
    return None if runner.logits is None else runner.logits[0]


def _note(whole: Tensor, found: Tensor | None, differences: list[float], other: list[int], place: int) -> None:
    if found is None:  # no step at all
        return
    differences.append(float((whole.softmax(-1) - found.to(whole).softmax(-1)).abs().max()))
    other[place] += int(whole.argmax() != found.argmax())
