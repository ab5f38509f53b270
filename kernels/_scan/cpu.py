"""A family's equations over time on the CPU: compiled by numba, vectorised, threaded over neurons.

The same signatures and results as ``reference.py``. Bytes a neuron-step, float32: forward reads x and writes spikes (8),
backward reads the spikes' gradient and x, and writes x's gradient (12); checkpoints add 1/4 a state each way. 16-bit
numbers are read and written as such; states and sums are float32.

Currents and gradients are read where they are if neurons lie side by side, samples too, at any distance between steps (also
0, as in the gradient of a sum over time); anything else is copied once.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._compiled import announced, version
from .._memory import empty, workspace
from .._threads import share
from . import _loops, _stream
from ._slopes import SLOPES
from .family import Family, Feedback, Rule

__all__ = ["Compiled"]

_GRAIN = 1 << 15  # neuron-steps that pay for waking a thread (about 10 microseconds)
# Neurons of a block. Knobs that differ among neurons, and sums of gradients, take rows of the workspace, which must stay in
# the second-level cache. No power of two: rows at such distances would fight for the same lines of the cache.
_LONG, _SHORT = 32_832, 8_208
# Bytes from which spikes go past the caches. Gradients do not: with three more rows on the way, it cost time when measured.
_CACHED = 8 << 20

_ONES = {torch.float32: np.float32(1), torch.bfloat16: np.uint16(0x3F80), torch.float16: np.int16(0x3C00)}
_BITS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}  # how the loops tell them apart


class Compiled:
    """Forward and backward of one family.

    Args:
        family: the equations.
    """

    def __init__(self, family: Family):
        self.family = family
        own = (f"{__package__}.{name}" for name in ("_rows", "_slopes", "_stream"))
        self.version = version(family.charge.__module__, family.state.__module__, *own, "temporal.kernels._float32")

    def forward(
        self,
        x: Tensor,
        state: Any,
        knobs: Any,
        feedback: Feedback | None,
        lengths: Tensor | None,
        rule: Rule,
        v_sequence: bool,
        every: int,
    ) -> tuple[Tensor, Tensor, Any, Any]:
        """``Reference.forward``."""
        steps, shape = x.shape[0], x.shape[1:]
        neurons = shape.numel()
        blocks = -(-steps // every) if every else 0
        spikes = empty(x.shape, x.dtype)
        membranes = empty((steps if v_sequence else 0, *shape), torch.float32)
        last = [torch.empty(shape, dtype=torch.float32) for _ in state]
        checkpoints = [empty((blocks, *shape), torch.float32) for _ in state]
        current, x_step = _rows_of(x)
        numbers, rows = _knobs(knobs, shape[1:])
        row = _LONG if rows is None or feedback is not None else _SHORT
        run = self._forward(row)
        space = row * (len(knobs) + len(state) + 1)
        arguments = (
            current, x_step, tuple(map(_flat, state)), numbers, rows, rule.hard, rule.strict, _ONES[x.dtype], every,
            _flat(spikes), _flat(membranes) if v_sequence else None, tuple(map(_flat, last)),
            tuple(map(_flat, checkpoints)), *_feedback(feedback)[::2], *_lengths(lengths, shape),
            _streamed(x), steps, neurons,
        )  # fmt: skip

        def task(first: int, stop: int) -> None:
            with workspace(space) as arrays:
                run(*arguments, *arrays, first, stop)

        _share(task, shape, steps, feedback is not None)
        return spikes, membranes, self.family.state(*last), self.family.state(*checkpoints)

    def backward(
        self,
        grad_spikes: Tensor | None,
        grad_v_sequence: Tensor | None,
        grad_last: Any,
        x: Tensor,
        checkpoints: Any,
        knobs: Any,
        feedback: Feedback | None,
        spikes: Tensor | None,
        lengths: Tensor | None,
        rule: Rule,
        every: int,
        truncate: int,
        needs: Sequence[bool],
    ) -> tuple[Tensor, Any, Any, Tensor | None]:
        """``Reference.backward``."""
        steps, shape = x.shape[0], x.shape[1:]
        neurons = shape.numel()
        states, learns = len(checkpoints), any(needs)
        nothing = torch.zeros(shape, dtype=torch.float32)
        grad_x = empty(x.shape, x.dtype)
        grad_state = [torch.empty(shape, dtype=torch.float32) for _ in checkpoints]
        sums = empty((len(knobs), neurons), torch.float32) if learns else None
        grads, grad_step = _rows_of(nothing.expand(x.shape) if grad_spikes is None else grad_spikes)
        current, x_step = _rows_of(x)
        numbers, rows = _knobs(knobs, shape[1:])
        row = _SHORT if (learns or rows is not None) and feedback is None else _LONG
        run = self._backward(rule.surrogate, row)
        space = row * (len(knobs) * (2 if learns else 1) + 2 * states + 2)
        height = row * (len(self.family.trace._fields) + (states + 1 if learns else 0))  # type: ignore[attr-defined]
        grad_sent = None if feedback is None else empty(shape, torch.float32)
        arguments = (
            grads, grad_step, None if grad_v_sequence is None else _flat(grad_v_sequence),
            tuple(_flat(nothing if grad is None else grad) for grad in grad_last), current, x_step,
            tuple(map(_flat, checkpoints)), numbers, rows, rule.hard, rule.strict, not rule.detach_reset,
            np.float32(rule.alpha), every, truncate, None if sums is None else _flat(sums), _flat(grad_x),
            tuple(map(_flat, grad_state)), *_feedback(feedback), None if spikes is None else _flat(spikes),
            None if grad_sent is None else _flat(grad_sent), *_lengths(lengths, shape),
            steps, neurons,
        )  # fmt: skip

        def task(first: int, stop: int) -> None:
            with workspace(space, height * min(every, steps)) as arrays:
                run(*arguments, *arrays, first, stop)

        _share(task, shape, steps, feedback is not None)
        grad_knobs = [
            sums[k].reshape(shape).sum_to_size(knob.shape) if sums is not None and needed else knob.new_empty(0)
            for k, (knob, needed) in enumerate(zip(knobs, needs, strict=True))
        ]
        return grad_x, self.family.state(*grad_state), self.family.knobs(*grad_knobs), grad_sent

    @cache  # noqa: B019 # there are as many of these as families, and they live as long as the program
    def _forward(self, row: int):
        return announced(_loops.make_forward(self.family, row, self.version), f"{self.family.name}, forward")

    @cache  # noqa: B019
    def _backward(self, surrogate: str, row: int):
        run = _loops.make_backward(self.family, SLOPES[surrogate], row, self.version)
        return announced(run, f"{self.family.name}, backward with the slope {surrogate}")


def _knobs(knobs: Any, features: Sequence[int]) -> tuple[tuple | None, tuple | None]:
    """Numbers for all neurons, or rows with one value, or one for each feature."""
    if all(not knob.dim() for knob in knobs):
        return tuple(np.float32(knob.item()) for knob in knobs), None
    return None, tuple(_flat(k.reshape(1) if k.numel() == 1 else k.expand(features)) for k in knobs)


def _rows_of(x: Tensor) -> tuple[np.ndarray, int]:
    """A flat array with x[t] from t * distance on, and that distance; without a copy where there is such a one."""
    steps, neurons = x.shape[0], x.shape[1:].numel()
    if x.is_contiguous() or not x[0].is_contiguous():
        return _flat(x), neurons
    distance = x.stride(0) if steps > 1 else neurons
    return _flat(x.as_strided(((steps - 1) * distance + neurons,), (1,))), distance


def _streamed(x: Tensor) -> bool:
    return _stream.AVAILABLE and x.nbytes > _CACHED


def _feedback(feedback: Feedback | None) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The weights [from, to], the weights [to, from], and what was sent before the first step."""
    if feedback is None:
        return None, None, None
    return _flat(feedback.weight.t()), _flat(feedback.weight), _flat(feedback.sent)


def _share(task: Callable[[int, int], None], shape: Sequence[int], steps: int, whole_samples: bool) -> None:
    """Let threads take ranges of neurons, or of whole samples."""
    neurons = math.prod(shape)
    if not whole_samples:
        share(task, neurons, _GRAIN // max(1, steps))
    elif neurons:
        size = neurons // shape[0]
        share(lambda first, stop: task(first * size, stop * size), shape[0], _GRAIN // max(1, steps * size * size))


def _lengths(lengths: Tensor | None, shape: Sequence[int]) -> tuple[np.ndarray | None, int]:
    """The samples' steps, and how many neurons a sample has."""
    return None if lengths is None else _flat(lengths), math.prod(shape[1:])


def _flat(tensor: Tensor) -> np.ndarray:
    """A flat array of a tensor's elements, of the bits of 16-bit ones; without a copy where the tensor is contiguous."""
    tensor = tensor.detach()
    if tensor.dtype in _BITS:
        tensor = tensor.view(_BITS[tensor.dtype])
    return np.ascontiguousarray(tensor.numpy()).reshape(-1)
