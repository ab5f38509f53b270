"""Several front ends as one."""

import math
from collections import OrderedDict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from temporal.layers._protocol import role

from ._framing import Count

__all__ = ["Chain"]


class Chain(nn.Sequential):
    """Front ends one after the other: what one gives, the next reads.

    It is an `nn.Sequential` (names, indices and slices included) with the front ends' protocol on top: `.frames`,
    `.hop_length` and `.latency` of the whole, and `.stream` if every stage streams. Any other module that maps frames
    to frames can be a stage too, but then the chain has none of these. `lengths`, in steps of the chain's input, reach
    every stage whose `forward` names them, in steps of that stage's input.

    Args:
        stages: modules, or one OrderedDict of them; at least one.
    Shape:
        wave: what the first stage reads, [..., samples].  lengths: [...] valid steps of it, or None: all.
        Returns what the last gives, [..., bins, frames].
    Raises:
        TypeError: a stage that is not a module.
        ValueError: no stage; a stage that reads samples after one that gives frames; `.stream` with a stage that cannot
            (the error names it and the variant that can).
    Example:
        >>> import torch
        >>> from temporal.frontends import Chain, Log, MelSpectrogram, Normalize
        >>> mel = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40)
        >>> chain = Chain(mel, Log(), Normalize(mean=-5.0, std=2.0))
        >>> chain(torch.randn(16000)).shape, chain.hop_length, chain.latency
        (torch.Size([40, 101]), 160, 256)
        >>> frames, state = chain.stream(torch.randn(1000))
        >>> frames.shape
        torch.Size([40, 5])
    """

    def __init__(self, *stages: nn.Module | OrderedDict[str, nn.Module]) -> None:
        if len(stages) == 1 and isinstance(stages[0], OrderedDict):
            named: OrderedDict[str, Any] = stages[0]
        else:
            named = OrderedDict((str(index), stage) for index, stage in enumerate(stages))
        if not named:
            raise ValueError("Chain: give at least one front end")
        for name, stage in named.items():
            if not isinstance(stage, nn.Module):
                raise TypeError(f"Chain: stage {name} is a {type(stage).__name__}, not a module")
        _check_order(named)
        super().__init__(named)

    @property
    def reads(self) -> str | None:
        """What the first stage reads: "samples" or "frames"."""
        return getattr(self[0], "reads", None)

    @property
    def gives(self) -> str | None:
        """What the last stage gives: "samples" or "frames"."""
        return getattr(self[-1], "gives", None)

    @property
    def hop_length(self) -> int | Fraction:
        """Steps of the input (samples) from one frame to the next; a fraction if `Resample` leaves no whole number."""
        return _whole(math.prod(self._hops()))

    @property
    def latency(self) -> int | Fraction:
        """Steps of the input (samples): frame t is complete when `t * hop_length + latency` of them have been read."""
        total: int | Fraction = 0
        step: int | Fraction = 1
        reads = [None, *(getattr(stage, "reads", None) for stage in list(self)[1:])]
        for read, latency, hop in zip(reads, self._of_each("latency"), self._hops(), strict=True):
            # A stage that needs n samples waits for number n - 1 of the stage before; one that looks n frames ahead, for n.
            total += (latency - (read == "samples")) * step
            step *= hop
        return _whole(total)

    @property
    def sample_rate(self) -> float | None:
        """In Hz, from the first stage that knows it."""
        return next((rate for stage in self if (rate := getattr(stage, "sample_rate", None)) is not None), None)

    @property
    def pad_mode(self) -> str | None:
        """How the signal is continued at its ends, from the first stage that does so."""
        return next((mode for stage in self if (mode := getattr(stage, "pad_mode", None)) is not None), None)

    def frames(self, samples: Count) -> Count:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape."""
        for count in self._of_each("frames"):
            samples = count(samples)
        return samples

    @property
    def stream_obstacle(self) -> str | None:
        """Which stage cannot stream, why, and which variant can; None when all do."""
        for name, stage in self._modules.items():
            if not hasattr(stage, "stream"):
                return f"stage {name} ({type(stage).__name__}) has no .stream"
            obstacle = getattr(stage, "stream_obstacle", None)
            if obstacle is not None:
                return f"stage {name} ({type(stage).__name__}): {obstacle}"
        return None

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the last stage gives."""
        for (stage, absorbed), more in zip(self._steps(), self._lengths(lengths), strict=True):
            if absorbed is not None:
                wave = stage(wave, **absorbed, **more)
        return wave

    def stream(self, chunk: Tensor, state: tuple[Any, ...] | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """The frames that are complete now, and the states of the stages (None where the stage before does the work)."""
        if state is None:
            self._check_streams()
        states = []
        for (stage, absorbed), before in zip(self._steps(), state or [None] * len(self), strict=True):
            after = None
            if absorbed is not None:
                chunk, after = stage.stream(chunk, before, **absorbed)
            states.append(after)
        return chunk, tuple(states)

    def flush(self, state: tuple[Any, ...]) -> tuple[Tensor, None]:
        """The frames that waited in any stage: each is given what the stage before it had left, and flushed in turn."""
        self._check_streams()
        if state is None:
            raise ValueError("Chain: flush needs the state that stream returned; nothing has been streamed yet")
        left: Any = None
        for (stage, absorbed), before in zip(self._steps(), state, strict=True):
            if absorbed is None:
                continue
            if left is None:
                left, _ = stage.flush(before, **absorbed)
            else:
                now, after = stage.stream(left, before, **absorbed)
                last, _ = stage.flush(after, **absorbed)
                left = torch.cat((now, last), -1)
        return left, None

    def _steps(self) -> list[tuple[Any, dict[str, Any] | None]]:
        """The stages, each with what it is asked for beside its own work; None for one whose work the last one does."""
        steps: list[tuple[Any, dict[str, Any] | None]] = []
        before: Any = None  # the stage before, if it does its own work
        stages: list[Any] = list(self._modules.values())
        for stage in stages:
            absorbs: Any = getattr(before, "absorbs", None)
            asked = None if absorbs is None else absorbs(stage)
            if asked is None:
                steps.append((stage, {}))
                before = stage
            else:
                steps[-1] = (before, asked)
                steps.append((stage, None))
                before = None
        return steps

    def _lengths(self, lengths: Tensor | None) -> list[dict[str, Tensor]]:
        """For each stage, the lengths that it asks for, in steps of its own input."""
        last = -1 if lengths is None else max((i for i, stage in enumerate(self) if _asks(stage)), default=-1)
        handed: list[dict[str, Any]] = []
        for index, (name, stage) in enumerate(self._modules.items()):
            handed.append({"lengths": lengths} if index <= last and _asks(stage) else {})
            if index < last:
                frames: Any = getattr(stage, "frames", None)
                if frames is None:
                    raise ValueError(
                        f"Chain: stage {name} ({type(stage).__name__}) has no .frames, so lengths do not reach stage "
                        f"{last} ({type(self[last]).__name__})"
                    )
                lengths = frames(lengths)
        return handed

    def _hops(self) -> list[int | Fraction]:
        """Of each stage: steps of its input from one step of its output to the next, below 1 from frames to samples."""
        hops = self._of_each("hop_length")
        back = [(getattr(s, "reads", None), getattr(s, "gives", None)) == ("frames", "samples") for s in self]
        return [1 / Fraction(hop) if turned else hop for hop, turned in zip(hops, back, strict=True)]

    def _of_each(self, attribute: str) -> list[Any]:
        for name, stage in self._modules.items():
            if not hasattr(stage, attribute):
                raise ValueError(f"Chain: stage {name} ({type(stage).__name__}) has no .{attribute}")
        return [getattr(stage, attribute) for stage in self]

    def _check_streams(self) -> None:
        if self.stream_obstacle is not None:
            raise ValueError(f"Chain: {self.stream_obstacle}")


def _asks(stage: nn.Module) -> bool:
    """Whether a stage, or one within it, wants lengths."""
    return any(_asks(inner) for inner in stage) if isinstance(stage, Chain) else role(stage).lengths


def _whole(steps: int | Fraction) -> int | Fraction:
    return steps.numerator if steps.denominator == 1 else steps


def _check_order(stages: OrderedDict[str, nn.Module]) -> None:
    for (first, before), (second, stage) in pairwise(stages.items()):
        given, read = getattr(before, "gives", None), getattr(stage, "reads", None)
        if given and read and given != read:
            raise ValueError(
                f"Chain: stage {second} ({type(stage).__name__}) reads {read}, but stage {first} "
                f"({type(before).__name__}) gives {given}"
            )
