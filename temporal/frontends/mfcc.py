"""Mel-frequency cepstral coefficients."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ._arguments import choice, positive_int, real
from .levels import decibels
from .mel import MelSpectrogram

__all__ = ["MFCC"]

_AMIN = 1e-10  # the smallest power that is told apart, as in librosa


class MFCC(MelSpectrogram):
    """Mel-frequency cepstral coefficients: the cosine transform of a mel spectrogram in decibels.

    C[k, t] = g_k sum_m cos(pi k (m + 1/2) / n_mels) dB[m, t],  g_0 = sqrt(1 / n_mels), else g_k = sqrt(2 / n_mels)

    with dB as in `AmplitudeToDB`, relative to a power of 1, and with a lifter of Q times 1 + Q / 2 sin(pi (k + 1) / Q).

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_mfcc: number of coefficients, 1 .. n_mels.
        top_db: the range below an item's peak that is kept, in dB, >= 0. The peak is that of one item, so no item
            depends on its batch. None keeps everything, and only that streams.
        lifter: Q, >= 0; 0 for none.
        dct_norm: "ortho", or None for g_k = 2, the transform that is not scaled (`norm` is that of the mel bands).
        mel: `n_fft`, `win_length`, `hop_length`, `n_mels`, `fmin`, `fmax`, `scale`, `norm`, `power`, `window`, `center`,
            `pad_mode`, `engine` and `trainable`, as for `MelSpectrogram`.
    Shape:
        wave: [..., samples]; an item is one signal.  Returns [..., n_mfcc, frames], `.frames(samples)` frames.
    Raises:
        TypeError, ValueError: what `MelSpectrogram` refuses; n_mfcc > n_mels; `stream` with `top_db` set.
    References:
        `librosa.feature.mfcc` 0.11 (dct_type=2) of one item, `dct_norm` being its `norm`, equal within 2e-6 of the peak.
    Example:
        >>> import torch, temporal
        >>> mfcc = temporal.frontends.MFCC(16000, 13, n_fft=512, hop_length=160, n_mels=40)
        >>> mfcc(torch.randn(2, 16000)).shape
        torch.Size([2, 13, 101])
    """

    cosines: Tensor  # [n_mfcc, n_mels], liftered

    def __init__(
        self,
        sample_rate: float,
        n_mfcc: int = 20,
        *,
        top_db: float | None = 80.0,
        lifter: float = 0.0,
        dct_norm: Literal["ortho"] | None = "ortho",
        **mel: Any,
    ) -> None:
        super().__init__(sample_rate, **mel)
        self.n_mfcc = positive_int("MFCC", "n_mfcc", n_mfcc, "coefficients")
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"MFCC: n_mfcc={self.n_mfcc} is more than n_mels={self.n_mels}; give at most as many")
        self.top_db = None if top_db is None else real("MFCC", "top_db", top_db, unit="dB")
        self.lifter = real("MFCC", "lifter", lifter)
        if self.lifter < 0 or (self.top_db is not None and self.top_db < 0):
            raise ValueError(f"MFCC: top_db={self.top_db} and lifter={self.lifter:g} must not be negative")
        self.dct_norm = None if dct_norm is None else choice("MFCC", "dct_norm", dct_norm, ("ortho",))
        self._register_constants("cosines")

    def extra_repr(self) -> str:
        own = f"n_mfcc={self.n_mfcc}, top_db={self.top_db}, lifter={self.lifter:g}, dct_norm={self.dct_norm!r}"
        return f"{own}, {super().extra_repr()}"

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        if self.top_db is None:
            return None
        return f"top_db={self.top_db:g} needs the peak of the whole utterance; use top_db=None on a stream"

    def _finish(self, sums: Tensor) -> Tensor:
        level = decibels(sums, 10.0, 1.0, _AMIN, self.top_db)
        return (level.transpose(-1, -2) @ self._constant("cosines", level.dtype).t()).transpose(-1, -2)

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        if name != "cosines":
            return super()._build_constant(name, device)
        order = torch.arange(self.n_mfcc, dtype=torch.float64, device=device)[:, None]
        band = torch.arange(self.n_mels, dtype=torch.float64, device=device) + 0.5
        cosines = 2 * torch.cos(order * band * (math.pi / self.n_mels))
        if self.dct_norm == "ortho":
            cosines = torch.where(order == 0, cosines / 2, cosines / math.sqrt(2)) / math.sqrt(self.n_mels)
        if self.lifter > 0:
            cosines = cosines * (1 + self.lifter / 2 * torch.sin((order + 1) * (math.pi / self.lifter)))
        return cosines
