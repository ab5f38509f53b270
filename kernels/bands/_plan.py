"""How a real FFT of some length is taken: its radices and the numbers that turn its rows."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["Plan", "plan"]


class Plan(NamedTuple):
    """A complex FFT of n_fft / 2 points, then each pair of bins k and n_fft / 2 - k.

    radices: of the passes, first to last. twiddles: for pass and p = 0, 1, .. the powers w^1, w^2, .. of
    w = exp(-2 pi i p / n), n what is left of the length. table: exp(-2 pi i k / n_fft) for k up to n_fft / 4.
    Both hold pairs of real and imaginary part.
    """

    radices: np.ndarray
    twiddles: np.ndarray
    table: np.ndarray


@lru_cache(maxsize=32)
def plan(n_fft: int) -> Plan | None:
    """The plan of a length, or None unless it is even and a product of 2, 3 and 5."""
    half = n_fft // 2
    radices = []
    rest = half
    for radix in (4, 2, 3, 5):
        while rest % radix == 0 and rest > 0:
            radices.append(radix)
            rest //= radix
    if n_fft < 2 or n_fft % 2 or rest != 1:
        return None
    turns = [np.zeros(0, complex)]
    length = half
    for radix in radices:
        place = np.arange(length // radix)[:, None] * np.arange(1, radix)
        turns.append(np.exp(-2j * np.pi * place / length).reshape(-1))
        length //= radix
    table = np.exp(-2j * np.pi * np.arange(half // 2 + 1) / n_fft)
    return Plan(np.array(radices, np.int64), _pairs(np.concatenate(turns)), _pairs(table))


def _pairs(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.complex128).view(np.float64).astype(np.float32)
