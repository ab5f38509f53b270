"""Batch normalisation over samples and valid steps."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ._protocol import valid_steps

__all__ = ["BatchNorm"]


class BatchNorm(nn.Module):
    """Batch normalisation over [T, B, *features] that counts valid steps only.

    y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and var per feature over all steps t < lengths[b]
    of all samples (and over the trailing axes, if any), in training; over the running averages in evaluation.

    Padding never enters the statistics, so a sample's result does not depend on how long its neighbours are. Under
    ``torch.distributed`` the statistics are those of all ranks together. In evaluation it is an affine map per step, so a
    stream equals the whole, and :func:`temporal.layers.fold` merges it into the weights before it.

    Args:
        num_features: size of the first feature axis.
        eps: added to the variance, > 0.
        momentum: weight of a new batch in the running averages, 0..1.
    Shape:
        x: [T, B, num_features, *rest].  Returns the same shape. ``lengths``: [B], steps.
    Raises:
        ValueError: another number of features; a training batch with fewer than two valid values per feature.
    References:
        Ioffe and Szegedy 2015. Matches ``torch.nn.BatchNorm1d`` on the valid steps (unbiased running variance).

    Example:
        >>> import torch, temporal
        >>> norm = temporal.BatchNorm(3)
        >>> y = norm(torch.randn(50, 8, 3) * 5 + 2)
        >>> bool(y.mean().abs() < 1e-5)
        True
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"BatchNorm: num_features={num_features}; at least 1 is right")
        if not eps > 0:
            raise ValueError(f"BatchNorm: eps={eps} must be above 0")
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm: momentum={momentum} must lie in 0..1")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if x.ndim < 3 or x.shape[2] != self.num_features:
            raise ValueError(f"BatchNorm: x has shape {tuple(x.shape)}; [T, B, {self.num_features}, ...] is right")
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, self.weight.dtype))  # half precision has too few digits for a variance
        if self.training:
            # What is off the mean gives the variance and the result: one tensor is kept for the backward pass, not two.
            x, var = self._batch_statistics(x, lengths)
            scale, shift = self.weight * torch.rsqrt(var + self.eps), cast(Tensor, self.bias)
        else:
            scale, shift = self.affine()
        rest = (1,) * (x.ndim - 3)
        return torch.addcmul(shift.view(-1, *rest), x, scale.view(-1, *rest)).to(dtype)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The map of evaluation, y = x * scale + shift, per feature: (scale [N], shift [N])."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"

    def _batch_statistics(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is off the batch's mean, [T, B, N, *rest], and the variance, [N]; moves the running averages."""
        over = [axis for axis in range(x.ndim) if axis != 2]
        per_step = math.prod(x.shape[3:])
        if lengths is None:
            mask = None
            count = x.new_tensor(float(x.shape[0] * x.shape[1] * per_step))
        else:
            mask = valid_steps(lengths, x.shape[0]).view(*x.shape[:2], *(1,) * (x.ndim - 2))
            count = mask.sum(dtype=x.dtype) * per_step
        total = (x if mask is None else x * mask).sum(over)
        count, total = _over_ranks(count.view(1), total)
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and count < 2:
            raise ValueError(
                f"BatchNorm: a training batch holds {int(count)} valid value per feature; a variance needs at least 2"
            )
        mean = total / count
        off = x - mean.view(-1, *(1,) * (x.ndim - 3))
        (squares,) = _over_ranks((off if mask is None else off * mask).square().sum(over))
        var = squares / count
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        return off, var


def _over_ranks(*values: Tensor) -> Sequence[Tensor]:
    """The sums over all ranks of a distributed run, with their gradients; the values themselves in a single process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return _SumOverRanks.apply(torch.cat(values)).split([len(value) for value in values])


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks. What all ranks compute from y depends on each x, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        torch.distributed.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        torch.distributed.all_reduce(grad)
        return grad
