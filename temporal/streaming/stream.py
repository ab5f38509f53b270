"""A trained model on a live signal: chunks in, events out, and at the end the answer of the whole recording."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from temporal.layers import Model

from ._chunks import Resampler, checked
from ._detect import Detector
from ._flat import Flat
from ._run import Run

__all__ = ["Event", "Stream"]

_LONGEST = (
    10.0  # seconds that go through the network in one call: bounds the memory when a whole file is pushed at once
)


class Event(NamedTuple):
    """Something heard, with seconds counted from the stream's beginning."""

    label: str
    score: float  # of the label at the deciding step: above the stream's threshold, at most 1
    start: float  # where the label began to lead
    end: float  # the end of the deciding step


class Stream:
    """Run a model on a signal that arrives in chunks; the answers do not depend on where the chunks are cut.

    At every network step t, with y the network's outputs and W the steps of `window`,

        scores[t] = softmax(readout(y[t - W + 1 .. t]))

    and an event is one step at which the best class's score is above `threshold`, unless the last event is less than
    `refractory` seconds old. So a class that stays above the threshold is told again every `refractory` seconds: with a
    `refractory` of `window` and more, a short word is told once. Before `window` seconds have come, the readout covers
    those that have.

    Step t (from 0) stands for the seconds t * hop .. (t + 1) * hop of the signal, hop = hop_length / sample_rate. An event's
    `end` is the end of its deciding step, or of the signal if that comes first; its `start` is the beginning of the
    step, within the window, from which the label's lead over its best rival, summed up to the end, is largest (Page's
    change point on the softmax of the outputs).

    The stream works on a copy of the model of its own, in evaluation mode and without gradients, on the model's device
    and in the dtype of its parameters. Later changes to the model do not reach it, and any number of streams can share
    one model. A chunk costs one call of the front end, of the network and of the readout (a chunk of more than ten
    seconds one call for each ten).

    Args:
        model: with a front end that streams, or with none (then steps are pushed).
        sample_rate: of what is pushed, in Hz, > 0; None for the model's own. Another rate is resampled on the fly by
            soxr, with the samples that resampling the whole recording gives; that adds to `latency`, and such a stream
            has no `state_dict`. Without a front end: steps per second (100 for bins of 10 ms), where the model does not
            say it.
        window: seconds, at least one step; rounded down to whole steps.
        threshold: 0 .. 1. From 0.5 on, at most one class can be above it.
        refractory: seconds, >= 0; rounded up to whole steps, and at least one.
        engine: what runs the network. "dense": its own layers, whatever they are, in the model's dtype. "event": a
            :class:`Runner`, in float32 on the CPU, whose time follows the number of spikes; with any weights but those of
            a grid a membrane within 1e-5 of its threshold may fire otherwise than in the layers. "auto": the Runner where it
            has all of the layers, all delays are whole steps, and the model is in float32 on the CPU; else the layers.
    Attributes:
        engine: the one that runs, "dense" or "event".
        labels: the names of the classes, in the order of the logits; "0", "1", ... where the model has none.
        latency: seconds of signal that may have to follow a moment until the step that begins at or next after it is
            known: at most one hop to its beginning, the front end's look-ahead from there, and the resampler's delay.
            The length of the chunks and the time of computing come on top.
        whole: after `finish`, the logits [classes] of everything that was pushed, equal to `model(wave[None])[0]` up to
            the order of sums; None before, and where there was neither a step nor a front end.
    Raises:
        TypeError: no Model; a front end without `stream`; a readout without a state; with engine="event" a layer that the
            Runner does not have.
        ValueError: an unknown engine, or with "event" delays that are no whole steps; sample_rate, window, threshold or
            refractory out of range, or labels of another number than classes.
        The front end's own error, where it has to see a whole recording.

    Example:
        >>> import torch, temporal
        >>> from temporal.layers import SumSoftmax
        >>> from temporal.streaming import Stream
        >>> network = torch.nn.Linear(2, 2, bias=False)
        >>> _ = network.weight.data.copy_(torch.eye(2) * 4)
        >>> model = temporal.Model(None, network, SumSoftmax(), labels=["left", "right"])
        >>> stream = Stream(model, sample_rate=100, window=0.2, threshold=0.9)  # 100 steps a second
        >>> x = torch.zeros(50, 2)
        >>> x[30:, 1] = 1
        >>> for chunk in x.split(8):
        ...     for event in stream.push(chunk):
        ...         print(f"{event.label} {event.start:.2f} {event.end:.2f}")
        right 0.30 0.33
        >>> stream.finish()
        []
        >>> torch.allclose(stream.whole, model(x[:, None])[0])
        True
    """

    def __init__(
        self,
        model: Model,
        sample_rate: float | None = None,
        window: float = 1.0,
        threshold: float = 0.5,
        refractory: float = 0.5,
        engine: Literal["auto", "dense", "event"] = "dense",
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"Stream: model is {type(model).__name__}; a temporal.Model is right")
        if engine not in ("auto", "dense", "event"):
            raise ValueError(f"Stream: engine={engine!r} is unknown; known: 'auto', 'dense', 'event'")
        self._samples = model.frontend is not None
        own_rate, self._rate = _rates(model, sample_rate)
        with torch.inference_mode():
            self._run = Run(model, engine)
        self.engine = self._run.engine
        self._own_rate = own_rate
        step = self._seconds(1)
        self._settings: dict[str, int | float] = {
            "step_seconds": step,
            "window_steps": _window_steps(window, step),
            "threshold": _number("threshold", threshold, 1),
            "refractory_steps": max(1, math.ceil(_number("refractory", refractory, math.inf) / step - 1e-6)),
        }
        self._detector = Detector(
            self._run.readout,
            *(self._settings[n] for n in ("window_steps", "threshold", "refractory_steps")),  # type: ignore[arg-type]
        )
        self._resampler = None if own_rate == self._rate else Resampler(self._rate, own_rate, self._run.like.dtype)
        self._piece = max(1, int(_LONGEST * own_rate))
        self._pushed = 0  # samples, or steps without a front end
        self._finished = False
        self._labels = model.labels
        self.latency = float(self._run.ahead / own_rate) + step + (self._resampler.latency if self._resampler else 0.0)
        self.whole: Tensor | None = None

    @property
    def labels(self) -> list[str]:
        """The names of the classes; without names and front end, empty until the first push."""
        return list(self._labels) if self._labels is not None else [str(c) for c in range(self._run.classes)]

    @property
    def scores(self) -> dict[str, float]:
        """{label: score} of the latest step, in the order of the logits, summing to 1; all equal before the first step."""
        scores, labels = self._detector.scores, self.labels
        if scores is None:
            return dict.fromkeys(labels, 1 / max(1, len(labels)))
        return dict(zip(labels, scores.tolist(), strict=True))

    def push(self, chunk: Tensor | np.ndarray) -> list[Event]:
        """Take the next piece of the signal and tell what it made the model hear.

        Args:
            chunk: samples in -1 .. 1, mono, any number of them, none included; steps for a model without a front end.
        Shape:
            chunk: [samples], or [T, units] without a front end; floating point.
        Returns:
            The new events, in order; mostly none.
        Raises:
            TypeError: integers (the message has the scaling), or no array at all.
            ValueError: several channels; NaN or infinite entries (the message has their time). Nothing was taken then.
            RuntimeError: after `finish`.
        """
        self._refuse_finished("push")
        chunk = checked(chunk, self._rate, self._pushed, samples=self._samples)
        with torch.inference_mode():
            if not self._samples:
                self._run.prepare(tuple(chunk.shape[1:]))
            self._pushed += chunk.shape[0]
            return self._take(chunk if self._resampler is None else self._resampler(chunk))

    def finish(self) -> list[Event]:
        """End the signal: flush the resampler and the front end, append the model's `tail`, and leave `whole`.

        Returns:
            The events that these last steps brought.
        Raises:
            RuntimeError: called twice. The front end's own error, where the signal is too short for it.
        """
        self._refuse_finished("finish")
        self._finished = True
        with torch.inference_mode():
            events = [] if self._resampler is None else self._take(self._resampler.finish())
            outputs, logits = self._run.end()
            events += self._events(outputs)
        self.whole = None if logits is None else logits.clone()
        duration = self._pushed / self._rate
        return [e._replace(start=min(e.start, duration), end=min(e.end, duration)) for e in events]

    def state_dict(self) -> Flat:
        """Everything that another Stream of the same model and settings needs to go on from here.

        Returns:
            A flat dictionary of tensors and plain numbers, independent of this stream; what `torch.save` makes of it,
            `torch.load(..., weights_only=True)` reads.
        Raises:
            RuntimeError: the stream resamples (soxr does not give its state away), or is finished.
        """
        self._refuse_handover("state_dict")
        return {**self._settings, "pushed": self._pushed} | self._run.state() | self._detector.state()

    def load_state_dict(self, state: Mapping[str, Tensor | int | float]) -> None:
        """Go on where the stream that gave `state` stopped, with the same answers; what this one heard is forgotten.

        Args:
            state: what :meth:`state_dict` gave, or what was read back from a file of it.
        Raises:
            ValueError: the state of another model, or of a stream with other settings. This stream is unchanged then.
            RuntimeError: this stream resamples, or is finished.
        """
        self._refuse_handover("load_state_dict")
        for name, mine in self._settings.items():
            if state.get(name) != mine:
                raise ValueError(
                    f"Stream.load_state_dict: {name} is {state.get(name)} in the state and {mine} here: build both streams "
                    "from the same model with the same settings"
                )
        missing = [name for name in ("pushed", "steps", "ready") if name not in state]
        if missing:
            raise ValueError(
                f"Stream.load_state_dict: the state has no {', '.join(missing)}: it is no whole state_dict"
            )
        with torch.inference_mode():
            self._run.load(state)
            self._detector.load(state, self._run.like.device)
        self._pushed = int(state["pushed"])

    def _take(self, signal: Tensor) -> list[Event]:
        return [event for piece in signal.split(self._piece) for event in self._events(self._run.advance(piece))]

    def _events(self, outputs: Tensor) -> list[Event]:
        return [
            Event(self.labels[f.winner], f.score, self._seconds(f.first), self._seconds(f.last + 1))
            for f in self._detector.see(outputs)
        ]

    def _seconds(self, steps: int) -> float:
        return float(steps * self._run.hop / self._own_rate)

    def _refuse_finished(self, method: str) -> None:
        if self._finished:
            raise RuntimeError(f"Stream.{method}: this stream is finished; build a new Stream for the next signal")

    def _refuse_handover(self, method: str) -> None:
        self._refuse_finished(method)
        if self._resampler is not None:
            raise RuntimeError(
                f"Stream.{method}: this stream resamples from {self._rate:g} Hz on the fly, and soxr does not give its "
                "state away: resample before pushing, and build the stream without sample_rate"
            )


