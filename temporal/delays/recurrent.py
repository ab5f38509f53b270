"""Spiking neurons that hear each other after delays that are learned."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from temporal.kernels.delayed import delayed_linear, nearest
from temporal.layers._history import check_inputs, whole
from temporal.layers._protocol import call, check_lengths, role

from .linear import DelayedLinear

__all__ = ["RecurrentDelays", "RecurrentDelaysState"]

# Which delays a common part can be taken from: all but those that are sums, or that are picked.
_PER = ("synapse", "axon", "dendrite")


class RecurrentDelaysState(NamedTuple):
    """The neurons' own state, and what they sent in the last max_delay steps, oldest first, [max_delay, B, size]."""

    neuron: Any
    sent: Tensor


class RecurrentDelays(nn.Module):
    """Neurons that hear each other after learned delays.

    y[t], n[t] = neuron(x[t] + sum_j w[i,j] y[t - d[i,j], j], n[t-1]),   min_delay <= d <= max_delay

    with one delay a synapse, an axon (d[j]) or a dendrite (d[i]). Each is a bump of width sigma over the lags min_delay ..
    max_delay while it learns, as in :class:`DelayedLinear`, which holds weights, delays and width here: `layer.delayed`,
    whose delays are counted from min_delay on. `DelaySchedule` finds it there.

    What a neuron sends now is heard min_delay steps later at the earliest, so that many steps need nothing of each other:
    they run as one product and one scan. Once sigma is 0 the shortest delay that is there counts (with kernel="rounded" not
    while delays learn). A network whose shortest delay is 10 steps takes a tenth of the calls of one that hears the step
    before; the results are the same.

    Args:
        neuron: a layer called as ``y, state = neuron(x, state)``, which keeps the number of features, such as
            :class:`temporal.neurons.LIF`.
        size: number of neurons N, >= 1.
        max_delay: the longest delay, in steps, >= min_delay.
        min_delay: the shortest delay, in steps, >= 1.
        per: what has a delay of its own: "synapse", "axon" (the sender) or "dendrite" (the hearer).
        kernel: how a weight is spread over the lags, as for :class:`DelayedLinear`.
        gain: factor on the weights at first, which start orthogonal.
        learn_delays: False keeps the random delays that the layer starts with.

    Shape:
        x: [T, B, N], T >= 0 steps.  state: the tuple (neuron's state, sent [max_delay, B, N] of x's dtype), or None: all at
        rest, nothing sent.  lengths: [B], steps of each sample; the state stands at each sample's end.
        Returns (y [T, B, N], state).

    Raises:
        ValueError: a size or delay out of range, an unknown `per` or `kernel`, x or state of another shape.
        TypeError: a neuron without a state, a size that is not a whole number, x or state of another dtype than the weights.

    References:
        Queant et al., "DelRec: learning delays in recurrent spiking neural networks", 2025: axonal delays, which start 10
        steps from the present. Running the shortest delay's steps at once is how NEST and SpiNNaker exchange spikes.

    Example:
        >>> import torch
        >>> from temporal.neurons import LIF
        >>> layer = RecurrentDelays(LIF(2.0), 2, max_delay=3, min_delay=2).round_()
        >>> with torch.no_grad():
        ...     _ = layer.delayed.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        ...     _ = layer.delayed.delay.fill_(1.0)  # counted from min_delay on: 3 steps
        >>> x = torch.zeros(5, 1, 2)
        >>> x[0, 0, 0] = 1.0
        >>> spikes, state = layer(x)
        >>> spikes[:, 0].detach()  # the first neuron's spike excites the second, 3 steps later
        tensor([[1., 0.],
                [0., 0.],
                [0., 0.],
                [0., 1.],
                [0., 0.]])
    """

    def __init__(
        self,
        neuron: nn.Module,
        size: int,
        max_delay: int,
        *,
        min_delay: int = 1,
        per: str = "synapse",
        kernel: str = "gaussian",
        gain: float = 1.0,
        learn_delays: bool = True,
    ):
        super().__init__()
        if not isinstance(neuron, nn.Module) or role(neuron).state != "state":
            raise TypeError(
                "RecurrentDelays: neuron must be a layer called as y, state = neuron(x, state), got "
                f"{type(neuron).__name__}"
            )
        self.size = whole("RecurrentDelays", "size", size)
        self.min_delay = whole("RecurrentDelays", "min_delay", min_delay)
        self.max_delay = whole("RecurrentDelays", "max_delay", max_delay)
        if self.max_delay < self.min_delay:
            raise ValueError(f"RecurrentDelays: max_delay={max_delay} is shorter than min_delay={min_delay} steps")
        if per not in _PER:
            raise ValueError(f"RecurrentDelays: per={per!r} is not one of {', '.join(map(repr, _PER))}")
        self.neuron = neuron
        span = self.max_delay - self.min_delay
        self.delayed = DelayedLinear(size, size, span, per=per, kernel=kernel, learn_delays=learn_delays)
        nn.init.orthogonal_(self.delayed.weight, gain)

    def forward(
        self, x: Tensor, state: tuple[Any, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RecurrentDelaysState]:
        """Returns (y, state): the output of every step of x, and what the next call needs to go on from there."""
        inner, sent = self._checked(x, state)
        check_lengths("RecurrentDelays", lengths, x.shape[1], x.shape[0], "steps")
        if self.training:
            self.delayed._project()
        as_role, shortest, delay = role(self.neuron), *self._shortest()
        history, parts, steps = sent, [], len(x)
        for start in range(0, steps, shortest) or [0]:
            current = x[start : start + shortest]
            ends = None if lengths is None else (lengths - start).clamp(0, len(current))
            if steps:
                # Output t hears y[t - shortest - d']: the lags that are left are those of the steps `shortest` earlier.
                first = len(history) - self.max_delay
                heard = history[first : len(history) - shortest + len(current)]
                current = current + self._product(heard, delay, self.max_delay - shortest)
            y, inner = call(self.neuron, current, inner, ends, as_role)
            parts.append(y)
            history = torch.cat([history[-self.max_delay :], y.to(history.dtype)])
        return torch.cat(parts), RecurrentDelaysState(inner, self._last(sent, parts, lengths))

    def round_(self) -> "RecurrentDelays":
        """Moves every delay to the nearest whole step and sets sigma to 0; returns the layer."""
        self.delayed.round_()
        return self

    def set_sigma(self, sigma: float) -> None:
        """Sets the width of the delays, in steps."""
        self.delayed.set_sigma(sigma)

    def delays(self) -> Tensor:
        """The delays in use, in steps, min_delay .. max_delay, of the shape that `per` gives them."""
        used = self.delayed.delay.detach().clamp(0, self.delayed.max_delay)
        return (nearest(used) if self.delayed._whole_steps else used) + self.min_delay

    def effective_kernel(self) -> Tensor:
        """The kernel in use, [N, N, max_delay + 1], lag 0 first; lags below min_delay are 0."""
        return nn.functional.pad(self.delayed.effective_kernel(), (self.min_delay, 0))

    def extra_repr(self) -> str:
        return f"size={self.size}, min_delay={self.min_delay}, max_delay={self.max_delay}"

    def _shortest(self) -> tuple[int, Tensor]:
        """The steps that can run at once, and the delays counted from there."""
        inner = self.delayed
        # A number that decides how many calls there are: never asked of a GPU, which would wait, or while tracing.
        if inner.sigma.device.type != "cpu" or torch.compiler.is_compiling() or float(inner.sigma) != 0:
            return self.min_delay, inner.delay
        # A delay that learns on whole steps feels the step before the shortest, too.
        if torch.is_grad_enabled() and inner._used_kernel() == "rounded" and inner.delay.requires_grad:
            return self.min_delay, inner.delay
        steps = nearest(inner.delay.clamp(0, inner.max_delay))
        heard = steps if inner.alive is None else steps[inner.alive_delays()]
        common = int(heard.min()) if heard.numel() else inner.max_delay
        return self.min_delay + common, (steps - common).clamp(min=0)

    def _product(self, heard: Tensor, delay: Tensor, longest: int) -> Tensor:
        inner = self.delayed
        return delayed_linear(
            heard, inner._used_weight(), delay, inner.sigma, None,
            max_delay=longest, kernel=inner._used_kernel(), per=inner.per, width=inner._width(),
        )  # fmt: skip

    def _last(self, sent: Tensor, parts: list[Tensor], lengths: Tensor | None) -> Tensor:
        """The last max_delay steps before each sample's end."""
        history = torch.cat([sent, *(part.to(sent.dtype) for part in parts)])
        if lengths is None:
            return history[len(history) - self.max_delay :].clone()
        steps = lengths + torch.arange(self.max_delay, device=lengths.device).unsqueeze(1)
        return history.gather(0, steps.unsqueeze(2).expand(-1, -1, self.size))

    def _checked(self, x: Tensor, state: tuple[Any, Tensor] | None) -> tuple[Any, Tensor]:
        fields = getattr(state, "_fields", RecurrentDelaysState._fields)
        pair = isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Tensor)
        if state is not None and (not pair or fields != RecurrentDelaysState._fields):
            raise TypeError(
                "RecurrentDelays: state must be None or the pair (neuron's state, last outputs) of an earlier call, got "
                f"{type(state).__name__}"
            )
        inner, sent = (None, None) if state is None else state
        weight = self.delayed.weight
        check_inputs("RecurrentDelays", x, sent, weight, ("size", self.size), self.max_delay, "max_delay")
        if x.device != weight.device:
            raise ValueError(f"RecurrentDelays: x is on {x.device}, the weights are on {weight.device}; move one")
        return inner, x.new_zeros(self.max_delay, x.shape[1], self.size) if sent is None else sent
