"""Which bins a constant-Q or variable-Q transform has: their frequencies, and the lengths of their filters."""

from dataclasses import dataclass
from functools import cached_property

from .._window import WINDOWS

__all__ = ["Bins", "check_below_nyquist"]


@dataclass(frozen=True)
class Bins:
    """Bins that are even on a logarithmic scale, `bins_per_octave` of them in an octave.

    f_k = fmin 2^((k + tuning) / bins_per_octave)
    a = (2^(2/b) - 1) / (2^(2/b) + 1)                  half the relative distance of a bin's neighbours
    N_k = (filter_scale / a) sample_rate / (f_k + gamma / a)
    """

    sample_rate: float  # Hz
    fmin: float  # Hz, without the tuning
    count: int
    per_octave: int
    filter_scale: float
    tuning: float  # in bins
    gamma: float | None  # Hz; None is 24.7 a / 0.108, the bandwidths of the ear

    @cached_property
    def alpha(self) -> float:
        """Half the distance of a bin's two neighbours, relative to its frequency."""
        ratio = 2 ** (2 / self.per_octave)
        return (ratio - 1) / (ratio + 1)

    @cached_property
    def bandwidth(self) -> float:
        """Gamma in Hz: what is added to a constant relative bandwidth."""
        return self.alpha * 24.7 / 0.108 if self.gamma is None else self.gamma

    @cached_property
    def frequencies(self) -> list[float]:
        """Centre of each bin, in Hz."""
        fmin = self.fmin * 2 ** (self.tuning / self.per_octave)
        return [fmin * 2 ** (k / self.per_octave) for k in range(self.count)]

    @cached_property
    def lengths(self) -> list[float]:
        """Length of each bin's filter, in samples; not whole numbers."""
        q = self.filter_scale / self.alpha
        return [q * self.sample_rate / (f + self.bandwidth / self.alpha) for f in self.frequencies]

    def reach(self, k: int, width: float) -> float:
        """How far up bin k listens, in Hz: the centre and half of `width` bins of a spectrum as long as the filter."""
        return self.frequencies[k] + width / 2 * self.sample_rate / self.lengths[k]

    def octaves(self) -> list[range]:
        """The bins by octaves, counted from the top as in librosa; the lowest octave may hold fewer."""
        size = min(self.per_octave, self.count)
        return [range(max(0, stop - size), stop) for stop in range(self.count, 0, -size)]


def noise_bandwidth(window: str) -> float:
    """Equivalent noise bandwidth of a long window, in bins: sum a_k^2 / a_0^2 with cosine terms counted half."""
    first, *rest = WINDOWS[window]
    return 1 + sum(a * a for a in rest) / (2 * first * first)


def check_below_nyquist(owner: str, bins: Bins, window: str) -> None:
    """The highest filter's band ends below the Nyquist frequency, or an error says how many bins fit."""
    nyquist = bins.sample_rate / 2
    width = noise_bandwidth(window)
    # librosa's bound: gamma is counted once more, by half of it
    fits = [
        f * (1 + width / 2 * bins.alpha / bins.filter_scale) + bins.bandwidth / 2 <= nyquist for f in bins.frequencies
    ]
    if all(fits):
        return
    if not fits[0]:
        raise ValueError(
            f"{owner}: fmin={bins.fmin:g} Hz is too close to the Nyquist frequency of sample_rate="
            f"{bins.sample_rate:g} Hz ({nyquist:g} Hz) for a filter around it"
        )
    most = fits.index(False)
    raise ValueError(
        f"{owner}: n_bins={bins.count} reaches {bins.frequencies[-1]:g} Hz, whose filter is above the Nyquist frequency "
        f"of sample_rate={bins.sample_rate:g} Hz ({nyquist:g} Hz); the highest bin that fits is {most - 1} "
        f"({bins.frequencies[most - 1]:.1f} Hz), so give n_bins <= {most}"
    )
