"""The mel scale, its filter bank, and the mel spectrogram."""

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from ._arguments import choice, positive_int, real
from ._bands import FilterBankFrontEnd, check_range

__all__ = ["MelSpectrogram", "mel_filter_bank", "mel_frequencies"]


class MelSpectrogram(FilterBankFrontEnd):
    """Mel spectrogram: the power of short-time spectra, summed in triangular bands that are even on the mel scale.

    M[m, t] = sum_k F[m, k] |X[k, t]| ** power,  with X as in `STFT` and F as in `mel_filter_bank`

    The defaults are librosa's. Spectra and bands are float32, under autocast and for half precision input too; float64
    input gives float64. Gradients are finite on silence. Samples that are NaN or infinite make the frames that see them
    NaN: they are refused where audio is read, not here.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_fft: length of the FFT, in samples, >= 1.
        win_length: length of the window, in samples, 1 .. n_fft; `n_fft` by default.
        hop_length: samples from one frame to the next, >= 1; None is `win_length // 4`.
        n_mels: number of bands, >= 1. Bands so narrow that no bin of the FFT falls into them are always 0: a warning
            names them.
        fmin, fmax: the lower edge of the first and the upper edge of the last band, in Hz,
            0 <= fmin < fmax <= sample_rate / 2; fmax is the Nyquist frequency by default.
        beyond_nyquist: True lets fmax lie above sample_rate / 2, as torchaudio does without a word; here a warning names the
            bands up there, which are always 0. For what was published with such bands.
        scale: "slaney" (linear below 1 kHz, logarithmic above) or "htk".
        norm: "slaney" divides a band by half its width in Hz, None leaves its peak at 1, a number p divides it by its
            p-norm.
        power: exponent of the magnitude, > 0: 2 for power, 1 for magnitude.
        window, center, pad_mode, engine: as for `STFT`.
        trainable: names among "window", "basis" (as for `STFT`) and "filter_bank" that become parameters. What does not
            learn is rebuilt, not stored: the state dict is empty.
    Shape:
        wave: [..., samples], any leading dimensions, an empty batch included (it gives an empty output).
        Returns [..., n_mels, frames], `.frames(samples)` frames.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: fmax above the Nyquist frequency, fmin >= fmax, and what `STFT` refuses.
    References:
        `librosa.feature.melspectrogram` 0.11, equal within 1e-6 of the peak. `torchaudio.transforms.MelSpectrogram`
        (whose defaults are scale="htk", norm=None, pad_mode="reflect").
    Example:
        >>> import torch, temporal
        >>> mel = temporal.frontends.MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40)
        >>> mel(torch.randn(2, 16000)).shape, mel.latency
        (torch.Size([2, 40, 101]), 256)
        >>> state = None
        >>> for chunk in torch.randn(1600).split(320):
        ...     frames, state = mel.stream(chunk, state)
        >>> frames.shape
        torch.Size([40, 2])
    """

    def __init__(
        self,
        sample_rate: float,
        n_fft: int = 2048,
        *,
        win_length: int | None = None,
        hop_length: int | None = 512,
        n_mels: int = 128,
        fmin: float = 0.0,
        fmax: float | None = None,
        beyond_nyquist: bool = False,
        scale: Literal["slaney", "htk"] = "slaney",
        norm: Literal["slaney"] | float | None = "slaney",
        power: float = 2.0,
        window: str | Tensor = "hann",
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        engine: Literal["auto", "fft", "conv"] = "auto",
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center, pad_mode, engine, trainable)
        owner = type(self).__name__
        self._set_sample_rate(sample_rate)
        self.n_mels = positive_int(owner, "n_mels", n_mels, "bands")
        self.scale = choice(owner, "scale", scale, ("slaney", "htk"))
        self.power = real(owner, "power", power, above=0)
        self.norm = _check_norm(owner, norm)
        self.fmin, self.fmax = check_range(owner, self.sample_rate, fmin, fmax, beyond_nyquist=beyond_nyquist)
        self._register_bank()

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, {self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, "
            f"n_mels={self.n_mels}, fmin={self.fmin:g}, fmax={self.fmax:g}, scale={self.scale!r}, norm={self.norm!r}, "
            f"power={self.power:g}, center={self.center}, pad_mode={self.pad_mode!r}, "
            f"engine={self.engine!r}, trainable={self.trainable}"
        )

    @property
    def frequencies(self) -> Tensor:
        """The bands' centres in Hz, [n_mels] in float64."""
        return mel_frequencies(self.n_mels + 2, self.fmin, self.fmax, self.scale, device=self.window.device)[1:-1]

    def _build_filter_bank(self, device: torch.device | None) -> Tensor:
        return mel_filter_bank(
            self.sample_rate, self.n_fft, self.n_mels, self.fmin, self.fmax, self.scale, self.norm, device=device
        )

    def _beyond(self) -> str:
        nyquist = self.sample_rate / 2
        if self.fmax <= nyquist:
            return ""
        return (
            f"fmax={self.fmax:g} Hz is above the Nyquist frequency of sample_rate={self.sample_rate:g} Hz ({nyquist:g} Hz), "
            "where there is nothing to hear"
        )

    def _advice(self) -> str:
        if self.fmax > self.sample_rate / 2:
            return f"Use fmax={self.sample_rate / 2:g}, and fewer bands where that still leaves empty ones"
        edges = mel_frequencies(self.n_mels + 2, self.fmin, self.fmax, self.scale, device="cpu")
        enough = math.ceil(self.sample_rate / float((edges[2:] - edges[:-2]).min()))
        return f"Use fewer bands, or an n_fft of at least {enough}"


