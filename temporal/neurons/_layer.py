"""What all layers of spiking neurons share: how they fire, how they reset, what they keep for the backward pass."""

from typing import Any

from torch import Tensor, nn

from temporal.kernels.surrogates import Surrogate

from ._checks import checked_truncate
from ._parameters import Threshold, checked_reset
from ._run import Neuron, run

__all__ = ["SpikingLayer"]

_MEMORIES = ("save", "recompute")


class SpikingLayer(nn.Module):
    """A layer of spiking neurons. A class of them makes its parameters and says, in ``_neuron``, what runs.

    Args:
        v_threshold, v_reset, detach_reset, surrogate: as for :class:`temporal.neurons.LIF`.
        size: shape of the per-neuron values, or None.
        learned: what of its parameters is learned.
        memory, truncate: as for :class:`temporal.neurons.LIF`.
    """

    decay_input: bool  # of the layers that have it

    def __init__(
        self,
        *,
        v_threshold: float | Tensor,
        v_reset: float | None,
        detach_reset: bool,
        surrogate: str | Surrogate | Any,
        size: tuple[int, ...] | None,
        learned: frozenset[str],
        memory: str,
        truncate: int | None,
    ):
        super().__init__()
        owner = type(self).__name__
        self.size = size
        self.v_reset = checked_reset(owner, v_reset)
        self.threshold = Threshold(owner, v_threshold, v_reset or 0.0, size, "v_threshold" in learned)
        self.detach_reset = detach_reset
        self.surrogate = Surrogate.resolve(surrogate)
        if memory not in _MEMORIES:
            raise ValueError(f"{owner}: memory={memory!r} is unknown; known: {', '.join(map(repr, _MEMORIES))}")
        self.memory = memory
        checked_truncate(owner, truncate)
        self.truncate = truncate

    @property
    def v_threshold(self) -> float | Tensor:
        """Membrane potential at which a neuron fires."""
        return self.threshold.value

    @property
    def rest(self) -> float:
        """Membrane potential without any current."""
        return self.v_reset or 0.0

    def forward(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Spikes [T, B, *features] of x's dtype, and the state after the last step."""
        spikes, _, state = run(self._neuron(), x, state, lengths, v_sequence=False)
        return spikes, state

    def extra_repr(self) -> str:
        parts = [f"v_reset={self.v_reset}", *self._described(), f"detach_reset={self.detach_reset}"]
        parts.append(f"surrogate={self.surrogate}")
        if self.memory != "save":
            parts.append(f"memory={self.memory!r}")
        if self.truncate is not None:
            parts.append(f"truncate={self.truncate}")
        return ", ".join(parts)

    def _neuron(self) -> Neuron:
        """What runs, with the parameters as they are now."""
        raise NotImplementedError

    def _described(self) -> list[str]:
        """What else ``repr`` shows."""
        return []

    def _drive(self, rate: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
        """Gain and bias of a membrane that leaks to its rest with ``rate``, 1 / tau; for layers with ``decay_input``."""
        return rate if self.decay_input else 1.0, self.rest * rate if self.rest else 0.0

    def _resets(self) -> tuple[float | Tensor, float | Tensor, dict[str, Any]]:
        """The threshold, where the reset leads or what it subtracts, and what is the same for every kind of neuron."""
        threshold, hard = self.threshold.value, self.v_reset is not None
        same = {
            "hard": hard, "detach_reset": self.detach_reset, "surrogate": self.surrogate, "rest": self.rest,
            "size": self.size, "truncate": self.truncate,
        }  # fmt: skip
        return threshold, self.rest if hard else threshold, same
