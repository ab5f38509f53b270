"""What CQT and VQT share: bins by octaves, each at a rate of its own."""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from .._arguments import choice, positive_int, read_waveform, real
from .._constants import DerivedConstants
from .._framing import check_count
from .._precision import full_precision
from .._stage import FrontEnd
from ._basis import exact_basis, librosa_basis
from ._bins import Bins, check_below_nyquist, noise_bandwidth
from ._plan import Octave, plan_exact, plan_librosa, plan_undecimated
from ._spectrum import LongSpectrum

__all__ = ["ConstantQ"]

_WINDOWS = ("hann", "blackman", "blackmanharris", "nuttall", "hamming", "flattop", "boxcar")
_SMOOTH = ("hann", "blackman", "blackmanharris", "nuttall")  # they end in (nearly) 0, so a lower rate can hold them


class ConstantQ(DerivedConstants, FrontEnd):
    """Waveform -> [..., n_bins, frames], by octaves. `CQT` and `VQT` say what the arguments are."""

    sample_rate: float

    def __init__(
        self,
        sample_rate: float,
        hop_length: int,
        fmin: float,
        n_bins: int,
        bins_per_octave: int,
        gamma: float | None,
        filter_scale: float,
        norm: float | None,
        window: str,
        pad_mode: str,
        scale: bool,
        tuning: float,
        sparsity: float,
        output: str,
        mode: str,
        trainable: Collection[str],
        engine: str,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        rate = real(owner, "sample_rate", sample_rate, above=0, unit="Hz")
        self.sample_rate = int(rate) if rate.is_integer() else rate
        self.hop_length = positive_int(owner, "hop_length", hop_length, "samples")
        self.norm = None if norm is None else _check_norm(owner, norm)
        self.scale = bool(scale)
        self.sparsity = real(owner, "sparsity", sparsity)
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"{owner}: sparsity={self.sparsity:g} must lie between 0 and 1, below 1")
        self.window = choice(owner, "window", window, _WINDOWS)
        self.pad_mode = choice(owner, "pad_mode", pad_mode, ("constant", "reflect"))
        self.output = choice(owner, "output", output, ("magnitude", "power", "complex", "phase"))
        self.mode = choice(owner, "mode", mode, ("exact", "librosa"))
        self.trainable = _check_trainable(owner, trainable)
        self._bins = Bins(
            rate,
            real(owner, "fmin", fmin, above=0, unit="Hz"),
            positive_int(owner, "n_bins", n_bins, "bins"),
            positive_int(owner, "bins_per_octave", bins_per_octave, "bins"),
            real(owner, "filter_scale", filter_scale, above=0),
            real(owner, "tuning", tuning, unit="bins"),
            _check_gamma(owner, gamma),
        )
        check_below_nyquist(owner, self._bins, self.window)
        self.engine = _choose_engine(owner, engine, self.mode, self.window)
        self._octaves = self._plan()
        names = [f"basis_{index}" for index in range(len(self._octaves))]
        self._register_constants(*names)
        if "basis" in self.trainable:
            self._train(*names)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return self._bins.count

    @property
    def frequencies(self) -> Tensor:
        """Centre of each bin, in Hz, [n_bins] in float64."""
        return torch.tensor(self._bins.frequencies, dtype=torch.float64)

    @property
    def lengths(self) -> Tensor:
        """Length of each bin's filter, in samples (not whole numbers), [n_bins] in float64."""
        return torch.tensor(self._bins.lengths, dtype=torch.float64)

    def extra_repr(self) -> str:
        b = self._bins
        return (
            f"{self.sample_rate:g}, hop_length={self.hop_length}, fmin={b.fmin:g}, n_bins={b.count}, "
            f"bins_per_octave={b.per_octave}, gamma={b.bandwidth:g}, filter_scale={b.filter_scale:g}, "
            f"norm={self.norm}, window={self.window!r}, pad_mode={self.pad_mode!r}, scale={self.scale}, "
            f"tuning={b.tuning:g}, output={self.output!r}, mode={self.mode!r}, engine={self.engine!r}"
        )

    def frames(self, samples: int | Tensor) -> int | Tensor:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape.

        `1 + samples // hop_length`; in librosa mode, where the signal is decimated before everything else, 1 more if a
        frame begins at the very end of the decimated signal, rounded up.
        """
        samples = check_count(type(self).__name__, samples)
        hop = self._octaves[0].hop if self.mode == "librosa" else self.hop_length
        step = self.hop_length // hop  # the octaves below have as many frames, or more
        return 1 + (samples + step - 1) // step // hop

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., n_bins, frames]."""
        wave = read_waveform(type(self).__name__, wave)
        with full_precision(wave):
            signals = self._decimated(wave)
            frames = self.frames(wave.shape[-1])
            parts = [self._respond(index, signal, frames) for index, signal in enumerate(signals)]
            return self._finish(parts)

    def _plan(self) -> list[Octave]:
        if self.mode == "librosa":
            bins = self._bins
            width = noise_bandwidth(self.window) * bins.alpha / bins.filter_scale
            cutoff = max(f * (1 + width / 2) + bins.bandwidth / 2 for f in bins.frequencies)
            return plan_librosa(bins, self.hop_length, cutoff)
        plan = plan_undecimated if self.engine == "conv" else plan_exact
        return plan(self._bins, self.hop_length)

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        octave = self._octaves[int(name.removeprefix("basis_"))]
        if self.mode == "librosa":
            return librosa_basis(
                self._bins, octave, self.hop_length, self.window, self.norm, self.scale, self.sparsity, device
            )
        return exact_basis(self._bins, octave, self.hop_length, self.window, self.norm, self.scale, device)

    def _train(self, *names: str) -> None:
        self._constant_names = ()
        for name in names:
            value = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))

    def _basis(self, index: int, dtype: torch.dtype) -> Tensor:
        name = f"basis_{index}"
        return getattr(self, name).to(dtype) if "basis" in self.trainable else self._constant(name, dtype)

    def _decimated(self, wave: Tensor) -> list[tuple[Tensor, int]]:
        """For each octave the signal at its rate, and how many of its samples come before the signal's first."""
        decimators = [octave.decimator for octave in self._octaves]
        support = max((d.support for d in decimators if d), default=0)
        spectrum = LongSpectrum(wave, self.hop_length, support) if support else None
        signals = []
        for octave in self._octaves:
            if octave.decimator is None or spectrum is None:
                signals.append((wave, 0))
                continue
            signal, lead = spectrum.decimated(octave.decimator), spectrum.lead * octave.hop
            if self.mode == "librosa":
                # librosa keeps as many samples as the signal has at the lower rate, rounded up
                step = self.hop_length // octave.hop
                signal, lead = signal[..., lead : lead + (wave.shape[-1] + step - 1) // step], 0
            signals.append((signal, lead))
        return signals

    def _respond(self, index: int, signal: tuple[Tensor, int], frames: int) -> Tensor:
        """[..., frames, 2 * bins of the octave]."""
        octave = self._octaves[index]
        samples, lead = signal
        left = octave.left - lead
        right = (frames - 1) * octave.hop + octave.size - left - samples.shape[-1]
        windows = nn.functional.pad(samples, (left, right)).unfold(-1, octave.size, octave.hop)
        return windows @ self._basis(index, samples.dtype).flatten(0, 1).t()

    def _finish(self, parts: list[Tensor]) -> Tensor:
        """Real and imaginary parts of the octaves, from the top, -> [..., n_bins, frames]."""
        pairs = [part.unflatten(-1, (2, -1)) for part in reversed(parts)]
        real_part = torch.cat([pair[..., 0, :] for pair in pairs], -1)
        imaginary = torch.cat([pair[..., 1, :] for pair in pairs], -1)
        if self.output == "power":
            return (real_part.square() + imaginary.square()).transpose(-1, -2)
        values = torch.complex(real_part, imaginary).transpose(-1, -2)
        if self.output == "complex":
            return values
        return values.angle() if self.output == "phase" else values.abs()


def _choose_engine(owner: str, engine: str, mode: str, window: str) -> str:
    engine = choice(owner, "engine", engine, ("auto", "fft", "conv"))
    if mode == "librosa":
        if engine == "conv":
            raise ValueError(f"{owner}: engine='conv' is the exact definition; with mode='librosa' use engine='fft'")
        return "fft"
    if window not in _SMOOTH:
        if engine == "fft":
            raise ValueError(
                f"{owner}: window={window!r} does not end in 0, so a lower rate cannot hold it; use engine='conv'"
            )
        return "conv"
    return "fft" if engine == "auto" else engine


def _check_gamma(owner: str, gamma: float | None) -> float | None:
    if gamma is None:
        return None
    gamma = real(owner, "gamma", gamma, unit="Hz")
    if gamma < 0:
        raise ValueError(f"{owner}: gamma={gamma:g} Hz is negative; give 0 or more, or None for the ear's bandwidths")
    return gamma


def _check_norm(owner: str, norm: Any) -> float:
    return math.inf if norm == math.inf else real(owner, "norm", norm, above=0)


def _check_trainable(owner: str, trainable: Collection[str]) -> tuple[str, ...]:
    if isinstance(trainable, str):
        raise TypeError(f"{owner}: trainable={trainable!r} is a string; give a tuple of names, ({trainable!r},)")
    return tuple(choice(owner, "trainable", name, ("basis",)) for name in trainable)
