"""The inner products of the octaves' filters with a signal, wherever a frame's window lies."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from temporal.kernels.framing import overlap_add

from .._framing import take, windows

__all__ = ["Part", "convolve", "correlate", "product", "reflect"]

_SUM = 512  # samples: a sum of sums rounds less than one over a long filter


class Part(NamedTuple):
    """Where an octave's windows lie."""

    signal: int  # which of the signals: octaves at one rate share one
    start: int  # of the first window, in the signal's samples; may lie before its first
    hop: int


def correlate(signals: Sequence[Tensor], bases: Sequence[Tensor], parts: Sequence[Part], frames: int) -> Tensor:
    """Signals [..., samples] and for each part a basis [filters, size] -> [..., frames, filters of all parts].

    y[t, f] = sum_n signal[start + t * hop + n] basis[f, n], with zeros before and after the signal
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        each = zip(parts, bases, strict=True)
        return torch.cat([product(_windows(signals[p.signal], b.shape[-1], p, frames), b) for p, b in each], -1)
    return _Correlate.apply(tuple(parts), frames, *signals, *bases)


def convolve(signal: Tensor, basis: Tensor, start: int, hop: int, frames: int) -> Tensor:
    """The same as a convolution layer, for long filters: the windows of `correlate` would take much memory."""
    size = basis.shape[-1]
    padded = functional.pad(signal, (max(-start, 0), size))[..., max(start, 0) :]
    padded = padded.reshape(-1, 1, padded.shape[-1])
    total = reduce(
        torch.add,
        (
            take(functional.conv1d(padded[..., first:], basis[:, None, first : first + _SUM], stride=hop), 0, frames)
            for first in range(0, size, _SUM)
        ),
    )
    return total.transpose(-1, -2).reshape(*signal.shape[:-1], frames, basis.shape[0])


def reflect(owner: str, signal: Tensor, left: int, right: int) -> Tensor:
    """The signal continued by its mirror image; not torch's, whose gradient on CUDA changes from run to run."""
    samples = signal.shape[-1]
    if samples <= max(left, right):
        raise ValueError(
            f"{owner}: pad_mode='reflect' reflects {max(left, right)} samples, so the signal must have at least "
            f"{max(left, right) + 1} at the octave's rate, not {samples}; use pad_mode='constant'"
        )
    return torch.cat((signal[..., 1 : left + 1].flip(-1), signal, signal[..., samples - right - 1 : -1].flip(-1)), -1)


def product(windows: Tensor, basis: Tensor) -> Tensor:
    """[..., frames, size] and [filters, size] -> [..., frames, filters], as a matrix product."""
    shape, size = (*windows.shape[:-1], basis.shape[0]), windows.shape[-1]
    rows = windows.reshape(-1, size)
    parts = (rows[:, n : n + _SUM] @ basis[:, n : n + _SUM].t() for n in range(0, size, _SUM))
    return reduce(torch.add, parts).reshape(shape)


def _windows(signal: Tensor, size: int, part: Part, frames: int) -> Tensor:
    _, start, hop = part
    if torch.compiler.is_exporting():
        padded = functional.pad(signal, (max(-start, 0), size))
        return windows(padded, max(start, 0), frames, size, hop)
    left, right = max(-start, 0), max(0, start + (frames - 1) * hop + size - signal.shape[-1])
    padded = functional.pad(signal, (left, right)) if left or right else signal
    return padded[..., max(start, 0) :].unfold(-1, size, hop)[..., :frames, :]


class _Group(NamedTuple):
    """Octaves whose windows are cut from one signal together: those of the longest hold the others'."""

    around: Part
    size: int
    members: list[tuple[int, slice, slice]]  # number of the octave, its samples of the window, its filters


def _groups(parts: Sequence[Part], bases: Sequence[Tensor]) -> list[_Group]:
    groups: dict[tuple[int, int], list[int]] = {}
    for number, part in enumerate(parts):
        groups.setdefault((part.signal, part.hop), []).append(number)
    filters = [0]
    for basis in bases:
        filters.append(filters[-1] + basis.shape[0])
    found = []
    for (signal, hop), numbers in groups.items():
        numbers.sort(key=lambda n: -bases[n].shape[-1])  # the longest first
        first = min(parts[n].start for n in numbers)
        size = max(parts[n].start + bases[n].shape[-1] for n in numbers) - first
        members = []
        for n in numbers:
            at = parts[n].start - first
            members.append((n, slice(at, at + bases[n].shape[-1]), slice(filters[n], filters[n + 1])))
        found.append(_Group(Part(signal, first, hop), size, members))
    return found


