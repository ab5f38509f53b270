"""Current-based leaky integrate-and-fire over time, in plain torch: the specification of every other backend.

With input x, synaptic current i, membrane h before and v after the reset, and spike s, at each step t:

    i[t] = i_decay i[t-1] + x[t]
    h[t] = decay v[t-1] + gain i[t] + bias
    s[t] = 1 if h[t] >= threshold (strict: >) else 0
    v[t] = h[t] - reset s[t]  (soft reset),  or  reset if s[t] else h[t]  (hard reset)

Backward, from the membrane's side as in ``lif``, which gives gh; then, with gi the sum of what reaches i[t]:

    gi = gain gh + (what i[t+1] sends back),   gx = gi,   to i[t-1]: i_decay gi
    gain: gh i[t]   i_decay: gi i[t-1]

Nothing is kept for the backward pass but the state before every ``every``-th step. The work is linear in the steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..surrogates import Surrogate

__all__ = ["Knobs", "State", "backward", "forward"]


class State(NamedTuple):
    """What goes from one step to the next: membrane and synaptic current, each [B, *features]."""

    v: Tensor
    i: Tensor


class Knobs(NamedTuple):
    """The parameters of the equations above, each a scalar or broadcast against [*features]."""

    decay: Tensor
    gain: Tensor
    bias: Tensor
    threshold: Tensor
    reset: Tensor
    i_decay: Tensor


def forward(
    x: Tensor, state: State, knobs: Knobs, hard: bool, strict: bool, v_sequence: bool, every: int
) -> tuple[Tensor, Tensor, State, State]:
    """Spikes [T, ...], membranes after reset [T, ...] (or [0, ...]), the last state, checkpoints for backward."""
    spikes, membranes, checkpoints = [], [], []
    now = state
    for t, current in enumerate(x.unbind(0)):
        if every and t % every == 0:
            checkpoints.append(now)
        now, _, fired = _step(current, now, knobs, hard, strict)
        spikes.append(fired.to(x.dtype))
        if v_sequence:
            membranes.append(now.v)
    if now is state:  # no step was taken: an operator's result must not share the memory of its input
        now = State(*(s.clone() for s in state))
    kept = State(*(_stack([c[n] for c in checkpoints], state[n][None][:0]) for n in range(len(state))))
    return _stack(spikes, x[:0]), _stack(membranes, state.v[None][:0]), now, kept


def backward(
    grad_spikes: Tensor | None,
    grad_v_sequence: Tensor | None,
    grad_last: State,
    x: Tensor,
    checkpoints: State,
    knobs: Knobs,
    hard: bool,
    strict: bool,
    detach_reset: bool,
    surrogate: str,
    alpha: float,
    every: int,
    needs: Sequence[bool],
) -> tuple[Tensor, State, Knobs]:
    """Gradients for x, the first state and the knobs; the knobs' only where ``needs`` says so, else empty."""
    slope = Surrogate(surrogate, alpha)
    decay, gain, _, threshold, reset, i_decay = knobs
    nothing, one = checkpoints.v.new_zeros(x.shape[1:]), checkpoints.v.new_ones(())
    to_v, to_i = (nothing.clone() if grad is None else grad.clone() for grad in grad_last)
    sums = [nothing.clone() if needed else nothing.new_zeros(0) for needed in needs]
    grad_x: list[Tensor] = []  # last step first
    for start in reversed(range(0, x.shape[0], every)):
        block = x[start : start + every]
        first = State(*(c[start // every] for c in checkpoints))
        steps = _again(block, first, knobs, hard, strict)
        for t, (before, after, h, fired) in reversed(list(enumerate(steps, start))):
            grad_v = to_v if grad_v_sequence is None else to_v + grad_v_sequence[t]
            grad_fired = nothing if grad_spikes is None else grad_spikes[t].to(h.dtype)
            if not detach_reset:
                grad_fired = grad_fired + grad_v * (reset - h if hard else -reset)
            through_spike = grad_fired * slope(h - threshold)
            at_reset = torch.where(fired, grad_v, 0)
            grad_h = through_spike + (torch.where(fired, 0, grad_v) if hard else grad_v)
            grad_i = to_i + gain * grad_h
            grad_x.append(grad_i.to(x.dtype))
            to_v, to_i = decay * grad_h, i_decay * grad_i
            parts = (
                (1, grad_h, before.v),
                (1, grad_h, after.i),
                (1, grad_h, one),
                (-1, through_spike, one),
                (1 if hard else -1, at_reset, one),
                (1, grad_i, before.i),
            )
            for total, needed, (sign, gradient, factor) in zip(sums, needs, parts, strict=True):
                if needed:
                    total.addcmul_(gradient, factor, value=sign)
    grads = [s.sum_to_size(k.shape) if needed else s for s, k, needed in zip(sums, knobs, needs, strict=True)]
    return _stack(grad_x[::-1], x[:0]), State(to_v, to_i), Knobs(*grads)


def _step(x: Tensor, state: State, knobs: Knobs, hard: bool, strict: bool) -> tuple[State, Tensor, Tensor]:
    """The state after one step, the membrane before its reset, and who fired."""
    i = knobs.i_decay * state.i + x.to(state.i.dtype)
    h = knobs.decay * state.v + knobs.gain * i + knobs.bias
    fired = h > knobs.threshold if strict else h >= knobs.threshold
    return State(torch.where(fired, knobs.reset if hard else h - knobs.reset, h), i), h, fired


def _again(
    x: Tensor, state: State, knobs: Knobs, hard: bool, strict: bool
) -> list[tuple[State, State, Tensor, Tensor]]:
    """State before and after, membrane before its reset, and spikes, for each step of one block."""
    steps = []
    for current in x.unbind(0):
        after, h, fired = _step(current, state, knobs, hard, strict)
        steps.append((state, after, h, fired))
        state = after
    return steps


def _stack(steps: list[Tensor], none: Tensor) -> Tensor:
    return torch.stack(steps) if steps else none.clone(memory_format=torch.contiguous_format)
