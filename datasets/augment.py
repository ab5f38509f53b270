"""Augmentations of waveforms and frames, drawn per recording: shifts, and masks over bands and times.

Each takes one generator per recording (``temporal.datasets.generators_for``), so that what happens to a recording
depends on (seed, epoch, its index) alone: not on its batch, the number of workers, or whether the run was resumed. One
list of generators may serve several augmentations in a fixed order; each goes on drawing where the one before stopped.
Draws are made on the CPU and applied wherever the data lies; the masks never wait for a device.
"""

from collections.abc import Sequence

import torch

__all__ = ["BandMask", "TimeMask", "TimeShift"]


class TimeShift:
    """Move each recording earlier or later by a random whole number of samples, filled with zeros.

    y[t] = x[t - s], 0 where x has no sample;  s uniform in -earlier .. later

    What moves before the beginning is cut; what moves later makes the recording longer, so its end is kept, unless
    ``keep_length`` cuts that too (for clips of one length).

    Args:
        later: largest shift to later, in samples, >= 0.
        earlier: largest shift to earlier, in samples, >= 0; None: as ``later``. A shift that would leave nothing of a
            recording is shortened so that one sample stays.
        keep_length: cut or fill at the end so that lengths stay as they were.
    Shape:
        wave: [B, samples], zeros beyond lengths. lengths: [B] in samples, each >= 1.
        Returns (wave [B, samples + later], lengths [B]), or [B, samples] with keep_length.
    Raises:
        ValueError: a negative shift, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> wave, lengths = TimeShift(2, 0)(torch.ones(3, 4), torch.tensor([4, 4, 4]), generators_for(0, 0, [0, 1, 2]))
        >>> wave.shape, bool((wave.sum(1) == 4).all())
        (torch.Size([3, 6]), True)
    """

    def __init__(self, later: int, earlier: int | None = None, *, keep_length: bool = False):
        self.later, self.earlier, self.keep_length = later, later if earlier is None else earlier, keep_length
        if min(self.later, self.earlier) < 0:
            raise ValueError(f"TimeShift: later={later}, earlier={earlier} must be at least 0 samples")

    def __call__(
        self, wave: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        draws = _draw("TimeShift", wave, generators, 1)[:, 0]
        shift = _scaled(draws, self.earlier + self.later + 1) - self.earlier
        shift = torch.maximum(shift.to(lengths.device), 1 - lengths)
        if self.keep_length:
            shift = torch.minimum(shift, lengths - 1)
        kept = lengths if self.keep_length else lengths + shift
        width = wave.shape[1] + (0 if self.keep_length else self.later)
        shifted = wave.new_zeros(len(wave), width)
        # Row by row: a gather over [B, samples] takes 40 times as long.
        rows = zip(shifted, wave, shift.tolist(), lengths.tolist(), kept.tolist(), strict=True)
        for row, source, s, length, keep in rows:
            first, last = max(s, 0), min(length + s, keep)
            row[first:last] = source[first - s : last - s]
        return shifted, kept


class BandMask:
    """Cover bands of neighbouring bins, over all frames (SpecAugment's frequency mask).

    width uniform in 0 .. max_bins, first bin uniform in 0 .. bins - width

    Args:
        max_bins: largest width, in bins, >= 0; at most the number of bins.
        masks: how many, >= 0, drawn one by one; they may overlap.
        fill: value that covers, or "mean": the mean of the recording's own valid frames.
    Shape:
        frames: [B, bins, frames]. lengths: [B] valid frames, or None: all.
        Returns [B, bins, frames], a new tensor; what lies beyond lengths is untouched.
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.
    References:
        Park et al. 2019, "SpecAugment".

    Example:
        >>> from temporal.datasets import generators_for
        >>> masked = BandMask(5, fill=0.0)(torch.ones(2, 40, 9), None, generators_for(0, 3, [10, 11]))
        >>> masked.shape, bool((masked[:, :, 0].sum(1) >= 35).all())
        (torch.Size([2, 40, 9]), True)
    """

    def __init__(self, max_bins: int, masks: int = 1, *, fill: float | str = "mean"):
        _check("BandMask", max_bins=max_bins, masks=masks)
        self.max_bins, self.masks, self.fill = max_bins, masks, _check_fill("BandMask", fill)

    def __call__(
        self, frames: torch.Tensor, lengths: torch.Tensor | None, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        bins = frames.shape[1]
        draws = _draw("BandMask", frames, generators, 2 * self.masks).to(frames.device)
        limit = torch.full((len(frames),), min(self.max_bins, bins), device=frames.device)
        covered = _spans(draws, limit, torch.full_like(limit, bins), bins)
        return _cover(frames, covered[:, :, None], lengths, self.fill)


class TimeMask:
    """Cover spans of neighbouring frames, over all bins (SpecAugment's time mask).

    width uniform in 0 .. min(max_frames, max_share * length), first frame uniform in 0 .. length - width

    Args:
        max_frames: largest width, in frames, >= 0.
        masks: how many, >= 0, drawn one by one; they may overlap.
        max_share: largest share of a recording's valid frames that one mask covers, 0 .. 1, so that a short word stays.
        fill: value that covers, or "mean": the mean of the recording's own valid frames.
    Shape:
        frames: [B, bins, frames]. lengths: [B] valid frames, or None: all.
        Returns [B, bins, frames], a new tensor; what lies beyond lengths is untouched.
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.
    References:
        Park et al. 2019, "SpecAugment".

    Example:
        >>> from temporal.datasets import generators_for
        >>> masked = TimeMask(4, max_share=0.2, fill=0.0)(torch.ones(1, 40, 10), None, generators_for(0, 3, [10]))
        >>> bool(masked[0, 0].sum() >= 8)
        True
    """

    def __init__(self, max_frames: int, masks: int = 1, *, max_share: float = 0.2, fill: float | str = "mean"):
        _check("TimeMask", max_frames=max_frames, masks=masks)
        if not 0 <= max_share <= 1:
            raise ValueError(f"TimeMask: max_share={max_share} must be from 0 to 1")
        self.max_frames, self.masks, self.max_share = max_frames, masks, max_share
        self.fill = _check_fill("TimeMask", fill)

    def __call__(
        self, frames: torch.Tensor, lengths: torch.Tensor | None, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        steps = frames.shape[2]
        draws = _draw("TimeMask", frames, generators, 2 * self.masks).to(frames.device)
        valid = _valid(frames, lengths)
        limit = (valid * self.max_share).long().clamp(max=self.max_frames)
        covered = _spans(draws, limit, valid, steps)
        return _cover(frames, covered[:, None, :], lengths, self.fill)


def check_generators(owner: str, x: torch.Tensor, generators: Sequence[torch.Generator]) -> None:
    """Refuse anything but one generator per recording."""
    if len(generators) != len(x):
        raise ValueError(
            f"{owner}: {len(generators)} generators for a batch of {len(x)}; generators_for makes one each"
        )


def _draw(owner: str, x: torch.Tensor, generators: Sequence[torch.Generator], count: int) -> torch.Tensor:
    """[B, count] whole numbers, uniform in 0 .. 2^31 - 1."""
    check_generators(owner, x, generators)
    draws = [torch.randint(1 << 31, (count,), generator=generator) for generator in generators]
    return torch.stack(draws) if draws else torch.zeros(0, count, dtype=torch.int64)


def _scaled(draws: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Uniform in 0 .. count - 1, in whole numbers: exact on every device, and never count itself."""
    return draws * count >> 31


def _spans(draws: torch.Tensor, limit: torch.Tensor, extent: torch.Tensor, size: int) -> torch.Tensor:
    """[B, size]: where one of the spans lies; each at most ``limit`` [B] wide and within ``extent`` [B]."""
    width = _scaled(draws[:, 0::2], (limit + 1)[:, None])
    first = _scaled(draws[:, 1::2], extent[:, None] - width + 1)
    at = torch.arange(size, device=draws.device)
    return ((at >= first[..., None]) & (at < (first + width)[..., None])).any(1)


def _cover(
    frames: torch.Tensor, covered: torch.Tensor, lengths: torch.Tensor | None, fill: float | str
) -> torch.Tensor:
    valid = _valid(frames, lengths)
    inside = (torch.arange(frames.shape[2], device=frames.device) < valid[:, None])[:, None, :]
    if isinstance(fill, str):
        total = frames.masked_fill(~inside, 0).sum((1, 2))
        value = (total / (valid * frames.shape[1]).clamp(min=1))[:, None, None].to(frames.dtype)
    else:
        value = torch.full((), fill, dtype=frames.dtype, device=frames.device)
    return torch.where(covered & inside, value, frames)


def _valid(frames: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    if lengths is None:
        return torch.full((len(frames),), frames.shape[2], device=frames.device)
    return lengths.to(frames.device)


def _check(owner: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{owner}: {name}={count} must be at least 0")


def _check_fill(owner: str, fill: float | str) -> float | str:
    if isinstance(fill, str) and fill != "mean":
        raise ValueError(f"{owner}: fill={fill!r} must be a number or 'mean'")
    return fill
