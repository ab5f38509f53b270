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
        white = torch.stack([torch.randn(samples, generator=g) for g in generators])
        frequency = torch.arange(samples // 2 + 1).clamp(min=1)
        spectrum = torch.fft.rfft(white) * frequency ** (-draws[:, :1])  # amplitude 1 / f^(a / 2), a = 2 * draw
        noise = torch.fft.irfft(spectrum, n=samples)
        power = wave.square().sum(1, keepdim=True) / lengths.to(wave.device).clamp(min=1)[:, None]
        signal = torch.where(power > 0, power.sqrt(), _SILENCE).cpu()
        level = signal * 10 ** (-(self.ratio + _RANGE * draws[:, 1:]) / 20)
        noise *= level / noise.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
        beyond = torch.arange(samples, device=wave.device) >= lengths.to(wave.device)[:, None]
        return (wave + noise.to(wave)).masked_fill(beyond, 0)
