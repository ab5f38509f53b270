"""Any width of delay in the frequency domain, in products of matrices: on any device, in any precision.

A causal correlation over N steps is a product at each of N / 2 + 1 frequencies, and a product of two complex matrices is
three of real ones. So the whole is bilinear, with P = 3 N / 2 - 1 points instead of (max_delay + 1) N products:

    Y[p] = X[p] K[p]^T,   X = A x,   K = C k,   y = R Y

where A and C evaluate steps and lags at the points and R puts the steps together. A long sequence is cut into windows that
overlap by max_delay steps. A block of points is made, multiplied and added to the steps, or lags, before the next one, for a
block of outputs at a time, so that no signal or kernel is ever there at all points.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._memory import empty
from ._live import by_lag, gradients_by_lag

__all__ = ["backward", "forward", "operations", "window"]

_KEPT = 1 << 21  # elements of a block's kernels over all lags
_BLOCK = 1 << 21  # elements of signals at a block of points
_FEWEST = 8  # points of a block, each of which goes through all that the points add up to
_PAIRS, _LEAST = 1 << 13, 32  # of neurons, and outputs, of a piece of kernels


class _Points(NamedTuple):
    """The three matrices: [P, N], [P, lags] and [N - max_delay, P]."""

    of_steps: Tensor
    of_lags: Tensor
    together: Tensor


def forward(history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str) -> Tensor:
    """The currents [T, B, O]."""
    steps, batch = history.shape[0] - max_delay, history.shape[1]
    outputs = weight.shape[0]
    length = window(steps, batch, weight.shape[1], outputs, max_delay)
    points = _points(length, max_delay, history.dtype, history.device)
    windows = _windows(history, length, max_delay)
    parts: list[Tensor] = []
    for block in _blocks(weight, max_delay + 1):
        pieces = _pieces(weight, block)
        # As [I, o], so that a product's last axis is contiguous everywhere.
        ks = [by_lag(weight[o], delay[o], sigma, max_delay, kernel, turned=True) for o in pieces]
        work = _Work()
        ys: list[Any] = [None] * len(ks)
        for p in _some(points, windows.shape[1], weight):
            x = _at_points(points.of_steps[p], windows, work("x"))
            for n, k in enumerate(ks):
                found = _product(x, _at_points(points.of_lags[p], k, work("k")), work("y"))
                ys[n] = _at_points(points.together[:, p], found, ys[n], add=ys[n] is not None)
        parts += ys
        del ks, work, x, found
    y = parts[0] if len(parts) == 1 else _side_by_side(parts)
    if windows.shape[1] != batch:
        y = y.view(len(y), -1, batch, outputs).transpose(0, 1).reshape(-1, batch, outputs)
    return y[:steps].contiguous()


def backward(
    grad: Tensor,
    history: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    max_delay: int,
    kernel: str,
    needs: tuple[bool, bool],
):
    """The gradients of history and of (weight, delay, sigma), None where none is needed; the history in any dtype."""
    total, batch, inputs = history.shape
    length = window(total - max_delay, batch, inputs, weight.shape[0], max_delay)
    points = _points(length, max_delay, grad.dtype, grad.device)
    grads = _windows(grad, length - max_delay, 0)
    # First what needs the history, then what makes as much: of_y twice, for a third of the memory.
    parameters: tuple[Tensor | None, ...] = (None, None, None)
    if needs[1]:
        windows, found = _windows(history.to(grad.dtype), length, max_delay), []
        for block in _blocks(weight, max_delay + 1):
            pieces = _pieces(weight, block)
            for o, of_lags in zip(pieces, _of_lags(grads, windows, weight, pieces, points), strict=True):
                found.append(gradients_by_lag(of_lags, weight[o], delay[o], sigma, max_delay, kernel))
        del windows, of_lags
        weights, delays, sigmas = zip(*found, strict=True)
        parameters = torch.cat(weights), torch.cat(delays), torch.stack(sigmas).sum()
    if not needs[0]:
        return None, parameters
    of_windows: Tensor | None = None
    for block in _blocks(weight, max_delay + 1):
        pieces = _pieces(weight, block)
        ks = [by_lag(weight[o], delay[o], sigma, max_delay, kernel) for o in pieces]
        of_windows = _of_windows(grads, ks, weight, pieces, points, of_windows)
    return _overlapping(of_windows.view(length, -1, batch, inputs), total, max_delay), parameters  # type: ignore[union-attr]


def _of_lags(grads: Tensor, windows: Tensor, weight: Tensor, pieces: list[slice], points: _Points) -> list[Tensor]:
    """The gradients of the pieces' kernels, [lags, o, I]."""
    work = _Work()
    found: list[Any] = [None] * len(pieces)
    for p in _some(points, windows.shape[1], weight):
        x = _at_points(points.of_steps[p], windows, work("x"))
        for n, o in enumerate(pieces):
            of_y = _at_points(points.together[:, p].t(), grads[:, :, o].contiguous(), work("y"))
            of_k = _product(of_y.transpose(1, 2), x, work("k"))
            place = _Work()("lags") if found[n] is None else found[n]
            found[n] = _at_points(points.of_lags[p].t(), of_k, place, add=found[n] is not None)
    return found


