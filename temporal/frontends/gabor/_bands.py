"""The bands of a non-stationary Gabor frame: where they lie, and their windows on a spectrum of so many samples."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .._framing import Count

__all__ = ["Bands", "Tables", "bucket", "slice_window", "tables"]

_LARGEST_CACHED = 1 << 22  # samples: the tables of longer signals (some 130 MB from there on) are built for each call


@dataclass(frozen=True)
class Bands:
    """Bands that overlap with their neighbours only: each begins at the centre below and ends at the centre above.

    Centres: 0 Hz, then a geometric row from fmin to fmax, then an even row to the Nyquist frequency.
    """

    sample_rate: float
    fmin: float
    fmax: float  # the highest band with constant Q lies at or below
    bins_per_octave: int
    window: str  # "hann" or "cosine"

    @functools.cached_property
    def centres(self) -> np.ndarray:
        """In Hz, from 0 to the Nyquist frequency, both included."""
        nyquist, ratio = self.sample_rate / 2, 2 ** (1 / self.bins_per_octave)
        top = min(self.fmax, nyquist / math.sqrt(ratio))  # leaves the last band at least half a step to Nyquist
        count = 1 + math.floor(self.bins_per_octave * math.log2(top / self.fmin) + 1e-9)
        row = self.fmin * 2 ** (np.arange(count) / self.bins_per_octave)
        rest = max(1, round((nyquist - row[-1]) / (row[-1] * (ratio - 1))))  # as wide as the last step upwards
        return np.concatenate(([0.0], row, np.linspace(row[-1], nyquist, rest + 1)[1:]))

    @functools.cached_property
    def groups(self) -> list[slice]:
        """The bands that share a rate in the layout "octaves": 0 Hz, the octaves from the lowest, the even rest."""
        octave = np.floor(np.log2(self.centres[1:] / self.fmin) + 1e-9).astype(int)
        edges = [0, 1, *(1 + np.flatnonzero(np.diff(octave)) + 1), len(self.centres)]
        return [slice(int(first), int(stop)) for first, stop in pairwise(edges)]

    @property
    def widest(self) -> float:
        """The width in Hz of the widest band, from edge to edge."""
        padded = np.concatenate(([0.0], self.centres, [self.sample_rate / 2]))
        return float((padded[2:] - padded[:-2]).max())

    def slopes(self, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each frequency: the band below it, that band's window, and the window of the next band above."""
        below = np.clip(np.searchsorted(self.centres, frequencies, side="right") - 1, 0, len(self.centres) - 2)
        # The band at 0 Hz is flat up to one step below fmin.
        left = np.maximum(self.centres, self.fmin * 2 ** (-1 / self.bins_per_octave))
        step = np.log(left[below + 1] / left[below])
        angle = np.pi / 2 * np.clip(np.log(np.maximum(frequencies, left[below]) / left[below]) / step, 0, 1)
        power = 2 if self.window == "hann" else 1
        return below, np.cos(angle) ** power, np.sin(angle) ** power


class Tables(NamedTuple):
    """How a spectrum of `samples` samples becomes coefficients: two runs of bins (bands of even and of odd number).

    A run needs no gathering, because every second band never overlaps. `place` says where each bin lies among the
    coefficients' spectra, all bands' one after the other, at the bin's number modulo the band's frames.
    """

    samples: int
    runs: tuple[tuple[int, int], ...]  # two: first and last-but-one bin of the run
    shapes: tuple[tuple[int, int], ...]  # (bands, frames) of each group
    place: Any  # [bins of both runs]
    analysis: Any  # [bins of both runs], real
    synthesis: Any  # [bins of both runs], real


def bucket(count: Count) -> Count:
    """The next number m * 2^e with m of at most 16: few different sizes, each quick to transform, 12 % larger at most."""
    if isinstance(count, Tensor):
        bits = torch.frexp((count - 1).clamp_min(0).double()).exponent.long()
        step = torch.ones_like(count) << (bits - 4).clamp_min(0)
        return torch.div(count + step - 1, step, rounding_mode="floor") * step
    step = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // step) * step


