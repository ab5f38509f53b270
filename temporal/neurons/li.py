"""The leaky integrator layer: a readout."""

from collections.abc import Collection

from torch import Tensor, nn

from ._checks import checked_truncate
from ._parameters import Size, TimeConstant, checked_trainable, resolve_size
from ._run import Neuron, run
from .functional import li_neuron

__all__ = ["LI"]


class LI(nn.Module):
    """Leaky integrators: readout neurons that never fire.

    v[t] = (1 - 1/tau) v[t-1] + x[t]   (decay_input: x[t] / tau)

    Args:
        tau: membrane time constant, in steps, > 1: a number, or a tensor [size].
        decay_input: divide the current by tau, so that a constant current is also the potential it leads to.
        size: number of neurons, or a shape that broadcasts against the features; needed only for what is learned.
        trainable: may hold "tau": learned per neuron, above 1 by construction.
    Shape:
        x: [T, B, *features], T steps, B samples. state: the membrane [B, *features].
        Returns (v [T, B, *features], state), both float32 (float64 for float64 x), also for 16-bit x: logits are read
        from small differences of v.
    Raises:
        ValueError: tau <= 1, a name that cannot be learned, sizes or shapes that do not fit.
        TypeError: x is not a floating tensor, the state is of another dtype.

    >>> import torch
    >>> v, state = LI(tau=2.0)(torch.ones(3, 1, 1))
    >>> v.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        decay_input: bool = False,
        size: Size = None,
        trainable: Collection[str] = (),
        truncate: int | None = None,
    ):
        super().__init__()
        learned = checked_trainable("LI", trainable, ("tau",))
        self.size = resolve_size("LI", size, tau=tau)
        self.time_constant = TimeConstant("LI", tau, self.size, "tau" in learned)
        self.decay_input = decay_input
        checked_truncate("LI", truncate)
        self.truncate = truncate

    @property
    def tau(self) -> float | Tensor:
        """Membrane time constant, in steps."""
        return self.time_constant.tau

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return run(self._neuron(), x, state, lengths, v_sequence=True)[1:]

    def extra_repr(self) -> str:
        return f"decay_input={self.decay_input}"

    def _neuron(self) -> Neuron:
        """What runs, with the parameters as they are now."""
        decay, rate = self.time_constant.decay_and_rate()
        gain = rate if self.decay_input else 1.0
        return li_neuron("LI", decay, gain, size=self.size, truncate=self.truncate, bare="state")