def _of_windows(
    grads: Tensor, ks: list[Tensor], weight: Tensor, pieces: list[slice], points: _Points, total: Tensor | None
) -> Tensor:
    """The gradients of the windows, added to what other blocks of outputs gave."""
    work = _Work()
    for p in _some(points, grads.shape[1], weight):
        of_x: Any = None
        for k, o in zip(ks, pieces, strict=True):
            of_y = _at_points(points.together[:, p].t(), grads[:, :, o].contiguous(), work("y"))
            of_x = _product(
                of_y, _at_points(points.of_lags[p], k, work("k")), work("x") if of_x is None else of_x, of_x is not None
            )
        total = _at_points(points.of_steps[p].t(), of_x, total, add=total is not None)
    return total  # type: ignore[return-value] # there is at least one point


def window(steps: int, batch: int, inputs: int, outputs: int, max_delay: int) -> int:
    """How many steps a window has, even, at the fewest operations."""
    best, least = 0, math.inf
    for count in range(1, max(1, steps // (max_delay + 1)) + 1):
        length = 2 * math.ceil((math.ceil(steps / count) + max_delay) / 2)
        length = max(length, 2)
        needed = _operations(length, count, batch, inputs, outputs, max_delay)
        if needed >= least:
            break
        best, least = length, needed
    return best


def operations(steps: int, batch: int, inputs: int, outputs: int, max_delay: int) -> float:
    """Products and sums of a forward pass."""
    length = window(steps, batch, inputs, outputs, max_delay)
    count = math.ceil(steps / (length - max_delay))
    return _operations(length, count, batch, inputs, outputs, max_delay)


def _operations(length: int, count: int, batch: int, inputs: int, outputs: int, max_delay: int) -> float:
    samples = count * batch
    each = samples * inputs * outputs + samples * length * (inputs + outputs) + (max_delay + 1) * inputs * outputs
    return 3.0 * length * each


@lru_cache(maxsize=32)
def _points(length: int, max_delay: int, dtype: torch.dtype, device: torch.device) -> _Points:
    """Complex points (a + ib)(c + id) as (a + b)c, a(d - c), b(c + d); the real ones, the mean and the fastest, once."""
    steps = torch.arange(length, dtype=torch.float64)
    angles = 2 * math.pi / length * torch.outer(torch.arange(1, length // 2, dtype=torch.float64), steps)
    re, im = angles.cos(), -angles.sin()
    real = torch.stack([torch.ones_like(steps), 1 - 2 * (steps % 2)])
    of_steps = torch.cat([re + im, re, im, real])
    of_lags = torch.cat([re, im - re, re + im, real])[:, : max_delay + 1]
    together = torch.cat([2 * (re + im), 2 * im, -2 * re, real]).t()[max_delay:] / length
    return _Points(*(m.to(dtype).contiguous().to(device) for m in (of_steps, of_lags, together)))


def _windows(signal: Tensor, length: int, overlap: int) -> Tensor:
    """[S, B, N] -> [length, windows * B, N], silent after the end."""
    step = length - overlap
    count = max(1, math.ceil((signal.shape[0] - overlap) / step))
    missing = count * step + overlap - signal.shape[0]
    if missing:
        signal = torch.cat([signal, signal.new_zeros(missing, *signal.shape[1:])])
    if count == 1:
        return signal.contiguous()
    parts = signal.unfold(0, length, step)  # [windows, B, N, length]
    return parts.permute(3, 0, 1, 2).reshape(length, -1, signal.shape[2]).contiguous()


def _overlapping(parts: Tensor, total: int, overlap: int) -> Tensor:
    """The adjoint of `_windows`: [length, windows, B, N] -> [total, B, N]."""
    length, count = parts.shape[:2]
    if count == 1:
        return parts[:total, 0].contiguous()
    step = length - overlap
    out = parts.new_zeros(count * step + overlap, *parts.shape[2:])
    for k in range(count):
        out[k * step : k * step + length] += parts[:, k]
    return out[:total].contiguous()


class _Work:
    """Memory that one block of points after another works in; it goes back to the system with the call."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str) -> Callable[[tuple[int, ...], Tensor], Tensor]:
        def lend(shape: tuple[int, ...], like: Tensor) -> Tensor:
            size = math.prod(shape)
            kept = self._kept.get(name)
            if kept is None or kept.numel() < size:
                kept = self._kept[name] = like.new_empty(size)
            return kept[:size].view(shape)

        return lend


_Place = Tensor | Callable[[tuple[int, ...], Tensor], Tensor] | None


def _at_points(matrix: Tensor, signal: Tensor, out: _Place = None, add: bool = False) -> Tensor:
    """[N, M, C] -> [P, M, C]."""
    if isinstance(out, Tensor):
        out = out.view(1, len(out), -1)
    done = _product(matrix.unsqueeze(0), signal.reshape(1, len(signal), -1), out, add)
    return done.view(-1, *signal.shape[1:])


def _product(left: Tensor, right: Tensor, out: _Place = None, add: bool = False) -> Tensor:
    """left @ right of [Z, M, K] and [Z, K, N], into `out` or added to it."""
    if out is None or callable(out):
        shape = (*left.shape[:2], right.shape[2])
        out = empty(shape, right.dtype) if out is None and right.device.type == "cpu" else out
        out = right.new_empty(shape) if out is None else out(shape, right) if callable(out) else out
    if left.device.type == "cpu" and left.dtype == torch.float32:
        from ._product import product  # numba, when used

        return product(out, left, right, add=add)
    return out.baddbmm_(left, right) if add else torch.bmm(left, right, out=out)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """[N, M, o] of all parts -> [N, M, O]."""
    out = empty((*parts[0].shape[:2], sum(part.shape[2] for part in parts)), parts[0].dtype)
    if parts[0].device.type != "cpu":
        return torch.cat(parts, 2)
    return torch.cat(parts, 2, out=out)


def _blocks(weight: Tensor, lags: int) -> Iterator[slice]:
    """Of outputs, whose kernels over all lags are kept."""
    size = max(1, _KEPT // (lags * max(1, weight[0].numel())))
    for first in range(0, weight.shape[0], size):
        yield slice(first, min(first + size, weight.shape[0]))


def _pieces(weight: Tensor, block: slice) -> list[slice]:
    """Of a block's outputs, whose kernels at a block of points stay in the second-level cache."""
    # On a GPU one piece: its products want to be large.
    size = max(_LEAST, _PAIRS // max(1, weight.shape[1])) if weight.device.type == "cpu" else weight.shape[0]
    return [slice(first, min(first + size, block.stop)) for first in range(block.start, block.stop, size)]


def _some(points: _Points, samples: int, weight: Tensor) -> Iterator[slice]:
    """Of points, at which kernels and signals are made."""
    outputs, inputs = weight.shape[:2]
    size = max(_FEWEST, _BLOCK // max(1, samples * max(outputs, inputs)))
    for first in range(0, len(points.of_steps), size):
        yield slice(first, first + size)
