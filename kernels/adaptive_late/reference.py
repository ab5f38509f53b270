"""Adaptation that acts one step later (AdLIF in the forward Euler form): the specification of every backend.

The equations of ``adaptive``, where a step sees r[t] = w[t-2]; so the state holds w[t-2] and w[t-1].
"""

from typing import Any, NamedTuple

from .._scan.family import Family
from .._scan.reference import Reference
from ..adaptive.reference import Knobs, Trace, adapt, charge, distance, membrane, through_step

__all__ = ["FAMILY", "EulerState", "Knobs", "backward", "forward"]


class EulerState(NamedTuple):
    """Membrane potential v, adaptation w, which the next step sees, and the one after it, w_next; each [B, *features]."""

    v: Any
    w: Any
    w_next: Any


def settle(knobs, before, trace, fired, hard):
    v = membrane(knobs, trace, fired, hard)
    return v, before[2], adapt(knobs, before[2], v, fired)


def back(knobs, before, trace, fired, slope, x, grad_fired, grad_after, hard, attached):
    grad_x, grad_v, grad_seen, grad_w, grad_knobs = through_step(
        knobs, before, trace, fired, slope, x, grad_fired, grad_after[0], grad_after[2], hard, attached
    )
    return grad_x, (grad_v, grad_seen, grad_after[1] + grad_w), grad_knobs


FAMILY = Family("adaptive_late", EulerState, Knobs, Trace, charge, distance, settle, back)
_REFERENCE = Reference(FAMILY)
forward, backward = _REFERENCE.forward, _REFERENCE.backward
