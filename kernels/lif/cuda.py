"""Leaky integrate-and-fire over time on a GPU, by Triton: the equations of ``reference.py``.

Bytes a neuron-step, float32: training 16.6 (forward x, packed spikes and 1/16 of a membrane; backward x, the spikes'
gradient, x's gradient and the checkpoint), inference 8 with dense spikes; benchmarks/KERNELS.md counts them all.
"""

import triton
import triton.language as tl

from .._triton import after_reset, back_through_spike, fires
from .._triton_launch import Equations

__all__ = ["backward", "equations", "forward"]


@triton.jit
def _step(x, state, knobs, HARD: tl.constexpr, STRICT: tl.constexpr):
    decay, gain, bias, threshold, reset = knobs
    h = decay * state[0] + gain * x + bias
    fired = fires(h, threshold, STRICT)
    return h, fired, (after_reset(h, fired, reset, HARD),)


@triton.jit
def _back(
    grad_fired, grads, x, before, h, after, knobs, alpha,
    HARD: tl.constexpr, STRICT: tl.constexpr, ATTACHED: tl.constexpr, SURROGATE: tl.constexpr,
):  # fmt: skip
    decay, gain, _, threshold, reset = knobs
    grad_h, through_spike, grad_reset, _ = back_through_spike(
        grad_fired, grads[0], h, threshold, reset, alpha, HARD, STRICT, ATTACHED, SURROGATE
    )
    parts = (grad_h * before[0], grad_h * x, grad_h, -through_spike, grad_reset)
    return gain * grad_h, (decay * grad_h,), parts


equations = Equations(_step, _back)
forward, backward = equations.forward, equations.backward
