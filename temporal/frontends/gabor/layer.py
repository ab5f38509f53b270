"""The invertible constant-Q transform."""

import math
import operator
import warnings
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor

from .._arguments import choice, positive_int, read_waveform, real
from .._framing import Count, check_continues, check_count
from .._precision import full_precision
from .._stage import FrontEnd
from ._bands import Bands, bucket, slice_window, tables
from ._slices import SliceInverse, Slices, SliceStream
from ._transform import analyse, synthesise

__all__ = ["InvertibleCQT"]

_OWNER = "InvertibleCQT"


class InvertibleCQT(FrontEnd):
    """Constant-Q transform with an exact inverse: a non-stationary Gabor frame.

    c[k, t] = 2/N sum_j X[j] w_k(j sample_rate / N) exp(2 pi i j n_t / N),  X = FFT of the N samples, j = 0 .. N/2

    that is, the signal through a filter w_k around the frequency f_k, sampled at the times n_t. Filters rise from the
    frequency below theirs to 1 and fall to 0 at the frequency above, along the logarithm of frequency. A sinusoid of
    amplitude a at f_k gives the magnitude a. No band has more bins than frames, so the frame operator is diagonal and
    the dual filters are w_k M_k / sum_k M_k w_k^2: `inverse` is exact, up to rounding. `CQT` is the transform that
    librosa's and nnAudio's users know: it has one rate at any hop, but no inverse.

    The whole signal is one period: it is followed by zeros up to N, one of a few sizes whose tables are kept, and the
    filters' response at one end goes on at the other. The coefficients therefore depend a little on the length. Slices
    (`slice_length`) do not, use constant memory, stream, and are as exactly invertible; they hold twice as many numbers.
    An exported program (`torch.export`) of the whole has the length of its example; that of slices takes any. A sample
    that is NaN or infinite makes all frames NaN, or all that see its slices; other items of the batch never.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        fmin: frequency of the first constant-Q band, in Hz, > 0; C1 by default.
        fmax: no constant-Q band lies above it, in Hz; beside the Nyquist frequency by default. Above, up to the Nyquist
            frequency, the bands are as wide as the last step, so that nothing of the signal is lost; so is what lies
            below fmin, in a band at 0 Hz. `.frequencies` lists all.
        bins_per_octave: bands per octave, >= 1.
        hop_length: samples from frame to frame, with layout="matrix": at most `sample_rate` over the width of the widest
            band; the largest power of two by default.
        layout: "matrix": all bands at one rate, [..., bins, frames]. "octaves": a list, from the lowest, of an octave's
            bands at a rate that suffices for them (first 0 Hz alone, last what lies above the constant-Q bands): 1.4
            numbers a sample instead of 4 to 8, and as much quicker.
        window: "hann", or "cosine", whose squares add up to 1: the frame is tight, its response rings longer.
        output: "complex" (what `inverse` reads), "magnitude", "power" or "phase".
        slice_length: samples of a slice, a multiple of `4 * hop_length`; None transforms the whole signal at once.
        transition: samples of the slices' cross-fade, even, up to `slice_length // 2`; `slice_length // 8` by default.
        trainable: () only: the inverse is exact because the filters follow from the arguments, and their duals from them, at
            every length anew. A name is an error that says so; filters that learn are those of `CQT`.
    Shape:
        wave: [..., samples], any leading dimensions.  Returns [..., bins, frames], `.frames(samples)` frames, frame t at
        sample `t * hop_length`; in the layout "octaves" a list of these, `.sizes(samples)`.
        With slices the complex output is [..., 2, bins, frames]: slices of even and of odd number overlap, and their sum
        over this axis is what the other outputs show.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: fmin or fmax out of range, a hop or slice that does not fit (the error says which would),
            `stream` without `slice_length`. A warning where a slice is too short to tell the lowest bands apart.
    References:
        Velasco, Holighaus, Doerfler, Grill, "Constructing an invertible constant-Q transform with nonstationary Gabor
        frames", DAFx 2011. Holighaus, Doerfler, Velasco, Grill, "A framework for invertible, real-time constant-Q
        transforms", IEEE TASLP 21(4), 2013.
    Example:
        >>> import torch, temporal
        >>> cqt = temporal.frontends.InvertibleCQT(16000, fmin=60.0, hop_length=10)
        >>> wave = torch.randn(2, 15999)
        >>> coefficients = cqt(wave)
        >>> coefficients.shape, coefficients.dtype
        (torch.Size([2, 87, 1664]), torch.complex64)
        >>> bool((cqt.inverse(coefficients, 15999) - wave).abs().max() < 1e-5)
        True
    """

    pad_mode = "constant"

    sample_rate: float

    def __init__(
        self,
        sample_rate: float,
        *,
        fmin: float = 32.70319566257483,
        fmax: float | None = None,
        bins_per_octave: int = 12,
        hop_length: int | None = None,
        layout: Literal["matrix", "octaves"] = "matrix",
        window: Literal["hann", "cosine"] = "hann",
        output: Literal["complex", "magnitude", "power", "phase"] = "complex",
        slice_length: int | None = None,
        transition: int | None = None,
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__()
        _check_nothing_learns(trainable)
        rate = real(_OWNER, "sample_rate", sample_rate, above=0, unit="Hz")
        self.sample_rate = int(rate) if rate.is_integer() else rate
        self.fmin, self.fmax = _check_range(self.sample_rate, fmin, fmax)
        self.bins_per_octave = positive_int(_OWNER, "bins_per_octave", bins_per_octave, "bands")
        self.layout = choice(_OWNER, "layout", layout, ("matrix", "octaves"))
        self.window = choice(_OWNER, "window", window, ("hann", "cosine"))
        self.output = choice(_OWNER, "output", output, ("complex", "magnitude", "power", "phase"))
        self._bands = Bands(float(rate), self.fmin, self.fmax, self.bins_per_octave, self.window)
        self.n_bins = len(self._bands.centres)
        if self.layout == "matrix":
            self.hop_length = self._check_hop(hop_length)
        elif hop_length is not None or slice_length is not None:
            raise ValueError(
                f"{_OWNER}: hop_length and slice_length belong to layout='matrix'; with 'octaves' each octave has a rate "
                "of its own"
            )
        self._slices = None if slice_length is None else self._check_slices(slice_length, transition)
        if self._slices:
            self.latency = 3 * self._slices.half // 2 + self._slices.transition // 2

    def extra_repr(self) -> str:
        parts = [f"{self.sample_rate:g}, fmin={self.fmin:g}, fmax={self.fmax:g}"]
        parts.append(f"bins_per_octave={self.bins_per_octave}, layout={self.layout!r}")
        if self.layout == "matrix":
            parts.append(f"hop_length={self.hop_length}")
        if self._slices:
            parts.append(f"slice_length={self.slice_length}, transition={self._slices.transition}")
        return ", ".join([*parts, f"window={self.window!r}, output={self.output!r}"])

    @property
    def frequencies(self) -> Tensor:
        """The bands' centres in Hz, float64 [bins]: 0, the constant-Q bands from fmin on, the even rest to Nyquist."""
        return torch.from_numpy(self._bands.centres.copy())

    @property
    def slice_length(self) -> int | None:
        """Samples of a slice; None where the whole signal is one."""
        return self._slices.length if self._slices else None

    def frames(self, samples: Count) -> Count:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape.

        `samples / hop_length`, rounded up to one of few sizes (at most an eighth more); with slices what covers the last
        slice. With layout="octaves" there is no one number: `.sizes`.
        """
        samples = check_count(_OWNER, samples)
        if self.layout == "octaves":
            raise ValueError(f"{_OWNER}: layout='octaves' has a number of frames for each octave: see .sizes(samples)")
        if self._slices:
            return self._slices.frames(self._slices.count(samples))
        if isinstance(samples, Tensor):
            hops = torch.div(samples + self.hop_length - 1, self.hop_length, rounding_mode="floor")
            return bucket(hops.clamp_min(1))
        return bucket(max(1, -(-samples // self.hop_length)))

    def sizes(self, samples: int) -> list[tuple[int, int]]:
        """(bins, frames) of each tensor of the layout "octaves", or of the matrix."""
        if self.layout == "matrix":
            return [(self.n_bins, self.frames(samples))]
        return list(self._tables(check_count(_OWNER, samples), torch.float32, torch.device("cpu")).shapes)

    def forward(self, wave: Tensor) -> Tensor | list[Tensor]:
        """[..., samples] -> [..., bins, frames], or the list of octaves."""
        wave = read_waveform(_OWNER, wave)
        with full_precision(wave):
            if self._slices:
                samples = _pad(wave, (self._slices.transition // 2, 0))
                return self._show(self._slices.lay(self._analyse(samples, self._slices.count(wave.shape[-1]), True)))
            parts = _on_rows(wave, lambda rows: analyse(rows, self._tables(rows.shape[-1], rows.dtype, rows.device)))
            shown = [self._show(part) for part in parts]
        return shown[0] if self.layout == "matrix" else shown

    def inverse(self, coefficients: Tensor | list[Tensor], length: int | None = None) -> Tensor:
        """The signal whose coefficients these are; of any others, the one with the nearest ones in the frame's sense.

        Args:
            coefficients: complex, as `forward` gives them.
            length: samples of the signal; by default all that the frames span. In the layout "octaves" it says how long
                the transform was, and so it must be given.
        Shape:
            Returns [..., samples].
        """
        parts = self._check_coefficients(coefficients, length)
        with full_precision(parts[0].real):
            if self._slices:
                slices = self._slices.lift(parts[0])
                samples, tail = self._slices.join(
                    self._synthesise(slices), slices.real.new_zeros((*slices.shape[:-3], self._slices.transition))
                )
                wave = torch.cat((samples, tail), -1)[..., self._slices.transition // 2 :]
            else:
                size = parts[0].shape[-1] * self.hop_length if length is None else length
                wave = self._whole_inverse(parts, size)
        return wave if length is None else wave[..., :length]

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        if self._slices:
            return None
        return (
            "it transforms the whole signal at once; InvertibleCQT(..., slice_length=...) transforms slices and streams"
        )

    def stream(self, chunk: Tensor, state: SliceStream | None = None) -> tuple[Tensor, SliceStream]:
        """The frames that are complete now. A slice completes many at a time: they leave evenly, one every hop."""
        self._check_streams()
        chunk, slices = read_waveform(_OWNER, chunk), self._sliced
        if state is None:
            quiet = chunk.new_zeros((*chunk.shape[:-1], slices.transition // 2))
            none = torch.complex(chunk[..., :0], chunk[..., :0])[..., None, None, :]
            state = SliceStream(quiet, none.expand(*chunk.shape[:-1], 2, self.n_bins, 0), 0, 0, 0)
        check_continues(_OWNER, state.samples, chunk)
        read = state.read + chunk.shape[-1]
        samples = torch.cat((state.samples, chunk), -1)
        ready = max(0, (samples.shape[-1] - slices.transition) // slices.half)
        state = self._advance(state._replace(samples=samples, read=read), ready)
        due = max(0, (read - self.latency) // self.hop_length + 1 - state.given)
        out, rest = state.frames[..., :due], state.frames[..., due:].clone()
        return self._show(out), state._replace(frames=rest, given=state.given + due)

    def flush(self, state: SliceStream | None) -> tuple[Tensor, None]:
        """The frames that waited, and those of the last slices, which reach beyond the end of the signal."""
        self._check_streams()
        if state is None:
            raise ValueError(f"{_OWNER}: flush needs the state that stream returned; nothing has been streamed yet")
        state = self._advance(state, self._sliced.count(state.read) - state.slices)
        return self._show(state.frames), None

    def inverse_stream(self, frames: Tensor, state: SliceInverse | None = None) -> tuple[Tensor, SliceInverse]:
        """The samples that these frames of a stream complete: the next ones of the signal.

        Args:
            frames: the next complex [..., 2, bins, frames], as `stream` and `flush` give them, 0 or more.
            state: what the call before returned; None at the start.
        Shape:
            Returns ([..., samples], state) with 0 or more samples.
        """
        self._check_streams()
        slices = self._sliced
        (frames,) = self._check_coefficients(frames, None, whole=False)
        if state is None:
            tail = frames.real.new_zeros((*frames.shape[:-3], slices.transition))
            state = SliceInverse(frames[..., :0], tail, 0)
        frames = torch.cat((state.frames, frames), -1)
        parts, frames = slices.take(frames, state.slices)
        if not parts:
            return state.tail[..., :0], state._replace(frames=frames)
        with full_precision(frames.real):
            samples, tail = slices.join(self._synthesise(torch.stack(parts, -3)), state.tail)
        lead = slices.transition // 2 if state.slices == 0 else 0  # the fade-in before the signal's beginning
        return samples[..., lead:], SliceInverse(frames, tail, state.slices + len(parts))

    def inverse_flush(self, state: SliceInverse | None) -> tuple[Tensor, None]:
        """The last samples, [..., transition]; beyond the end of the signal they are 0."""
        self._check_streams()
        if state is None or state.frames.shape[-1] != 2 * self._sliced.quarter or state.slices == 0:
            raise ValueError(f"{_OWNER}: inverse_flush before all frames of the stream came; give flush's frames too")
        return state.tail, None

    def _advance(self, state: SliceStream, count: int) -> SliceStream:
        """`count` slices more."""
        if count == 0:
            return state
        frames = state.frames
        with full_precision(state.samples):
            parts = self._analyse(state.samples, count, state.slices == 0)
        for number, part in enumerate(parts.unbind(-3), state.slices):
            frames = self._sliced.extend(frames, part, number)
        rest = state.samples[..., count * self._sliced.half :].clone()
        return state._replace(samples=rest, frames=frames, slices=state.slices + count)

    @property
    def _sliced(self) -> Slices:
        if self._slices is None:  # `stream` refuses before it comes to this
            raise RuntimeError("InvertibleCQT: without slice_length there are no slices")
        return self._slices

    def _tables(self, samples: int, dtype: torch.dtype, device: torch.device) -> Any:
        if self.layout == "octaves":
            return tables(self._bands, bucket(max(1, operator.index(self._known(samples)))), None, dtype, device)
        frames = self.frames(operator.index(self._known(samples)))
        return tables(self._bands, frames * self.hop_length, frames, dtype, device)

    def _known(self, samples: int) -> int:
        if isinstance(samples, torch.SymInt) and torch.compiler.is_exporting():
            raise ValueError(
                f"{_OWNER}: the filters of the whole signal depend on its length, so no exported program serves any length; "
                "export with a length that is fixed (a dynamic batch is fine), or use CQT"
            )
        return samples

    def _slice_tables(self, dtype: torch.dtype, device: torch.device) -> Any:
        return tables(self._bands, self._sliced.length, self._sliced.length // self.hop_length, dtype, device)

    def _analyse(self, samples: Tensor, count: int, opens: bool) -> Tensor:
        """Samples from a slice's fade-in on -> [..., slices, bins, frames of a slice]."""
        slices = self._sliced
        window = slice_window(slices.length, slices.transition, samples.dtype, samples.device)
        parts = slices.cut(samples, count, window, opens)
        return _on_rows(parts, lambda rows: analyse(rows, self._slice_tables(rows.dtype, rows.device)))[0]

    def _synthesise(self, slices: Tensor) -> Tensor:
        """[..., slices, bins, frames of a slice] -> [..., slices, length]."""
        return self._whole_inverse([slices], self._sliced.length)

    def _whole_inverse(self, parts: list[Tensor], size: int) -> Tensor:
        like = parts[0].real
        if 0 in like.shape[:-2]:  # the FFT refuses an empty batch
            return like.new_zeros((*like.shape[:-2], size)) + like.sum()
        if self.layout == "octaves":
            made = self._tables(size, like.dtype, like.device)
        else:
            made = tables(self._bands, like.shape[-1] * self.hop_length, like.shape[-1], like.dtype, like.device)
        return synthesise(parts, made)

    def _show(self, coefficients: Tensor) -> Tensor:
        if self.output == "complex":
            return coefficients
        if self._slices:
            coefficients = coefficients.sum(-3)
        if self.output == "power":
            return coefficients.real.square() + coefficients.imag.square()
        return coefficients.angle() if self.output == "phase" else coefficients.abs()

    def _check_hop(self, hop_length: int | None) -> int:
        longest = self.sample_rate / self._bands.widest * (1 - 1e-9)
        if hop_length is None:
            return 1 << max(0, math.floor(math.log2(longest)))
        hop = positive_int(_OWNER, "hop_length", hop_length, "samples")
        if hop > max(1, longest):
            raise ValueError(
                f"{_OWNER}: hop_length={hop} samples is too long for the widest band ({self._bands.widest:g} Hz) to be "
                f"inverted; give at most {max(1, math.floor(longest))}, more bins_per_octave, or layout='octaves'"
            )
        return hop

    def _check_slices(self, slice_length: int, transition: int | None) -> Slices:
        length = positive_int(_OWNER, "slice_length", slice_length, "samples")
        step = 4 * self.hop_length
        if length % step:
            near = max(step, round(length / step) * step)
            raise ValueError(
                f"{_OWNER}: slice_length={length} samples is no multiple of 4 * hop_length = {step}; the nearest is {near}"
            )
        if transition is None:
            transition = max(2, length // 8 // 2 * 2)
        fade = positive_int(_OWNER, "transition", transition, "samples")
        if fade % 2 or fade > length // 2:
            raise ValueError(
                f"{_OWNER}: transition={fade} samples must be even and at most slice_length // 2 = {length // 2}"
            )
        resolved = self.sample_rate / length
        narrowest = self._bands.centres[2] if self.n_bins > 2 else self.sample_rate / 2
        narrowest -= self.fmin * 2 ** (-1 / self.bins_per_octave)
        if narrowest < 4 * resolved:
            warnings.warn(
                f"{_OWNER}: slice_length={length} samples tells {resolved:.3g} Hz apart, but the band at "
                f"fmin={self.fmin:g} Hz is only {narrowest:.3g} Hz wide, from edge to edge: its response is cut short; "
                f"give a slice of {math.ceil(4 * self.sample_rate / narrowest)} samples or more, or a higher fmin",
                stacklevel=3,
            )
        return Slices(length, fade, self.hop_length)

    def _check_coefficients(self, given: Any, length: int | None, whole: bool = True) -> list[Tensor]:
        parts = list(given) if self.layout == "octaves" and isinstance(given, (list, tuple)) else [given]
        for part in parts:
            if not isinstance(part, Tensor) or not part.is_complex():
                what = str(part.dtype) if isinstance(part, Tensor) else type(part).__name__
                raise TypeError(f"{_OWNER}: coefficients came as {what}; give those of output='complex'")
        shapes = [tuple(part.shape[-2:]) for part in parts]
        if self.layout == "octaves":
            if length is None:
                raise ValueError(f"{_OWNER}: inverse of layout='octaves' needs length, the samples of the signal")
            expected = self.sizes(length)
            if shapes != expected:
                raise ValueError(
                    f"{_OWNER}: coefficients [..., {shapes}] are not those of {length} samples: {expected}"
                )
            return parts
        (part,) = parts
        axes = [2, self.n_bins] if self._slices else [self.n_bins]
        if part.dim() <= len(axes) or list(part.shape[-1 - len(axes) : -1]) != axes:
            right = "..., " + ", ".join(map(str, axes)) + ", frames"
            raise ValueError(f"{_OWNER}: coefficients came as {list(part.shape)}; give [{right}]")
        frames = part.shape[-1]
        if self._slices:
            quarters, rest = frames // self._slices.quarter, frames % self._slices.quarter
            if whole and (rest or quarters < 3 or quarters % 2 == 0):
                raise ValueError(f"{_OWNER}: {frames} frames are not those of whole slices, as `forward` gives them")
        elif frames < 1 or (length is not None and length > frames * self.hop_length):
            raise ValueError(f"{_OWNER}: {frames} frames span less than length={length} samples")
        return parts


_pad = torch.nn.functional.pad


def _check_nothing_learns(trainable: Collection[str]) -> None:
    if isinstance(trainable, str) or len(trainable):
        raise ValueError(
            f"{_OWNER}: trainable={trainable!r}: nothing learns here, because the inverse is exact only for the filters and "
            "duals that follow from the arguments, at every length anew; use CQT(..., trainable=('basis',))"
        )


def _on_rows(wave: Tensor, transform: Any) -> list[Tensor]:
    """`transform(wave)`; for an empty batch, which the FFT refuses, what it would be."""
    if 0 not in wave.shape[:-1]:
        return transform(wave)
    shapes = transform(wave.new_zeros((1, wave.shape[-1])))
    return [part.new_zeros((*wave.shape[:-1], *part.shape[1:])) + wave.sum() for part in shapes]


def _check_range(sample_rate: float, fmin: float, fmax: float | None) -> tuple[float, float]:
    nyquist = sample_rate / 2
    fmin = real(_OWNER, "fmin", fmin, above=0, unit="Hz")
    fmax = nyquist if fmax is None else real(_OWNER, "fmax", fmax, unit="Hz")
    if fmax > nyquist:
        raise ValueError(
            f"{_OWNER}: fmax={fmax:g} Hz is above the Nyquist frequency of sample_rate={sample_rate:g} Hz ({nyquist:g} Hz)"
        )
    if not fmin <= fmax or fmin > nyquist / 2:
        raise ValueError(
            f"{_OWNER}: fmin={fmin:g} Hz must lie at or below fmax={fmax:g} Hz and {nyquist / 2:g} Hz, half the Nyquist "
            "frequency"
        )
    return fmin, fmax
