"""Powers of spectra and their sums in bands, in plain torch: the specification of every other backend."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..framing import reference as framing

__all__ = ["bands", "bands_backward", "magnitude", "spectra", "spectrogram", "spectrogram_backward"]


def bands(spectra: Tensor, bank: Tensor | None, spans: Tensor | None, power: float, log: float | None) -> Tensor:
    """B[m, t] = sum over k of bank[m, k] |X[t, k]|^power, or its logarithm with an offset; all of the bank is summed."""
    if bank is None:
        return magnitude(spectra, power, log)
    sums = (_power(spectra, power) @ bank.t()).transpose(-1, -2)
    return sums if log is None else torch.log(sums + log)


def magnitude(spectra: Tensor, power: float, log: float | None = None) -> Tensor:
    """|X[t, k]|^power at [k, t]."""
    powers = _power(spectra, power).transpose(-1, -2)
    return powers if log is None else torch.log(powers + log)


def spectrogram(
    wave: Tensor, window: Tensor, bank: Tensor | None, spans: Tensor | None, hop_length: int, left: int, right: int,
    power: float, log: float | None,
) -> Tensor:  # fmt: skip
    """``bands`` of the real FFTs of the frames of a signal, or without a bank ``magnitude``."""
    return bands(spectra(wave, window, hop_length, left, right), bank, spans, power, log)


def spectra(wave: Tensor, window: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    """The real FFTs of the frames of a signal, [..., frames, n_fft // 2 + 1]."""
    frames = framing.frame(wave, window, hop_length, left, right)
    if frames.numel() == 0:  # MKL refuses an empty batch; this one has the shape, and a gradient
        bins = frames[..., : frames.shape[-1] // 2 + 1]
        return torch.complex(bins, bins)
    return torch.fft.rfft(frames)


def bands_backward(grad: Tensor, spectra: Tensor, *arguments: Any) -> Tensor:
    """The gradient for the spectra."""
    return _gradient(bands, grad, spectra, *arguments)


def spectrogram_backward(grad: Tensor, wave: Tensor, *arguments: Any) -> Tensor:
    """The gradient for the wave."""
    return _gradient(spectrogram, grad, wave, *arguments)


def _gradient(function: Callable[..., Tensor], grad: Tensor, x: Tensor, *arguments: Any) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x, *arguments), x, grad)[0]


def _power(spectra: Tensor, power: float) -> Tensor:
    """|X|^power, with gradient 0 where X is 0."""
    if power == 2:
        return spectra.real.square() + spectra.imag.square()
    size = spectra.abs()
    if power == 1:
        return size
    silent = size == 0  # x^p with p < 1 has an infinite slope at 0
    return torch.where(silent, 1.0, size).pow(power).masked_fill(silent, 0.0)
