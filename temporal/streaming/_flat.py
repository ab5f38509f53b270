"""States as flat dictionaries of tensors and plain numbers, and back: what can be saved anywhere without executing code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["flatten", "rebuild"]

Flat = dict[str, Tensor | int | float]


def flatten(name: str, state: Any) -> Flat:
    """The leaves of a state, each under its path: ``network.0.1``. ``None`` (at rest) leaves no entry.

    Args:
        name: the path of the state itself.
        state: a tensor, a number, ``None``, or a (named) tuple or list of states.
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state.detach().clone()}
    if isinstance(state, int | float):
        return {name: state}
    if isinstance(state, tuple | list):
        flat: Flat = {}
        for number, part in enumerate(state):
            flat |= flatten(f"{name}.{number}", part)
        return flat
    raise TypeError(
        f"Stream.state_dict: {name} is {type(state).__name__}; a state is tensors, numbers and tuples of them"
    )


def rebuild(name: str, flat: Mapping[str, Any], like: Any, *, same_shape: bool, device: torch.device) -> Any:
    """The state that :func:`flatten` took apart.

    Args:
        name: the path of the state itself.
        flat: the leaves of it, and of others.
        like: a state of the same layer, for the kinds of its tuples, which a flat dictionary does not hold.
        same_shape: refuse a tensor whose shape or dtype differs from that in ``like``.
        device: where the tensors shall be.
    """
    if name in flat:
        leaf = flat[name]
        if not isinstance(leaf, Tensor):
            return leaf
        if same_shape and isinstance(like, Tensor) and (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"Stream.load_state_dict: {name} is {leaf.dtype} {list(leaf.shape)}, but this model's is {like.dtype} "
                f"{list(like.shape)}: the state is another model's"
            )
        return leaf.detach().clone().to(device)
    if not any(key.startswith(f"{name}.") for key in flat):
        return None  # at rest
    if not isinstance(like, tuple | list):
        raise ValueError(f"Stream.load_state_dict: {name} has parts, but this model's has none: another model's state")
    parts = (
        rebuild(f"{name}.{number}", flat, part, same_shape=same_shape, device=device)
        for number, part in enumerate(like)
    )
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)
