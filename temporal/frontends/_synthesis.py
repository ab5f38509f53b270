"""From windowed frames back to a signal: overlap-add, divided by the sum of the squared windows."""

from collections.abc import Collection
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from temporal.kernels.framing import overlap_add

from ._arguments import check_trainable, positive_int
from ._constants import DerivedConstants
from ._framing import Count, Framing, check_count
from ._stage import FrontEnd
from ._window import build_window, check_sizes, check_window

__all__ = ["Synthesis", "SynthesisState", "arguments_of"]

_GAP = 1e-10  # of the largest window sum: what lies below it cannot be divided by (scipy.signal.check_NOLA's tolerance)


class SynthesisState(NamedTuple):
    """What a stream of overlapping frames carries from one chunk to the next."""

    sums: Tensor  # [..., k]: overlap-add of the frames so far, from the first sample on that is still to be given
    weights: Tensor  # [k]: sum of their squared windows
    frames: int  # so far
    given: int  # samples that have left, the padding at the left end included


class Synthesis(DerivedConstants, FrontEnd):
    """A layer that reads frames of a short-time transform and gives samples.

    x[p] = sum_t w[p - t hop] f_t[p - t hop] / sum_t w[p - t hop]^2, p from the left end of the padding on. Far from both
    ends the divisor has a period of one hop, so it is a part of the window that frames are multiplied by ("synthesis"),
    and only the ends are mended.
    """

    reads = "frames"
    gives = "samples"
    window: Tensor  # [n_fft]
    synthesis: Tensor  # [n_fft]: the window over the periodic sum
    head: Tensor  # [at most n_fft - hop_length]: periodic sum over that of the first frames
    tail: Tensor  # [n_fft - hop_length]: the same from sample frames * hop_length of the padded signal on

    def __init__(
        self,
        n_fft: int,
        win_length: int | None,
        hop_length: int | None,
        window: str | Tensor,
        center: bool,
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.n_fft, self.win_length, self.hop_length = check_sizes(owner, n_fft, win_length, hop_length)
        self.center = bool(center)
        self._pad = self.n_fft // 2 if self.center else 0
        self._lead = (self.n_fft - self.win_length) // 2 if self.center else 0  # zeros before the window
        # Samples that are known, but lie beyond the end of the signal unless another frame comes.
        self._late = max(0, self.hop_length - self.n_fft + self._pad)
        self._window = check_window(owner, window, self.win_length)
        _refuse_gaps(owner, self._window, self.win_length, self.hop_length)
        self.trainable = check_trainable(owner, trainable, ("window",))
        self._register_constants("window", "synthesis", "head", "tail", trainable=self.trainable)

    @property
    def latency(self) -> Fraction | int:  # type: ignore[override]
        """In frames: sample n is complete when frame `floor(n / hop_length + latency)` has come."""
        wait = max(self._pad - self._lead, 2 * self._pad - self.n_fft + self.hop_length)
        exact = Fraction(wait, self.hop_length)
        return int(exact) if exact.denominator == 1 else exact

    def frames(self, samples: Count) -> Count:
        """The exact number of samples that so many frames give; an int, or an integer tensor of any shape."""
        count = check_count(type(self).__name__, samples)
        given = (count - 1) * self.hop_length + self.n_fft - 2 * self._pad
        return given * (count > 0)

    def _samples(self, frames: int, length: int | None) -> int:
        if length is None:
            return self.frames(frames)  # type: ignore[return-value]
        return positive_int(type(self).__name__, "length", length, "samples")

    def _synthesise(self, windows: Tensor, samples: int) -> Tensor:
        """[..., frames, n_fft] -> [..., samples]; the fast way needs a known window and ends that do not meet."""
        count = windows.shape[-2]
        if self.trainable or torch.compiler.is_compiling() or count * self.hop_length < self.n_fft:
            return self._synthesise_any(windows, samples)
        out = overlap_add(
            windows, self._constant("synthesis", windows.dtype), self.hop_length, left=self._pad, samples=samples
        )
        head, tail = self._constant("head", windows.dtype), self._constant("tail", windows.dtype)
        start = count * self.hop_length - self._pad
        end = out[..., start : start + len(tail)]
        out[..., : len(head)].mul_(head[:samples])
        end.mul_(tail[: end.shape[-1]])
        return out

    def _synthesise_any(self, windows: Tensor, samples: int) -> Tensor:
        """The same for any window and any number of frames, which need not be known yet."""
        window = self._constant("window", windows.dtype)
        where = {"left": self._pad, "samples": samples}
        out = overlap_add(windows, window, self.hop_length, **where)
        weights = overlap_add(window.expand(windows.shape[-2:]), window, self.hop_length, **where)
        return out / _divisor(weights)

    def _synthesise_chunk(self, windows: Tensor, state: SynthesisState | None) -> tuple[Tensor, SynthesisState]:
        """The samples that no later frame reaches."""
        hop, kept = self.hop_length, self.n_fft - self.hop_length + self._late
        if state is None:
            zeros = windows.new_zeros((*windows.shape[:-2], kept))
            state = SynthesisState(zeros, windows.new_zeros(kept), 0, self._pad)
        _check_state(type(self).__name__, windows, state)
        count = windows.shape[-2]
        if count == 0:
            return windows.sum(-2)[..., :0], state
        window = self._constant("window", windows.dtype)
        size = count * hop + self.n_fft - hop
        sums = overlap_add(windows, window, hop, samples=size)
        sums = _pad(sums, self._late, 0) + _pad(state.sums, 0, count * hop)
        weights = overlap_add(window.expand(count, -1), window, hop, samples=size)
        weights = _pad(weights, self._late, 0) + _pad(state.weights, 0, count * hop)
        base, frames = state.frames * hop - self._late, state.frames + count
        until = max(state.given, min(frames * hop + self._lead, self.frames(frames) + self._pad))  # type: ignore[operator]
        ready = slice(state.given - base, until - base)
        out = sums[..., ready] / _divisor(weights[ready])
        return out, SynthesisState(sums[..., count * hop :].clone(), weights[count * hop :].clone(), frames, until)

    def _flush_chunk(self, state: SynthesisState | None) -> tuple[Tensor, None]:
        if state is None:
            raise ValueError(
                f"{type(self).__name__}: flush needs the state that stream returned; nothing has been streamed yet"
            )
        base = state.frames * self.hop_length - self._late
        until = self.frames(state.frames) + self._pad
        ready = slice(state.given - base, until - base) if state.frames else slice(0)  # type: ignore[operator]
        return state.sums[..., ready] / _divisor(state.weights[ready]), None

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        window = build_window(self._window, self.win_length, self.n_fft, device)
        if name == "window":
            return window
        hop, overlap = self.hop_length, self.n_fft - self.hop_length
        hops = -(-self.n_fft // hop)
        squares = torch.nn.functional.pad(window.square(), (0, hops * hop - self.n_fft)).view(hops, hop)
        whole = squares.sum(0)  # [hop]: the periodic sum
        if name == "synthesis":
            return window / whole.repeat(hops)[: self.n_fft]
        so_far = squares.cumsum(0)  # exactly what frames 0 .. k give, without a difference of nearly equal numbers
        if name == "tail":
            so_far = squares.flip(0).cumsum(0).flip(0)[1:]
            return (whole / _divisor(so_far)).reshape(-1)[:overlap]
        return (whole / _divisor(so_far)).reshape(-1)[self._pad : max(self._pad, overlap)]

    def extra_repr(self) -> str:
        return f"{self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, center={self.center}"


def arguments_of(owner: str, transform: FrontEnd) -> dict:
    """n_fft, win_length, hop_length, window and center of a transform whose bins are those of its FFT."""
    if getattr(transform, "freq_scale", None) is not None:
        raise ValueError(
            f"{owner}: {type(transform).__name__} has freq_scale={transform.freq_scale!r}: such bins have no inverse; "
            "use the FFT's own bins (freq_scale=None), or InverseMel for mel bands"
        )
    names = ("n_fft", "win_length", "hop_length", "center")
    if not isinstance(getattr(transform, "_framing", None), Framing):
        raise TypeError(f"{owner}: of() was given a {type(transform).__name__}; give an STFT")
    return {name: getattr(transform, name) for name in names} | {"window": transform._window}


def _divisor(weights: Tensor) -> Tensor:
    """The window sum, and 1 where it is next to nothing, as in librosa: there the samples stay next to nothing."""
    return torch.where(weights > torch.finfo(torch.float32).tiny, weights, 1.0)


def _pad(sums: Tensor, left: int, right: int) -> Tensor:
    return torch.nn.functional.pad(sums, (left, right))


def _refuse_gaps(owner: str, window: str | Tensor, win_length: int, hop_length: int) -> None:
    """An error where samples between two windows would be lost."""
    squares = build_window(window, win_length, win_length, torch.device("cpu")).square()
    if _smallest(squares, hop_length) <= _GAP:
        works = next((hop for hop in range(min(hop_length, win_length), 0, -1) if _smallest(squares, hop) > _GAP), None)
        name = repr(window) if isinstance(window, str) else "that"
        hint = f"the largest hop that works is {works}" if works else "no hop works"
        raise ValueError(
            f"{owner}: hop_length={hop_length} leaves gaps between windows of win_length={win_length} samples: with "
            f"window={name}, samples between them get no weight and cannot be recovered; {hint}"
        )


def _smallest(squares: Tensor, hop_length: int) -> float:
    """The smallest sum of squared windows, a part of the largest."""
    hops = -(-len(squares) // hop_length)
    sums = torch.nn.functional.pad(squares, (0, hops * hop_length - len(squares))).view(hops, hop_length).sum(0)
    return float(sums.min() / sums.max()) if float(sums.max()) > 0 else 0.0


def _check_state(owner: str, windows: Tensor, state: SynthesisState) -> None:
    kept = state.sums
    if kept.shape[:-1] != windows.shape[:-2] or kept.dtype != windows.dtype:
        raise ValueError(
            f"{owner}: a chunk {[*windows.shape[:-2], '...']} in {windows.dtype} does not continue a stream of "
            f"{[*kept.shape[:-1], '...']} in {kept.dtype}; start a new stream with state=None"
        )
