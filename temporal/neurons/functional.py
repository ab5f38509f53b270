"""Every neuron of this package as a function of its currents: explicit knobs, explicit state, the membrane in sight."""

from typing import Any

from torch import Tensor

from temporal.kernels.lif import lif as _lif_operator
from temporal.kernels.surrogates import Surrogate

from ._adaptive import adlif, alif
from ._cuba import cuba_lif
from ._run import Neuron, resets, run

__all__ = ["adlif", "alif", "cuba_lif", "li", "lif"]


def lif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    decay: float | Tensor,
    gain: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    threshold: float | Tensor = 1.0,
    reset_by: float | Tensor | None = None,
    reset_to: float | Tensor | None = None,
    strict: bool = False,
    detach_reset: bool = True,
    surrogate: str | Surrogate | Any = "atan",
    lengths: Tensor | None = None,
    truncate: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaky integrate-and-fire neurons over time, in the form that holds those of other libraries as settings.

    h[t] = decay v[t-1] + gain x[t] + bias,  s[t] = 1 if h[t] >= threshold else 0,
    v[t] = h[t] - reset_by s[t]  (soft reset),  or  v[t] = reset_to where s[t] is 1, else h[t]  (hard reset)

    ====================================  ==========  =======  =========  ===============  ========  ======
    neuron                                decay       gain     bias       reset_by         reset_to  strict
    ====================================  ==========  =======  =========  ===============  ========  ======
    SpikingJelly LIFNode                  1 - 1/tau   1/tau    v_r/tau                     v_r       False
    ... decay_input=False                 1 - 1/tau   1        v_r/tau                     v_r       False
    ... v_reset=None                      1 - 1/tau   1/tau    0          threshold                  False
    SpikingJelly IFNode                   1           1        0                           v_r       False
    snnTorch Leaky(beta)                  beta        1        0          threshold/beta             True
    ... reset_mechanism="zero"            beta        1        0                           0         True
    ====================================  ==========  =======  =========  ===============  ========  ======

    The state is kept in float32 (float64 for float64 currents), also under autocast. Gradients flow to x, to v and to
    every knob given as a tensor; a second derivative is refused.

    Args:
        x: current; float64, float32, bfloat16 or float16, any strides.
        v: membrane potential before the first step; None is 0.
        decay: what is left of the membrane after one step; 1 - 1/tau for a time constant of tau steps.
        gain: factor on the current.
        bias: current added at every step.
        threshold: membrane potential at which a spike is fired; infinity for a neuron that never fires.
        reset_by: what a spike subtracts; None subtracts the threshold (soft reset).
        reset_to: the potential that a spike leaves (hard reset). Excludes reset_by.
        strict: fire above the threshold only, not on it.
        detach_reset: cut the gradient that flows from the reset back through the spike.
        surrogate: slope of the spike in the backward pass: a name ("atan"), a name with its alpha ("atan(5.0)"), a
            ``temporal.kernels.surrogates.Surrogate``, or a surrogate object of SpikingJelly's.
        lengths: steps of each sample, whole numbers from 0 to T; None is T. At later steps spikes and membranes are 0, the
            state stays as it is, and x is not looked at.
        truncate: k >= 1: no gradient flows from step t to t - 1 where k divides t (truncated back-propagation through
            time); None lets it flow through all.
    Shape:
        x: [T, B, *features], T steps, B samples. v: [B, *features]. lengths: [B]. A knob: a number, or a tensor that
        broadcasts against [*features], such as [N] for one value per neuron.
        Returns spikes [T, B, *features] of x's dtype; the membrane after every step (and its reset) [T, B, *features];
        the membrane after the last step [B, *features], which continues the sequence as the next call's ``v``.
    Raises:
        TypeError: x is not a floating tensor, or v is of another dtype than the state.
        ValueError: shapes that do not fit, tensors on different devices, a knob that is NaN, both resets, lengths beyond
            T, truncate below 1.
    References:
        Fang et al. (2023), SpikingJelly. Eshraghian et al. (2023), Training spiking neural networks using lessons from
        deep learning (snnTorch).

    >>> import torch
    >>> x = torch.tensor([0.6, 0.6, 0.6, 0.6]).reshape(4, 1, 1)
    >>> spikes, v, v_last = lif(x, decay=0.5, reset_to=0.0, threshold=1.0)
    >>> spikes.flatten(), v.flatten()
    (tensor([0., 0., 1., 0.]), tensor([0.6000, 0.9000, 0.0000, 0.6000]))
    """
    hard, reset = resets("lif", threshold, reset_by, reset_to)
    knobs = {"decay": decay, "gain": gain, "bias": bias, "threshold": threshold, "reset": reset}
    neuron = Neuron(
        "lif",
        _lif_operator,
        knobs,
        hard,
        strict,
        detach_reset,
        Surrogate.resolve(surrogate),
        truncate=truncate,
        bare="v",
    )
    return run(neuron, x, v, lengths, v_sequence=True)


def li(
    x: Tensor,
    v: Tensor | None = None,
    *,
    decay: float | Tensor,
    gain: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    lengths: Tensor | None = None,
    truncate: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Leaky integrators over time, which never fire: v[t] = decay v[t-1] + gain x[t] + bias.

    Args:
        x: current; float64, float32, bfloat16 or float16, any strides.
        v: membrane potential before the first step; None is 0.
        decay, gain, bias, lengths, truncate: as in :func:`lif`.
    Shape:
        x: [T, B, *features]. v: [B, *features].
        Returns v after every step [T, B, *features] and after the last one [B, *features], both float32 (float64 for
        float64 currents).
    Raises:
        TypeError, ValueError: as :func:`lif`.

    >>> import torch
    >>> v, v_last = li(torch.ones(3, 1, 1), decay=0.5)
    >>> v.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    return run(li_neuron("li", decay, gain, bias, truncate=truncate, bare="v"), x, v, lengths, v_sequence=True)[1:]


def li_neuron(
    owner: str, decay: float | Tensor, gain: float | Tensor, bias: float | Tensor = 0.0, **more: Any
) -> Neuron:
    """A neuron that never fires: its threshold is out of reach, so every backend of the operator serves it too.

    Strict, since an infinite current would reach an infinite threshold.
    """
    knobs = {"decay": decay, "gain": gain, "bias": bias, "threshold": float("inf"), "reset": 0.0}
    return Neuron(owner, _lif_operator, knobs, strict=True, **more)
