"""The leaky integrate-and-fire layer whose time constant is learned."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate

from ._layer import SpikingLayer
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron

__all__ = ["ParametricLIF"]


class ParametricLIF(SpikingLayer):
    """Leaky integrate-and-fire neurons that learn their time constant: one for the layer, or one per neuron.

    h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]   (decay_input: x[t] / tau),   1 - 1/tau = sigmoid(logit)
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t], rest at 0

    Args:
        init_tau: membrane time constant at first, in steps, > 1: a number, or a tensor [size]. It stays above 1 by
            construction; what is learned is ``time_constant.logit``, the negative of SpikingJelly's ``w``.
        size: number of neurons, or a shape that broadcasts against the features: one time constant for each. Without it,
            and with a number for init_tau, the layer has one.
        trainable: may hold "v_threshold": learned per neuron as well, above v_reset by construction; needs size.
        v_threshold, v_reset, decay_input, detach_reset, surrogate: as for :class:`LIF`.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the membrane [B, *features], float32 (float64 for float64 x);
        without one it starts at v_reset (soft reset: at 0). Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: init_tau <= 1, v_threshold <= v_reset, sizes or shapes that do not fit.
        TypeError: x is not a floating tensor, the state is of another dtype.
    References:
        Fang et al. (2021), Incorporating learnable membrane time constant to enhance learning of spiking neural networks.
        Without size: the same spikes and gradients as SpikingJelly's ParametricLIFNode, whose other defaults differ
        (decay_input=True, detach_reset=False, a sigmoid surrogate).

    >>> import torch
    >>> layer = ParametricLIF(2.0)
    >>> spikes, state = layer(torch.tensor([0.6, 0.6, 0.6, 0.6]).reshape(4, 1, 1))
    >>> spikes.flatten(), [name for name, _ in layer.named_parameters()]
    (tensor([0., 0., 1., 0.], grad_fn=<...>), ['time_constant.logit'])
    """

    def __init__(
        self,
        init_tau: float | Tensor = 2.0,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        decay_input: bool = False,
        detach_reset: bool = True,
        surrogate: str | Surrogate | Any = "atan",
        size: Size = None,
        trainable: Collection[str] = (),
        memory: Literal["save", "recompute"] = "save",
        truncate: int | None = None,
    ):
        learned = checked_trainable("ParametricLIF", trainable, ("v_threshold",))
        shape = resolve_size("ParametricLIF", size, init_tau=init_tau)
        # A threshold per neuron does not make the time constant one per neuron.
        whole = resolve_size("ParametricLIF", shape, v_threshold=v_threshold)
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=whole,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip
        self.time_constant = TimeConstant("ParametricLIF", init_tau, shape or (), True, "init_tau")
        self.decay_input = decay_input

    @property
    def tau(self) -> Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau  # type: ignore[return-value] # learned, so never a plain number

    def _neuron(self) -> Neuron:
        decay, rate = self.time_constant.decay_and_rate()
        threshold, reset, same = self._resets()
        gain, bias = self._drive(rate)
        knobs = {"decay": decay, "gain": gain, "bias": bias, "threshold": threshold, "reset": reset}
        return Neuron("ParametricLIF", lif, knobs, bare="state", **same)

    def _described(self) -> list[str]:
        return [f"decay_input={self.decay_input}"]
