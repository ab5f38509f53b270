"""Leaky integrate-and-fire over time on the CPU: compiled by numba, vectorised, threaded over neurons.

The same signatures and results as ``reference.py``. Bytes a neuron-step, float32: forward reads x and writes spikes
(8), backward reads the spikes' gradient and x, and writes x's gradient (12); checkpoints add 1/4 each way.
Computes in float32; 16-bit currents and gradients are widened by torch first. Strided arguments are copied once.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .._threads import share
from . import _loops

__all__ = ["backward", "forward"]

_GRAIN = 1 << 15  # neuron-steps that pay for waking a thread (about 10 microseconds)

# A 16-bit spike is written as its bits.
_ONES = {torch.float32: np.float32(1), torch.bfloat16: np.uint16(0x3F80), torch.float16: np.uint16(0x3C00)}


def forward(
    x: Tensor,
    v: Tensor,
    decay: Tensor,
    gain: Tensor,
    bias: Tensor,
    threshold: Tensor,
    reset: Tensor,
    hard: bool,
    strict: bool,
    v_sequence: bool,
    every: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``reference.forward``."""
    steps, neurons = x.shape[0], v.numel()
    blocks = -(-steps // every) if every else 0
    spikes = x.new_empty(x.shape)
    membranes = v.new_empty((steps if v_sequence else 0, *v.shape))
    last = v.new_empty(v.shape)
    checkpoints = v.new_empty((blocks, *v.shape))
    numbers, rows = _knobs(v.shape[1:], decay, gain, bias, threshold, reset, strict)
    one = _ONES[x.dtype]
    bits = spikes if x.dtype == torch.float32 else spikes.view(torch.uint16)
    arrays = [_flat(t) for t in (bits, membranes, last, checkpoints)]
    current, start = _flat(x), _flat(v)

    def task(first: int, stop: int) -> None:
        _loops.forward(  # type: ignore[call-arg]
            current, start, numbers, rows, hard, one, every, *arrays, steps, neurons, first, stop
        )

    share(task, neurons, _GRAIN // max(1, steps))
    return spikes, membranes, last, checkpoints


def backward(
    grad_spikes: Tensor | None,
    grad_v_sequence: Tensor | None,
    grad_v_last: Tensor | None,
    x: Tensor,
    checkpoints: Tensor,
    decay: Tensor,
    gain: Tensor,
    bias: Tensor,
    threshold: Tensor,
    reset: Tensor,
    hard: bool,
    strict: bool,
    detach_reset: bool,
    surrogate: str,
    alpha: float,
    every: int,
    needs: Sequence[bool],
) -> tuple[Tensor, ...]:
    """``reference.backward``."""
    steps, shape = x.shape[0], x.shape[1:]
    neurons = shape.numel()
    grad_x = checkpoints.new_empty(x.shape)
    grad_v = checkpoints.new_empty(shape)
    grad_knobs = checkpoints.new_empty((5, neurons if any(needs) else 0))
    nothing = checkpoints.new_zeros(shape if grad_spikes is None or grad_v_last is None else 0)
    numbers, rows = _knobs(shape[1:], decay, gain, bias, threshold, reset, strict)
    slope = -1 if grad_spikes is None and detach_reset else _loops.SLOPES.index(surrogate)
    spike_stride = 0 if grad_spikes is None else neurons
    inputs = (
        _flat(nothing if grad_spikes is None else grad_spikes),
        spike_stride,
        np.empty(0, np.float32) if grad_v_sequence is None else _flat(grad_v_sequence),
        _flat(nothing if grad_v_last is None else grad_v_last),
        _flat(x),
        _flat(checkpoints),
    )
    rule = (hard, not detach_reset, slope, np.float32(alpha), every, tuple(needs))
    outputs = (_flat(grad_x), _flat(grad_v), grad_knobs.numpy())

    def task(first: int, stop: int) -> None:
        _loops.backward(*inputs, numbers, rows, *rule, *outputs, steps, neurons, first, stop)

    share(task, neurons, _GRAIN // max(1, steps))
    knobs = (decay, gain, bias, threshold, reset)
    sums = [
        grad_knobs[k].reshape(shape).sum_to_size(knob.shape) if needed else knob.new_empty(0)
        for k, (knob, needed) in enumerate(zip(knobs, needs, strict=True))
    ]
    return grad_x.to(x.dtype), grad_v, *sums


def _knobs(features: Sequence[int], decay, gain, bias, threshold, reset, strict: bool):
    """Five numbers for all neurons, or rows with a value for each feature; in the order of the loops' workspace."""
    knobs = (decay, gain, bias, _comparable(threshold, strict), threshold, reset)
    if all(knob.numel() == 1 for knob in knobs):
        return tuple(np.float32(knob.item()) for knob in knobs), None
    return None, tuple(_flat(k.reshape(1) if k.numel() == 1 else k.expand(features)) for k in knobs)


def _comparable(threshold: Tensor, strict: bool) -> Tensor:
    """The threshold that ``h >= fire`` needs to mean ``h > threshold`` where strict: the next float32 above it.

    Nothing is above infinity: there it is NaN, which no membrane reaches.
    """
    if not strict:
        return threshold
    infinity = torch.full_like(threshold, math.inf)
    return torch.where(threshold == infinity, math.nan, torch.nextafter(threshold, infinity))


def _flat(tensor: Tensor) -> np.ndarray:
    """A flat float32 array (uint16 for bits) of a tensor's elements, without a copy where it is one already."""
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.detach().reshape(-1).numpy()
