"""How strongly a neuron adapts: one number or one per neuron, learned within its valid range by construction."""

import math

import torch
from torch import Tensor, nn

from ._parameters import _at_least_float32, _described, _range, _values

__all__ = ["Coupling", "Strength"]


class Strength(nn.Module):
    """A value of at least 0. Learned, it is held as ``raw``: value = softplus(raw).

    Args:
        owner: name of the neuron's class, for messages.
        name: of the argument, for messages.
        value: number, or one per neuron.
        size: shape of the per-neuron values; None where there is one number for all.
        trainable: whether it is learned, one per neuron.
    """

    def __init__(self, owner: str, name: str, value: float | Tensor, size: tuple[int, ...] | None, trainable: bool):
        super().__init__()
        self.number: float | None = None
        self.register_parameter("raw", None)
        self.register_buffer("values", None)
        values = _values(owner, name, value, size, trainable)
        if not isinstance(values, Tensor):
            if not 0 <= values < math.inf:
                raise ValueError(f"{owner}: {name}={values} must be 0 or more, and finite")
            self.number = values
            return
        if not bool(((values >= 0) & (values < math.inf)).all()):
            raise ValueError(f"{owner}: {name} must be 0 or more, and finite, for every neuron, got {_range(values)}")
        if not trainable:
            self.values = values
            return
        if not bool((values > 0).all()):
            raise ValueError(f"{owner}: a learned {name} must start above 0, got {_range(values)}")
        self.raw = nn.Parameter(values + torch.log(-torch.expm1(-values)))  # the inverse of softplus, without overflow

    @property
    def value(self) -> float | Tensor:
        """The value: a number, or one per neuron."""
        if self.number is not None:
            return self.number
        return self.values if self.raw is None else nn.functional.softplus(_at_least_float32(self.raw))

    def extra_repr(self) -> str:
        return _described(self.number, self.raw, self.values)


class Coupling(nn.Module):
    """The coupling a of an adaptation to the membrane, between -1 and the limit above which the neuron is unstable.

    Learned, it is held as ``logit``, of its place in that range: a = -1 + (limit + 1) sigmoid(logit). The limit moves
    where time constants are learned, so it is given with every call.

    Args:
        owner, size, trainable: as :class:`Strength`.
        a: number, or one per neuron.
        limit: at first.
    """

    def __init__(
        self, owner: str, a: float | Tensor, limit: float | Tensor, size: tuple[int, ...] | None, trainable: bool
    ):
        super().__init__()
        self.number: float | None = None
        self.register_parameter("logit", None)
        self.register_buffer("values", None)
        values = _values(owner, "a", a, size, trainable)
        limit = torch.as_tensor(limit).detach()
        if not bool(((torch.as_tensor(values) > -1) & (torch.as_tensor(values) < limit)).all()):
            got = _range(values) if isinstance(values, Tensor) else f"a={values}"
            raise ValueError(
                f"{owner}: a must be above -1 and below {limit.min().item():.6g}, where these time constants make the "
                f"neuron unstable, got {got}"
            )
        if not isinstance(values, Tensor):
            self.number = values
        elif trainable:
            self.logit = nn.Parameter(((values + 1) / (limit + 1)).to(values.dtype).logit())
        else:
            self.values = values

    def value(self, limit: float | Tensor) -> float | Tensor:
        """The coupling: a number, or one per neuron."""
        if self.number is not None:
            return self.number
        return self.values if self.logit is None else (limit + 1) * _at_least_float32(self.logit).sigmoid() - 1

    def extra_repr(self) -> str:
        return _described(self.number, self.logit, self.values)
