"""The current-based leaky integrate-and-fire layer."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.cuba import cuba
from temporal.kernels.surrogates import Surrogate

from ._layer import SpikingLayer
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron

__all__ = ["CubaLIF"]


class CubaLIF(SpikingLayer):
    """Leaky integrate-and-fire neurons behind a synapse that leaks as well.

    i[t] = (1 - 1/tau_synapse) i[t-1] + x[t]
    h[t] = (1 - 1/tau) v[t-1] + i[t]
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t]

    Args:
        tau: membrane time constant, in steps, > 1: a number, or a tensor [size].
        tau_synapse: time constant of the synaptic current, in steps, > 1: a number, or a tensor [size].
        v_threshold: membrane potential at which a neuron fires, above v_reset: a number, or a tensor [size].
        v_reset: potential after a spike (hard reset), from which the membrane leaks to 0; None subtracts the threshold
            (soft reset).
        detach_reset: cut the gradient that flows from the reset back through the spike.
        surrogate: slope of the spike in the backward pass, as for :class:`LIF`.
        size: number of neurons, or a shape that broadcasts against the features; needed only for what is learned.
        trainable: names among "tau", "tau_synapse", "v_threshold": learned per neuron, in their valid range by
            construction.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the tuple (v, i), membrane and synaptic current, each
        [B, *features], float32 (float64 for float64 x); without one v starts at v_reset (soft reset: at 0) and i at 0.
        Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: a time constant <= 1, v_threshold <= v_reset, a name that cannot be learned, sizes or shapes that do
            not fit.
        TypeError: x is not a floating tensor, the state is not a pair of tensors of the right dtype.
    References:
        Fang et al. (2023), SpikingJelly: the same spikes as its CUBALIFNode with c_decay = 1 - 1/tau_synapse and
        v_decay = 1 - 1/tau. Davies et al. (2018), Loihi: a neuromorphic manycore processor with on-chip learning.

    >>> import torch
    >>> x = torch.tensor([0.6, 0.0, 0.0, 0.0, 0.0]).reshape(5, 1, 1)
    >>> spikes, state = CubaLIF(4.0, 4.0)(x)
    >>> spikes.flatten()  # the current goes on for some steps
    tensor([0., 0., 1., 0., 0.])
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        tau_synapse: float | Tensor = 2.0,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str | Surrogate | Any = "atan",
        size: Size = None,
        trainable: Collection[str] = (),
        memory: Literal["save", "recompute"] = "save",
        truncate: int | None = None,
    ):
        learned = checked_trainable("CubaLIF", trainable, ("tau", "tau_synapse", "v_threshold"))
        size = resolve_size("CubaLIF", size, tau=tau, tau_synapse=tau_synapse, v_threshold=v_threshold)
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=size,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip
        self.time_constant = TimeConstant("CubaLIF", tau, size, "tau" in learned)
        self.synapse = TimeConstant("CubaLIF", tau_synapse, size, "tau_synapse" in learned, "tau_synapse")

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    @property
    def tau_synapse(self) -> float | Tensor:
        """Time constant of the synaptic current, in steps."""
        return self.synapse.tau

    def _neuron(self) -> Neuron:
        threshold, reset, same = self._resets()
        decay, i_decay = self.time_constant.decay_and_rate()[0], self.synapse.decay_and_rate()[0]
        knobs = {"decay": decay, "gain": 1.0, "bias": 0.0, "threshold": threshold, "reset": reset, "i_decay": i_decay}
        return Neuron("CubaLIF", cuba, knobs, **same)
