"""Leaky integrate-and-fire with adaptation over time on a GPU, by Triton: the equations of ``reference.py``.

The state is the membrane and one or two values of the adaptation, oldest first.
"""

import triton
import triton.language as tl

from .._triton import after_reset, back_through_spike, fires
from .._triton_launch import Equations

__all__ = ["backward", "equations", "forward"]


@triton.jit
def _step(x, state, knobs, HARD: tl.constexpr, STRICT: tl.constexpr):
    decay, gain, bias, threshold, reset, reset_lift, brake, lift, w_decay, pull, jump = knobs
    seen = state[1]
    h = decay * state[0] + gain * x + bias - brake * seen
    fired = fires(h, threshold + lift * seen, STRICT)
    v = after_reset(h, fired, reset if HARD else reset + reset_lift * seen, HARD)
    w = w_decay * state[len(state) - 1] + pull * v + tl.where(fired, jump, 0.0)
    return h, fired, (v,) + state[2:] + (w,)  # noqa: RUF005 # Triton knows no starred tuples


@triton.jit
def _back(
    grad_fired, grads, x, before, h, after, knobs, alpha,
    HARD: tl.constexpr, STRICT: tl.constexpr, ATTACHED: tl.constexpr, SURROGATE: tl.constexpr,
):  # fmt: skip
    decay, gain, _, threshold, reset, reset_lift, brake, lift, w_decay, pull, jump = knobs
    seen = before[1]
    grad_w = grads[len(grads) - 1]
    grad_h, through_spike, grad_reset, fired = back_through_spike(
        grad_fired + jump * grad_w, grads[0] + pull * grad_w, h, threshold + lift * seen,
        reset if HARD else reset + reset_lift * seen, alpha, HARD, STRICT, ATTACHED, SURROGATE,
    )  # fmt: skip
    grad_seen = -brake * grad_h - lift * through_spike
    grad_reset_lift = tl.zeros_like(h) if HARD else grad_reset * seen
    if not HARD:
        grad_seen += reset_lift * grad_reset
    to_w = w_decay * grad_w
    line = (grad_seen + to_w,) if len(grads) == 2 else (grad_seen, grads[1] + to_w)
    parts = (
        grad_h * before[0],
        grad_h * x,
        grad_h,
        -through_spike,
        grad_reset,
        grad_reset_lift,
        -grad_h * seen,
        -through_spike * seen,
        grad_w * before[len(before) - 1],
        grad_w * after[0],
        tl.where(fired, grad_w, 0.0),
    )
    return gain * grad_h, (decay * grad_h,) + line, parts  # noqa: RUF005


equations = Equations(_step, _back)
forward, backward = equations.forward, equations.backward
