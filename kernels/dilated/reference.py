"""Causal dilated convolution in plain torch: the specification of every other backend."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATIONS", "convolve"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> Tensor:
    """y[t] = activation(b + sum_k w[:, :, k] x[t - (K - 1 - k) dilation]), where x before its first step is ``history``."""
    steps, past = x.shape[0], (weight.shape[2] - 1) * dilation
    if history is None:
        history = x.new_zeros(past, *x.shape[1:])
    whole = torch.cat([history, x]).permute(1, 2, 0)
    if not steps:  # one step that is thrown away: torch convolves nothing shorter than the kernel
        whole = F.pad(whole, (0, 1))
    z = F.conv1d(whole, weight, bias, dilation=dilation, groups=groups).permute(2, 0, 1)
    return ACTIVATIONS[activation](z)[:steps].contiguous()
