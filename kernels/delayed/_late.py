"""Every neuron's own signal, late by its own delay, on the CPU: compiled by numba, in vectors of 16 neurons.

A vector's signal of one sample is copied side by side, step after step: it stays in the first-level cache for all lags. At
every lag that one of the 16 neurons uses, a step takes a product and a sum. Of N = 256 neurons 25 lags are a tenth of the
matrix product with 256 others that goes with them, so nothing is gained by telling neurons apart.
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
from .._memory import empty, flat
from .._threads import share as shared
from ._tiles import GROUP, add_late, dot_late

__all__ = ["backward", "forward"]

_LANES = 16
_GRAIN = 1 << 17  # products of vectors' elements that pay for waking a thread
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def forward(history: Tensor, share: Tensor) -> Tensor:
    """z [T, B, N], of history [max_delay + T, B, N] and share [N, max_delay + 1]."""
    total, batch, neurons = history.shape
    longest = share.shape[1] - 1
    steps = total - longest
    out = empty((steps, batch, neurons), torch.float32)
    vectors = -(-neurons // _LANES)
    numbers = (longest, steps, batch, neurons)

    def task(first: int, stop: int) -> None:
        _forward()(flat(out), flat(history), factors, *numbers, first, stop)

    factors = flat(_by_vector(share))
    shared(task, vectors * batch, max(1, _GRAIN // (steps * (longest + 1) * _LANES)))
    return out


def backward(grad: Tensor, history: Tensor, share: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """The gradients of history and share; one that is not wanted has no elements."""
    steps, batch, neurons = grad.shape
    lags = share.shape[1]
    vectors = -(-neurons // _LANES)
    of_history = empty(history.shape if needs[0] else (0,), torch.float32)
    of_share = torch.zeros(vectors, -(-lags // GROUP) * GROUP, _LANES)
    arrays = [flat(tensor) for tensor in (of_history, of_share, grad, history, _by_vector(share))]
    numbers = (lags - 1, steps, batch, neurons, *needs)
    task = lambda first, stop: _backward()(*arrays, *numbers, first, stop)  # noqa: E731
    shared(task, vectors, max(1, _GRAIN // (2 * steps * batch * lags * _LANES)))
    if not needs[1]:
        return of_history, history.new_empty(0)
    return of_history, of_share[:, :lags].transpose(1, 2).reshape(-1, lags)[:neurons].contiguous()


def _by_vector(share: Tensor) -> Tensor:
    """[N, lags] -> [vectors, lags, 16], zero where there is no neuron."""
    missing = -share.shape[0] % _LANES
    padded = torch.nn.functional.pad(share.detach(), (0, 0, 0, missing))
    return padded.view(-1, _LANES, share.shape[1]).transpose(1, 2).contiguous()


@numba.njit(inline="always")
def _gather(rows, before, signal, at, apart, steps, width):
    """rows[before + s] = the signal's vector at step s; `width` of its 16 neurons exist."""
    if width == _LANES:
        for s in range(steps):
            source, target = signal[at + s * apart :], rows[(before + s) * _LANES :]
            for n in range(_LANES):
                target[n] = source[n]
    else:
        for s in range(steps):
            source, target = signal[at + s * apart :], rows[(before + s) * _LANES :]
            for n in range(width):
                target[n] = source[n]
            for n in range(width, _LANES):
                target[n] = 0


@numba.njit(inline="always")
def _scatter(signal, at, apart, rows, steps, width):
    if width == _LANES:
        for s in range(steps):
            target, source = signal[at + s * apart :], rows[s * _LANES :]
            for n in range(_LANES):
                target[n] = source[n]
    else:
        for s in range(steps):
            target, source = signal[at + s * apart :], rows[s * _LANES :]
            for n in range(width):
                target[n] = source[n]


@numba.njit(inline="always")
def _live(factors, places, here, lags, turned):
    """The lags that one of the vector's neurons uses: their factors, and where the rows that they read begin."""
    count = 0
    for lag in range(lags):
        used = False
        for n in range(_LANES):
            used |= here[lag * _LANES + n] != 0  # NaN too
        if used:
            for n in range(_LANES):
                factors[count * _LANES + n] = here[lag * _LANES + n]
            places[count] = (lag if turned else lags - 1 - lag) * _LANES
            count += 1
    return count


@cache
def _forward():
    version_ = _VERSION

    @numba.njit(**_options)
    def late(out, history, shares, longest, steps, batch, neurons, first, stop):
        """Units first .. stop: vectors of neurons, sample by sample."""
        version_  # noqa: B018
        lags, whole = longest + 1, (steps + GROUP - 1) // GROUP * GROUP
        rows, done = np.zeros((longest + whole) * _LANES, np.float32), np.empty(whole * _LANES, np.float32)
        factors, places = np.empty(lags * _LANES, np.float32), np.empty(lags, np.int64)
        known, count = -1, 0
        for unit in range(first, stop):
            vector, sample = unit // batch, unit % batch
            if vector != known:
                count = _live(factors, places, shares[vector * lags * _LANES :], lags, False)
                known = vector
            width, at = min(_LANES, neurons - vector * _LANES), sample * neurons + vector * _LANES
            _gather(rows, 0, history, at, batch * neurons, longest + steps, width)
            for t in range(0, whole, GROUP):
                add_late(done, t * _LANES, rows, t * _LANES, factors, places, count)
            _scatter(out, at, batch * neurons, done, steps, width)

    return announced(late, "delays of neurons, forward")


@cache
def _backward():
    version_ = _VERSION

    @numba.njit(**_options)
    def early(
        of_history, of_share, grad, history, shares, longest, steps, batch, neurons, wants_history, wants_share, first, stop
    ):  # fmt: skip
        """Vectors first .. stop, all samples of each."""
        version_  # noqa: B018
        lags, whole = longest + 1, (steps + longest + GROUP - 1) // GROUP * GROUP
        sums = (lags + GROUP - 1) // GROUP * GROUP
        # Gradients between longest steps of silence; the history, too, where the last group of lags has some too many.
        grads, done = np.zeros((longest + whole) * _LANES, np.float32), np.empty(whole * _LANES, np.float32)
        rows = np.zeros((GROUP + longest + steps) * _LANES, np.float32)
        factors, places = np.empty(lags * _LANES, np.float32), np.empty(lags, np.int64)
        for vector in range(first, stop):
            count = _live(factors, places, shares[vector * lags * _LANES :], lags, True)
            width = min(_LANES, neurons - vector * _LANES)
            for sample in range(batch):
                at = sample * neurons + vector * _LANES
                _gather(grads, longest, grad, at, batch * neurons, steps, width)
                if wants_history:
                    for s in range(0, whole, GROUP):
                        add_late(done, s * _LANES, grads, s * _LANES, factors, places, count)
                    _scatter(of_history, at, batch * neurons, done, longest + steps, width)
                if wants_share:
                    _gather(rows, GROUP, history, at, batch * neurons, longest + steps, width)
                    for lag in range(0, sums, GROUP):
                        begin = (GROUP + longest - lag) * _LANES
                        dot_late(of_share, (vector * sums + lag) * _LANES, grads, longest * _LANES, rows, begin, steps)

    return announced(early, "delays of neurons, backward")


_VERSION = version(f"{__package__}._tiles")
