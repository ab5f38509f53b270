"""Lower rates from one long FFT of the whole signal.

The FFT is as long as the signal with zeros around it, rounded up to hops, and in eager mode to a number of hops without
large factors. The constants depend on the hop only, so any length is served by the same kernels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._framing import take
from ._plan import Decimator

__all__ = ["decimate", "good_size"]


def decimate(padded: Tensor, hop: int, decimators: Sequence[Decimator]) -> tuple[Tensor, ...]:
    """[..., hops * hop] -> for each decimator [..., hops * kept], times the samples that one of them stands for.

    The signal is taken as periodic: it must have as many zeros at its ends as the decimators' support.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or not padded.requires_grad:
        return _decimate(padded, hop, decimators)
    return _Decimate.apply(padded, hop, decimators)


def good_size(hops: int) -> int:
    """At least so many, without prime factors above 13."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():  # the number may be a symbol
        return hops
    while True:
        left = hops
        for factor in (2, 3, 5, 7, 11, 13):
            while left % factor == 0:
                left //= factor
        if left == 1:
            return hops
        hops += 1


def _decimate(padded: Tensor, hop: int, decimators: Sequence[Decimator]) -> tuple[Tensor, ...]:
    hops = padded.shape[-1] // hop
    if padded.numel() == 0:  # an empty batch, which MKL refuses; these have the shape, and a gradient
        return tuple(padded[..., : hops * decimator.kept].clone() for decimator in decimators)
    spectrum = torch.fft.rfft(padded)
    signals = []
    for decimator in decimators:
        length = hops * decimator.kept
        low = take(spectrum, 0, length // 2 + 1)
        signals.append(torch.fft.irfft(low * _response(decimator, hops, padded), length))
    return tuple(signals)


class _Decimate(torch.autograd.Function):
    """`_decimate` with one real FFT backward, where torch would take a complex one of twice the size for each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(padded: Tensor, hop: int, decimators: Sequence[Decimator]) -> tuple[Tensor, ...]:
        return _decimate(padded, hop, decimators)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        padded, ctx.hop, ctx.decimators = inputs
        ctx.hops = padded.shape[-1] // ctx.hop

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        length = ctx.hops * ctx.hop
        like = grads[0]
        if like.numel() == 0:
            return like.new_zeros((*like.shape[:-1], length)), None, None
        parts = []
        for decimator, grad in zip(ctx.decimators, grads, strict=True):
            spectrum = torch.fft.rfft(grad) * (_response(decimator, ctx.hops, grad) * (length / grad.shape[-1]))
            if grad.shape[-1] % 2 == 0:  # its last bin stands for two of the longer spectrum
                spectrum = torch.cat((spectrum[..., :-1], spectrum[..., -1:] / 2), -1)
            parts.append(spectrum)
        total = parts[0]
        for part in parts[1:]:
            shorter, longer = sorted((total, part), key=lambda s: s.shape[-1])
            total = torch.cat((longer[..., : shorter.shape[-1]] + shorter, longer[..., shorter.shape[-1] :]), -1)
        return torch.fft.irfft(total, length), None, None


def _response(decimator: Decimator, hops: int, like: Tensor) -> Tensor:
    """The low pass at the bins of the long FFT that the lower rate keeps."""
    bins = torch.arange(hops * decimator.kept // 2 + 1, dtype=like.dtype, device=like.device)
    frequency = bins / (hops * decimator.hop)
    return 0.5 * torch.erfc((frequency - decimator.centre) / (decimator.deviation * math.sqrt(2)))
