"""A function of many rows, a few at a time, so that what it makes on the way stays in the cache."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._precision import full_precision

__all__ = ["in_blocks"]


def in_blocks(function: Callable[..., Tensor], size: int, rows: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
    """`function(*rows, *shared)`, computed for `size` rows at a time: row r of the result depends on row r alone.

    The backward pass computes each block again, instead of keeping what the forward pass made: that is less work for
    the memory than the arithmetic costs. A program that is traced (compiled, exported) gets the plain call.
    """
    if torch.compiler.is_compiling() or (len(rows[0]) <= size and not torch.is_grad_enabled()):
        return function(*rows, *shared)
    return _InBlocks.apply(function, size, len(rows), *rows, *shared)


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], size: int, count: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.size, ctx.count = function, size, count
        ctx.save_for_backward(*tensors)
        rows, shared = tensors[:count], tensors[count:]
        out: Any = None
        for block in _slices(len(rows[0]), size):
            part = function(*(row[block] for row in rows), *shared)
            if out is None:
                out = part.new_empty((len(rows[0]), *part.shape[1:]))
            out[block] = part
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, count = ctx.saved_tensors, ctx.count
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        grads: list[Any] = [None] * len(tensors)
        for i in wanted:
            grads[i] = torch.zeros_like(tensors[i])
        with torch.enable_grad(), full_precision(grad):
            for block in _slices(len(grad), ctx.size):
                parts = [tensor[block] if i < count else tensor for i, tensor in enumerate(tensors)]
                parts = [part.detach().requires_grad_(i in wanted) for i, part in enumerate(parts)]
                out = ctx.function(*parts)
                for i, part in zip(
                    wanted, torch.autograd.grad(out, [parts[i] for i in wanted], grad[block]), strict=True
                ):
                    if i < count:
                        grads[i][block] = part
                    else:
                        grads[i] += part
        return (None, None, None, *grads)


def _slices(rows: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, rows, size)]
