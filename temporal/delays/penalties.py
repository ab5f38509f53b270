"""What may be added to a loss so that delays are short, or spread over their range."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from temporal.kernels.delayed import SMALLEST_SIGMA, bounded

from .linear import DelayedLinear

__all__ = ["depth_penalty", "spread_penalty"]


def depth_penalty(network: nn.Module, power: float = 1.0) -> Tensor:
    """How deep a network's delay lines are: its delays, as shares of the longest that is allowed.

    P = mean over layers of (mean over the layer's delays of (d / max_delay)^power),   0 (none) .. 1 (all the longest)

    Added to a loss it draws delays towards 0: those that the loss holds least come first, so a line gets shallower at the
    least cost. Weights are not in it; a delay that is long with a weak synapse is one for :func:`prune_delays`.

    Args:
        network: every `DelayedLinear` in it whose delays learn counts, those within `DelayedConv1d` and `RecurrentDelays`
            too; what was pruned does not, and delays that are rounded for good are constants.
        power: >= 1: 1 is the mean; with larger ones the longest delays are drawn most.
    Shape:
        Returns [], differentiable; 0 where no delay learns.
    Raises:
        ValueError: power below 1.

    Example:
        >>> import torch
        >>> from temporal.delays import DelayedLinear, depth_penalty
        >>> layer = DelayedLinear(2, 1, max_delay=8)
        >>> _ = layer.delay.data.copy_(torch.tensor([[2.0, 4.0]]))
        >>> depth_penalty(layer), depth_penalty(layer, power=2)
        (tensor(0.3750, grad_fn=<MeanBackward0>), tensor(0.1562, grad_fn=<MeanBackward0>))
    """
    if not power >= 1:
        raise ValueError(f"depth_penalty: power={power} must be at least 1")
    return _mean(network, lambda share, alive: share**power * alive)


def spread_penalty(network: nn.Module) -> Tensor:
    """How far a layer's delays are from being evenly spread over their range.

    P = mean over layers of 3 mean over k of (d_(k) / max_delay - (k - 1/2) / N)^2,   d_(1) <= ... <= d_(N) its N delays

    0 where they are evenly spread, 1/4 where all lie in the middle or half of them at each end, 1 where all lie at one
    end. Added to a loss it keeps delays from gathering anywhere, at the walls of their range above all. It sorts the delays.

    Args:
        network: as for :func:`depth_penalty`; of additive delays axons and dendrites are spread each over their own range.
    Shape:
        Returns [], differentiable; 0 where no delay learns.

    Example:
        >>> import torch
        >>> from temporal.delays import DelayedLinear, spread_penalty
        >>> layer = DelayedLinear(2, 1, max_delay=8)
        >>> for delays in ([2.0, 6.0], [4.0, 4.0], [8.0, 8.0]):
        ...     _ = layer.delay.data.copy_(torch.tensor([delays]))
        ...     print(f"{spread_penalty(layer):.3f}")
        0.000
        0.188
        0.938
    """
    return _mean(network, _unevenness)


def _unevenness(share: Tensor, alive: Tensor) -> Tensor:
    """Of each place in the order, how far what lies there is from where an even spread has it; 0 beyond those alive."""
    number = torch.arange(share.numel(), device=share.device)
    count = alive.sum()
    # Those that are out come last. Stable: many lie on a wall together, and each is to have its place at every call.
    in_order = share.masked_fill(~alive, 2.0).flatten().sort(stable=True).values
    return 3 * (in_order - (number + 0.5) / count.clamp(min=1)).square() * (number < count)


def _mean(network: nn.Module, each: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Over layers, of the mean of what `each` makes of a layer's shares and of which of them are alive."""
    layers = []
    for layer in network.modules():
        if isinstance(layer, DelayedLinear) and layer.delay.requires_grad and layer.max_delay:
            parts = list(_shares(layer))
            total = torch.stack([each(share, alive).sum() for share, alive in parts]).sum()
            count = torch.stack([alive.sum() for _, alive in parts]).sum()
            layers.append(total / count.clamp(min=1))
    return torch.stack(layers).mean() if layers else torch.zeros(())


def _shares(layer: DelayedLinear) -> Iterator[tuple[Tensor, Tensor]]:
    """Its delays as shares of the longest, axons and dendrites apart where they add up, and which of them are alive."""
    delay: Tensor = layer.delay
    if layer._whole_steps:
        delay = delay.detach()
    elif layer.kernel != "rounded":  # narrower, and the loss itself gives them no gradient
        delay = torch.where(layer.sigma >= SMALLEST_SIGMA[layer.kernel], delay, delay.detach())
    ranges = layer._ranges()
    sizes = [len(part) for part, _ in ranges]
    for (_, longest), part, alive in zip(ranges, delay.split(sizes), layer.alive_delays().split(sizes), strict=True):
        if longest:
            yield bounded(part, longest) / longest, alive
