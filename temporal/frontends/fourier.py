"""The short-time Fourier transform."""

from typing import Literal

import torch
from torch import Tensor

from ._arguments import choice
from ._spectral import SpectralFrontEnd, spectral_power

__all__ = ["STFT"]


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
            [win_length]. It is rebuilt, not stored in the state dict.
        center: frame t is centred on sample `t * hop_length`; with False it begins there.
        pad_mode: how a centred signal goes on beyond its ends: "constant" (zeros) or "reflect".
        output: "magnitude" |X|, "power" |X|^2, "complex" X, or "phase", the angle of X in radians (0 where X is 0).
    Shape:
        wave: [..., samples], any leading dimensions, an empty batch included (it gives an empty output).
        Returns [..., n_fft // 2 + 1, frames], `.frames(samples)` frames, bin k at `k * sample_rate / n_fft` Hz.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: win_length > n_fft, hop_length < 1, an unknown name; with `center=False` a signal shorter than
            n_fft; with "reflect" a signal of at most `n_fft // 2` samples.
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
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center, pad_mode)
        self.output = choice("STFT", "output", output, ("magnitude", "power", "complex", "phase"))
        self._register_spectrum()

    def extra_repr(self) -> str:
        return (
            f"{self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, center={self.center}, "
            f"pad_mode={self.pad_mode!r}, output={self.output!r}"
        )

    def _features(self, spectra: Tensor) -> Tensor:
        if self.output == "phase":
            features = torch.angle(spectra)
        elif self.output == "complex":
            features = spectra
        else:
            features = spectral_power(spectra, 2 if self.output == "power" else 1)
        return features.transpose(-1, -2)
