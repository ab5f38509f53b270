"""The integrate-and-fire layer, which does not leak."""

from collections.abc import Collection
from typing import Any, Literal

from torch import Tensor

from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate

from ._layer import SpikingLayer
from ._parameters import Size, checked_trainable, resolve_size
from ._run import Neuron

__all__ = ["IF"]


class IF(SpikingLayer):
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
        memory, truncate: as for :class:`LIF`.
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
        memory: Literal["save", "recompute"] = "save",
        truncate: int | None = None,
    ):
        learned = checked_trainable("IF", trainable, ("v_threshold",))
        size = resolve_size("IF", size, v_threshold=v_threshold)
        super().__init__(
            v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset, surrogate=surrogate, size=size,
            learned=learned, memory=memory, truncate=truncate,
        )  # fmt: skip

    def _neuron(self) -> Neuron:
        threshold, reset, same = self._resets()
        knobs = {"decay": 1.0, "gain": 1.0, "bias": 0.0, "threshold": threshold, "reset": reset}
        return Neuron("IF", lif, knobs, bare="state", **same)
