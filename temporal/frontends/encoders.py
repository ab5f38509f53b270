"""Encoders: from signals and frames to spikes, without a model of an ear."""

from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from temporal.kernels.cochlea import philox

from ._arguments import choice, positive_int, real
from ._framing import Count, check_count
from ._stage import Framewise

__all__ = ["Latency", "LevelCrossing", "Poisson"]


class LevelCrossing(Framewise):
    """Spikes where a signal has moved by a threshold: delta modulation, as event cameras and silicon cochleas send it.

    With levels every `threshold` from the first value on, L[t] is the last one that was crossed:

    L[t] = min(max(L[t-1], floor(z)), ceil(z)),  z = (x[t] - x[0]) / threshold
    up[t] = max(L[t] - L[t-1], 0),  down[t] = max(L[t-1] - L[t], 0)

    So a signal that trembles about one level is silent, and x[0] + threshold * sum(up - down) follows x within a threshold.

    Args:
        threshold: from one level to the next, > 0, in the signal's units.
    Shape:
        frames: [..., bins, frames]; a waveform is one bin, wave.unsqueeze(-2).  Returns [..., 2 * bins, frames], how many
        levels were crossed: upwards, all bins, then downwards.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: threshold <= 0.
    References:
        Miskowicz 2006, Send-on-delta concept. Chan, Liu, van Schaik 2007, AER EAR.
    Example:
        >>> import torch
        >>> from temporal.frontends import LevelCrossing
        >>> LevelCrossing(0.5)(torch.tensor([[0.0, 0.6, 0.4, 1.6, 0.0]]))
        tensor([[0., 1., 0., 2., 0.],
                [0., 0., 0., 0., 3.]])
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = real("LevelCrossing", "threshold", threshold, above=0)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:g}"

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> [..., 2 * bins, frames]."""
        return self.stream(frames)[0]

    def stream(self, chunk: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The frames of `chunk`; the state is the first value and the last level, [..., bins, 1] ([..., bins, 0] before)."""
        frames = self._read(chunk)
        if state is None:
            state = (frames[..., :0], frames[..., :0])
        first, level = state
        if frames.shape[-1] == 0:
            return torch.cat((frames, frames), -2), state
        if first.shape[-1] == 0:
            first, level = frames[..., :1].clone(), torch.zeros_like(frames[..., :1])
        place = (frames - first) / self.threshold
        levels = torch.cat((level, _last_crossed(place.floor(), place.ceil(), level)), -1)
        before, after = levels[..., :-1], levels[..., 1:]
        moved = torch.cat(((after - before).clamp_min(0), (before - after).clamp_min(0)), -2)
        return moved, (first, levels[..., -1:].clone())

    def flush(self, state: Any) -> tuple[Tensor, None]:
        """No frame waits: [..., 2 * bins, 0]."""
        first, _ = super().flush(state)
        return torch.cat((first[..., :0], first[..., :0]), -2), None


def _last_crossed(low: Tensor, high: Tensor, level: Tensor) -> Tensor:
    """L[t] = min(max(L[t-1], low[t]), high[t]) along the last axis, from L[-1] = level, without a loop over frames.

    Clamps one after the other are one clamp again, so those of 1, 2, 4, ... frames follow from each other.
    """
    width = 1
    while width < low.shape[-1]:
        later_low, later_high = low[..., width:], high[..., width:]
        joined = [torch.minimum(torch.maximum(earlier[..., :-width], later_low), later_high) for earlier in (low, high)]
        low, high = (torch.cat((old[..., :width], new), -1) for old, new in zip((low, high), joined, strict=True))
        width *= 2
    return torch.minimum(torch.maximum(level, low), high)


class Latency(Framewise):
    """One spike a frame and bin, the earlier the greater the value: time to first spike.

    step = round((1 - x) (steps - 1))  ("linear"),  or  step = round(tau ln(x / (x - floor)))  ("log"),

    even in x, or when a capacitor that charges towards x reaches `floor`; steps beyond the last one count as the last.

    Args:
        steps: per frame, >= 1.
        scale: "linear" or "log".
        tau: of the capacitor, in steps, > 0; a fifth of `steps` by default.
        floor: values at or below it do not spike, 0 <= floor < 1, and above 0 for "log"; 0 by default, 0.01 for "log".
    Shape:
        frames: [..., bins, frames], values 0 .. 1 (others count as the nearer).  Returns [..., bins, frames * steps]
        spikes, 0 or 1. Values that do not change in time are one frame, x.unsqueeze(-1).
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range.
    References:
        Thorpe, Delorme, Van Rullen 2001, Spike-based strategies for rapid processing. `snntorch.spikegen.latency`.
    Example:
        >>> import torch
        >>> from temporal.frontends import Latency
        >>> Latency(4)(torch.tensor([[1.0], [0.3], [0.0]]))
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.],
                [0., 0., 0., 0.]])
    """

    def __init__(
        self,
        steps: int,
        *,
        scale: Literal["linear", "log"] = "linear",
        tau: float | None = None,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        self.steps = positive_int("Latency", "steps", steps, "steps")
        self.scale = choice("Latency", "scale", scale, ("linear", "log"))
        self.tau = self.steps / 5 if tau is None else real("Latency", "tau", tau, above=0, unit="steps")
        lowest = 0.01 if scale == "log" else 0.0
        self.floor = lowest if floor is None else real("Latency", "floor", floor)
        if not 0 <= self.floor < 1 or (scale == "log" and self.floor == 0):
            least = "above 0" if scale == "log" else "0 or more"
            raise ValueError(f'Latency: floor={self.floor:g} with scale="{scale}" must be {least} and below 1')

    def extra_repr(self) -> str:
        return f"{self.steps}, scale={self.scale!r}, tau={self.tau:g}, floor={self.floor:g}"

    @property
    def hop_length(self) -> Fraction:  # type: ignore[override]
        """Frames that come in from one step to the next: a fraction."""
        return Fraction(1, self.steps)

    def frames(self, samples: Count) -> Count:
        """Steps for so many frames."""
        return check_count("Latency", samples) * self.steps

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> [..., bins, frames * steps]."""
        x = self._read(frames).clamp(0, 1)
        if self.scale == "linear":
            step = ((1 - x) * (self.steps - 1)).round()
        else:
            step = self.tau * torch.log(x / (x - self.floor).clamp_min(torch.finfo(x.dtype).tiny))
            step = step.round().clamp_max(self.steps - 1)
        spikes = step[..., None] == torch.arange(self.steps, device=x.device)
        return (spikes & (x > self.floor)[..., None]).to(x.dtype).flatten(-2)


