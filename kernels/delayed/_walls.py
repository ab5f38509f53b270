"""Gradients of delays on a wall: only what leads back inside 0 .. max_delay passes."""

import contextlib
from collections.abc import Iterator

from torch import Tensor

__all__ = ["inwards", "projected", "unprojected"]

_projecting = True  # of the process, not of the thread: gradients on a GPU are computed in another one


@contextlib.contextmanager
def unprojected() -> Iterator[None]:
    """Gradients are handed out whole, for a caller who adds up several parts and projects their sum with `inwards`.

    The projection of a sum is not the sum of projections, and each of several processes sees a part of a batch only.
    """
    global _projecting
    before, _projecting = _projecting, False
    try:
        yield
    finally:
        _projecting = before


def inwards(grad: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A gradient without what would lead outwards where a delay is on the low wall, or on the high one."""
    return grad.masked_fill((low & (grad > 0)) | (high & (grad < 0)), 0)  # descent subtracts the gradient


def projected(grad: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`inwards`, for operators: not so within `unprojected`."""
    return inwards(grad, low, high) if _projecting else grad
