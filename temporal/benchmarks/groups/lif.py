"""Leaky integrate-and-fire neurons, without a network around them: inference, training, long sequences, small calls.

The work is one that every contender can do: a hard reset to 0, threshold 1, tau = 2 steps, the current undivided, no
gradient through the reset, the atan surrogate. No membrane comes near the threshold, where a rounding would decide, so
all must fire exactly the same spikes.

Bytes a neuron-step, float32, that cannot be avoided with dense spikes. Inference: read x (4), write the spike (4).
Training adds the backward pass: read x again, since nothing else holds the membrane (4), read the spikes' gradient (4),
write x's (4). Together 8 and 20. Checkpoints of the membrane, every 16 steps, are not counted (1/4 byte twice).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from temporal.benchmarks import Case, copy_floor
from temporal.kernels import use
from temporal.neurons import LIF
from temporal.neurons.functional import lif

__all__ = ["cases"]

Neuron = Callable[[Tensor], Tensor]  # currents [T, B, N] -> spikes

TAU, DECAY, ALPHA = 2.0, 0.5, 2.0
INFERENCE_BYTES, TRAINING_BYTES = 8, 20  # a neuron-step
MARGIN = 1e-5  # distance of every membrane from the threshold; float32 errs by less than 1e-6 here
# Spikes must be equal (a wrong one is an error of 1). Gradients sum a few steps' products in float32 (6e-8 each).
TOLERANCE = 1e-5
BACKENDS = ("cpu", "cuda", "reference")
SPIKINGJELLY, SNNTORCH, COMPILED = "SpikingJelly LIFNode", "snnTorch Leaky", "reference, inductor"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    sizes = (100, 128, 512) if not quick else (6, 2, 8)
    small = ((1, 1, 64), (8, 1, 64)) if not quick else ((1, 1, 4),)
    sweep = (100, 300, 1000, 3000, 10_000) if not quick else (4, 8)
    lanes = (8, 256) if not quick else (2, 4)
    builders: list[Callable[[], Case]] = []
    for training in (False, True):
        builders.append(partial(_case, *sizes, training, quick, peers=True, compiled=not quick, default=True))
    for size in small:
        builders += [partial(_case, *size, training, quick, peers=True, name="small ") for training in (False, True)]
    builders += [partial(_case, steps, *lanes, True, quick, name="long ", sweep=True) for steps in sweep]
    return builders


def _case(
    steps: int,
    samples: int,
    neurons: int,
    training: bool,
    quick: bool,
    *,
    name: str = "",
    peers: bool = False,
    compiled: bool = False,
    default: bool = False,
    sweep: bool = False,
) -> Case:
    work = _Work.draw(steps, samples, neurons, training)
    ours = {f"temporal {backend}": _with(backend, work) for backend in _available(work)}
    contenders: dict[str, Callable[[], Any] | None] = {**ours, SPIKINGJELLY: _if_there("spikingjelly", _jelly, work)}
    if peers:
        contenders[SNNTORCH] = _if_there("snntorch", _snntorch, work)
    if compiled:
        contenders[COMPILED] = _compiled(work)
    count = steps * samples * neurons
    unavoidable = count * (TRAINING_BYTES if training else INFERENCE_BYTES)
    return Case(
        name=name + ("training" if training else "inference"),
        scope="neuron only, forward and backward" if training else "neuron only, forward",
        shape=f"T={steps} B={samples} N={neurons}",
        dtype="float32",
        density=work.spikes.float().mean().item(),
        items=count,
        item="neuron-step",
        contenders=contenders,
        baseline=SPIKINGJELLY if contenders[SPIKINGJELLY] else next(iter(ours)),
        check=work.error,
        tolerance=TOLERANCE,
        bytes=unavoidable,
        floor=copy_floor(unavoidable, quick=quick),
        default_allocator=(next(iter(ours)), SPIKINGJELLY) if default else (),
        sweep=("steps T", steps) if sweep else None,
    )


@dataclass
class _Work:
    """Currents, the weights of the loss, and the truth: the reference in float64."""

    x: Tensor
    weight: Tensor
    spikes: Tensor
    grad: Tensor | None

    @classmethod
    def draw(cls, steps: int, samples: int, neurons: int, training: bool) -> _Work:
        x = torch.randn(steps, samples, neurons) * 0.5 + 0.4
        while (near := (_membrane(x) - 1).abs() < MARGIN).any():
            x[near] += 0.01
        weight = torch.randn_like(x)
        exact = x.double().requires_grad_(training)
        with use("reference"):
            spikes, *_ = lif(exact, decay=DECAY, reset_to=0.0, surrogate=f"atan({ALPHA})")
            grad = torch.autograd.grad(spikes, exact, weight.double())[0].float() if training else None
        return cls(x.requires_grad_(training), weight, spikes.detach().bool(), grad)

    def run(self, neuron: Neuron) -> tuple[Tensor, ...]:
        """What is timed: spikes, and in training the gradient of their weighted sum for x."""
        if self.grad is None:
            with torch.no_grad():
                return (neuron(self.x),)
        spikes = neuron(self.x)
        return spikes.detach(), *torch.autograd.grad(spikes, self.x, self.weight)

    def error(self, result: tuple[Tensor, ...]) -> float:
        """Largest error: of the spikes, and of the gradient relative to the largest gradient; NaN if one of them is."""
        if any(part.shape != self.spikes.shape for part in result):
            return float("inf")
        spikes, *grads = result
        errors = [(spikes - self.spikes.to(spikes.dtype)).abs().max()]
        if self.grad is not None:
            errors.append((grads[0] - self.grad).abs().max() / self.grad.abs().max())
        return torch.stack(errors).max().item()  # Python's max would lose a NaN


@torch.no_grad()
def _membrane(x: Tensor) -> Tensor:
    """Before the reset, in float64."""
    exact = x.double()
    with use("reference"):
        _, after, _ = lif(exact, decay=DECAY, reset_to=0.0)
    exact[1:] += DECAY * after[:-1]
    return exact


def _available(work: _Work) -> list[str]:
    """The backends that can do the work, fastest first."""
    able = []
    for backend in BACKENDS:
        try:
            _with(backend, work)()
        except (NotImplementedError, ImportError):  # by rule, or because what it needs is not installed
            continue
        able.append(backend)
    return able


def _with(backend: str, work: _Work) -> Callable[[], tuple[Tensor, ...]]:
    layer = LIF(tau=TAU, surrogate=f"atan({ALPHA})")

    def run() -> tuple[Tensor, ...]:
        with use(backend):
            return work.run(lambda x: layer(x)[0])

    return run


def _if_there(package: str, make: Callable[[], Neuron], work: _Work) -> Callable[[], tuple[Tensor, ...]] | None:
    return partial(work.run, make()) if find_spec(package) else None


def _jelly() -> Neuron:
    from spikingjelly.activation_based.neuron import LIFNode
    from spikingjelly.activation_based.surrogate import ATan

    node = LIFNode(tau=TAU, decay_input=False, detach_reset=True, surrogate_function=ATan(ALPHA), step_mode="m")

    def neuron(x: Tensor) -> Tensor:
        node.reset()  # a user's loop does it too: its state would leak into the next batch
        return node(x)

    return neuron


def _snntorch() -> Neuron:
    import snntorch
    from snntorch import surrogate

    node = snntorch.Leaky(beta=DECAY, reset_mechanism="zero", spike_grad=surrogate.atan(ALPHA))

    def neuron(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):  # an index of a tensor with a gradient would make it quadratic in the steps
            spike, membrane = node(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return neuron


def _compiled(work: _Work) -> Callable[[], tuple[Tensor, ...]]:
    """The reference's forward and backward loops, each unrolled and fused by torch.compile: a minute for 100 steps."""
    from temporal.kernels.lif import reference

    forward, backward = (
        torch.compile(function, fullgraph=True, dynamic=False) for function in (reference.forward, reference.backward)
    )
    x = work.x.detach()
    rest = torch.zeros_like(x[0])
    knobs = [torch.tensor(knob) for knob in (DECAY, 1.0, 0.0, 1.0, 0.0)]  # decay, gain, bias, threshold, reset
    every = 0 if work.grad is None else 16

    @torch.no_grad()
    def run() -> tuple[Tensor, ...]:
        spikes, _, _, kept = forward(x, rest, *knobs, True, False, False, every)
        if work.grad is None:
            return (spikes,)
        rule = (True, False, True, "atan", ALPHA, every, (False,) * len(knobs))
        return spikes, backward(work.weight, None, None, x, kept, *knobs, *rule)[0]

    return run
