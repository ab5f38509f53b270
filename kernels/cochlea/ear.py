"""The constants of the model: which ear hears, at which rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # numpy loads when it is first used
    import numpy as np

    from .transfer import Transfer

__all__ = ["FIBRES", "HIGHEST", "PRESETS", "Ear", "HairCell", "Numbers"]

HIGHEST = 48_000.0  # Hz: up to which there are transfer functions
FIBRES = 40  # of the auditory nerve that a channel's bushy cell listens to
_STRENGTH = 13_000.0  # 1/s: what an open synapse of all fibres adds to the membrane
_SYNAPSE, _MEMBRANE, _REFRACTORY = 0.5e-3, 1e-3, 1e-3  # seconds


class HairCell(NamedTuple):
    """Constants of Meddis' hair cell: rates in 1/s, A and B in units of the membrane's velocity, M in quanta."""

    y: float  # replenishment
    g: float  # release
    l: float  # loss  # noqa: E741
    r: float  # recovery
    x: float  # reprocessing
    A: float = 5.0
    B: float = 300.0
    h: float = 50_000.0  # firing
    M: float = 1.0  # what the store holds
    lowest_rate: int = 0  # Hz, of the sound; below, Euler's steps are too long for these rates


PRESETS = {
    "lauscher": HairCell(5.05, 2000.0, 2500.0, 6580.0, 66.3, lowest_rate=11_025),
    "article": HairCell(11.11, 1000.0, 1250.0, 16_667.0, 250.0, lowest_rate=36_000),
}


class Numbers(NamedTuple):
    """What hair cell and bushy cell compute with at each step: the rates times dt, and decays by a step."""

    A: float
    B: float
    M: float
    g: float
    y: float
    l: float  # noqa: E741
    r: float
    x: float
    h: float
    synapse: float
    membrane: float
    strength: float


@dataclass(frozen=True)
class Ear:
    """An ear, and what follows from its arguments.

    Args:
        sample_rate: of the sound, in Hz.
        channels: places along the membrane.
        preset: "lauscher" or "article".
        membrane: "travelling_wave" or "gammatone".
    """

    sample_rate: int
    channels: int
    preset: str
    membrane: str

    @property
    def rate(self) -> int:
        """Steps a second: half the sample rate."""
        return self.sample_rate // 2

    @property
    def hair_cell(self) -> HairCell:
        return PRESETS[self.preset]

    @property
    def transfer(self) -> Transfer:
        from ._table import load

        return load(self.channels)

    @cached_property
    def numbers(self) -> Numbers:
        cell, dt = self.hair_cell, 1 / self.rate
        rates = (cell.g * dt, cell.y * dt, cell.l * dt, cell.r * dt, cell.x * dt, cell.h * dt)
        decays = (math.exp(-dt / _SYNAPSE), math.exp(-dt / _MEMBRANE))
        return Numbers(cell.A, cell.B, cell.M, *rates, *decays, _STRENGTH / FIBRES * dt)

    @property
    def refractory(self) -> int:
        """Steps of the millisecond in which a fibre or a bushy cell stays silent: one may fire again so many steps on."""
        return math.ceil(_REFRACTORY * self.rate - 1e-9)

    def rest(self) -> tuple[float, float, float]:
        """q, c and w of a hair cell that has heard nothing for long."""
        cell = self.hair_cell
        release = cell.g * cell.A / (cell.A + cell.B)
        cleft = cell.M * cell.y * release / (cell.l * release + cell.y * (cell.l + cell.r))
        return cleft * (cell.l + cell.r) / release, cleft, cleft * cell.r / cell.x

    def frequencies(self, samples: int) -> np.ndarray:
        """Those at which the converter takes the response for a recording of so many samples: from 1 Hz to fs // 2."""
        import numpy as np

        return np.linspace(1, self.rate, samples // 2 + 1)

    @cached_property
    def gammatone(self) -> tuple[np.ndarray, np.ndarray]:
        """Poles a [channels], complex, and gains [channels] of the gammatone filters; see ``reference.gammatone``.

        A filter has its place's best frequency and the travelling wave's gain there, and the bandwidth of human
        hearing (1.019 times Glasberg and Moore's ERB). Where the best frequency lies beyond 90 % of the Nyquist
        frequency it hears nothing.
        """
        import numpy as np

        best = self.transfer.best
        width = 1.019 * 24.7 * (4.37 * best / 1000 + 1)
        pole = np.exp(2 * np.pi * (1j * best - width) / self.sample_rate)
        gain = np.where(best < 0.45 * self.sample_rate, 2 * (1 - np.abs(pole)) ** 4 * self.transfer.gain, 0.0)
        return pole, gain
