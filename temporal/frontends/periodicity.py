"""Combined frequency and periodicity: pitches that both the spectrum and the cepstrum know of."""

import math
from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from temporal.kernels.framing import frame

from ._arguments import choice, positive_int, real
from ._spectral import SpectralFrontEnd

__all__ = ["CombinedFrequencyPeriodicity"]

_OUTPUTS = ("combined", "spectrum", "frequency", "periodicity", "all")


class CombinedFrequencyPeriodicity(SpectralFrontEnd):
    """Combined frequency and periodicity (CFP): spectrum and cepstrum on one axis of pitch, multiplied.

    S_0 = (|X| / |w|_2)^g_0,  U = relu(F S_0)^g_1 without its ends,  V = relu(F U)^g_2 without its ends
    Z[p, t] = (A V)[p, t] (B U)[p, t],  F the real, orthonormal DFT over N = sample_rate / resolution points

    Harmonics show in V, at multiples of a pitch, sub-harmonics in U, at its fractions: only the pitch itself is in both.
    A and B are triangles, even on the logarithm of frequency from fmin to fmax: A on the spectrum's bins, B on the
    cepstrum's quefrencies n / sample_rate, which stand for the frequencies sample_rate / n.

    Gradients are finite on silence: the slope of x^g at 0, which is infinite, counts as 0. Every frame is given, silent
    ones as 0.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        resolution: from bin to bin of the spectrum, in Hz; sample_rate / resolution is at least the window's length.
        win_length: of the Blackman-Harris window, in samples.
        hop_length: samples from one frame to the next, >= 1.
        fmin, fmax: of the axis of pitch, in Hz, 0 < fmin < fmax <= sample_rate / 2.
        bins_per_octave: on the axis of pitch.
        gamma: the exponents g_0, g_1, g_2, > 0.
        output: "combined" Z, "spectrum" A |X| / |w|_2, "frequency" A V, "periodicity" B U, or "all", the four of them.
        mode: "exact" as above, a triangle without any bin taking the nearest; "nnaudio" are nnAudio's numbers, whose
            bins lie N / (N - 2) too high, whose triangles are 0 at their own centre, and whose first one is empty.
        trainable: names of what learns: "window" [n_fft], "frequency_map" (A) and "periodicity_map" (B), [bins, their
            columns]. Each starts from the same numbers and is a parameter. What learns is not kept positive.
    Shape:
        wave: [..., samples].  Returns [..., bins, frames], with "all" [..., 4, bins, frames].
    Raises:
        ValueError: an argument out of range.
    References:
        Su & Yang, "Combining spectral and temporal representations for multipitch estimation of polyphonic music", IEEE/ACM
        TASLP 23(10), 2015. nnAudio2 2.0.3, `Combined_Frequency_Periodicity` (which drops the first and the last frame).
    Example:
        >>> import torch, temporal
        >>> cfp = temporal.frontends.CombinedFrequencyPeriodicity(16000)
        >>> saw = (torch.arange(16000) * 220 / 16000) % 1 - 0.5
        >>> cfp(saw).shape, cfp.frequencies[cfp(saw)[:, 20].argmax()]
        (torch.Size([174, 51]), tensor(219.8326, dtype=torch.float64))
    """

    sample_rate: float
    frequency_map: Tensor  # [bins, bins of the spectrum]
    periodicity_map: Tensor  # [bins, quefrencies]
    _learnable = ("window", "frequency_map", "periodicity_map")

    def __init__(
        self,
        sample_rate: float = 16000,
        *,
        resolution: float = 2.0,
        win_length: int = 2049,
        hop_length: int = 320,
        fmin: float = 80.0,
        fmax: float = 1000.0,
        bins_per_octave: int = 48,
        gamma: Sequence[float] = (0.24, 0.6, 1.0),
        output: Literal["combined", "spectrum", "frequency", "periodicity", "all"] = "combined",
        mode: Literal["exact", "nnaudio"] = "exact",
        trainable: Collection[str] = (),
    ) -> None:
        owner = type(self).__name__
        rate = real(owner, "sample_rate", sample_rate, above=0, unit="Hz")
        size = positive_int(owner, "win_length", win_length, "samples")
        # As in an FFT of N points: the middle of the window, or of its two middle samples, before sample t * hop_length.
        super().__init__(size + size % 2, size, hop_length, _window(size), True, "constant", "fft", trainable)
        self.sample_rate = int(rate) if rate.is_integer() else rate
        self.resolution = real(owner, "resolution", resolution, above=0, unit="Hz")
        self.points = int(rate / self.resolution)
        if self.points < self.n_fft:
            raise ValueError(
                f"{owner}: resolution={resolution:g} Hz gives {self.points} points, less than win_length={size}; give at "
                f"most {rate / self.n_fft:g} Hz"
            )
        self.fmin = real(owner, "fmin", fmin, above=0, unit="Hz")
        self.fmax = real(owner, "fmax", fmax, unit="Hz")
        if not self.fmin * 2 ** (2 / bins_per_octave) < self.fmax <= rate / 2 or self.fmin < self.resolution:
            raise ValueError(
                f"{owner}: fmin={fmin:g} Hz and fmax={fmax:g} Hz must lie between resolution={resolution:g} Hz and the "
                f"Nyquist frequency ({rate / 2:g} Hz), fmin below fmax by some bins"
            )
        self.bins_per_octave = positive_int(owner, "bins_per_octave", bins_per_octave, "bins")
        self.gamma = tuple(real(owner, "gamma", value, above=0) for value in gamma)
        if len(self.gamma) != 3:
            raise ValueError(f"{owner}: gamma={tuple(gamma)} has {len(self.gamma)} exponents; give 3")
        self.output = choice(owner, "output", output, _OUTPUTS)
        self.mode = choice(owner, "mode", mode, ("exact", "nnaudio"))
        self._register_constants(*self._learnable, trainable=self.trainable)

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate:g}, resolution={self.resolution:g}, win_length={self.win_length}, "
            f"hop_length={self.hop_length}, fmin={self.fmin:g}, fmax={self.fmax:g}, "
            f"bins_per_octave={self.bins_per_octave}, gamma={self.gamma}, output={self.output!r}, mode={self.mode!r}, "
            f"trainable={self.trainable}"
        )

    @property
    def frequencies(self) -> Tensor:
        """The bins' frequencies in Hz, float64 [bins]."""
        return self._centres(torch.device("cpu"))[:-1]

    def _spectra(self, samples: Tensor, left: int, right: int) -> Tensor:
        frames = frame(samples, self._constant("window", samples.dtype), self.hop_length, left=left, right=right)
        if frames.numel() == 0:  # MKL refuses an empty batch; this one has the shape, and a gradient
            bins = frames[..., :1].expand(*frames.shape[:-1], self.points // 2 + 1)
            return torch.complex(bins, bins)
        return torch.fft.rfft(frames, n=self.points)

    def _features(self, spectra: Tensor) -> Tensor:
        dtype = spectra.real.dtype
        size = torch.linalg.vector_norm(self._constant("window", dtype))
        magnitude = spectra.abs() / size
        on_pitch, on_period = self._constant("frequency_map", dtype), self._constant("periodicity_map", dtype)
        cepstrum = _ends_off(_power(self._cosines(_power(magnitude, self.gamma[0])), self.gamma[1]), self._cut[0])
        # The last bins go, as many as the first; so the bin at the cut has lost its mirror image, and counts half.
        halved = torch.cat(
            (cepstrum[..., : self._cut[0]], cepstrum[..., self._cut[0], None] / 2, cepstrum[..., self._cut[0] + 1 :]),
            -1,
        )
        spectrum = _ends_off(_power(self._cosines(halved), self.gamma[2]), self._cut[1])
        parts = {
            "spectrum": magnitude[..., : on_pitch.shape[1]] @ on_pitch.t(),
            "frequency": spectrum[..., : on_pitch.shape[1]] @ on_pitch.t(),
            "periodicity": cepstrum[..., : on_period.shape[1]] @ on_period.t(),
        }
        parts["combined"] = parts["frequency"] * parts["periodicity"]
        parts = {name: part.transpose(-1, -2) for name, part in parts.items()}
        return torch.stack([parts[name] for name in _OUTPUTS[:-1]], -3) if self.output == "all" else parts[self.output]

    @property
    def _cut(self) -> tuple[int, int]:
        """Quefrencies and bins that are cut off at each end: above fmax, and below fmin."""
        return max(1, round(self.sample_rate / self.fmax)), max(1, round(self.fmin / self.resolution))

    def _cosines(self, half: Tensor) -> Tensor:
        """The orthonormal DFT of a real, symmetric frame, which is real and symmetric: half of it, from half of it."""
        if half.numel() == 0:
            return half
        whole = torch.fft.irfft(torch.complex(half, torch.zeros_like(half)), n=self.points, norm="ortho")
        return whole[..., : half.shape[-1]]

    def _centres(self, device: torch.device | None) -> Tensor:
        """Of the triangles, in Hz, and the one above the last."""
        count = math.ceil(math.log2(self.fmax / self.fmin)) * self.bins_per_octave
        steps = torch.arange(count, dtype=torch.float64, device=device) / self.bins_per_octave
        centres = self.fmin * 2**steps
        below = sum(self.fmin * 2 ** (i / self.bins_per_octave) < self.fmax for i in range(count))
        return centres[:below]

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        if name == "window":
            return super()._build_constant(name, device)
        if name == "frequency_map":
            bins = torch.arange(min(round(self.fmax / self.resolution) + 1, self.points // 2), device=device).double()
            spacing = self.sample_rate / self.points
            if self.mode == "nnaudio":
                spacing = self.sample_rate / 2 / (self.points // 2 - 1)
            return self._triangles(bins * spacing)
        quefrencies = torch.arange(round(self.sample_rate / self.fmin) + 1, device=device).double()
        return self._triangles(self.sample_rate / quefrencies)

    def _triangles(self, hertz: Tensor) -> Tensor:
        """[bins, len(hertz)]: from the centre below to the one above, 1 at its own."""
        centre = self._centres(hertz.device)
        step = 2 ** (1 / self.bins_per_octave)
        below, above = torch.cat((centre[:1] / step, centre[:-2])), centre[1:]
        own = centre[:-1].unsqueeze(1)
        below, above = below.unsqueeze(1), above.unsqueeze(1)
        bank = torch.minimum((hertz - below) / (own - below), (above - hertz) / (above - own)).clamp_min(0)
        if self.mode == "nnaudio":
            bank = bank.masked_fill(hertz == own, 0.0)
            bank[0] = 0
            return bank
        empty = (bank == 0).all(1)
        nearest = (torch.log(hertz.clamp(1e-9, 1e9)) - torch.log(own)).abs().argmin(1)
        alone = torch.nn.functional.one_hot(nearest, len(hertz)).to(bank)
        return torch.where(empty.unsqueeze(1), alone, bank)


def _window(size: int) -> Tensor:
    """The symmetric Blackman-Harris window."""
    if size == 1:
        return torch.ones(1, dtype=torch.float64)
    angle = 2 * torch.pi * torch.arange(size, dtype=torch.float64, device="cpu") / (size - 1)
    weights = (0.35875, -0.48829, 0.14128, -0.01168)
    window = torch.zeros_like(angle)
    for k, weight in enumerate(weights):
        window = window + weight * torch.cos(k * angle)
    return window


def _power(values: Tensor, exponent: float) -> Tensor:
    """max(x, 0) ** exponent, with slope 0 at 0."""
    silent = values <= 0
    return torch.where(silent, 1.0, values).pow(exponent).masked_fill(silent, 0.0)


def _ends_off(values: Tensor, count: int) -> Tensor:
    """Zeros instead of the first values, whose mirror images are the last."""
    return torch.nn.functional.pad(values[..., count:], (count, 0))