def _constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled graphs hold what it returns: the mark of torch.compiler.assume_constant_result, which loads the compiler."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def tables(bands: Bands, samples: int, frames: int | None, dtype: torch.dtype, device: torch.device) -> Tables:
    """The tables for `samples` samples: all bands with so many `frames`, or with the octaves' own; the last are kept."""
    make = _tables if samples <= _LARGEST_CACHED else _tables.__wrapped__
    return make(bands, samples, frames, dtype, device)


@_constant
def slice_window(length: int, transition: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[length // 2 + transition]: rises, stays at 1, falls; windows that hop by length // 2 add up to 1."""
    return _slice_window(length, transition, dtype, device)


@functools.lru_cache(maxsize=8)
def _tables(bands: Bands, samples: int, frames: int | None, dtype: torch.dtype, device: torch.device) -> Tables:
    exact = build_tables(bands, samples, frames)
    return exact._replace(
        place=_kept(exact.place, torch.int64, device),
        analysis=_kept(exact.analysis, dtype, device),
        synthesis=_kept(exact.synthesis, dtype, device),
    )


@functools.lru_cache(maxsize=8)
def _slice_window(length: int, transition: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    rise = np.sin(np.pi / 2 * (np.arange(transition) + 0.5) / transition) ** 2
    return _kept(np.concatenate((rise, np.ones(length // 2 - transition), rise[::-1])), dtype, device)


def _kept(values: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that outlives the call: no fake one of an export, nor one that inference mode keeps out of later graphs."""
    with _disable_current_modes(), torch.inference_mode(False):
        return torch.from_numpy(values).to(device, dtype)


def build_tables(bands: Bands, samples: int, frames: int | None) -> Tables:
    """The tables as numpy arrays in float64.

    The frame is painless: no band has more bins than frames, so the frame operator is a diagonal over the bins,
    sum_k M_k w_k^2, and the dual windows are the windows divided by it.
    """
    bins = np.arange(samples // 2 + 1)
    frequencies = bins * (bands.sample_rate / samples)
    below, falling, rising = bands.slopes(frequencies)
    # A real signal's spectrum counts twice, except at 0 and Nyquist: a sinusoid of amplitude 1 gives a magnitude of 1.
    gain = np.full(len(bins), 2.0 / samples)
    gain[0] /= 2
    if samples % 2 == 0:
        gain[-1] /= 2
    energy = (falling**2 + rising**2) * gain
    flat = int(np.searchsorted(frequencies, bands.fmin * 2 ** (-1 / bands.bins_per_octave)))
    last = len(bins) - (samples % 2 == 0)  # Nyquist itself belongs to the last band alone
    band = [below + (below % 2 != parity) for parity in (0, 1)]
    weight = [np.where(below % 2 == parity, falling, rising) for parity in (0, 1)]
    top = (len(bands.centres) - 1) % 2
    runs = tuple((flat if parity == 1 else 0, len(bins) if parity == top else last) for parity in (0, 1))
    runs = tuple((min(first, stop), stop) for first, stop in runs)
    number = np.concatenate([band[p][first:stop] for p, (first, stop) in enumerate(runs)])
    window = np.concatenate([weight[p][first:stop] for p, (first, stop) in enumerate(runs)])
    bin_ = np.concatenate([bins[first:stop] for first, stop in runs])
    shapes, offset, size = _arrange(bands, np.bincount(number, minlength=len(bands.centres)), frames)
    return Tables(
        samples,
        runs,
        shapes,
        offset[number] + bin_ % size[number],
        window * gain[bin_],
        window / (energy[bin_] * size[number]),
    )


def _arrange(
    bands: Bands, widths: np.ndarray, frames: int | None
) -> tuple[tuple[tuple[int, int], ...], np.ndarray, np.ndarray]:
    """The groups' shapes, and of each band the place of its first frame and its number of frames."""
    groups = bands.groups if frames is None else [slice(0, len(widths))]
    shapes, offset, size, total = [], np.empty_like(widths), np.empty_like(widths), 0
    for group in groups:
        count = group.stop - group.start
        length = frames or int(bucket(max(1, int(widths[group].max()))))
        offset[group] = total + length * np.arange(count)
        size[group] = length
        shapes.append((count, length))
        total += count * length
    return tuple(shapes), offset, size
