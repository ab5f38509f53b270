"""How a module is called over time: with a state, with lengths, or like any nn.Module."""

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Role(NamedTuple):
    """What a module's ``forward`` asks for beside its input."""

    state: str | None  # the name of its state argument: "state" here, "hx" in torch.nn
    lengths: bool


def role(module: nn.Module) -> Role:
    """Read from the signature of ``forward`` whether a module carries a state and wants lengths."""
    names = inspect.signature(module.forward).parameters
    return Role(next((n for n in ("state", "hx") if n in names), None), "lengths" in names)


def call(module: nn.Module, x: Tensor, state: Any, lengths: Tensor | None, as_role: Role) -> tuple[Tensor, Any]:
    """Call any module as ``y, state = module(x, state, lengths)``; a stateless one returns ``None`` for its state."""
    more = {"lengths": lengths} if as_role.lengths else {}
    if as_role.state is None:
        return module(x, **more), None
    more[as_role.state] = state
    if isinstance(module, nn.RNNBase) and not x.shape[0]:  # torch.nn refuses an empty chunk
        return x.new_zeros(0, x.shape[1], getattr(module, "proj_size", 0) or module.hidden_size), state
    y, new_state = module(x, **more)
    return y, new_state


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """The mask [T, B] of steps that lie before each sample's end."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths.unsqueeze(0)


def check_lengths(owner: str, lengths: Tensor | None, batch: int, most: int, unit: str) -> None:
    """Refuse lengths that are not one whole number per sample, or that reach beyond the input."""
    if lengths is None:
        return
    if not isinstance(lengths, Tensor) or lengths.dtype.is_floating_point or lengths.dtype.is_complex:
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"{owner}: lengths must be a tensor of integers ({unit} per sample), got {got}")
    if lengths.shape != (batch,):
        raise ValueError(
            f"{owner}: lengths has shape {tuple(lengths.shape)}, but the batch holds {batch} samples: [{batch}] is right"
        )
    # One look at the values costs a synchronisation on a GPU, so only host tensors are checked.
    if lengths.device.type == "cpu" and batch and not torch.compiler.is_compiling():
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > most:
            raise ValueError(f"{owner}: lengths run from {low} to {high} {unit}; the input allows 0 to {most}")
