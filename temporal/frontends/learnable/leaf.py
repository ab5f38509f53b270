"""LEAF: Gabor filters, Gaussian pooling and PCEN, all of them learnable."""

import math
from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._arguments import check_trainable, choice, positive_int, read_waveform, real
from .._bands import check_range
from .._constants import DerivedConstants
from .._framing import Count, Framing, FramingState
from .._precision import full_precision
from .._stage import FrontEnd
from ..pcen import PCEN
from ._blocks import in_blocks
from ._filtering import Blocks, block_rows, choose_engine, convolve, overlapping_blocks, power_of_inverse
from ._gabor import gabor_kernels, gaussian_windows, mel_gabor

__all__ = ["LEAF"]

_FILTERS = ("center", "bandwidth", "pooling")
_PCEN = ("gain", "bias", "power", "smoothing")
_FLOOR = 1e-5  # the least energy


class LEAFState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    wave: FramingState  # the end of the waveform
    power: FramingState | None  # the end of the filters' power; None before there is any
    pcen: Any


class LEAF(DerivedConstants, FrontEnd):
    """A learnable front end: Gabor filters over the waveform, their power through Gaussian windows, then PCEN.

    E[f, t] = max(1e-5, sum_n w_f[n - t * hop_length] |(x * g_f)[n]|^2)
    g_f(n) = exp(-n^2 / (2 s_f^2)) exp(i c_f n) / (s_f sqrt(2 pi)),  w_f(n) = exp(-n^2 / (2 (p_f K / 2)^2))

    over |n| <= K // 2 (K / 2 in w_f rounds down), with zeros beyond the ends of the signal and of the power. It starts
    close to a mel filter bank. Frame t is centred on sample t * hop_length for any length; TensorFlow's "same" padding,
    in the original, shifts the frames by an amount that depends on the length, which no stream could follow.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        n_filters: number of filters, >= 1.
        kernel_size: K of filters and windows, in samples, odd; by default 25 ms: 401 at 16 kHz.
        hop_length: samples from one frame to the next, >= 1.
        fmin, fmax: range of the filters at the start, in Hz, 0 <= fmin < fmax <= sample_rate / 2; fmax is 7800 or, if
            less, sample_rate / 2 by default.
        pcen: True, False (the energies are the output), or a dict of `PCEN`'s arguments that replace LEAF's own:
            gain 0.96, bias 2, power 1/2, smoothing 0.04, eps 1e-12, initial "first".
        trainable: names of what learns: "center" (c, radians a sample, 0 .. pi), "bandwidth" (s, samples), "pooling"
            (p, at most 1/2, 0.4 at the start), each [n_filters]; "gain", "bias", "power", "smoothing" of PCEN, or
            "pcen" for these four. Out of range, a value counts as the end of its range and does not learn.
        engine: "conv" (1-D convolution), "fft" (the same by blocks of FFTs), or "auto", the faster one. A sample that is
            NaN or infinite spoils the frames that see it, by FFT those of its whole blocks, and with PCEN all later ones.
    Shape:
        wave: [..., samples].  Returns [..., n_filters, frames], `ceil(samples / hop_length)` frames.
    Raises:
        TypeError: the waveform is not a floating point tensor; `trainable` is a string.
        ValueError: fmax above sample_rate / 2, an even kernel_size, an unknown name.
    References:
        Zeghidour et al. 2021, LEAF: a learnable frontend for audio classification (google-research/leaf-audio).
    Example:
        >>> import torch, temporal
        >>> leaf = temporal.frontends.LEAF(16000)
        >>> leaf(torch.randn(2, 16000)).shape, sum(p.numel() for p in leaf.parameters())
        (torch.Size([2, 40, 100]), 280)
    """

    center: Tensor
    bandwidth: Tensor
    pooling: Tensor

    sample_rate: float

    def __init__(
        self,
        sample_rate: float,
        *,
        n_filters: int = 40,
        kernel_size: int | None = None,
        hop_length: int = 160,
        fmin: float = 60.0,
        fmax: float | None = None,
        pcen: bool | Mapping[str, Any] = True,
        trainable: Collection[str] = ("center", "bandwidth", "pooling", "pcen"),
        engine: Literal["auto", "fft", "conv"] = "auto",
    ) -> None:
        super().__init__()
        self.sample_rate = real("LEAF", "sample_rate", sample_rate, above=0, unit="Hz")
        self.n_filters = positive_int("LEAF", "n_filters", n_filters, "filters")
        if kernel_size is None:
            kernel_size = 2 * round(0.0125 * self.sample_rate) + 1
        self.kernel_size = positive_int("LEAF", "kernel_size", kernel_size, "samples")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"LEAF: kernel_size={self.kernel_size} samples is even; give {self.kernel_size + 1}")
        self.hop_length = positive_int("LEAF", "hop_length", hop_length, "samples")
        fmax = min(7800.0, self.sample_rate / 2) if fmax is None else fmax
        self.fmin, self.fmax = check_range("LEAF", self.sample_rate, fmin, fmax)
        self.engine = choice("LEAF", "engine", engine, ("auto", "fft", "conv"))
        self.pad_mode = "constant"
        learns = check_trainable("LEAF", trainable, (*_FILTERS, "pcen", *_PCEN))
        self.trainable = tuple(name for name in learns if name in _FILTERS)
        self._register_constants(*_FILTERS, trainable=self.trainable)
        names = _PCEN if "pcen" in learns else tuple(name for name in learns if name in _PCEN)
        self.pcen = self._make_pcen(pcen, names)
        self._filtering = Framing("LEAF", self.kernel_size, 1, True, "constant")
        self._pooling = Framing("LEAF", self.kernel_size, self.hop_length, True, "constant")
        self.latency = self._filtering.latency + self._pooling.latency - 1
        self._blocks = Blocks.of(self.kernel_size, self.hop_length)

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, n_filters={self.n_filters}, kernel_size={self.kernel_size}, "
            f"hop_length={self.hop_length}, fmin={self.fmin:g}, fmax={self.fmax:g}, trainable={self.trainable}, "
            f"engine={self.engine!r}"
        )

    @property
    def center_frequencies(self) -> Tensor:
        """Of the filters now, in Hz, [n_filters]."""
        return self.center.detach().clamp(0, math.pi) * (self.sample_rate / (2 * math.pi))

    @property
    def bandwidths(self) -> Tensor:
        """Widths of the filters' magnitude responses at half height, in Hz, [n_filters], if the kernels cut nothing."""
        half = math.sqrt(2 * math.log(2))
        deviation = self.bandwidth.detach().clamp(4 * half / math.pi, self.kernel_size * half / math.pi)
        return half * self.sample_rate / (math.pi * deviation)

    def frames(self, samples: Count) -> Count:
        """`ceil(samples / hop_length)`; an int, or an integer tensor of any shape."""
        return self._pooling.count(samples)

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., n_filters, frames]."""
        wave = read_waveform("LEAF", wave)
        leading, samples = wave.shape[:-1], wave.shape[-1]
        if wave.numel() == 0:
            return wave.new_zeros((*leading, self.n_filters, self.frames(samples)))
        with full_precision(wave):
            energy = self._energy(wave.reshape(-1, samples))
        energy = energy.clamp_min(_FLOOR).reshape(*leading, self.n_filters, -1)
        return energy if self.pcen is None else self.pcen(energy)

    def stream(self, chunk: Tensor, state: LEAFState | None = None) -> tuple[Tensor, LEAFState]:
        """The frames that are complete now, and the ends of the waveform and of the filters' power."""
        chunk = read_waveform("LEAF", chunk)
        wave, power, pcen = (None, None, None) if state is None else state
        with full_precision(chunk):
            samples, wave = self._filtering.stream(chunk, wave)
            filtered, power = self._pooling.stream(self._power_of(samples), power)
            energy = self._pool(filtered)
        if self.pcen is not None:
            energy, pcen = self.pcen.stream(energy, pcen)
        return energy, LEAFState(wave, power, pcen)

    def flush(self, state: LEAFState) -> tuple[Tensor, None]:
        """The last frames, whose windows or filters reach beyond the end of the signal."""
        wave, power, pcen = (None, None, None) if state is None else state
        samples, _ = self._filtering.flush(wave)
        with full_precision(samples):
            filtered, power = self._pooling.stream(self._power_of(samples), power)
            energy = torch.cat((self._pool(filtered), self._pool(self._pooling.flush(power)[0])), -1)
        if self.pcen is not None:
            energy, pcen = self.pcen.stream(energy, pcen)
            energy = torch.cat((energy, self.pcen.flush(pcen)[0]), -1)
        return energy, None

    def _energy(self, wave: Tensor) -> Tensor:
        """[R, samples] -> [R, n_filters, frames]."""
        half, window = self.kernel_size // 2, self._windows(wave.dtype)
        if choose_engine(self.engine, self.kernel_size >= 96, wave.device) == "conv":
            size = block_rows(2 * self.n_filters * wave.shape[-1], wave.device)
            return in_blocks(self._by_convolution, size, (wave,), (self._stacked(wave.dtype), window))
        blocks = overlapping_blocks(wave, half, self._blocks, wave.shape[-1])
        rows, count = blocks.shape[:2]
        left = wave.shape[-1] - self._blocks.step * torch.arange(count, device=wave.device)
        kernels = torch.complex(*self._kernels(wave.dtype))
        parts = in_blocks(
            self._by_fft,
            block_rows(self.n_filters * self._blocks.length, wave.device),
            (torch.fft.fft(blocks).flatten(0, 1), left.expand(rows, -1).flatten()),
            (torch.fft.fft(kernels, self._blocks.length).conj(), self._by_hops(window)),
        )
        # [R, blocks, filters, hops, shifts] -> [R, filters, hops, shifts]; frame t has a share in hops on both sides
        parts = parts.unflatten(0, (rows, count)).transpose(1, 2).flatten(2, 3)
        before = -(-half // self.hop_length)
        parts = torch.nn.functional.pad(parts, (0, 0, before, parts.shape[-1]))
        frames = self.frames(wave.shape[-1])
        return reduce(torch.add, (parts[..., shift : shift + frames, shift] for shift in range(parts.shape[-1])))

    def _by_convolution(self, wave: Tensor, kernels: Tensor, window: Tensor) -> Tensor:
        half = self.kernel_size // 2
        power = self._power(torch.nn.functional.conv1d(wave[:, None], kernels[:, None], padding=half))
        return torch.nn.functional.conv1d(
            power, window[:, None], stride=self.hop_length, padding=half, groups=self.n_filters
        )

    def _by_fft(self, spectra: Tensor, left: Tensor, kernels: Tensor, window: Tensor) -> Tensor:
        """Spectra of blocks [n, length] -> [n, n_filters, hops of a block, shifts]; `left`: samples until the end."""
        step = self._blocks.step
        power = power_of_inverse(spectra[:, None] * kernels, step)
        inside = torch.arange(step, device=left.device) < left[:, None]
        power = power * inside[:, None]  # beyond the end, filters still ring
        return power.unflatten(-1, (-1, self.hop_length)) @ window

    def _by_hops(self, window: Tensor) -> Tensor:
        """[n_filters, kernel_size] -> [n_filters, hop_length, shifts]: what a hop of power gives to frames around it."""
        hop, half = self.hop_length, self.kernel_size // 2
        left = -half % hop
        right = -(left + self.kernel_size) % hop
        return torch.nn.functional.pad(window, (left, right)).unflatten(-1, (-1, hop)).transpose(-1, -2)

    def _power(self, filtered: Tensor) -> Tensor:
        """Real parts, then imaginary parts [..., 2 n_filters, n] -> [..., n_filters, n]."""
        return filtered[..., : self.n_filters, :].square() + filtered[..., self.n_filters :, :].square()

    def _power_of(self, samples: Tensor) -> Tensor:
        """A stretch of a stream -> the power of the filters, [..., n_filters, n], n = samples - kernel_size + 1."""
        return self._power(convolve(samples, self._stacked(samples.dtype), 1))

    def _pool(self, power: Tensor) -> Tensor:
        """A stretch of power [..., n_filters, n] -> the energies of the frames whose windows lie in it."""
        if power.shape[-1] < self.kernel_size:
            return power[..., :0]
        windows = power.unfold(-1, self.kernel_size, self.hop_length)
        return (windows @ self._windows(power.dtype)[..., None]).squeeze(-1).clamp_min(_FLOOR)

    def _kernels(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # In float64: a phase of some hundred radians has only four digits left in float32.
        kernels = gabor_kernels(self._exact("center"), self._exact("bandwidth"), self.kernel_size)
        return kernels[0].to(dtype), kernels[1].to(dtype)

    def _stacked(self, dtype: torch.dtype) -> Tensor:
        return torch.cat(self._kernels(dtype))

    def _windows(self, dtype: torch.dtype) -> Tensor:
        return gaussian_windows(self._exact("pooling"), self.kernel_size).to(dtype)

    def _exact(self, name: str) -> Tensor:
        return getattr(self, name).double()

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        if name == "pooling":
            return torch.full((self.n_filters,), 0.4, dtype=torch.float64, device=device)
        center, bandwidth = mel_gabor(self.sample_rate, self.n_filters, self.fmin, self.fmax, device)
        return center if name == "center" else bandwidth

    def _make_pcen(self, pcen: bool | Mapping[str, Any], names: tuple[str, ...]) -> PCEN | None:
        if not pcen:
            return None
        own: dict[str, Any] = {
            "gain": 0.96,
            "bias": 2.0,
            "power": 0.5,
            "smoothing": 0.04,
            "eps": 1e-12,
            "initial": "first",
        }
        if isinstance(pcen, Mapping):
            own |= pcen
            if "time_constant" in pcen and "smoothing" not in pcen:
                del own["smoothing"]
        return PCEN(self.sample_rate, self.hop_length, size=self.n_filters, trainable=names, **own)
