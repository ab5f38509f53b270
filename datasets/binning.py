"""From spike times to steps: the length of a step, the channels, and the ways in which published networks were fed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from temporal.kernels.binning import bin_events

__all__ = ["Binning"]


@dataclass(frozen=True)
class Binning:
    """How spikes become steps: counts in bins of equal length, and channels of neighbouring units.

    x[k + lead, c] = number of spikes with  start + k * dt <= t < start + (k + 1) * dt  and  u // merge == c

    Edges are products in float64, as ``numpy.linspace`` makes them, and times are taken as they are stored: the published
    SHD and SSC files hold float16, whose own step is 0.5 ms from 0.5 s on and 1 ms from 1 s on.

    A recording has as many steps as it needs up to its last spike, one at least: a recording without spikes, or shorter
    than a step, is one step. ``steps`` or ``at_least`` fill up with empty steps.

    Presets, by name (``Binning.named``), as published networks were fed. All count from time 0 unless said:

    - ``"10ms"``: 10 ms, five units a channel (140), as long as the recording (100 to 137 steps of SHD); batches are padded.
    - ``"10ms-first"``: the same from the first spike on, as SpikingJelly bins and SNN-delays was trained. (SpikingJelly
      multiplies the file's float16 times by 1000 in float16 too, which moves late spikes by up to 0.5 ms.)
    - ``"14.1ms"``: 100 steps up to 1.4 s, 700 channels, by ``numpy.digitize(times, linspace(0, 1.4, 100))`` (sparch,
      ASRC-SNN, DelRec). That is 1.4 / 99 s a step, and its first step is always empty: digitize numbers bins from 1.
      Spikes from 1.4 s on, which are out of range there, are left out.
    - ``"5.6ms"``: the same with 250 steps (DelRec).
    - ``"4ms"``: 4 ms, 140 channels, filled up to 250 steps at least (SE-adLIF).
    - ``"1ms"``: 1 ms, 700 channels (EventProp).

    Args:
        dt: length of a step, in seconds, > 0.
        merge: so many neighbouring units make a channel, >= 1; the last channel may have fewer.
        binary: 1 where a bin holds any spike, instead of their number.
        duration: steps that begin at or after this time, in seconds, are left out, and their spikes; None: none are.
        steps: exactly so many steps, filled up or cut; None: as many as the recording needs.
        at_least: fewest steps.
        lead: so many empty steps before the first.
        start: "zero", or "first": time counts from the recording's first spike.
    Raises:
        ValueError: an argument out of its range, or ``steps`` beside ``duration`` or ``at_least``.

    Example:
        >>> binning = Binning(dt=0.010, merge=5)
        >>> x = binning(np.array([0.001, 0.002, 0.034]), np.array([0, 4, 699]), units_in_all=700)
        >>> x.shape, x[0, 0], x[3, 139]
        (torch.Size([4, 140]), tensor(2.), tensor(1.))
        >>> Binning.named("14.1ms").steps
        100
    """

    dt: float
    merge: int = 1
    binary: bool = False
    duration: float | None = None
    steps: int | None = None
    at_least: int = 1
    lead: int = 0
    start: str = "zero"

    def __post_init__(self) -> None:
        if not (isinstance(self.dt, (int, float)) and 0 < self.dt < math.inf):
            raise ValueError(f"Binning: dt={self.dt!r} must be more than 0 and finite, in seconds")
        for name, least in (("merge", 1), ("at_least", 1), ("lead", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Binning: {name}={value!r} must be a whole number of at least {least}")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise ValueError(f"Binning: duration={self.duration!r} must be more than 0 and finite, in seconds")
        if self.steps is not None and (isinstance(self.steps, bool) or self.steps <= self.lead):
            raise ValueError(f"Binning: steps={self.steps!r} must be more than lead={self.lead}")
        if self.steps is not None and (self.duration is not None or self.at_least != 1):
            raise ValueError("Binning: steps says how many there are; give it without duration and at_least")
        if self.start not in ("zero", "first"):
            raise ValueError(f"Binning: start={self.start!r} must be 'zero' or 'first'")

    @classmethod
    def named(cls, name: str, **changes: Any) -> "Binning":
        """A preset, with ``changes`` to its arguments.

        Raises:
            ValueError: no preset of this name, or a change that does not fit.
        """
        if name not in _PRESETS:
            raise ValueError(f"Binning: preset {name!r} is unknown; known: {', '.join(_PRESETS)}")
        return cls(**{**_PRESETS[name], **changes})

    def channels(self, units_in_all: int) -> int:
        """How many channels the units make."""
        return -(-units_in_all // self.merge)

    @property
    def limit(self) -> float:
        """From how many seconds after the start on spikes are left out; infinite where none are."""
        if self.steps is not None:
            return (self.steps - self.lead) * self.dt
        return math.inf if self.duration is None else self._whole_duration() * self.dt

    def lengths(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """[N] numbers of steps of recordings whose first and last spikes come at these times [N], in seconds."""
        if self.steps is not None:
            return np.full(len(last), self.steps)
        start = np.asarray(first, np.float64) if self.start == "first" else np.zeros(len(last))
        last = np.asarray(last, np.float64)
        k = ((last - start) / self.dt).astype(np.int64)
        k -= start + k * self.dt > last  # the quotient may have rounded across an edge
        k += start + (k + 1) * self.dt <= last
        count = k + 1
        if self.duration is not None:
            count = np.minimum(count, self._whole_duration())
        return np.maximum(count + self.lead, self.at_least)

    def __call__(self, times: np.ndarray, units: np.ndarray, units_in_all: int = 700) -> torch.Tensor:
        """Bin one recording.

        Args:
            times: [events] in seconds, finite, >= 0, of any order.
            units: [events] whole numbers, 0 .. units_in_all - 1.
            units_in_all: how many units there are.
        Shape:
            Returns [steps, channels] float32.
        """
        first, last = (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)
        count = int(self.lengths(np.array([first]), np.array([last]))[0])
        x = torch.zeros(count, self.channels(units_in_all))
        start = first if self.start == "first" else 0.0
        # The part that is filled: at_least and steps add empty steps behind, but duration leaves spikes out.
        stop = count
        if self.duration is not None:
            stop = min(stop, self.lead + self._whole_duration())
        bin_events(times, units, x[self.lead : stop].numpy(), dt=self.dt, start=start, merge=self.merge)
        return x.clamp_(max=1) if self.binary else x

    def _whole_duration(self) -> int:
        """How many steps begin before ``duration``."""
        return max(1, math.ceil((self.duration or 0) / self.dt - 1e-9))


_PRESETS: dict[str, dict[str, Any]] = {
    "10ms": {"dt": 0.010, "merge": 5},
    "10ms-first": {"dt": 0.010, "merge": 5, "start": "first"},
    "14.1ms": {"dt": 1.4 / 99, "lead": 1, "steps": 100},
    "5.6ms": {"dt": 1.4 / 249, "lead": 1, "steps": 250},
    "4ms": {"dt": 0.004, "merge": 5, "at_least": 250},
    "1ms": {"dt": 0.001},
}
