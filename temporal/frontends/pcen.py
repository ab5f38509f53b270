"""Per-channel energy normalisation."""

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from ._arguments import check_trainable, choice, positive_int, real
from ._framing import in_a_row, windows
from ._precision import full_precision
from ._stage import Framewise

__all__ = ["PCEN", "smooth"]

_LEARNABLE = ("gain", "bias", "power", "smoothing")
_BLOCK = 32  # frames that one matrix product smooths
_LEVELS = 4  # of blocks in an exported program: a frame reaches as far as 32^4 frames ahead, 3 hours at a hop of 10 ms


class PCEN(Framewise):
    """Per-channel energy normalisation: automatic gain control and compression, causal and learnable.

    M[t] = (1 - s) M[t-1] + s x[t]
    y[t] = (x[t] / (eps + M[t]) ** gain + bias) ** power - bias ** power

    with s = (sqrt(1 + 4 T^2) - 1) / (2 T^2), T = time_constant in frames; in the limits, y = (x / (eps + M) ** gain) **
    power with bias=0, and y = ln(1 + x / (eps + M) ** gain) with power=0. The defaults are librosa's, made for samples of
    32 bits: scale a waveform in -1 .. 1 (or its power) up, or learn the parameters. LEAF's sPCEN is gain=0.96, bias=2,
    power=0.5 (one over its root), smoothing=0.04, eps=1e-12, initial="first", all four trainable.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        hop_length: samples from one of the frames that come in to the next, >= 1. (The layer's own `hop_length` is 1:
            it gives a frame for a frame.)
        gain: 0 .. 1: how much of the level is removed.
        bias: >= 0.
        power: 0 .. 1: the compression. Trained ones stay above 0: bias at 1e-6, power at 1e-3.
        time_constant: of the smoother, in seconds, > 0.
        smoothing: s itself, above 0, at most 1; None takes it from the time constant.
        eps: > 0.
        initial: M before the first frame: "one" (1, as in librosa), "first" (the first frame, as in LEAF), or numbers
            >= 0 that broadcast to [bins] (librosa's `zi` over 1 - s).
        size: number of bins; needed with `trainable`.
        trainable: names among "gain", "bias", "power", "smoothing" that become parameters [size], one per bin, kept in
            their range (smoothing is s, 0 .. 1). The others stay as they are given.
    Shape:
        frames: [..., bins, frames], values >= 0 (negative ones count as 0).  Returns the same shape.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range; `trainable` without `size`; frames with another number of bins.
    References:
        Wang et al. 2017, Trainable frontend for robust and far-field keyword spotting. `librosa.pcen` 0.11.
    Example:
        >>> import torch, temporal
        >>> mel = temporal.frontends.MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40)
        >>> pcen = temporal.frontends.PCEN(16000, 160, size=40, trainable=("gain", "bias", "power", "smoothing"))
        >>> pcen(mel(torch.randn(2, 16000)) * 2**31).shape, sorted(name for name, _ in pcen.named_parameters())
        (torch.Size([2, 40, 101]), ['bias', 'gain', 'power', 'smoothing'])
    """

    before: Tensor  # M before the first frame, [1, 1] or [bins, 1]; not read with initial="first"
    power: float | Tensor
    bias: float | Tensor

    def __init__(
        self,
        sample_rate: float,
        hop_length: int = 512,
        *,
        gain: float = 0.98,
        bias: float = 2.0,
        power: float = 0.5,
        time_constant: float = 0.4,
        smoothing: float | None = None,
        eps: float = 1e-6,
        initial: Literal["one", "first"] | float | Tensor = "one",
        size: int | None = None,
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__()
        sample_rate = real("PCEN", "sample_rate", sample_rate, above=0, unit="Hz")
        hop = positive_int("PCEN", "hop_length", hop_length, "samples")
        frames = real("PCEN", "time_constant", time_constant, above=0, unit="s") * sample_rate / hop
        if smoothing is None:
            smoothing = (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
        start = {
            "gain": real("PCEN", "gain", gain),
            "bias": real("PCEN", "bias", bias),
            "power": real("PCEN", "power", power),
            "smoothing": real("PCEN", "smoothing", smoothing, above=0),
        }
        for name in ("gain", "power", "smoothing"):
            if not 0 <= start[name] <= 1:
                raise ValueError(f"PCEN: {name}={start[name]:g} must lie between 0 and 1")
        if start["bias"] < 0:
            raise ValueError(f"PCEN: bias={start['bias']:g} is negative; give 0 or more")
        self.eps = real("PCEN", "eps", eps, above=0)
        self.initial, before = _check_initial(initial)
        self.register_buffer("before", before, persistent=False)
        self.size = None if size is None else positive_int("PCEN", "size", size, "bins")
        self.trainable = _check_trainable(trainable, self.size)
        for name, value in start.items():
            if name in self.trainable:
                self.register_parameter(name, nn.Parameter(torch.full((self.size or 1,), value)))
            else:
                setattr(self, name, value)

    def extra_repr(self) -> str:
        fixed = [f"{name}={getattr(self, name):.4g}" for name in _LEARNABLE if name not in self.trainable]
        return ", ".join([*fixed, f"eps={self.eps:g}", f"initial={self.initial!r}", f"trainable={self.trainable}"])

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        return self.stream(frames)[0]

    def stream(self, chunk: Tensor, state: tuple[Tensor] | None = None) -> tuple[Tensor, tuple[Tensor]]:
        """The frames of `chunk`, and the smoothed energy of the last one, [..., bins, 1] ([..., bins, 0] before it)."""
        frames = self._read(chunk).clamp_min(0)
        if self.size is not None and frames.shape[-2] != self.size:
            raise ValueError(f"PCEN: frames {list(frames.shape)} have {frames.shape[-2]} bins, not size={self.size}")
        before = frames[..., :0] if state is None else state[0]
        if frames.shape[-1] == 0:
            return frames, (before,)
        if before.shape[-1] == 0:
            first = frames[..., :1]
            before = first if self.initial == "first" else self.before.to(first.dtype).expand_as(first)
        with full_precision(frames):
            smoothed = smooth(frames, self._parameter("smoothing", 0.0, 1.0, frames), before)
        return self._compress(frames, smoothed), (smoothed[..., -1:].clone(),)

    def flush(self, state: tuple[Tensor]) -> tuple[Tensor, None]:
        """No frame waits: [..., bins, 0]."""
        last, _ = super().flush(state)
        return last[..., :0], None

    def _compress(self, frames: Tensor, smoothed: Tensor) -> Tensor:
        gain = self._parameter("gain", 0.0, 1.0, frames)
        level = frames / (smoothed + self.eps) ** gain
        power = self._parameter("power", 1e-3, 1.0, frames)
        if _is_zero(self.power):
            return torch.log1p(level)
        if _is_zero(self.bias):
            silent = level == 0  # x ** p with p < 1 has an infinite slope at 0
            return (torch.where(silent, 1.0, level) ** power).masked_fill(silent, 0.0)
        bias = self._parameter("bias", 1e-6, math.inf, frames)
        # (level + bias) ** power - bias ** power without the cancellation of small levels
        return bias**power * torch.expm1(power * torch.log1p(level / bias))

    def _parameter(self, name: str, low: float, high: float, frames: Tensor) -> Tensor:
        value = getattr(self, name)
        if isinstance(value, Tensor):
            return value.to(frames.dtype).clamp(low, high)[:, None]
        return torch.full((1, 1), value, dtype=frames.dtype, device=frames.device)


def smooth(frames: Tensor, smoothing: Tensor, before: Tensor) -> Tensor:
    """M[t] = (1 - s) M[t-1] + s x[t] along the last axis, without a loop over frames.

    frames [..., bins, frames] with at least one frame, smoothing [bins or 1, 1], before [..., bins, 1] is M[-1].
    """
    keep = 1 - smoothing
    first = smoothing * frames[..., :1] + keep * before
    return _decay(torch.cat((first, smoothing * frames[..., 1:]), -1), keep)


def _decay(x: Tensor, keep: Tensor, level: int = 1) -> Tensor:
    """y[t] = keep y[t-1] + x[t]: a triangular matrix for each block, and the same once more for the blocks' ends."""
    frames, exporting = x.shape[-1], torch.compiler.is_exporting()
    # An exported program serves any number of frames: it has blocks to spare, and the same depth always.
    width = _BLOCK if exporting else min(_BLOCK, frames)
    blocks = -(-frames // width) + 2 * exporting
    x = nn.functional.pad(x, (0, 3 * width if exporting else -frames % width))
    x = windows(x, 0, blocks, width, width)
    step = torch.arange(width, dtype=x.dtype, device=x.device)
    lag = step[:, None] - step
    matrix = torch.where(lag >= 0, keep[..., None] ** lag.clamp_min(0), 0.0)  # [bins or 1, to, from]
    if matrix.shape[0] == 1:
        y = x @ matrix[0].t()
    elif exporting:
        y = x @ matrix.mT
    else:
        y = torch.einsum("...cbf,ctf->...cbt", x, matrix)
    if level < _LEVELS if exporting else frames > width:
        ends = _decay(y[..., :-1, -1], keep**width, level + 1)
        carried = nn.functional.pad(ends, (1, 0))
        y = y + carried[..., None] * (keep ** (step + 1))[:, None]
    return in_a_row(y, 0, frames)


def _is_zero(value: float | Tensor) -> bool:
    """Whether a parameter is the number 0; a learned one is not looked at."""
    return not isinstance(value, Tensor) and value == 0


def _check_initial(initial: str | float | Tensor) -> tuple[str, Tensor]:
    """A name, and M before the first frame in a form that broadcasts to [bins, 1]."""
    if isinstance(initial, str):
        return choice("PCEN", "initial", initial, ("one", "first")), torch.ones(1, 1)
    before = torch.as_tensor(initial, dtype=torch.get_default_dtype()).detach().clone()
    if before.dim() > 1:
        raise ValueError(f'PCEN: initial came as {list(before.shape)}; give "one", "first", a number or [bins]')
    if not bool((before >= 0).all() and before.isfinite().all()):
        raise ValueError("PCEN: initial has values that are negative or not finite; give 0 or more")
    return "given", before.reshape(-1, 1)


def _check_trainable(trainable: Collection[str], size: int | None) -> tuple[str, ...]:
    names = check_trainable("PCEN", trainable, _LEARNABLE)
    if names and size is None:
        raise ValueError("PCEN: trainable parameters are one per bin; give size, the number of bins")
    return names
