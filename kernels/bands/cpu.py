"""Spectrograms and bands on the CPU: compiled by numba, in vectors over LANES frames, threaded over blocks of frames.

The FFT is written here, too: one over 16 frames side by side is all vectors, while a library's turns its data around
within each frame, and what comes out is already in the rows that the band sums want.

Float operations a frame at n_fft 2048: 61,000 of the FFT and the pairs of bins, 4,000 of powers and bands. Bytes: the
signal's hop in, the bands out; a block of 16 frames, 2 x 131 kB, stays in the second-level cache.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._compiled import announced, version
from .._memory import empty, flat, workspace
from .._threads import share
from . import _loops
from ._plan import plan
from ._vectors import LANES

__all__ = ["Shared", "bands", "bands_backward", "kernel", "shared_of", "spectrogram", "spectrogram_backward"]

_GRAIN = 1 << 15  # samples of frames that pay for waking a thread (about 10 microseconds)
_SMALL = 1 << 12  # elements
_NO_BANK, _NO_SPANS = np.zeros(0, np.float32), np.zeros(0, np.int32)


def spectrogram(
    wave: Tensor, window: Tensor, bank: Tensor | None, spans: Tensor | None, hop_length: int, left: int, right: int,
    power: float, log: float | None,
) -> Tensor:  # fmt: skip
    """``reference.spectrogram``."""
    items, samples, frames = _shape(wave, window, hop_length, left, right)
    shared = shared_of(window, bank, spans, power, log)
    out, elements = _result((*wave.shape[:-1], shared.rows, frames))
    if elements.size:
        arguments = (flat(wave), samples, hop_length, left, *shared.of_wave, frames, elements)
        _run(kernel("forward"), arguments, shared.work, items * -(-frames // LANES), shared.grain)
    return out


def spectrogram_backward(
    grad: Tensor, wave: Tensor, window: Tensor, bank: Tensor | None, spans: Tensor | None, hop_length: int, left: int,
    right: int, power: float, log: float | None,
) -> Tensor:  # fmt: skip
    """The gradient for the wave."""
    shared = shared_of(window, bank, spans, power, log)
    items, samples, frames = _shape(wave, window, hop_length, left, right)
    out = empty(wave.shape, torch.float32)
    if not frames or not shared.rows:
        return out.zero_()
    if out.numel():
        arguments = (flat(grad), flat(wave), samples, hop_length, left, *shared.of_wave, frames, flat(out))
        size = 96 * shared.bins + 2 * LANES * shared.rows + LANES
        grain = -(-shared.grain * LANES // frames)
        _run(kernel("backward"), arguments, size, items, grain)
    return out


def bands(spectra: Tensor, bank: Tensor | None, spans: Tensor | None, power: float, log: float | None) -> Tensor:
    """``reference.bands``, or ``magnitude`` without a bank."""
    *leading, frames, bins = spectra.shape
    rows = bins if bank is None else bank.shape[0]
    out = empty((*leading, rows, frames), torch.float32)
    if out.numel():
        arguments = (
            flat(torch.view_as_real(spectra)),
            bins,
            *_sums(bank, spans, rows, power, log),
            frames,
            flat(out),
        )
        blocks = out.numel() // (rows * frames) * -(-frames // LANES)
        size = 64 * bins + LANES * rows + LANES
        _run(kernel("from_spectra"), arguments, size, blocks, max(1, _GRAIN // (LANES * bins)))
    return out


def bands_backward(
    grad: Tensor, spectra: Tensor, bank: Tensor | None, spans: Tensor | None, power: float, log: float | None
) -> Tensor:
    """The gradient for the spectra."""
    *_, frames, bins = spectra.shape
    rows = bins if bank is None else bank.shape[0]
    out = empty((*spectra.shape, 2), torch.float32)
    if not rows:
        out.zero_()
    elif out.numel():
        arguments = (
            flat(grad), flat(torch.view_as_real(spectra)), bins, *_sums(bank, spans, rows, power, log), frames, flat(out)
        )  # fmt: skip
        blocks = spectra.numel() // (bins * frames) * -(-frames // LANES)
        size = 80 * bins + 2 * LANES * rows + LANES
        _run(kernel("from_spectra_backward"), arguments, size, blocks, max(1, _GRAIN // (LANES * bins)))
    return torch.view_as_complex(out)


class Shared(NamedTuple):
    """What does not change from call to call."""

    of_wave: tuple[Any, ...]  # the kernels' arguments from the window to the logarithm
    rows: int
    bins: int
    grain: int  # blocks that pay for waking a thread
    work: int  # float32 to work in


_known: dict[Any, Shared] = {}
_MOST_KNOWN = 64


def shared_of(window: Tensor, bank: Tensor | None, spans: Tensor | None, power: float, log: float | None) -> Shared:
    """Kept from call to call, by where the constants lie: a step of a stream takes a few microseconds.

    The arrays are views that see what is written into the tensors, and hold their memory: nothing else can lie there.
    """
    place = (
        window.data_ptr(), window.shape, window.stride(),
        *(() if bank is None else (bank.data_ptr(), bank.shape, bank.stride())),
        *(() if spans is None else (spans.data_ptr(), spans.shape, spans.stride())),
        power, log,
    )  # fmt: skip
    shared = _known.get(place)
    if shared is None:
        bins = window.shape[0] // 2 + 1
        rows = bins if bank is None else bank.shape[0]
        of_wave = (flat(window), *(plan(window.shape[0]) or ()), *_sums(bank, spans, rows, power, log))
        work = 64 * bins + LANES * rows + LANES
        shared = Shared(of_wave, rows, bins, max(1, _GRAIN // (LANES * window.shape[0])), work)
        if all(tensor is None or tensor.is_contiguous() for tensor in (window, bank, spans)):
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[place] = shared
    return shared


def _run(run: Callable, arguments: tuple, size: int, count: int, grain: int) -> None:
    if count == 1:  # a step of a stream
        with workspace(size) as (work,):
            run(*arguments, work, 0, 1)
        return

    def task(first: int, stop: int) -> None:
        with workspace(size) as (work,):
            run(*arguments, work, first, stop)

    share(task, count, grain)


def _sums(bank: Tensor | None, spans: Tensor | None, rows: int, power: float, log: float | None) -> tuple[Any, ...]:
    if bank is None:
        of_bank = (_NO_BANK, _NO_SPANS)
    elif spans is None:
        of_bank = (flat(bank), np.tile(np.array([0, bank.shape[1]], np.int32), rows))
    else:
        of_bank = (flat(bank), flat(spans))
    return *of_bank, rows, int(power), np.float32(0 if log is None else log), log is not None


def _shape(wave: Tensor, window: Tensor, hop_length: int, left: int, right: int) -> tuple[int, int, int]:
    """Signals, samples and frames of each; frames alone decide which samples are seen."""
    samples = wave.shape[-1]
    frames = max(0, 1 + (left + samples + right - window.shape[0]) // hop_length)
    return wave.shape[:-1].numel(), samples, frames


@cache
def kernel(name: str) -> Callable:
    number = version("temporal.kernels.bands._vectors", "temporal.kernels.bands._lone", "temporal.kernels._float32")
    return announced(getattr(_loops, f"make_{name}")(number), f"spectrograms, {name.replace('_', ' ')}")


def _result(shape: tuple[int, ...]) -> tuple[Tensor, np.ndarray]:
    """A tensor and its elements; a small one begins as an array, which takes a step of a stream less time."""
    size = math.prod(shape)
    if size > _SMALL:
        out = empty(shape, torch.float32)
        return out, flat(out)
    elements = np.empty(size, np.float32)
    return torch.from_numpy(elements).view(shape), elements
