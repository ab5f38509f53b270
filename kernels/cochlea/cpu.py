"""From sound to spikes on the CPU: compiled by numba, vectorised over channels, threaded over blocks of them.

The same functions and results as ``reference.py``, on float32. A block of ``LANES`` channels is taken through all
steps at once: its spectra, their inverse FFT (NumPy's, a row at a time, so that no bit depends on the rows beside it),
then the cells, tile by tile. A result does not depend on the number of threads or recordings.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._compiled import version
from .._memory import empty, workspace
from .._threads import share
from . import _loops
from ._circle import Circle, circle
from ._loops import LANES, MEMBRANE, PROBABILITY, SPIKES, WORK_ROWS
from .ear import Ear
from .linear import blocks, linear_response
from .noise import TILE
from .reference import RING, STAGES, start

__all__ = ["circular", "gammatone", "linear"]

_OUTPUTS = {"membrane": MEMBRANE, "probability": PROBABILITY, "spikes": SPIKES, "events": SPIKES}
_KEPT = 1 << 24  # floats: a larger desk, for a recording of many seconds, is not kept
_FFT_WRITES = np.lib.NumpyVersion(np.__version__) >= "2.0.0"  # into an array of the caller's, in float32
_NOTHING = np.zeros(0, np.float32)
_NO_PLACES = np.zeros(0, np.int64)


def circular(ear: Ear, wave: Tensor, keys: Tensor, output: str) -> Any:
    """``reference.circular``."""
    samples = wave.shape[1]
    steps = samples // 2 + 1
    plan, table, response = circle(steps), _sampled(ear, samples), _response()
    spectra = [
        _spectra(np.fft.rfft(sound), plan.scale / 2, steps, periodic=True) for sound in wave.numpy().astype(float)
    ]
    result = _Result.empty(ear, len(wave), steps, output)
    rest = start(ear, 1, wave)

    def task(first: int, stop: int) -> None:
        with _desk(ear, steps, plan, steps + 1) as desk:
            for channel in range(first * LANES, min(stop * LANES, ear.channels), LANES):
                lanes = min(LANES, ear.channels - channel)
                response(*table, steps, desk.real, desk.imaginary, ear.channels, channel, channel + lanes)
                for recording, spectrum in enumerate(spectra):
                    _move(desk, desk.real, desk.imaginary, 0, spectrum, table[-1][channel:], steps, plan.size, lanes)
                    _listen(ear, desk, desk.membranes, plan, rest[0], keys[recording], 0, channel, result, recording)

    share(task, -(-ear.channels // LANES), 1)
    return result.given()


def linear(ear: Ear, samples: Tensor, keys: Tensor, state: Tensor, first: int, output: str) -> tuple[Any, Tensor]:
    """``reference.linear``."""
    cut = blocks(ear.sample_rate)
    size = cut.size // 2  # two samples a step
    real, imaginary = (part.reshape(-1) for part in linear_response(ear))
    plan, ends = _straight(cut.behind // 2, cut.steps, size), _ends(ear)
    scale = np.full(size // 2 + 1, 0.5)
    spectra = [_spectra(np.fft.rfft(sound), scale, size, periodic=False) for sound in samples.numpy().astype(float)]
    result, after = _Result.empty(ear, len(samples), cut.steps, output, first), state.clone()

    def task(number: int, recording: int) -> None:
        channel = number * LANES
        lanes = min(LANES, ear.channels - channel)
        with _desk(ear, cut.steps, plan) as desk:
            _move(desk, real, imaginary, channel, spectra[recording], ends, size, size, lanes)
            _listen(
                ear, desk, desk.membranes, plan, after[recording], keys[recording], first, channel, result, recording
            )
            _keep(ear, desk, after[recording], channel)

    _share(task, ear, len(samples))
    return result.given(), after


def gammatone(ear: Ear, samples: Tensor, keys: Tensor, state: Tensor, first: int, output: str) -> tuple[Any, Tensor]:
    """``reference.gammatone``."""
    result, after = _Result.empty(ear, len(samples), samples.shape[1] // 2, output, first), state.clone()
    sound = samples.contiguous().numpy()

    def task(number: int, recording: int) -> None:
        channel = number * LANES
        with _desk(ear, samples.shape[1] // 2, None) as desk:
            _listen(
                ear, desk, sound[recording], None, after[recording], keys[recording], first, channel, result, recording
            )
            _keep(ear, desk, after[recording], channel)

    _share(task, ear, len(samples))
    return result.given(), after


class _Desk(NamedTuple):
    """What a thread works with, each flat: one desk a block, in memory that was used before."""

    cells: np.ndarray  # [WORK_ROWS + ring, LANES]
    stages: np.ndarray  # [13, LANES]: of gammatone filters
    tile: np.ndarray  # [TILE, LANES]
    points: np.ndarray  # [points, LANES]: what a tile's steps look at
    folded: np.ndarray  # [LANES, size // 2 + 1] pairs: spectra
    membranes: np.ndarray  # [LANES, size]
    real: np.ndarray  # [LANES, bins + 1]: V at a recording's frequencies
    imaginary: np.ndarray


@contextmanager
def _desk(ear: Ear, steps: int, plan: Circle | None, bins: int = 0) -> Iterator[_Desk]:
    size = 0 if plan is None else plan.size
    points = 0 if plan is None else TILE * max(1, -(-size // steps)) + plan.weights.shape[1] + 4
    sizes = (
        (WORK_ROWS + ear.refractory) * LANES, (3 * STAGES + 1) * LANES, TILE * LANES, points * LANES,
        2 * LANES * (size // 2 + 1), LANES * size, LANES * bins, LANES * bins,
    )  # fmt: skip
    if sum(sizes) > _KEPT:
        yield _Desk(*(np.empty(size, np.float32) for size in sizes))
        return
    with workspace(*sizes) as arrays:
        yield _Desk(*arrays)


class _Result:
    """What is given out, filled by blocks of channels in any order."""

    def __init__(self, output: str, shape: tuple[int, int, int], first: int, dense: Tensor | None):
        self.output, self.shape, self.first, self.dense = output, shape, first, dense
        self.spikes: list[dict[int, tuple[np.ndarray, np.ndarray]]] = [{} for _ in range(shape[0])]  # by first channel

    @classmethod
    def empty(cls, ear: Ear, recordings: int, steps: int, output: str, first: int = 0) -> "_Result":
        shape = (recordings, ear.channels, steps)
        return cls(output, shape, first, empty(shape, torch.float32) if _OUTPUTS[output] != SPIKES else None)

    def given(self) -> Any:
        """A dense tensor, or sorted events [(steps, channels)] a recording."""
        if self.dense is not None:
            return self.dense
        events = [self._sorted(found) for found in self.spikes]
        if self.output == "events":
            return [tuple(map(torch.from_numpy, event)) for event in events]
        dense = torch.zeros(self.shape)
        for recording, (steps, channels) in zip(dense.numpy(), events, strict=True):
            recording[channels, steps - self.first] = 1
        return dense

    @staticmethod
    def _sorted(found: dict[int, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        steps, channels = (np.concatenate([found[first][part] for first in sorted(found)]) for part in (0, 1))
        order = np.argsort(steps, kind="stable")  # channels rise from block to block
        return steps[order], channels[order]


def _listen(
    ear: Ear, desk: _Desk, samples: np.ndarray, plan: Circle | None, state: Tensor, keys: Tensor, first: int, channel: int,
    result: _Result, recording: int,
) -> None:  # fmt: skip
    """Take a block of channels of one recording through its steps, by a plan from membranes, or from the sound itself."""
    steps, silence, output = result.shape[2], ear.refractory, _OUTPUTS[result.output]
    lanes = min(LANES, ear.channels - channel)
    _fill(ear, desk, state, channel)
    taps, size = (0, 0) if plan is None else (plan.weights.shape[1], plan.size)
    base, weights = (_NO_PLACES, _NOTHING) if plan is None else (plan.base, plan.weights.reshape(-1))
    capacity = lanes * (steps // silence + 2) if output == SPIKES else 0
    when, where = np.empty(capacity, np.int32), np.empty(capacity, np.int16)
    out = _NOTHING if result.dense is None else result.dense.numpy().reshape(-1)
    noise = keys.numpy().view(np.uint64)
    count = _loops.hear(
        samples, size, base, weights, taps, desk.points, desk.stages, steps, first, noise, TILE, channel,
        lanes, silence, _numbers(ear), output, desk.cells, desk.tile, out, (recording * ear.channels + channel) * steps,
        steps, when, where,
    )  # fmt: skip
    if output == SPIKES:
        result.spikes[recording][channel] = when[:count].copy(), where[:count].copy()


def _fill(ear: Ear, desk: _Desk, state: Tensor, channel: int) -> None:
    """A block's part of the state into the desk; 0 in lanes beyond the last channel."""
    desk.cells[:], desk.stages[:] = 0, 0
    own, ring = state.numpy()[:, channel : channel + LANES], RING + ear.refractory
    cells = desk.cells.reshape(-1, LANES)[:, : own.shape[1]]
    cells[:RING], cells[WORK_ROWS:] = own[:RING], own[RING:ring]
    if ear.membrane == "gammatone":
        pole, gain = (part[channel : channel + LANES] for part in ear.gammatone)
        stages = desk.stages.reshape(-1, LANES)[:, : own.shape[1]]
        stages[: 2 * STAGES] = own[ring:]
        stages[2 * STAGES :] = pole.real, pole.imag, (pole**2).real, (pole**2).imag, gain


