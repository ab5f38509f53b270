"""Which synapses are the weakest of some layers together."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["checked_share", "weakest"]


def weakest(strengths: Sequence[Tensor], amount: float) -> list[Tensor]:
    """Of each layer, True where a synapse is among the weakest of all layers; the same ones at each call, ties included.

    Args:
        strengths: of each layer's synapses, [*shape].
        amount: share of all of them, 0 .. 1; to the nearest whole number of synapses.
    Shape:
        Returns as many [*shape], bool.
    """
    together = torch.cat([strength.flatten() for strength in strengths])
    out = torch.zeros_like(together, dtype=torch.bool)
    out[together.argsort(stable=True)[: round(amount * len(together))]] = True
    parts = out.split([strength.numel() for strength in strengths])
    return [part.view_as(strength) for part, strength in zip(parts, strengths, strict=True)]


def checked_share(owner: str, amount: float) -> float:
    """The amount, if it is a share of the synapses."""
    if not 0 <= amount <= 1:
        raise ValueError(f"{owner}: amount={amount} is not a share of the synapses in 0 .. 1")
    return amount
