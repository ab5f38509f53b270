"""Few spikes through delayed synapses: the event engine beside a convolution, and one step of a network at a time.

Layer: 256 inputs, 256 outputs, delays of 0 to 24 steps, one a synapse, no neurons; chunks of 100 steps from rest. The peer
is ``F.conv1d`` with the kernel of 25 taps, on inputs laid out and padded for it beforehand, whose time does not depend on
the spikes. "auto" is what a ``Runner`` chooses by itself. Weights lie on a grid of 2^-10, so every sum is exact in any
order, and all must be equal.

Step: 700-256-256-20, delays as above, LIF, a leaky readout, one sample, one thread, each step a call of its own, timed by
itself: beside the median stands what 99 % of the steps stay within. "With a readout" the votes are counted, too.
SpikingJelly's neurons in single-step mode stand behind synapses that gather one tap each from a history, which in torch is
faster than a product with the whole kernel, the way of "dense".

Bytes: of the synapses that the spikes touch, a weight (4) and a place (2) each; for a layer the inputs and outputs as well.
Weights lie in caches, so the floor, which is a copy through memory, can be beaten.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temporal.benchmarks import Case, copy_floor
from temporal.delays import DelayedLinear
from temporal.layers import Sequential, SumSoftmax
from temporal.neurons import LI, LIF
from temporal.streaming import Runner

__all__ = ["cases"]

MAX_DELAY, TAU = 24, 2.0
SYNAPSE_BYTES = 6
CONVOLUTION, RUNNER, JELLY = "F.conv1d, 1 thread", "temporal Runner, arrays", "SpikingJelly single-step"
TOLERANCE = 0.0  # sums are exact, see above


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    shares = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0) if not quick else (0.05, 1.0)
    size = (100, 32, 256) if not quick else (8, 2, 8)
    sizes = (700, 256, 256, 20) if not quick else (20, 8, 4)
    layers = [partial(_layer, size, share, quick) for share in shares]
    return [*layers, partial(_step, sizes, 200 if not quick else 5, quick)]


def _layer(size: tuple[int, int, int], share: float, quick: bool) -> Case:
    steps, samples, units = size
    layer = _on_the_grid(DelayedLinear(units, units, MAX_DELAY).round_())
    x = (torch.rand(size) < share).float()
    laid_out = F.pad(x.permute(1, 2, 0), (MAX_DELAY, 0)).contiguous()
    with torch.no_grad():
        kernel = layer.effective_kernel().flip(2).contiguous()
    truth = F.conv1d(laid_out.double(), kernel.double()).permute(2, 0, 1)
    events, auto = Runner(layer, "event"), Runner(layer, "auto")
    contenders: dict[str, Callable[[], Any] | None] = {
        "temporal events, 1 thread": _threaded(1, partial(_from_rest, events, x)),
        "temporal events, 2 threads": _threaded(2, partial(_from_rest, events, x)),
        "temporal auto, 1 thread": _threaded(1, partial(_from_rest, auto, x)),
        CONVOLUTION: _threaded(1, lambda: F.conv1d(laid_out, kernel).permute(2, 0, 1)),
        "F.conv1d, 2 threads": _threaded(2, lambda: F.conv1d(laid_out, kernel).permute(2, 0, 1)),
    }
    touched = int(x.sum()) * units * SYNAPSE_BYTES
    return Case(
        name="layer",
        scope="synapses only, forward",
        shape=f"T={steps} B={samples} I=O={units} taps={MAX_DELAY + 1} active={share:.0%}",
        dtype="float32",
        density=x.mean().item(),
        items=steps * samples * units,
        item="output-step",
        contenders=contenders,
        baseline=CONVOLUTION,
        check=lambda y: (y - truth).abs().max().item(),
        tolerance=TOLERANCE,
        bytes=touched + 2 * x.nbytes,
        floor=copy_floor(touched + 2 * x.nbytes, quick=quick),
        sweep=("share of active inputs", share),
    )


def _step(sizes: tuple[int, ...], steps: int, quick: bool) -> Case:
    network, readout = _network(sizes), SumSoftmax()
    x = (torch.rand(steps, 1, sizes[0]) < 0.05).float()
    arrays = list(x.numpy())
    with torch.no_grad():
        truth = network(x)[0]
    event, dense, voting = Runner(network, "event"), Runner(network, "dense"), Runner(network, readout=readout)
    jelly = _Steps(list(x), partial(_jelly, network)) if find_spec("spikingjelly") else None
    contenders: dict[str, Callable[[], Any] | None] = {
        RUNNER: _Steps(arrays, partial(_anew, event)),
        "temporal Runner, tensors": _Steps(list(x), partial(_anew, Runner(network, "event"))),
        "temporal Runner, arrays, with a readout": _Steps(arrays, partial(_anew, voting)),
        "temporal Runner, dense": _Steps(list(x), partial(_anew, dense)),
        JELLY: jelly,
    }
    event.run(x)
    active = [
        share * stage.forward.weight.size
        for share, stage in zip(event.activity.values(), event._runs._stages, strict=True)
    ]
    touched = max(1, int(sum(active)) * SYNAPSE_BYTES)
    return Case(
        name="step",
        scope="end to end, one step a call",
        shape=f"B=1 {'-'.join(map(str, sizes))} taps={MAX_DELAY + 1}",
        dtype="float32",
        density=x.mean().item(),
        items=1,
        item="step",
        contenders=contenders,
        baseline=JELLY if jelly else RUNNER,
        check=lambda stepping: stepping.error(truth),
        tolerance=1e-5,  # the readout's weights are not followed by a threshold; its sums are exact, its leak rounds
        bytes=touched,
        floor=copy_floor(touched, quick=quick),
        each=True,
    )


class _Steps:
    """A signal that comes step by step, over and over; a call takes the next step, on one thread, and returns itself."""

    def __init__(self, x: list[Any], start: Callable[[], Callable[[Any], Any]]):
        self.x, self.start = x, start
        self.take, self.place = start(), 0

    def __call__(self) -> _Steps:
        if not self.place and torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        self.take(self.x[self.place])
        self.place = (self.place + 1) % len(self.x)
        return self

    def error(self, truth: Tensor) -> float:
        """Of all outputs from rest."""
        self.take, self.place = self.start(), 0
        with torch.no_grad():
            outputs = torch.stack([torch.as_tensor(self.take(step)) for step in self.x])
        return (outputs - truth).abs().max().item()


def _step_by_step(runner: Runner, x: Any) -> Tensor:
    """All steps from rest, each a call of its own."""
    runner.reset()
    return torch.stack([torch.as_tensor(runner.step(features)) for features in x])


def _anew(runner: Runner) -> Callable[[Any], Any]:
    runner.reset()
    return runner.step


def _network(sizes: tuple[int, ...]) -> Sequential:
    layers: list[Any] = []
    for inputs, outputs in pairwise(sizes):
        layers += [_on_the_grid(DelayedLinear(inputs, outputs, MAX_DELAY).round_()), LIF(TAU)]
    return Sequential(*layers[:-1], LI(TAU)).eval()


@torch.no_grad()
def _on_the_grid(layer: DelayedLinear) -> DelayedLinear:
    """Weights on a grid of 2^-10, so large that neurons answer to some 5 % of active inputs with about as many spikes."""
    active = 0.05 * layer.in_features
    weight = (torch.rand_like(layer.weight) * 2 - 1) * 0.6 / active**0.5 + 0.35 / active
    layer.weight.copy_((weight * 1024).round() / 1024)
    return layer


def _from_rest(runner: Runner, x: Tensor) -> Tensor:
    runner.reset()
    return runner.run(x)


def _jelly(network: Sequential) -> Callable[[Tensor], Tensor]:
    from spikingjelly.activation_based.neuron import LIFNode

    parts = []
    for place in range(0, len(network), 2):
        layer: Any = network[place]
        lags, inputs = layer.delay.detach().long(), torch.arange(layer.in_features)
        spikes = place + 2 < len(network)
        node = LIFNode(tau=TAU, decay_input=False, step_mode="s", v_threshold=1.0 if spikes else float("inf"))
        parts.append((lags * layer.in_features + inputs, layer.weight.detach(), node, spikes))
    histories = [torch.zeros(MAX_DELAY + 1, weight.shape[1]) for _, weight, _, _ in parts]

    @torch.no_grad()
    def step(y: Tensor) -> Tensor:
        for k, (place, weight, node, spikes) in enumerate(parts):
            histories[k] = torch.cat([y, histories[k][:-1]])
            fired = node((weight * histories[k].take(place)).sum(1)[None])
            y = fired if spikes else node.v
        return y

    return step


def _threaded(threads: int, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with _threads(threads), torch.no_grad():
            return call()

    return run


@contextmanager
def _threads(number: int):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
