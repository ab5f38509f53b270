"""Chroma: how much of each pitch class sounds, whatever the octave."""

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor

from ._arguments import choice, positive_int, read_frames, real
from ._bands import FilterBankFrontEnd
from ._constants import DerivedConstants
from ._precision import full_precision
from ._stage import Framewise

__all__ = ["Chroma", "FoldOctaves"]


class Chroma(FilterBankFrontEnd):
    """Chromagram: the power of short-time spectra, summed over all octaves of each pitch class.

    C[c, t] = sum_k F[c, k] |X[k, t]|^power,  F[c, k] = exp(-2 (d / b_k)^2) / n_k * exp(-((o_k - ctroct) / octwidth)^2 / 2)

    with o_k the octave of bin k above A0 (27.5 Hz), d the distance of o_k * n_chroma to class c around the circle, b_k
    the bin's width in classes, at least 1, and n_k the 2-norm over the classes. Each frame is then divided by its norm
    (frames of silence stay 0). From constant-Q frames, `FoldOctaves` makes the same.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_fft, win_length, hop_length, window, center, pad_mode, engine: as for `STFT`.
        n_chroma: pitch classes in an octave, >= 1.
        tuning: of the signal from A = 440 Hz, in classes. librosa's `tuning=None` estimates it from the whole signal: that
            is no property of a frame, so it is not done here; estimate it once (`librosa.estimate_tuning`) and give it.
        norm: of each frame: math.inf (its largest value becomes 1), a number p, or None.
        ctroct, octwidth: the centre, in octaves above A0, and the width in octaves of the weight of octaves; octwidth=None
            weighs all alike.
        base_c: class 0 is C, not A.
        power: exponent of the magnitude, > 0.
        trainable: names among "window", "basis", "filter_bank".
    Shape:
        wave: [..., samples].  Returns [..., n_chroma, frames], `.frames(samples)` frames.
    Raises:
        ValueError: tuning="estimate" or None, and what `STFT` refuses.
    References:
        `librosa.feature.chroma_stft` and `librosa.filters.chroma` 0.11, equal within 1e-5. Ellis 2007.
    Example:
        >>> import torch, temporal
        >>> chroma = temporal.frontends.Chroma(16000, hop_length=512)
        >>> tone = torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(16000))
        >>> chroma(tone)[:, 10].argmax()  # C, C#, .., A
        tensor(9)
    """

    _bands_argument = "n_chroma"

    def __init__(
        self,
        sample_rate: float,
        n_fft: int = 2048,
        *,
        win_length: int | None = None,
        hop_length: int | None = 512,
        n_chroma: int = 12,
        tuning: float = 0.0,
        norm: float | None = math.inf,
        ctroct: float = 5.0,
        octwidth: float | None = 2.0,
        base_c: bool = True,
        power: float = 2.0,
        window: str | Tensor = "hann",
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        engine: Literal["auto", "fft", "conv"] = "auto",
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center, pad_mode, engine, trainable)
        self._set_sample_rate(sample_rate)
        self.n_chroma = positive_int("Chroma", "n_chroma", n_chroma, "classes")
        if tuning is None or isinstance(tuning, str):
            raise ValueError(
                f"Chroma: tuning={tuning!r}: an estimate is a property of the whole signal, not of a frame; give a number "
                "of classes, such as librosa.estimate_tuning returns, or 0"
            )
        self.tuning = real("Chroma", "tuning", tuning, unit="classes")
        self.norm = _check_norm("Chroma", norm)
        self.ctroct = real("Chroma", "ctroct", ctroct, unit="octaves")
        self.octwidth = None if octwidth is None else real("Chroma", "octwidth", octwidth, above=0, unit="octaves")
        self.base_c = bool(base_c)
        self.power = real("Chroma", "power", power, above=0)
        self._register_bank()

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, {self.n_fft}, hop_length={self.hop_length}, n_chroma={self.n_chroma}, "
            f"tuning={self.tuning:g}, norm={self.norm}, ctroct={self.ctroct:g}, octwidth={self.octwidth}, "
            f"base_c={self.base_c}, power={self.power:g}"
        )

    def _finish(self, bands: Tensor) -> Tensor:
        return _normalized(bands, self.norm)

    def _build_filter_bank(self, device: torch.device | None) -> Tensor:
        count = self.n_chroma
        hertz = torch.arange(1, self.n_fft + 1, dtype=torch.float64, device=device) * (self.sample_rate / self.n_fft)
        place = count * torch.log2(hertz / (27.5 * 2 ** (self.tuning / count)))
        # 0 Hz lies nowhere: one and a half octaves below the first bin, and as wide.
        place = torch.cat((place[:1] - 1.5 * count, place))[: self.n_fft // 2 + 2]
        width, place = place.diff().clamp_min(1.0), place[:-1]
        if self.n_fft == 1:
            width = torch.ones_like(place)
        half = round(count / 2)
        distance = place - torch.arange(count, dtype=torch.float64, device=device).unsqueeze(1)
        distance = torch.remainder(distance + half, count) - half
        bank = torch.exp(-2 * (distance / width).square())
        bank = bank / torch.linalg.vector_norm(bank, dim=0)
        if self.octwidth is not None:
            bank = bank * torch.exp(-0.5 * ((place / count - self.ctroct) / self.octwidth).square())
        return bank.roll(-3 * (count // 12), 0) if self.base_c else bank


class FoldOctaves(DerivedConstants, Framewise):
    """Chroma of constant-Q frames: the bins of a pitch class, of all octaves, added up.

    C[c, t] = sum over bins k of class c of x[k, t], then 0 where below `threshold`, then divided by the frame's norm

    A class holds the bins within half a class around it. `Chain(CQT(...), FoldOctaves(...))` is the chromagram.

    Args:
        n_bins: of the frames, >= 1.
        bins_per_octave: of the frames, a multiple of n_chroma.
        fmin: frequency of the first bin, in Hz, > 0; C1 by default.
        n_chroma: pitch classes, >= 1.
        norm: of each frame: math.inf (its largest value becomes 1), a number p, or None.
        threshold: smaller sums become 0.
        base_c: class 0 is C, not A.
    Shape:
        frames: [..., n_bins, frames], magnitudes or powers.  Returns [..., n_chroma, frames].
    Raises:
        ValueError: bins_per_octave no multiple of n_chroma; frames with another number of bins.
    References:
        `librosa.feature.chroma_cqt` (whose CQT has 36 bins per octave) and `librosa.filters.cq_to_chroma` 0.11.
    Example:
        >>> import torch, temporal
        >>> fold = temporal.frontends.FoldOctaves(84)
        >>> fold(torch.eye(84)[:, 57:58]).argmax()  # bin 57 is A5
        tensor(9)
    """

    fold: Tensor  # [n_chroma, n_bins]

    def __init__(
        self,
        n_bins: int = 84,
        *,
        bins_per_octave: int = 12,
        fmin: float = 32.70319566257483,
        n_chroma: int = 12,
        norm: float | None = math.inf,
        threshold: float = 0.0,
        base_c: bool = True,
    ) -> None:
        super().__init__()
        self.n_bins = positive_int("FoldOctaves", "n_bins", n_bins, "bins")
        self.bins_per_octave = positive_int("FoldOctaves", "bins_per_octave", bins_per_octave, "bins")
        self.n_chroma = positive_int("FoldOctaves", "n_chroma", n_chroma, "classes")
        if self.bins_per_octave % self.n_chroma:
            raise ValueError(
                f"FoldOctaves: bins_per_octave={bins_per_octave} is no multiple of n_chroma={n_chroma}; every class needs "
                "the same number of bins"
            )
        self.fmin = real("FoldOctaves", "fmin", fmin, above=0, unit="Hz")
        self.norm = _check_norm("FoldOctaves", norm)
        self.threshold = real("FoldOctaves", "threshold", threshold)
        self.base_c = bool(base_c)
        self._register_constants("fold")

    def extra_repr(self) -> str:
        return (
            f"{self.n_bins}, bins_per_octave={self.bins_per_octave}, fmin={self.fmin:g}, n_chroma={self.n_chroma}, "
            f"norm={self.norm}, threshold={self.threshold:g}, base_c={self.base_c}"
        )

    def forward(self, frames: Tensor) -> Tensor:
        """[..., n_bins, frames] -> [..., n_chroma, frames]."""
        frames = read_frames("FoldOctaves", frames)
        if frames.shape[-2] != self.n_bins:
            raise ValueError(
                f"FoldOctaves: the frames have {frames.shape[-2]} bins, not n_bins={self.n_bins} ([..., bins, frames])"
            )
        with full_precision(frames):
            classes = self._constant("fold", frames.dtype) @ frames
        return _normalized(classes.masked_fill(classes < self.threshold, 0.0), self.norm)

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        merge = self.bins_per_octave // self.n_chroma
        semitones = (12 * math.log2(self.fmin / 440) + 69) % 12 - (0 if self.base_c else 9)
        first = round(semitones * self.n_chroma / 12)
        bins = torch.arange(self.n_bins, device=device)
        number = (torch.div(bins + merge // 2, merge, rounding_mode="floor") + first) % self.n_chroma
        return torch.nn.functional.one_hot(number, self.n_chroma).t().to(torch.float64)


def _normalized(frames: Tensor, norm: float | None) -> Tensor:
    """Frames over their norm along the bins; where that is 0 they stay as they are, and so do their gradients."""
    if norm is None or frames.numel() == 0:
        return frames
    size = torch.linalg.vector_norm(frames, norm, dim=-2, keepdim=True)
    return frames / torch.where(size < torch.finfo(frames.dtype).tiny, 1.0, size)


def _check_norm(owner: str, norm: Any) -> float | None:
    if norm is None or norm == math.inf:
        return norm
    if isinstance(norm, str):
        choice(owner, "norm", norm, ("math.inf", "None"))
    return real(owner, "norm", norm, above=0)
