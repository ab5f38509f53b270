"""Leaky integrate-and-fire: the specification of every backend.

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
"""

from typing import Any, NamedTuple

import torch

from .._scan.family import Family
from .._scan.reference import Reference

__all__ = ["FAMILY", "Knobs", "LIFState", "backward", "forward"]


class LIFState(NamedTuple):
    """The membrane potential v after a step, [B, *features]."""

    v: Any


class Knobs(NamedTuple):
    """The parameters of the equations above, each a scalar or broadcast against [*features]."""

    decay: Any
    gain: Any
    bias: Any
    threshold: Any
    reset: Any


class Trace(NamedTuple):
    """What a step's backward pass must know: the membrane before its reset."""

    h: Any


def charge(knobs, before, x):
    decay, gain, bias, _, _ = knobs
    (v,) = before
    return (decay * v + gain * x + bias,)


def distance(knobs, trace):
    _, _, _, threshold, _ = knobs
    (h,) = trace
    return h - threshold


def settle(knobs, before, trace, fired, hard):
    _, _, _, _, reset = knobs
    (h,) = trace
    return (torch.where(fired, reset if hard else h - reset, h),)


def back(knobs, before, trace, fired, slope, x, grad_fired, grad_after, hard, attached):
    decay, gain, _, _, reset = knobs
    (v,), (h,), (grad_v,) = before, trace, grad_after
    if attached:
        grad_fired = grad_fired + grad_v * (reset - h if hard else -reset)
    through_spike = grad_fired * slope
    at_reset = torch.where(fired, grad_v, 0.0)
    grad_h = through_spike + (torch.where(fired, 0.0, grad_v) if hard else grad_v)
    grad_knobs = (grad_h * v, grad_h * x, grad_h, -through_spike, at_reset if hard else -at_reset)
    return gain * grad_h, (decay * grad_h,), grad_knobs


FAMILY = Family("lif", LIFState, Knobs, Trace, charge, distance, settle, back)
_REFERENCE = Reference(FAMILY)
forward, backward = _REFERENCE.forward, _REFERENCE.backward
