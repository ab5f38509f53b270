"""The travelling wave's transfer functions: the equations, and the table from which they are had at any frequency.

One-dimensional shallow-water wave along the membrane. With angular frequency w and place c (0 at the base, 3.5 at the apex):

    S(c) = C0 e^(-alpha c) - a,  R(c) = r e^(-alpha c / 2),  xi(w, c) = S - m w^2 - i w R,  g(w, c) = w sqrt(rho / (h xi))
    G(w, c) = 2 g(w, 0) / alpha - [2 i sqrt(2) w / (alpha sqrt(2 h (m w^2 + a)))] log(N / D)
    p(w, c) = sqrt(G / g) H0(G),  k = (2 w / alpha) sqrt(2 / (h C0))
    z(w) = sqrt(2 C0 / h) (i J0(k) + Y0(k)) / (J1(k) - i Y1(k))
    V(w, c) = (2 w / xi) p(w, c) z(w) / p(w, 0)

with N and D as in ``_phase_integral`` and the Hankel function H0 of the first kind. V turns pressure into velocity. It is
written for e^(-i w t); the converter of SHD and SSC multiplies by it what a Fourier transform of the other sign gives,
so that its responses come *before* their cause, the apex' up to 0.2 s. Who wants the converter's spikes must do so too.

ln V is smoother than V: a polynomial of degree 5 on each of 300 narrow bands of frequencies gives V within 2e-7 of its peak.
What the Hankel functions cost, a second or two, is spent once, on the table.

References:
    Sieroka, Dosch, Rupp 2006, JASA 120, 297. Cramer, Stradmann, Schemmel, Zenke 2020, arXiv:1910.07407.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.polynomial import chebyshev

from .ear import HIGHEST

__all__ = ["DEGREE", "LENGTH", "Transfer", "velocity_response"]

_ALPHA, _C0, _A, _RHO, _DELTA, _H, _M = 3.0, 1e9, 3500.0, 1.0, 0.15, 0.1, 0.05
_R = _DELTA * np.sqrt(_C0 * _M)
LENGTH = 3.5  # of the membrane, in the units of c
DEGREE = 5  # of the polynomials
_LOW_BANDS, _KNEE, _BANDS = 20, 40.0, 280  # bands up to the knee, in Hz, below all tips; bands above it
_NEGLIGIBLE = 1e-8  # of a place's peak; beyond, a response counts as 0


@dataclass(frozen=True, eq=False)
class Transfer:
    """V of so many places at any frequency from 1 Hz to ``HIGHEST``.

    ln V = sum_d (amplitude + i phase)[band, place, d] t^d, where t runs from -1 to 1 over the band.
    """

    edges: np.ndarray  # [bands + 1], Hz
    amplitude: np.ndarray  # [bands, places, DEGREE + 1]
    phase: np.ndarray  # [bands, places, DEGREE + 1], radians
    end: np.ndarray  # [places], Hz: from here on the response is negligible
    best: np.ndarray  # [places], Hz: where it is greatest
    gain: np.ndarray  # [places]: |V| there

    @classmethod
    def computed(cls, channels: int) -> "Transfer":
        """From the equations: two seconds for 700 channels."""
        places = np.linspace(0, LENGTH, channels)
        edges = np.concatenate([np.geomspace(1, _KNEE, _LOW_BANDS + 1)[:-1], np.geomspace(_KNEE, HIGHEST, _BANDS + 1)])
        nodes = chebyshev.chebpts1(DEGREE + 1)
        middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
        frequencies = (middle[:, None] + half[:, None] * nodes).ravel()
        logarithm = _log_velocity(2 * np.pi * frequencies[None], places[:, None])
        real, imaginary = (_polynomials(part, nodes) for part in (logarithm.real, np.unwrap(logarithm.imag)))
        unmarked = np.full(channels, np.inf)
        table = cls(edges, real, imaginary, unmarked, unmarked, unmarked)
        grid = np.geomspace(1, HIGHEST, 4096)
        level = np.abs(table(grid))
        peak = level.max(1)
        last = (level > _NEGLIGIBLE * peak[:, None]).cumsum(1).argmax(1)
        end = np.where(last + 1 < grid.size, grid[np.minimum(last + 1, grid.size - 1)], np.inf)
        return cls(edges, real, imaginary, end, grid[level.argmax(1)], peak)

    def __call__(self, frequencies: np.ndarray, first: int = 0, stop: int | None = None) -> np.ndarray:
        """V at rising frequencies, in Hz, of the places first .. stop: [places, frequencies], complex128."""
        amplitude, phase = self.amplitude[:, first:stop], self.phase[:, first:stop]
        value = np.zeros((amplitude.shape[1], frequencies.size), complex)
        starts = np.searchsorted(frequencies, self.edges)
        starts[0], starts[-1] = 0, frequencies.size
        for band, (low, high) in enumerate(pairwise(starts)):
            if low < high:
                t = self.position(band, frequencies[low:high])
                powers = t ** np.arange(DEGREE + 1)[:, None]
                value[:, low:high] = np.exp(amplitude[band] @ powers + 1j * (phase[band] @ powers))
        value[frequencies >= self.end[first:stop, None]] = 0
        return value

    def position(self, band: int, frequencies: np.ndarray) -> np.ndarray:
        """Where in a band frequencies lie, -1 .. 1."""
        low, high = self.edges[band], self.edges[band + 1]
        return (2 * frequencies - low - high) / (high - low)


def velocity_response(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """V(w, c) from the equations, for arrays that broadcast."""
    return np.exp(_log_velocity(w, c))


def _log_velocity(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """ln V, finite where V itself is too small for a number."""
    from scipy.special import j0, j1, y0, y1

    k = (2 * w / _ALPHA) * np.sqrt(2 / (_H * _C0))
    z = np.sqrt(2 * _C0 / _H) * (1j * j0(k) + y0(k)) / (j1(k) - 1j * y1(k))
    base = np.zeros((1, 1))
    return np.log(2 * w / _impedance(w, c)) + _log_pressure(w, c) + np.log(z) - _log_pressure(w, base)


def _log_pressure(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    from scipy.special import hankel1e

    integral = _phase_integral(w, c)
    return 0.5 * np.log(integral / _wave_number(w, c)) + np.log(hankel1e(0, integral)) + 1j * integral


def _phase_integral(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """G(w, c)."""
    root = np.sqrt(_A + _M * w**2)
    damping = 1j * np.exp(-_ALPHA * c / 2) * _R
    numerator = -_ALPHA * np.sqrt(_C0 - _A - w * (_M * w + 1j * _R))
    numerator = numerator + 1j * _ALPHA * (2 * _A + w * (2 * _M * w + 1j * _R)) / (2 * root)
    stiffness = np.sqrt(_C0 * np.exp(-_ALPHA * c) - _A - _M * w**2 - damping * w)
    denominator = -2 * stiffness + 1j * (2 * _A + w * (2 * _M * w + damping)) / root
    ratio = numerator / (_ALPHA / 2 * np.exp(_ALPHA * c / 2) * denominator)
    factor = 2j * np.sqrt(2) * w / (_ALPHA * np.sqrt(2 * _H * (_M * w**2 + _A)))
    return 2 * _wave_number(w, 0 * c) / _ALPHA - factor * np.log(ratio)


def _wave_number(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """g(w, c)."""
    return w * np.sqrt(_RHO / (_H * _impedance(w, c)))


def _impedance(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """xi(w, c)."""
    return _C0 * np.exp(-_ALPHA * c) - _A - _M * w**2 - 1j * w * _R * np.exp(-_ALPHA * c / 2)


def _polynomials(values: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """[places, bands * nodes] -> coefficients [bands, places, powers]."""
    matrix = np.linalg.inv(np.vander(nodes, increasing=True))
    return np.moveaxis(values.reshape(len(values), -1, nodes.size) @ matrix.T, 1, 0).copy()
