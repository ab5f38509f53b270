"""The neurons with adaptation as functions of their currents, and the checked call of their operator."""

from typing import Any

from torch import Tensor

from temporal.kernels.adaptive import AdaptiveState, adaptive
from temporal.kernels.adaptive_late import EulerState, adaptive_late
from temporal.kernels.surrogates import Surrogate

from ._checks import checked_input, checked_knob
from ._run import Neuron, resets, run

__all__ = ["AdaptiveState", "EulerState", "adlif", "adlif_neuron", "alif", "alif_neuron"]


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
    lengths: Tensor | None = None,
    truncate: int | None = None,
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
        reset_by, reset_to, strict, surrogate, lengths, truncate: as for :func:`lif`.
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
    checked_knob("alif", "adaptation", adaptation, x, checked_input("alif", x))  # the operator has another name for it
    hard, reset = resets("alif", threshold, reset_by, reset_to)
    neuron = alif_neuron(
        "alif", decay, gain, bias, threshold, reset, adaptation, reset_lift, w_decay, jump, hard=hard, strict=strict,
        detach_reset=detach_reset, surrogate=Surrogate.resolve(surrogate), truncate=truncate,
    )  # fmt: skip
    return run(neuron, x, state, lengths, v_sequence=True)


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
    lengths: Tensor | None = None,
    truncate: int | None = None,
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
        threshold, reset_by, reset_to, strict, surrogate, lengths, truncate: as for :func:`lif`.
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
    dtype = checked_input("adlif", x)
    for name, knob in (("a", a), ("b", b)):  # which reach the operator in products only
        checked_knob("adlif", name, knob, x, dtype)
    hard, reset = resets("adlif", threshold, reset_by, reset_to)
    neuron = adlif_neuron(
        "adlif", decay, 1 - decay, threshold, reset, w_decay, 1 - w_decay, a, b, symplectic, hard=hard, strict=strict,
        detach_reset=detach_reset, surrogate=Surrogate.resolve(surrogate), truncate=truncate,
    )  # fmt: skip
    return run(neuron, x, state, lengths, v_sequence=True)


Knob = float | Tensor


def alif_neuron(
    owner: str, decay: Knob, gain: Knob, bias: Knob, threshold: Knob, reset: Knob, adaptation: Knob, reset_lift: Knob,
    w_decay: Knob, jump: Knob, **more: Any,
) -> Neuron:  # fmt: skip
    """An adaptive threshold, as a setting of the operator."""
    knobs = {
        "decay": decay, "gain": gain, "bias": bias, "threshold": threshold, "reset": reset, "reset_lift": reset_lift,
        "brake": 0.0, "lift": adaptation, "w_decay": w_decay, "pull": 0.0, "jump": jump,
    }  # fmt: skip
    return Neuron(owner, adaptive, knobs, **more)


def adlif_neuron(
    owner: str, decay: Knob, rate: Knob, threshold: Knob, reset: Knob, w_decay: Knob, w_rate: Knob, a: Knob, b: Knob,
    symplectic: bool, **more: Any,
) -> Neuron:  # fmt: skip
    """An adaptation below the threshold, as a setting of the operator; ``rate`` is 1 - decay, ``w_rate`` 1 - w_decay."""
    knobs = {
        "decay": decay, "gain": rate, "bias": 0.0, "threshold": threshold, "reset": reset, "reset_lift": 0.0,
        "brake": rate, "lift": 0.0, "w_decay": w_decay, "pull": w_rate * a, "jump": w_rate * b,
    }  # fmt: skip
    return Neuron(owner, adaptive if symplectic else adaptive_late, knobs, **more)
