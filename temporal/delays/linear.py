"""A linear layer whose synapses, axons or dendrites have delays of their own, in steps, learned with the weights."""

import math
from typing import Self

import torch
from torch import nn

from temporal.kernels.delayed import KERNELS, PER, delay_kernel, delayed_linear, halves, inwards, nearest
from temporal.layers._history import check_inputs, whole

from ._weakest import checked_share, weakest

__all__ = ["DelayedLinear"]


class DelayedLinear(nn.Module):
    """Linear layer with learned delays, one for each synapse, axon or dendrite; causal and streaming.

    y[t,o] = sum_i w[o,i] * x[t - d, i]   (+ b[o]),   d = d[o,i] per synapse, d[i] per axon, d[o] per dendrite

    d = a[i] + c[o] "additive", axons and dendrites both; d = d[g,i] with g = copies[o,i] "group", where an axon has a few
    copies with delays of their own, of which each synapse has picked one at random, for good.

    While it learns, a synapse spreads its weight over the lags 0 .. max_delay as a bump of width `sigma` around its
    delay, normalised over those lags; a wide one feels a better delay from afar, and one of width 0 sits on the nearest
    whole step, which is what a deployed network computes. `DelaySchedule` leads sigma from the one to the other.

    `weight` and `delay` are leaf parameters. The layer itself keeps the delays within 0 .. max_delay: every use takes
    them within that range, each training forward and each saved state projects the parameter back into it, and the
    gradient at a wall passes only if it leads inside.

    With kernel="rounded" a delay is used on its nearest step r, and its gradient is the difference of what its neighbours
    would have brought, "straight through" the rounding:

        dL/dd[o,i] = w[o,i] (G[r+1] - G[r-1]) / 2,   G[lag] = sum over t and samples of dL/dy[t,o] x[t - lag, i]

    one-sided at an end of the range. So the network that trains is the one that is deployed, from the first step on; a
    better delay is felt from a step away only.

    Args:
        in_features: number of inputs I, >= 1.
        out_features: number of outputs O, >= 1.
        max_delay: the largest delay, in steps, inclusive, >= 0: a published network of 25 taps has 24.
        per: what has a delay of its own: "synapse"; "axon", each input; "dendrite", each output; "additive", both;
            "group", `groups` copies of each input. All but the first take shifts and one matrix product (group: `groups`
            products), where synapses cost several.
        kernel: "gaussian"; "triangle", which ends sqrt(6) sigma away and below sigma = 0.2 meets one step only;
            "spectral", a gaussian on a circle of max_delay + 1 steps, where no delay is near an end; or "rounded": whole
            steps from the start, sigma stays 0, and delays learn by the straight-through gradient above.
        synapses: how many synapses a pair of neurons has, >= 1, each with a weight of its own; each with a delay of its own
            (per="synapse"), or with one of as many delays that an axon or a dendrite has. "additive" and "group" take 1.
        groups: copies of each axon, 1 to 255; for per="group".
        bias: adds a learned b[o].
        learn_delays: False keeps the random delays that the layer starts with (they stay in the state dict).

    Attributes:
        weight: [O, I], or [O, I, synapses] where there are several, starts uniform in +-sqrt(6 / (I synapses)) (Kaiming
            for ReLU), as in the published networks.
        delay: like weight per synapse, [I] per axon, [O] per dendrite (of several synapses [I, synapses], [O, synapses]),
            [groups, I] per group, in steps, starts uniform in 0 .. max_delay. Additive: [I + O], the axons' first, these in
            0 .. ceil(max_delay / 2), the dendrites' in 0 .. floor(max_delay / 2); each with sigma / sqrt(2), so that the
            sum has sigma.
        copies: buffer of a group, [O, I], which copy of its axon a synapse has picked.
        alive: buffer of a layer that was pruned, like weight, True where a synapse is left; else None, and in no state dict.
        sigma: buffer, effective standard deviation in steps, starts at max_delay / 2 (rounded: 0); set by `set_sigma`.
            Below 0.001 (triangle: 0.2) it counts as 0; then the delays get a gradient of zero and the weights go on
            learning (kernel="rounded": once `round_` was called).

    Shape:
        x: [T, B, I], T >= 0.  state: the last max_delay inputs, oldest first, [max_delay, B, I], or None for silence.
        Returns (y [T, B, O], state).

    Raises:
        ValueError: a size, delay or width out of range, an unknown `per` or `kernel`, x or state of another shape.
        TypeError: a size that is not a whole number; x or state of another dtype than the weights.

    References:
        Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning delays in spiking neural networks using dilated
        convolutions with learnable spacings", ICLR 2024. Values and gradients equal those of dcls 0.1.1,
        `Dcls1d(version="gauss")` with L = max_delay + 1 taps: |SIG| = sigma - 0.27, P = max_delay - L // 2 - delay,
        left padding L - 1. Not so where dcls errs: with an even L its clamped P reaches a tap that does not exist, and
        the synapse vanishes; its triangles ("v1", "max") have no gradient at whole steps.

    Example:
        >>> layer = DelayedLinear(in_features=40, out_features=128, max_delay=24)
        >>> x = torch.rand(100, 8, 40)
        >>> y, state = layer(x)
        >>> y.shape, state.shape
        (torch.Size([100, 8, 128]), torch.Size([24, 8, 40]))
        >>> first, state = layer(x[:30])  # the same in two parts
        >>> rest, state = layer(x[30:], state)
        >>> torch.allclose(torch.cat([first, rest]), y, atol=1e-5)
        True
    """

    sigma: torch.Tensor
    copies: torch.Tensor | None
    alive: torch.Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int,
        *,
        per: str = "synapse",
        kernel: str = "gaussian",
        synapses: int = 1,
        groups: int = 4,
        bias: bool = False,
        learn_delays: bool = True,
    ):
        super().__init__()
        self.in_features = whole("DelayedLinear", "in_features", in_features, least=1)
        self.out_features = whole("DelayedLinear", "out_features", out_features, least=1)
        self.max_delay = whole("DelayedLinear", "max_delay", max_delay, least=0)
        self.per = _one_of("per", per, PER)
        self.kernel = _one_of("kernel", kernel, KERNELS)
        self.synapses = whole("DelayedLinear", "synapses", synapses, least=1)
        self.groups = whole("DelayedLinear", "groups", groups, least=1)
        if self.synapses > 1 and per in ("additive", "group"):
            raise ValueError(
                f"DelayedLinear: synapses={synapses} need per='synapse', 'axon' or 'dendrite', not {per!r}"
            )
        if self.groups > 255:
            raise ValueError(f"DelayedLinear: groups={groups} must be at most 255")
        several = (synapses,) if synapses > 1 else ()
        pairs = (out_features, in_features, *several)
        shapes = {
            "synapse": pairs, "axon": (in_features, *several), "dendrite": (out_features, *several),
            "additive": (in_features + out_features,), "group": (groups, in_features),
        }  # fmt: skip
        self.weight = nn.Parameter(torch.empty(pairs))
        self.delay = nn.Parameter(torch.empty(shapes[per]), requires_grad=learn_delays)
        self.register_buffer("copies", torch.empty(pairs, dtype=torch.uint8) if per == "group" else None)
        self.register_buffer("alive", None)
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.register_buffer("sigma", torch.tensor(0.0 if kernel == "rounded" else self.max_delay / 2))
        self._known: tuple[int, float] | None = None
        self._whole_steps = False  # set by round_: training forwards undo what momentum still adds to a delay
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights, delays and bias afresh; sigma stays, and so does what was pruned."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        for part, largest in self._ranges():
            nn.init.uniform_(part, 0, largest)
        if self.copies is not None:
            self.copies.random_(self.groups)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)
        self._bury()

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (y, state): the output of every step of x, and what the next call needs to go on from there."""
        features = ("in_features", self.in_features)
        check_inputs("DelayedLinear", x, state, self.weight, features, self.max_delay, "max_delay")
        if state is None:
            state = x.new_zeros(self.max_delay, x.shape[1], self.in_features)
        history = torch.cat([state, x])
        # From len(x) on, not the last max_delay: history[-0:] would be everything. A copy, so that a state kept between
        # chunks does not keep the chunk.
        return self.currents(history), history[len(x) :].clone()

    def currents(self, history: torch.Tensor) -> torch.Tensor:
        """The layer without its state: from the max_delay steps before x and x, [max_delay + T, B, I], to [T, B, O]."""
        if self.training:
            self._project()
        return delayed_linear(
            history, self._used_weight(), self.delay, self.sigma, self.bias,
            max_delay=self.max_delay, kernel=self._used_kernel(), per=self.per, copies=self.copies, width=self._width(),
        )  # fmt: skip

    def effective_kernel(self) -> torch.Tensor:
        """The kernel in use, [O, I, max_delay + 1], lag 0 first; differentiable."""
        weight, kernel = self._used_weight(), self._used_kernel()
        return delay_kernel(weight, self.delay, self.sigma, self.max_delay, kernel, self.per, self.copies)

    def set_sigma(self, sigma: float) -> None:
        """Sets the width, in steps: finite and >= 0; a layer with kernel="rounded" takes 0 only."""
        sigma = float(sigma)
        if not 0 <= sigma < math.inf:
            raise ValueError(f"DelayedLinear: sigma={sigma} is not a width in steps: finite, >= 0")
        if sigma > 0 and self.kernel == "rounded":
            raise ValueError(f"DelayedLinear: sigma={sigma}, but kernel='rounded' has no width: sigma stays 0")
        self.sigma.fill_(sigma)
        self._known = None
        self._whole_steps = False

    def round_(self) -> Self:
        """Moves every delay to the nearest whole step, half-way ones up, and sets sigma to 0; returns the layer.

        From then on, until `set_sigma`, no delay learns, and each training forward rounds again: the momentum that an
        optimiser still carries moves no delay to another step.
        """
        self.set_sigma(0.0)
        self._whole_steps = True
        self._project()
        return self

    @torch.no_grad()
    def prune_(self, amount: float | None = None, *, threshold: float | None = None) -> Self:
        """Takes the weakest synapses out for good, by the size of their weights; returns the layer.

        A pruned synapse has weight 0 and delay 0 and stays so in training: neither gets a gradient, and what momentum adds
        is taken away by each training forward. It counts in no cost. A delay of an axon, a dendrite or a copy goes with the
        last of its synapses.

        Args:
            amount: share of the synapses that are to be out, 0 .. 1; those that are out already count.
            threshold: all with |weight| below it, >= 0. One of the two is given.
        Raises:
            TypeError: none of the two, or both.
            ValueError: one out of its range.

        >>> layer = DelayedLinear(40, 64, max_delay=24).prune_(0.9)
        >>> int(layer.alive.sum()), int((layer.weight != 0).sum())
        (256, 256)
        """
        if (amount is None) == (threshold is None):
            raise TypeError(f"DelayedLinear.prune_: amount={amount} and threshold={threshold}: one of the two is right")
        strength = self._strength()
        if amount is not None:
            out = weakest([strength], checked_share("DelayedLinear.prune_", amount))[0]
        elif threshold is not None and 0 <= threshold < math.inf:
            out = strength < threshold
        else:
            raise ValueError(f"DelayedLinear.prune_: threshold={threshold} is not a size of weights, finite and >= 0")
        self._take_out(out)
        return self

    def alive_delays(self) -> torch.Tensor:
        """Which delays have a synapse that is left: like delay, True where one is; all, where nothing was pruned."""
        alive = self.alive
        if alive is None:
            return torch.ones_like(self.delay, dtype=torch.bool)
        if self.per == "synapse":
            return alive
        if self.copies is not None:
            return torch.stack([(alive & (self.copies == copy)).any(0) for copy in range(self.groups)])
        of_ends = {"axon": (0,), "dendrite": (1,), "additive": (0, 1)}[self.per]
        return torch.cat([alive.any(end) for end in of_ends])

    def extra_repr(self) -> str:
        text = f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}, per={self.per!r}"
        text += f", groups={self.groups}" if self.per == "group" else ""
        text += f", synapses={self.synapses}" if self.synapses > 1 else ""
        text += f", kernel={self.kernel!r}, bias={self.bias is not None}"
        text += "" if self.alive is None else f", pruned={1 - self.alive.float().mean():.3g}"
        return text if self.delay.requires_grad else text + ", learn_delays=False"

    def _ranges(self) -> list[tuple[torch.Tensor, int]]:
        """The parts of the delays and the largest of each."""
        if self.per != "additive":
            return [(self.delay, self.max_delay)]
        parts = self.delay[: self.in_features], self.delay[self.in_features :]
        return list(zip(parts, halves(self.max_delay), strict=True))

    def _width(self) -> float | None:
        """Sigma as a number, read from a GPU only after it was written; on a CPU it is read when it is needed."""
        if self.sigma.device.type != "cuda" or torch.compiler.is_compiling() or self.sigma.is_inference():
            return None
        if self._known is None or self._known[0] != self.sigma._version:
            self._known = (self.sigma._version, float(self.sigma))
        return self._known[1]

    def _used_weight(self) -> torch.Tensor:
        """The weights in use: a pruned one is 0, whatever an optimiser has made of it since, and gets no gradient."""
        return self.weight if self.alive is None else self.weight.masked_fill(~self.alive, 0)

    def _used_steps(self) -> torch.Tensor:
        """The delays in whole steps, as they are deployed; 0 without a synapse that is left."""
        parts = [nearest(part.detach().clamp(0, largest)) for part, largest in self._ranges()]
        steps = torch.cat(parts) if len(parts) > 1 else parts[0]
        return steps if self.alive is None else steps.masked_fill(~self.alive_delays(), 0)

    def _used_kernel(self) -> str:
        # Where round_ has ended the learning of rounded delays: a gaussian of width 0 is the same, and gives them none.
        ended = self.kernel == "rounded" and self._whole_steps and self.delay.requires_grad
        return "gaussian" if ended else self.kernel

    def _strength(self) -> torch.Tensor:
        """|weight|, and less than that of any for a synapse that is out already."""
        strength = self.weight.detach().abs()
        return strength if self.alive is None else strength.masked_fill(~self.alive, -1.0)

    def _take_out(self, out: torch.Tensor) -> None:
        """These synapses, and those that are out already."""
        alive = ~out if self.alive is None else self.alive & ~out
        self.alive = None if bool(alive.all()) else alive
        self._bury()

    def _bury(self) -> None:
        """Weights and delays of pruned synapses are 0."""
        if self.alive is not None:
            self.weight.data.masked_fill_(~self.alive, 0)
            self.delay.data.masked_fill_(~self.alive_delays(), 0)

    def _project(self) -> None:
        # Through .data: what an earlier chunk saved for its backward is in range, so autograd has nothing to object to.
        delay = self.delay.data
        for part, largest in self._ranges():
            part.data.clamp_(0, largest)
        if self._whole_steps:
            delay.copy_(nearest(delay))
        self._bury()

    def project_gradient(self) -> None:
        """Take from the delays' gradient what leads outside their range; for a sum of gradients from `unprojected`."""
        if self.delay.grad is not None:
            self._turn_inwards(self.delay.grad)

    @torch.no_grad()
    def _turn_inwards(self, slope: torch.Tensor) -> None:
        """Take from a gradient of the delays, or from a mean of some, what leads outside their range by descent."""
        ranges = self._ranges()
        for (part, largest), of_part in zip(ranges, slope.split([len(part) for part, _ in ranges]), strict=True):
            of_part.copy_(inwards(of_part, part <= 0, part >= largest))

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        self._project()  # an optimiser's last step may have left a delay outside
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if prefix + "weight" in state_dict:  # whose synapses these are, all or some
            pruned = prefix + "alive" in state_dict
            self.alive = torch.ones_like(self.weight, dtype=torch.bool) if pruned else None
        delay, errors = state_dict.get(prefix + "delay"), args[-1]
        if delay is not None and delay.shape == self.delay.shape:
            ends = torch.cat([torch.full_like(part, largest) for part, largest in self._ranges()]).to(delay)
            if not ((delay >= 0) & (delay <= ends)).all():
                low, high = delay.min().item(), delay.max().item()
                errors.append(
                    f"DelayedLinear: {prefix}delay spans {low:g} .. {high:g} steps, max_delay={self.max_delay}"
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"DelayedLinear: {name}={value!r} is not one of {', '.join(map(repr, allowed))}")
    return value
