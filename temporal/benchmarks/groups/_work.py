"""What a neuron is given to do in a benchmark, and the truth about it; shared by the groups.

The truth is the neuron's own reference in float64. No membrane comes near the threshold, where a rounding would decide, so
spikes must be equal, whoever computes them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from temporal.benchmarks import Floor
from temporal.kernels import use
from temporal.kernels._scan import Feedback, Rule
from temporal.kernels._scan.reference import Reference
from temporal.neurons import Recurrent

__all__ = [
    "MARGIN", "TOLERANCE", "Neuron", "Work", "distances", "if_there", "jelly_lif", "largest_error", "outputs_of",
    "product_floor", "relative_norm", "stateless",
]  # fmt: skip

Neuron = Callable[[Tensor], tuple[Tensor, ...]]  # currents [T, B, N] -> spikes, and what else is returned

MARGIN = 1e-5  # distance of every membrane from the threshold; float32 errs by less than 2e-6 here
# Spikes must be equal (a wrong one is an error of 1). Gradients sum a few steps' products in float32 (6e-8 each).
TOLERANCE = 1e-5
_NUDGE = 0.03125  # of a current whose membrane is too near; more than bfloat16 rounds away


@dataclass
class Work:
    """Currents, the weights of the loss, and the truth.

    Args:
        x, weight: [T, B, N]; x has a gradient in training.
        leaves: what else has one: the layer's parameters.
        truth: outputs (spikes first), and in training the gradients of their weighted sum for x and the leaves.
        outputs: how many of ``truth`` are outputs.
    """

    x: Tensor
    weight: Tensor
    leaves: list[Tensor]
    truth: list[Tensor]
    outputs: int

    @classmethod
    def draw(
        cls,
        layer: nn.Module,
        shape: Sequence[int],
        training: bool,
        *,
        mean: float = 0.4,
        std: float = 0.5,
        dtype: torch.dtype = torch.float32,
        lengths: Tensor | None = None,
        function: Neuron | None = None,
    ) -> Work:
        """Draw normal currents for a layer, or for a function of the same membranes."""
        x = (torch.randn(*shape) * std + mean).to(dtype)
        while (near := distances(layer, x).abs() < MARGIN).any():
            x[near] += _NUDGE
        weight = torch.randn(*shape).to(dtype)
        exact = copy.deepcopy(layer).double()
        work = cls(x.double(), weight.double(), list(exact.parameters()), [], 0)
        work.x.requires_grad_(training)
        with use("reference"):
            truth = work.run(function or outputs_of(exact, lengths))
        work.outputs = len(truth) - (1 + len(work.leaves) if training else 0)
        work.truth = [truth[0].bool(), *(part.float() for part in truth[1:])]
        work.x, work.weight, work.leaves = x.requires_grad_(training), weight, list(layer.parameters())
        return work

    @property
    def training(self) -> bool:
        """Whether gradients are part of the work."""
        return self.x.requires_grad

    @property
    def density(self) -> float:
        """Spikes a neuron-step."""
        return self.truth[0].float().mean().item()

    def run(self, neuron: Neuron, leaves: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """What is timed. A peer brings leaves of its own."""
        if not self.training:
            with torch.no_grad():
                return neuron(self.x)
        outputs = neuron(self.x)
        wanted = (self.x, *(self.leaves if leaves is None else leaves))
        return *(out.detach() for out in outputs), *torch.autograd.grad(outputs, wanted, [self.weight] * len(outputs))

    def error(self, result: Sequence[Tensor]) -> float:
        """Of a result, see :func:`largest_error`."""
        return largest_error(result, self.truth, self.outputs)


def largest_error(result: Sequence[Tensor], truth: Sequence[Tensor], outputs: int) -> float:
    """Of outputs, which come first, and of gradients relative to the largest gradient; NaN if one of them is."""
    if [part.shape for part in result] != [part.shape for part in truth]:
        return float("inf")
    errors = []
    for place, (part, true) in enumerate(zip(result, truth, strict=True)):
        difference = (part.float() - true.float()).abs().max()
        errors.append(difference if place < outputs else difference / true.abs().max())
    return torch.stack(errors).max().item()  # Python's max would lose a NaN


def relative_norm(result: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest of the tensors' errors, each as a norm relative to the truth's; NaN if one of them is."""
    if [part.shape for part in result] != [part.shape for part in truth]:
        return float("inf")
    pairs = zip(result, truth, strict=True)
    return (
        torch.stack([(part.float() - true.float()).norm() / true.float().norm() for part, true in pairs]).max().item()
    )


@torch.no_grad()
def distances(layer: nn.Module, x: Tensor) -> Tensor:
    """Of every membrane from its threshold, before the reset, in float64 by the reference."""
    inner, feedback = layer, None
    x = x.double()
    if isinstance(layer, Recurrent):
        inner, feedback = layer.neuron, Feedback(layer.weight.double(), torch.zeros_like(x[0]))
    neuron = inner._neuron()  # type: ignore[operator]
    family = neuron.operator.family
    knobs = family.knobs(**{name: torch.as_tensor(knob).double() for name, knob in neuron.knobs.items()})
    rests = (neuron.rest,) + (0.0,) * (len(family.state._fields) - 1)
    start = family.state(*(torch.full_like(x[0], rest) for rest in rests))
    rule = Rule(neuron.hard, neuron.strict, neuron.detach_reset, neuron.surrogate.name, neuron.surrogate.alpha)
    # With a checkpoint at every step there is the state that each step began with.
    spikes, _, _, before = Reference(family).forward(x, start, knobs, feedback, None, rule, False, 1)
    if feedback is not None:
        x = x + torch.cat([feedback.sent[None], spikes[:-1]]) @ feedback.weight.t()
    return family.distance(knobs, family.charge(knobs, before, x))


def outputs_of(layer: nn.Module, lengths: Tensor | None = None) -> Neuron:
    """The layer, from rest, without its state."""
    return lambda x: layer(x, None, lengths)[:1]


def if_there(package: str, make: Callable[..., Any], work: Work, *arguments: Any) -> Callable[[], Any] | None:
    """The work done by what ``make`` makes, if the package is installed."""
    return partial(work.run, make(*arguments)) if find_spec(package) else None


def jelly_lif(tau: float, alpha: float, step_mode: str = "m") -> nn.Module:
    """SpikingJelly's neuron with a hard reset to 0, the current undivided and the reset detached."""
    from spikingjelly.activation_based.neuron import LIFNode
    from spikingjelly.activation_based.surrogate import ATan

    return LIFNode(tau=tau, decay_input=False, detach_reset=True, surrogate_function=ATan(alpha), step_mode=step_mode)


def stateless(node: nn.Module) -> Neuron:
    """SpikingJelly's module, reset after every call, as by its users: its state would reach the next, and hold a graph."""
    stateful = [part for part in node.modules() if hasattr(part, "reset")]

    def neuron(x: Tensor) -> tuple[Tensor]:
        spikes = node(x)
        for part in stateful:
            part.reset()  # type: ignore[operator]
        return (spikes,)

    return neuron


def product_floor(rows: int, size: int, flops: float) -> Floor:
    """The time of so many flops in a product of matrices [rows, size] and [size, size] by torch's threads."""
    left, right, out = torch.randn(rows, size), torch.randn(size, size), torch.empty(rows, size)
    what = f"product of [{rows}, {size}] and [{size}, {size}]"
    return Floor(what, lambda: torch.mm(left, right, out=out), 2 * rows * size * size / flops)