def _keep(ear: Ear, desk: _Desk, state: Tensor, channel: int) -> None:
    """The reverse of ``_fill``."""
    own, ring = state.numpy()[:, channel : channel + LANES], RING + ear.refractory
    cells = desk.cells.reshape(-1, LANES)[:, : own.shape[1]]
    own[:RING], own[RING:ring] = cells[:RING], cells[WORK_ROWS:]
    if ear.membrane == "gammatone":
        own[ring:] = desk.stages.reshape(-1, LANES)[: 2 * STAGES, : own.shape[1]]


def _move(
    desk: _Desk, real: np.ndarray, imaginary: np.ndarray, first: int, spectrum: np.ndarray, ends: np.ndarray, steps: int,
    size: int, lanes: int,
) -> None:  # fmt: skip
    """The membranes' velocities, from responses and a sound's spectrum."""
    _loops.fold(real, imaginary, first, spectrum, ends, steps, desk.folded, size, lanes)
    folded, membranes = desk.folded.view(np.complex64).reshape(LANES, -1), desk.membranes.reshape(LANES, size)
    if _FFT_WRITES:
        np.fft.irfft(folded, n=size, out=membranes)
    else:
        membranes[:] = np.fft.irfft(folded, n=size)


def _spectra(spectrum: np.ndarray, scale: np.ndarray, steps: int, *, periodic: bool) -> np.ndarray:
    """What ``fold`` reads, flat: X[j] and X[steps - j] for j up to steps // 2; where it is periodic, X[steps] is X[0]."""
    half = steps // 2 + 1
    back = np.concatenate((spectrum, spectrum[:1])) if periodic else spectrum
    near, far = spectrum[:half] * scale, back[steps : steps - half : -1] * scale
    return np.concatenate((near.real, near.imag, far.real, far.imag)).astype(np.float32)


