"""How wide the delays are at each point of a training: from a wide gaussian to whole steps."""

import math
from dataclasses import dataclass

from torch import nn

from .linear import DelayedLinear

__all__ = ["DelaySchedule"]


@dataclass(frozen=True)
class DelaySchedule:
    """Narrows the delays of a network while it trains, and then rounds them for good.

    sigma(progress) = floor + wide (narrow / wide)^(progress / until)    progress < until
                    = end                                                until <= progress < round_at
                    = 0, delays on whole steps                           round_at <= progress

    with wide = start - floor and narrow = end - floor.

    Progress is the fraction of the training that is done, per epoch or per step. The schedule is a function of it and
    keeps no state, so a resumed training finds the same widths.

    Why it rounds before the end: a deployed network has whole delays, and the current that a gaussian of width sigma
    gives differs from the rounded one by about 0.9 sigma, relative: 44 % at sigma = 0.5, where the published schedule
    stops, and 9 % at 0.1. After `round_at` training computes what will be deployed, and the weights settle on it.
    What that costs: from `round_at` on no delay learns any more, and at widths below about 0.15 few still do (at 0.1
    only the one in ten that lies near a half step gets a gradient).

    Args:
        start: width at progress 0, in steps, > 0; None is half of each layer's max_delay.
        end: last width before the rounding, in steps, > 0.
        until: fraction of the training over which sigma falls from start to end, in (0, 1].
        round_at: fraction of the training from which delays are whole steps, in [until, 1]; None is `until`. 1 never
            rounds during training.

    Raises:
        ValueError: an argument or a progress out of its range.

    References:
        Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024; theirs is
        `DelaySchedule(start=12.27, end=0.5, until=0.25, round_at=1, floor=0.27)`.

    Example:
        >>> import torch
        >>> network = torch.nn.ModuleList([DelayedLinear(40, 64, max_delay=24), DelayedLinear(64, 10, max_delay=24)])
        >>> schedule = DelaySchedule(end=0.1, until=0.75)
        >>> epochs = 4
        >>> for epoch in range(epochs):
        ...     schedule.apply(network, epoch / epochs)  # then train for one epoch
        ...     print(f"epoch {epoch}: sigma {network[0].sigma:.2f}")
        epoch 0: sigma 12.00
        epoch 1: sigma 2.43
        epoch 2: sigma 0.49
        epoch 3: sigma 0.00
    """

    start: float | None = None
    end: float = 0.1
    until: float = 0.75
    round_at: float | None = None
    floor: float = 0.0

    def __post_init__(self):
        if self.start is not None and not 0 < self.start < math.inf:
            raise ValueError(
                f"DelaySchedule: start={self.start} is not a width in steps: > 0, or None for max_delay / 2"
            )
        if not 0 < self.end < math.inf:
            raise ValueError(f"DelaySchedule: end={self.end} is not a width in steps: > 0 (rounding follows by itself)")
        if self.start is not None and self.end > self.start:
            raise ValueError(f"DelaySchedule: end={self.end} is wider than start={self.start}: sigma only falls")
        if not 0 < self.until <= 1:
            raise ValueError(f"DelaySchedule: until={self.until} is not a fraction of the training in (0, 1]")
        if self.round_at is not None and not self.until <= self.round_at <= 1:
            raise ValueError(f"DelaySchedule: round_at={self.round_at} is not a fraction in [until={self.until}, 1]")
        if not 0 <= self.floor < self.end:
            raise ValueError(f"DelaySchedule: floor={self.floor} is not in [0, end={self.end}) steps")

    def rounded(self, progress: float) -> bool:
        """Whether the delays are whole steps at this progress. (At progress 1 with round_at=1 training is over.)"""
        return _fraction(progress) >= (self.until if self.round_at is None else self.round_at)

    def sigma(self, progress: float, max_delay: int | None = None) -> float:
        """The width at this progress, in steps.

        Args:
            progress: fraction of the training that is done, 0 .. 1.
            max_delay: of the layer that is asked about; needed where start is None.
        """
        if self.rounded(progress):
            return 0.0
        start = self.start
        if start is None:
            if max_delay is None:
                raise ValueError("DelaySchedule: start=None is half of a layer's max_delay: sigma(progress, max_delay)")
            start = max_delay / 2
        if start <= self.end:  # a layer whose longest delay is shorter than the last width
            return start
        wide, narrow = start - self.floor, self.end - self.floor
        return self.floor + wide * (narrow / wide) ** min(progress / self.until, 1.0)

    def apply(self, network: nn.Module, progress: float) -> None:
        """Sets every `DelayedLinear` inside the network, those within `DelayedConv1d` and `RecurrentDelays` too.

        One with kernel="rounded" has no width; its delays, where they learn, stop when the others' do.

        Call it before each epoch with `epoch / epochs`, or before each step with `step / steps`.
        """
        whole = self.rounded(progress)
        for layer in network.modules():
            if not isinstance(layer, DelayedLinear) or (layer.kernel == "rounded" and not layer.delay.requires_grad):
                continue
            if whole:
                layer.round_()
            else:
                layer.set_sigma(0.0 if layer.kernel == "rounded" else self.sigma(progress, layer.max_delay))


def _fraction(progress: float) -> float:
    if not 0 <= progress <= 1:
        raise ValueError(f"DelaySchedule: progress={progress} is not a fraction of the training in 0 .. 1")
    return progress
