"""Lower rates from one long FFT of the whole signal.

The FFT is as long as the signal with zeros around it, rounded up to hops, and in eager mode to a number of hops without
large factors. The constants depend on the hop only, so any length is served by the same kernels.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .._framing import take
from ._plan import Decimator

__all__ = ["decimate", "good_size"]

_SHORT = 1 << 16  # bins of a response that is kept: all of them together take 8 MB


def decimate(padded: Tensor, hop: int, decimators: Sequence[Decimator]) -> tuple[Tensor, ...]:
    """[..., hops * hop] -> for each decimator [..., hops * kept], times the samples that one of them stands for.

    The signal is taken as periodic: it must have as many zeros at its ends as the decimators' support. What a decimator
    leaves beyond the lower Nyquist frequency is folded back, as by a filter in time.
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
        low = _lower if torch.compiler.is_exporting() else _low
        signals.append(torch.fft.irfft(low(spectrum, decimator, hops, padded), length))
    return tuple(signals)


def _low(spectrum: Tensor, decimator: Decimator, hops: int, like: Tensor) -> Tensor:
    """The lower rate's spectrum: its bin k is also the complex conjugate of bin `length - k`."""
    length, last = hops * decimator.kept, hops * decimator.edge // 2
    low = spectrum[..., : last + 1] * _responses(decimator, last, hops, like)
    if decimator.edge < decimator.kept:
        return low
    half = length // 2
    low[..., length - last : half + 1] += low[..., length - half :].flip(-1).conj()
    return low[..., : half + 1]


def _lower(spectrum: Tensor, decimator: Decimator, hops: int, like: Tensor) -> Tensor:
    """`_low` with all bins folded, those beyond the edge too, so that no size depends on another for an exporter."""
    length, last = hops * decimator.kept, hops * decimator.hop // 2
    bins = torch.arange(length // 2 + 1, device=like.device)
    folded = length - bins
    low = take(spectrum, 0, length // 2 + 1) * _response(decimator, bins, hops, like)
    mirrored = spectrum.index_select(-1, folded.clamp_max(last)) * _response(decimator, folded, hops, like)
    return low + mirrored.conj() if decimator.edge >= decimator.kept else low


def _unfolded(spectrum: Tensor, length: int, last: int) -> Tensor:
    """The bins 0 .. `last` of a signal of `length` samples, of which the FFT gave half."""
    half = length // 2
    if last <= half:
        return spectrum[..., : last + 1]
    return torch.cat((spectrum, spectrum[..., length - last : length - half].flip(-1).conj()), -1)


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
            last = ctx.hops * decimator.edge // 2
            response = _responses(decimator, last, ctx.hops, grad)
            spectrum = _unfolded(torch.fft.rfft(grad), grad.shape[-1], last)
            parts.append(spectrum * (response * (length / grad.shape[-1])))
        total, *shorter = sorted(parts, key=lambda part: part.shape[-1], reverse=True)
        for part in shorter:
            total[..., : part.shape[-1]] += part
        return torch.fft.irfft(total, length), None, None


def _response(decimator: Decimator, bins: Tensor, hops: int, like: Tensor) -> Tensor:
    """The low pass at bins of the long FFT."""
    frequency = bins.to(like.dtype) / (hops * decimator.hop)
    return 0.5 * torch.erfc((frequency - decimator.centre) / (decimator.deviation * math.sqrt(2)))


def _responses(decimator: Decimator, last: int, hops: int, like: Tensor) -> Tensor:
    """The low pass at bins 0 .. `last`, kept from call to call where that is possible and short."""
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if traced or type(like) is not Tensor or last >= _SHORT:
        return _response(decimator, torch.arange(last + 1, device=like.device), hops, like)
    return _kept(decimator, last, hops, like.dtype, like.device)


@lru_cache(maxsize=32)
def _kept(decimator: Decimator, last: int, hops: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or no graph could hold it later
        like = torch.empty(0, dtype=dtype, device=device)
        return _response(decimator, torch.arange(last + 1, device=device), hops, like)
