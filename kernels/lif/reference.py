"""Leaky integrate-and-fire over time, in plain torch: the specification of every other backend.

With current x, membrane h before and v after the reset, and spike s, at each step t:

    h[t] = decay v[t-1] + gain x[t] + bias
    s[t] = 1 if h[t] >= threshold (strict: >) else 0
    v[t] = h[t] - reset s[t]                    (soft reset)
    v[t] = reset if s[t] else h[t]              (hard reset)

Backward, with the surrogate slope k = g(h - threshold), and gv the sum of what reaches v[t] from outside and from t+1:

    ds = gs + gv dv/ds,   dv/ds = -reset (soft), reset - h (hard); detach_reset drops this second term
    gh = k ds + gv (soft) or k ds + (1 - s) gv (hard)
    gx = gain gh,   to v[t-1]: decay gh
    decay: gh v[t-1]   gain: gh x   bias: gh   threshold: -k ds   reset: -s gv (soft), s gv (hard)

Nothing of the membrane is kept for the backward pass but v before every ``every``-th step; the steps in between are
computed again. The work is linear in the number of steps (tensors are unbound once, never indexed under autograd).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..surrogates import Surrogate

__all__ = ["backward", "forward"]


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
    """Spikes [T, ...], membranes after reset [T, ...] (or [0, ...]), the last membrane, checkpoints for backward."""
    spikes, membranes, checkpoints = [], [], []
    last = v
    for t, current in enumerate(x.unbind(0)):
        if every and t % every == 0:
            checkpoints.append(last)
        h = _charge(current, last, decay, gain, bias)
        fired = _fire(h, threshold, strict)
        last = torch.where(fired, reset if hard else h - reset, h)
        spikes.append(fired.to(x.dtype))
        if v_sequence:
            membranes.append(last)
    if last is v:  # no step was taken: an operator's result must not share the memory of its input
        last = v.clone()
    return _stack(spikes, x[:0]), _stack(membranes, v[None, ...][:0]), last, _stack(checkpoints, v[None, ...][:0])


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
    """Gradients for x, v, decay, gain, bias, threshold, reset; the five parameters' only where ``needs`` says so."""
    slope = Surrogate(surrogate, alpha)
    nothing = checkpoints.new_zeros(x.shape[1:])
    carry = nothing.clone() if grad_v_last is None else grad_v_last.clone()
    sums = [nothing.clone() if needed else nothing.new_zeros(0) for needed in needs]
    grad_x: list[Tensor] = []  # last step first
    for start in reversed(range(0, x.shape[0], every)):
        block = x[start : start + every]
        before, charged = _again(block, checkpoints[start // every], decay, gain, bias, threshold, reset, hard, strict)
        for t in reversed(range(start, start + len(charged))):
            v, h = before[t - start], charged[t - start]
            fired = _fire(h, threshold, strict)
            grad_v = carry if grad_v_sequence is None else carry + grad_v_sequence[t]
            grad_fired = nothing if grad_spikes is None else grad_spikes[t].to(h.dtype)
            if not detach_reset:
                grad_fired = grad_fired + grad_v * (reset - h if hard else -reset)
            through_spike = grad_fired * slope(h - threshold)
            grad_h = through_spike + (torch.where(fired, 0, grad_v) if hard else grad_v)
            grad_x.append((gain * grad_h).to(x.dtype))
            carry = decay * grad_h
            if needs[0]:
                sums[0] += grad_h * v
            if needs[1]:
                sums[1] += grad_h * x[t]
            if needs[2]:
                sums[2] += grad_h
            if needs[3]:
                sums[3] -= through_spike
            if needs[4]:
                sums[4] += torch.where(fired, grad_v if hard else -grad_v, 0)
    parameters = (decay, gain, bias, threshold, reset)
    grads = [s.sum_to_size(p.shape) if need else s for s, p, need in zip(sums, parameters, needs, strict=True)]
    return _stack(grad_x[::-1], x[:0]), carry, *grads


def _charge(current: Tensor, v: Tensor, decay: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return decay * v + gain * current.to(v.dtype) + bias


def _fire(h: Tensor, threshold: Tensor, strict: bool) -> Tensor:
    return h > threshold if strict else h >= threshold


def _again(x: Tensor, v: Tensor, decay, gain, bias, threshold, reset, hard: bool, strict: bool):
    """The membranes before each step and before each reset of one block, from the membrane before the block."""
    before, charged = [], []
    for current in x.unbind(0):
        h = _charge(current, v, decay, gain, bias)
        before.append(v)
        charged.append(h)
        v = torch.where(_fire(h, threshold, strict), reset if hard else h - reset, h)
    return before, charged


def _stack(steps: list[Tensor], none: Tensor) -> Tensor:
    return torch.stack(steps) if steps else none.clone(memory_format=torch.contiguous_format)
