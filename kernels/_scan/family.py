"""What makes a family of neurons: its state, its parameters, and the equations of one step."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["Family", "Feedback", "Rule"]


class Family(NamedTuple):
    """The equations of one neuron, on tensors and, compiled, on single numbers.

    They are written with operators, unpacking and ``torch.where`` only, which numba and Triton compile as well, and without
    whole numbers: numba compiles them for float32, in which 1 would be a 64-bit integer.

    state, knobs, trace: NamedTuples: what goes from one step to the next (the membrane ``v`` first), the parameters, and
        what a step's backward pass must know.
    charge(knobs, before, x) -> trace: up to the decision; ``before`` is the state, x the current.
    distance(knobs, trace) -> u: of the membrane from the threshold. The neuron fires if u >= 0 (strict: u > 0).
    settle(knobs, before, trace, fired, hard) -> after: the state after the step.
    back(knobs, before, trace, fired, slope, x, grad_fired, grad_after, hard, attached) -> grad_x, grad_before, grad_knobs:
        ``slope`` is the surrogate's at u; the gradients of spike and state after the step are complete but for the way
        through the reset, open if ``attached``. ``before`` and x are used in ``grad_knobs`` only.
    """

    name: str
    state: type[tuple]
    knobs: type[tuple]
    trace: type[tuple]
    charge: Callable
    distance: Callable
    settle: Callable
    back: Callable


class Rule(NamedTuple):
    """How the neuron fires and resets.

    hard: reset to a potential; otherwise subtract it.
    strict: fire above the threshold only, not on it.
    detach_reset: no gradient flows from the reset back through the spike.
    surrogate, alpha: slope of the spike in the backward pass, by name.
    """

    hard: bool
    strict: bool
    detach_reset: bool
    surrogate: str
    alpha: float


class Feedback(NamedTuple):
    """Recurrent weights: the neuron hears x[t] + weight s[t-1] instead of x[t].

    weight: [N, N], from neuron i to neuron o at [o, i], of the state's dtype.
    sent: the spikes before the first step, [B, N], of the state's dtype.
    """

    weight: Tensor
    sent: Tensor
