"""Augmentations that change how something was said and heard, not what: tempo, size of the voice, level, microphone."""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample

from .augment import check_generators

__all__ = ["Equalize", "Gain", "Stretch"]

_REACH = 0.0125  # seconds to either side that the response of a microphone lasts


class Stretch:
    """Change the tempo and the voice of each recording, by stretching its frames in time and over the bins.

    y[k, t] = x[k * p, t * s],  with bilinear interpolation;  ln s uniform in +-ln(1 + speed), ln p in +-ln(1 + pitch)

    On frames with logarithmically spaced bins a stretch of the bins moves the formants of a voice, as another vocal tract
    would. A bin beyond the last repeats the last.

    Args:
        speed: largest change of tempo, >= 0: 0.1 is 10 % faster or slower. The number of frames changes with it.
        pitch: largest stretch over the bins, >= 0.
    Shape:
        frames: [B, bins, frames]. lengths: [B] valid frames, each >= 1.
        Returns (frames [B, bins, most frames], zero beyond the lengths, lengths [B]).
    Raises:
        ValueError: a negative argument, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> stretch = Stretch(speed=0.2, pitch=0.1)
        >>> frames, lengths = stretch(torch.rand(2, 40, 50), torch.tensor([50, 30]), generators_for(0, 3, [10, 11]))
        >>> frames.shape[:2], frames.shape[2] == lengths.max()
        (torch.Size([2, 40]), tensor(True))
    """

    def __init__(self, speed: float, pitch: float = 0.0):
        for name, value in (("speed", speed), ("pitch", pitch)):
            if not value >= 0:
                raise ValueError(f"Stretch: {name}={value} must be at least 0")
        self.speed, self.pitch = speed, pitch

    def __call__(
        self, frames: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        check_generators("Stretch", frames, generators)
        draws = torch.stack([torch.rand(2, generator=g) for g in generators]).to(frames) * 2 - 1  # [B, 2] in -1..1
        faster = torch.exp(draws[:, 0] * math.log1p(self.speed))
        higher = torch.exp(draws[:, 1] * math.log1p(self.pitch))
        new = (lengths / faster).round().long().clamp(min=1)
        bins, most = frames.shape[1], int(new.max())
        # grid_sample wants positions in -1..1 between the centres of the first and the last element.
        at_time = torch.arange(most, device=frames.device) * faster[:, None]
        at_time = torch.minimum(at_time, (lengths - 1)[:, None])
        at_bin = torch.arange(bins, device=frames.device) * higher[:, None]
        grid = torch.stack(
            torch.broadcast_tensors(
                (at_time * (2 / max(1, frames.shape[2] - 1)) - 1)[:, None, :],
                (at_bin * (2 / max(1, bins - 1)) - 1)[:, :, None],
            ),
            dim=-1,
        )
        out = grid_sample(frames[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
        beyond = torch.arange(most, device=frames.device) >= new[:, None]
        return out.masked_fill(beyond[:, None, :], 0), new


class Gain:
    """Make each recording louder or softer.

    y = x * 10^(g / 20),  g uniform in +-decibels

    Args:
        decibels: largest change of level, in dB, >= 0.
    Shape:
        wave: [B, samples].  Returns the same shape.
    Raises:
        ValueError: a negative argument, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> wave = Gain(6.0)(torch.ones(3, 4), generators_for(0, 0, [0, 1, 2]))
        >>> bool(((wave > 0.5) & (wave < 2)).all())
        True
    """

    def __init__(self, decibels: float):
        if not decibels >= 0:
            raise ValueError(f"Gain: decibels={decibels} must be at least 0")
        self.decibels = decibels

    def __call__(self, wave: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        check_generators("Gain", wave, generators)
        draws = torch.stack([torch.rand(1, generator=g) for g in generators]).to(wave) * 2 - 1
        return wave * 10 ** (draws * (self.decibels / 20))


class Equalize:
    """Hear each recording through another microphone: a filter whose response is a smooth random curve.

    Y(f) = X(f) * 10^(c(f) / 20),  c linear in mel(f) between points, uniform in +-decibels at each of them

    The points lie at equal distances on the (HTK) mel scale, from 0 to half of the sample rate. The filter has no delay and
    is 25 ms long: what happens to a recording does not depend on how long the others of its batch are.

    Args:
        decibels: largest change of level at a frequency, in dB, >= 0.
        sample_rate: in Hz, > 0.
        points: how many, >= 2: 2 are a tilt, more are bumps, too.
    Shape:
        wave: [B, samples]. lengths: [B] in samples. Returns [B, samples], zero beyond the lengths.
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> click = torch.nn.functional.pad(torch.ones(2, 1), (400, 399))
        >>> heard = Equalize(6.0, 8000)(click, torch.tensor([800, 800]), generators_for(0, 0, [0, 1]))
        >>> level = 20 * torch.fft.rfft(heard).abs().log10()
        >>> heard.shape, bool((level.abs() < 6.5).all()), bool(level.std(1).min() > 0.5)
        (torch.Size([2, 800]), True, True)
    """

    def __init__(self, decibels: float, sample_rate: float, points: int = 5):
        for name, value, good, right in (
            ("decibels", decibels, 0 <= decibels < math.inf, "at least 0"),
            ("sample_rate", sample_rate, 0 < sample_rate < math.inf, "above 0 Hz"),
            ("points", points, points >= 2, "at least 2"),
        ):
            if not good:
                raise ValueError(f"Equalize: {name}={value} must be {right}")
        self.decibels, self.sample_rate, self.points = decibels, sample_rate, points
        self.reach = max(1, round(_REACH * sample_rate))
        grid = torch.linspace(0, sample_rate / 2, 8 * self.reach + 1)
        self._place = (1 + grid / 700).log() / math.log1p(sample_rate / 1400) * (points - 1)  # in points from the first

    def __call__(
        self, wave: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        check_generators("Equalize", wave, generators)
        if not self.decibels or not wave.numel():
            return wave
        draws = torch.stack([torch.rand(self.points, generator=g) for g in generators]) * 2 - 1
        taps = self._taps(draws * self.decibels).to(wave)
        size = _fast(wave.shape[1] + 2 * self.reach)
        heard = torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(taps, size), size)
        heard = heard[:, self.reach : self.reach + wave.shape[1]]
        beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths.to(wave.device)[:, None]
        return heard.masked_fill(beyond, 0)

    def _taps(self, levels: torch.Tensor) -> torch.Tensor:
        """[B, points] in dB -> the filters [B, 2 * reach + 1], symmetric about the middle."""
        left = self._place.long().clamp(max=self.points - 2)
        curve = torch.lerp(levels[:, left], levels[:, left + 1], self._place - left)
        taps = torch.fft.irfft(10 ** (curve / 20))
        taps = torch.cat([taps[:, -self.reach :], taps[:, : self.reach + 1]], dim=1)
        return taps * torch.hann_window(2 * self.reach + 3, periodic=False)[1:-1]


def _fast(size: int) -> int:
    """A length of at least ``size`` whose FFT is fast: a power of two, or three quarters of one."""
    power = 1 << max(2, (size - 1).bit_length())
    return power * 3 // 4 if size <= power * 3 // 4 else power
