"""The leaky integrate-and-fire layer with adaptation below the threshold."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.surrogates import Surrogate

from ._adaptive import adlif_neuron
from ._layer import SpikingLayer
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron
from ._strengths import Coupling, Strength

__all__ = ["AdLIF"]


class AdLIF(SpikingLayer):
    """Leaky integrate-and-fire neurons held back by an adaptation that follows their membrane and their spikes.

    Such a neuron can oscillate below its threshold, and so answer to a frequency.

    h[t] = v[t-1] + (x[t] - w[t-1] - v[t-1]) / tau
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t]
    w[t] = w[t-1] + (a v[t] + b s[t] - w[t-1]) / tau_adaptation          symplectic Euler (SE)
    w[t] = w[t-1] + (a v[t-1] + b s[t-1] - w[t-1]) / tau_adaptation      forward Euler (EF), symplectic=False

    Args:
        tau: membrane time constant, in steps, > 1: a number, or a tensor [size].
        tau_adaptation: time constant of the adaptation, in steps, > 1: a number, or a tensor [size].
        a: how strongly the adaptation follows the membrane: a number, or a tensor [size]. The neuron is stable, and a is
            accepted, for -1 < a < (2 tau - 1)(2 tau_adaptation - 1), with symplectic=False for
            -1 < a < tau + tau_adaptation - 1.
        b: how strongly it follows the spikes, 0 or more: a number, or a tensor [size].
        symplectic: the form of the discretisation.
        v_threshold: membrane potential at which a neuron fires, above v_reset: a number, or a tensor [size].
        v_reset: potential after a spike (hard reset); None subtracts the threshold (soft reset). The membrane rests at 0.
        detach_reset: cut the gradient that flows from the reset back through the spike; the one through the adaptation
            stays.
        surrogate: slope of the spike in the backward pass, as for :class:`LIF`.
        size: number of neurons, or a shape that broadcasts against the features; needed only for what is learned.
        trainable: names among "tau", "tau_adaptation", "a", "b", "v_threshold": learned per neuron, in their valid range
            by construction. A learned a keeps its place in its range where a learned time constant moves the range.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the tuple (v, w), membrane and adaptation, each [B, *features],
        float32 (float64 for float64 x), or with symplectic=False (v, w, w_next), where w_next is already settled but acts a
        step later; without one all start at 0. Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: a time constant <= 1, an unstable a, a negative b, v_threshold <= v_reset, a name that cannot be
            learned, sizes or shapes that do not fit.
        TypeError: x is not a floating tensor, the state is not a tuple of tensors of the right dtype.
    References:
        Bittar, Garner (2022), A surrogate gradient spiking baseline for speech command recognition. Baronig et al. (2024),
        Advancing spatio-temporal processing in spiking neural networks through adaptation (SE-adLIF): the centres of the
        ranges its networks start from are the defaults, at a step of 1 ms. Both write 1 - 1/tau as exp(-1/tau).

    >>> import torch
    >>> layer = AdLIF(5.0, 20.0, a=40.0, b=0.0)
    >>> x = torch.zeros(6, 1, 1)
    >>> x[0] = 4.0
    >>> spikes, state = layer(x)
    >>> state.v < 0  # the membrane swings through its rest
    tensor([[True]])
    """

    def __init__(
        self,
        tau: float | Tensor = 15.0,
        tau_adaptation: float | Tensor = 180.0,
        *,
        a: float | Tensor = 60.0,
        b: float | Tensor = 120.0,
        symplectic: bool = True,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str | Surrogate | Any = "atan",
        size: Size = None,
        trainable: Collection[str] = (),
        memory: Literal["save", "recompute"] = "save",
        truncate: int | None = None,
    ):
        learned = checked_trainable("AdLIF", trainable, ("tau", "tau_adaptation", "a", "b", "v_threshold"))
        size = resolve_size("AdLIF", size, tau=tau, tau_adaptation=tau_adaptation, a=a, b=b, v_threshold=v_threshold)
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=size,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip
        self.symplectic = symplectic
        self.time_constant = TimeConstant("AdLIF", tau, size, "tau" in learned)
        self.follower = TimeConstant("AdLIF", tau_adaptation, size, "tau_adaptation" in learned, "tau_adaptation")
        self.coupling = Coupling("AdLIF", a, self._limit(), size, "a" in learned)
        self.strength = Strength("AdLIF", "b", b, size, "b" in learned)

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    @property
    def tau_adaptation(self) -> float | Tensor:
        """Time constant of the adaptation, in steps."""
        return self.follower.tau

    @property
    def a(self) -> float | Tensor:
        """How strongly the adaptation follows the membrane."""
        return self.coupling.value(self._limit())

    @property
    def b(self) -> float | Tensor:
        """How strongly the adaptation follows the spikes."""
        return self.strength.value

    def _neuron(self) -> Neuron:
        decay, rate = self.time_constant.decay_and_rate()
        w_decay, w_rate = self.follower.decay_and_rate()
        threshold, reset, same = self._resets()
        same["rest"] = 0.0  # the membrane decays to 0, wherever the reset leads
        return adlif_neuron(
            "AdLIF", decay, rate, threshold, reset, w_decay, w_rate, self.a, self.b, self.symplectic, **same
        )

    def _described(self) -> list[str]:
        return [f"symplectic={self.symplectic}"]

    def _limit(self) -> float | Tensor:
        """The coupling at which an eigenvalue of the two states' recurrence reaches 1 in magnitude."""
        tau, tau_adaptation = _at_most_a_million(self.time_constant.tau), _at_most_a_million(self.follower.tau)
        return (2 * tau - 1) * (2 * tau_adaptation - 1) if self.symplectic else tau + tau_adaptation - 1


def _at_most_a_million(tau: float | Tensor) -> float | Tensor:
    """A learned time constant may overflow, where it only means no leak; the limit of the coupling must not."""
    return tau.clamp(max=1e6) if isinstance(tau, Tensor) else min(tau, 1e6)
