"""A network of this package as the stages that the event engine runs: layers read, batch normalisation folded."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from temporal.delays import DelayedLinear, RecurrentDelays
from temporal.kernels.delayed import SMALLEST_SIGMA
from temporal.kernels.events import Cell, Rows, Stage, Taps, taps_of
from temporal.layers import BatchNorm, Dropout, Sequential, TimeDistributed, fold
from temporal.neurons import LI, Recurrent
from temporal.neurons._layer import SpikingLayer
from temporal.neurons._run import Neuron

from ._dense import rows_pay

__all__ = ["quantised", "stages_of"]

_SILENT = (Dropout, nn.Dropout, nn.AlphaDropout, nn.Identity)  # what does nothing in evaluation
_ELSE = 'engine="dense" runs it as it is'


class _Synapses(NamedTuple):
    name: str
    forward: Rows | Taps
    inputs: int
    size: int
    late: np.ndarray | None = None
    bias: np.ndarray | None = None


@torch.no_grad()
def stages_of(network: nn.Module) -> dict[str, Stage]:
    """The stages, each under the name of its first layer.

    Raises:
        ValueError: what is still in training: batch normalisation in training mode, delays that are no whole steps; layers
            whose sizes do not fit.
        TypeError: a layer that the event engine does not have.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, BatchNorm) and layer.training:
            raise ValueError(
                f"Runner: {name or 'the network'}, BatchNorm, is in training mode: call network.eval() first"
            )
    whole = network if isinstance(network, nn.Sequential) else Sequential(network)
    layers = [(name, layer) for name, layer in _leaves(fold(whole)) if not isinstance(layer, _SILENT)]
    stages: dict[str, Stage] = {}
    pending: _Synapses | None = None
    for number, (name, layer) in enumerate(layers):
        synapses = _synapses(name, layer)
        if synapses is not None:
            if pending is not None:
                stages[pending.name] = _stage(pending)
            pending = synapses
            continue
        if pending is None:
            pending = _ones(name, _width(layer, [other for _, other in layers[number + 1 :]], stages))
        stages[pending.name] = _stage(pending, name, layer)
        pending = None
    if pending is not None:
        stages[pending.name] = _stage(pending)
    if not stages:
        raise ValueError("Runner: the network has no layer that computes anything")
    _check_sizes(stages)
    return stages


def quantised(stage: Stage) -> tuple[Stage, float]:
    """The stage with int8 weights and a scale for each output, 1/127 of its largest weight, and the error of that.

    The error is that of all weights together: ``|w - scale q| / |w|``, root mean squares.
    """
    parts = [part for part in (stage.forward, stage.back) if part is not None]
    largest = np.zeros(stage.size, np.float32)
    for part in parts:
        np.maximum.at(largest, _targets(part, stage.size), np.abs(part.weight))
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    error = power = 0.0
    rounded: list[Rows | Taps] = []
    for part in parts:
        unit = scale[_targets(part, stage.size)]
        whole = np.rint(part.weight / unit)
        error += float(np.square(part.weight - whole * unit, dtype=np.float64).sum())
        power += float(np.square(part.weight, dtype=np.float64).sum())
        rounded.append(part._replace(weight=whole.astype(np.int8)))
    back = rounded[1] if stage.back is not None else None
    return stage._replace(forward=rounded[0], back=back, scale=scale), (error / power) ** 0.5 if power else 0.0


