"""Dense convolutions of little work: torch's own operations, whose calls and derivatives take the least time.

What the taps of an output meet is laid side by side, and one product does the rest. Of a compiled kernel or an operator of
our own the calls alone would take longer. The rule, measured with one and two threads: up to ``_NUMBERS`` numbers side by
side, of at most ``_TAPS`` taps, each of which is an operation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import ACTIVATIONS

__all__ = ["convolve", "pays"]

_NUMBERS = 1 << 18
_TAPS = 12


def pays(x: Tensor, weight: Tensor, groups: int, activation: str) -> bool:
    """Whether this is the faster way to a convolution on the CPU; not with torch's own gelu, which makes NaN of infinity."""
    return groups == 1 and activation != "gelu" and weight.shape[2] <= _TAPS and x.numel() * weight.shape[2] <= _NUMBERS


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> Tensor:
    """``reference.convolve``, of one group."""
    steps, past = x.shape[0], (weight.shape[2] - 1) * dilation
    if history is not None:  # of no steps, too: it has a gradient
        line = torch.cat([history, x])
    else:
        line = F.pad(x, (0, 0, 0, 0, past, 0)) if past else x
    met = torch.stack([line[first : first + steps] for first in range(0, past + 1, dilation)], 3) if past else line
    z = F.linear(met.flatten(2), weight.flatten(1), bias)
    return ACTIVATIONS[activation](z)
