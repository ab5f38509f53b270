"""Bins of a spectrum at other frequencies than the FFT's."""

import math

import torch
from torch import Tensor

from ._arguments import real
from ._bands import check_range
from .mel import mel_frequencies

__all__ = ["FREQUENCY_SCALES", "bin_frequencies", "bins_that_fit", "check_scale_range"]

FREQUENCY_SCALES = ("linear", "log", "log2", "mel")


def bin_frequencies(
    scale: str, n_bins: int, fmin: float, fmax: float, bins_per_octave: int, device: torch.device | None
) -> Tensor:
    """In Hz, float64: even on the scale from `fmin` to `fmax`, or so many an octave from `fmin` on."""
    if scale == "mel":
        return mel_frequencies(n_bins, fmin, fmax, device=device)
    step = torch.arange(n_bins, dtype=torch.float64, device=device)
    if scale == "log2":
        return fmin * 2 ** (step / bins_per_octave)
    part = step / max(1, n_bins - 1)
    return fmin + (fmax - fmin) * part if scale == "linear" else fmin * (fmax / fmin) ** part


def bins_that_fit(fmin: float, fmax: float, bins_per_octave: int) -> int:
    """How many of the frequencies `fmin * 2 ** (j / bins_per_octave)` are at most `fmax`."""
    return 1 + max(0, math.floor(bins_per_octave * math.log2(fmax / fmin) + 1e-9))


def check_scale_range(
    owner: str, scale: str, sample_rate: float, n_fft: int, fmin: float | None, fmax: float | None
) -> tuple[float, float]:
    """(fmin, fmax) in Hz, with the scale's own lowest frequency by default."""
    logarithmic = scale in ("log", "log2")
    if fmin is None:
        fmin = sample_rate / n_fft if logarithmic else 0.0
    if logarithmic:
        real(owner, "fmin", fmin, above=0, unit="Hz")
    return check_range(owner, sample_rate, fmin, fmax)