def _leaves(network: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_children():
        if isinstance(layer, nn.Sequential):
            yield from _leaves(layer, f"{prefix}{name}.")
        else:
            yield prefix + name, layer


def _synapses(name: str, layer: nn.Module) -> _Synapses | None:
    """A layer of synapses as such; None if it is one of neurons."""
    if isinstance(layer, TimeDistributed) and isinstance(layer.module, nn.Linear):
        layer = layer.module
    if isinstance(layer, DelayedLinear):
        return _delayed(name, layer)
    if isinstance(layer, nn.Linear):
        forward = Rows(_array(layer.weight.t()), np.zeros(layer.in_features, np.int64))
        return _Synapses(name, forward, layer.in_features, layer.out_features, bias=_bias(layer.bias))
    if isinstance(layer, BatchNorm):  # before which there is nothing that it folds into
        scale, shift = layer.affine()
        return _ones(name, layer.num_features)._replace(
            forward=_diagonal(_array(scale)), bias=_bias(shift)
        )  # fmt: skip
    if isinstance(layer, SpikingLayer | LI | Recurrent | RecurrentDelays):
        return None
    raise TypeError(
        f"Runner: the event engine does not have {type(layer).__name__} (layer {name}); it has DelayedLinear, nn.Linear, "
        f"RecurrentDelays, BatchNorm, Dropout and the neurons of temporal.neurons: {_ELSE}"
    )


def _delayed(name: str, layer: DelayedLinear) -> _Synapses:
    _check_whole_steps(name, "DelayedLinear", layer)
    more = {"inputs": layer.in_features, "size": layer.out_features, "bias": _bias(layer.bias)}
    if not _in_rows(layer):
        return _Synapses(name, taps_of(_array(layer.effective_kernel())), **more)  # type: ignore[arg-type]
    delay, weight = _steps(layer), _array(layer._used_weight().t())
    if layer.per == "axon":
        return _Synapses(name, Rows(weight, delay), **more)  # type: ignore[arg-type]
    return _Synapses(name, Rows(weight, np.zeros(layer.in_features, np.int64)), late=delay, **more)  # type: ignore[arg-type]


def _heard(name: str, layer: Recurrent | RecurrentDelays) -> Rows | Taps:
    """The synapses among the neurons of a layer."""
    if isinstance(layer, Recurrent):
        return Rows(_array(layer.weight.t()), np.ones(layer.size, np.int64))
    inner = layer.delayed  # whose delays are counted from the shortest that they may have
    _check_whole_steps(name, "RecurrentDelays", inner)
    if inner.per == "axon" and _in_rows(inner):
        return Rows(_array(inner._used_weight().t()), _steps(inner) + layer.min_delay)
    return taps_of(_array(layer.effective_kernel()))


def _in_rows(layer: DelayedLinear) -> bool:
    """Whether all weights of an input are added at once: its synapses share what delay it has, and enough are left."""
    weight = layer._used_weight()
    one_each = layer.per in ("axon", "dendrite") and layer.synapses == 1
    return one_each and rows_pay(int((weight != 0).sum()), weight.numel())


def _steps(layer: DelayedLinear) -> np.ndarray:
    return layer._used_steps().to(torch.int64).numpy()


def _check_whole_steps(name: str, kind: str, layer: DelayedLinear) -> None:
    sigma = float(layer.sigma)
    if sigma >= SMALLEST_SIGMA.get(layer.kernel, 1e-3):
        raise ValueError(
            f"Runner: layer {name}, {kind}, spreads its delays over several steps (sigma={sigma:g}): round them with "
            f"layer.round_(), or temporal.models.deploy(model) for all of a model; {_ELSE}"
        )


def _ones(name: str, size: int) -> _Synapses:
    """What comes is the current."""
    return _Synapses(name, _diagonal(np.ones(size, np.float32)), size, size)


def _diagonal(weight: np.ndarray) -> Taps:
    one_each = np.arange(len(weight) + 1)
    return Taps(one_each, np.zeros(len(weight), np.int64), one_each[:-1], weight)


def _width(layer: nn.Module, following: list[nn.Module], stages: dict[str, Stage]) -> int:
    """How many neurons a layer has to which no synapses lead."""
    if stages:
        return list(stages.values())[-1].size
    if isinstance(layer, Recurrent | RecurrentDelays):
        return layer.size
    size = getattr(layer, "size", None)
    if size is not None and len(size) == 1:
        return size[0]
    for other in following:
        for name in ("in_features", "num_features", "size"):
            width = getattr(other, name, None)
            if isinstance(width, int):
                return width
    raise ValueError(
        f"Runner: nothing says how many neurons the first layer, {type(layer).__name__}, has: give it size=, or begin with "
        "a layer of synapses"
    )


def _stage(synapses: _Synapses, name: str = "", layer: nn.Module | None = None) -> Stage:
    size, back, cell = synapses.size, None, None
    if isinstance(layer, Recurrent | RecurrentDelays):
        if layer.size != size:
            kind = type(layer).__name__
            raise ValueError(f"Runner: layer {name}, {kind}, has size={layer.size}, but {size} currents come to it")
        back = _heard(name, layer)
        layer = layer.neuron
    if layer is not None:
        if not isinstance(layer, SpikingLayer | LI):
            raise TypeError(f"Runner: the event engine does not have {type(layer).__name__} (in layer {name}): {_ELSE}")
        cell = _cell(name, layer._neuron(), size, isinstance(layer, LI))
    return Stage(synapses.inputs, size, synapses.forward, back, synapses.late, synapses.bias, None, cell)


def _cell(name: str, neuron: Neuron, size: int, emits_v: bool) -> Cell:
    family = neuron.operator.family
    knobs = []
    for knob, value in neuron.knobs.items():
        tensor = torch.as_tensor(value).to("cpu", torch.float32)
        if tensor.ndim > 1 or tensor.numel() not in (1, size):
            raise ValueError(
                f"Runner: layer {name}, {neuron.owner}, has {knob} of shape {list(tensor.shape)}, but {size} currents "
                "come to it"
            )
        knobs.append(_array(tensor.expand(size)))
    rest = (neuron.rest,) + (0.0,) * (len(family.state._fields) - 1)  # type: ignore[attr-defined]
    values = dict(zip(neuron.knobs, knobs, strict=True))
    return Cell(family, family.knobs(**values), neuron.hard, neuron.strict, rest, emits_v)


def _check_sizes(stages: dict[str, Stage]) -> None:
    before = None
    for name, stage in stages.items():
        if before is not None and stage.inputs != before:
            raise ValueError(f"Runner: layer {name} takes {stage.inputs} inputs, but {before} come to it")
        before = stage.size


def _targets(part: Rows | Taps, size: int) -> np.ndarray:
    """The output of every weight, in the weights' shape."""
    return np.broadcast_to(np.arange(size), part.weight.shape) if isinstance(part, Rows) else part.target


def _array(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().to("cpu", torch.float32).numpy(), order="C")


def _bias(bias: Tensor | None) -> np.ndarray | None:
    return None if bias is None else _array(bias)
