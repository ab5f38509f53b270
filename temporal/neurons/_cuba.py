"""The current-based neuron as a function of its input, and the checked call of its operator."""

from typing import Any

from torch import Tensor

from temporal.kernels.cuba import CubaState, cuba
from temporal.kernels.surrogates import Surrogate

from ._run import Neuron, resets, run

__all__ = ["CubaState", "cuba_lif"]


def cuba_lif(
    x: Tensor,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    decay: float | Tensor,
    i_decay: float | Tensor,
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
) -> tuple[Tensor, Tensor, CubaState]:
    """Leaky integrate-and-fire neurons behind a synapse that leaks as well, over time.

    i[t] = i_decay i[t-1] + x[t],  h[t] = decay v[t-1] + gain i[t] + bias,  s[t] = 1 if h[t] >= threshold else 0,
    v[t] = h[t] - reset_by s[t]  (soft reset),  or  v[t] = reset_to where s[t] is 1, else h[t]  (hard reset)

    ====================================================  =======  =======  ==============  ========  ======
    neuron                                                i_decay  decay    reset_by        reset_to  strict
    ====================================================  =======  =======  ==============  ========  ======
    SpikingJelly CUBALIFNode                              c_decay  v_decay                  v_r       False
    ... v_reset=None                                      c_decay  v_decay  threshold                 False
    snnTorch Synaptic(alpha, beta)                        alpha    beta     threshold/beta            True
    ... reset_mechanism="zero", reset_delay=False         alpha    beta                     0         True
    ... reset_mechanism="none"                            alpha    beta     0                         True
    ====================================================  =======  =======  ==============  ========  ======

    snnTorch's "zero" with its default reset_delay=True also throws away the input of the step after a spike; that is no
    setting of this function. The state is kept in float32 (float64 for float64 inputs), also under autocast. Gradients
    flow to x, to the state and to every knob given as a tensor; a second derivative is refused.

    Args:
        x: input to the synapse; float64, float32, bfloat16 or float16, any strides.
        state: (v, i) before the first step; None is 0.
        decay: what is left of the membrane after one step; 1 - 1/tau for a time constant of tau steps.
        i_decay: what is left of the synaptic current after one step.
        gain: factor on the synaptic current.
        bias, threshold, reset_by, reset_to, strict, detach_reset, surrogate, lengths, truncate: as for :func:`lif`.
    Shape:
        x: [T, B, *features], T steps, B samples. v, i: [B, *features]. A knob: a number, or a tensor that broadcasts
        against [*features]. Returns spikes [T, B, *features] of x's dtype; the membrane after every step (and its reset)
        [T, B, *features]; the state after the last step.
    Raises:
        TypeError: x is not a floating tensor, or the state is of another dtype than is kept.
        ValueError: shapes that do not fit, tensors on different devices, a knob that is NaN, both resets.
    References:
        Fang et al. (2023), SpikingJelly. Eshraghian et al. (2023), Training spiking neural networks using lessons from
        deep learning (snnTorch). Davies et al. (2018), Loihi.

    >>> import torch
    >>> x = torch.tensor([0.5, 0.0, 0.0, 0.0]).reshape(4, 1, 1)
    >>> spikes, v, state = cuba_lif(x, decay=0.5, i_decay=0.5, threshold=0.5, reset_to=0.0)
    >>> spikes.flatten(), v.flatten()
    (tensor([1., 0., 0., 0.]), tensor([0.0000, 0.2500, 0.2500, 0.1875]))
    """
    hard, reset = resets("cuba_lif", threshold, reset_by, reset_to)
    knobs = {"decay": decay, "gain": gain, "bias": bias, "threshold": threshold, "reset": reset, "i_decay": i_decay}
    neuron = Neuron(
        "cuba_lif", cuba, knobs, hard, strict, detach_reset, Surrogate.resolve(surrogate), truncate=truncate
    )
    return run(neuron, x, state, lengths, v_sequence=True)
