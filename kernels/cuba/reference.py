"""Current-based leaky integrate-and-fire: the specification of every backend.

With input x, synaptic current i, membrane h before and v after the reset, and spike s, at each step t:

    i[t] = i_decay i[t-1] + x[t]
    h[t] = decay v[t-1] + gain i[t] + bias
    s[t] = 1 if h[t] >= threshold (strict: >) else 0
    v[t] = h[t] - reset s[t]  (soft reset),  or  reset if s[t] else h[t]  (hard reset)

Backward, from the membrane's side as in ``lif``, which gives gh; then, with gi the sum of what reaches i[t]:

    gi = gain gh + (what i[t+1] sends back),   gx = gi,   to i[t-1]: i_decay gi
    gain: gh i[t]   i_decay: gi i[t-1]
"""

from typing import Any, NamedTuple

import torch

from .._scan.family import Family
from .._scan.reference import Reference

__all__ = ["FAMILY", "CubaState", "Knobs", "backward", "forward"]


class CubaState(NamedTuple):
    """Membrane potential v and synaptic current i after a step, each [B, *features]."""

    v: Any
    i: Any


class Knobs(NamedTuple):
    """The parameters of the equations above, each a scalar or broadcast against [*features]."""

    decay: Any
    gain: Any
    bias: Any
    threshold: Any
    reset: Any
    i_decay: Any


class Trace(NamedTuple):
    """What a step's backward pass must know: the membrane before its reset, the synaptic current."""

    h: Any
    i: Any


def charge(knobs, before, x):
    decay, gain, bias, _, _, i_decay = knobs
    v, i = before
    i = i_decay * i + x
    return decay * v + gain * i + bias, i


def distance(knobs, trace):
    _, _, _, threshold, _, _ = knobs
    h, _ = trace
    return h - threshold


def settle(knobs, before, trace, fired, hard):
    _, _, _, _, reset, _ = knobs
    h, i = trace
    return torch.where(fired, reset if hard else h - reset, h), i


def back(knobs, before, trace, fired, slope, x, grad_fired, grad_after, hard, attached):
    decay, gain, _, _, reset, i_decay = knobs
    (v, i_before), (h, i), (grad_v, grad_i) = before, trace, grad_after
    if attached:
        grad_fired = grad_fired + grad_v * (reset - h if hard else -reset)
    through_spike = grad_fired * slope
    at_reset = torch.where(fired, grad_v, 0.0)
    grad_h = through_spike + (torch.where(fired, 0.0, grad_v) if hard else grad_v)
    grad_i = grad_i + gain * grad_h
    grad_knobs = (
        grad_h * v, grad_h * i, grad_h, -through_spike, at_reset if hard else -at_reset, grad_i * i_before
    )  # fmt: skip
    return grad_i, (decay * grad_h, i_decay * grad_i), grad_knobs


FAMILY = Family("cuba", CubaState, Knobs, Trace, charge, distance, settle, back)
_REFERENCE = Reference(FAMILY)
forward, backward = _REFERENCE.forward, _REFERENCE.backward
