"""Augmentations that change how something was said, not what: its tempo, the size of the voice, its level."""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample

from .augment import check_generators

__all__ = ["Gain", "Stretch"]


class Stretch:
    """Change the tempo and the voice of each recording, by stretching its frames in time and over the bins.

    y[k, t] = x[k * p, t * s],  with bilinear interpolation;  ln s uniform in +-ln(1 + speed), ln p in +-ln(1 + pitch)

    On frames with logarithmically spaced bins a stretch of the bins moves the formants of a voice, as another vocal tract
    would. A bin beyond the last repeats the last.

    Args:
        speed: largest change of tempo, >= 0: 0.1 is 10 % faster or slower. The number of frames changes with it.
        pitch: largest stretch over the bins, >= 0.
    Shape:
        frames: [B, bins, frames]. lengths: [B] valid frames, each >= 1.
        Returns (frames [B, bins, most frames], zero beyond the lengths, lengths [B]).
    Raises:
        ValueError: a negative argument, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> stretch = Stretch(speed=0.2, pitch=0.1)
        >>> frames, lengths = stretch(torch.rand(2, 40, 50), torch.tensor([50, 30]), generators_for(0, 3, [10, 11]))
        >>> frames.shape[:2], frames.shape[2] == lengths.max()
        (torch.Size([2, 40]), tensor(True))
    """

    def __init__(self, speed: float, pitch: float = 0.0):
        for name, value in (("speed", speed), ("pitch", pitch)):
            if not value >= 0:
                raise ValueError(f"Stretch: {name}={value} must be at least 0")
        self.speed, self.pitch = speed, pitch

    def __call__(
        self, frames: torch.Tensor, lengths: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        check_generators("Stretch", frames, generators)
        draws = torch.stack([torch.rand(2, generator=g) for g in generators]).to(frames) * 2 - 1  # [B, 2] in -1..1
        faster = torch.exp(draws[:, 0] * math.log1p(self.speed))
        higher = torch.exp(draws[:, 1] * math.log1p(self.pitch))
        new = (lengths / faster).round().long().clamp(min=1)
        bins, most = frames.shape[1], int(new.max())
        # grid_sample wants positions in -1..1 between the centres of the first and the last element.
        at_time = torch.arange(most, device=frames.device) * faster[:, None]
        at_time = torch.minimum(at_time, (lengths - 1)[:, None])
        at_bin = torch.arange(bins, device=frames.device) * higher[:, None]
        grid = torch.stack(
            torch.broadcast_tensors(
                (at_time * (2 / max(1, frames.shape[2] - 1)) - 1)[:, None, :],
                (at_bin * (2 / max(1, bins - 1)) - 1)[:, :, None],
            ),
            dim=-1,
        )
        out = grid_sample(frames[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
        beyond = torch.arange(most, device=frames.device) >= new[:, None]
        return out.masked_fill(beyond[:, None, :], 0), new


class Gain:
    """Make each recording louder or softer.

    y = x * 10^(g / 20),  g uniform in +-decibels

    Args:
        decibels: largest change of level, in dB, >= 0.
    Shape:
        wave: [B, samples].  Returns the same shape.
    Raises:
        ValueError: a negative argument, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> wave = Gain(6.0)(torch.ones(3, 4), generators_for(0, 0, [0, 1, 2]))
        >>> bool(((wave > 0.5) & (wave < 2)).all())
        True
    """

    def __init__(self, decibels: float):
        if not decibels >= 0:
            raise ValueError(f"Gain: decibels={decibels} must be at least 0")
        self.decibels = decibels

    def __call__(self, wave: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        check_generators("Gain", wave, generators)
        draws = torch.stack([torch.rand(1, generator=g) for g in generators]).to(wave) * 2 - 1
        return wave * 10 ** (draws * (self.decibels / 20))
