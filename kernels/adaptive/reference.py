"""Leaky integrate-and-fire with adaptation: the specification of every backend.

With current x, membrane h before and v after the reset, spike s, the adaptation w, and the adaptation r that this step
sees (w[t-1]; w[t-2] in the late form), at each step t:

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

``detach_reset`` drops the term gv dv/ds; the spike still reaches the adaptation.
"""

from typing import Any, NamedTuple

import torch

from .._scan.family import Family
from .._scan.reference import Reference

__all__ = ["FAMILY", "AdaptiveState", "Knobs", "backward", "forward"]


class AdaptiveState(NamedTuple):
    """Membrane potential v and adaptation w after a step, each [B, *features]; the next step sees both."""

    v: Any
    w: Any


class Knobs(NamedTuple):
    """The parameters of the equations above, each a scalar or broadcast against [*features]."""

    decay: Any
    gain: Any
    bias: Any
    threshold: Any
    reset: Any
    reset_lift: Any
    brake: Any
    lift: Any
    w_decay: Any
    pull: Any
    jump: Any


class Trace(NamedTuple):
    """What a step's backward pass must know: the membrane before its reset, the adaptation it saw."""

    h: Any
    seen: Any


def charge(knobs, before, x):
    decay, gain, bias, _, _, _, brake, _, _, _, _ = knobs
    v, seen = before[0], before[1]
    return decay * v + gain * x + bias - brake * seen, seen


def distance(knobs, trace):
    _, _, _, threshold, _, _, _, lift, _, _, _ = knobs
    h, seen = trace
    return h - (threshold + lift * seen)


def membrane(knobs, trace, fired, hard):
    _, _, _, _, reset, reset_lift, _, _, _, _, _ = knobs
    h, seen = trace
    return torch.where(fired, reset if hard else h - (reset + reset_lift * seen), h)


def adapt(knobs, w, v, fired):
    _, _, _, _, _, _, _, _, w_decay, pull, jump = knobs
    return w_decay * w + pull * v + torch.where(fired, jump, 0.0)


def settle(knobs, before, trace, fired, hard):
    v = membrane(knobs, trace, fired, hard)
    return v, adapt(knobs, before[1], v, fired)


def through_step(knobs, before, trace, fired, slope, x, grad_fired, grad_v, grad_w, hard, attached):
    """Gradients of x, v[t-1], the adaptation that was seen, w[t-1], and the knobs."""
    decay, gain, _, _, reset, reset_lift, brake, lift, w_decay, pull, jump = knobs
    (h, seen), w = trace, before[-1]
    grad_v = grad_v + pull * grad_w
    grad_fired = grad_fired + jump * grad_w
    if attached:
        grad_fired = grad_fired + grad_v * (reset - h if hard else -(reset + reset_lift * seen))
    through_spike = grad_fired * slope
    at_reset = torch.where(fired, grad_v, 0.0)
    grad_h = through_spike + (torch.where(fired, 0.0, grad_v) if hard else grad_v)
    subtracted = torch.where(fired, 0.0, 0.0) if hard else at_reset  # a hard reset does not depend on reset_lift
    grad_seen = -brake * grad_h - lift * through_spike - reset_lift * subtracted
    grad_knobs = (
        grad_h * before[0], grad_h * x, grad_h, -through_spike, at_reset if hard else -at_reset, -subtracted * seen,
        -grad_h * seen, -through_spike * seen, grad_w * w, grad_w * membrane(knobs, trace, fired, hard),
        torch.where(fired, grad_w, 0.0),
    )  # fmt: skip
    return gain * grad_h, decay * grad_h, grad_seen, w_decay * grad_w, grad_knobs


def back(knobs, before, trace, fired, slope, x, grad_fired, grad_after, hard, attached):
    grad_x, grad_v, grad_seen, grad_w, grad_knobs = through_step(
        knobs, before, trace, fired, slope, x, grad_fired, grad_after[0], grad_after[1], hard, attached
    )
    return grad_x, (grad_v, grad_seen + grad_w), grad_knobs


FAMILY = Family("adaptive", AdaptiveState, Knobs, Trace, charge, distance, settle, back)
_REFERENCE = Reference(FAMILY)
forward, backward = _REFERENCE.forward, _REFERENCE.backward
