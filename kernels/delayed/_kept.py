"""What a layer's input is kept as until the backward pass: counts, spikes among them, take a fourth of a float32."""

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .._compiled import announced
from .._memory import flat
from .._threads import share

__all__ = ["packed"]

_GRAIN = 1 << 18  # elements that pay for waking a thread
_SAMPLES = 256  # numbers that are looked at first: a layer of currents is known by them
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def packed(history: Tensor) -> Tensor:
    """As uint8 where all are whole numbers in 0 .. 255; the history itself where not. float32, on the CPU."""
    if not history.numel() or not history.is_contiguous():
        return history
    given = flat(history)
    few = given[:: max(1, len(given) // _SAMPLES)]
    if not ((few >= 0) & (few <= 255) & (few == np.floor(few))).all():
        return history
    kept = torch.empty(history.shape, dtype=torch.uint8)
    missed: list[bool] = []
    share(lambda first, stop: missed.append(_pack()(flat(kept), given, first, stop)), len(given), _GRAIN)
    return history if any(missed) else kept


@cache
def _pack():
    @numba.njit(**_options)
    def pack(kept, given, first, stop):
        """Whether one of first .. stop is no whole number in 0 .. 255."""
        missed = False
        for n in range(first, stop):
            x = given[n]
            within = x if (x >= 0) & (x <= np.float32(255)) else np.float32(0)  # NaN too: it has no whole number
            whole = np.int32(within)
            kept[n] = np.uint8(whole)
            missed |= np.float32(whole) != x
        return missed

    return announced(pack, "delayed synapses, what is kept")
