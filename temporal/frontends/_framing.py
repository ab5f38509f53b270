"""How a signal is cut into overlapping windows: whole, or chunk by chunk with the same windows."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ._arguments import choice

__all__ = ["Count", "Framing", "FramingState", "check_continues", "check_count", "in_a_row", "take", "windows"]

Count = TypeVar("Count", int, Tensor)  # of samples or frames: a number gives a number, a tensor a tensor


class FramingState(NamedTuple):
    """What a stream of windows carries from one chunk to the next."""

    samples: Tensor  # [..., k]: the padded signal's end, as much of it as later windows need
    start: int  # where the next window begins, from samples[..., 0] on; beyond the end if windows leave gaps
    read: int  # samples of the signal so far, padding not counted


@dataclass(frozen=True)
class Framing:
    """Window t covers the samples from `t * hop_length - n_fft // 2` on (from `t * hop_length` with `center=False`)."""

    owner: str  # the class that errors name
    n_fft: int
    hop_length: int
    center: bool
    pad_mode: str

    def __post_init__(self) -> None:
        choice(self.owner, "pad_mode", self.pad_mode, ("constant", "reflect"))

    @property
    def pad(self) -> int:
        """Samples of padding on each side."""
        return self.n_fft // 2 if self.center else 0

    @property
    def latency(self) -> int:
        """Window t is complete when `t * hop_length + latency` samples have been read."""
        return self.n_fft - self.pad

    def count(self, samples: Count) -> Count:
        """The number of windows in a signal of so many samples."""
        samples = check_count(self.owner, samples)
        # One window more than there are hops after the first; a signal too short for one window counts as -1 hops.
        spare = self.n_fft - 2 * self.pad
        if isinstance(samples, Tensor):
            return 1 + torch.div(samples - spare, self.hop_length, rounding_mode="floor").clamp_min(-1)
        return 1 + max(-1, (samples - spare) // self.hop_length)

    def whole(self, wave: Tensor) -> tuple[Tensor, int, int]:
        """The stretch of signal that the windows are cut from, and the zeros that continue it to the left and right."""
        self._check_length(wave.shape[-1])
        if self._reflects:
            # Not torch's reflect padding: on CUDA its backward pass adds in an order that changes from run to run.
            return torch.cat((self._reflect_left(wave), wave, self._reflect_right(wave)), -1), 0, 0
        return wave, self.pad, self.pad

    def stream(self, chunk: Tensor, state: FramingState | None) -> tuple[Tensor, FramingState]:
        """The stretch of signal with the windows that `chunk` completes, and what the next ones need."""
        if state is None:
            zeros = 0 if self.pad_mode == "reflect" else self.pad
            state = FramingState(chunk.new_zeros((*chunk.shape[:-1], zeros)), 0, 0)
        check_continues(self.owner, state.samples, chunk)
        samples = torch.cat((state.samples, chunk), -1)
        before, read = state.read, state.read + chunk.shape[-1]
        if self._reflects and before <= self.pad:
            if read <= self.pad:  # the reflection at the left end is not known yet
                return samples[..., :0], FramingState(samples, 0, read)
            samples = torch.cat((self._reflect_left(samples), samples), -1)
        return self._advance(samples, state.start, read)

    def flush(self, state: FramingState | None) -> tuple[Tensor, None]:
        """The stretch of signal with the windows that reach beyond its end."""
        if state is None:
            raise ValueError(f"{self.owner}: flush needs the state that stream returned; nothing has been streamed yet")
        self._check_length(state.read)
        samples = state.samples
        if self.pad:
            zeros = (*samples.shape[:-1], self.pad)
            right = self._reflect_right(samples) if self._reflects else samples.new_zeros(zeros)
            samples = torch.cat((samples, right), -1)
        return self._advance(samples, state.start, state.read)[0], None

    @property
    def _reflects(self) -> bool:
        return self.pad_mode == "reflect" and self.pad > 0

    def _reflect_left(self, wave: Tensor) -> Tensor:
        return wave[..., 1 : self.pad + 1].flip(-1)

    def _reflect_right(self, wave: Tensor) -> Tensor:
        return wave[..., wave.shape[-1] - self.pad - 1 : -1].flip(-1)

    def _advance(self, samples: Tensor, start: int, read: int) -> tuple[Tensor, FramingState]:
        stretch = samples[..., start:] if start else samples
        start += max(0, 1 + (stretch.shape[-1] - self.n_fft) // self.hop_length) * self.hop_length
        needed = self.pad + 1 if self._reflects else 0  # at the right end, the last samples are reflected
        length = samples.shape[-1]
        drop = max(0, min(start, length - needed))
        rest = samples.narrow(-1, drop, length - drop)
        if length > 2 * self.n_fft:
            rest = rest.clone()  # a view would keep a long chunk alive
        return stretch, FramingState(rest, start - drop, read)

    def _check_length(self, samples: int) -> None:
        if not self.center and samples < self.n_fft:
            raise ValueError(
                f"{self.owner}: n_fft={self.n_fft} is longer than the signal ({samples} samples) and center=False pads "
                "nothing; use center=True, a shorter n_fft, or a longer signal"
            )
        if self._reflects and samples <= self.pad:
            raise ValueError(
                f"{self.owner}: pad_mode='reflect' with n_fft={self.n_fft} reflects {self.pad} samples, so the signal "
                f"must have at least {self.pad + 1}, not {samples}; use pad_mode='constant'"
            )


def check_continues(owner: str, kept: Tensor, chunk: Tensor) -> None:
    """Whether a chunk goes on with the stream whose end was kept."""
    if kept.shape[:-1] != chunk.shape[:-1] or kept.dtype != chunk.dtype:
        raise ValueError(
            f"{owner}: a chunk {list(chunk.shape)} of {chunk.dtype} does not continue a stream of "
            f"{[*kept.shape[:-1], '...']} of {kept.dtype}; start a new stream with state=None"
        )


def check_count(owner: str, count: Count) -> Count:
    """A number of samples or frames: an int of at least 0, or an integer tensor (whose values are not looked at)."""
    if isinstance(count, Tensor):
        if count.is_floating_point() or count.is_complex() or count.dtype is torch.bool:
            raise TypeError(f"{owner}: frames() was given {count.dtype}; give an int or an integer tensor")
        return count.long()
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"{owner}: frames() was given {count!r}; give an int or an integer tensor")
    if count < 0:
        raise ValueError(f"{owner}: frames({count}): a length is not negative")
    return count if isinstance(count, torch.SymInt) else int(count)  # int() would hold an export to this one length


def take(signal: Tensor, first: int, count: int) -> Tensor:
    """[..., first : first + count], which are there. An exporter cannot prove that for symbols, so it gets an index."""
    if torch.compiler.is_exporting():
        return signal.index_select(-1, first + torch.arange(count, device=signal.device))
    return signal[..., first : first + count]


def windows(signal: Tensor, first: int, count: int, size: int, hop: int) -> Tensor:
    """[..., count, size]: the windows that begin at first + t * hop, all of which are there. An index for exporters."""
    if torch.compiler.is_exporting():
        start = first + hop * torch.arange(count, device=signal.device)
        return signal[..., start[:, None] + torch.arange(size, device=signal.device)]
    return signal[..., first : first + (count - 1) * hop + size].unfold(-1, size, hop)


def in_a_row(blocks: Tensor, first: int, count: int) -> Tensor:
    """[..., blocks, width] -> [..., count]: one block after the other, from place `first` on. An index for exporters."""
    if torch.compiler.is_exporting():
        width, place = blocks.shape[-1], first + torch.arange(count, device=blocks.device)
        return blocks[..., torch.div(place, width, rounding_mode="floor"), place % width]
    return blocks.flatten(-2)[..., first : first + count]
