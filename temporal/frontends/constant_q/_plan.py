"""How the bins are grouped by octave, and at which rate each octave is computed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ._bins import Bins

__all__ = ["Decimator", "Octave", "delayed", "plan_exact", "plan_librosa", "plan_undecimated"]

# A Hann filter's spectrum falls with the third power of the distance, counted in bins of a spectrum as long as the
# filter. The lower rate's Nyquist frequency lies _NYQUIST of them above each filter, or more. What lies beyond is lost, or
# folded back from a few bins above to as many below, where the filters hear as little of it: 3e-6 of the peak on noise.
# So the slope may lie across the Nyquist frequency. It begins _PASS above the filters.
_PASS, _NYQUIST = 45.0, 55.0
_PASS_DEVIATIONS = 4.0  # of the decimator's slope, from its centre to where it begins: it takes 3e-5 there
_EDGE_DEVIATIONS = 4.5  # and to where it ends: 3e-6 is left there, of noise 1e-8 in all
_MOST_KEPT = 0.8  # of the samples: above, the slope would end beyond the full rate's Nyquist frequency
_SUPPORT = 0.75  # times 1 / deviation: beyond it the decimator's impulse response holds 1e-7
# Costs measured on a CPU, in multiply-adds: a sample of an inverse FFT, and a sample copied into a window.
_FFT_COST, _COPY_COST = 77, 18
_LIBROSA_PASS = 0.86  # of the lower Nyquist frequency; soxr's "HQ" begins to fall at 0.91


@dataclass(frozen=True)
class Decimator:
    """A low pass with the edge of an error function, and fewer samples a hop: `kept` instead of `hop`.

    G(f) = P((centre - f) / deviation),  P the normal distribution's cumulative function
    g(n) = sin(2 pi centre n) / (pi n) exp(-2 (pi deviation n)^2)
    """

    hop: int  # samples a hop at the full rate
    kept: int  # and at the lower one
    centre: float  # cycles per sample of the full rate
    deviation: float

    @property
    def edge(self) -> int:
        """Where the slope ends, in cycles of two hops. What lies between `kept` and here is folded back."""
        return min(self.hop, math.ceil(2 * self.hop * (self.centre + _EDGE_DEVIATIONS * self.deviation)))

    @property
    def support(self) -> int:
        """Samples of the full rate on either side that the impulse response needs."""
        return math.ceil(_SUPPORT / self.deviation)

    @property
    def period(self) -> tuple[int, int]:
        """(a, b): b samples of the lower rate take as long as a of the full rate, in lowest terms."""
        common = math.gcd(self.hop, self.kept)
        return self.hop // common, self.kept // common


@dataclass(frozen=True)
class Octave:
    """Some neighbouring bins, computed at one rate by kernels of one length.

    Kernel samples are those `-left .. size - left - 1` of the rate, counted from the frame's own time.
    """

    bins: range
    hop: int  # samples of the octave's rate from frame to frame
    left: int
    size: int
    decimator: Decimator | None  # None: the full rate
    delay: int = 0  # frames by which the octave is behind the layer's, where octaves keep latencies of their own

    @property
    def reach_left(self) -> int:
        """Samples of the octave's rate before the first frame's time that it needs."""
        return self.left + self.delay * self.hop

    @property
    def latency(self) -> int:
        """Samples of the full rate that must have been read after a frame's own time, the delay not counted."""
        right = self.size - 1 - self.left
        if self.decimator is None:
            return right + 1
        a, b = self.decimator.period
        # The last sample that a frame needs lies in block right // b, counted from the frame's own.
        return a * (right // b) + a + self.decimator.support


def plan_exact(bins: Bins, hop_length: int) -> list[Octave]:
    """Each octave at the lowest convenient rate that holds its filters, where that pays."""
    return [_cheaper(bins, part, hop_length) for part in bins.octaves()]


def plan_undecimated(bins: Bins, hop_length: int) -> list[Octave]:
    """Each octave at the full rate: the definition itself."""
    return [_octave(bins, part, hop_length, None) for part in bins.octaves()]


def plan_librosa(bins: Bins, hop_length: int, cutoff: float) -> list[Octave]:
    """Each octave at half the rate of the one above, as long as the hop can be halved. `cutoff` in Hz."""
    parts = bins.octaves()
    halvings = min(
        max(0, math.ceil(math.log2(bins.sample_rate / 2 / cutoff)) - 2),
        max(0, _twos(hop_length) - len(parts) + 1),
    )
    octaves = []
    for part in parts:
        kept = hop_length >> halvings
        size = 1 << math.ceil(math.log2(max(bins.lengths[k] for k in part) / (1 << halvings)))
        decimator = None
        if halvings:
            edge = 0.5 / (1 << halvings)
            deviation = edge * (1 - _LIBROSA_PASS) / (2 * _EDGE_DEVIATIONS)
            decimator = Decimator(hop_length, kept, edge - _EDGE_DEVIATIONS * deviation, deviation)
        octaves.append(Octave(part, kept, size // 2, size, decimator))
        halvings += kept % 2 == 0
    return octaves


def delayed(octaves: list[Octave], hop_length: int) -> list[Octave]:
    """Each octave behind by as many frames as it is later than the fastest."""
    first = min(octave.latency for octave in octaves)
    return [replace(octave, delay=-(-(octave.latency - first) // hop_length)) for octave in octaves]


def _cheaper(bins: Bins, part: range, hop_length: int) -> Octave:
    """The octave at a lower rate, or at the full one where that costs less."""
    full = _octave(bins, part, hop_length, None)
    needed = max(bins.reach(k, 2 * _NYQUIST) for k in part)
    kept = _convenient(hop_length, math.ceil(2 * needed / bins.sample_rate * hop_length))
    if kept > _MOST_KEPT * hop_length:
        return full
    top = max(bins.reach(k, 2 * _PASS) for k in part) / bins.sample_rate
    nyquist = kept / hop_length / 2
    deviation = min((nyquist - top) / _PASS_DEVIATIONS, (0.5 - nyquist) / _EDGE_DEVIATIONS)
    low = _octave(bins, part, hop_length, Decimator(hop_length, kept, nyquist, deviation))
    per_sample = 2 * len(part) + _COPY_COST
    return low if kept * _FFT_COST + low.size * per_sample < full.size * per_sample else full


def _octave(bins: Bins, part: range, hop_length: int, decimator: Decimator | None) -> Octave:
    kept = decimator.kept if decimator else hop_length
    # A filter's samples -N/2 .. N/2 - 1, reversed in time: see _basis.py
    left = max(math.floor((math.floor(bins.lengths[k] / 2) - 1) * kept / hop_length) for k in part)
    right = max(math.floor(-math.floor(-bins.lengths[k] / 2) * kept / hop_length) for k in part)
    left = max(left, 0)
    return Octave(part, kept, left, left + 1 + right, decimator)


def _convenient(hop_length: int, needed: int) -> int:
    """A number of samples a hop, at least as many as needed: without large factors, and in a simple ratio to the hop."""
    if needed > 0.9 * hop_length:
        return hop_length
    found = [n for n in range(needed, max(needed + 2, needed * 27 // 25 + 1)) if _largest_factor(n) <= 5]
    while not found:
        needed += 1
        found = [needed] if _largest_factor(needed) <= 5 else []
    return min(hop_length, max(found, key=lambda n: (math.gcd(n, hop_length), -n)))


def _largest_factor(number: int) -> int:
    return max(_factors(number), default=1)


def _factors(number: int) -> Iterator[int]:
    factor = 2
    while number > 1:
        while number % factor == 0:
            yield factor
            number //= factor
        factor += 1


def _twos(number: int) -> int:
    return (number & -number).bit_length() - 1
