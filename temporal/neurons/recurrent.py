"""A spiking layer with recurrent weights of its own."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from temporal.layers._protocol import role, valid_steps

from ._checks import checked_lengths
from ._layer import SpikingLayer
from ._run import run

__all__ = ["Recurrent", "RecurrentState"]


class RecurrentState(NamedTuple):
    """The neurons' own state, and what they sent last, [B, size]."""

    neuron: Any
    y: Tensor


class Recurrent(nn.Module):
    """Neurons that also hear each other, one step late.

    y[t], n[t] = neuron(x[t] + W y[t-1], n[t-1])

    Around a spiking layer of :mod:`temporal.neurons` all steps, products included, are one operator, whose time is linear in
    T and whose compilation does not depend on T; on a CPU it adds up the weights of those that fired, in float32. Around any
    other layer every step is a call of its own, and its state goes on after a sample's end.

    Args:
        neuron: a layer called as ``y, state = neuron(x, state)``, which keeps the number of features.
        size: number of neurons. ``weight`` [size, size] holds W, from neuron i to neuron o at [o, i]; it starts orthogonal.
        gain: factor on the weights at first.
    Shape:
        x: [T, B, size], T steps, B samples. state: the tuple (neuron's state, y [B, size] of x's dtype); without one,
        all is at rest and nothing was sent. lengths: [B], steps of each sample. Returns (y [T, B, size], state).
    Raises:
        ValueError: size < 1, x or a state of another size.
        TypeError: a neuron without a state, a state that is no pair, x of another dtype than the weights outside autocast.
    References:
        Bellec et al. (2018), Bittar and Garner (2022): networks of such layers. Eshraghian et al. (2023), snnTorch: around
        LIF the equation of its RLeaky.

    >>> import torch
    >>> from temporal.neurons import LIF
    >>> layer = Recurrent(LIF(2.0), 2)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    >>> x = torch.zeros(3, 1, 2)
    >>> x[0, 0, 0] = 1.0
    >>> spikes, state = layer(x)
    >>> spikes[:, 0]  # the first neuron's spike excites the second
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]], grad_fn=<SelectBackward0>)
    """

    def __init__(self, neuron: nn.Module, size: int, *, gain: float = 1.0):
        super().__init__()
        if not isinstance(neuron, nn.Module) or role(neuron).state != "state":
            raise TypeError(
                f"Recurrent: neuron must be a layer called as y, state = neuron(x, state), got {type(neuron).__name__}"
            )
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"Recurrent: size={size} must be a positive number of neurons")
        self.neuron = neuron
        self.size = size
        self.weight = nn.Parameter(torch.zeros(size, size))
        nn.init.orthogonal_(self.weight, gain)

    def forward(
        self, x: Tensor, state: tuple[Any, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        inner, sent = self._checked(x, state)
        lengths = checked_lengths("Recurrent", lengths, x)
        if isinstance(self.neuron, SpikingLayer):
            neuron, feedback = self.neuron._neuron(), (self.weight, sent)
            y, _, inner = run(neuron, x, inner, lengths, v_sequence=False, feedback=feedback)
        else:
            y, inner = self._step_by_step(x, inner, sent)
            if lengths is not None:
                y = y.where(valid_steps(lengths, len(y)).unsqueeze(2), 0.0)
        return y, RecurrentState(inner, _last(y, sent, lengths))

    @property
    def memory(self) -> str:
        """What its neurons keep for the backward pass."""
        return getattr(self.neuron, "memory", "save")

    @property
    def truncate(self) -> int | None:
        """After how many steps gradients end."""
        return getattr(self.neuron, "truncate", None)

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def _step_by_step(self, x: Tensor, inner: Any, sent: Tensor) -> tuple[Tensor, Any]:
        """A neuron of which nothing is known but how to call it."""
        if not x.shape[0]:
            return self.neuron(x, inner)
        steps = []
        for current in x.unbind(0):
            heard = current + nn.functional.linear(sent, self.weight)
            y, inner = self.neuron(heard.unsqueeze(0), inner)
            steps.append(y)
            sent = y[0].to(x.dtype)
        return torch.cat(steps), inner

    def _checked(self, x: Tensor, state: tuple[Any, Tensor] | None) -> tuple[Any, Tensor]:
        if not isinstance(x, Tensor):
            raise TypeError(f"Recurrent: x must be a tensor [T, B, {self.size}], got {type(x).__name__}")
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ValueError(f"Recurrent: x has shape {list(x.shape)}; expected [T, B, {self.size}], time first")
        if x.device != self.weight.device:
            raise ValueError(
                f"Recurrent: x is on {x.device}, the weights are on {self.weight.device}; move one of them"
            )
        if x.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"Recurrent: x is {x.dtype}, the weights are {self.weight.dtype}; convert one of them")
        if state is None:
            return None, x.new_zeros(x.shape[1:])
        fields = getattr(state, "_fields", RecurrentState._fields)
        pair = isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Tensor)
        if not pair or fields != RecurrentState._fields:
            raise TypeError(
                "Recurrent: state must be None or the pair (neuron's state, last output) of an earlier call, got "
                f"{type(state).__name__}"
            )
        inner, sent = state
        if not sent.is_floating_point():
            raise TypeError(f"Recurrent: the state's last output is {sent.dtype}; expected {x.dtype}")
        if sent.shape != x.shape[1:]:
            raise ValueError(
                f"Recurrent: the state's last output has shape {list(sent.shape)}, but x of shape {list(x.shape)} needs "
                f"{list(x.shape[1:])}; a state belongs to one batch (start a new one with state=None)"
            )
        if sent.device != x.device:
            raise ValueError(f"Recurrent: the state is on {sent.device}, x is on {x.device}; move one of them")
        return inner, sent.to(x.dtype)


def _last(y: Tensor, sent: Tensor, lengths: Tensor | None) -> Tensor:
    """What was sent at each sample's last step."""
    if not y.shape[0]:
        return sent
    if lengths is None:
        return y[-1].to(sent.dtype)
    ends = (lengths - 1).clamp(0, y.shape[0] - 1)
    ended = y[ends, torch.arange(len(ends), device=y.device)].to(sent.dtype)
    return torch.where((lengths > 0).unsqueeze(1), ended, sent)
