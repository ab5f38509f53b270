"""Leaky integrate-and-fire with adaptation over time, in plain torch: the specification of every other backend.

With current x, membrane h before and v after the reset, spike s, the adaptation w, and the adaptation r that this step
sees (w[t-1]; w[t-2] where the state holds two values of w), at each step t:

    h[t] = decay v[t-1] + gain x[t] + bias - brake r[t]
    s[t] = 1 if h[t] >= threshold + lift r[t] (strict: >) else 0
    v[t] = h[t] - (reset + reset_lift r[t]) s[t]                    (soft reset)
    v[t] = reset if s[t] else h[t]                                  (hard reset)
    w[t] = w_decay w[t-1] + pull v[t] + jump s[t]

``lift`` makes the threshold adapt (ALIF), ``brake`` and ``pull`` the membrane below it (AdLIF).

Backward, with the surrogate slope k = g(h - threshold - lift r), gw what reaches w[t] from later steps, and gv what
reaches v[t] from outside, from t+1 and, as pull gw, through the adaptation:

    ds = gs + jump gw + gv dv/ds,   dv/ds = -(reset + reset_lift r) (soft), reset - h (hard)
    gh = k ds + gv (soft) or k ds + (1 - s) gv (hard)
    gr = -brake gh - lift k ds - reset_lift s gv (soft)
    gx = gain gh,   to v[t-1]: decay gh,   to w[t-1]: w_decay gw,   to the w that r was: gr
    decay: gh v[t-1]   gain: gh x   bias: gh   threshold: -k ds   brake: -gh r   lift: -k ds r   w_decay: gw w[t-1]
    pull: gw v[t]   jump: gw s   reset: -s gv (soft), s gv (hard)   reset_lift: -s gv r (soft)

``detach_reset`` drops the term gv dv/ds; the spike still reaches the adaptation. Nothing is kept for the backward pass but
the state before every ``every``-th step. The work is linear in the number of steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..surrogates import Surrogate

__all__ = ["Knobs", "State", "backward", "forward"]


class State(NamedTuple):
    """What goes from one step to the next.

    v: membrane [B, *features].
    w: adaptation, those values that no step has seen yet, oldest first: [1, B, *features], or [2, B, *features] where it
        acts a step later.
    """

    v: Tensor
    w: Tensor


class Knobs(NamedTuple):
    """The parameters of the equations above, each a scalar or broadcast against [*features]."""

    decay: Tensor
    gain: Tensor
    bias: Tensor
    threshold: Tensor
    reset: Tensor
    reset_lift: Tensor
    brake: Tensor
    lift: Tensor
    w_decay: Tensor
    pull: Tensor
    jump: Tensor


class _Step(NamedTuple):
    """One step computed again: the state before, membrane before and after its reset, spikes, and the adaptation seen."""

    before: State
    h: Tensor
    v: Tensor
    fired: Tensor
    seen: Tensor


def forward(
    x: Tensor, state: State, knobs: Knobs, hard: bool, strict: bool, v_sequence: bool, every: int
) -> tuple[Tensor, Tensor, State, State]:
    """Spikes [T, ...], membranes after reset [T, ...] (or [0, ...]), the last state, checkpoints for backward."""
    spikes, membranes, checkpoints = [], [], []
    now, line = state, list(state.w.unbind(0))
    for t, current in enumerate(x.unbind(0)):
        if every and t % every == 0:
            checkpoints.append(State(now.v, torch.stack(line)))
        v, line, step = _step(current, now.v, line, knobs, hard, strict)
        now = State(v, state.w)
        spikes.append(step[1].to(x.dtype))
        if v_sequence:
            membranes.append(v)
    # Copies where no step was taken: an operator's result must not share the memory of its input.
    last = State(now.v.clone() if now is state else now.v, torch.stack(line))
    kept = State(*(_stack([c[n] for c in checkpoints], state[n][None][:0]) for n in range(len(state))))
    return _stack(spikes, x[:0]), _stack(membranes, state.v[None][:0]), last, kept


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
    nothing, one = checkpoints.v.new_zeros(x.shape[1:]), checkpoints.v.new_ones(())
    to_v = nothing.clone() if grad_last.v is None else grad_last.v.clone()
    to_line = [nothing] * checkpoints.w.shape[1] if grad_last.w is None else list(grad_last.w.unbind(0))
    sums = [nothing.clone() if needed else nothing.new_zeros(0) for needed in needs]
    grad_x: list[Tensor] = []  # last step first
    for start in reversed(range(0, x.shape[0], every)):
        block = x[start : start + every]
        first = State(*(c[start // every] for c in checkpoints))
        for t, step in reversed(list(enumerate(_again(block, first, knobs, hard, strict), start))):
            before, h, v, fired, seen = step
            grad_w = to_line[-1]
            grad_v = to_v + knobs.pull * grad_w
            if grad_v_sequence is not None:
                grad_v = grad_v + grad_v_sequence[t]
            grad_fired = knobs.jump * grad_w
            if grad_spikes is not None:
                grad_fired = grad_fired + grad_spikes[t].to(h.dtype)
            if not detach_reset:
                grad_fired = grad_fired + grad_v * (knobs.reset - h if hard else _soft_reset(knobs, seen).neg())
            through_spike = grad_fired * slope(h - (knobs.threshold + knobs.lift * seen))
            at_reset = torch.where(fired, grad_v, 0)
            grad_h = through_spike + (torch.where(fired, 0, grad_v) if hard else grad_v)
            grad_seen = -knobs.brake * grad_h - knobs.lift * through_spike
            if not hard:
                grad_seen = grad_seen - knobs.reset_lift * at_reset
            grad_x.append((knobs.gain * grad_h).to(x.dtype))
            to_v = knobs.decay * grad_h
            to_line = [grad_seen, *to_line[:-1]]
            to_line[-1] = to_line[-1] + knobs.w_decay * grad_w
            parts = (
                (1, grad_h, before.v),
                (1, grad_h, x[t].to(h.dtype)),
                (1, grad_h, one),
                (-1, through_spike, one),
                (1 if hard else -1, at_reset, one),
                (0 if hard else -1, at_reset, seen),
                (-1, grad_h, seen),
                (-1, through_spike, seen),
                (1, grad_w, before.w[-1]),
                (1, grad_w, v),
                (1, grad_w, fired.to(h.dtype)),
            )
            for total, needed, (sign, gradient, factor) in zip(sums, needs, parts, strict=True):
                if needed and sign:
                    total.addcmul_(gradient, factor, value=sign)
    grads = [s.sum_to_size(k.shape) if needed else s for s, k, needed in zip(sums, knobs, needs, strict=True)]
    return _stack(grad_x[::-1], x[:0]), State(to_v, torch.stack(to_line)), Knobs(*grads)


def _soft_reset(knobs: Knobs, seen: Tensor) -> Tensor:
    return knobs.reset + knobs.reset_lift * seen


def _step(x: Tensor, v: Tensor, line: list[Tensor], knobs: Knobs, hard: bool, strict: bool):
    """The membrane and the adaptation after one step; the membrane before its reset, and who fired."""
    seen = line[0]
    h = knobs.decay * v + knobs.gain * x.to(v.dtype) + knobs.bias - knobs.brake * seen
    threshold = knobs.threshold + knobs.lift * seen
    fired = h > threshold if strict else h >= threshold
    v = torch.where(fired, knobs.reset if hard else h - _soft_reset(knobs, seen), h)
    w = knobs.w_decay * line[-1] + knobs.pull * v + torch.where(fired, knobs.jump, 0)
    return v, [*line[1:], w], (h, fired)


def _again(x: Tensor, state: State, knobs: Knobs, hard: bool, strict: bool) -> list[_Step]:
    """Every step of one block, from the state before it."""
    steps = []
    v, line = state.v, list(state.w.unbind(0))
    for current in x.unbind(0):
        before = State(v, line)  # type: ignore[arg-type] # not stacked: only read
        v, line, (h, fired) = _step(current, v, line, knobs, hard, strict)
        steps.append(_Step(before, h, v, fired, before.w[0]))
    return steps


def _stack(steps: list[Tensor], none: Tensor) -> Tensor:
    return torch.stack(steps) if steps else none.clone(memory_format=torch.contiguous_format)
