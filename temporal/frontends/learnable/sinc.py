"""SincConv: band-pass filters whose two edges learn."""

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from .._arguments import check_trainable, choice, positive_int, read_waveform, real
from .._bands import check_range
from .._constants import DerivedConstants
from .._framing import Count, Framing, FramingState
from .._precision import full_precision
from .._stage import FrontEnd
from ..mel import mel_frequencies
from ._blocks import in_blocks
from ._filtering import Blocks, block_rows, choose_engine, convolve, overlapping_blocks

__all__ = ["SincConv"]


class SincConv(DerivedConstants, FrontEnd):
    """A learnable bank of band-pass filters over the waveform: windowed sinc functions, two numbers to learn each.

    y[f, t] = sum_n h_f[n] x[t * hop_length + n],  |n| <= kernel_size // 2
    h_f[n] = w[n] (sin(b n) - sin(a n)) / (n (b - a)),  h_f[0] = 1

    with w a Hamming window and the edges, in radians a sample, a = min_low + |low| and b = a + min_band + |band|, at
    most pi. It starts with bands side by side, even on the mel scale. Frame t is centred on sample t * hop_length and
    zeros lie beyond the ends of the signal; with `center=False` only whole windows count, as in SincNet.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_filters: number of filters, >= 1.
        kernel_size: in samples, odd (an even number gets one more, as in SincNet).
        hop_length: samples from one frame to the next, >= 1.
        min_low, min_band: the least lower edge and the least width of a band, in Hz, > 0.
        fmin, fmax: range of the bands at the start, in Hz; fmax is `sample_rate / 2 - min_low - min_band` by default.
        center: as above.
        trainable: names of what learns: "low", "band", each [n_filters], in radians a sample (a step of 0.001 is
            2.5 Hz at 16 kHz).
        engine: "conv" (1-D convolution), "fft" (the same by blocks of FFTs), or "auto", the faster one. A sample that is
            NaN or infinite spoils the frames that see it, by FFT those of its whole blocks.
    Shape:
        wave: [..., samples].  Returns [..., n_filters, frames], `ceil(samples / hop_length)` frames if centred.
    Raises:
        TypeError: the waveform is not a floating point tensor; `trainable` is a string.
        ValueError: fmax above sample_rate / 2; an unknown name; with `center=False` a signal shorter than kernel_size.
    References:
        Ravanelli and Bengio 2018, Speaker recognition from raw waveform with SincNet. Its window is not quite Hamming's:
        it is made of half a window at a time and differs by up to 3e-5. Its parameters are in Hz.
    Example:
        >>> import torch, temporal
        >>> sinc = temporal.frontends.SincConv(16000, 80, 251, hop_length=160)
        >>> sinc(torch.randn(2, 16000)).shape, sinc.band_edges[0].round().tolist()
        (torch.Size([2, 80, 100]), [80.0, 153.0])
    """

    low: Tensor
    band: Tensor

    sample_rate: float

    def __init__(
        self,
        sample_rate: float,
        n_filters: int = 80,
        kernel_size: int = 251,
        *,
        hop_length: int = 1,
        min_low: float = 50.0,
        min_band: float = 50.0,
        fmin: float = 30.0,
        fmax: float | None = None,
        center: bool = True,
        trainable: Collection[str] = ("low", "band"),
        engine: Literal["auto", "fft", "conv"] = "auto",
    ) -> None:
        super().__init__()
        self.sample_rate = real("SincConv", "sample_rate", sample_rate, above=0, unit="Hz")
        self.n_filters = positive_int("SincConv", "n_filters", n_filters, "filters")
        self.kernel_size = positive_int("SincConv", "kernel_size", kernel_size, "samples") // 2 * 2 + 1
        self.hop_length = positive_int("SincConv", "hop_length", hop_length, "samples")
        self.min_low = real("SincConv", "min_low", min_low, above=0, unit="Hz")
        self.min_band = real("SincConv", "min_band", min_band, above=0, unit="Hz")
        fmax = self.sample_rate / 2 - self.min_low - self.min_band if fmax is None else fmax
        self.fmin, self.fmax = check_range("SincConv", self.sample_rate, fmin, fmax)
        self.center, self.pad_mode = bool(center), "constant"
        self.engine = choice("SincConv", "engine", engine, ("auto", "fft", "conv"))
        self.trainable = check_trainable("SincConv", trainable, ("low", "band"))
        self._register_constants("low", "band", trainable=self.trainable)
        self._framing = Framing("SincConv", self.kernel_size, self.hop_length, self.center, "constant")
        self.latency = self._framing.latency
        self._blocks = Blocks.of(self.kernel_size, self.hop_length)

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, {self.n_filters}, {self.kernel_size}, hop_length={self.hop_length}, "
            f"fmin={self.fmin:g}, fmax={self.fmax:g}, center={self.center}, trainable={self.trainable}, "
            f"engine={self.engine!r}"
        )

    @property
    def band_edges(self) -> Tensor:
        """Lower and upper edge of each filter now, in Hz, [n_filters, 2]."""
        return torch.stack(self._edges(), -1).detach() * (self.sample_rate / (2 * math.pi))

    def frames(self, samples: Count) -> Count:
        """`ceil(samples / hop_length)` if centred, else `1 + (samples - kernel_size) // hop_length`, but at least 0."""
        return self._framing.count(samples)

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., n_filters, frames]."""
        wave = read_waveform("SincConv", wave)
        leading, samples = wave.shape[:-1], wave.shape[-1]
        if not self.center:
            self._framing.whole(wave)  # refuses a signal that is too short
        if wave.numel() == 0:
            return wave.new_zeros((*leading, self.n_filters, self.frames(samples)))
        rows, kernels = wave.reshape(-1, samples), self._kernels(wave.dtype)
        with full_precision(wave):
            if choose_engine(self.engine, self.kernel_size >= 250 * self.hop_length, wave.device) == "conv":
                padding = self._framing.pad
                out = torch.nn.functional.conv1d(rows[:, None], kernels[:, None], None, self.hop_length, padding)
            else:
                out = self._by_fft(rows, kernels)
        return out.reshape(*leading, self.n_filters, -1)

    def stream(self, chunk: Tensor, state: FramingState | None = None) -> tuple[Tensor, FramingState]:
        """The frames that are complete now, and the end of the signal that later frames reach back to."""
        chunk = read_waveform("SincConv", chunk)
        with full_precision(chunk):
            samples, state = self._framing.stream(chunk, state)
            return convolve(samples, self._kernels(samples.dtype), self.hop_length), state

    def flush(self, state: FramingState) -> tuple[Tensor, None]:
        """The last frames, whose windows reach beyond the end of the signal."""
        samples, _ = self._framing.flush(state)
        with full_precision(samples):
            return convolve(samples, self._kernels(samples.dtype), self.hop_length), None

    def _by_fft(self, wave: Tensor, kernels: Tensor) -> Tensor:
        blocks = overlapping_blocks(wave, self._framing.pad, self._blocks, self._filtered(wave.shape[-1]))
        spectra = torch.fft.rfft(blocks)
        parts = in_blocks(
            self._filter_block,
            block_rows(self.n_filters * self._blocks.length, wave.device),
            (spectra.flatten(0, 1),),
            (torch.fft.rfft(kernels, self._blocks.length).conj(),),
        )
        parts = parts.unflatten(0, spectra.shape[:2]).transpose(1, 2).flatten(2)
        return parts[..., : self.frames(wave.shape[-1])]

    def _filter_block(self, spectra: Tensor, kernels: Tensor) -> Tensor:
        filtered = torch.fft.irfft(spectra[:, None] * kernels, self._blocks.length)
        return filtered[..., : self._blocks.step : self.hop_length]

    def _filtered(self, samples: int) -> int:
        """Samples that the filters give at a hop of 1."""
        return samples + 2 * self._framing.pad - self.kernel_size + 1

    def _edges(self) -> tuple[Tensor, Tensor]:
        radians = 2 * math.pi / self.sample_rate
        # In float64: a phase of some hundred radians has only four digits left in float32. What does not learn has never
        # been rounded: 251 / 2 samples of a rounded phase would be off by 2e-6.
        low, band = self._constant("low", torch.float64), self._constant("band", torch.float64)
        lower = low.abs() + self.min_low * radians
        return lower, (lower + self.min_band * radians + band.abs()).clamp(self.min_low * radians, math.pi)

    def _kernels(self, dtype: torch.dtype) -> Tensor:
        return sinc_kernels(*self._edges(), self.kernel_size).to(dtype)

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        edges = mel_frequencies(self.n_filters + 1, self.fmin, self.fmax, "htk", device=device)
        return (edges[:-1] if name == "low" else edges.diff()) * (2 * math.pi / self.sample_rate)


def sinc_kernels(lower: Tensor, upper: Tensor, kernel_size: int) -> Tensor:
    """[n_filters, kernel_size]: pass bands from `lower` to `upper`, [n_filters] in radians a sample, with h[0] = 1."""
    half = kernel_size // 2
    time = torch.arange(1, half + 1, dtype=lower.dtype, device=lower.device)
    window = 0.54 + 0.46 * torch.cos(math.pi * time / max(half, 1))
    lower, upper = lower[:, None], upper[:, None]
    right = window * (torch.sin(upper * time) - torch.sin(lower * time)) / (time * (upper - lower))
    return torch.cat((right.flip(-1), torch.ones_like(lower), right), -1)
