"""What a recipe varies in a batch of training recordings, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from temporal.datasets import Batch, Gain, Noise, Stretch, generators_for
from temporal.datasets.augment import BandMask, TimeMask, TimeShift

from .recipe import Augment

Draws = Sequence[torch.Generator]


class Augmentation:
    """The augmentations of a recipe, drawn from (seed, epoch, recording).

    Level, shift and noise change the waveforms; tempo, voice and masks change the frames, where they are cheap.
    """

    def __init__(self, vary: Augment, sample_rate: float, seed: int) -> None:
        self.seed, self.silence = seed, vary.silence
        self.gain = Gain(vary.gain)
        self.shift = TimeShift(round((vary.shift + vary.lead) * sample_rate), round(vary.shift * sample_rate))
        self.noise = None if vary.noise is None else Noise(vary.noise)
        self.stretch = Stretch(vary.speed, vary.pitch) if vary.speed or vary.pitch else None
        self.masks = BandMask(vary.band_mask, fill=0.0), TimeMask(vary.time_mask, fill=0.0)  # 0: the mean of each band

    def waves(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor, Draws]:
        """(wave [B + S, samples], lengths [B + S], generators): the batch's recordings, then S of noise alone."""
        draws = generators_for(self.seed, epoch, batch.indices)
        wave, lengths = self.shift(self.gain(batch.wave, draws), batch.lengths, draws)
        silent = round(self.silence * len(wave))
        if silent:  # as long as some of the others; their draws are those of no recording
            draws += generators_for(self.seed, epoch, -2 - batch.indices[:silent])
            wave = torch.cat([wave, wave.new_zeros(silent, wave.shape[1])])
            lengths = torch.cat([lengths, lengths[:silent]])
        if self.noise is not None:
            wave = self.noise(wave, lengths, draws)
        return wave, lengths, draws

    def frames(self, x: Tensor, steps: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The same for normalised frames: x [B, bins, frames], steps [B]."""
        if self.stretch is not None:
            x, steps = self.stretch(x, steps, draws)
        for mask in self.masks:
            x = mask(x, steps, draws)
        return x, steps
