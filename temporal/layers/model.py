"""A front end, a network and a readout: from a recording to a decision."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._protocol import call, check_lengths, role, valid_steps
from .steps import to_steps

__all__ = ["Model"]


class Model(nn.Module):
    """From a batch of recordings to logits, with each recording's length respected all the way.

    frames = frontend(wave); steps = to_steps(frames); y = network(steps); logits = readout(y)

    Samples at and beyond a recording's length are set to zero first, and so are the steps beyond its last frame, so that
    its logits depend neither on the padding nor on its neighbours in the batch.

    Args:
        frontend: maps [B, samples] to [B, bins, frames] and has ``frames(samples)``; ``None`` for input that is steps
            already, as the spike trains of SHD and SSC.
        network: a layer with the protocol ``y, state = network(x, state)``, or a plain module on [T, B, *features].
        readout: a readout of :mod:`temporal.layers`.
        sample_rate: of the recordings, in Hz; taken from the front end where it has one.
        labels: the names of the classes, in the order of the logits.
        tail: zero steps appended to every recording, for what is still under way in the delays, >= 0.
    Shape:
        wave: [B, samples], or [T, B, units] without a front end. lengths: [B] in samples, or in steps without a front
        end.  Returns logits [B, classes].
    Raises:
        ValueError: a wave of another shape, lengths beyond it, NaN samples (on the CPU), unequal lengths under a front
            end that pads by reflection (it would read beyond a recording's end).
        TypeError: a wave that is not floating point.

    Example:
        >>> import torch, temporal
        >>> from temporal.layers import SumSoftmax
        >>> model = temporal.Model(None, torch.nn.Linear(3, 2), SumSoftmax(), labels=["no", "yes"])
        >>> model(torch.zeros(10, 4, 3), lengths=torch.tensor([10, 4, 7, 1])).shape
        torch.Size([4, 2])
    """

    frontend: Any
    sample_rate: float | None

    def __init__(
        self,
        frontend: nn.Module | None,
        network: nn.Module,
        readout: nn.Module,
        *,
        sample_rate: float | None = None,
        labels: Sequence[str] | None = None,
        tail: int = 0,
    ) -> None:
        super().__init__()
        if tail < 0:
            raise ValueError(f"Model: tail={tail} steps; 0 or more is right")
        self.frontend, self.network, self.readout = frontend, network, readout
        self.sample_rate = _agreed_rate(frontend, sample_rate)
        self.labels = None if labels is None else list(labels)
        self.tail = tail

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.decide(*self.steps(wave, lengths))

    def steps(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The first half: what the network is given, (x [T, B, features], its lengths [B] in steps), without the tail."""
        if self.frontend is None:
            self._check_steps(wave, lengths)
            return _zero_beyond(wave, lengths), lengths
        self._check_wave(wave, lengths)
        if lengths is None:
            return to_steps(self.frontend(wave)), None
        beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths.unsqueeze(1)
        more = {"lengths": lengths} if role(self.frontend).lengths else {}
        x = to_steps(self.frontend(wave.masked_fill(beyond, 0), **more))
        step_lengths = self.frontend.frames(lengths)
        return _zero_beyond(x, step_lengths), step_lengths

    def decide(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The second half: from steps to logits. x: [T, B, features], lengths: [B] in steps; the tail is appended here."""
        if self.tail:
            x = torch.cat([x, x.new_zeros(self.tail, *x.shape[1:])])
            lengths = None if lengths is None else lengths + self.tail
        y, _ = call(self.network, x, None, lengths, role(self.network))
        logits, _ = self.readout(y, lengths=lengths)
        return logits

    def extra_repr(self) -> str:
        classes = "" if self.labels is None else f", {len(self.labels)} labels"
        return f"sample_rate={self.sample_rate}, tail={self.tail}{classes}"

    def _check_wave(self, wave: Tensor, lengths: Tensor | None) -> None:
        if wave.ndim != 2:
            hint = ": add the batch axis with wave[None]" if wave.ndim == 1 else ""
            raise ValueError(f"Model: wave has shape {tuple(wave.shape)}; [B, samples] is right{hint}")
        if not wave.is_floating_point():
            raise TypeError(f"Model: wave is {wave.dtype}; floating point in -1..1 is right (divide int16 by 32768)")
        check_lengths("Model", lengths, wave.shape[0], wave.shape[1], "samples")
        on_host = wave.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_host and not bool(torch.isfinite(wave).all()):
            bad = (~torch.isfinite(wave)).any(1).nonzero().flatten().tolist()
            raise ValueError(f"Model: wave holds NaN or infinite samples (recordings {bad} of the batch)")
        if lengths is not None and on_host and bool((lengths != wave.shape[1]).any()):
            _refuse_reflection(self.frontend)

    @staticmethod
    def _check_steps(x: Tensor, lengths: Tensor | None) -> None:
        if x.ndim < 3:
            raise ValueError(f"Model: x has shape {tuple(x.shape)}; without a front end [T, B, units] is right")
        check_lengths("Model", lengths, x.shape[1], x.shape[0], "steps")


def _zero_beyond(x: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return x
    return x.masked_fill(~valid_steps(lengths, x.shape[0]).view(*x.shape[:2], *(1,) * (x.ndim - 2)), 0)


def _agreed_rate(frontend: nn.Module | None, sample_rate: float | None) -> float | None:
    own = getattr(frontend, "sample_rate", None)
    if own is not None and sample_rate is not None and own != sample_rate:
        raise ValueError(f"Model: sample_rate={sample_rate} Hz, but the front end was built for {own} Hz")
    return sample_rate if own is None else own


def _refuse_reflection(frontend: nn.Module | None) -> None:
    for part in () if frontend is None else frontend.modules():
        if getattr(part, "center", False) and getattr(part, "pad_mode", "constant") != "constant":
            raise ValueError(
                f"Model: {type(part).__name__} pads by {part.pad_mode!r}, which mirrors the padding of the shorter "
                'recordings into their last frames: build it with pad_mode="constant", or give recordings of one length'
            )
