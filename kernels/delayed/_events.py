"""Few inputs that are not zero, spikes among them: an operation for each of these and each lag, and none for the others.

An event, an input that is not zero at its step, adds its kernel, a lag after the other, to the steps that follow; and a
kernel's gradient is the sum of the steps that follow its input's events. Both are one loop over 16 outputs at a time: up to
28 vectors stay in registers while one event after the other adds as many of its own to them. All lags are computed, so the
width of the delays does not matter. The inputs' gradient is not sparse: it is computed elsewhere.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import binding
from torch import Tensor

from .._compiled import announced, version
from .._memory import empty
from .._threads import share
from ._live import by_lag, gradients_by_lag
from ._tiles import add_rows

__all__ = ["depth", "forward", "parameters"]

_LANES = 16
_BLOCK = 64  # outputs
_GRAIN = 1 << 16  # elements of a history that pay for waking a thread
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def forward(history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str) -> Tensor:
    """The currents [T, B, O]."""
    total, batch, inputs = history.shape
    outputs, deep = weight.shape[0], depth(max_delay + 1)
    out = empty((total - max_delay, batch, outputs), torch.float32)
    events = _events(history, deep * _LANES, by_input=False)
    for o in _blocks(outputs):
        kernels = by_lag(weight[o], delay[o], sigma, max_delay, kernel, turned=True)
        sizes = (total, batch, inputs, outputs, o.start, kernels.shape[2], max_delay, deep)
        _each_span(_forward(_rows(max_delay + 1)), (_flat(out), _flat(kernels), *events, *sizes), sizes)
    return out


def parameters(
    grad: Tensor, history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of weight, delay and sigma; the history in any dtype."""
    total, batch, inputs = history.shape
    outputs, deep = weight.shape[0], depth(max_delay + 1)
    events = _events(history, _LANES, by_input=True)
    found = []
    for o in _blocks(outputs):
        # Outputs side by side, as in the kernels.
        w, d = (tensor[o].transpose(0, 1).contiguous() for tensor in (weight, delay))
        of_kernels = torch.empty(max_delay + 1, *w.shape[:2])
        sizes = (total, batch, inputs, outputs, o.start, of_kernels.shape[2], max_delay, deep)
        _each_span(_backward(_rows(max_delay + 1)), (_flat(of_kernels), _flat(grad), *events, *sizes), sizes)
        found.append(gradients_by_lag(of_kernels, w, d, sigma, max_delay, kernel))
    weights, delays, sigmas = zip(*found, strict=True)
    return torch.cat(weights, 1).transpose(0, 1), torch.cat(delays, 1).transpose(0, 1), torch.stack(sigmas).sum()


def _blocks(outputs: int) -> list[slice]:
    """Of outputs, whose kernels over all lags are there at once."""
    return [slice(first, min(first + _BLOCK, outputs)) for first in range(0, outputs, _BLOCK)]


