"""What a recipe varies in a batch of training recordings, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from temporal.datasets import (
    SHD,
    BackgroundNoise,
    Batch,
    Blend,
    ChannelMask,
    ChannelShift,
    Equalize,
    Gain,
    Noise,
    Reverb,
    SpikeBatch,
    SpikeDrop,
    SpikeJitter,
    StepMask,
    StepShift,
    Stretch,
    generators_for,
)
from temporal.datasets.augment import BandMask, TimeMask, TimeShift
from temporal.layers import to_steps

from .data import AnyData
from .recipe import Augment, Recipe
from .spikes import SpikeAugment

Draws = Sequence[torch.Generator]


def augmentation_of(recipe: Recipe, data: AnyData) -> SoundAugmentation | SpikeAugmentation:
    """The augmentation of a recipe for its recordings."""
    if isinstance(recipe.augment, SpikeAugment):
        if not isinstance(data, SHD):
            raise TypeError(f"augment=SpikeAugment(...) varies spikes, not {type(data).__name__}")
        return SpikeAugmentation(recipe.augment, data, recipe.seed)
    recorded = getattr(data, "background", []) if recipe.augment.background is not None else []
    fill = 0.0 if getattr(recipe.frontend, "normalize", True) else "mean"  # normalised, 0 is the mean of each band
    return SoundAugmentation(recipe.augment, recipe.frontend.sample_rate, recipe.seed, recorded, fill)


class SoundAugmentation:
    """Augmentations of sound, drawn from (seed, epoch, recording).

    Level, room, microphone, shift and noise change waveforms; tempo, voice and masks change frames, where they are cheap.
    """

    def __init__(
        self,
        vary: Augment,
        sample_rate: float,
        seed: int,
        recorded: Sequence[Tensor] = (),
        fill: float | str = 0.0,
    ) -> None:
        self.seed = seed
        self.gain = Gain(vary.gain)
        self.equalize = Equalize(vary.equalize, sample_rate)
        self.reverb = Reverb(vary.reverb, sample_rate, vary.reverb_share)
        self.shift = TimeShift(round((vary.shift + vary.lead) * sample_rate), round(vary.shift * sample_rate))
        self.background = None
        if vary.background is not None and len(recorded):
            self.background = BackgroundNoise(
                recorded, (vary.background, vary.background + 20.0), vary.background_share
            )
        self.noise = None if vary.noise is None else Noise(vary.noise)
        self.stretch = Stretch(vary.speed, vary.pitch) if vary.speed or vary.pitch else None
        self.masks = BandMask(vary.band_mask, fill=fill), TimeMask(vary.time_mask, fill=fill)

    def signals(self, batch: Batch, epoch: int, silent: int = 0) -> tuple[Tensor, Tensor, Draws]:
        """(wave [B + S, samples], lengths [B + S], generators): the batch's recordings, then S ``silent`` of noise alone."""
        draws = generators_for(self.seed, epoch, batch.indices)
        wave, lengths = self.reverb(self.gain(batch.wave, draws), batch.lengths, draws)
        wave, lengths = self.shift(self.equalize(wave, lengths, draws), lengths, draws)
        if silent:  # as long as some of the others; their draws are those of no recording
            draws += generators_for(self.seed, epoch, -2 - batch.indices[:silent])
            wave = torch.cat([wave, wave.new_zeros(silent, wave.shape[1])])
            lengths = torch.cat([lengths, lengths[:silent]])
        for noise in (self.background, self.noise):
            if noise is not None:
                wave = noise(wave, lengths, draws)
        return wave, lengths, draws

    def steps(self, x: Tensor, lengths: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The same for normalised frames: x [T, B, bins], lengths [B]."""
        frames = x.permute(1, 2, 0)
        if self.stretch is not None:
            frames, lengths = self.stretch(frames, lengths, draws)
        for mask in self.masks:
            frames = mask(frames, lengths, draws)
        return to_steps(frames), lengths


class SpikeAugmentation:
    """Augmentations of spikes, drawn from (seed, epoch, recording)."""

    def __init__(self, vary: SpikeAugment, data: SHD, seed: int) -> None:
        self.seed, self.most = seed, 1.0 if data.binning.binary else None
        self.blend = Blend(data, vary.blend) if vary.blend else None
        self.drop = SpikeDrop(vary.drop) if vary.drop else None
        self.jitter = SpikeJitter(vary.jitter, vary.channel_jitter) if vary.jitter or vary.channel_jitter else None
        self.channel_shift = ChannelShift(vary.channel_shift) if vary.channel_shift else None
        self.shift = StepShift(round(vary.shift / data.binning.dt)) if vary.shift else None
        self.step_mask = StepMask(vary.time_mask) if vary.time_mask else None
        self.channel_mask = ChannelMask(vary.channel_mask) if vary.channel_mask else None

    def signals(self, batch: SpikeBatch, epoch: int, silent: int = 0) -> tuple[Tensor, Tensor, Draws]:
        """(spikes [T, B, channels], lengths [B], generators)."""
        draws = generators_for(self.seed, epoch, batch.indices)
        x, lengths = batch.spikes, batch.lengths
        if self.blend is not None:
            x, lengths = self.blend(x, lengths, batch.indices, draws)
        for change in (self.drop, self.jitter, self.channel_shift):
            if change is not None:
                x = change(x, lengths, draws)
        if self.most is not None:
            x = x.clamp(max=self.most)  # two spikes may have met
        if self.shift is not None:
            x, lengths = self.shift(x, lengths, draws)
        for mask in (self.step_mask, self.channel_mask):
            if mask is not None:
                x = mask(x, lengths, draws)
        return x, lengths, draws

    def steps(self, x: Tensor, lengths: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Spikes are steps already: all was done before."""
        return x, lengths
