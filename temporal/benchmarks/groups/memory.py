"""Training a deep network over long sequences: time and peak memory of three layers of Linear and LIF.

A sparse binary input, the mean rates' squares as loss, the gradients of all weights. The neuron is that of ``lif.py``. The
aim: with memory="recompute" at most 0.45 of SpikingJelly's peak, for at most 1.35 times the time of "save".

Equal gradients need equal spikes in all layers. All weights lie on a grid of 2^-10, so that float32 sums of spikes are
exact in any order, and decay = 1/2 leaves one rounding a step, the same for all. That rounding must not decide either: a
sample on which the reference fires otherwise in float32 than in float64 is drawn anew. Truncated gradients have a truth of
their own.

The floor is the products of matrices: 3 forward, 3 for the weights' gradients, 2 for the inputs' (the first input has
none); the weights' transposes cost nothing there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import temporal
from temporal.benchmarks import Case
from temporal.kernels import use
from temporal.neurons import LIF

from ._work import TOLERANCE, jelly_lif, largest_error, product_floor, stateless

__all__ = ["cases"]

LAYERS, TAU, ALPHA, DENSITY = 3, 2.0, 2.0, 0.05
PRODUCTS = 3 * LAYERS - 1
TRUNCATE = 100  # steps
SPIKINGJELLY = "SpikingJelly LIFNode"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    shapes = ((1000, 16, 256), (4000, 16, 256)) if not quick else ((150, 2, 8),)
    return [partial(_case, *shape) for shape in shapes]


def _case(steps: int, samples: int, neurons: int) -> Case:
    work = _Work(steps, samples, neurons)
    contenders: dict[str, Callable[[], Any] | None] = {
        'temporal memory="save"': _ours(work),
        'temporal memory="recompute"': _ours(work, memory="recompute"),
        f"temporal truncate={TRUNCATE}": _ours(work, truncate=TRUNCATE),
        SPIKINGJELLY: _jelly(work) if find_spec("spikingjelly") else None,
    }
    flops = PRODUCTS * 2 * steps * samples * neurons**2
    return Case(
        name="deep training",
        scope=f"{LAYERS} x (Linear + LIF), loss and backward",
        shape=f"T={steps} B={samples} N={neurons}",
        dtype="float32",
        density=DENSITY,
        items=LAYERS * steps * samples * neurons,
        item="neuron-step",
        contenders=contenders,
        baseline=SPIKINGJELLY if contenders[SPIKINGJELLY] else next(iter(contenders)),
        check=lambda done: largest_error(done[1], work.truth(done[0]), 1),
        tolerance=TOLERANCE,
        flops=flops,
        floor=product_floor(steps * samples, neurons, flops),
        memory=True,
    )


class _Work:
    """The input, the layers between the neurons, and for each truncation the truth: the reference in float64."""

    def __init__(self, steps: int, samples: int, neurons: int):
        self.linears = [nn.Linear(neurons, neurons) for _ in range(LAYERS)]
        with torch.no_grad():
            for linear in self.linears:
                linear.weight.normal_(std=3 / neurons**0.5)
                for parameter in linear.parameters():
                    parameter.copy_((parameter * 1024).round() / 1024)
        self.x = torch.zeros(steps, samples, neurons)
        drawn = torch.ones(samples, dtype=torch.bool)
        while drawn.any():
            self.x[:, drawn] = (torch.rand(steps, int(drawn.sum()), neurons) < DENSITY).float()
            drawn = (self._fired(torch.float32) != self._fired(torch.float64)).any(dim=3).any(dim=1).any(dim=0)
        self.truth = cache(self._truth)

    def layers(self, neuron: Callable[[], nn.Module]) -> list[nn.Module]:
        """Of a network of its own for each contender."""
        return [part for linear in self.linears for part in (copy.deepcopy(linear), neuron())]

    def run(self, network: Callable[[Tensor], Tensor], weights: list[nn.Parameter], x: Tensor) -> tuple[Tensor, ...]:
        """What is timed: the spikes of the last layer, and the gradients of all weights."""
        y = network(x)
        return y.detach(), *torch.autograd.grad(y.mean(0).square().sum(), weights)

    @torch.no_grad()
    def _fired(self, dtype: torch.dtype) -> Tensor:
        y, fired = self.x.to(dtype), []
        for linear in self.linears:
            with use("reference"):
                y, _ = _lif()(copy.deepcopy(linear).to(dtype)(y))
            fired.append(y.bool())
        return torch.stack(fired)

    def _truth(self, truncate: int | None) -> list[Tensor]:
        network = temporal.Sequential(*self.layers(partial(_lif, truncate=truncate))).double()
        with use("reference"):
            y, *grads = self.run(lambda x: network(x)[0], list(network.parameters()), self.x.double())
        return [y.bool(), *(grad.float() for grad in grads)]


def _ours(work: _Work, **settings: Any) -> Callable[[], Any]:
    network = temporal.Sequential(*work.layers(partial(_lif, **settings)))
    weights = list(network.parameters())
    return lambda: (settings.get("truncate"), work.run(lambda x: network(x)[0], weights, work.x))


def _jelly(work: _Work) -> Callable[[], Any]:
    network = nn.Sequential(*work.layers(lambda: jelly_lif(TAU, ALPHA)))
    weights, from_rest = list(network.parameters()), stateless(network)
    return lambda: (None, work.run(lambda x: from_rest(x)[0], weights, work.x))


def _lif(**settings: Any) -> LIF:
    return LIF(TAU, surrogate=f"atan({ALPHA})", **settings)
