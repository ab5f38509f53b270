"""LIF neurons with recurrent weights: all steps in one operator, beside a loop over steps and the libraries' own.

The same neuron as in ``lif.py``; it hears x[t] + W s[t-1]. The weights lie on a grid of 2^-10, so that what is heard is
exact in any order of its sum.

The arithmetic decides here, not the bytes. What cannot be avoided, a neuron-step: to add the weights of those that fired
(2 N density flops); in training also to carry the gradient back to all (2 N), and to sum the weights' gradient over those
that fired (2 N density). The floor does as much in one large product, which no step waits for.

SpikingJelly's container multiplies the current as well, here by the identity: more work for the same result. snnTorch's
RLeaky does not detach a reset to 0 that acts at once, so it has no row in training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from temporal.benchmarks import Case
from temporal.neurons import LIF, Recurrent

from ._work import TOLERANCE, Neuron, Work, if_there, jelly_lif, outputs_of, product_floor, stateless

__all__ = ["cases"]

TAU, DECAY, ALPHA = 2.0, 0.5, 2.0
LOOP = "temporal, step by step"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    shapes = ((100, 128, 256), (100, 1, 128)) if not quick else ((6, 4, 8),)
    return [partial(_case, shape, training) for shape in shapes for training in (False, True)]


def _case(shape: tuple[int, int, int], training: bool) -> Case:
    steps, samples, neurons = shape
    layer = Recurrent(LIF(TAU, surrogate=f"atan({ALPHA})"), neurons, gain=0.5)
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 1024).round() / 1024)
    work = Work.draw(layer, shape, training)
    contenders: dict[str, Callable[[], Any] | None] = {
        "temporal Recurrent": partial(work.run, outputs_of(layer)),
        LOOP: partial(work.run, lambda x: layer._step_by_step(x, None, x.new_zeros(x.shape[1:]))[:1]),
        "SpikingJelly LinearRecurrentContainer": _jelly(work) if find_spec("spikingjelly") else None,
    }
    if not training:
        contenders["snnTorch RLeaky"] = if_there("snntorch", _snntorch, work, layer.weight)
    each = 2 * neurons * (1 + 2 * work.density if training else work.density)
    count = steps * samples * neurons
    return Case(
        name="training" if training else "inference",
        scope="recurrent layer only, forward and backward" if training else "recurrent layer only, forward",
        shape=f"T={steps} B={samples} N={neurons}",
        dtype="float32",
        density=work.density,
        items=count,
        item="neuron-step",
        contenders=contenders,
        baseline=LOOP,
        check=work.error,
        tolerance=TOLERANCE,
        flops=max(1, round(each * count)),
        floor=product_floor(steps * samples, neurons, each * count),
    )


def _jelly(work: Work) -> Callable[[], tuple[Tensor, ...]]:
    from spikingjelly.activation_based.layer import LinearRecurrentContainer

    (weight,) = work.leaves
    size = len(weight)
    node = LinearRecurrentContainer(jelly_lif(TAU, ALPHA, "s"), size, size, bias=False, step_mode="m")
    with torch.no_grad():
        node.rc.weight.copy_(torch.cat([torch.eye(size), weight], dim=1))
    neuron = stateless(node)

    def run() -> tuple[Tensor, ...]:
        *results, last = work.run(neuron, [node.rc.weight])
        return *results, last[:, size:] if work.training else last

    return run


def _snntorch(weight: Tensor) -> Neuron:
    import snntorch
    from snntorch import surrogate

    node = snntorch.RLeaky(
        DECAY, linear_features=len(weight), spike_grad=surrogate.atan(ALPHA), reset_mechanism="zero", reset_delay=False
    )
    node.recurrent = nn.Linear(len(weight), len(weight), bias=False)
    node.recurrent.weight = nn.Parameter(weight.detach())

    def neuron(x: Tensor) -> tuple[Tensor]:
        spike, membrane, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            spike, membrane = node(current, spike, membrane)
            spikes.append(spike)
        return (torch.stack(spikes),)

    return neuron
