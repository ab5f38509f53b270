"""Current-based leaky integrate-and-fire over time on a GPU, by Triton: the equations of ``reference.py``."""

import triton
import triton.language as tl

from .._triton import after_reset, back_through_spike, fires
from .._triton_launch import Equations

__all__ = ["backward", "equations", "forward"]


@triton.jit
def _step(x, state, knobs, HARD: tl.constexpr, STRICT: tl.constexpr):
    decay, gain, bias, threshold, reset, i_decay = knobs
    i = i_decay * state[1] + x
    h = decay * state[0] + gain * i + bias
    fired = fires(h, threshold, STRICT)
    return h, fired, (after_reset(h, fired, reset, HARD), i)


@triton.jit
def _back(
    grad_fired, grads, x, before, h, after, knobs, alpha,
    HARD: tl.constexpr, STRICT: tl.constexpr, ATTACHED: tl.constexpr, SURROGATE: tl.constexpr,
):  # fmt: skip
    decay, gain, _, threshold, reset, i_decay = knobs
    grad_h, through_spike, grad_reset, _ = back_through_spike(
        grad_fired, grads[0], h, threshold, reset, alpha, HARD, STRICT, ATTACHED, SURROGATE
    )
    grad_i = grads[1] + gain * grad_h
    parts = (grad_h * before[0], grad_h * after[1], grad_h, -through_spike, grad_reset, grad_i * before[1])
    return grad_i, (decay * grad_h, i_decay * grad_i), parts


equations = Equations(_step, _back)
forward, backward = equations.forward, equations.backward
