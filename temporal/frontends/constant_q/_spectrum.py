"""Lower rates from one long FFT of the whole signal."""

import math

import torch
from torch import Tensor

from ._plan import Decimator

__all__ = ["LongSpectrum"]


class LongSpectrum:
    """The real FFT of a signal with zeros around it, from which any decimator's output is an inverse FFT.

    Constants depend on the hop only, never on the signal's length; that is rounded up to hops, and in eager mode to a
    number of hops without large factors.
    """

    def __init__(self, wave: Tensor, hop: int, support: int, ahead: int = 0) -> None:
        # The wave begins `ahead` samples early; time 0 lies `lead` hops after the beginning of the zeros before it.
        self.lead = -(-(support + ahead) // hop)
        before, samples = self.lead * hop - ahead, wave.shape[-1]
        self.hops = _good_size((before + samples + support) // hop + 1)
        self.hop = hop
        self.padded = torch.nn.functional.pad(wave, (before, self.hops * hop - before - samples))
        self.values = torch.fft.rfft(self.padded) if self.padded.numel() else None

    def decimated(self, decimator: Decimator) -> Tensor:
        """The signal at the lower rate, times the number of samples that one stands for; from `lead` hops early on."""
        length = self.hops * decimator.kept
        if self.values is None:  # an empty batch, which MKL refuses; this one has the shape, and a gradient
            return self.padded[..., :length]
        low = self.values[..., : length // 2 + 1]
        return torch.fft.irfft(low * self._response(decimator, low), length)

    def _response(self, decimator: Decimator, low: Tensor) -> Tensor:
        bins = torch.arange(low.shape[-1], dtype=low.real.dtype, device=low.device)
        frequency = bins / (self.hops * self.hop)
        return 0.5 * torch.erfc((frequency - decimator.centre) / (decimator.deviation * math.sqrt(2)))


def _good_size(hops: int) -> int:
    """At least so many, without prime factors above 5."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():  # the number may be a symbol
        return hops
    while True:
        left = hops
        for factor in (2, 3, 5):
            while left % factor == 0:
                left //= factor
        if left == 1:
            return hops
        hops += 1
