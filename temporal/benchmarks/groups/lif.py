"""Leaky integrate-and-fire neurons, without a network around them: inference, training, long sequences, small calls.

The work is one that every contender can do: a hard reset to 0, threshold 1, tau = 2 steps, the current undivided, no
gradient through the reset, the atan surrogate. No membrane comes near the threshold, where a rounding would decide, so
all must fire exactly the same spikes.

Bytes a neuron-step, float32, that cannot be avoided with dense spikes. Inference: read x (4), write the spike (4).
Training adds the backward pass: read x again, since nothing else holds the membrane (4), read the spikes' gradient (4),
write x's (4). Together 8 and 20. Ours moves 1/2 more in training: the membrane of every 16th step (4/16), written and
read. Neither pass reads the spikes, so packing them (a bit, not a float: 1/8 byte written, not 4) would leave 4 1/8 of 8
and 16 1/8 of 20.

Small calls stand beside the reference, which is their baseline. What a call costs before its first step is the time at
T=1 less that of one step; a step takes a seventh of what T=8 takes longer than T=1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from temporal.benchmarks import Case, copy_floor
from temporal.kernels import use
from temporal.neurons import LIF

from ._work import TOLERANCE, Neuron, Work, if_there, jelly_lif, outputs_of, stateless

__all__ = ["cases"]

TAU, DECAY, ALPHA = 2.0, 0.5, 2.0
INFERENCE_BYTES, TRAINING_BYTES = 8, 20  # a neuron-step
BACKENDS = ("cpu", "cuda", "reference")
REFERENCE, SPIKINGJELLY, SNNTORCH = "temporal reference", "SpikingJelly LIFNode", "snnTorch Leaky"
COMPILED = "reference, inductor"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    sizes = (100, 128, 512) if not quick else (6, 2, 8)
    small = (1, 2, 4, 8) if not quick else (1, 2)
    long = (100, 300, 1000, 3000, 10_000) if not quick else (4, 8)
    lanes = (8, 256) if not quick else (2, 4)
    builders: list[Callable[[], Case]] = []
    for training in (False, True):
        builders.append(partial(_case, *sizes, training, quick, peers=True, compiled=not quick, default=True))
    tiny = partial(_case, peers=True, line="small ", beside=REFERENCE)
    builders += [partial(tiny, T, 1, 64, training, quick) for training in (False, True) for T in small]
    builders += [partial(_case, T, *lanes, True, quick, line="long ") for T in long]
    return builders


def _case(
    steps: int,
    samples: int,
    neurons: int,
    training: bool,
    quick: bool,
    *,
    line: str = "",
    beside: str = SPIKINGJELLY,
    peers: bool = False,
    compiled: bool = False,
    default: bool = False,
) -> Case:
    work = Work.draw(_layer(), (steps, samples, neurons), training)
    ours = {f"temporal {backend}": _with(backend, work) for backend in _available(work)}
    contenders: dict[str, Callable[[], Any] | None] = {**ours, SPIKINGJELLY: if_there("spikingjelly", _jelly, work)}
    if peers:
        contenders[SNNTORCH] = if_there("snntorch", _snntorch, work)
    if compiled:
        contenders[COMPILED] = _compiled(work)
    count = steps * samples * neurons
    unavoidable = count * (TRAINING_BYTES if training else INFERENCE_BYTES)
    return Case(
        name=line + ("training" if training else "inference"),
        scope="neuron only, forward and backward" if training else "neuron only, forward",
        shape=f"T={steps} B={samples} N={neurons}",
        dtype="float32",
        density=work.density,
        items=count,
        item="neuron-step",
        contenders=contenders,
        baseline=beside if contenders[beside] else next(iter(ours)),
        check=work.error,
        tolerance=TOLERANCE,
        bytes=unavoidable,
        floor=copy_floor(unavoidable, quick=quick),
        default_allocator=(next(iter(ours)), SPIKINGJELLY) if default else None,
        sweep=("steps T", steps) if line else None,
    )


def _layer() -> LIF:
    return LIF(TAU, surrogate=f"atan({ALPHA})")


def _available(work: Work) -> list[str]:
    """The backends that can do the work, fastest first."""
    able = []
    for backend in BACKENDS:
        try:
            _with(backend, work)()
        except (NotImplementedError, ImportError):  # by rule, or because what it needs is not installed
            continue
        able.append(backend)
    return able


def _with(backend: str, work: Work) -> Callable[[], tuple[Tensor, ...]]:
    neuron = outputs_of(_layer())

    def run() -> tuple[Tensor, ...]:
        with use(backend):
            return work.run(neuron)

    return run


def _jelly() -> Neuron:
    return stateless(jelly_lif(TAU, ALPHA))


def _snntorch() -> Neuron:
    import snntorch
    from snntorch import surrogate

    node = snntorch.Leaky(beta=DECAY, reset_mechanism="zero", spike_grad=surrogate.atan(ALPHA))

    def neuron(x: Tensor) -> tuple[Tensor]:
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):  # an index of a tensor with a gradient would make it quadratic in the steps
            spike, membrane = node(current, membrane)
            spikes.append(spike)
        return (torch.stack(spikes),)

    return neuron


def _compiled(work: Work) -> Callable[[], tuple[Tensor, ...]]:
    """The reference's forward and backward loops, each unrolled and fused by torch.compile: a minute for 100 steps."""
    from temporal.kernels._scan import Rule
    from temporal.kernels.lif import Knobs, LIFState, reference

    forward, backward = (
        torch.compile(function, fullgraph=True, dynamic=False) for function in (reference.forward, reference.backward)
    )
    x = work.x.detach()
    rest = LIFState(torch.zeros_like(x[0]))
    knobs = Knobs(*(torch.tensor(knob) for knob in (DECAY, 1.0, 0.0, 1.0, 0.0)))
    rule, every = Rule(True, False, True, "atan", ALPHA), 16 if work.training else 0

    @torch.no_grad()
    def run() -> tuple[Tensor, ...]:
        spikes, _, _, kept = forward(x, rest, knobs, None, None, rule, False, every)
        if not work.training:
            return (spikes,)
        nothing, needs = LIFState(None), (False,) * len(knobs)
        grads = backward(work.weight, None, nothing, x, kept, knobs, None, None, None, rule, every, 0, needs)
        return spikes, grads[0]

    return run
