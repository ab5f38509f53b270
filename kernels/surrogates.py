"""Surrogate gradients: the slope that stands in for the derivative of the spike's step.

A spike is ``s = H(h - theta)``; its derivative is zero almost everywhere. Training replaces it by a surrogate
``g(h - theta)``, one of these closed forms (``x = h - theta``, ``a = alpha``):

================  =====================================================  ============  ==========================
name              g(x)                                                   default a     the same as
================  =====================================================  ============  ==========================
sigmoid           a e / (1 + e)^2, e = exp(-a abs(x))                    4             SpikingJelly Sigmoid
atan              a / 2 / (1 + (pi/2 a x)^2)                             2             SpikingJelly ATan
triangle          max(0, a - a^2 abs(x))                                 1             SpikingJelly PiecewiseQuadratic
superspike        a / (1 + abs(x))^2                                     1             SpikingJelly SuperSpike
fast_sigmoid      1 / (1 + a abs(x))^2                                   25            snnTorch fast_sigmoid
softsign          a / 2 / (1 + a abs(x))^2                               2             SpikingJelly SoftSign
exponential       a / 2 exp(-a abs(x))                                   1             SpikingJelly PiecewiseExp
erf               a / sqrt(pi) exp(-(a x)^2)                             2             SpikingJelly Erf
boxcar            a where abs(x) < 1 / (2 a), else 0                     1             SpikingJelly Rect
multi_gaussian    1.15 N(x; 0, w) - .15 (N(x; w, 6 w) + N(x; -w, 6 w)),  2             Yin et al. 2021
                  w = 1 / a, N(x; m, w) the normal density
================  =====================================================  ============  ==========================

References:
    Neftci, Mostafa, Zenke (2019), Surrogate gradient learning in spiking neural networks.
    Zenke, Ganguli (2018), SuperSpike. Yin, Corradi, Bohte (2021), Accurate and efficient time-domain classification
    with adaptive spiking recurrent neural networks.
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Surrogate", "names"]


class _Formula(NamedTuple):
    alpha: float  # the default
    gradient: Callable[[Tensor, float], Tensor]
    spikingjelly: str | None = None  # the class of SpikingJelly that computes the same


def _sigmoid(x: Tensor, a: float) -> Tensor:
    e = torch.exp(-a * x.abs())  # of the absolute value: e <= 1, so nothing overflows
    return a * e / (1 + e) ** 2


def _normal(x: Tensor, mean: float, width: float) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))


def _multi_gaussian(x: Tensor, a: float) -> Tensor:
    w = 1 / a
    return 1.15 * _normal(x, 0, w) - 0.15 * (_normal(x, w, 6 * w) + _normal(x, -w, 6 * w))


# Each formula gives 0, never NaN, at an infinite distance from the threshold: that is how a neuron is kept from firing.
_FORMULAS = {
    "sigmoid": _Formula(4.0, _sigmoid, "Sigmoid"),
    "atan": _Formula(2.0, lambda x, a: a / 2 / (1 + (math.pi / 2 * a * x) ** 2), "ATan"),
    "triangle": _Formula(1.0, lambda x, a: (a - a**2 * x.abs()).clamp(min=0), "PiecewiseQuadratic"),
    "superspike": _Formula(1.0, lambda x, a: a / (1 + x.abs()) ** 2, "SuperSpike"),
    "fast_sigmoid": _Formula(25.0, lambda x, a: 1 / (1 + a * x.abs()) ** 2),
    "softsign": _Formula(2.0, lambda x, a: a / 2 / (1 + a * x.abs()) ** 2, "SoftSign"),
    "exponential": _Formula(1.0, lambda x, a: a / 2 * torch.exp(-a * x.abs()), "PiecewiseExp"),
    "erf": _Formula(2.0, lambda x, a: a / math.sqrt(math.pi) * torch.exp(-((a * x) ** 2)), "Erf"),
    "boxcar": _Formula(1.0, lambda x, a: a * (x.abs() < 0.5 / a).to(x.dtype), "Rect"),
    "multi_gaussian": _Formula(2.0, _multi_gaussian),
}
_OF_SPIKINGJELLY = {formula.spikingjelly: name for name, formula in _FORMULAS.items() if formula.spikingjelly}


def names() -> tuple[str, ...]:
    """The names of the known surrogates.

    >>> "atan" in names()
    True
    """
    return tuple(_FORMULAS)


@dataclass(frozen=True)
class Surrogate:
    """One surrogate gradient: a name from this module's table and its sharpness ``alpha``.

    Calling it gives g(x), element by element, at a distance ``x = h - theta`` from the threshold.

    Args:
        name: one of :func:`names`.
        alpha: > 0, finite; None takes the table's default.
    Raises:
        ValueError: an unknown name, or an alpha that is not positive and finite.

    >>> Surrogate("atan")
    Surrogate(name='atan', alpha=2.0)
    >>> Surrogate.resolve("atan(5.0)")(torch.tensor([0.0, 1.0]))
    tensor([2.5000, 0.0399])
    """

    name: str
    alpha: float = None  # type: ignore[assignment] # __post_init__ puts the default in the place of None

    def __post_init__(self):
        if self.name not in _FORMULAS:
            raise ValueError(f"surrogate: {self.name!r} is not known{_nearest(self.name)}")
        alpha = _FORMULAS[self.name].alpha if self.alpha is None else float(self.alpha)
        if not 0 < alpha < math.inf:
            raise ValueError(f"surrogate: alpha={alpha} of {self.name!r} must be positive and finite")
        object.__setattr__(self, "alpha", alpha)

    def __call__(self, x: Tensor) -> Tensor:
        return _FORMULAS[self.name].gradient(x, self.alpha)

    def __str__(self) -> str:
        """The form that :meth:`resolve` reads back.

        >>> str(Surrogate("atan", 5))
        'atan(5.0)'
        """
        return f"{self.name}({self.alpha})"

    @classmethod
    def resolve(cls, spec: Any) -> "Surrogate":
        """A Surrogate from a name, a name with its alpha, a Surrogate, or an object of SpikingJelly's.

        Args:
            spec: ``"atan"``, ``"atan(5.0)"``, a Surrogate, or a SpikingJelly surrogate object, which is recognised by
                the name of its class and its ``alpha``, without importing SpikingJelly.
        Raises:
            ValueError: a name that is not known, or an object of SpikingJelly's with no counterpart here.
            TypeError: anything else.
        """
        if isinstance(spec, cls):
            return spec
        if isinstance(spec, str):
            return cls._parse(spec)
        kind = type(spec).__name__
        if kind in _OF_SPIKINGJELLY and hasattr(spec, "alpha"):
            if not getattr(spec, "spiking", True):
                raise ValueError(f"surrogate: {kind}(spiking=False) has no spike; give it with spiking=True")
            return cls(_OF_SPIKINGJELLY[kind], float(spec.alpha))
        if type(spec).__module__.startswith("spikingjelly."):
            known = ", ".join(sorted(_OF_SPIKINGJELLY))
            raise ValueError(f"surrogate: SpikingJelly's {kind} has no counterpart here; those that have: {known}")
        raise TypeError(f"surrogate: expected a name, a Surrogate or a SpikingJelly surrogate object, got {kind}")

    @classmethod
    def _parse(cls, text: str) -> "Surrogate":
        match = re.fullmatch(r"\s*([\w-]+)\s*(?:\(\s*(?:alpha\s*=)?([^()]*)\))?\s*", text)
        if match is None:
            raise ValueError(f"surrogate: cannot read {text!r}; expected a name such as 'atan', or 'atan(5.0)'")
        name, alpha = match.groups()
        try:
            return cls(name) if alpha is None else cls(name, float(alpha))
        except ValueError as error:
            if str(error).startswith("surrogate"):
                raise
            raise ValueError(f"surrogate: alpha in {text!r} is not a number; expected e.g. '{name}(5.0)'") from None


def _nearest(name: object) -> str:
    close = difflib.get_close_matches(str(name).lower(), _FORMULAS, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{guess} known names: {', '.join(_FORMULAS)}"