class Poisson(Framewise):
    """Spikes at random, as often as the value says: rate coding.

    P(spike in a frame) = min(x rate / frame_rate, 1)

    The random number of a frame and bin depends on the seed, on both their places and on the value itself, and on nothing
    else: the same frames give the same spikes in any batch and in any chunks, and frames that differ have independent noise.

    Args:
        rate: of the value 1, in spikes a second, > 0.
        frame_rate: frames a second, > 0.
        seed: of the noise, a whole number; it may be set at any time.
    Shape:
        frames: [..., bins, frames], values >= 0 (negative ones count as 0).  Returns the same shape: spikes, 0 or 1.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range.
    References:
        Gerstner, Kistler, Naud, Paninski 2014, Neuronal Dynamics, 7.7. Philox: Salmon et al. 2011.
    Example:
        >>> import torch
        >>> from temporal.frontends import Poisson
        >>> spikes = Poisson(50.0, 1000.0)(torch.full((100, 2000), 0.5))
        >>> round(spikes.mean().item() * 1000)
        25
    """

    def __init__(self, rate: float, frame_rate: float, *, seed: int = 0) -> None:
        super().__init__()
        self.rate = real("Poisson", "rate", rate, above=0, unit="Hz")
        self.frame_rate = real("Poisson", "frame_rate", frame_rate, above=0, unit="Hz")
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"Poisson: seed={seed!r} is not a whole number")
        self.seed = int(seed)

    def extra_repr(self) -> str:
        return f"{self.rate:g}, {self.frame_rate:g}, seed={self.seed}"

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        return self.stream(frames)[0]

    def stream(self, chunk: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The frames of `chunk`; the state is no frame, of the right shape, and how many there were."""
        x = self._read(chunk)
        first = 0 if state is None else state[1]
        bins, count = x.shape[-2:]
        seed = self.seed & ((1 << 64) - 1)
        key = torch.full((), seed - (1 << 64) if seed >> 63 else seed, dtype=torch.int64, device=x.device)
        place = torch.arange(first, first + count, device=x.device)
        number, *_ = philox(
            key,
            place.expand(x.shape),
            torch.arange(bins, device=x.device)[:, None].expand(x.shape),
            (x.detach().float() + 0.0).contiguous().view(torch.int32).long(),
        )
        return (number < x * (self.rate / self.frame_rate)).to(x.dtype), (
            x.new_zeros((*x.shape[:-1], 0)),
            first + count,
        )
