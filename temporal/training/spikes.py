"""The parts of a recipe for recordings that are spikes: how they become steps, and what is varied in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal.datasets import Binning

__all__ = ["SpikeAugment", "Spikes"]


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """How spikes become steps: a preset of :class:`temporal.datasets.Binning`, and what is changed in it.

    Args:
        preset: "10ms", "10ms-first", "14.1ms", "5.6ms", "4ms" or "1ms": as published networks were fed.
        dt: length of a step, in seconds; ``None``, here and below: as the preset has it.
        merge: so many neighbouring units make a channel.
        binary: 1 where a bin holds any spike, instead of their number.
        duration: what comes later is left out, in seconds.
        units: how many units the files have.

    Example:
        >>> from temporal.training import Spikes
        >>> Spikes(preset="10ms", merge=10).binning().channels(700)
        70
    """

    preset: str = "10ms"
    dt: float | None = None
    merge: int | None = None
    binary: bool | None = None
    duration: float | None = None
    units: int = 700

    def binning(self) -> Binning:
        """The binning.

        Raises:
            ValueError: an unknown preset, a number out of its range, a duration beside a number of steps that is fixed.
        """
        from temporal.datasets import Binning

        given: dict[str, Any] = {name: getattr(self, name) for name in ("dt", "merge", "binary", "duration")}
        return Binning.named(self.preset, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class SpikeAugment:
    """What is varied in a training recording of spikes, drawn from (seed, epoch, recording), in this order.

    Args:
        blend: part of the recordings that are blended with another one of the same word and speaker, 0..1.
        drop: probability that a spike is lost, 0..1.
        jitter: standard deviation by which every spike is moved in time, in steps.
        channel_jitter: the same over the channels.
        channel_shift: largest shift of a recording over the channels to either side, as another voice would.
        shift: largest shift in time to either side, in seconds.
        time_mask: longest run of steps that is silenced, in steps; at most a fifth of a recording.
        channel_mask: widest run of neighbouring channels that is silenced, in channels.
    """

    blend: float = 0.0
    drop: float = 0.0
    jitter: float = 0.0
    channel_jitter: float = 0.0
    channel_shift: int = 0
    shift: float = 0.0
    time_mask: int = 0
    channel_mask: int = 0

    def __post_init__(self) -> None:
        for name in ("blend", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Recipe: augment.{name}={getattr(self, name)}; 0..1 is right")
        for name in ("jitter", "channel_jitter", "channel_shift", "shift", "time_mask", "channel_mask"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"Recipe: augment.{name}={getattr(self, name)}; 0 or more is right")
