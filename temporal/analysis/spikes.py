"""What the neurons of a network do with one recording."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["record_spikes", "spiking_layers"]


def record_spikes(network: nn.Module, x: Tensor) -> list[tuple[str, Tensor]]:
    """Run a network on one recording and keep what its spiking layers sent out.

    A layer counts as spiking if it has a threshold: an attribute ``v_threshold``, as every neuron of
    :mod:`temporal.neurons` that fires, and SpikingJelly's; the leaky integrator LI has none. A layer of another make is
    recognised by an attribute ``spiking = True`` (and left out by ``False``). Of neurons inside a
    :class:`temporal.neurons.Recurrent` or :class:`temporal.delays.RecurrentDelays` the spikes are what that sends out.

    Args:
        network: any module on steps; it runs in evaluation mode without gradients, and is left in the mode it had.
        x: the steps of one recording.
    Shape:
        x: [T, 1, *features].  Returns one (name, spikes [T, neurons]) a layer, in the order in which they ran; the name
        is the layer's class and its place in the network.
    Raises:
        ValueError: another batch than one recording.

    Example:
        >>> import torch, temporal
        >>> from temporal.analysis import record_spikes
        >>> network = temporal.Sequential(torch.nn.Linear(3, 5), temporal.neurons.LIF(), torch.nn.Linear(5, 2))
        >>> [(name, spikes.shape) for name, spikes in record_spikes(network, torch.rand(10, 1, 3))]
        [('LIF 1', torch.Size([10, 5]))]
    """
    if x.ndim < 3 or x.shape[1] != 1:
        raise ValueError(f"record_spikes: x has shape {list(x.shape)}; one recording, [T, 1, features], is right")
    recorded: list[tuple[str, Tensor]] = []
    modes = [(module, module.training) for module in network.modules()]
    hooks = [module.register_forward_hook(_keeping(name, recorded)) for name, module in spiking_layers(network).items()]
    try:
        with torch.no_grad():
            network.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return recorded


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers whose outputs are spikes, by name: class and place."""
    return dict(_spiking("", network))


def named(path: str, module: nn.Module) -> str:
    """How a layer is called in pictures, tables and words: "LIF 2"."""
    return f"{type(module).__name__} {path}".strip()


def _spiking(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    neuron = getattr(module, "neuron", None)  # of recurrent layers, which run it in pieces, or in an operator
    if _fires(module) or (isinstance(neuron, nn.Module) and _fires(neuron)):
        yield named(path, module), module
        return
    for name, child in module.named_children():
        yield from _spiking(f"{path}.{name}".lstrip("."), child)


def _fires(module: nn.Module) -> bool:
    return bool(getattr(module, "spiking", hasattr(module, "v_threshold")))


def _keeping(name: str, recorded: list[tuple[str, Tensor]]):
    def keep(module: nn.Module, inputs, output) -> None:
        spikes = output[0] if isinstance(output, tuple) else output
        recorded.append((name, spikes.detach()[:, 0].flatten(1).clone()))

    return keep
