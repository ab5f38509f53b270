"""Any width of delay in the frequency domain, in products of matrices: on any device, in any precision.

A causal correlation over N steps is a product at each of N / 2 + 1 frequencies, and a product of two complex matrices is
three of real ones. So the whole is bilinear, with P = 3 N / 2 - 1 points instead of (max_delay + 1) N products:

    Y[p] = X[p] K[p]^T,   X = A x,   K = C k,   y = R Y

where A and C evaluate steps and lags at the points and R puts the steps together. A long sequence is cut into windows that
overlap by max_delay steps. What is made of the kernel is made for a block of outputs at a time.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .._memory import empty
from ._live import by_lag, gradients_by_lag

__all__ = ["backward", "forward", "operations", "window"]

_BLOCK = 1 << 22  # elements of a block's kernels at all points


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
    x = _at_points(points.of_steps, _windows(history, length, max_delay))
    parts = []
    for block in _blocks(weight, len(points.of_steps)):
        # As [I, o], so that a product's last axis is contiguous everywhere.
        k = by_lag(weight[block], delay[block], sigma, max_delay, kernel, turned=True)
        parts.append(_at_points(points.together, _product(x, _at_points(points.of_lags, k))))
    y = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    if x.shape[1] != batch:
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
    """The gradients of history and of (weight, delay, sigma), None where none is needed."""
    total, batch, inputs = history.shape
    outputs = weight.shape[0]
    length = window(total - max_delay, batch, inputs, outputs, max_delay)
    points = _points(length, max_delay, history.dtype, history.device)
    of_y = _at_points(points.together.t(), _windows(grad, length - max_delay, 0))
    x = _at_points(points.of_steps, _windows(history, length, max_delay)) if needs[1] else None
    of_x = None
    found = []
    for block in _blocks(weight, len(points.of_steps)):
        here, synapses = of_y[:, :, block], (weight[block], delay[block], sigma, max_delay, kernel)
        if needs[0]:
            of_x = _product(here, _at_points(points.of_lags, by_lag(*synapses)), of_x)
        if x is not None:
            of_k = _product(here.transpose(1, 2), x)
            found.append(gradients_by_lag(_at_points(points.of_lags.t(), of_k), *synapses))
    parameters: tuple[Tensor | None, ...] = (None, None, None)
    if x is not None:
        weights, delays, sigmas = zip(*found, strict=True)
        parameters = torch.cat(weights), torch.cat(delays), torch.stack(sigmas).sum()
    grad_history = None
    if of_x is not None:
        of_steps = _at_points(points.of_steps.t(), of_x).view(length, -1, batch, inputs)
        grad_history = _overlapping(of_steps, total, max_delay)
    return grad_history, parameters


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


def _at_points(matrix: Tensor, signal: Tensor) -> Tensor:
    """[N, M, C] -> [P, M, C]."""
    return _product(matrix.unsqueeze(0), signal.reshape(1, len(signal), -1)).view(-1, *signal.shape[1:])


def _product(left: Tensor, right: Tensor, total: Tensor | None = None) -> Tensor:
    """left @ right of [Z, M, K] and [Z, K, N], added to a total if there is one."""
    if left.device.type == "cpu" and left.dtype == torch.float32:
        from ._product import product  # numba, when used

        out = empty((*left.shape[:2], right.shape[2]), torch.float32) if total is None else total
        return product(out, left, right, add=total is not None)
    return torch.bmm(left, right) if total is None else total.baddbmm_(left, right)


def _blocks(weight: Tensor, points: int) -> Iterator[slice]:
    size = max(1, _BLOCK // (points * weight.shape[1]))
    for first in range(0, weight.shape[0], size):
        yield slice(first, first + size)
