"""A spectrogram of one frame, as a step of a stream has it: torch's FFT, then one compiled call for the rest.

The blocks of ``cpu.py`` fill 16 lanes with frames, of which a step has one; here it takes half of the time.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .._compiled import announced, version
from .._float32 import log as ln

__all__ = ["single"]

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}


def single(wave: Tensor, window: Tensor, bank: Tensor, spans: Tensor, power: float, log: float | None) -> Tensor:
    """[..., n_fft or more] -> [..., bands, 1], for one signal: the frame at its beginning."""
    n_fft = window.shape[0]
    frame = wave if wave.shape[-1] == n_fft else wave[..., :n_fft]
    spectrum = torch.view_as_real(torch.fft.rfft((frame * window).reshape(-1)))
    out = torch.empty(bank.shape[0])
    offset = np.float32(0 if log is None else log)
    numbers = spectrum.detach().numpy(), bank.detach().numpy(), spans.numpy(), out.numpy()
    _kernel()(*numbers, power == 2, offset, log is not None)
    return out.view(*wave.shape[:-1], -1, 1)


@cache
def _kernel() -> Any:
    return announced(_make_single(version("temporal.kernels._float32")), "spectrograms, one frame")


def _make_single(version: int) -> Any:
    """``single`` behind the FFT; the version stands in the cache's key, since numba looks at this file only."""

    @numba.njit(**_options)
    def sums(spectrum, bank, spans, out, squared, offset, logged):  # pragma: no cover - compiled
        _ = version
        bins = spectrum.shape[0]
        powers = np.empty(bins, np.float32)
        for k in range(bins):
            powers[k] = spectrum[k, 0] * spectrum[k, 0] + spectrum[k, 1] * spectrum[k, 1]
        if not squared:
            for k in range(bins):
                powers[k] = np.sqrt(powers[k])
        for m in range(out.size):
            total = np.float32(0)
            for k in range(spans[m, 0], spans[m, 1]):
                total += bank[m, k] * powers[k]
            out[m] = ln(total + offset) if logged else total

    return sums
