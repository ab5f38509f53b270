"""Normalisation with a mean and a deviation that follow the signal."""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from ._arguments import real
from ._precision import full_precision
from .pcen import smooth
from .utterance import Affine

__all__ = ["RunningNormalize", "RunningState"]


class RunningState(NamedTuple):
    """What a stream of running normalisation carries from one chunk to the next."""

    mean: Tensor  # [..., bins, 1], or [..., bins, 0] before the first frame
    variance: Tensor  # the same shape
    frames: Tensor  # [] so far, a whole number


class RunningNormalize(Affine):
    """Frames with a mean near 0 and a deviation near 1 in each bin, by what came before: causal, on any stream.

    d[t] = x[t] - mean[t-1],  mean[t] = mean[t-1] + a[t] d[t],  var[t] = (1 - a[t]) (var[t-1] + a[t] d[t]^2)
    y[t] = (x[t] - mean[t]) / sqrt(var[t] + eps^2)

    With a prior, a[t] = s = 1 - exp(-1 / time_constant): exponentially weighted mean and variance. Without one,
    a[t] = s / (1 - (1 - s)^(t+1)): the same weights over the frames there are, from y[0] = 0 on; at first these are plain
    averages. (Forms without a difference of large squares, and computed without a loop over frames.)

    Args:
        time_constant: in frames, > 0: how fast the past is forgotten.
        mean, std: the prior, a number or [bins] each, std > 0 (those of a fitted `Normalize`, say); give both or neither.
        eps: a deviation that is small for the frames, > 0: it bounds y where a bin hardly changes.
        size: number of bins; needed with `trainable`.
        trainable: names among "gain" and "offset" that become parameters [size]: y is times gain, plus offset.
    Shape:
        frames: [..., bins, frames].  Returns the same shape. A stream gives the same frames.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range; another number of bins than the prior's.
    References:
        Finch 2009, Incremental calculation of weighted mean and variance. `UtteranceNormalize` for whole utterances.
    Example:
        >>> import torch, temporal
        >>> normalize = temporal.frontends.RunningNormalize(100)
        >>> out = normalize(torch.randn(40, 1000) * 3 + 5)
        >>> out.shape, bool(out[:, 300:].std().sub(1).abs() < 0.05)
        (torch.Size([40, 1000]), True)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        time_constant: float,
        *,
        mean: float | Tensor | None = None,
        std: float | Tensor | None = None,
        eps: float = 1e-3,
        size: int | None = None,
        trainable: Collection[str] = (),
    ) -> None:
        super().__init__(size, trainable)
        self.time_constant = real("RunningNormalize", "time_constant", time_constant, above=0, unit="frames")
        self.eps = real("RunningNormalize", "eps", eps, above=0)
        if (mean is None) != (std is None):
            raise ValueError("RunningNormalize: give mean and std, or neither of them")
        self.has_prior = mean is not None
        self.register_buffer("mean", _per_bin("mean", 0.0 if mean is None else mean), persistent=self.has_prior)
        self.register_buffer("std", _per_bin("std", 1.0 if std is None else std), persistent=self.has_prior)
        if not bool((self.std > 0).all()):
            raise ValueError(
                f"RunningNormalize: std has a smallest value of {float(self.std.min()):g}; give more than 0"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.time_constant:g}, prior={self.has_prior}, eps={self.eps:g}, size={self.size}, "
            f"trainable={self.trainable}"
        )

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        return self.stream(frames)[0]

    def stream(self, chunk: Tensor, state: RunningState | None = None) -> tuple[Tensor, RunningState]:  # type: ignore[override]
        """The frames of `chunk`, and the mean and variance after the last of them."""
        frames = self._read(chunk)
        if state is None:
            state = RunningState(frames[..., :0], frames[..., :0], frames.new_zeros((), dtype=torch.int64))
        if frames.shape[-1] == 0:
            return self._scale(frames), state
        with full_precision(frames):
            mean, variance = self._follow(frames, state)
        out = (frames - mean) / (variance + self.eps**2).sqrt()
        after = RunningState(mean[..., -1:].clone(), variance[..., -1:].clone(), state.frames + frames.shape[-1])
        return self._scale(out), after

    def flush(self, state: RunningState | None) -> tuple[Tensor, None]:
        """No frame waits: [..., bins, 0]."""
        if state is None:
            raise ValueError(
                "RunningNormalize: flush needs the state that stream returned; nothing has been streamed yet"
            )
        return state.mean[..., :0], None

    def _follow(self, frames: Tensor, state: RunningState) -> tuple[Tensor, Tensor]:
        """Mean and variance after each frame, [..., bins, frames] each."""
        mean, variance = self._start(frames) if state.mean.shape[-1] == 0 else (state.mean, state.variance)
        s = -math.expm1(-1 / self.time_constant)
        weight = self._weights(frames, state.frames)  # of all frames up to t-1 and, shifted by one, up to t
        before, now = weight[:-1], weight[1:]
        rate = torch.full((1, 1), s, dtype=frames.dtype, device=frames.device)
        # Sums about the mean at the start, times their weights, obey the recursion with a constant rate.
        sums = smooth(frames - mean, rate, torch.zeros_like(mean))
        means = mean + sums / now
        apart = frames - torch.cat((mean, means[..., :-1]), -1)
        # w[t] var[t] = (1 - s) w[t-1] var[t-1] + s (1 - s) w[t-1] / w[t] d[t]^2
        variances = smooth(apart.square() * ((1 - s) * before / now), rate, variance * before[:1]) / now
        return means, variances

    def _weights(self, frames: Tensor, seen: Tensor) -> Tensor:
        """1 - (1 - s)^t for t = seen .. seen + frames: the sum of the weights of t frames; 1 with a prior."""
        count = torch.arange(frames.shape[-1] + 1, device=frames.device) + seen
        if self.has_prior:
            return torch.ones_like(count, dtype=frames.dtype)
        return -torch.expm1(count.to(frames.dtype) * (-1 / self.time_constant))

    def _start(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        first = frames[..., :1]
        if not self.has_prior:
            return first.detach(), torch.zeros_like(first)
        if len(self.mean) not in (1, frames.shape[-2]) or len(self.std) not in (1, frames.shape[-2]):
            raise ValueError(
                f"RunningNormalize: frames {list(frames.shape)} have {frames.shape[-2]} bins, but the prior "
                f"{max(len(self.mean), len(self.std))}"
            )
        mean, std = (value.to(frames.dtype)[:, None].expand_as(first) for value in (self.mean, self.std))
        return mean, std.square()


def _per_bin(name: str, value: float | Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
    if value.dim() > 1:
        raise ValueError(f"RunningNormalize: {name} came as {list(value.shape)}; give a number or [bins]")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"RunningNormalize: {name} has values that are not finite")
    return value.reshape(-1)
