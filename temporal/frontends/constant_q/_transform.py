"""What CQT and VQT share: bins by octaves, each at a rate of its own."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from temporal.kernels.bands import magnitude

from .._arguments import check_trainable, choice, positive_int, read_waveform, real, working_dtype
from .._constants import DerivedConstants
from .._framing import Count, check_continues, check_count, take
from .._precision import full_precision
from .._stage import FrontEnd
from ._basis import exact_basis, librosa_basis
from ._bins import Bins, check_below_nyquist, noise_bandwidth
from ._plan import Decimator, Octave, delayed, plan_exact, plan_librosa, plan_undecimated
from ._product import Part, convolve, correlate, product, reflect
from ._spectrum import decimate, good_size
from ._stream import ConstantQState, advance, begin, filled, filtered, low_pass, reaches

__all__ = ["ConstantQ"]

_WINDOWS = ("hann", "blackman", "blackmanharris", "nuttall", "hamming", "flattop", "boxcar")
_SMOOTH = ("hann", "blackman", "blackmanharris", "nuttall")  # they end in (nearly) 0, so a lower rate can hold them

_POWER = {"magnitude": 1.0, "power": 2.0}


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
        latency: str,
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
        self.trainable = check_trainable(owner, trainable, ("basis",))
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
        self._aligned = choice(owner, "latency", latency, ("aligned", "per_octave")) == "aligned"
        if not self._aligned and self.pad_mode == "reflect":
            raise ValueError(
                f"{owner}: latency='per_octave' delays the octaves by frames before the signal, which pad_mode='reflect' "
                "does not have; use pad_mode='constant'"
            )
        self._octaves = self._plan() if self._aligned else delayed(self._plan(), self.hop_length)
        pick = max if self._aligned else min
        self.latency = pick(octave.latency for octave in self._octaves)
        self._reach = max(reaches(octave, self._cuts) for octave in self._octaves)
        self._register_all()

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

    @property
    def latencies(self) -> Tensor:
        """What each bin's octave needs to read after a frame's time, in samples, [n_bins]."""
        return self._per_bin([octave.latency for octave in self._octaves])

    @property
    def delays(self) -> Tensor:
        """By how many frames each bin is late: with latency="per_octave" frame t holds frame `t - delay`, [n_bins]."""
        return self._per_bin([octave.delay for octave in self._octaves])

    def extra_repr(self) -> str:
        b = self._bins
        return (
            f"{self.sample_rate:g}, hop_length={self.hop_length}, fmin={b.fmin:g}, n_bins={b.count}, "
            f"bins_per_octave={b.per_octave}, gamma={b.bandwidth:g}, filter_scale={b.filter_scale:g}, "
            f"norm={self.norm}, window={self.window!r}, pad_mode={self.pad_mode!r}, scale={self.scale}, "
            f"tuning={b.tuning:g}, output={self.output!r}, mode={self.mode!r}, engine={self.engine!r}, "
            f"latency={'aligned' if self._aligned else 'per_octave'!r}, trainable={self.trainable}"
        )

    def frames(self, samples: Count) -> Count:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape.

        `1 + samples // hop_length`; in librosa mode, where the signal is decimated before everything else, 1 more if a
        frame begins at the very end of the decimated signal, rounded up.
        """
        return self._count(check_count(type(self).__name__, samples))

    def _count(self, samples: Any) -> Any:
        if not self._cuts:
            return 1 + samples // self.hop_length
        hop = self._octaves[0].hop
        step = self.hop_length // hop  # the octaves below have as many frames, or more
        return 1 + (samples + step - 1) // step // hop

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., n_bins, frames]."""
        wave = self._read(wave)
        with full_precision(wave):
            signals = self._decimated(wave)
            frames = self._count(wave.shape[-1])
            if self.engine == "conv":
                return self._finish(self._convolved(signals, frames))
            return self._finish(self._correlated(signals, frames))

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        if self._cuts and self.pad_mode == "reflect":
            return (
                "mode='librosa' reflects each octave at its own rate, which a stream does not offer; use "
                "pad_mode='constant', or mode='exact'"
            )
        return None

    def stream(self, chunk: Tensor, state: ConstantQState | None = None) -> tuple[Tensor, ConstantQState]:
        """The frames that are complete now, and what later ones need: the same amount, however long the stream is."""
        self._check_streams()
        chunk = self._read(chunk)
        if state is None:
            octaves = tuple(begin(octave, self._cuts, chunk) for octave in self._octaves)
            state = ConstantQState(octaves, chunk[..., :0].clone(), 0, 0)
        check_continues(type(self).__name__, state.edge, chunk)
        read = state.read + chunk.shape[-1]
        if self.pad_mode == "reflect":
            edge = torch.cat((state.edge, chunk), -1)
            if read <= self._reach:  # the reflection at the left end is not known yet
                return self._nothing(chunk), state._replace(edge=edge, read=read)
            if state.read <= self._reach:
                left = edge[..., 1 : self._reach + 1].flip(-1)
                chunk, state = edge, state._replace(octaves=tuple(filled(o, left) for o in state.octaves))
            state = state._replace(edge=edge[..., -self._reach - 1 :].clone())
        due = max(0, (read - self.latency) // self.hop_length + 1)
        return self._advance(chunk, state, read, due - state.given)

    def flush(self, state: ConstantQState) -> tuple[Tensor, None]:
        """The last frames, whose filters reach beyond the end of the signal."""
        self._check_streams()
        if state is None:
            raise ValueError(
                f"{type(self).__name__}: flush needs the state that stream returned; nothing has been streamed yet"
            )
        self._check_length(state.read)
        if self.pad_mode == "reflect":
            rest = state.edge[..., -self._reach - 1 : -1].flip(-1)
        else:
            rest = state.edge.new_zeros((*state.edge.shape[:-1], self._reach))
        return self._advance(rest, state, state.read, self._count(state.read) - state.given, ended=True)[0], None

    @property
    def _cuts(self) -> bool:
        """Whether an octave's signal ends where the signal does, as in librosa, though the filter rings on."""
        return self.mode == "librosa"

    def _read(self, wave: Tensor) -> Tensor:
        return read_waveform(type(self).__name__, wave)

    def _per_bin(self, values: list[int]) -> Tensor:
        return torch.tensor([v for o, v in zip(self._octaves, values, strict=True) for _ in o.bins]).flip(0)

    def _advance(
        self, chunk: Tensor, state: ConstantQState, read: int, due: int, ended: bool = False
    ) -> tuple[Tensor, ConstantQState]:
        parts, after = [], []
        with full_precision(chunk):
            for index, (octave, before) in enumerate(zip(self._octaves, state.octaves, strict=True)):
                weights = self._constant(f"low_pass_{index}", chunk.dtype) if octave.decimator else None
                step = self.hop_length // octave.hop
                end = (read + step - 1) // step if ended and self._cuts else None
                windows, now = advance(octave, weights, before, chunk, due, end)
                parts.append(self._product(index, windows))
                after.append(now)
            return self._finish(torch.cat(parts[::-1], -1)), ConstantQState(
                tuple(after), state.edge, read, state.given + due
            )

    def _nothing(self, chunk: Tensor) -> Tensor:
        windows = [chunk.new_zeros((*chunk.shape[:-1], 0, octave.size)) for octave in self._octaves]
        parts = [self._product(index, empty) for index, empty in enumerate(windows)]
        return self._finish(torch.cat(parts[::-1], -1))

    def _check_length(self, samples: int) -> None:
        if self.pad_mode == "reflect" and not self._cuts and samples <= self._reach:
            raise ValueError(
                f"{type(self).__name__}: pad_mode='reflect' reflects {self._reach} samples for the lowest bin, so the "
                f"signal must have at least {self._reach + 1}, not {samples}; use pad_mode='constant'"
            )

    def _plan(self) -> list[Octave]:
        if self.mode == "librosa":
            bins = self._bins
            width = noise_bandwidth(self.window) * bins.alpha / bins.filter_scale
            cutoff = max(f * (1 + width / 2) + bins.bandwidth / 2 for f in bins.frequencies)
            return plan_librosa(bins, self.hop_length, cutoff)
        plan = plan_undecimated if self.engine == "conv" else plan_exact
        return plan(self._bins, self.hop_length)

    def _register_all(self) -> None:
        names = [f"basis_{index}" for index in range(len(self._octaves))]
        filters = [f"low_pass_{index}" for index, octave in enumerate(self._octaves) if octave.decimator]
        if "basis" in self.trainable:
            for name in names:
                value = self._build_constant(name, None).to(working_dtype(torch.get_default_dtype()))
                self.register_parameter(name, nn.Parameter(value))
            names = []
        self._register_constants(*names, *filters)

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        octave = self._octaves[int(name.rpartition("_")[2])]
        if name.startswith("low_pass") and octave.decimator:
            return low_pass(octave.decimator, device)
        if self.mode == "librosa":
            return librosa_basis(
                self._bins, octave, self.hop_length, self.window, self.norm, self.scale, self.sparsity, device
            )
        return exact_basis(self._bins, octave, self.hop_length, self.window, self.norm, self.scale, device)

    def _decimated(self, wave: Tensor) -> list[tuple[Tensor, int]]:
        """For each octave the signal at its rate, and how many of its samples come before the signal's first."""
        samples, before, name = wave.shape[-1], 0, type(self).__name__
        self._check_length(samples)
        if self.pad_mode == "reflect" and not self._cuts:
            before = self._reach
            wave = reflect(name, wave, before, before)
        decimators = [octave.decimator for octave in self._octaves if octave.decimator]
        full = wave, before
        low: Iterator[tuple[Tensor, int]] = iter(())
        if decimators:
            support = max(decimator.support for decimator in decimators)
            lead = -(-(support + before) // self.hop_length)  # hops before the signal
            zeros = lead * self.hop_length - before
            hops = good_size((zeros + wave.shape[-1] + support) // self.hop_length + 1)
            padded = nn.functional.pad(wave, (zeros, hops * self.hop_length - zeros - wave.shape[-1]))
            if not self._cuts:
                full = padded, zeros + before
            slower = self._slower(padded, decimators)
            low = iter([(signal, lead * d.kept) for signal, d in zip(slower, decimators, strict=True)])
        signals = [next(low) if octave.decimator else full for octave in self._octaves]
        if self._cuts:
            signals = [self._cut(o, y, first, samples) for o, (y, first) in zip(self._octaves, signals, strict=True)]
        return signals

    def _slower(self, padded: Tensor, decimators: list[Decimator]) -> Sequence[Tensor]:
        if torch.onnx.is_in_onnx_export():  # whose runtimes' FFT of a length that is no power of 2 is slow and inexact
            return [filtered(padded, d, self._low_pass(d, padded.dtype)) for d in decimators]
        return decimate(padded, self.hop_length, decimators)

    def _low_pass(self, decimator: Decimator, dtype: torch.dtype) -> Tensor:
        index = next(i for i, octave in enumerate(self._octaves) if octave.decimator is decimator)
        return self._constant(f"low_pass_{index}", dtype)

    def _cut(self, octave: Octave, signal: Tensor, first: int, samples: int) -> tuple[Tensor, int]:
        """As many samples as the signal has at the octave's rate, rounded up, as librosa keeps them; then padded."""
        step = self.hop_length // octave.hop
        signal = take(signal, first, (samples + step - 1) // step)
        if self.pad_mode == "constant":
            return signal, 0
        return reflect(type(self).__name__, signal, octave.left, octave.size - octave.left), octave.left

    def _correlated(self, signals: list[tuple[Tensor, int]], frames: int) -> Tensor:
        """[..., frames, 2 * n_bins], the lowest bin first, real and imaginary part of each side by side."""
        different: list[Tensor] = []
        parts, bases = [], []
        for index in reversed(range(len(signals))):
            octave, (samples, first) = self._octaves[index], signals[index]
            if not (different and different[-1] is samples):  # octaves at the full rate follow each other
                different.append(samples)
            parts.append(Part(len(different) - 1, first - octave.reach_left, octave.hop))
            bases.append(self._basis(index, samples.dtype))
        return correlate(different, bases, parts, frames)

    def _convolved(self, signals: list[tuple[Tensor, int]], frames: int) -> Tensor:
        parts = [
            convolve(samples, self._basis(index, samples.dtype), first - octave.reach_left, octave.hop, frames)
            for index, (octave, (samples, first)) in enumerate(zip(self._octaves, signals, strict=True))
        ]
        return torch.cat(parts[::-1], -1)

    def _basis(self, index: int, dtype: torch.dtype) -> Tensor:
        """[2 * bins of the octave, size], real and imaginary part of each side by side."""
        name = f"basis_{index}"
        basis = getattr(self, name).to(dtype) if "basis" in self.trainable else self._constant(name, dtype)
        return basis.flatten(0, 1)

    def _product(self, index: int, windows: Tensor) -> Tensor:
        return product(windows, self._basis(index, windows.dtype))

    def _finish(self, values: Tensor) -> Tensor:
        """[..., frames, 2 * n_bins] -> [..., n_bins, frames]."""
        pairs = values.unflatten(-1, (-1, 2))
        power = _POWER.get(self.output)
        # One pass, in half of the time; but it cannot be differentiated twice.
        if power and not (values.requires_grad or torch.compiler.is_compiling() or torch.compiler.is_exporting()):
            return magnitude(torch.view_as_complex(pairs), power=power)
        if self.output == "power":
            return pairs.square().sum(-1).transpose(-1, -2)
        if torch.compiler.is_exporting():
            numbers = torch.complex(pairs[..., 0], pairs[..., 1])
        else:
            numbers = torch.view_as_complex(pairs)
        if self.output == "magnitude":
            numbers = numbers.abs()
        elif self.output == "phase":
            numbers = numbers.angle()
        return numbers.transpose(-1, -2)


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
