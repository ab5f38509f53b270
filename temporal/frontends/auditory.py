"""The gammatone filter bank of the ear's frequency resolution, and its spectrogram."""

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from ._arguments import positive_int, real
from ._bands import FilterBankFrontEnd, check_range

__all__ = ["Gammatonegram", "gammatone_filter_bank", "gammatone_frequencies"]

_EAR_Q, _MIN_BANDWIDTH = 9.26449, 24.7  # Glasberg and Moore 1990: ERB = f / Q + minimum, in Hz


class Gammatonegram(FilterBankFrontEnd):
    """Gammatone spectrogram: the power of short-time spectra, weighted as the ear's filters weight it.

    G[m, t] = sum_k W[m, k] |X[k, t]| ** power,  with X as in `STFT` and W as in `gammatone_filter_bank`

    The bands are even on the scale of equivalent rectangular bandwidths (ERB), the lowest first. A band's weights sum to
    about 1 times its bandwidth in bins over `n_fft`.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_fft: length of the FFT, in samples, >= 1.
        win_length: length of the window, in samples, 1 .. n_fft; `n_fft` by default.
        hop_length: samples from one frame to the next, >= 1; None is `win_length // 4`.
        n_bins: number of bands, >= 1. Bands far narrower than a bin of the FFT weigh no bin: a warning names them.
        fmin, fmax: between them the bands lie, in Hz, 0 <= fmin < fmax <= sample_rate / 2; fmax is the Nyquist frequency
            by default. The lowest band is centred at fmin, the highest one step below fmax.
        power: exponent of the magnitude, > 0.
        window, center, pad_mode, engine: as for `STFT`.
        trainable: names among "window", "basis" (as for `STFT`) and "filter_bank" that become parameters. What does not
            learn is rebuilt, not stored.
    Shape:
        wave: [..., samples], any leading dimensions.  Returns [..., n_bins, frames], `.frames(samples)` frames.
    Raises:
        TypeError, ValueError: what `MelSpectrogram` refuses.
    References:
        Slaney 1993, An efficient implementation of the Patterson-Holdsworth auditory filter bank; Ellis 2009,
        Gammatone-like spectrograms. nnAudio's `Gammatonegram` within the rounding of its bank (pad_mode="reflect").
    Example:
        >>> import torch, temporal
        >>> gammatone = temporal.frontends.Gammatonegram(16000, n_fft=1024, hop_length=160)
        >>> gammatone(torch.randn(2, 16000)).shape
        torch.Size([2, 64, 101])
    """

    _bands_argument = "n_bins"

    def __init__(
        self,
        sample_rate: float,
        n_fft: int = 2048,
        *,
        win_length: int | None = None,
        hop_length: int | None = 512,
        n_bins: int = 64,
        fmin: float = 20.0,
        fmax: float | None = None,
        power: float = 2.0,
        window: str | Tensor = "hann",
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        engine: Literal["auto", "fft", "conv"] = "auto",
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center, pad_mode, engine, trainable)
        self._set_sample_rate(sample_rate)
        self.n_bins = positive_int("Gammatonegram", "n_bins", n_bins, "bands")
        self.power = real("Gammatonegram", "power", power, above=0)
        self.fmin, self.fmax = check_range("Gammatonegram", self.sample_rate, fmin, fmax)
        self._register_bank()

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, {self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, "
            f"n_bins={self.n_bins}, fmin={self.fmin:g}, fmax={self.fmax:g}, power={self.power:g}, "
            f"center={self.center}, pad_mode={self.pad_mode!r}, engine={self.engine!r}, trainable={self.trainable}"
        )

    @property
    def frequencies(self) -> Tensor:
        """The bands' centres in Hz, [n_bins] in float64."""
        return gammatone_frequencies(self.n_bins, self.fmin, self.fmax, device=self.window.device)

    def _build_filter_bank(self, device: torch.device | None) -> Tensor:
        return gammatone_filter_bank(self.sample_rate, self.n_fft, self.n_bins, self.fmin, self.fmax, device=device)


def gammatone_frequencies(count: int, fmin: float, fmax: float, *, device: torch.device | str | None = None) -> Tensor:
    """`count` frequencies in Hz, even on the ERB scale, from `fmin` to one step below `fmax`, in float64."""
    offset = _EAR_Q * _MIN_BANDWIDTH
    step = torch.arange(count, 0, -1, dtype=torch.float64, device=device) / count
    return (fmax + offset) * torch.exp(step * math.log((fmin + offset) / (fmax + offset))) - offset


def gammatone_filter_bank(
    sample_rate: float,
    n_fft: int,
    n_bins: int,
    fmin: float,
    fmax: float,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Weights of an FFT's power that follow fourth-order gammatone filters, [n_bins, n_fft // 2 + 1], in float64.

    W[m, k] = (T^4 / g) prod_j |z_k - r_j| / |(z_k - p)(z_k - p*)|^4 / n_fft,  z_k = exp(2 pi i k / n_fft), T = 1 / rate

    with the pole p = exp(-B T) exp(2 pi i f_m T), B = 1.019 * 2 pi ERB(f_m), and the four zeros of Slaney's cascade,
    r_j = exp(-B T) (cos(2 pi f_m T) +- sqrt(3 +- 2^1.5) sin(2 pi f_m T)); g is the cascade's gain at f_m.
    """
    centre = gammatone_frequencies(n_bins, fmin, fmax, device=device)[:, None]
    period = 1 / sample_rate
    angle = 2 * math.pi * centre * period
    radius = torch.exp(-1.019 * 2 * math.pi * (centre / _EAR_Q + _MIN_BANDWIDTH) * period)
    pole = torch.polar(radius, angle)
    at_centre = torch.polar(torch.ones_like(angle), angle)
    circle = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device=device) * (2 * math.pi / n_fft)
    circle = torch.polar(torch.ones_like(circle), circle)
    zeros = [
        radius * (torch.cos(angle) + sign * math.sqrt(3 + other * 2**1.5) * torch.sin(angle))
        for sign in (1, -1)
        for other in (1, -1)
    ]

    def response(z: Tensor) -> Tensor:
        away = torch.stack([(z - zero).abs() for zero in zeros]).prod(0)
        return away / ((z - pole) * (z - pole.conj())).abs() ** 4

    return response(circle) / response(at_centre) / n_fft
