"""What a cochlea hears of a recording: its level, its ramps, and the pieces in which sound without an end is taken."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from temporal.kernels.cochlea import TILE, Ear, Heard, blocks, keys

__all__ = ["CochleaState", "Piece", "Shape", "advance", "begin", "flat", "frames_of"]

_LEVEL = 0.3  # root mean square of a recording
_STEPS = 2048  # of a piece for gammatone filters: what is in flight at once


class CochleaState(NamedTuple):
    """What a stream of sound carries from one chunk to the next."""

    samples: Tensor  # [..., k], float32: as they came; those that steps to come need
    origin: int  # the place of samples[..., 0] in the recording
    step: int  # the next to be given
    cells: Tensor  # [recordings, rows, channels]
    heard: Heard  # what the noise to come depends on

    @property
    def read(self) -> int:
        """How many samples have come."""
        return self.origin + self.samples.shape[-1]


class Piece(NamedTuple):
    """Input of a kernel: samples [recordings, size], keys of the tiles, the first step and how many there are."""

    samples: Tensor
    keys: Tensor
    first: int
    steps: int


class Shape(NamedTuple):
    """Level and ramps. ``gain`` None: that which makes the root mean square 0.3. ``ramp``, in samples; None: half of all."""

    gain: float | Tensor | None
    ramp: int | None

    def of(self, wave: Tensor) -> "Shape":
        """The same with numbers for whole recordings [..., samples]."""
        gain, ramp = self.gain, self.ramp
        if gain is None:
            level = wave.double().square().mean(-1, keepdim=True).sqrt()
            gain = torch.where(level > 0, _LEVEL / level, 0.0).to(wave.dtype)
        return Shape(gain, wave.shape[-1] // 2 if ramp is None else ramp)

    def part(self, samples: Tensor, first: int, total: int | None) -> Tensor:
        """Samples from the place ``first`` on, of ``total`` in all (None: the end is not in sight), scaled and faded."""
        ramp = self.ramp or 0
        place = torch.arange(first, first + samples.shape[-1], device=samples.device)
        weight = _rise(place, ramp)
        if total is not None:
            weight = weight * _rise(total - 1 - place, ramp)
        return samples * (1.0 if self.gain is None else self.gain) * weight.to(samples.dtype)


def _rise(place: Tensor, ramp: int) -> Tensor:
    """The first half of a Hann window of 2 ``ramp`` points, 0 and 1 at its ends, then 1."""
    if ramp < 1:
        return torch.ones_like(place, dtype=torch.float64)
    angle = torch.pi / (2 * ramp - 1) * place.clamp(0, ramp).double()
    return torch.where(place < ramp, torch.sin(angle).square(), 1.0)


def frames_of(samples: Any) -> Any:
    """Steps that so many samples give: one for every second sample, and one more; none for none."""
    if isinstance(samples, Tensor):
        return torch.where(samples > 0, samples // 2 + 1, 0)
    return samples // 2 + 1 if samples else 0


def flat(wave: Tensor) -> Tensor:
    """[..., samples] -> [recordings, samples], also of no samples."""
    return wave.reshape(wave.shape[:-1].numel(), wave.shape[-1])


def begin(wave: Tensor, cells: Tensor) -> CochleaState:
    """Before the first sample of recordings like these."""
    rows = wave.shape[:-1].numel()
    return CochleaState(wave[..., :0], 0, 0, cells, Heard(torch.zeros(rows, dtype=torch.int64, device=wave.device), 0))


def advance(
    ear: Ear, state: CochleaState, shape: Shape, seed: int, total: int | None
) -> tuple[Piece | None, CochleaState]:
    """The next piece that is complete, if there is one, and the state after it (but for its cells).

    ``total`` is the number of samples of the recording, once it has ended.
    """
    count = _count(ear, state, shape.ramp or 0, total)
    if count < 1:
        return None, state
    first, span = state.step, count
    if ear.membrane == "gammatone":
        place, width, size, behind = 2 * first - 1, 2 * count, 2 * count, 1
    else:
        cut = blocks(ear.sample_rate)
        place, width, size, behind = 2 * first - cut.behind, cut.behind + cut.block + cut.ahead, cut.size, cut.behind
        span = cut.steps  # also where the recording ends before
    noise, heard = _noise(state, first, first + span - 1, seed)
    samples = _window(state, shape, place, width, size, total)
    step = first + count
    # Steps to come look back; the noise needs the tile that was begun.
    needed = max(state.origin, min(2 * step - behind, heard.samples, state.read))
    kept = state.samples[..., needed - state.origin :]
    return Piece(samples, noise, first, count), CochleaState(kept, needed, step, state.cells, heard)


def _count(ear: Ear, state: CochleaState, ramp: int, total: int | None) -> int:
    """Steps of the next piece."""
    left = None if total is None else frames_of(total) - state.step
    if ear.membrane == "gammatone":
        ready = (max(0, state.read - ramp) + 1) // 2 - state.step if left is None else left
        return min(ready, _STEPS)
    cut = blocks(ear.sample_rate)
    if left is None:
        return cut.steps if state.read - ramp >= 2 * state.step + cut.block + cut.ahead else 0
    return min(left, cut.steps)


def _noise(state: CochleaState, first: int, last: int, seed: int) -> tuple[Tensor, Heard]:
    """Keys for the tiles of the steps first .. last, and what the next ones depend on."""
    known, until = state.heard.samples, 2 * TILE * (last // TILE)
    sound = flat(state.samples[..., known - state.origin : until - state.origin])
    noise, heard = keys(torch.nn.functional.pad(sound, (0, until - known - sound.shape[-1])), seed, state.heard)
    return noise[:, first // TILE - known // (2 * TILE) :].contiguous(), heard


def _window(state: CochleaState, shape: Shape, place: int, width: int, size: int, total: int | None) -> Tensor:
    """[recordings, size]: shaped samples from ``place`` on, ``width`` of them, with zeros around."""
    low, high = max(place, state.origin), min(place + width, state.read)
    held = state.samples[..., low - state.origin : max(low, high) - state.origin]
    shaped = flat(shape.part(held, low, total))
    return torch.nn.functional.pad(shaped, (low - place, size - (low - place) - shaped.shape[-1]))
