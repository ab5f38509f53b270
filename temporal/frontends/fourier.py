"""The short-time Fourier transform."""

from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from temporal.kernels.bands import magnitude, spectrogram

from ._arguments import choice, positive_int, real
from ._bins import FREQUENCY_SCALES, bin_frequencies, bins_that_fit, check_scale_range
from ._precision import full_precision
from ._spectral import SpectralFrontEnd
from ._step import OnePass
from .levels import logarithm_of_powers

__all__ = ["STFT"]

_POWER = {"magnitude": 1.0, "power": 2.0}


class STFT(SpectralFrontEnd):
    """Short-time Fourier transform: the spectrum of a window that hops along the signal.

    X[k, t] = sum_n w[n] x[t * hop_length + n - n_fft // 2] exp(-2 pi i k n / n_fft),  0 <= n < n_fft

    (without `- n_fft // 2` if `center=False`). The window is periodic and lies in the middle of `n_fft` samples.
    Spectra are float32 (complex64), under autocast and for half precision input too; float64 input gives float64.
    Gradients are finite on silence. Samples that are NaN or infinite make the frames that see them NaN: they are
    refused where audio is read, not here.

    Args:
        n_fft: length of the FFT, in samples, >= 1.
        win_length: length of the window, in samples, 1 .. n_fft; `n_fft` by default.
        hop_length: samples from one frame to the next, >= 1; `win_length // 4` by default.
        window: "hann", "hamming", "blackman", "blackmanharris", "nuttall", "flattop" or "boxcar", or a tensor
            [win_length]. It is rebuilt, not stored in the state dict, unless it learns.
        center: frame t is centred on sample `t * hop_length`; with False it begins there.
        pad_mode: how a centred signal goes on beyond its ends: "constant" (zeros) or "reflect".
        output: "magnitude" |X|, "power" |X|^2, "complex" X, or "phase", the angle of X in radians (0 where X is 0).
        sample_rate: of the signal, in Hz, > 0; needed for `.frequencies` and `freq_scale`.
        freq_scale: None has the bins of the FFT, bin k at `k * sample_rate / n_fft` Hz. Otherwise bin j lies exactly at

            "linear"  fmin + (fmax - fmin) j / (n_bins - 1)
            "log"     fmin (fmax / fmin) ** (j / (n_bins - 1))
            "log2"    fmin 2 ** (j / bins_per_octave)
            "mel"     evenly between fmin and fmax on Slaney's mel scale

            and k / n_fft in the equation becomes that frequency over `sample_rate`. Such a spectrum has no inverse.
        n_bins: their number, >= 1; `n_fft // 2 + 1` by default, and as many as reach fmax with "log2".
        fmin, fmax: the lowest and highest bin, in Hz, 0 <= fmin < fmax <= sample_rate / 2. By default fmin is 0, or
            `sample_rate / n_fft` on the logarithmic scales (where it must be above 0), and fmax the Nyquist frequency.
        bins_per_octave: for "log2", >= 1.
        engine: how the spectra are computed, with the same result within rounding: "fft"; "conv", a convolution with
            windowed sines, which `freq_scale` and a trainable basis need; or "auto", the faster by a measured rule
            (small windows take "conv"). The choice is read from `.engine`. In ONNX, take "conv" where `n_fft` is no
            power of two: onnxruntime's own FFT of such lengths is off by 2e-5 of the peak.
        trainable: names among "window" and "basis" that become parameters: `.window` [n_fft], and `.basis`
            [2 * bins, n_fft], rows cos(2 pi f n) and then -sin(2 pi f n). Both start from the exact transform.
    Shape:
        wave: [..., samples], any leading dimensions, an empty batch included (it gives an empty output).
        Returns [..., bins, frames]: `n_fft // 2 + 1` or `n_bins` bins, `.frames(samples)` frames.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: win_length > n_fft, hop_length < 1, an unknown name, bins above the Nyquist frequency;
            with `center=False` a signal shorter than n_fft; with "reflect" a signal of at most `n_fft // 2` samples.
    References:
        `librosa.stft` 0.11, whose numbers and defaults these are; `torch.stft`, which reflects by default.
    Example:
        >>> import torch, temporal
        >>> stft = temporal.frontends.STFT(400, hop_length=160, output="power")
        >>> stft(torch.randn(2, 16000)).shape, stft.frames(16000)
        (torch.Size([2, 201, 101]), 101)
        >>> head, state = stft.stream(torch.randn(2, 1000))
        >>> tail, _ = stft.flush(state)
        >>> head.shape[-1] + tail.shape[-1] == stft.frames(1000)
        True
    """

    freq_scale: str | None

    def __init__(
        self,
        n_fft: int = 2048,
        *,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: str | Tensor = "hann",
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        output: Literal["magnitude", "power", "complex", "phase"] = "magnitude",
        sample_rate: float | None = None,
        freq_scale: Literal["linear", "log", "log2", "mel"] | None = None,
        n_bins: int | None = None,
        fmin: float | None = None,
        fmax: float | None = None,
        bins_per_octave: int = 12,
        engine: Literal["auto", "fft", "conv"] = "auto",
        trainable: Collection[str] = (),
    ) -> None:
        own_bins = freq_scale is not None
        super().__init__(n_fft, win_length, hop_length, window, center, pad_mode, engine, trainable, own_bins=own_bins)
        self.output = choice("STFT", "output", output, ("magnitude", "power", "complex", "phase"))
        if sample_rate is not None:
            rate = real("STFT", "sample_rate", sample_rate, above=0, unit="Hz")
            self.sample_rate = int(rate) if rate.is_integer() else rate
        self.bins_per_octave = positive_int("STFT", "bins_per_octave", bins_per_octave, "bins")
        self.freq_scale = None if freq_scale is None else choice("STFT", "freq_scale", freq_scale, FREQUENCY_SCALES)
        self._set_bins(n_bins, fmin, fmax)
        self._register_spectrum()

    def _set_bins(self, n_bins: int | None, fmin: float | None, fmax: float | None) -> None:
        if self.freq_scale is None:
            given = {"n_bins": n_bins, "fmin": fmin, "fmax": fmax}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"STFT: {name}={value} is for other bins than the FFT's; give freq_scale, too")
            self.n_bins = self.n_fft // 2 + 1
            return
        if self.sample_rate is None:
            raise ValueError(f"STFT: freq_scale={self.freq_scale!r} places bins in Hz; give sample_rate, too")
        self.fmin, self.fmax = check_scale_range("STFT", self.freq_scale, self.sample_rate, self.n_fft, fmin, fmax)
        if n_bins is not None:
            self.n_bins = positive_int("STFT", "n_bins", n_bins, "bins")
        elif self.freq_scale == "log2":
            self.n_bins = bins_that_fit(self.fmin, self.fmax, self.bins_per_octave)
        else:
            self.n_bins = self.n_fft // 2 + 1
        highest = float(
            bin_frequencies(self.freq_scale, self.n_bins, self.fmin, self.fmax, self.bins_per_octave, None)[-1]
        )
        if highest > self.sample_rate / 2 * (1 + 1e-9):
            fit = bins_that_fit(self.fmin, self.sample_rate / 2, self.bins_per_octave)
            raise ValueError(
                f"STFT: n_bins={self.n_bins} end at {highest:g} Hz, above the Nyquist frequency of "
                f"sample_rate={self.sample_rate:g} Hz ({self.sample_rate / 2:g} Hz); give at most {fit}"
            )

    def extra_repr(self) -> str:
        bins = f", freq_scale={self.freq_scale!r}, n_bins={self.n_bins}" if self.freq_scale else ""
        learns = f", trainable={self.trainable}" if self.trainable else ""
        return (
            f"{self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}{bins}, center={self.center}, "
            f"pad_mode={self.pad_mode!r}, output={self.output!r}, engine={self.engine!r}{learns}"
        )

    @property
    def frequencies(self) -> Tensor:
        """Of the bins, in Hz, [bins] in float64; needs `sample_rate`."""
        if self.sample_rate is None:
            raise ValueError("STFT: frequencies in Hz need sample_rate, which was not given")
        return self._bin_frequencies(self.window.device) * self.sample_rate

    def absorbs(self, following: nn.Module) -> dict[str, Any] | None:
        """A `Log` behind it, for magnitudes and powers."""
        return logarithm_of_powers(following) if self.output in _POWER else None

    def _bin_frequencies(self, device: torch.device | None) -> Tensor:
        if self.freq_scale is None or self.sample_rate is None:
            return super()._bin_frequencies(device)
        hz = bin_frequencies(self.freq_scale, self.n_bins, self.fmin, self.fmax, self.bins_per_octave, device)
        return hz / self.sample_rate

    def _one_pass(self) -> OnePass | None:
        power = _POWER.get(self.output)
        return None if power is None or self.engine != "fft" or self.trainable else (self.window, None, None, power)

    def _transform(self, samples: Tensor, left: int = 0, right: int = 0, log: float | None = None) -> Tensor:
        power = _POWER.get(self.output)
        with full_precision(samples):
            if power and self.engine == "fft":
                window = self._constant("window", samples.dtype)
                return spectrogram(samples, window, None, self.hop_length, left=left, right=right, power=power, log=log)
            spectra = self._spectra(samples, left, right)
            if power:
                return magnitude(spectra, power=power, log=log)
            return (torch.angle(spectra) if self.output == "phase" else spectra).transpose(-1, -2)
