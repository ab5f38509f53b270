"""Noise under recordings, and recordings of nothing but noise."""

import math
from collections.abc import Sequence

import torch

from .augment import check_generators

__all__ = ["Noise"]

_RANGE = 50.0  # dB between the loudest noise and the softest
_SILENCE = 10 ** (-30 / 20)  # what digital silence counts as: the level of quiet speech


class Noise:
    """Add noise of a random colour and level to each recording.

    y = x + n,  20 log10(rms(x) / rms(n)) uniform in ratio .. ratio + 50 dB

    The spectrum of n falls as 1 / f^a with a uniform in 0 (white) .. 2 (brown). Digital silence counts as a recording at
    -30 dB of full scale, so that it becomes a recording of noise alone.

    Args:
        ratio: signal to noise at the loudest noise, in dB.
    Shape:
        wave: [B, samples]. lengths: [B] in samples. Returns [B, samples], zero beyond the lengths.
    Raises:
        ValueError: a ratio that is not a number, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> noise = Noise(ratio=10.0)
        >>> wave = noise(torch.zeros(3, 8000), torch.tensor([8000, 8000, 50]), generators_for(0, 0, [0, 1, 2]))
        >>> bool((wave[:2].square().mean(1).sqrt() < 0.0101).all()), bool(wave[2, 50:].any())
        (True, False)
    """

    def __init__(self, ratio: float):
        if not math.isfinite(ratio):
            raise ValueError(f"Noise: ratio={ratio} must be a finite number of dB")
        self.ratio = ratio

    def __call__(
        self, wave: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        check_generators("Noise", wave, generators)
        samples = wave.shape[1]
        if not samples or not generators:
            return wave
        draws = torch.stack([torch.rand(2, generator=g) for g in generators])
        power = wave.square().sum(1, keepdim=True) / lengths.to(wave.device).clamp(min=1)[:, None]
        signal = torch.where(power > 0, power.sqrt(), _SILENCE).cpu()
        level = signal * 10 ** (-(self.ratio + _RANGE * draws[:, 1:]) / 20)
        noise = torch.zeros(wave.shape)
        for row, length, steepness, generator in zip(
            noise, lengths.tolist(), draws[:, 0].tolist(), generators, strict=True
        ):
            row[:length] = _coloured(length, steepness, generator)
        noise *= level
        beyond = torch.arange(samples, device=wave.device) >= lengths.to(wave.device)[:, None]
        return (wave + noise.to(wave)).masked_fill(beyond, 0)


def _coloured(samples: int, steepness: float, generator: torch.Generator) -> torch.Tensor:
    """Noise of power 1 whose amplitude falls as 1 / f^steepness. It is a function of its length alone, not of a batch's."""
    period = 1 << max(0, samples - 1).bit_length()  # an FFT of any length would be slow at some
    spectrum = torch.fft.rfft(torch.randn(period, generator=generator))
    frequency = torch.arange(len(spectrum)).clamp(min=1)
    noise = torch.fft.irfft(spectrum * frequency ** (-steepness), n=period)[:samples]
    return noise / noise.square().mean().sqrt().clamp(min=1e-12)
