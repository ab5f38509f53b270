"""FFTs of friendly lengths for recordings of any length.

The converter gives k = n // 2 + 1 steps from an inverse FFT of k points, and k may be a prime: 16,000 samples give
8,001. So the same trigonometric polynomial is taken at ``size`` points, a product of twos, threes and fives at least
3/2 as many, and interpolated to the k steps by a Kaiser-Bessel window of 9 points, whose spectrum is divided out
beforehand: within 1e-6 of the peak (a non-uniform FFT; Greengard and Lee 2004, Fessler and Sutton 2003).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .linear import smooth

__all__ = ["Circle", "circle"]

_TAPS = 9
_OVERSAMPLING = 1.5


class Circle(NamedTuple):
    """How k steps are had from ``size`` points."""

    size: int
    scale: np.ndarray  # [k // 2 + 1], what the spectrum of k points is multiplied by
    base: np.ndarray  # [k], the first point that a step looks at, 0 .. 2 size
    weights: np.ndarray  # [k, taps], float32


@lru_cache(maxsize=8)
def circle(steps: int) -> Circle:
    """The plan for so many steps."""
    half = steps // 2 + 1
    if smooth(steps) == steps:
        return Circle(steps, np.ones(half), np.arange(steps), np.ones((steps, 1), np.float32))
    size = smooth(max(int(np.ceil(_OVERSAMPLING * steps)), 2 * _TAPS))
    beta = np.pi * _TAPS * (1 - steps / (2 * size))
    place = np.arange(steps) * (size / steps)
    base = np.ceil(place - _TAPS / 2).astype(np.int64)
    offset = place[:, None] - (base[:, None] + np.arange(_TAPS))
    weights = np.i0(beta * np.sqrt(np.maximum(0, 1 - (2 * offset / _TAPS) ** 2)))
    root = np.sqrt(beta**2 - (np.pi * _TAPS * np.arange(half) / size) ** 2)
    scale = root / (_TAPS * np.sinh(root)) * size / steps
    if steps % 2 == 0:
        # The Nyquist frequency of k points counts once; among more points it is one like any other, with its mirror.
        scale[-1] /= 2
    return Circle(size, scale, base + size, weights.astype(np.float32))