def _each_span(run: Callable, given: tuple, sizes: tuple[int, ...]) -> None:
    total, _, inputs, _, _, block, _, deep = sizes

    def task(first: int, stop: int) -> None:
        # 16 outputs' kernels, [I, deep, 16], and a sample's steps, silent ones before and after, [.., 16].
        kernels, steps = torch.zeros(inputs * deep * _LANES), torch.zeros((total + deep) * _LANES)
        run(*given, kernels.numpy(), steps.numpy(), first, stop)

    share(task, -(-block // _LANES), 1)


def depth(lags: int) -> int:
    """How many lags are computed, for as many that are there."""
    return -(-lags // _rows(lags)) * _rows(lags)


@cache
def _rows(lags: int) -> int:
    """Lags whose sums are in registers at once: a vector of 16 each, or two of 8 where there are none of 16."""
    most = 28 if binding.get_host_cpu_features().get("avx512f") else 6
    return -(-lags // -(-lags // most))


class _Events(NamedTuple):
    """Those of group g (sample and step, or sample and input) are the entries first[g] .. first[g + 1]."""

    first: np.ndarray
    place: np.ndarray  # where its rows begin, int32
    value: np.ndarray


def _events(history: Tensor, step: int, by_input: bool) -> _Events:
    """By sample and step, of inputs; or by sample and input, of steps. Places are multiples of `step`."""
    total, batch, inputs = history.shape
    groups = inputs if by_input else total
    given = _flat(history)
    count = np.zeros(batch * groups + 1, np.int64)
    grain = max(1, _GRAIN // max(1, total * inputs))
    share(lambda b, stop: _count()(count, given, total, batch, inputs, by_input, b, stop), batch, grain)
    first = count.cumsum()
    place, value = np.empty(max(1, first[-1]), np.int32), np.empty(max(1, first[-1]), np.float32)
    at = first.copy()
    share(lambda b, stop: _list()(at, place, value, given, total, batch, inputs, by_input, step, b, stop), batch, grain)
    return _Events(first, place, value)


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1).numpy()


@cache
def _count():
    @numba.njit(**_options)
    def count(counts, history, total, batch, inputs, by_input, first, stop):
        """counts[1 + g]: the events of group g."""
        for b in range(first, stop):
            for t in range(total):
                row = history[(t * batch + b) * inputs :]
                if by_input:
                    groups = counts[1 + b * inputs :]
                    for i in range(inputs):
                        groups[i] += row[i] != 0
                else:
                    found = 0
                    for i in range(inputs):
                        found += row[i] != 0
                    counts[1 + b * total + t] = found

    return announced(count, "delayed synapses, events counted")


@cache
def _list():
    @numba.njit(**_options)
    def listed(at, place, value, history, total, batch, inputs, by_input, step, first, stop):
        for b in range(first, stop):
            for t in range(total):
                row = history[(t * batch + b) * inputs :]
                for i in range(inputs):
                    if row[i] != 0:
                        group, number = (b * inputs + i, t) if by_input else (b * total + t, i)
                        entry = at[group]
                        place[entry], value[entry] = number * step, row[i]
                        at[group] = entry + 1

    return announced(listed, "delayed synapses, events listed")


@cache
def _forward(rows: int):
    version_ = _VERSION

    @numba.njit(**_options)
    def forward(
        out, kernels, firsts, place, value, total, batch, inputs, outputs, start, block, max_delay, deep,
        panel, steps, first, stop,
    ):  # fmt: skip
        """Outputs 16 first .. 16 stop of the block that begins at `start`."""
        version_  # noqa: B018
        for span in range(first, stop):
            begin = span * _LANES
            wide = min(_LANES, block - begin)
            for i in range(inputs):
                for lag in range(max_delay + 1):
                    source, target = kernels[(lag * inputs + i) * block + begin :], panel[(i * deep + lag) * _LANES :]
                    for n in range(wide):
                        target[n] = source[n]
            for b in range(batch):
                steps[:] = 0
                for t in range(total):
                    entry = firsts[b * total + t]
                    count = firsts[b * total + t + 1] - entry
                    if count:
                        for lag in range(0, deep, rows):
                            add_rows(steps, (t + lag) * _LANES, panel, place, value, lag * _LANES, entry, count, rows)
                for t in range(max_delay, total):
                    source = steps[t * _LANES :]
                    target = out[((t - max_delay) * batch + b) * outputs + start + begin :]
                    for n in range(wide):
                        target[n] = source[n]

    return announced(forward, "delayed synapses, events forward")


@cache
def _backward(rows: int):
    version_ = _VERSION

    @numba.njit(**_options)
    def backward(
        of_kernels, grad, firsts, place, value, total, batch, inputs, outputs, start, block, max_delay, deep,
        panel, steps, first, stop,
    ):  # fmt: skip
        """Outputs 16 first .. 16 stop of the block that begins at `start`."""
        version_  # noqa: B018
        for span in range(first, stop):
            begin = span * _LANES
            wide = min(_LANES, block - begin)
            panel[:] = 0
            for b in range(batch):
                for t in range(max_delay, total):  # those before and after are silent
                    source = grad[((t - max_delay) * batch + b) * outputs + start + begin :]
                    target = steps[t * _LANES :]
                    for n in range(wide):
                        target[n] = source[n]
                for i in range(inputs):
                    entry = firsts[b * inputs + i]
                    count = firsts[b * inputs + i + 1] - entry
                    if count:
                        for lag in range(0, deep, rows):
                            to = (i * deep + lag) * _LANES
                            add_rows(panel, to, steps, place, value, lag * _LANES, entry, count, rows)
            for i in range(inputs):
                for lag in range(max_delay + 1):
                    source, target = (
                        panel[(i * deep + lag) * _LANES :],
                        of_kernels[(lag * inputs + i) * block + begin :],
                    )
                    for n in range(wide):
                        target[n] = source[n]

    return announced(backward, "delayed synapses, events backward")


_VERSION = version(f"{__package__}._tiles")
