"""The travelling wave for sound without an end: each place's response cut to a finite length, applied block by block.

The converter's responses reach far ahead (``transfer.py``), the apex' by 0.2 s, and a little back. What is beyond 0.2 s
ahead and 0.06 s back is dropped, with a soft edge: at most 2e-4 of a response's root mean square, and at the base, whose
band ends sharply at the Nyquist frequency and therefore rings on, up to 2 %. Nothing wraps around, and
the steps lie exactly two samples apart.

    y[m] = sum_i h[i] x[2 m - i],  -ahead <= i <= behind

Overlap-save: blocks of ``block`` samples, each from one FFT over ``size`` samples that reach ``behind`` before it and
``ahead`` beyond it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .ear import Ear

if TYPE_CHECKING:  # numpy loads when it is first used
    import numpy as np

__all__ = ["Blocks", "blocks", "linear_response", "smooth"]

_AHEAD, _BEHIND, _BLOCK = 0.2, 0.06, 0.128  # seconds
_EDGE = 0.02  # of a response, in seconds, over which it is faded out
_NEGLIGIBLE = 1e-6  # of a spectrum's peak: what lies above the last bin so strong is dropped
_GRAIN = 1024  # samples: blocks are whole tiles of noise keys


class Blocks(NamedTuple):
    """How sound is cut, in samples."""

    block: int  # new samples a block
    behind: int
    ahead: int
    size: int  # of the FFT: behind + block + ahead, and what rounds it up

    @property
    def steps(self) -> int:
        """Steps a block gives."""
        return self.block // 2


def blocks(sample_rate: int) -> Blocks:
    """The cut for a sample rate: even numbers all."""
    block = max(1, round(_BLOCK * sample_rate / _GRAIN)) * _GRAIN
    behind, ahead = (2 * round(seconds * sample_rate / 2) for seconds in (_BEHIND, _AHEAD))
    return Blocks(block, behind, ahead, 4 * smooth(-(-(behind + block + ahead) // 4)))


def smooth(least: int) -> int:
    """The smallest product of twos, threes and fives that is at least so large: a length that FFTs are fast at."""
    best = 1 << (least - 1).bit_length() if least > 1 else 1
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-least // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best


@lru_cache(maxsize=4)
def linear_response(ear: Ear) -> np.ndarray:
    """Real and imaginary part of all places' spectra on the FFT of a block: [2, channels, size // 2 + 1], float32."""
    import numpy as np

    cut = blocks(ear.sample_rate)
    length = 2 * smooth(ear.sample_rate // 2)  # a second: far beyond what is kept
    frequencies = ear.frequencies(length)
    fade = 0.5 - 0.5 * np.cos(
        np.pi * (np.arange(round(_EDGE * ear.sample_rate)) + 0.5) / round(_EDGE * ear.sample_rate)
    )
    out = np.empty((2, ear.channels, cut.size // 2 + 1), np.float32)
    for first in range(0, ear.channels, 50):  # a slice at a time, for memory's sake
        response = np.fft.irfft(ear.transfer(frequencies, first, first + 50), n=length)
        kept = np.zeros((len(response), cut.size))
        kept[:, : cut.behind + 1] = response[:, : cut.behind + 1]
        kept[:, -cut.ahead :] = response[:, -cut.ahead :]
        kept[:, cut.behind + 1 - fade.size : cut.behind + 1] *= fade[::-1]
        kept[:, kept.shape[1] - cut.ahead : kept.shape[1] - cut.ahead + fade.size] *= fade
        spectra = np.fft.rfft(kept)
        level = np.abs(spectra)
        beyond = (level > _NEGLIGIBLE * level.max(1, keepdims=True))[:, ::-1].cumsum(1)[:, ::-1] == 0
        spectra[beyond] = 0
        out[0, first : first + 50], out[1, first : first + 50] = spectra.real, spectra.imag
    return out
