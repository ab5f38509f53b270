"""The leaky integrate-and-fire layer whose time constant is learned."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from temporal.kernels.surrogates import Surrogate

from ._parameters import Size, Threshold, TimeConstant, checked_reset, checked_trainable, resolve_size
from .functional import run_lif

__all__ = ["ParametricLIF"]


class ParametricLIF(nn.Module):
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
    ):
        super().__init__()
        learned = checked_trainable("ParametricLIF", trainable, ("v_threshold",))
        self.size = resolve_size("ParametricLIF", size, init_tau=init_tau)
        self.time_constant = TimeConstant("ParametricLIF", init_tau, self.size or (), True, "init_tau")
        self.v_reset = checked_reset("ParametricLIF", v_reset)
        # A threshold per neuron does not make the time constant one per neuron.
        self.size = resolve_size("ParametricLIF", self.size, v_threshold=v_threshold)
        rest = v_reset or 0.0
        self.threshold = Threshold("ParametricLIF", v_threshold, rest, self.size, "v_threshold" in learned)
        self.decay_input = decay_input
        self.detach_reset = detach_reset
        self.surrogate = Surrogate.resolve(surrogate)

    @property
    def tau(self) -> Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau  # type: ignore[return-value] # learned, so never a plain number

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
            "ParametricLIF", x, state, "state", decay=decay, gain=rate if self.decay_input else 1.0,
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
