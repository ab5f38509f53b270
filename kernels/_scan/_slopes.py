"""The slopes of ``surrogates.py`` for compiled loops: each a function of alpha and u, the distance from the threshold."""

import math

import numpy as np
from numba.extending import register_jitable

from .._float32 import exp

__all__ = ["SLOPES"]

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_HALF_PI, _SQRT_PI = np.float32(math.pi / 2), np.float32(math.sqrt(math.pi))
# multi_gaussian, in units of its width: heights of the middle and the two side densities, and the sides' sharpness
_MIDDLE, _SIDE = np.float32(1.15 / math.sqrt(2 * math.pi)), np.float32(0.15 / 6 / math.sqrt(2 * math.pi))
_SIDE_SHARPNESS = np.float32(0.5 / 36)


@register_jitable
def _sigmoid(a, u):
    e = exp(-a * abs(u))
    return a * e / ((_ONE + e) * (_ONE + e))


@register_jitable
def _atan(a, u):
    y = _HALF_PI * a * u
    return _HALF * a / (_ONE + y * y)


@register_jitable
def _triangle(a, u):
    y = a - a * a * abs(u)
    return _ZERO if y < _ZERO else y


@register_jitable
def _superspike(a, u):
    y = _ONE + abs(u)
    return a / (y * y)


@register_jitable
def _fast_sigmoid(a, u):
    y = _ONE + a * abs(u)
    return _ONE / (y * y)


@register_jitable
def _softsign(a, u):
    y = _ONE + a * abs(u)
    return _HALF * a / (y * y)


@register_jitable
def _exponential(a, u):
    return _HALF * a * exp(-a * abs(u))


@register_jitable
def _erf(a, u):
    y = a * u
    return a / _SQRT_PI * exp(-y * y)


@register_jitable
def _boxcar(a, u):
    return a if abs(u) < _HALF / a else _ZERO


@register_jitable
def _multi_gaussian(a, u):
    y = a * u
    left, right = y + _ONE, y - _ONE
    sides = exp(-_SIDE_SHARPNESS * left * left) + exp(-_SIDE_SHARPNESS * right * right)
    return a * (_MIDDLE * exp(-_HALF * y * y) - _SIDE * sides)


SLOPES = {
    "sigmoid": _sigmoid,
    "atan": _atan,
    "triangle": _triangle,
    "superspike": _superspike,
    "fast_sigmoid": _fast_sigmoid,
    "softsign": _softsign,
    "exponential": _exponential,
    "erf": _erf,
    "boxcar": _boxcar,
    "multi_gaussian": _multi_gaussian,
}