@cache
def _response() -> Callable:
    return _loops.make_response(version("temporal.kernels._float32"))


@lru_cache(maxsize=8)
def _straight(first: int, steps: int, size: int) -> Circle:
    """Steps that are points, from ``first`` of ``size`` on."""
    return Circle(size, np.ones(0), first + np.arange(steps), np.ones((steps, 1), np.float32))


@lru_cache(maxsize=4)
def _ends(ear: Ear) -> np.ndarray:
    """The bins up to which there is anything in the spectra of ``linear_response``."""
    there = np.abs(linear_response(ear)).max(0) > 0
    return there.shape[1] - there[:, ::-1].argmax(1)


@lru_cache(maxsize=8)
def _flat_table(ear: Ear) -> tuple[np.ndarray, np.ndarray]:
    table = ear.transfer
    return table.amplitude.astype(np.float32).reshape(-1), table.phase.astype(np.float32).reshape(-1)


def _sampled(ear: Ear, samples: int) -> tuple[np.ndarray, ...]:
    """The table and how the frequencies of a recording of so many samples lie in it: the first arguments of ``response``."""
    table, frequencies = ear.transfer, ear.frequencies(samples)
    starts = np.searchsorted(frequencies, table.edges)
    starts[0], starts[-1] = 0, frequencies.size
    step = (frequencies[-1] - frequencies[0]) / (frequencies.size - 1)
    at = frequencies[np.minimum(starts[:-1], frequencies.size - 1)]
    width = np.diff(table.edges)
    origins = (2 * at - table.edges[:-1] - table.edges[1:]) / width
    ends = np.searchsorted(frequencies, table.end)
    slopes = 2 * step / width
    return *_flat_table(ear), origins.astype(np.float32), slopes.astype(np.float32), starts, ends


@lru_cache(maxsize=8)
def _numbers(ear: Ear) -> np.ndarray:
    return np.array(ear.numbers, np.float32)


def _share(task: Callable[[int, int], None], ear: Ear, recordings: int) -> None:
    """Let threads take blocks of channels, of all recordings."""
    number = -(-ear.channels // LANES)

    def part(first: int, stop: int) -> None:
        for item in range(first, stop):
            task(item % number, item // number)

    share(part, number * recordings, 1)
