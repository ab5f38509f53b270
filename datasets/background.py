"""Recorded noise under recordings: dishes, a tap, a street."""

import math
from collections.abc import Sequence

import torch

from .augment import check_generators

__all__ = ["BackgroundNoise"]

_SILENCE = 10 ** (-30 / 20)  # what digital silence counts as, as in Noise


class BackgroundNoise:
    """Mix a random excerpt of recorded noise into each recording, at a stated ratio.

    y = x + g * n,  20 log10(rms(x) / rms(g * n)) uniform in ratio[0] .. ratio[1] dB

    Levels are those of the whole recording and of the excerpt. Digital silence counts as a recording at -30 dB of full
    scale, so that it becomes noise alone; an excerpt of digital silence adds nothing. Noise that is shorter than a
    recording is repeated.

    Args:
        noises: recordings of noise, each [samples], at the rate of the recordings; ``SpeechCommands.background``.
        ratio: signal to noise in dB: lowest and highest, or one number for both.
        share: of the recordings get any, 0 .. 1.
    Shape:
        wave: [B, samples]. lengths: [B] in samples. Returns [B, samples], zero beyond the lengths.
    Raises:
        ValueError: no noise, a ratio that is not finite or the wrong way round, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> mix = BackgroundNoise([torch.randn(1000)], ratio=10.0, share=1.0)
        >>> wave = torch.ones(2, 400)
        >>> noisy = mix(wave, torch.tensor([400, 400]), generators_for(0, 0, [5, 6]))
        >>> ((noisy - wave).square().mean(1).sqrt() * 10 ** (10 / 20)).round(decimals=3)
        tensor([1., 1.])
    """

    def __init__(
        self, noises: Sequence[torch.Tensor], ratio: float | tuple[float, float] = (0.0, 20.0), share: float = 0.8
    ):
        low, high = ratio if isinstance(ratio, (tuple, list)) else (ratio, ratio)
        if not noises or any(noise.dim() != 1 or not len(noise) for noise in noises):
            raise ValueError("BackgroundNoise: noises must be one recording [samples] at least, none of them empty")
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"BackgroundNoise: ratio={ratio} must be finite, the lowest first, in dB")
        if not 0 <= share <= 1:
            raise ValueError(f"BackgroundNoise: share={share} must be from 0 to 1")
        self.noises, self.ratio, self.share = list(noises), (float(low), float(high)), share

    def __call__(
        self, wave: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        check_generators("BackgroundNoise", wave, generators)
        mixed = wave.clone()
        low, high = self.ratio
        for row, length, generator in zip(mixed, lengths.tolist(), generators, strict=True):
            # All four are drawn in any case: what is drawn next from this generator must not depend on the first.
            chance, which, place, at = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            row[length:] = 0
            if chance >= self.share or not length:
                continue
            noise = excerpt(self.noises[int(which * len(self.noises))], length, place).to(row)
            signal = row[:length].square().mean().sqrt()
            signal = torch.where(signal > 0, signal, torch.full_like(signal, _SILENCE))
            level = noise.square().mean().sqrt()
            gain = signal * 10 ** (-(low + (high - low) * at) / 20) / level.clamp(min=1e-12)
            row[:length] += noise * torch.where(level > 0, gain, torch.zeros_like(gain))
        return mixed


def excerpt(noise: torch.Tensor, samples: int, place: float) -> torch.Tensor:
    """So many samples of noise from a place (0 to 1, exclusive) on; noise that is too short is repeated."""
    if len(noise) < samples:
        noise = noise.repeat(-(-samples // len(noise)) + 1)
    first = int(place * (len(noise) - samples + 1))
    return noise[first : first + samples]
