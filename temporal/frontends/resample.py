"""Change of the sample rate by any ratio of whole numbers, whole or as a stream."""

import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ._arguments import check_trainable, choice, positive_int, read_waveform
from ._constants import DerivedConstants
from ._framing import Count, check_continues, check_count, in_a_row, windows
from ._precision import full_precision
from ._stage import FrontEnd

__all__ = ["Resample"]


class _Quality(NamedTuple):
    passband: float  # kept, up to this fraction of the lower rate's Nyquist frequency
    attenuation: float  # dB, from that Nyquist frequency on


# Kaiser's estimate of the attenuation falls some dB short, and the filter's phases are rounded apart: 8 dB in hand.
_QUALITIES = {"fast": _Quality(0.8, 80), "high": _Quality(0.913, 120), "best": _Quality(0.95, 160)}
_GROUP = 32  # outputs that share one matrix product
_LARGEST = 1 << 16  # the reduced new rate: its filters would fill more than 100 MB beyond


class ResampleState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    samples: Tensor  # [..., k]: from the first input of the block that holds the next output on
    given: int  # outputs that have left
    read: int  # samples so far


class Resample(DerivedConstants, FrontEnd):
    """Resampling with a band-limited filter: a windowed sinc, one phase of it for each output of a period.

    y[n] = sum_m x[m] h(n orig_rate / new_rate - m),  h(t) = c sinc(c t) kaiser(t / K),  |t| < K

    Output n lies at the time n / new_rate: the filter's delay is compensated. c is the cutoff, in the middle of the
    transition that ends at the Nyquist frequency of the lower rate. Each phase of h is scaled to a sum of 1, so that a
    constant stays what it is. Beyond its ends the signal is zero. Filters are built in float64.

    Args:
        orig_rate, new_rate: in Hz, whole numbers >= 1; only their ratio counts, reduced to at most 65,536 outputs a period.
        quality: "fast" keeps 80 % of the band and has 80 dB of attenuation from the lower Nyquist frequency on, "high"
            91.3 % and 120 dB, as soxr's HQ, "best" 95 % and 160 dB (of use in float64).
        trainable: names of what learns: ("filters",) makes the filter's phases the parameter `filters`, [groups, outputs of
            a group, samples that they see], which starts as h. Nothing keeps the phases of one filter together then.
    Shape:
        wave: [..., samples], any leading dimensions.  Returns [..., ceil(samples * new_rate / orig_rate)].
        On a stream, output n leaves when `n * hop_length + latency` samples have been read; `hop_length` is
        `orig_rate / new_rate`, an int or a `fractions.Fraction`, `latency` half the filter, in samples of the input.
    Raises:
        TypeError: the waveform is not a floating point tensor; a rate that is no whole number.
        ValueError: a rate < 1, an unknown quality, a ratio of larger numbers than 65,536.
    References:
        `soxr.resample` (HQ) and `torchaudio.transforms.Resample` for the same task; Kaiser 1974 for the window.
    Example:
        >>> import torch, temporal
        >>> half = temporal.frontends.Resample(16000, 8000)
        >>> half(torch.randn(2, 16001)).shape, half.hop_length
        (torch.Size([2, 8001]), 2)
        >>> mel = temporal.frontends.MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=20)
        >>> chain = temporal.frontends.Chain(half, mel)
        >>> chain(torch.randn(16000)).shape, chain.hop_length, chain.sample_rate
        (torch.Size([20, 101]), 160, 16000)
    """

    gives = "samples"
    pad_mode = "constant"
    filters: Tensor  # [groups, outputs of a group, samples that they see]

    def __init__(
        self,
        orig_rate: int,
        new_rate: int,
        *,
        quality: Literal["fast", "high", "best"] = "high",
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.sample_rate = self.orig_rate = _whole_rate("orig_rate", orig_rate)
        self.new_rate = _whole_rate("new_rate", new_rate)
        self.quality = choice("Resample", "quality", quality, _QUALITIES)
        self.trainable = check_trainable("Resample", trainable, ("filters",))
        self._step = Fraction(self.orig_rate, self.new_rate)
        if self._step.denominator > _LARGEST:
            near = self._step.limit_denominator(_LARGEST)
            raise ValueError(
                f"Resample: orig_rate={orig_rate} Hz and new_rate={new_rate} Hz reduce to {self._step}, too many phases; "
                f"give rates whose ratio has at most {_LARGEST} below, such as {near}"
            )
        self.hop_length: Any = self._step.numerator if self._step.denominator == 1 else self._step
        # A block: whole periods, of enough outputs for a matrix product.
        periods = -(-_GROUP // self._step.denominator)
        self._inputs, self._outputs = periods * self._step.numerator, periods * self._step.denominator
        self._reach = self._half_width()
        self._groups = -(-self._outputs // _GROUP)
        self._span = 2 * self._reach + math.ceil((min(_GROUP, self._outputs) - 1) * self._step)
        self.latency = self._reach + 1
        self._register_constants("filters", trainable=self.trainable)

    def extra_repr(self) -> str:
        return f"{self.orig_rate}, {self.new_rate}, quality={self.quality!r}, trainable={self.trainable}"

    def frames(self, samples: Count) -> Count:
        """The exact number of outputs that so many samples give; an int, or an integer tensor of any shape."""
        return self._count(check_count("Resample", samples))

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., ceil(samples * new_rate / orig_rate)]."""
        wave = read_waveform("Resample", wave)
        count = self._count(wave.shape[-1])
        return self._blocks(torch.nn.functional.pad(wave, (self._reach - 1, 0)), 0, count) if count else wave

    def stream(self, chunk: Tensor, state: ResampleState | None = None) -> tuple[Tensor, ResampleState]:
        """The outputs that are complete now, and the samples that later ones reach back to."""
        chunk = read_waveform("Resample", chunk)
        if state is None:
            state = ResampleState(chunk.new_zeros((*chunk.shape[:-1], self._reach - 1)), 0, 0)
        check_continues("Resample", state.samples, chunk)
        read = state.read + chunk.shape[-1]
        state = state._replace(samples=torch.cat((state.samples, chunk), -1), read=read)
        ahead = read - self.latency
        return self._advance(state, 0 if ahead < 0 else ahead * self._step.denominator // self._step.numerator + 1)

    def flush(self, state: ResampleState | None) -> tuple[Tensor, None]:
        """The last outputs, whose filters reach beyond the end of the signal."""
        if state is None:
            raise ValueError("Resample: flush needs the state that stream returned; nothing has been streamed yet")
        return self._advance(state, self._count(state.read))[0], None

    def _count(self, samples: Count) -> Count:
        """ceil(samples * new_rate / orig_rate)."""
        total = samples * self._step.denominator + self._step.numerator - 1
        if isinstance(total, Tensor):
            return torch.div(total, self._step.numerator, rounding_mode="floor")
        return total // self._step.numerator

    def _advance(self, state: ResampleState, total: int) -> tuple[Tensor, ResampleState]:
        """Outputs up to number `total`."""
        first, offset = divmod(state.given, self._outputs)
        count = total - state.given
        if count <= 0:
            return state.samples[..., :0], state
        out = self._blocks(state.samples, offset, count)
        drop = (total // self._outputs - first) * self._inputs
        # A copy, because a view would keep the whole chunk alive.
        return out, state._replace(samples=state.samples[..., drop:].clone(), given=total)

    def _blocks(self, samples: Tensor, offset: int, count: int) -> Tensor:
        """Outputs from `offset` on, where samples[..., reach - 1] is the input at the time of output 0."""
        blocks = (offset + count + self._outputs - 1) // self._outputs
        groups = range(self._groups)
        # A stream's chunk may need a small part of a long block only.
        if not torch.compiler.is_exporting() and blocks == 1:
            groups = range(offset // _GROUP, (offset + count - 1) // _GROUP + 1)
        offset -= groups.start * _GROUP
        starts = [int(group * _GROUP * self._step) for group in groups]
        # Enough for the last block, whatever its place: a length that does not depend on the signal's can be exported.
        samples = torch.nn.functional.pad(samples, (0, starts[-1] + self._span))
        filters = self._constant("filters", samples.dtype)
        with full_precision(samples):
            parts = [
                windows(samples, start, blocks, self._span, self._inputs) @ filters[group].t()
                for group, start in zip(groups, starts, strict=True)
            ]
        out = torch.cat(parts, -1)[..., : self._outputs]
        return in_a_row(out, offset, count)

    def _half_width(self) -> int:
        """Of the filter, in samples of the input."""
        if self._step == 1:
            return 1  # a filter of one sample: the signal itself
        passband, attenuation = _QUALITIES[self.quality]
        return math.ceil((attenuation - 8) / (2.285 * math.pi * (1 - passband)) / 2 * max(1.0, float(self._step)))

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        passband, attenuation = _QUALITIES[self.quality]
        cutoff = 1.0 if self._step == 1 else (1 + passband) / 2 * min(1.0, float(1 / self._step))
        # In whole numbers, because the phase of output 10^6 would be rounded otherwise: time is counted in 1 / new_rate.
        unit = self._step.denominator
        output = torch.arange(self._groups * _GROUP, device=device).view(self._groups, _GROUP)
        time = output * self._step.numerator
        start = torch.div(time[:, :1], unit, rounding_mode="floor") - self._reach + 1
        inputs = start.unsqueeze(-1) + torch.arange(self._span, device=device)
        distance = (inputs * unit - time.unsqueeze(-1)).double() / unit
        inside = (inputs - torch.div(time, unit, rounding_mode="floor").unsqueeze(-1)).sub(0.5).abs() < self._reach
        shape = (1 - (distance / self._reach).square()).clamp_min(0).sqrt()
        beta = 0.1102 * (attenuation - 8.7)
        filters = torch.sinc(cutoff * distance) * torch.special.i0(beta * shape) * inside
        return filters / filters.sum(-1, keepdim=True)


def _whole_rate(name: str, rate: float) -> int:
    if isinstance(rate, float) and rate.is_integer():
        rate = int(rate)
    return positive_int("Resample", name, rate, "Hz")
