"""How busy a network is: firing rates, synaptic operations, and what its delay lines hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from temporal.delays import DelayedLinear, RecurrentDelays
from temporal.kernels.delayed import nearest
from temporal.layers._protocol import call, role, valid_steps
from temporal.neurons import Recurrent

from .delays import living_delays
from .spikes import named, spiking_layers

__all__ = ["Activity", "LayerActivity", "SynapseActivity", "measure_activity"]

SATURATED = 0.95  # spikes a step from which on a neuron says nothing by not firing


@dataclass(frozen=True)
class LayerActivity:
    """What the neurons of one layer sent.

    Args:
        name: of the layer: its class and its place in the network.
        counts: spikes of each neuron, over all valid steps of all recordings.
        steps: how many valid steps there were.
    """

    name: str
    counts: tuple[int, ...]
    steps: int

    @property
    def rates(self) -> list[float]:
        """Of each neuron, the share of steps at which it fired, 0..1."""
        return [count / max(1, self.steps) for count in self.counts]

    @property
    def rate(self) -> float:
        """Mean over the neurons, in spikes a step, 0..1."""
        return sum(self.counts) / max(1, self.steps * len(self.counts))

    @property
    def dead(self) -> int:
        """Neurons that never fired."""
        return sum(count == 0 for count in self.counts)

    @property
    def saturated(self) -> int:
        """Neurons that fired at 95 % of all steps or more."""
        return sum(rate >= SATURATED for rate in self.rates) if self.steps else 0


@dataclass(frozen=True)
class SynapseActivity:
    """What one layer of synapses had to do.

    Args:
        name: of the layer.
        operations: inputs that were not zero times the synapses that each of them reaches, over all recordings.
        events: whether every input was a whole number, as spikes and counts of them are: an operation is an addition
            then, else a multiplication and an addition.
        inputs: how many inputs the layer has.
        depth: the longest delay in use, in steps.
        buffer_bytes: of what the layer keeps of one signal, ``max_delay`` steps of its inputs, in float32.
    """

    name: str
    operations: int
    events: bool
    inputs: int
    depth: int
    buffer_bytes: int


@dataclass(frozen=True)
class Activity:
    """Sums over recordings; two of them are added up with ``+``.

    Args:
        recordings: how many there were.
        layers: of each spiking layer.
        synapses: of each layer of weights that is understood.
        unknown: names of layers with weights whose operations are not counted.
    """

    recordings: int
    layers: tuple[LayerActivity, ...] = ()
    synapses: tuple[SynapseActivity, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def spikes_per_recording(self) -> float:
        """Of all layers together."""
        return sum(sum(layer.counts) for layer in self.layers) / max(1, self.recordings)

    @property
    def additions_per_recording(self) -> float:
        """Synaptic operations on spikes: an addition each."""
        return self._operations(True)

    @property
    def products_per_recording(self) -> float:
        """Synaptic operations on real numbers: a multiplication and an addition each."""
        return self._operations(False)

    @property
    def buffer_depth(self) -> int:
        """The longest delay in use, in steps."""
        return max((part.depth for part in self.synapses), default=0)

    @property
    def buffer_bytes(self) -> int:
        """Of all delay lines of one signal, in float32."""
        return sum(part.buffer_bytes for part in self.synapses)

    def __add__(self, other: Activity) -> Activity:
        layers = tuple(
            replace(a, counts=tuple(map(sum, zip(a.counts, b.counts, strict=True))), steps=a.steps + b.steps)
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        synapses = tuple(
            replace(a, operations=a.operations + b.operations, events=a.events and b.events)
            for a, b in zip(self.synapses, other.synapses, strict=True)
        )
        return Activity(self.recordings + other.recordings, layers, synapses, self.unknown)

    def _operations(self, events: bool) -> float:
        return sum(part.operations for part in self.synapses if part.events == events) / max(1, self.recordings)


@torch.no_grad()
def measure_activity(network: nn.Module, x: Tensor, lengths: Tensor | None = None) -> Activity:
    """Run a network on a batch and count the spikes of its neurons and the operations of its synapses.

    operations = sum over valid steps and inputs i of [x_i is not 0] * (weights from i that are not 0)

    Steps beyond a recording's length count for nothing. What counts as a spiking layer says :func:`record_spikes`.
    Operations are counted for :class:`temporal.delays.DelayedLinear`, ``nn.Linear``, the recurrent weights of
    :class:`temporal.neurons.Recurrent` and :class:`temporal.delays.RecurrentDelays`, and ``nn.RNN``, ``nn.GRU`` and
    ``nn.LSTM``, whose states are real numbers: their weights from states count at every step. Other layers with weights are
    named in ``unknown``.

    Args:
        network: any module on steps; it runs in evaluation mode without gradients, and is left in the mode it had.
        x: the steps of some recordings.
        lengths: how many of them are valid, in steps; None: all.
    Shape:
        x: [T, B, *features].  lengths: [B].

    Example:
        >>> import torch, temporal
        >>> from temporal.analysis import measure_activity
        >>> network = temporal.Sequential(torch.nn.Linear(3, 5), temporal.neurons.LIF(v_threshold=1e9))
        >>> activity = measure_activity(network, torch.ones(10, 2, 3))
        >>> activity.layers[0].dead, activity.additions_per_recording
        (5, 150.0)
    """
    steps, batch = x.shape[:2]
    valid = x.new_ones(steps, batch, dtype=torch.bool) if lengths is None else valid_steps(lengths, steps)
    watch = _Watch(valid)
    modes = [(module, module.training) for module in network.modules()]
    watch.attach(network)
    try:
        call(network.eval(), x, None, lengths, role(network))
    finally:
        watch.detach()
        for module, training in modes:
            module.training = training
    return Activity(batch, tuple(watch.layers), tuple(watch.synapses), tuple(watch.unknown))


@dataclass
class _Watch:
    """Hooks on the layers that count."""

    valid: Tensor
    layers: list[LayerActivity] = field(default_factory=list)
    synapses: list[SynapseActivity] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    hooks: list[Any] = field(default_factory=list)

    def attach(self, network: nn.Module) -> None:
        """Before the network runs."""
        spiking = spiking_layers(network)
        neurons = {id(part) for layer in spiking.values() for part in layer.modules()}
        for path, module in network.named_modules():
            if isinstance(module, DelayedLinear | nn.Linear):
                self._hook(module, self._weighs(named(path, module), module))
            elif isinstance(module, nn.RNNBase):
                self._hook(module, self._unrolls(named(path, module), module))
            elif id(module) not in neurons and any(p.ndim >= 2 for p in module.parameters(recurse=False)):
                self.unknown.append(named(path, module))
        for name, module in spiking.items():
            self._hook(module, self._fires(name))
            if isinstance(module, Recurrent):
                self._hook(module, self._recurs(name, module, module.weight, 1, 1))
            elif isinstance(module, RecurrentDelays):
                inner = module.delayed
                depth = module.min_delay + _deepest(inner)
                self._hook(module, self._recurs(name, module, inner._used_weight(), depth, module.max_delay))

    def detach(self) -> None:
        """The network is as it was."""
        for hook in self.hooks:
            hook.remove()

    def _hook(self, module: nn.Module, keep: Callable[[Tensor, Tensor], None]) -> None:
        def see(module: nn.Module, inputs: tuple, output: Any) -> None:
            keep(inputs[0], output[0] if isinstance(output, tuple) else output)

        self.hooks.append(module.register_forward_hook(see))

    def _active(self, signal: Tensor) -> Tensor:
        """How often each feature was not zero at a valid step, [features]."""
        flat = signal.flatten(2) if signal.ndim > 2 else signal.unsqueeze(2)
        return ((flat != 0) & self.valid.unsqueeze(2)).sum((0, 1))

    def _fires(self, name: str) -> Callable[[Tensor, Tensor], None]:
        def keep(x: Tensor, y: Tensor) -> None:
            self.layers.append(LayerActivity(name, tuple(self._active(y).tolist()), int(self.valid.sum())))

        return keep

    def _weighs(self, name: str, layer: DelayedLinear | nn.Linear) -> Callable[[Tensor, Tensor], None]:
        def keep(x: Tensor, y: Tensor) -> None:
            if x.ndim != 3 or x.shape[:2] != self.valid.shape:  # within another layer, on an axis of its own
                self.unknown.append(name)
                return
            weight = layer._used_weight() if isinstance(layer, DelayedLinear) else layer.weight
            reached = (weight != 0).transpose(0, 1).flatten(1).sum(1)
            depth = buffer = 0
            if isinstance(layer, DelayedLinear):
                depth = _deepest(layer)
                buffer = 4 * layer.max_delay * layer.in_features
            events = bool(((x == x.round()) | ~self.valid.unsqueeze(2)).all())
            operations = int((self._active(x) * reached).sum())
            self.synapses.append(SynapseActivity(name, operations, events, weight.shape[1], depth, buffer))

        return keep

    def _unrolls(self, name: str, layer: nn.RNNBase) -> Callable[[Tensor, Tensor], None]:
        def keep(x: Tensor, y: Tensor) -> None:
            if x.ndim != 3 or x.shape[:2] != self.valid.shape:
                self.unknown.append(name)
                return
            weights = {which: w != 0 for which, w in layer.named_parameters() if which.startswith("weight_")}
            first = [w for which, w in weights.items() if which.startswith("weight_ih_l0")]
            rest = sum(int(w.sum()) for which, w in weights.items() if not which.startswith("weight_ih_l0"))
            of_inputs = sum(int((self._active(x) * w.sum(0)).sum()) for w in first)
            operations = of_inputs + rest * int(self.valid.sum())
            self.synapses.append(SynapseActivity(name, operations, False, layer.input_size, 0, 0))

        return keep

    def _recurs(
        self, name: str, layer: Recurrent | RecurrentDelays, weight: Tensor, depth: int, kept: int
    ) -> Callable[[Tensor, Tensor], None]:
        def keep(x: Tensor, y: Tensor) -> None:
            operations = int((self._active(y) * (weight != 0).sum(0)).sum())
            self.synapses.append(
                SynapseActivity(f"{name} recurrent", operations, True, layer.size, depth, 4 * kept * layer.size)
            )

        return keep


def _deepest(layer: DelayedLinear) -> int:
    """The longest delay of a synapse that is there, in steps."""
    delays = nearest(living_delays(layer))
    return int(delays.max()) if delays.numel() else 0
