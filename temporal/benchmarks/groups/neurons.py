"""The family beside LIF, without a network around it: other neurons, learned knobs, bfloat16, padding, membranes.

What each costs beside a LIF of the same shape, which is the baseline everywhere. Each is checked against its own reference
in float64, on currents of its own that make it fire and keep its membranes away from the threshold.

Bytes a neuron-step that cannot be avoided are those of LIF for all: 8 in inference and 20 in training (see ``lif.py``), as
the states stay in cache. What ours moves above them are checkpoints, one number a state every 16 steps, written and read:
1/2 byte for LIF and ParametricLIF, with 1 state; 1 for ALIF, symplectic AdLIF and CubaLIF, with 2; 3/2 for AdLIF by
Euler's method, with 3 (the adaptation of two steps). Learned knobs need the same bytes; their gradients are summed in
cache. In the cases with another count the plain row is the ratio's baseline only; the count and the floor are those of the
other row:

- bfloat16: 4 and 10. The states, and the checkpoints, stay in float32.
- padding, half of all steps: the spikes and x's gradient are written everywhere (as 0), nothing is read in the padding:
  6 and 14.
- membranes: also written (4), and in training their gradient is read (4): 12 and 28.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from temporal.benchmarks import Case, copy_floor
from temporal.neurons import ALIF, LIF, AdLIF, CubaLIF, ParametricLIF
from temporal.neurons.functional import lif

from ._work import TOLERANCE, Neuron, Work, if_there, outputs_of, stateless

__all__ = ["cases"]

TAU, ALPHA, ATAN = 2.0, 2.0, "atan(2.0)"
BASELINE = "temporal LIF"
ROUNDED = 2.0**-8  # gradients in bfloat16 are rounded to 8 bits


class _Contender(NamedTuple):
    """One kind of neuron: its layer, normal currents that make it fire, and what else is special."""

    layer: nn.Module
    mean: float = 0.4
    std: float = 0.5
    more: Mapping[str, Any] = {}


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    shape = (100, 128, 512) if not quick else (6, 4, 8)
    builders: list[Callable[[], Case]] = []
    for training in (False, True):
        common = (shape, training, quick)
        builders.append(partial(_case, "", _family(shape[2], training), (8, 20), *common))
        builders.append(partial(_case, "bfloat16 ", _rounded(), (4, 10), *common, tolerance=ROUNDED))
        builders.append(partial(_case, "padded ", _padded(shape), (6, 14), *common))
        builders.append(partial(_case, "membranes ", _seen(), (12, 28), *common))
    return builders


def _case(
    name: str,
    kinds: Mapping[str, _Contender],
    bytes_each: tuple[int, int],
    shape: tuple[int, int, int],
    training: bool,
    quick: bool,
    *,
    tolerance: float = TOLERANCE,
) -> Case:
    contenders: dict[str, Callable[[], Any] | None] = {}
    works: dict[str, Work] = {}
    for label, (layer, mean, std, more) in {BASELINE: _Contender(_lif()), **kinds}.items():
        works[label] = work = Work.draw(layer, shape, training, mean=mean, std=std, **more)
        neuron = more.get("function") or outputs_of(layer, more.get("lengths"))
        contenders[label] = _with_its_work(work, partial(work.run, neuron))
    if "temporal CubaLIF" in works:
        work = works["temporal CubaLIF"]
        contenders["SpikingJelly CUBALIFNode"] = _with_its_work(work, if_there("spikingjelly", _jelly, work))
    count = shape[0] * shape[1] * shape[2]
    unavoidable = count * bytes_each[training]
    return Case(
        name=name + ("training" if training else "inference"),
        scope="neuron only, forward and backward" if training else "neuron only, forward",
        shape="T={} B={} N={}".format(*shape),
        dtype="bfloat16" if name == "bfloat16 " else "float32",
        density=works[BASELINE].density,
        items=count,
        item="neuron-step",
        contenders=contenders,
        baseline=BASELINE,
        check=lambda done: done[0].error(done[1]),
        tolerance=tolerance,
        bytes=unavoidable,
        floor=copy_floor(unavoidable, quick=quick),
    )


def _with_its_work(work: Work, call: Callable[[], Any] | None) -> Callable[[], Any] | None:
    """Each contender's result goes to the check with the truth that it must meet."""
    return None if call is None else lambda: (work, call())


def _family(neurons: int, training: bool) -> dict[str, _Contender]:
    same: dict[str, Any] = {"surrogate": ATAN}
    kinds = {
        "temporal ParametricLIF": _Contender(ParametricLIF(TAU, **same)),
        "temporal CubaLIF": _Contender(CubaLIF(TAU, TAU, **same), mean=0.2),
        "temporal ALIF": _Contender(ALIF(16.0, 128.0, **same), mean=0.2),
        "temporal AdLIF": _Contender(AdLIF(16.0, 128.0, **same), mean=4.0, std=8.0),
        "temporal AdLIF, Euler": _Contender(AdLIF(16.0, 128.0, symplectic=False, **same), mean=4.0, std=8.0),
    }
    if training:
        learned = LIF(torch.linspace(1.5, 4.0, neurons), size=neurons, trainable=("tau", "v_threshold"), **same)
        kinds["temporal LIF, tau and threshold learned"] = _Contender(learned)
    return kinds


def _rounded() -> dict[str, _Contender]:
    return {"temporal LIF, bfloat16": _Contender(_lif(), more={"dtype": torch.bfloat16})}


def _padded(shape: tuple[int, int, int]) -> dict[str, _Contender]:
    steps, samples, _ = shape
    lengths = torch.linspace(0, steps, samples).round().long()[torch.randperm(samples)]  # from nothing to all
    return {"temporal LIF, lengths": _Contender(_lif(), more={"lengths": lengths})}


def _seen() -> dict[str, _Contender]:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return lif(x, decay=1 - 1 / TAU, reset_to=0.0, surrogate=ATAN)[:2]

    return {"temporal functional.lif, membranes": _Contender(_lif(), more={"function": function})}


def _lif() -> LIF:
    return LIF(TAU, surrogate=ATAN)


def _jelly() -> Neuron:
    from spikingjelly.activation_based.neuron import CUBALIFNode
    from spikingjelly.activation_based.surrogate import ATan

    decay = 1 - 1 / TAU
    node = CUBALIFNode(decay, decay, v_threshold=1.0, v_reset=0.0, surrogate_function=ATan(ALPHA))
    node.detach_reset, node.step_mode = True, "m"
    return stateless(node)
