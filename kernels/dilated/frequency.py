"""Depthwise causal convolutions with very long kernels, as products of spectra of overlapping blocks (overlap-save).

A block of N steps, of which the last L = N - K + 1 are new, gives L outputs: the rest of what the inverse transform returns
has wrapped around. The gradient for the input adds overlapping blocks up; that of the taps is a sum of spectra. Steps of
one phase of the dilation are a sequence of their own.

Sums are rounded relative to the largest number of a block, not of those that a tap meets: within 1e-6 of it in float32,
1e-14 in float64. A number that is not finite would reach its whole block, so the caller then asks the direct form.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["backward", "convolve", "pays"]

_WORK = 1 << 19  # numbers of a piece of the channels: its spectra stay in the caches
# Nanoseconds on one core, measured with 32 to 256 channels, 1,000 to 16,000 steps and 127 to 4,000 taps: a product of the
# direct form; and for each number of a block and its log2 all that is done with it. Below some hundred taps it never pays.
_DIRECT, _DIRECT_DOUBLE, _SPECTRAL, _CALLS = 0.04, 0.5, 1.0, 150_000.0


def pays(x: Tensor, weight: Tensor, history: bool, dilation: int, groups: int) -> bool:
    """The rule: whether the transforms take less time than the products, but those with zeros before the first step.

    Where there are as many steps as taps or more the break-even lies near 500 taps, in float64 near 50.
    """
    (steps, batch, channels), taps = x.shape, weight.shape[2]
    if not weight.shape[0] == channels == groups or steps < 2 or not x.numel():
        return False
    rows, series = -(-steps // dilation), batch * channels * dilation
    early = 0 if history else min(taps, rows)
    products = rows * taps - early * early // 2 - (taps - early) * rows * (not history)
    size, blocks = _blocks(taps if history else early, rows)
    double = x.dtype == torch.float64
    direct = series * products * (_DIRECT_DOUBLE if double else _DIRECT)
    return series * blocks * size * math.log2(size) * _SPECTRAL * (1 + double) + _CALLS < direct


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int) -> Tensor:
    """The convolution, without an activation."""
    (steps, batch, channels), taps = x.shape, weight.shape[2]
    rows = -(-steps // dilation)
    size, blocks = _blocks(taps, rows)
    out = x.new_empty(rows, dilation, batch, channels)
    for some in _pieces(channels, dilation * batch * (blocks + 1) * size):
        spectrum = torch.fft.rfft(weight[some, 0], size).conj().unsqueeze(1)
        of_x = torch.fft.rfft(_windows(x, history, some, taps, dilation, size, blocks))
        y = torch.fft.irfft(of_x.mul_(spectrum), size)[..., : size - taps + 1]
        out[..., some] = y.flatten(3)[..., :rows].permute(3, 0, 1, 2)
    z = out.view(rows * dilation, batch, channels)[:steps]
    return z if bias is None else z.add_(bias)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, history: Tensor | None, dilation: int, for_input: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients for the history and x together [(K - 1) dilation + T, B, C], and for the weight: those that are wanted."""
    (steps, batch, channels), taps = x.shape, weight.shape[2]
    rows, past = -(-steps // dilation), taps - 1
    size, blocks = _blocks(taps, rows)
    new = size - past
    of_all = x.new_empty(past + rows, dilation, batch, channels) if for_input else None
    of_weight = torch.empty_like(weight) if for_weight else None
    for some in _pieces(channels, dilation * batch * (blocks + 1) * size * 2):
        outer = _series(grad, some, dilation, 0, blocks * new).unflatten(3, (blocks, new))
        of_grad = torch.fft.rfft(outer, size)
        if of_weight is not None:
            of_x = torch.fft.rfft(_windows(x, history, some, taps, dilation, size, blocks))
            of_weight[some, 0] = torch.fft.irfft((of_x.mul_(of_grad.conj())).sum((0, 1, 3)), size)[:, :taps]
        if of_all is not None:
            spectrum = torch.fft.rfft(weight[some, 0], size).unsqueeze(1)
            found = torch.fft.irfft(of_grad.mul_(spectrum), size)
            line = x.new_zeros(*found.shape[:3], past + blocks * new)
            for block in range(blocks):
                line[..., block * new : block * new + size] += found[..., block, :]
            of_all[..., some] = line[..., : past + rows].permute(3, 0, 1, 2)
    if of_all is not None:
        of_all = of_all.view(-1, batch, channels)[: past * dilation + steps]
    return of_all, of_weight


def _blocks(taps: int, rows: int) -> tuple[int, int]:
    """The size of a block and how many there are: those of the least work, by sizes that transforms like."""
    whole = taps - 1 + rows
    sizes = [factor << power for factor in (4, 5, 6) for power in range(whole.bit_length())]
    fitting = [size for size in sizes if taps * 4 <= 3 * size and size < 2 * whole] or [1 << whole.bit_length()]
    best = min(fitting, key=lambda size: -(-rows // (size - taps + 1)) * size * math.log2(size))
    return best, -(-rows // (best - taps + 1))


def _pieces(channels: int, each: int) -> Iterator[slice]:
    """Ranges of channels, of which each has so many numbers of work."""
    many = max(1, _WORK // max(1, each))
    for first in range(0, channels, many):
        yield slice(first, min(channels, first + many))


def _windows(
    x: Tensor, history: Tensor | None, some: slice, taps: int, dilation: int, size: int, blocks: int
) -> Tensor:
    """The overlapping blocks [dilation, B, channels, blocks, size] of what the taps meet."""
    past, new = taps - 1, size - taps + 1
    line = _series(x, some, dilation, past, past + blocks * new)
    if history is not None:
        line[..., :past] = history[..., some].unflatten(0, (past, dilation)).permute(1, 2, 3, 0)
    return line.unfold(3, size, new)


def _series(x: Tensor, some: slice, dilation: int, first: int, length: int) -> Tensor:
    """The phases of x by themselves, [dilation, B, channels, length]: from step ``first`` on, zeros around."""
    steps, batch, _ = x.shape
    part = x[..., some]
    if steps % dilation:
        part = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, -steps % dilation))
    rows = part.shape[0] // dilation
    line = x.new_zeros(dilation, batch, part.shape[2], length)
    line[..., first : first + rows] = part.unflatten(0, (rows, dilation)).permute(1, 2, 3, 0)
    return line
