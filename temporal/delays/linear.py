"""A linear layer whose synapses, axons or dendrites have delays of their own, in steps, learned with the weights."""

import math
from typing import Self

import torch
from torch import nn

from temporal.kernels.delayed import KERNELS, PER, delay_kernel, delayed_linear, halves, inwards, nearest
from temporal.layers._history import check_inputs, whole

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

    Args:
        in_features: number of inputs I, >= 1.
        out_features: number of outputs O, >= 1.
        max_delay: the largest delay, in steps, inclusive, >= 0: a published network of 25 taps has 24.
        per: what has a delay of its own: "synapse"; "axon", each input; "dendrite", each output; "additive", both;
            "group", `groups` copies of each input. All but the first take shifts and one matrix product (group: `groups`
            products), where synapses cost several.
        kernel: "gaussian"; "triangle", which ends sqrt(6) sigma away and below sigma = 0.2 meets one step only;
            "spectral", a gaussian on a circle of max_delay + 1 steps, where no delay is near an end; or "rounded": whole
            steps from the start, sigma stays 0 and no gradient reaches a delay.
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
        sigma: buffer, effective standard deviation in steps, starts at max_delay / 2 (rounded: 0); set by `set_sigma`.
            Below 0.001 (triangle: 0.2) it counts as 0; then the delays get a gradient of zero and the weights go on
            learning.

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
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.register_buffer("sigma", torch.tensor(0.0 if kernel == "rounded" else self.max_delay / 2))
        self._known: tuple[int, float] | None = None
        self._whole_steps = False  # set by round_: training forwards undo what momentum still adds to a delay
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights, delays and bias afresh; sigma stays."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        for part, largest in self._ranges():
            nn.init.uniform_(part, 0, largest)
        if self.copies is not None:
            self.copies.random_(self.groups)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

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
            history, self.weight, self.delay, self.sigma, self.bias,
            max_delay=self.max_delay, kernel=self.kernel, per=self.per, copies=self.copies, width=self._width(),
        )  # fmt: skip

    def effective_kernel(self) -> torch.Tensor:
        """The kernel in use, [O, I, max_delay + 1], lag 0 first; differentiable."""
        return delay_kernel(self.weight, self.delay, self.sigma, self.max_delay, self.kernel, self.per, self.copies)

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

        From then on, until `set_sigma`, each training forward rounds again: the momentum that an optimiser still
        carries moves no delay to another step.
        """
        self.set_sigma(0.0)
        self._whole_steps = True
        self._project()
        return self

    def extra_repr(self) -> str:
        text = f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}, per={self.per!r}"
        text += f", groups={self.groups}" if self.per == "group" else ""
        text += f", synapses={self.synapses}" if self.synapses > 1 else ""
        text += f", kernel={self.kernel!r}, bias={self.bias is not None}"
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

    def _project(self) -> None:
        # Through .data: what an earlier chunk saved for its backward is in range, so autograd has nothing to object to.
        delay = self.delay.data
        for part, largest in self._ranges():
            part.data.clamp_(0, largest)
        if self._whole_steps:
            delay.copy_(nearest(delay))

    def project_gradient(self) -> None:
        """Take from the delays' gradient what leads outside their range; for a sum of gradients from `unprojected`."""
        grad = self.delay.grad
        if grad is None:
            return
        for (part, largest), of_part in zip(
            self._ranges(), grad.split([len(p) for p, _ in self._ranges()]), strict=True
        ):
            of_part.copy_(inwards(of_part, part <= 0, part >= largest))

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        self._project()  # an optimiser's last step may have left a delay outside
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict, prefix, *args):
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