class _Correlate(torch.autograd.Function):
    """All octaves into one tensor, and backward: no cuts and sums of tensors that are as large as the windows."""

    @staticmethod
    def forward(parts: tuple[Part, ...], frames: int, *tensors: Tensor) -> Tensor:
        signals, bases = tensors[: -len(parts)], tensors[-len(parts) :]
        leading = signals[0].shape[:-1]
        out = signals[0].new_empty((leading.numel() * frames, sum(basis.shape[0] for basis in bases)))
        for group in _groups(parts, bases):
            cut = _windows(signals[group.around.signal], group.size, group.around, frames).reshape(-1, group.size)
            for number, samples, filters in group.members:
                torch.mm(cut[:, samples], bases[number].t(), out=out[:, filters])
        return out.reshape(*leading, frames, out.shape[-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.parts, ctx.frames, *tensors = inputs
        count = len(ctx.parts)
        signals, bases = tensors[:-count], tensors[-count:]
        ctx.samples = [signal.shape[-1] for signal in signals]
        if not any(basis.requires_grad for basis in bases):
            signals = [signal[..., :0] for signal in signals]  # nothing is read from them
        ctx.save_for_backward(*signals, *bases)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        parts, frames, count = ctx.parts, ctx.frames, len(ctx.parts)
        signals, bases = ctx.saved_tensors[:-count], ctx.saved_tensors[-count:]
        needed = ctx.needs_input_grad[2:]
        grads: list[Tensor | None] = [None] * len(needed)
        leading, rows = grad.shape[:-2], grad.reshape(-1, grad.shape[-1])
        for group in _groups(parts, bases):
            which = group.around.signal
            if needed[which]:
                spread = _spread(rows, bases, group).reshape(*leading, frames, group.size)
                part = _Added.apply(spread, group.around, ctx.samples[which])
                before = grads[which]
                grads[which] = part if before is None else before + part
            if any(needed[len(signals) + number] for number, *_ in group.members):
                cut = _windows(signals[which], group.size, group.around, frames).reshape(-1, group.size)
                for number, samples, filters in group.members:
                    grads[len(signals) + number] = rows[:, filters].t() @ cut[:, samples]
        return None, None, *grads

    @staticmethod
    def vmap(info: Any, in_dims: tuple, parts: tuple[Part, ...], frames: int, *tensors: Tensor) -> tuple[Tensor, int]:
        dims, count = in_dims[2:], len(parts)
        if all(dim is None for dim in dims[-count:]):  # one more leading dimension of the signals
            signals = [
                x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
                for x, dim in zip(tensors[:-count], dims[:-count], strict=True)
            ]
            return _Correlate.apply(parts, frames, *signals, *tensors[-count:]), 0
        each = [
            [x if dim is None else x.select(dim, item) for x, dim in zip(tensors, dims, strict=True)]
            for item in range(info.batch_size)
        ]
        return torch.stack([_Correlate.apply(parts, frames, *one) for one in each]), 0


class _Added(torch.autograd.Function):
    """The windows added up where they lie in a signal of so many samples; a function for the sake of torch.func."""

    @staticmethod
    def forward(spread: Tensor, part: Part, samples: int) -> Tensor:
        return overlap_add(spread, spread.new_ones(spread.shape[-1]), part.hop, left=-part.start, samples=samples)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        spread, ctx.part, _ = inputs
        ctx.frames, ctx.size = spread.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        return _windows(grad, ctx.size, ctx.part, ctx.frames), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, spread: Tensor, part: Part, samples: int) -> tuple[Tensor, int]:
        return _Added.apply(spread.movedim(in_dims[0], 0), part, samples), 0


def _spread(rows: Tensor, bases: Sequence[Tensor], group: _Group) -> Tensor:
    """[rows, filters of all parts] -> the windows' gradient, [rows, size]."""
    (number, samples, filters), *others = group.members
    spread = rows[:, filters] @ bases[number]
    if spread.shape[-1] < group.size:
        spread = functional.pad(spread, (samples.start, group.size - samples.stop))
    for number, samples, filters in others:
        spread[:, samples] += rows[:, filters] @ bases[number]
    return spread
