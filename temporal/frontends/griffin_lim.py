"""A signal from magnitudes alone."""

from typing import Any, Literal

import torch
from torch import Tensor

from temporal.kernels.framing import frame

from ._arguments import choice, positive_int, read_frames, real
from ._framing import Framing
from ._precision import full_precision
from ._synthesis import Synthesis, arguments_of
from .fourier import STFT

__all__ = ["GriffinLim"]


class GriffinLim(Synthesis):
    """Griffin-Lim: a signal whose magnitude spectra come near to those given, by iteration over the phases.

    R_i = STFT(InverseSTFT(C_i)),  A_i = R_i - m / (1 + m) R_{i-1},  C_{i+1} = S A_i / |A_i|

    with S the magnitudes, C_0 = S exp(j phase), R_{-1} = 0 and the momentum m (0: the plain algorithm of 1984). Which
    signal it finds depends on the first phases. What is random in them follows from the seed, the bin and the frame alone,
    by a hash: an item gives the same signal on every device, in every batch and at every place of it.

    Args:
        n_fft, win_length, hop_length, window, center: those of the `STFT` that gave the magnitudes (with zeros beyond the
            ends of the signal); `GriffinLim.of(stft)` takes them over.
        n_iter: iterations, >= 1.
        momentum: >= 0; 0.99 is best, and from 1.1 on it does worse than without.
        init: the first phases: "random"; "zeros"; or "peaks": random in the first frame, from where the phase of each bin
            advances as the spectral peak does whose slope it lies on, which ends nearer to the magnitudes: after 32
            iterations 0.044 of their norm off on average, where "random" ends at 0.064 and librosa at 0.065 (23 spoken
            words of three collections and 6 pieces of synthetic music, none of which had a part in the choice, 3 seeds
            each; nearer than librosa on 27 of the 29, on one word 0.104 to 0.081).
        seed: of the random phases, >= 0.
        power: of the magnitudes in the frames that come in, > 0: 1 for |X|, 2 for |X|^2 (a mel spectrogram's inverse).
    Shape:
        frames: [..., n_fft // 2 + 1, frames], values >= 0 (negative ones count as 0).
        length: samples to give; their transform must have as many frames. `(frames - 1) * hop_length` by default for an
            even n_fft (see `InverseSTFT`).
        Returns [..., samples]. Gradients flow through all iterations, which then are all kept in memory.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: a window and a hop that leave gaps; another number of bins; a length of another number of frames;
            `stream`: every phase depends on the whole signal.
    References:
        Perraudin, Balazs and Søndergaard 2013, A fast Griffin-Lim algorithm. Beauregard, Harish and Wyse 2015, Single pass
        spectrogram inversion (the advance of peaks). `librosa.griffinlim` 0.11 and `torchaudio.transforms.GriffinLim`, the
        same recurrence.
    Example:
        >>> import torch, temporal
        >>> stft = temporal.frontends.STFT(400, hop_length=160)
        >>> griffin_lim = temporal.frontends.GriffinLim.of(stft, n_iter=8)
        >>> magnitude = stft(torch.randn(2, 1600))
        >>> wave = griffin_lim(magnitude)
        >>> wave.shape, bool((stft(wave) - magnitude).norm() < 0.5 * magnitude.norm())
        (torch.Size([2, 1600]), True)
    """

    def __init__(
        self,
        n_fft: int = 2048,
        n_iter: int = 32,
        *,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: str | Tensor = "hann",
        center: bool = True,
        momentum: float = 0.99,
        init: Literal["peaks", "random", "zeros"] = "peaks",
        seed: int = 0,
        power: float = 1.0,
    ) -> None:
        super().__init__(n_fft, win_length, hop_length, window, center)
        self.n_iter = positive_int("GriffinLim", "n_iter", n_iter, "iterations")
        self.momentum = real("GriffinLim", "momentum", momentum)
        if self.momentum < 0:
            raise ValueError(f"GriffinLim: momentum={self.momentum:g} is negative; give 0 or more, below 1 as a rule")
        self.init = choice("GriffinLim", "init", init, ("peaks", "random", "zeros"))
        self.seed = positive_int("GriffinLim", "seed + 1", seed + 1, "numbers") - 1
        self.power = real("GriffinLim", "power", power, above=0)
        self._framing = Framing("GriffinLim", self.n_fft, self.hop_length, self.center, "constant")

    @classmethod
    def of(cls, stft: STFT, **options: Any) -> "GriffinLim":
        """For the magnitudes (or the power) that `stft` gives; options as for the class."""
        if stft.pad_mode != "constant":
            raise ValueError(
                f"GriffinLim: of() was given pad_mode={stft.pad_mode!r}; only signals with zeros beyond their ends "
                "(pad_mode='constant') are matched exactly: give the sizes one by one to go on regardless"
            )
        if getattr(stft, "output", None) == "power":
            options.setdefault("power", 2.0)
        return cls(**{**arguments_of(cls.__name__, stft), **options})

    @property
    def stream_obstacle(self) -> str:
        """Why the layer cannot stream and what can."""
        return "every phase depends on the whole signal; on a stream keep the phases: STFT(output='complex') and InverseSTFT"

    def stream(self, chunk: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Raises: see `stream_obstacle`."""
        raise ValueError(f"GriffinLim: {self.stream_obstacle}")

    def flush(self, state: None) -> tuple[Tensor, None]:
        """Raises: see `stream_obstacle`."""
        raise ValueError(f"GriffinLim: {self.stream_obstacle}")

    def forward(self, frames: Tensor, length: int | None = None) -> Tensor:
        """[..., bins, frames] -> [..., samples]."""
        magnitude = self._magnitude(read_frames("GriffinLim", frames))
        count = magnitude.shape[-2]
        samples = self._samples(count, length)
        if length is not None and self._framing.count(length) != count:
            raise ValueError(
                f"GriffinLim: a signal of length={length} has {self._framing.count(length)} frames, not {count}; give "
                f"{self.frames(count)} to {self.frames(count) + self.hop_length - 1} samples"
            )
        with full_precision(magnitude):
            return self._iterate(magnitude, samples)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, n_iter={self.n_iter}, momentum={self.momentum:g}, init={self.init!r}, "
            f"seed={self.seed}, power={self.power:g}"
        )

    def _magnitude(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> magnitudes [..., frames, bins]."""
        if frames.shape[-2] != self.n_fft // 2 + 1:
            raise ValueError(
                f"GriffinLim: the frames came as {list(frames.shape)}; give [..., bins, frames] with "
                f"{self.n_fft // 2 + 1} bins (mel bands go through InverseMel first)"
            )
        frames = frames.transpose(-1, -2).contiguous().clamp_min(0)
        if self.power == 1:
            return frames
        silent = frames == 0  # x ** p with p < 1 has an infinite slope at 0
        return torch.where(silent, 1.0, frames).pow(1 / self.power).masked_fill(silent, 0.0)

    def _iterate(self, magnitude: Tensor, samples: int) -> Tensor:
        if magnitude.numel() == 0:
            return magnitude.sum((-2, -1))[..., None].expand(*magnitude.shape[:-2], samples)
        spectra = torch.polar(magnitude, self._first_phases(magnitude).expand_as(magnitude))
        window, right = self._constant("window", magnitude.dtype), self.n_fft + self.hop_length
        share, before = self.momentum / (1 + self.momentum), None
        for _ in range(self.n_iter):
            wave = self._synthesise(torch.fft.irfft(spectra, self.n_fft), samples)
            windows = frame(wave, window, self.hop_length, left=self._pad, right=right)[..., : magnitude.shape[-2], :]
            rebuilt = torch.fft.rfft(windows)
            estimate = rebuilt if before is None or share == 0 else torch.sub(rebuilt, before, alpha=share)
            spectra, before = _with_magnitude(estimate, magnitude), rebuilt
        return self._synthesise(torch.fft.irfft(spectra, self.n_fft), samples)

    @torch.no_grad()
    def _first_phases(self, magnitude: Tensor) -> Tensor:
        """In radians, in a shape that broadcasts to [..., frames, bins]."""
        if self.init == "zeros":
            return magnitude.new_zeros(())
        frames = torch.arange(magnitude.shape[-2], device=magnitude.device)[:, None]
        bins = torch.arange(magnitude.shape[-1], device=magnitude.device)
        if self.init == "peaks":
            frames = frames[:1]
        number = _mix(_mix(_mix(self.seed + torch.ones_like(frames)) + frames) ^ bins)
        phases = number * (2 * torch.pi / 2**32)
        if self.init == "peaks":
            advance = _peak_frequencies(magnitude) * (2 * torch.pi * self.hop_length / self.n_fft)
            # A window has its middle at n_fft // 2, so the phases of neighbouring bins under one peak differ by pi.
            phases = phases + (advance.cumsum(-2) + torch.pi * (bins % 2)).remainder(2 * torch.pi)
        return phases.to(magnitude.dtype)


def _peak_frequencies(magnitude: Tensor) -> Tensor:
    """For each bin, where the peak lies that one gets to uphill, in bins, between them by a parabola; in float64."""
    level = magnitude.double().clamp_min(torch.finfo(torch.float32).tiny).log()
    left = torch.nn.functional.pad(level, (1, 0), value=-torch.inf)[..., :-1]
    right = torch.nn.functional.pad(level, (0, 1), value=-torch.inf)[..., 1:]
    here = torch.arange(level.shape[-1], device=level.device).expand_as(level)
    up = torch.where((left > level) & (left >= right), here - 1, torch.where(right > level, here + 1, here))
    for _ in range(level.shape[-1].bit_length()):  # each time, twice as far
        up = up.gather(-1, up)
    bend = left - 2 * level + right
    curved = bend.isfinite() & (bend < 0)
    apart = torch.where(curved, (left - right) / torch.where(curved, 2 * bend, 1.0), 0.0).clamp(-0.5, 0.5)
    return (here + apart).gather(-1, up)


def _mix(number: Tensor) -> Tensor:
    """Scatter whole numbers over 0 .. 2^32 - 1, one to one; int64, so that no product overflows."""
    number = number & 0xFFFFFFFF
    for _ in range(2):
        number = ((number ^ (number >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return number ^ (number >> 16)


def _with_magnitude(spectra: Tensor, magnitude: Tensor) -> Tensor:
    """The phases of `spectra` with another magnitude; 0, with a gradient of 0, where a spectrum has no phase."""
    parts = torch.view_as_real(spectra)
    size = spectra.abs()
    silent = size <= torch.finfo(size.dtype).tiny
    scale = (magnitude / torch.where(silent, 1.0, size)).masked_fill(silent, 0.0)
    return torch.view_as_complex(parts * scale[..., None])
