"""Arguments of neurons, checked in one place: what came, and what would be right."""

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from temporal.layers._protocol import check_lengths

__all__ = [
    "broadcasts", "checked_input", "checked_knob", "checked_lengths", "checked_parts", "checked_state", "checked_truncate",
]  # fmt: skip

_MOST_SCALARS = 1000  # a sweep over time constants must not fill the memory
_CURRENTS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def checked_input(owner: str, x: Tensor, size: Sequence[int] | None = None) -> torch.dtype:
    """The dtype of the state that belongs to the currents x [T, B, *features] of ``size`` neurons."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner}: x must be a tensor [T, B, *features], got {type(x).__name__}")
    if x.dtype not in _CURRENTS:
        raise TypeError(f"{owner}: x is {x.dtype}; give float64, float32, bfloat16 or float16 (x.float())")
    if x.dim() < 2:
        raise ValueError(f"{owner}: x has shape {list(x.shape)}; expected [T, B, *features], time first")
    if size is not None and not broadcasts(size, x.shape[2:]):
        raise ValueError(
            f"{owner}: x of shape {list(x.shape)} has features {list(x.shape[2:])}, but size={list(size)} was given"
        )
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def checked_state(owner: str, name: str, v: Tensor | None, x: Tensor, dtype: torch.dtype, rest: float) -> Tensor:
    """The membrane before the first step: v, or everywhere ``rest``."""
    if v is None:
        return x.new_full(x.shape[1:], rest, dtype=dtype)
    if not isinstance(v, Tensor):
        raise TypeError(f"{owner}: {name} must be a tensor [B, *features] or None, got {type(v).__name__}")
    if v.shape != x.shape[1:]:
        raise ValueError(
            f"{owner}: {name} has shape {list(v.shape)}, but x of shape {list(x.shape)} needs {list(x.shape[1:])}; "
            f"a state belongs to one batch (start a new one with {name}=None)"
        )
    if v.device != x.device:
        raise ValueError(f"{owner}: {name} is on {v.device}, x is on {x.device}; move one of them")
    if v.dtype != dtype:
        raise TypeError(f"{owner}: {name} is {v.dtype}, but beside x of {x.dtype} it is kept in {dtype}")
    return v


def checked_parts(owner: str, state: tuple[Tensor, ...] | None, kind: type[tuple]) -> tuple[Tensor | None, ...]:
    """The tensors of a state of several, or as many times None."""
    fields = kind._fields  # type: ignore[attr-defined]
    if state is None:
        return (None,) * len(fields)
    wrong = not isinstance(state, tuple) or len(state) != len(fields) or not all(isinstance(s, Tensor) for s in state)
    if wrong or getattr(state, "_fields", fields) != fields:  # another neuron's may have as many parts
        plain = type(state) is tuple
        got = f"a tuple of {len(state)}" if plain else type(state).__name__
        raise TypeError(f"{owner}: state must be None or the tensors ({', '.join(fields)}), got {got}")
    return state


def checked_knob(owner: str, name: str, knob: float | Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter of the neuron as a tensor of the state's dtype."""
    if not isinstance(knob, Tensor):
        if not isinstance(knob, float) and not isinstance(knob, numbers.Real):
            raise TypeError(f"{owner}: {name} must be a number or a tensor [*features], got {type(knob).__name__}")
        if knob != knob:  # NaN; math.isnan would break the compiler's graph
            raise ValueError(f"{owner}: {name} is NaN; expected a number or a tensor [*features]")
        return _scalar(float(knob), dtype)
    if knob.is_complex():
        raise TypeError(f"{owner}: {name} is {knob.dtype}; expected real numbers")
    if knob.device != x.device:
        raise ValueError(f"{owner}: {name} is on {knob.device}, x is on {x.device}; move one of them")
    if not broadcasts(knob.shape, x.shape[2:]):
        raise ValueError(
            f"{owner}: {name} has shape {list(knob.shape)}, which does not broadcast against the features "
            f"{list(x.shape[2:])} of x {list(x.shape)}"
        )
    return knob.to(dtype)


def checked_lengths(owner: str, lengths: Tensor | None, x: Tensor) -> Tensor | None:
    """The samples' steps as the operators take them."""
    if lengths is None:
        return None
    check_lengths(owner, lengths, x.shape[1], x.shape[0], "steps")
    if lengths.device != x.device:
        raise ValueError(f"{owner}: lengths is on {lengths.device}, x is on {x.device}; move one of them")
    return lengths.to(torch.int64).contiguous()


def checked_truncate(owner: str, truncate: int | None) -> int:
    """After how many steps gradients end, or 0."""
    if truncate is None:
        return 0
    if not isinstance(truncate, int) or truncate < 1:
        raise ValueError(f"{owner}: truncate={truncate} must be a positive number of steps, or None")
    return truncate


_scalars: dict[tuple[float, torch.dtype], Tensor] = {}


def _scalar(number: float, dtype: torch.dtype) -> Tensor:
    """A number as a tensor, which mixes with tensors of any device; made once, since a step of a stream takes as long."""
    if torch.compiler.is_compiling():
        return torch.scalar_tensor(number, dtype=dtype, device="cpu")
    known = _scalars.get((number, dtype))
    if known is None:
        with torch.inference_mode(False):  # in which it could not be saved for a backward pass
            known = torch.scalar_tensor(number, dtype=dtype, device="cpu")
        if type(known) is Tensor and len(_scalars) < _MOST_SCALARS:
            _scalars[number, dtype] = known
    return known


def broadcasts(shape: Sequence[int], features: Sequence[int]) -> bool:
    """Whether ``shape`` fits the last of ``features``, without enlarging them."""
    return len(shape) <= len(features) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(features), strict=False)
    )
