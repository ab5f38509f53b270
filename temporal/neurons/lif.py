"""The leaky integrate-and-fire layer."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate

from ._layer import SpikingLayer
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron

__all__ = ["LIF"]


class LIF(SpikingLayer):
    """Leaky integrate-and-fire neurons, one for each feature.

    h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]   (decay_input: x[t] / tau)
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t], rest at 0

    Args:
        tau: membrane time constant, in steps, > 1: a number, or a tensor [size].
        v_threshold: membrane potential at which a neuron fires, above v_reset: a number, or a tensor [size].
        v_reset: potential at rest and after a spike (hard reset); None subtracts the threshold (soft reset).
        decay_input: divide the current by tau, as SpikingJelly does unless told otherwise.
        detach_reset: cut the gradient that flows from the reset back through the spike.
        surrogate: slope of the spike in the backward pass: a name ("atan"), a name with its alpha ("atan(5.0)"), a
            ``temporal.kernels.surrogates.Surrogate``, or a surrogate object of SpikingJelly's.
        size: number of neurons, or a shape that broadcasts against the features ((channels, 1, 1) for maps); needed
            only for what is learned.
        trainable: names among "tau", "v_threshold": learned per neuron, in their valid range by construction.
        memory: what is kept for the backward pass. "save": the current, and the membrane of every 16th step, from which
            those between are computed again. "recompute": in a :class:`temporal.Sequential`, also what leads to the current
            is computed again, block by block of steps, for all layers in a row that can be: next to nothing is kept, for
            up to a third more time. Outside of one it is "save".
        truncate: k >= 1: truncated back-propagation through time: no gradient flows from step t to t - 1 where k divides t,
            counted from the start of each call.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the membrane [B, *features], float32 (float64 for float64 x);
        without one it starts at v_reset (soft reset: at 0). lengths: [B], steps of each sample; at later ones nothing
        fires, the state stays, and x is not looked at. Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: tau <= 1, v_threshold <= v_reset, a name that cannot be learned, sizes or shapes that do not fit.
        TypeError: x is not a floating tensor, the state is of another dtype.
    References:
        Fang et al. (2023), SpikingJelly: the same spikes as its LIFNode, whose defaults differ (decay_input=True,
        detach_reset=False, a sigmoid surrogate). Hammouamri, Khalfaoui-Hassani, Masquelier (2024), Learning delays in
        spiking neural networks using dilated convolutions with learnable spacings: these defaults.

    >>> import torch
    >>> layer = LIF(tau=2.0)
    >>> x = torch.tensor([0.6, 0.6, 0.6, 0.6]).reshape(4, 1, 1)
    >>> spikes, state = layer(x)
    >>> spikes.flatten()
    tensor([0., 0., 1., 0.])
    >>> more, state = layer(x, state)  # continues
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
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
        learned = checked_trainable("LIF", trainable, ("tau", "v_threshold"))
        size = resolve_size("LIF", size, tau=tau, v_threshold=v_threshold)
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=size,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip
        self.time_constant = TimeConstant("LIF", tau, size, "tau" in learned)
        self.decay_input = decay_input

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    def _neuron(self) -> Neuron:
        decay, rate = self.time_constant.decay_and_rate()
        threshold, reset, same = self._resets()
        gain, bias = self._drive(rate)
        knobs = {"decay": decay, "gain": gain, "bias": bias, "threshold": threshold, "reset": reset}
        return Neuron("LIF", lif, knobs, bare="state", **same)

    def _described(self) -> list[str]:
        return [f"decay_input={self.decay_input}"]
