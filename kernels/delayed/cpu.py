"""Only the live taps of every synapse, on the CPU: compiled by numba, in vectors of samples, threaded over neurons.

Two operations (a product and a sum) a synapse, step, sample and live tap for the currents, as many for the inputs'
gradient, as many for the kernel's, from which weight, delay and sigma get theirs. An order of magnitude of memory less than
a kernel over all lags: a number and a place each live tap.

A delay is a shift of a row. Rows hold up to 16 samples side by side, step after step: steps of 16 samples are one vector.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._compiled import announced, version
from .._memory import empty
from .._threads import share
from . import _loops
from ._live import gradients, shares
from ._tiles import GROUP, TILE

__all__ = ["backward", "forward"]

_LANES = 16
_GRAIN = 1 << 18  # products that pay for waking a thread (about 10 microseconds)
_FIRST_CACHE = 32 << 10  # bytes of the first-level cache, less what else is in use
_PIECE = 2048  # elements of a row of gradients at a time


def forward(history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int):
    """The currents [T, B, O], with `count` live taps a synapse."""
    plan = _Plan(history, weight, max_delay, count)
    first, share = _synapses(delay, sigma, plan, kernel)
    value = _by_pair(weight).unsqueeze(-1) * share
    places = plan.places(max_delay - first, plan.source)
    out = _gathered(plan.rows(history, plan.source), value, places, plan, plan.target, plan.source)
    return plan.signal(out, plan.target)


def backward(
    grad: Tensor,
    history: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    max_delay: int,
    kernel: str,
    count: int,
    needs: tuple[bool, bool],
):
    """The gradients of history and of (weight, delay, sigma), None where none is needed."""
    plan = _Plan(history, weight, max_delay, count)
    first, share = _synapses(delay, sigma, plan, kernel)
    grad_history: Tensor | None = None
    parameters: tuple[Tensor | None, ...] = (None, None, None)
    if needs[0]:
        value = _by_pair(weight).unsqueeze(-1) * share
        # An input's gradient comes from the steps after it: max_delay steps of silence before and after the last one.
        padded = plan.rows(grad, plan.padded, skip=max_delay)
        places = plan.places(first.transpose(0, 1), plan.padded)
        found = _gathered(padded, value.transpose(0, 1), places, plan, plan.history, plan.padded)
        grad_history = plan.signal(found, plan.history)
    if needs[1]:
        places = plan.places(max_delay - first, plan.source)
        rows, source = plan.rows(grad, plan.target), plan.rows(history, plan.source)
        of_taps = _correlated(rows, source, places, plan).view(share.shape)
        given = (_by_pair(weight), _by_pair(delay), sigma, first, share, max_delay, kernel)
        of_weight, of_delay, of_sigma = gradients(of_taps, *given)
        parameters = of_weight.reshape(weight.shape), of_delay.reshape(delay.shape), of_sigma
    return grad_history, parameters


class _Rows(NamedTuple):
    """A layout of rows: neurons, steps that mean something, and elements."""

    neurons: int
    steps: int
    length: int


class _Plan:
    """How signals lie in rows, and where synapses find theirs."""

    def __init__(self, history: Tensor, weight: Tensor, max_delay: int, count: int):
        total, batch, inputs = history.shape
        steps, outputs = total - max_delay, weight.shape[0]
        self.batch, self.max_delay, self.count = batch, max_delay, count
        self.lanes = min(batch, _LANES)
        self.lots = -(-batch // self.lanes)
        reach, length = max_delay * self.lanes, _whole_tiles(steps * self.lanes)
        long = _whole_tiles(total * self.lanes)
        self.target = _Rows(outputs, steps, length)
        self.source = _Rows(inputs, total, reach + length)
        self.history = _Rows(inputs, total, long)
        self.padded = _Rows(outputs, steps, reach + long)

    def rows(self, signal: Tensor, layout: _Rows, skip: int = 0) -> Tensor:
        """[T, B, N] -> [lots, N, length], silent where there is no step or sample; the first `skip` steps too."""
        rows = empty((self.lots, layout.neurons, layout.length), torch.float32)
        begin, end = skip * self.lanes, (skip + signal.shape[0]) * self.lanes
        rows[:, :, :begin] = 0
        rows[:, :, end:] = 0
        if self.lots * self.lanes != self.batch:
            signal = torch.nn.functional.pad(signal, (0, 0, 0, self.lots * self.lanes - self.batch))
        inner = rows[:, :, begin:end].view(self.lots, layout.neurons, -1, self.lanes)
        inner.copy_(signal.view(-1, self.lots, self.lanes, layout.neurons).permute(1, 3, 0, 2))
        return rows

    def signal(self, rows: Tensor, layout: _Rows) -> Tensor:
        """[lots, N, length] -> [T, B, N]."""
        rows = rows[:, :, : layout.steps * self.lanes].view(self.lots, layout.neurons, -1, self.lanes)
        out = empty((layout.steps, self.lots * self.lanes, layout.neurons), torch.float32)
        out.view(-1, self.lots, self.lanes, layout.neurons).copy_(rows.permute(2, 0, 3, 1))
        return out if self.lots * self.lanes == self.batch else out[:, : self.batch].contiguous()

    def places(self, shift: Tensor, layout: _Rows) -> Tensor:
        """Where each live tap of [to, from, synapses] begins to read: in row `from`, moved by `shift` steps and fewer."""
        row = torch.arange(shift.shape[1], dtype=torch.int32)[:, None, None] * layout.length
        falling = layout is self.source  # a longer lag reads earlier; of gradients, later
        lags = torch.arange(self.count, dtype=torch.int32) * (-self.lanes if falling else self.lanes)
        return row + shift.to(torch.int32).unsqueeze(-1) * self.lanes + lags


def _synapses(delay: Tensor, sigma: Tensor, plan: _Plan, kernel: str) -> tuple[Tensor, Tensor]:
    return shares(_by_pair(delay), sigma, plan.max_delay, kernel, plan.count)


def _by_pair(tensor: Tensor) -> Tensor:
    """[O, I] or [O, I, synapses] -> [O, I, synapses]."""
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(-1)


def _whole_tiles(length: int) -> int:
    return -(-length // TILE) * TILE


def _gathered(source: Tensor, value: Tensor, places: Tensor, plan: _Plan, target: _Rows, origin: _Rows) -> Tensor:
    """Rows of [to, from, synapses, taps] weighted and shifted, [lots, to, length]."""
    out = empty((plan.lots, target.neurons, target.length), torch.float32)
    rows, each = target.neurons, value.shape[2] * plan.count
    entries = origin.neurons * each
    window = 4 * (plan.max_delay * plan.lanes + TILE)
    block = max(1, _FIRST_CACHE // 2 // window) * each
    value, places = value.contiguous(), places.contiguous()
    arrays = [_flat(t) for t in (out, source, value, places)]
    size = origin.neurons * origin.length
    out.zero_()

    def task(first: int, stop: int) -> None:
        _gather()(*arrays, plan.lots, rows, target.length, size, entries, block, first, stop)

    share(task, rows, max(1, _GRAIN // max(1, entries * plan.lots * target.length)))
    return out


def _correlated(grads: Tensor, source: Tensor, places: Tensor, plan: _Plan) -> Tensor:
    """The products of rows of gradients and shifted rows of the source, [to, from, synapses, taps]."""
    outputs, wanted = places.shape[0], places[0].numel()
    entries = -(-wanted // GROUP) * GROUP
    padded = torch.zeros(outputs, entries, dtype=torch.int32)
    padded[:, :wanted] = places.reshape(outputs, wanted)
    sums = torch.zeros(outputs, entries)
    each = places.shape[2] * plan.count
    window = 4 * (plan.max_delay * plan.lanes + min(_PIECE, plan.target.length))
    block = -(-max(1, _FIRST_CACHE // window) * each // GROUP) * GROUP
    arrays = [_flat(t) for t in (sums, grads, source, padded)]
    target, size = plan.target, plan.source.neurons * plan.source.length

    def task(first: int, stop: int) -> None:
        _correlate()(*arrays, plan.lots, outputs, target.length, size, entries, block, _PIECE, first, stop)

    share(task, outputs, max(1, _GRAIN // max(1, entries * plan.lots * target.length)))
    return sums[:, :wanted]


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().view(-1).numpy()


@cache
def _gather():
    return announced(_loops.make_gather(_VERSION), "delayed synapses, forward")


@cache
def _correlate():
    return announced(_loops.make_correlate(_VERSION), "delayed synapses, backward")


_VERSION = version(f"{__package__}._tiles")
