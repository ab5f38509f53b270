"""Gabor filters: a Gaussian times a complex tone, and their start from a mel filter bank."""

import math

import torch
from torch import Tensor

__all__ = ["gabor_kernels", "gaussian_windows", "mel_gabor"]

_LOG = math.sqrt(2 * math.log(2))  # half the width at half height of a Gaussian with deviation 1


def mel_gabor(
    sample_rate: float, n_filters: int, fmin: float, fmax: float, device: torch.device | None
) -> tuple[Tensor, Tensor]:
    """Centres (radians a sample) and bandwidths (deviation in samples) of filters like those of an HTK mel bank.

    The bank's triangles are straight on the mel scale (as TensorFlow's are), over an FFT of 512, or of so many points
    more that every band has a bin. A centre is the bin with the largest weight, a width counts the bins whose weight
    is at least a quarter of that.
    """
    n_fft = 512
    while True:
        bank = _mel_triangles(sample_rate, n_fft, n_filters, fmin, fmax)
        if bool((bank.amax(1) > 0).all()):
            break
        n_fft *= 2
    device = torch.get_default_device() if device is None else device
    peak = bank.amax(1, keepdim=True)
    width = (bank.sqrt() >= peak.sqrt() / 2).sum(1)
    centre = bank.argmax(1).double() * (2 * math.pi / n_fft)
    return centre.to(device), (_LOG * n_fft / math.pi / width.double()).to(device)


def _mel_triangles(sample_rate: float, n_fft: int, n_filters: int, fmin: float, fmax: float) -> Tensor:
    """[n_filters, n_fft // 2 + 1] in float64, on the CPU: the size depends on the values."""
    hertz = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device="cpu") * (sample_rate / n_fft)
    bins = 2595 * torch.log10(1 + hertz / 700)
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (fmin, fmax))
    edges = torch.linspace(low, high, n_filters + 2, dtype=torch.float64, device="cpu")[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bank = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0)
    bank[:, 0] = 0  # a constant belongs to no band
    return bank


def gabor_kernels(centre: Tensor, bandwidth: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts, [n_filters, kernel_size] each, in the parameters' dtype.

    g(t) = exp(-t^2 / (2 s^2)) exp(i c t) / (s sqrt(2 pi)),  t = -(kernel_size // 2) .. kernel_size // 2

    with c kept in 0 .. pi and s in 4 a / pi .. kernel_size a / pi, a = sqrt(2 ln 2).
    """
    centre = centre.clamp(0, math.pi)[:, None]
    deviation = bandwidth.clamp(4 * _LOG / math.pi, kernel_size * _LOG / math.pi)[:, None]
    half = kernel_size // 2
    time = torch.arange(-half, half + 1, dtype=centre.dtype, device=centre.device)
    envelope = torch.exp(-0.5 * (time / deviation).square()) / (deviation * math.sqrt(2 * math.pi))
    return envelope * torch.cos(centre * time), envelope * torch.sin(centre * time)


def gaussian_windows(width: Tensor, kernel_size: int) -> Tensor:
    """[n_filters, kernel_size]: exp(-t^2 / (2 s^2)), s = width (kernel_size - 1) / 2, width kept in 2 / K .. 1/2."""
    half = kernel_size // 2
    deviation = (width.clamp(2 / kernel_size, 0.5) * max(half, 1))[:, None]
    time = torch.arange(-half, half + 1, dtype=width.dtype, device=width.device)
    return torch.exp(-0.5 * (time / deviation).square())
