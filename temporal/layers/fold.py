"""Merging batch normalisation into the weights before it, for deployment."""

import copy

import torch
from torch import nn

from .norm import BatchNorm
from .sequential import Sequential

__all__ = ["fold"]


def fold(network: nn.Sequential) -> Sequential:
    """Return a copy of a network in which every :class:`BatchNorm` is merged into the layer before it.

    W'[o] = scale[o] * W[o],  b'[o] = scale[o] * b[o] + shift[o],  with the scale and shift of evaluation

    Args:
        network: a Sequential; nested ones are folded, too. A BatchNorm that follows no layer with a ``weight``
            [out, ...] and a ``bias`` (a tensor or ``None``) stays as it is.
    Returns:
        An independent copy, equal to ``network.eval()`` up to rounding.

    Example:
        >>> import torch, temporal
        >>> from temporal.layers import fold
        >>> net = temporal.Sequential(torch.nn.Linear(3, 4), temporal.BatchNorm(4)).eval()
        >>> x = torch.randn(5, 2, 3)
        >>> folded = fold(net)
        >>> len(folded), torch.allclose(folded(x)[0], net(x)[0], atol=1e-6)
        (1, True)
    """
    folded = Sequential()
    for name, layer in network.named_children():
        before = folded[-1] if len(folded) else None
        if isinstance(layer, nn.Sequential):
            folded.add_module(name, fold(layer))
        elif isinstance(layer, BatchNorm) and before is not None and _takes(before, layer):
            _absorb(before, layer)
        else:
            folded.add_module(name, copy.deepcopy(layer))
    return folded.train(network.training)


def _takes(layer: nn.Module, norm: BatchNorm) -> bool:
    weight = getattr(layer, "weight", None)
    linear = isinstance(weight, nn.Parameter) and weight.ndim >= 2 and weight.shape[0] == norm.num_features
    return linear and hasattr(layer, "bias")


@torch.no_grad()
def _absorb(layer: nn.Module, norm: BatchNorm) -> None:
    scale, shift = norm.affine()
    weight = layer.weight
    weight.mul_(scale.view(-1, *(1,) * (weight.ndim - 1)))  # type: ignore[operator, union-attr]
    if layer.bias is None:
        layer.bias = nn.Parameter(shift.to(weight.dtype))  # type: ignore[arg-type]
    else:
        layer.bias.mul_(scale).add_(shift)  # type: ignore[operator, union-attr]
