"""Gaussian synapses over all lags, lag by lag: their kernels and the gradients of these, in vectors of synapses.

numba compiles it for the frequency domain's float32 on a CPU, where torch's own operations, a dozen passes over every share,
took a fourth of the time. Everything else is `_live`'s.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .._compiled import announced, version
from .._float32 import exp
from .._threads import share
from .reference import NEGLIGIBLE

__all__ = ["gradients", "kernels"]

_BLOCK = 256  # synapses whose shares stay in the first-level cache
_GRAIN = 1 << 13  # synapses that pay for waking a thread
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
_LEAST = np.float32(NEGLIGIBLE)


def kernels(weight: Tensor, delay: Tensor, sigma: float, max_delay: int) -> Tensor:
    """weight times shares, [lags, *shape]; sigma > 0."""
    out = torch.empty(max_delay + 1, *weight.shape)  # soon gone: not of the memory that waits for results
    arrays = [tensor.detach().reshape(-1).numpy() for tensor in (out, weight, delay)]
    narrow, count = np.float32(-0.5 / sigma**2), weight.numel()
    share(lambda first, stop: _fill()(*arrays, narrow, max_delay + 1, count, first, stop), count, _GRAIN)
    return out


def gradients(grad: Tensor, weight: Tensor, delay: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of weight, delay and, synapse by synapse, sigma; from those of the kernels, [lags, *shape]."""
    found = [torch.empty(weight.shape) for _ in range(3)]
    arrays = [tensor.detach().reshape(-1).numpy() for tensor in (*found, grad, weight, delay)]
    narrow, count = np.float32(-0.5 / sigma**2), weight.numel()
    numbers = (narrow, np.float32(sigma), grad.shape[0], count)
    share(lambda first, stop: _differentiate()(*arrays, *numbers, first, stop), count, _GRAIN)
    return found[0], found[1], found[2]


@numba.njit(inline="always")
def _exponentials(values, total, d, narrow, lags, n):
    """values[lag, k] = exp of the exponents, less the largest; their sums."""
    for k in range(n):
        total[k] = 0
    for lag in range(lags):
        row = values[lag * _BLOCK :]
        place = np.float32(lag)
        for k in range(n):
            whole = np.float32(np.floor(d[k] + np.float32(0.5)))
            nearest, distance = whole - d[k], place - d[k]
            e = exp((distance * distance - nearest * nearest) * narrow)
            row[k] = e
            total[k] += e


@cache
def _fill():
    version_ = _VERSION

    @numba.njit(**_options)
    def fill(out, weight, delay, narrow, lags, count, first, stop):
        version_  # noqa: B018
        values, total = np.empty(lags * _BLOCK, np.float32), np.empty(_BLOCK, np.float32)
        for begin in range(first, stop, _BLOCK):
            n, d, w = min(_BLOCK, stop - begin), delay[begin:], weight[begin:]
            _exponentials(values, total, d, narrow, lags, n)
            for lag in range(lags):
                row, target = values[lag * _BLOCK :], out[lag * count + begin :]
                for k in range(n):
                    g = row[k] / total[k]
                    target[k] = w[k] * (np.float32(0) if g <= _LEAST else g)  # NaN stays

    return announced(fill, "gaussian delays, forward")


@cache
def _differentiate():
    version_ = _VERSION

    @numba.njit(**_options)
    def differentiate(of_weight, of_delay, of_sigma, grad, weight, delay, narrow, sigma, lags, count, first, stop):
        version_  # noqa: B018
        values, total = np.empty(lags * _BLOCK, np.float32), np.empty(_BLOCK, np.float32)
        mean, once, twice = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
        for begin in range(first, stop, _BLOCK):
            n, d, w = min(_BLOCK, stop - begin), delay[begin:], weight[begin:]
            _exponentials(values, total, d, narrow, lags, n)
            for k in range(n):
                mean[k] = once[k] = twice[k] = 0
            for lag in range(lags):
                row, given = values[lag * _BLOCK :], grad[lag * count + begin :]
                for k in range(n):
                    row[k] = row[k] / total[k]
                    mean[k] += row[k] * given[k]
            for lag in range(lags):
                row, given = values[lag * _BLOCK :], grad[lag * count + begin :]
                place = np.float32(lag)
                for k in range(n):
                    distance = place - d[k]
                    moment = (given[k] - mean[k]) * row[k] * distance
                    once[k] += moment
                    twice[k] += moment * distance
            to_weight, to_delay, to_sigma = of_weight[begin:], of_delay[begin:], of_sigma[begin:]
            for k in range(n):
                to_weight[k] = mean[k]
                to_delay[k] = w[k] * once[k] / (sigma * sigma)
                to_sigma[k] = w[k] * twice[k] / (sigma * sigma * sigma)

    return announced(differentiate, "gaussian delays, backward")


_VERSION = version(f"{__package__}.reference", "temporal.kernels._float32")
