"""The leaky integrate-and-fire layer with an adaptive threshold."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.surrogates import Surrogate

from ._adaptive import alif_neuron
from ._layer import SpikingLayer
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron
from ._strengths import Strength

__all__ = ["ALIF"]


class ALIF(SpikingLayer):
    """Leaky integrate-and-fire neurons whose threshold rises with every spike and falls back.

    h[t] = v[t-1] - (v[t-1] - v_reset) / tau + x[t]   (decay_input: x[t] / tau)
    s[t] = 1 if h[t] >= theta[t] else 0,  theta[t] = v_threshold + adaptation w[t-1]
    w[t] = (1 - 1/tau_adaptation) w[t-1] + s[t] / tau_adaptation
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t], rest at 0
    (reset_adapts: h[t] - theta[t] s[t])

    So w is the rate at which the neuron fired of late, in spikes a step, and ``adaptation`` what a rate of 1 would add to
    the threshold.

    Args:
        tau: membrane time constant, in steps, > 1: a number, or a tensor [size].
        tau_adaptation: time constant of the adaptation, in steps, > 1: a number, or a tensor [size].
        adaptation: its strength, 0 or more: a number, or a tensor [size].
        v_threshold: threshold of a neuron at rest, above v_reset: a number, or a tensor [size].
        v_reset: potential at rest and after a spike (hard reset); None is a soft reset.
        reset_adapts: a soft reset subtracts the threshold as it is, not as it is at rest.
        decay_input: divide the current by tau.
        detach_reset: cut the gradient that flows from the reset back through the spike; the one through the adaptation
            stays.
        surrogate: slope of the spike in the backward pass, as for :class:`LIF`.
        size: number of neurons, or a shape that broadcasts against the features; needed only for what is learned.
        trainable: names among "tau", "tau_adaptation", "adaptation", "v_threshold": learned per neuron, in their valid
            range by construction.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the tuple (v, w), membrane and adaptation, each [B, *features],
        float32 (float64 for float64 x); without one v starts at v_reset (soft reset: at 0) and w at 0.
        Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: a time constant <= 1, a negative adaptation, v_threshold <= v_reset, a name that cannot be learned,
            sizes or shapes that do not fit, reset_adapts with a hard reset.
        TypeError: x is not a floating tensor, the state is not a pair of tensors of the right dtype.
    References:
        Bellec et al. (2018), Long short-term memory and learning-to-learn in networks of spiking neurons: decay_input=True,
        reset_adapts=True. Bellec et al. (2020), A solution to the learning dilemma for recurrent networks of spiking
        neurons: their beta is adaptation / tau_adaptation. Both subtract one decay later than all neurons here do;
        ``functional.alif`` has them to the letter. Yin, Corradi, Bohte (2021), Accurate and efficient time-domain
        classification with adaptive spiking recurrent neural networks: the default strength.

    >>> import torch
    >>> layer = ALIF(2.0, 20.0, adaptation=10.0)
    >>> spikes, state = layer(torch.full((12, 1, 1), 1.0))
    >>> spikes.flatten()  # ever more slowly
    tensor([1., 0., 1., 0., 0., 0., 1., 0., 0., 0., 0., 0.])
    """

    def __init__(
        self,
        tau: float | Tensor = 20.0,
        tau_adaptation: float | Tensor = 200.0,
        *,
        adaptation: float | Tensor = 1.8,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = None,
        reset_adapts: bool = False,
        decay_input: bool = False,
        detach_reset: bool = True,
        surrogate: str | Surrogate | Any = "atan",
        size: Size = None,
        trainable: Collection[str] = (),
        memory: Literal["save", "recompute"] = "save",
        truncate: int | None = None,
    ):
        learned = checked_trainable("ALIF", trainable, ("tau", "tau_adaptation", "adaptation", "v_threshold"))
        size = resolve_size(
            "ALIF", size, tau=tau, tau_adaptation=tau_adaptation, adaptation=adaptation, v_threshold=v_threshold
        )
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=size,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip
        self.time_constant = TimeConstant("ALIF", tau, size, "tau" in learned)
        self.memory_of_spikes = TimeConstant(
            "ALIF", tau_adaptation, size, "tau_adaptation" in learned, "tau_adaptation"
        )
        self.strength = Strength("ALIF", "adaptation", adaptation, size, "adaptation" in learned)
        if reset_adapts and v_reset is not None:
            raise ValueError("ALIF: reset_adapts is about a soft reset; give v_reset=None")
        self.reset_adapts = reset_adapts
        self.decay_input = decay_input

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    @property
    def tau_adaptation(self) -> float | Tensor:
        """Time constant of the adaptation, in steps."""
        return self.memory_of_spikes.tau

    @property
    def adaptation(self) -> float | Tensor:
        """What a rate of one spike a step adds to the threshold."""
        return self.strength.value

    def _neuron(self) -> Neuron:
        decay, rate = self.time_constant.decay_and_rate()
        w_decay, w_rate = self.memory_of_spikes.decay_and_rate()
        threshold, reset, same = self._resets()
        gain, bias = self._drive(rate)
        adaptation = self.strength.value
        lift = adaptation if self.reset_adapts else 0.0
        return alif_neuron("ALIF", decay, gain, bias, threshold, reset, adaptation, lift, w_decay, w_rate, **same)

    def _described(self) -> list[str]:
        return [f"reset_adapts={self.reset_adapts}", f"decay_input={self.decay_input}"]
