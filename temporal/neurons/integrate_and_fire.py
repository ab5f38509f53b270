"""The integrate-and-fire layer, which does not leak."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from temporal.kernels.surrogates import Surrogate

from ._parameters import Size, Threshold, checked_reset, checked_trainable, resolve_size
from .functional import run_lif

__all__ = ["IF"]


class IF(nn.Module):
    """Integrate-and-fire neurons, one for each feature: LIF without a leak.

    h[t] = v[t-1] + x[t]
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = v_reset where s[t] is 1, else h[t];  with v_reset=None: v[t] = h[t] - v_threshold s[t]

    Args:
        v_threshold: membrane potential at which a neuron fires, above v_reset: a number, or a tensor [size].
        v_reset: potential after a spike (hard reset); None subtracts the threshold (soft reset).
        detach_reset: cut the gradient that flows from the reset back through the spike.
        surrogate: slope of the spike in the backward pass, as for :class:`LIF`.
        size: number of neurons, or a shape that broadcasts against the features; needed only for what is learned.
        trainable: may hold "v_threshold": learned per neuron, above v_reset by construction.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the membrane [B, *features], float32 (float64 for float64 x);
        without one it starts at v_reset (soft reset: at 0). Returns (spikes [T, B, *features] of x's dtype, state).
    Raises:
        ValueError: v_threshold <= v_reset, a name that cannot be learned, sizes or shapes that do not fit.
        TypeError: x is not a floating tensor, the state is of another dtype.
    References:
        Fang et al. (2023), SpikingJelly: the same spikes as its IFNode.

    >>> import torch
    >>> spikes, state = IF()(torch.full((4, 1, 1), 0.5))
    >>> spikes.flatten()
    tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: str | Surrogate | Any = "atan",
        size: Size = None,
        trainable: Collection[str] = (),
    ):
        super().__init__()
        learned = checked_trainable("IF", trainable, ("v_threshold",))
        self.size = resolve_size("IF", size, v_threshold=v_threshold)
        self.v_reset = checked_reset("IF", v_reset)
        self.threshold = Threshold("IF", v_threshold, v_reset or 0.0, self.size, "v_threshold" in learned)
        self.detach_reset = detach_reset
        self.surrogate = Surrogate.resolve(surrogate)

    @property
    def v_threshold(self) -> float | Tensor:
        """Membrane potential at which a neuron fires."""
        return self.threshold.value

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        threshold = self.threshold.value
        spikes, _, state = run_lif(
            "IF", x, state, "state", decay=1.0, gain=1.0, bias=0.0, threshold=threshold,
            reset=threshold if self.v_reset is None else self.v_reset, hard=self.v_reset is not None, strict=False,
            detach_reset=self.detach_reset, surrogate=self.surrogate, v_sequence=False, rest=self.v_reset or 0.0,
            size=self.size,
        )  # fmt: skip
        return spikes, state

    def extra_repr(self) -> str:
        return f"v_reset={self.v_reset}, detach_reset={self.detach_reset}, surrogate={self.surrogate}"
