"""Optimisers whose momentum ends where a delay's range does."""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .linear import DelayedLinear

__all__ = ["stop_at_walls"]

_FIRST_MOMENTS = ("exp_avg", "momentum_buffer")  # as torch's optimisers call them


def stop_at_walls(optimizer: torch.optim.Optimizer, network: nn.Module) -> RemovableHandle:
    """From now on no momentum is left that leads a delay out of its range.

    m <- 0   where the delay is on a wall, or beyond it, and -m leads outwards; after each step of the optimiser

    A delay that comes to a wall brings momentum with it. The layer keeps it in range and passes no gradient outwards, so the
    momentum would fade by itself, in ten or twenty steps, in which the delay does not leave the wall whatever its
    gradient says. Without it, it leaves with the first gradient that leads inside.

    Args:
        optimizer: of torch: what it keeps under "exp_avg" (Adam and its kin) or "momentum_buffer" (SGD) is meant.
        network: whose layers with delays it trains.
    Returns:
        A handle, whose `remove()` ends it.

    Example:
        >>> import torch
        >>> from temporal.delays import DelayedLinear, stop_at_walls
        >>> layer = DelayedLinear(1, 1, max_delay=8)
        >>> _ = layer.delay.data.fill_(7.9)
        >>> adam = torch.optim.Adam([layer.delay], lr=1.0)
        >>> _ = stop_at_walls(adam, layer)
        >>> layer.delay.grad = torch.tensor([[-1.0]])  # longer, but there is a wall
        >>> adam.step()
        >>> adam.state[layer.delay]["exp_avg"]
        tensor([[0.]])
    """
    layers = [layer for layer in network.modules() if isinstance(layer, DelayedLinear)]

    def stop(optimizer: Any, *given: Any) -> None:
        for layer in layers:
            for name in _FIRST_MOMENTS:
                moment = optimizer.state.get(layer.delay, {}).get(name)
                if moment is not None:
                    layer._turn_inwards(moment)

    return optimizer.register_step_post_hook(stop)