def mel_filter_bank(
    sample_rate: float,
    n_fft: int,
    n_mels: int,
    fmin: float,
    fmax: float,
    scale: str = "slaney",
    norm: str | float | None = "slaney",
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Triangles over the bins of an FFT, [n_mels, n_fft // 2 + 1], in float64.

    F[m, k] = max(0, min((f_k - e_m) / (e_{m+1} - e_m), (e_{m+2} - f_k) / (e_{m+2} - e_{m+1})))

    with f_k = k * sample_rate / n_fft and edges e even on the mel scale; times 2 / (e_{m+2} - e_m) for norm="slaney".
    """
    edges = mel_frequencies(n_mels + 2, fmin, fmax, scale, device=device)
    left, centre, right = (edges[i : n_mels + i, None] for i in range(3))
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device=device) * (sample_rate / n_fft)
    bank = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0)
    if norm is None:
        return bank
    if norm == "slaney":
        return bank * (2 / (right - left))
    size = torch.linalg.vector_norm(bank, norm, dim=1, keepdim=True)
    return bank / torch.where(size > 0, size, 1.0)


def mel_frequencies(
    count: int, fmin: float, fmax: float, scale: str = "slaney", *, device: torch.device | str | None = None
) -> Tensor:
    """`count` frequencies from `fmin` to `fmax`, in Hz, even on the mel scale, in float64."""
    mels = torch.linspace(_to_mel(fmin, scale), _to_mel(fmax, scale), count, dtype=torch.float64, device=device)
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return torch.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, _KNEE_HZ * torch.exp(_LOG_STEP * (mels - _KNEE_MEL)))


# Slaney's scale: 3 mel in 200 Hz up to 1 kHz, then 27 mel for each factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL


def _to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hz / 700)
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _check_norm(owner: str, norm: str | float | None) -> str | float | None:
    if norm is None or norm == "slaney":
        return norm
    if isinstance(norm, str):
        raise ValueError(f"{owner}: norm={norm!r} is unknown; give 'slaney', None, or a number p for the p-norm")
    if norm == math.inf:
        return math.inf
    return real(owner, "norm", norm, above=0)
