"""Augmentations that change where something was heard: through which microphone, and in which room."""

import math
from collections.abc import Sequence

import torch

from .augment import check_generators

__all__ = ["Equalize", "Reverb"]

_REACH = 0.0125  # seconds to either side that the response of a microphone lasts
_DRY = 0.1  # seconds: a room with a shorter reverberation time is heard as none
_HEARD = 0.4  # of the reverberation time a recording goes on sounding: to -24 dB
_RATIO = (-5.0, 15.0)  # dB between the voice and its room: beyond the critical distance, and near the mouth


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
        heard = _filtered(wave, taps)[:, self.reach : self.reach + wave.shape[1]]
        beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths.to(wave.device)[:, None]
        return heard.masked_fill(beyond, 0)

    def _taps(self, levels: torch.Tensor) -> torch.Tensor:
        """[B, points] in dB -> the filters [B, 2 * reach + 1], symmetric about the middle."""
        left = self._place.long().clamp(max=self.points - 2)
        curve = torch.lerp(levels[:, left], levels[:, left + 1], self._place - left)
        taps = torch.fft.irfft(10 ** (curve / 20))
        taps = torch.cat([taps[:, -self.reach :], taps[:, : self.reach + 1]], dim=1)
        return taps * torch.hann_window(2 * self.reach + 3, periodic=False)[1:-1]


class Reverb:
    """Hear each recording in another room: after the sound itself, noise that dies away.

    y = x + r * x,  r[t] = g n[t] 10^(-3 t / (T rate)),  n white noise,  sum r^2 = 10^(-d / 10)

    T, the reverberation time (in which sound falls by 60 dB), is uniform in 0.1 .. seconds, and d, the ratio of direct to
    reverberant sound, uniform in -5 .. 15 dB. A recording grows longer by 0.4 T, in which its end dies away by 24 dB.

    Args:
        seconds: the longest reverberation time, 0 (no room) or above 0.1 s; 0.3 is a living room, 1 a hall.
        sample_rate: in Hz, > 0.
        share: part of the recordings that are in a room, 0 .. 1.
    Shape:
        wave: [B, samples], zeros beyond lengths. lengths: [B] in samples.
        Returns (wave [B, samples or more], zero beyond the lengths, lengths [B]).
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.
    References:
        Polack 1988: the late part of a room's response is noise that decays exponentially.

    Example:
        >>> from temporal.datasets import generators_for
        >>> click = torch.nn.functional.pad(torch.ones(2, 1), (0, 799))
        >>> heard, lengths = Reverb(0.5, 8000)(click, torch.tensor([800, 800]), generators_for(0, 0, [0, 1]))
        >>> bool((heard[:, 0] == 1).all()), bool((heard[:, 1:].abs().sum(1) > 0).all()), bool((lengths > 800).all())
        (True, True, True)
    """

    def __init__(self, seconds: float, sample_rate: float, share: float = 1.0):
        for name, value, good, right in (
            ("seconds", seconds, seconds == 0 or _DRY < seconds < math.inf, f"0, or above {_DRY}"),
            ("sample_rate", sample_rate, 0 < sample_rate < math.inf, "above 0 Hz"),
            ("share", share, 0 <= share <= 1, "from 0 to 1"),
        ):
            if not good:
                raise ValueError(f"Reverb: {name}={value} must be {right}")
        self.seconds, self.sample_rate, self.share = seconds, sample_rate, share

    def __call__(
        self, wave: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        check_generators("Reverb", wave, generators)
        if not self.seconds or not self.share or not wave.numel():
            return wave, lengths
        inside, last, ratio = torch.stack([torch.rand(3, generator=g) for g in generators]).unbind(1)
        last = _DRY + (self.seconds - _DRY) * last
        ratio = _RATIO[0] + (_RATIO[1] - _RATIO[0]) * ratio
        indoors = inside < self.share
        response = self._responses(last, ratio, generators) * indoors[:, None]
        longer = lengths + (indoors * last * (_HEARD * self.sample_rate)).long().to(lengths.device)
        width = max(int(longer.max()), wave.shape[1])
        heard = _filtered(wave, response.to(wave))[:, :width]
        heard[:, : wave.shape[1]] += wave
        beyond = torch.arange(width, device=wave.device) >= longer[:, None]
        return heard.masked_fill(beyond, 0), longer

    def _responses(
        self, last: torch.Tensor, ratio: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        """[B, samples]: what the rooms add to a click."""
        times = torch.arange(round(self.seconds * self.sample_rate)) / self.sample_rate
        noise = torch.stack([torch.randn(len(times), generator=g) for g in generators])
        noise *= 10 ** (-3 * times / last[:, None])
        noise[:, 0] = 0  # the sound itself
        return noise * (10 ** (-ratio / 20) / noise.norm(dim=1))[:, None]


def _filtered(wave: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Row by row, the whole convolution: [B, samples + taps - 1], and what an FFT of a fast length adds in zeros."""
    size = _fast(wave.shape[1] + taps.shape[1] - 1)
    return torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(taps, size), size)


def _fast(size: int) -> int:
    """A length of at least ``size`` whose FFT is fast: a power of two, or three quarters of one."""
    power = 1 << max(2, (size - 1).bit_length())
    return power * 3 // 4 if size <= power * 3 // 4 else power
