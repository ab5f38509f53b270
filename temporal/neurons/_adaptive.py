"""The neurons with adaptation as functions of their currents, and the checked call of their operator."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from temporal.kernels.adaptive import Knobs, State, adaptive
from temporal.kernels.surrogates import Surrogate

from ._checks import checked_input, checked_knob, checked_parts, checked_state

__all__ = ["AdaptiveState", "EulerState", "adlif", "alif", "run_adlif", "run_alif"]


class AdaptiveState(NamedTuple):
    """Membrane potential v and adaptation w after a step, each [B, *features]; the next step sees both."""

    v: Tensor
    w: Tensor


class EulerState(NamedTuple):
    """Membrane potential v, adaptation w, which the next step sees, and the one after it, w_next; each [B, *features]."""

    v: Tensor
    w: Tensor
    w_next: Tensor


def alif(
    x: Tensor,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    decay: float | Tensor,
    w_decay: float | Tensor,
    adaptation: float | Tensor,
    gain: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    threshold: float | Tensor = 1.0,
    jump: float | Tensor = 1.0,
    reset_by: float | Tensor | None = None,
    reset_to: float | Tensor | None = None,
    reset_lift: float | Tensor = 0.0,
    strict: bool = False,
    detach_reset: bool = True,
    surrogate: str | Surrogate | Any = "atan",
) -> tuple[Tensor, Tensor, AdaptiveState]:
    """Leaky integrate-and-fire neurons whose threshold rises with every spike and falls back, over time.

    h[t] = decay v[t-1] + gain x[t] + bias,  theta[t] = threshold + adaptation w[t-1],
    s[t] = 1 if h[t] >= theta[t] else 0,  w[t] = w_decay w[t-1] + jump s[t],
    v[t] = h[t] - (reset_by + reset_lift w[t-1]) s[t]  (soft reset),  or
    v[t] = reset_to where s[t] is 1, else h[t]  (hard reset)

    The papers subtract after the next step's decay, so they are settings with what is subtracted divided by it:

    ================================  ============  ===============  ================
    neuron                            jump          reset_by         reset_lift
    ================================  ============  ===============  ================
    Bellec et al. 2018 (LSNN)         1 - w_decay   threshold/decay  adaptation/decay
    Bellec et al. 2020 (e-prop)       1             threshold/decay  0
    ================================  ============  ===============  ================

    The state is kept in float32 (float64 for float64 currents), also under autocast. Gradients flow to x, to the state and
    to every knob given as a tensor; a second derivative is refused.

    Args:
        x: current; float64, float32, bfloat16 or float16, any strides.
        state: (v, w) before the first step; None is 0.
        decay: what is left of the membrane after one step; 1 - 1/tau for a time constant of tau steps.
        w_decay: what is left of the adaptation after one step.
        adaptation: by how much a unit of w raises the threshold.
        gain, bias: factor on the current, and what is added at every step.
        threshold: of a neuron at rest.
        jump: what a spike adds to w.
        reset_by, reset_to, strict, surrogate: as for :func:`lif`.
        reset_lift: by how much a unit of w raises what a soft reset subtracts; ``adaptation`` subtracts theta[t].
        detach_reset: cut the gradient that flows from the reset back through the spike; the one through the adaptation
            stays.
    Shape:
        x: [T, B, *features], T steps, B samples. v, w: [B, *features]. A knob: a number, or a tensor that broadcasts
        against [*features]. Returns spikes [T, B, *features] of x's dtype; the membrane after every step (and its reset)
        [T, B, *features]; the state after the last step.
    Raises:
        TypeError: x is not a floating tensor, or the state is of another dtype than is kept.
        ValueError: shapes that do not fit, tensors on different devices, a knob that is NaN, both resets.
    References:
        Bellec et al. (2018), Long short-term memory and learning-to-learn in networks of spiking neurons. Bellec et al.
        (2020), A solution to the learning dilemma for recurrent networks of spiking neurons. Yin, Corradi, Bohte (2021).

    >>> import torch
    >>> x = torch.full((6, 1, 1), 1.0)
    >>> spikes, v, state = alif(x, decay=0.5, w_decay=0.9, adaptation=0.5, reset_to=0.0)
    >>> spikes.flatten()  # the first spike raises the threshold to 1.5, the second to 1.905
    tensor([1., 0., 1., 0., 0., 1.])
    """
    if reset_by is not None and reset_to is not None:
        raise ValueError("alif: give reset_by (soft reset) or reset_to (hard reset), not both")
    return run_alif(
        "alif", x, state, decay=decay, gain=gain, bias=bias, threshold=threshold, hard=reset_to is not None,
        reset=reset_to if reset_to is not None else threshold if reset_by is None else reset_by,
        adaptation=adaptation, reset_lift=reset_lift, w_decay=w_decay, jump=jump, strict=strict,
        detach_reset=detach_reset, surrogate=Surrogate.resolve(surrogate), v_sequence=True,
    )  # fmt: skip


def adlif(
    x: Tensor,
    state: tuple[Tensor, ...] | None = None,
    *,
    decay: float | Tensor,
    w_decay: float | Tensor,
    a: float | Tensor,
    b: float | Tensor,
    threshold: float | Tensor = 1.0,
    reset_by: float | Tensor | None = None,
    reset_to: float | Tensor | None = None,
    symplectic: bool = True,
    strict: bool = False,
    detach_reset: bool = True,
    surrogate: str | Surrogate | Any = "atan",
) -> tuple[Tensor, Tensor, AdaptiveState | EulerState]:
    """Leaky integrate-and-fire neurons held back by an adaptation that follows their membrane and their spikes, over time.

    h[t] = decay v[t-1] + (1 - decay) (x[t] - w[t-1]),  s[t] = 1 if h[t] >= threshold else 0,
    v[t] = h[t] - reset_by s[t]  (soft reset),  or  v[t] = reset_to where s[t] is 1, else h[t]  (hard reset),
    w[t] = w_decay w[t-1] + (1 - w_decay) (a v[t] + b s[t])            symplectic Euler (SE)
    w[t] = w_decay w[t-1] + (1 - w_decay) (a v[t-1] + b s[t-1])        forward Euler (EF), symplectic=False

    Bittar and Garner's published code is the symplectic form with a soft reset by 1, in which w sees the membrane before
    its reset and has no factor (1 - w_decay): with their a and b, a/(1 - w_decay) and (a + b)/(1 - w_decay) here.

    The state is kept in float32 (float64 for float64 currents), also under autocast. Gradients flow to x, to the state and
    to every knob given as a tensor; a second derivative is refused.

    Args:
        x: current; float64, float32, bfloat16 or float16, any strides.
        state: (v, w) before the first step, or (v, w, w_next) with symplectic=False; None is 0.
        decay: what is left of the membrane after one step; 1 - 1/tau for a time constant of tau steps.
        w_decay: what is left of the adaptation after one step.
        a: how strongly the adaptation follows the membrane. Without spikes the neuron is stable for
            -1 < a < (1 + decay)(1 + w_decay) / ((1 - decay)(1 - w_decay)); with symplectic=False
            -1 < a < (1 - decay w_decay) / ((1 - decay)(1 - w_decay)), a small part of it.
        b: how strongly it follows the spikes.
        symplectic: the form of the discretisation.
        threshold, reset_by, reset_to, strict, surrogate: as for :func:`lif`.
        detach_reset: cut the gradient that flows from the reset back through the spike; the one through the adaptation
            stays.
    Shape:
        x: [T, B, *features], T steps, B samples. v, w, w_next: [B, *features]. A knob: a number, or a tensor that
        broadcasts against [*features]. Returns spikes [T, B, *features] of x's dtype; the membrane after every step (and
        its reset) [T, B, *features]; the state after the last step.
    Raises:
        TypeError: x is not a floating tensor, or the state is of another dtype than is kept.
        ValueError: shapes that do not fit, tensors on different devices, a knob that is NaN, both resets.
    References:
        Bittar, Garner (2022), A surrogate gradient spiking baseline for speech command recognition. Baronig et al. (2024),
        Advancing spatio-temporal processing in spiking neural networks through adaptation.

    >>> import torch
    >>> x = torch.full((6, 1, 1), 3.0)
    >>> spikes, v, state = adlif(x, decay=0.5, w_decay=0.9, a=1.0, b=20.0, reset_to=0.0)
    >>> spikes.flatten()  # silenced by what its first spike left behind
    tensor([1., 0., 0., 1., 0., 0.])
    """
    if reset_by is not None and reset_to is not None:
        raise ValueError("adlif: give reset_by (soft reset) or reset_to (hard reset), not both")
    return run_adlif(
        "adlif", x, state, decay=decay, rate=1 - decay, threshold=threshold, hard=reset_to is not None,
        reset=reset_to if reset_to is not None else threshold if reset_by is None else reset_by, w_decay=w_decay,
        w_rate=1 - w_decay, a=a, b=b, symplectic=symplectic, strict=strict, detach_reset=detach_reset,
        surrogate=Surrogate.resolve(surrogate), v_sequence=True,
    )  # fmt: skip


def run_alif(
    owner: str,
    x: Tensor,
    state: tuple[Tensor, Tensor] | None,
    *,
    adaptation: float | Tensor,
    rest: float = 0.0,
    size: tuple[int, ...] | None = None,
    **knobs_and_rule: Any,
) -> tuple[Tensor, Tensor, AdaptiveState]:
    """The checked call of the operator for an adaptive threshold: errors name ``owner``."""
    dtype = checked_input(owner, x, size)
    v, w = checked_parts(owner, state, AdaptiveState)
    v = checked_state(owner, "state.v", v, x, dtype, rest)
    w = checked_state(owner, "state.w", w, x, dtype, 0.0)
    knobs_and_rule |= {"lift": checked_knob(owner, "adaptation", adaptation, x, dtype), "brake": 0.0, "pull": 0.0}
    spikes, membranes, last = _run(owner, x, dtype, State(v, w.unsqueeze(0)), **knobs_and_rule)
    return spikes, membranes, AdaptiveState(last.v, last.w[0])


def run_adlif(
    owner: str,
    x: Tensor,
    state: tuple[Tensor, ...] | None,
    *,
    rate: float | Tensor,
    w_rate: float | Tensor,
    a: float | Tensor,
    b: float | Tensor,
    symplectic: bool,
    size: tuple[int, ...] | None = None,
    **knobs_and_rule: Any,
) -> tuple[Tensor, Tensor, AdaptiveState | EulerState]:
    """The checked call of the operator for an adaptation below the threshold: errors name ``owner``."""
    dtype = checked_input(owner, x, size)
    kind = AdaptiveState if symplectic else EulerState
    parts = checked_parts(owner, state, kind)
    for name, knob in (("a", a), ("b", b)):
        checked_knob(owner, name, knob, x, dtype)
    v, *w = (checked_state(owner, f"state.{n}", p, x, dtype, 0.0) for n, p in zip(kind._fields, parts, strict=True))
    knobs_and_rule |= {"gain": rate, "brake": rate, "pull": w_rate * a, "jump": w_rate * b}
    knobs_and_rule |= {"bias": 0.0, "lift": 0.0, "reset_lift": 0.0}
    spikes, membranes, last = _run(owner, x, dtype, State(v, torch.stack(w)), **knobs_and_rule)
    return spikes, membranes, kind(last.v, *last.w.unbind(0))


def _run(
    owner: str,
    x: Tensor,
    dtype: torch.dtype,
    state: State,
    *,
    hard: bool,
    strict: bool,
    detach_reset: bool,
    surrogate: Surrogate,
    v_sequence: bool,
    **knobs: float | Tensor,
) -> tuple[Tensor, Tensor, State]:
    return adaptive(
        x,
        state,
        Knobs(**{name: checked_knob(owner, name, knob, x, dtype) for name, knob in knobs.items()}),
        hard=hard,
        strict=strict,
        detach_reset=detach_reset,
        surrogate=surrogate,
        v_sequence=v_sequence,
    )
