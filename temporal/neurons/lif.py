"""The leaky integrate-and-fire layer."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from temporal.kernels.surrogates import Surrogate

from ._parameters import Size, Threshold, TimeConstant, checked_reset, checked_trainable, resolve_size
from .functional import run_lif

__all__ = ["LIF"]


class LIF(nn.Module):
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
    Shape:
        x: [T, B, *features], T steps, B samples. state: the membrane [B, *features], float32 (float64 for float64 x);
        without one it starts at v_reset (soft reset: at 0). Returns (spikes [T, B, *features] of x's dtype, state).
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
    ):
        super().__init__()
        learned = checked_trainable("LIF", trainable, ("tau", "v_threshold"))
        self.size = resolve_size("LIF", size, tau=tau, v_threshold=v_threshold)
        self.time_constant = TimeConstant("LIF", tau, self.size, "tau" in learned)
        self.v_reset = checked_reset("LIF", v_reset)
        self.threshold = Threshold("LIF", v_threshold, v_reset or 0.0, self.size, "v_threshold" in learned)
        self.decay_input = decay_input
        self.detach_reset = detach_reset
        self.surrogate = Surrogate.resolve(surrogate)

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    @property
    def v_threshold(self) -> float | Tensor:
        """Membrane potential at which a neuron fires."""
        return self.threshold.value

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        decay, rate = self.time_constant.decay_and_rate()
        threshold = self.threshold.value
        hard = self.v_reset is not None
        rest = self.v_reset or 0.0
        spikes, _, state = run_lif(
            "LIF", x, state, "state", decay=decay, gain=rate if self.decay_input else 1.0,
            bias=rest * rate if rest else 0.0, threshold=threshold, reset=rest if hard else threshold, hard=hard,
            strict=False, detach_reset=self.detach_reset, surrogate=self.surrogate, v_sequence=False, rest=rest,
            size=self.size,
        )  # fmt: skip
        return spikes, state

    def extra_repr(self) -> str:
        return (
            f"v_reset={self.v_reset}, decay_input={self.decay_input}, detach_reset={self.detach_reset}, "
            f"surrogate={self.surrogate}"
        )
