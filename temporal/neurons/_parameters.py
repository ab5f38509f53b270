"""What a neuron learns or holds per neuron, in its valid range by construction."""

import math
import numbers
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Size", "Threshold", "TimeConstant", "checked_reset", "checked_trainable", "resolve_size"]

Size = int | Sequence[int] | None


class TimeConstant(nn.Module):
    """A time constant tau > 1, in steps, and the decay 1 - 1/tau of one step that it means.

    Learned, it is held as ``logit``: decay = sigmoid(logit), so tau = 1 + exp(logit) is above 1 whatever an optimiser
    does, and equal steps of the logit change long and short time constants in proportion.

    Args:
        owner: name of the neuron's class, for messages.
        tau: number, or one per neuron.
        size: shape of the per-neuron values; None where tau is one number for all.
        trainable: whether it is learned, one per neuron.
        name: of the argument, for messages.
    """

    def __init__(
        self, owner: str, tau: float | Tensor, size: tuple[int, ...] | None, trainable: bool, name: str = "tau"
    ):
        super().__init__()
        self.number: float | None = None
        self.register_parameter("logit", None)
        self.register_buffer("values", None)
        values = _values(owner, name, tau, size, trainable)
        if not isinstance(values, Tensor):
            if not 1 < values < math.inf:
                raise ValueError(f"{owner}: {name}={values} steps must be above 1 and finite")
            self.number = values
            return
        if not bool(((values > 1) & (values < math.inf)).all()):
            raise ValueError(f"{owner}: {name} must be above 1 step and finite for every neuron, got {_range(values)}")
        if trainable:
            self.logit = nn.Parameter((values - 1).log())
        else:
            self.values = values

    @property
    def tau(self) -> float | Tensor:
        """The time constant, in steps: a number, or one per neuron."""
        if self.number is not None:
            return self.number
        return self.values if self.logit is None else 1 + _at_least_float32(self.logit).exp()

    def decay_and_rate(self) -> tuple[float | Tensor, float | Tensor]:
        """1 - 1/tau and 1/tau."""
        if self.logit is not None:
            logit = _at_least_float32(self.logit)
            return logit.sigmoid(), (-logit).sigmoid()
        rate = 1 / (_at_least_float32(self.values) if self.number is None else self.number)
        return 1 - rate, rate

    def extra_repr(self) -> str:
        return _described(self.number, self.logit, self.values)


class Threshold(nn.Module):
    """A firing threshold above the potential ``floor`` at which the neuron is reset.

    Learned, it is held as ``raw``: threshold = floor + softplus(raw), which never overflows nor falls below floor.

    Args:
        owner, size, trainable: as :class:`TimeConstant`.
        v_threshold: number, or one per neuron.
        floor: what the threshold must exceed.
    """

    def __init__(
        self, owner: str, v_threshold: float | Tensor, floor: float, size: tuple[int, ...] | None, trainable: bool
    ):
        super().__init__()
        self.number: float | None = None
        self.floor = floor
        self.register_parameter("raw", None)
        self.register_buffer("values", None)
        values = _values(owner, "v_threshold", v_threshold, size, trainable)
        if not isinstance(values, Tensor):
            if not values > floor:
                raise ValueError(f"{owner}: v_threshold={values} must be above {floor}, the neuron's rest")
            self.number = values
            return
        if not bool((values > floor).all()):
            raise ValueError(
                f"{owner}: v_threshold must be above {floor}, the neuron's rest, for every neuron, got {_range(values)}"
            )
        if trainable:
            if not bool(values.isfinite().all()):
                raise ValueError(f"{owner}: an infinite v_threshold cannot be learned")
            gap = values - floor
            self.raw = nn.Parameter(gap + torch.log(-torch.expm1(-gap)))  # the inverse of softplus, without overflow
        else:
            self.values = values

    @property
    def value(self) -> float | Tensor:
        """The threshold: a number, or one per neuron."""
        if self.number is not None:
            return self.number
        return self.values if self.raw is None else self.floor + nn.functional.softplus(_at_least_float32(self.raw))

    def extra_repr(self) -> str:
        return _described(self.number, self.raw, self.values)


def checked_trainable(owner: str, trainable: Collection[str], allowed: tuple[str, ...]) -> frozenset[str]:
    """The names of the parameters that are learned."""
    names = {trainable} if isinstance(trainable, str) else set(trainable)
    if unknown := sorted(names - set(allowed)):
        raise ValueError(f"{owner}: trainable={unknown[0]!r} is not a parameter; it can hold {', '.join(allowed)}")
    return frozenset(names)


def resolve_size(owner: str, size: Size, **values: float | Tensor) -> tuple[int, ...] | None:
    """The shape of per-neuron values: ``size``, or the shape of the tensors among ``values``, which must agree."""
    shape = None if size is None else (size,) if isinstance(size, int) else tuple(size)
    if shape is not None and not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"{owner}: size={size} must hold positive numbers of neurons")
    source = f"size={size}"
    for name, value in values.items():
        if isinstance(value, Tensor) and value.dim() > 0:
            if shape is not None and tuple(value.shape) != shape:
                raise ValueError(f"{owner}: {name} has shape {list(value.shape)}, which disagrees with {source}")
            shape, source = tuple(value.shape), f"{name} of shape {list(value.shape)}"
    return shape


def checked_reset(owner: str, v_reset: float | None) -> float | None:
    """The potential after a spike, or None for a soft reset."""
    if v_reset is not None and not math.isfinite(v_reset):
        raise ValueError(f"{owner}: v_reset={v_reset} must be finite, or None for a soft reset")
    return v_reset


def _values(
    owner: str, name: str, value: float | Tensor, size: tuple[int, ...] | None, trainable: bool
) -> float | Tensor:
    """A plain number where one is enough, else a new tensor of shape ``size``."""
    if isinstance(value, Tensor) and value.dim() == 0:
        value = value.item()
    if not isinstance(value, Tensor):
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{owner}: {name} must be a number or a tensor [size], got {type(value).__name__}")
        if not trainable:
            return float(value)
        if size is None:
            raise ValueError(f"{owner}: trainable {name!r} is learned per neuron; give size=, the number of neurons")
        return torch.full(size, float(value))
    if value.is_complex():
        raise TypeError(f"{owner}: {name} is {value.dtype}; expected real numbers")
    value = value.detach().clone()
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _at_least_float32(values: Tensor) -> Tensor:
    """A decay of .95 or .951 is the same number in bfloat16, but not the same neuron."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _described(number: float | None, learned: Tensor | None, values: Tensor | None) -> str:
    if number is not None:
        return f"{number:g}"
    if learned is not None:
        return f"{list(learned.shape)}, learned"
    return "" if values is None else f"{list(values.shape)}"


def _range(values: Tensor) -> str:
    return f"values from {values.min().item():g} to {values.max().item():g}"