def _rates(model: Model, sample_rate: float | None) -> tuple[float, float]:
    """(that of the model, that of what is pushed), Hz."""
    if sample_rate is not None and not 0 < sample_rate < math.inf:
        raise ValueError(f"Stream: sample_rate={sample_rate} must be a positive number, in Hz")
    own = model.sample_rate if model.sample_rate is not None else sample_rate
    if own is None:
        what = "the sample rate of its recordings, in Hz" if model.frontend is not None else "its steps per second"
        raise ValueError(f"Stream: the model does not say {what}: give it as sample_rate")
    pushed = own if sample_rate is None else sample_rate
    if model.frontend is None and pushed != own:
        raise ValueError(f"Stream: sample_rate={pushed} steps per second, but the model was made for {own}: bin anew")
    return float(own), float(pushed)


def _window_steps(window: float, step: float) -> int:
    if not step * (1 - 1e-6) <= window < math.inf:
        raise ValueError(f"Stream: window={window} s must be at least one step of the network ({step:g} s)")
    return int(window / step + 1e-6)


def _number(name: str, value: float, most: float) -> float:
    if not 0 <= value <= most or value == math.inf:
        right = "0 or more, in seconds" if most == math.inf else f"within 0..{most:g}"
        raise ValueError(f"Stream: {name}={value} must be {right}")
    return float(value)
