"""Fewer synapses: the weakest of a whole network go, and with them their delays."""

import torch
from torch import nn

from ._weakest import checked_share, weakest
from .linear import DelayedLinear

__all__ = ["prune_delays"]


@torch.no_grad()
def prune_delays(network: nn.Module, amount: float) -> int:
    """Takes the weakest synapses of all layers with delays out for good, by the size of their weights.

    out = the share `amount` of all synapses, those with the smallest |w|

    Layers are compared as they are: of one whose weights are smaller than the others' more go. What that means for a
    synapse says :meth:`DelayedLinear.prune_`, which prunes a single layer.

    Args:
        network: every `DelayedLinear` in it counts, those within `DelayedConv1d` and `RecurrentDelays` too.
        amount: share of the synapses that are to be out, 0 .. 1; those that are out already count.
    Returns:
        How many synapses are out.
    Raises:
        ValueError: an amount out of its range.

    Example:
        >>> import torch
        >>> from temporal.delays import DelayedLinear, prune_delays
        >>> network = torch.nn.ModuleList([DelayedLinear(40, 64, max_delay=24), DelayedLinear(64, 10, max_delay=24)])
        >>> prune_delays(network, 0.75)
        2400
        >>> sum(int(layer.alive.sum()) for layer in network)
        800
    """
    checked_share("prune_delays", amount)
    layers = [layer for layer in network.modules() if isinstance(layer, DelayedLinear)]
    if not layers:
        return 0
    masks = weakest([layer._strength() for layer in layers], amount)
    for layer, out in zip(layers, masks, strict=True):
        layer._take_out(out)
    return sum(0 if layer.alive is None else int((~layer.alive).sum()) for layer in layers)
