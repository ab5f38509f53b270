"""What layers that reach back to a fixed number of earlier inputs check: their sizes, what comes, and their state."""

import operator

import torch
from torch import Tensor

__all__ = ["autocasts", "check_history", "check_inputs", "whole"]


def whole(owner: str, name: str, value: int, least: int = 1) -> int:
    """A whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{owner}: {name}={value!r} is not a whole number") from None
    if number < least:
        raise ValueError(f"{owner}: {name}={number} must be at least {least}")
    return number


def check_inputs(
    owner: str, x: Tensor, state: Tensor | None, weight: Tensor, features: tuple[str, int], past: int, kept: str
) -> None:
    """x [T, B, features] of the weights' dtype and device, and the last `past` inputs of the same batch, or None.

    Args:
        owner: the class that errors name.
        features: what the layer calls its number of inputs, and that number.
        past: steps of the state.
        kept: how many inputs those are, in the words of the layer's arguments.
    """
    name, size = features
    if x.ndim != 3 or x.shape[2] != size:
        raise ValueError(f"{owner}: x has shape {list(x.shape)}, expected [steps, batch, {name}={size}]")
    check_history(owner, x, state, weight, past, kept)


def check_history(owner: str, x: Tensor, state: Tensor | None, weight: Tensor, past: int, kept: str) -> None:
    """x, of a shape that is right, of the weights' dtype; and the last `past` inputs of the same batch, or None."""
    if x.device != weight.device:
        raise ValueError(f"{owner}: x is on {x.device}, the weights are on {weight.device}: move one of them")
    if x.dtype != weight.dtype and not autocasts(x, weight):
        raise TypeError(
            f"{owner}: x is {_short(x.dtype)}, the weights are {_short(weight.dtype)}: "
            f"use x.to({weight.dtype}), or layer.to(dtype) for another precision"
        )
    if state is None:
        return
    shape = (past, *x.shape[1:])
    if state.shape != shape:
        raise ValueError(
            f"{owner}: state has shape {list(state.shape)}, expected {list(shape)}: "
            f"the last {kept} inputs of the same batch"
        )
    if state.device != x.device:
        raise ValueError(f"{owner}: state is on {state.device}, x is on {x.device}: they must agree")
    if state.dtype != x.dtype:
        raise TypeError(f"{owner}: state is {_short(state.dtype)}, x is {_short(x.dtype)}: they must agree")


def autocasts(x: Tensor, weight: Tensor) -> bool:
    """Whether autocast makes the two agree; it leaves float64 and whole numbers as they are."""
    castable = (torch.float32, torch.bfloat16, torch.float16)
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return on and x.dtype in castable and weight.dtype in castable


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
