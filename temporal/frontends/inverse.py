"""The way back: from spectra to a signal, and from mel bands to spectra."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from ._arguments import positive_int, read_spectra
from ._constants import DerivedConstants
from ._precision import full_precision
from ._stage import Framewise
from ._synthesis import Synthesis, SynthesisState, arguments_of
from .fourier import STFT
from .mel import MelSpectrogram, mel_filter_bank

__all__ = ["InverseMel", "InverseSTFT"]

_BANDS = ("fmin", "fmax", "scale", "norm")
_PENALTY = 0.01  # of ADMM, a part of the largest eigenvalue of F F^T: the best of 0.003 .. 0.1 on three banks
_RELAXATION = 1.8


class InverseSTFT(Synthesis):
    """Inverse short-time Fourier transform: the signal whose spectra come nearest to those given.

    x[n] = sum_t w[m] f_t[m] / sum_t w[m]^2,  m = n + n_fft // 2 - t * hop_length,  f_t the inverse FFT of frame t

    (without `n_fft // 2` if `center=False`). The window divides out, so what `STFT` gives comes back exactly, whatever the
    window, as long as every sample lies under one. At the ends of a signal that is not centred the sum of windows may be
    tiny, and rounding is amplified there; where it is 0, so is the signal.

    Args:
        n_fft, win_length, hop_length, window, center: those of the `STFT`; `InverseSTFT.of(stft)` takes them over.
        trainable: ("window",) makes the window a parameter [n_fft].
    Shape:
        spectra: complex [..., n_fft // 2 + 1, frames], any leading dimensions.
        length: samples to give: the signal is cut there, or goes on as zeros. By default
            `(frames - 1) * hop_length` for an even n_fft (one more for an odd one; n_fft more with `center=False`).
        Returns [..., samples]; `.frames(frames)` says how many without `length`. `hop_length` counts samples here, one
        hop for each frame that comes in; `latency` counts frames. A stream gives the samples that no later frame reaches.
    Raises:
        TypeError: spectra that are not complex.
        ValueError: a window and a hop that leave gaps (the error names the hop that works); another number of bins;
            `of` a transform whose bins are not those of its FFT.
    References:
        Griffin and Lim 1984, Signal estimation from modified short-time Fourier transform. `librosa.istft` 0.11, equal
        within 1e-6 of the peak; `torch.istft`, which refuses windows whose sum is tiny at an end.
    Example:
        >>> import torch, temporal
        >>> stft = temporal.frontends.STFT(400, hop_length=160, output="complex")
        >>> inverse = temporal.frontends.InverseSTFT.of(stft)
        >>> wave = torch.randn(2, 16000)
        >>> torch.allclose(inverse(stft(wave), length=16000), wave, atol=1e-5)
        True
        >>> round_trip = temporal.frontends.Chain(stft, inverse)
        >>> samples, state = round_trip.stream(wave[:, :1000])
        >>> samples.shape, round_trip.latency
        (torch.Size([2, 760]), 400)
    """

    def __init__(
        self,
        n_fft: int = 2048,
        *,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: str | Tensor = "hann",
        center: bool = True,
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center, trainable)

    @classmethod
    def of(cls, stft: STFT) -> "InverseSTFT":
        """The inverse of `stft`: its sizes, window and centring."""
        return cls(**arguments_of(cls.__name__, stft))

    def forward(self, spectra: Tensor, length: int | None = None) -> Tensor:
        """Complex [..., bins, frames] -> [..., samples]."""
        windows = self._windows(spectra)
        return self._synthesise(windows, self._samples(windows.shape[-2], length))

    def stream(self, chunk: Tensor, state: SynthesisState | None = None) -> tuple[Tensor, SynthesisState]:
        """The samples that no later frame reaches, and the sums that later frames add to."""
        return self._synthesise_chunk(self._windows(chunk), state)

    def flush(self, state: SynthesisState) -> tuple[Tensor, None]:
        """The last samples, up to the length that so many frames give."""
        return self._flush_chunk(state)

    def _windows(self, spectra: Tensor) -> Tensor:
        """Complex [..., bins, frames] -> the inverse FFT of each, [..., frames, n_fft]."""
        spectra = read_spectra(type(self).__name__, spectra, self.n_fft // 2 + 1).transpose(-1, -2)
        if spectra.numel() == 0:  # MKL refuses an empty batch; this one has the shape, and a gradient
            return spectra.real.sum(-1, keepdim=True).expand(*spectra.shape[:-1], self.n_fft)
        with full_precision(spectra.real):
            return torch.fft.irfft(spectra, self.n_fft)


class InverseMel(DerivedConstants, Framewise):
    """Spectra that have the mel bands given: non-negative least squares, each frame by itself, for all frames at once.

    X[:, t] = argmin ||F X[:, t] - M[:, t]||^2,  X >= 0

    with F as in `mel_filter_bank`, by the alternating direction method of multipliers from the clipped least-norm solution
    on: matrix products alone, a fixed number of them, so that nothing waits for the device. Many spectra have the same
    bands; this one is smooth. Bands of a real spectrogram are met within 1e-3 of their norm.

    Args:
        sample_rate, n_fft: of the spectra, in Hz and samples.
        n_iter: iterations, >= 1.
        mel: `n_mels`, `fmin`, `fmax`, `scale`, `norm` and `power` as for `MelSpectrogram`; `InverseMel.of(mel)` takes them
            over. The spectra come with the mel spectrogram's power: 2 for |X|^2.
    Shape:
        frames: [..., n_mels, frames], values >= 0.  Returns [..., n_fft // 2 + 1, frames], values >= 0.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: another number of bands; what `MelSpectrogram` refuses.
    References:
        Boyd et al. 2011, Distributed optimization and statistical learning via ADMM, sections 3.4.3 and 5.2.
        `librosa.feature.inverse.mel_to_stft` 0.11 (the same problem by L-BFGS, which may stop early);
        `torchaudio.transforms.InverseMelScale` (least squares, then negative values cut off).
    Example:
        >>> import torch, temporal
        >>> mel = temporal.frontends.MelSpectrogram(16000, n_fft=512, hop_length=128, n_mels=40)
        >>> back = temporal.frontends.Chain(
        ...     temporal.frontends.InverseMel.of(mel), temporal.frontends.GriffinLim(512, hop_length=128, power=2.0)
        ... )
        >>> back(mel(torch.randn(2, 6400))).shape
        torch.Size([2, 6400])
    """

    filter_bank: Tensor  # [n_mels, n_fft // 2 + 1]
    correction: Tensor  # [n_fft // 2 + 1, n_mels]: F^T (F F^T + penalty)^-1
    pseudo_inverse: Tensor  # [n_fft // 2 + 1, n_mels]

    sample_rate: float

    def __init__(self, sample_rate: float, n_fft: int = 2048, *, n_iter: int = 50, **mel: Any) -> None:
        super().__init__()
        self.n_iter = positive_int("InverseMel", "n_iter", n_iter, "iterations")
        checked = MelSpectrogram(sample_rate, n_fft, **{"hop_length": None} | mel)
        self.n_fft, self.n_mels, self.power = checked.n_fft, checked.n_mels, checked.power
        self.sample_rate, self._bands = checked.sample_rate, {name: getattr(checked, name) for name in _BANDS}
        self._register_constants("filter_bank", "correction", "pseudo_inverse")

    @classmethod
    def of(cls, mel: MelSpectrogram, *, n_iter: int = 50) -> "InverseMel":
        """For the bands that `mel` gives."""
        if type(mel) is not MelSpectrogram:
            raise TypeError(f"InverseMel: of() was given a {type(mel).__name__}; give a MelSpectrogram")
        if "filter_bank" in getattr(mel, "trainable", ()):
            raise ValueError(
                "InverseMel: of() was given a mel spectrogram with trainable=('filter_bank',), whose bands move"
            )
        options = {name: getattr(mel, name) for name in ("n_mels", "power", *_BANDS)}
        return cls(mel.sample_rate, mel.n_fft, n_iter=n_iter, **options)

    def forward(self, frames: Tensor) -> Tensor:
        """[..., n_mels, frames] -> [..., bins, frames]."""
        bands = self._read(frames).transpose(-1, -2)
        if bands.shape[-1] != self.n_mels:
            raise ValueError(
                f"InverseMel: frames {list(frames.shape)} have {frames.shape[-2]} bands, not n_mels={self.n_mels}"
            )
        with full_precision(bands):
            return self._solve(bands).transpose(-1, -2)

    def extra_repr(self) -> str:
        return f"{self.sample_rate:g}, {self.n_fft}, n_mels={self.n_mels}, n_iter={self.n_iter}"

    def _solve(self, bands: Tensor) -> Tensor:
        """[..., frames, n_mels] -> [..., frames, bins]."""
        bank_t = self._constant("filter_bank", bands.dtype).t()
        correct = self._constant("correction", bands.dtype).t()
        spectra = (bands @ self._constant("pseudo_inverse", bands.dtype).t()).clamp_min(0)
        dual = torch.zeros_like(spectra)
        for _ in range(self.n_iter):
            near = spectra - dual
            fitted = near + (bands - near @ bank_t) @ correct  # least squares of the bands, not far from `near`
            dual = dual + _RELAXATION * fitted + (1 - _RELAXATION) * spectra
            spectra = dual.clamp_min(0)
            dual = dual - spectra
        return spectra

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        bank = mel_filter_bank(self.sample_rate, self.n_fft, self.n_mels, **self._bands, device=device)
        if name == "filter_bank":
            return bank
        if name == "pseudo_inverse":
            return torch.linalg.pinv(bank)
        square = bank @ bank.t()
        penalty = _PENALTY * torch.linalg.matrix_norm(square, 2)
        return torch.linalg.solve(square + penalty * torch.eye(len(bank), dtype=bank.dtype, device=device), bank).t()
