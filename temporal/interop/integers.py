"""A trained network for hardware: delays as small integers, and what it costs to keep and to run them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from temporal._files import write_atomically
from temporal.analysis import Activity
from temporal.delays import DelayedLinear, RecurrentDelays

__all__ = ["HardwareCost", "IntegerDelays", "hardware_cost", "integer_delays", "save_integers"]


@dataclass(frozen=True)
class IntegerDelays:
    """The synapses of one layer, with whole delays.

    y[t,o] = sum_i weight[o,i] x[t - delay, i]   (+ bias[o]),   delay[o,i], [i] or [o] as `per` says, summed over synapses

    Args:
        name: where the layer stands in the network.
        per: what has a delay of its own, as for :class:`temporal.delays.DelayedLinear`.
        weight: [O, I], or [O, I, synapses], float32.
        delay: in steps, uint8, or uint16 where one is longer than 255; of the shape that `per` gives it. Where axons and
            dendrites add up, the axons' come first.
        copies: of a group, the copy of its axon that a synapse has picked, [O, I], uint8; else None.
        bias: [O], or None.
        longest: the longest delay of a synapse whose weight is not 0, in steps: as deep as the layer's buffer must be.
    """

    name: str
    per: str
    weight: Tensor
    delay: Tensor
    copies: Tensor | None
    bias: Tensor | None
    longest: int

    @property
    def bits(self) -> int:
        """What one delay takes, in bits."""
        return int(self.delay.max()).bit_length() if self.delay.numel() else 0

    @property
    def synapses(self) -> int:
        """How many have a weight that is not 0."""
        return int((self.weight != 0).sum())

    @property
    def inputs(self) -> int:
        """How many inputs have a synapse whose weight is not 0; the others need no delay line."""
        return int((self.weight != 0).any(0).view(self.weight.shape[1], -1).any(1).sum())

    @property
    def stored_delays(self) -> int:
        """How many delays are kept: one a live synapse, or one an axon, a dendrite or a copy that has such a synapse."""
        live = self.weight != 0
        if self.copies is not None:
            return sum(int((live & (self.copies == copy)).any(0).sum()) for copy in range(len(self.delay)))
        ends = {"synapse": (), "axon": (0,), "dendrite": (1,), "additive": (0, 1)}[self.per]
        return sum(int(live.any(end).sum()) for end in ends) if ends else self.synapses


@dataclass(frozen=True)
class HardwareCost:
    """What a network with whole delays takes.

    Args:
        buffer_depth: steps that the deepest delay line holds.
        buffer_bits: of all delay lines of one signal, a bit an entry where spikes come in, 32 where real numbers do; a line
            for each input that has a synapse.
        delay_bits: of all delays.
        weight_bits: of all weights that are not 0, 32 each.
        synapses: with a weight that is not 0.
        operations_per_second: synapses that a spike meets, or a real input, in a second; None where nothing was measured.
    """

    buffer_depth: int
    buffer_bits: int
    delay_bits: int
    weight_bits: int
    synapses: int
    operations_per_second: float | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.synapses:,} synapses, weights {_bytes(self.weight_bits)}, delays {_bytes(self.delay_bits)}",
            f"buffers {self.buffer_depth} steps deep, {_bytes(self.buffer_bits)} a signal",
        ]
        if self.operations_per_second is not None:
            lines.append(f"{self.operations_per_second:,.0f} synaptic operations a second")
        return "\n".join(lines)


@torch.no_grad()
def integer_delays(network: nn.Module) -> list[IntegerDelays]:
    """The layers with delays of a network, rounded as they are deployed: to the nearest step, half-way ones up.

    Of :class:`temporal.delays.RecurrentDelays` the delays are counted from the present, shortest included.

    Args:
        network: any module; it stays as it is.
    Raises:
        ValueError: a delay or weight that is not finite.

    Example:
        >>> import torch
        >>> from temporal.delays import DelayedLinear
        >>> layer = DelayedLinear(2, 1, max_delay=9)
        >>> _ = layer.delay.data.copy_(torch.tensor([[2.5, 6.2]]))
        >>> exported = integer_delays(layer)[0]
        >>> exported.delay, exported.bits
        (tensor([[3, 6]], dtype=torch.uint8), 3)
    """
    offsets = {id(m.delayed): m.min_delay for m in network.modules() if isinstance(m, RecurrentDelays)}
    found = []
    for path, layer in network.named_modules():
        if not isinstance(layer, DelayedLinear):
            continue
        name = path or type(layer).__name__
        if not (torch.isfinite(layer.weight).all() and torch.isfinite(layer.delay).all()):
            raise ValueError(f"integer_delays: layer {name} has weights or delays that are not finite")
        weight, steps = layer._used_weight().detach(), layer._used_steps() + offsets.get(id(layer), 0)
        kind = torch.uint8 if steps.numel() == 0 or steps.max() < 256 else torch.uint16
        found.append(
            IntegerDelays(
                name,
                layer.per,
                weight.float().cpu(),
                steps.to(torch.int32).to(kind).cpu(),
                None if layer.copies is None else layer.copies.cpu(),
                None if layer.bias is None else layer.bias.detach().float().cpu(),
                _longest(layer, weight, steps),
            )
        )
    return found


def hardware_cost(
    network: nn.Module, activity: Activity | None = None, *, seconds: float | None = None, real_inputs: bool = True
) -> HardwareCost:
    """What a network's delays, weights and buffers take, and how much it does.

    Args:
        network: its layers with delays count.
        activity: what :func:`temporal.analysis.measure_activity` found on some recordings.
        seconds: how long those are together, > 0; needed with ``activity``.
        real_inputs: whether the first layer gets real numbers (frames of sound) and not spikes.
    Raises:
        ValueError: an activity without its duration, or the other way round.

    Example:
        >>> from temporal.delays import DelayedLinear
        >>> layer = DelayedLinear(4, 8, max_delay=3, per="axon").round_()
        >>> _ = layer.delay.data.fill_(3.0)
        >>> print(hardware_cost(layer, real_inputs=False))
        32 synapses, weights 128 B, delays 1 B
        buffers 3 steps deep, 2 B a signal
    """
    if (activity is None) != (seconds is None) or (seconds is not None and not seconds > 0):
        raise ValueError(
            f"hardware_cost: activity and its seconds belong together, seconds={seconds}; above 0 is right"
        )
    layers = integer_delays(network)
    entries = [
        part.longest * part.inputs * (32 if real_inputs and number == 0 else 1) for number, part in enumerate(layers)
    ]
    rate = None
    if activity is not None and seconds is not None:
        per_recording = activity.additions_per_recording + activity.products_per_recording
        rate = per_recording * activity.recordings / seconds
    return HardwareCost(
        max((part.longest for part in layers), default=0),
        sum(entries),
        sum(part.stored_delays * part.bits for part in layers),
        sum(32 * part.synapses for part in layers),
        sum(part.synapses for part in layers),
        rate,
    )


def save_integers(network: nn.Module, file: str | os.PathLike, more: dict[str, Any] | None = None) -> HardwareCost:
    """Write the layers with delays of a network into a safetensors file, which any language reads, in one step.

    Tensors are called LAYER.weight, LAYER.delay, LAYER.copies and LAYER.bias; the file's metadata has a JSON text under
    "temporal" with each layer's `per`, bits and longest delay, and the cost of all.

    Args:
        network: its layers with delays are written; rounded, not changed.
        file: the file.
        more: what else the JSON text is to say.
    Returns:
        The cost, without what a recording would tell.
    Raises:
        ValueError: no layer with delays.
    """
    from safetensors.torch import save as serialised

    layers, cost = integer_delays(network), hardware_cost(network)
    if not layers:
        raise ValueError("save_integers: the network has no layer with delays")
    tensors = {
        f"{part.name}.{name}": value.contiguous()
        for part in layers
        for name in ("weight", "delay", "copies", "bias")
        if (value := getattr(part, name)) is not None
    }
    about = {part.name: {"per": part.per, "bits": part.bits, "longest": part.longest} for part in layers}
    text = json.dumps({"layers": about, "cost": asdict(cost)} | (more or {}), ensure_ascii=False)
    data = serialised(tensors, metadata={"temporal": text})
    write_atomically(Path(file), lambda opened: opened.write(data))
    return cost


def _longest(layer: DelayedLinear, weight: Tensor, steps: Tensor) -> int:
    """The longest delay of a synapse that is there."""
    live = weight != 0
    if layer.per == "axon":
        delays = steps.expand_as(weight)
    elif layer.per == "dendrite":
        delays = steps.unsqueeze(1).expand_as(weight)
    elif layer.per == "additive":
        delays = steps[layer.in_features :].unsqueeze(1) + steps[: layer.in_features]
    elif layer.copies is not None:
        delays = steps.gather(0, layer.copies.long())
    else:
        delays = steps
    return int(torch.where(live, delays, 0).max()) if live.any() else 0


def _bytes(bits: int) -> str:
    size = -(-bits // 8)
    return f"{size:,} B" if size < 10_000 else f"{size / 1000:,.1f} kB"
