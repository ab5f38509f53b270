"""The inner products of an octave's filters with a signal, wherever a frame's window lies."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .._framing import take, windows

__all__ = ["convolve", "correlate", "product", "reflect"]

_SUM = 1024  # samples


def correlate(signal: Tensor, basis: Tensor, start: int, hop: int, frames: int) -> Tensor:
    """[..., samples] and [filters, size] -> [..., frames, filters].

    y[t, f] = sum_n signal[start + t * hop + n] basis[f, n], with zeros before and after the signal
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return _correlate(signal, basis, start, hop, frames)
    if not (signal.requires_grad or basis.requires_grad):
        return _correlate(signal, basis, start, hop, frames)
    return _Correlate.apply(signal, basis, start, hop, frames)


def convolve(signal: Tensor, basis: Tensor, start: int, hop: int, frames: int) -> Tensor:
    """The same as a convolution layer, for long filters: the windows of `correlate` would take much memory."""
    size = basis.shape[-1]
    padded = functional.pad(signal, (max(-start, 0), size))[..., max(start, 0) :]
    padded = padded.reshape(-1, 1, padded.shape[-1])
    total: Any = None
    for first in range(0, size, _SUM):  # a sum of sums rounds less than one over a long filter
        part = basis[:, None, first : first + _SUM]
        out = functional.conv1d(padded[..., first:], part, stride=hop)
        out = take(out, 0, frames)
        total = out if total is None else total + out
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
    """[..., frames, size] and [filters, size] -> [..., frames, filters], as one matrix product."""
    shape = (*windows.shape[:-1], basis.shape[0])
    return (windows.reshape(-1, windows.shape[-1]) @ basis.t()).reshape(shape)


def _correlate(signal: Tensor, basis: Tensor, start: int, hop: int, frames: int) -> Tensor:
    return product(_windows(signal, basis.shape[-1], start, hop, frames), basis)


def _windows(signal: Tensor, size: int, start: int, hop: int, frames: int) -> Tensor:
    if torch.compiler.is_exporting():
        padded = functional.pad(signal, (max(-start, 0), size))
        return windows(padded, max(start, 0), frames, size, hop)
    left, right = max(-start, 0), max(0, start + (frames - 1) * hop + size - signal.shape[-1])
    padded = functional.pad(signal, (left, right)) if left or right else signal
    return padded[..., max(start, 0) :].unfold(-1, size, hop)[..., :frames, :]


class _Correlate(torch.autograd.Function):
    """`_correlate` with a backward that makes no tensors of zeros but one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(signal: Tensor, basis: Tensor, start: int, hop: int, frames: int) -> Tensor:
        return _correlate(signal, basis, start, hop, frames)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        signal, basis, ctx.start, ctx.hop, ctx.frames = inputs
        ctx.samples = signal.shape[-1]
        ctx.save_for_backward(signal if basis.requires_grad else signal[..., :0], basis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        signal, basis = ctx.saved_tensors
        size, hop, start, frames = basis.shape[-1], ctx.hop, ctx.start, ctx.frames
        grad_signal = grad_basis = None
        if ctx.needs_input_grad[0]:
            windows = product(grad, basis.t())
            reach = (frames - 1) * hop + size
            whole = torch.ops.aten.unfold_backward(windows, [*grad.shape[:-2], reach], grad.dim() - 2, size, hop)
            grad_signal = functional.pad(whole, (start, ctx.samples - reach - start))
        if ctx.needs_input_grad[1]:
            windows = _windows(signal, size, start, hop, frames)
            grad_basis = grad.reshape(-1, grad.shape[-1]).t() @ windows.reshape(-1, size)
        return grad_signal, grad_basis, None, None, None
