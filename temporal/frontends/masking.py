"""Masking as augmentation, within the model."""

from typing import Literal

import torch
from torch import Tensor

from ._arguments import real
from ._stage import Framewise
from .utterance import check_frame_lengths

__all__ = ["SpecAugment"]


class SpecAugment(Framewise):
    """SpecAugment: cover bands of bins and spans of frames at random, in training only.

    width uniform in 0 .. W, first uniform in 0 .. N - width, for each mask of each item by itself; W is freq_width of N
    bins, or min(time_width, time_share * N) of N valid frames. (Without the time warp of the paper.)

    In evaluation frames pass as they are, and only then does it stream. It draws on the frames' device, from `generator`
    or from torch's own: the draws depend on the batch. `temporal.datasets.BandMask` and `TimeMask` do the same with one
    generator for each recording, in the data loader, where a recording's masks follow from (seed, epoch, index) alone.

    Args:
        freq_masks, freq_width: how many bands, >= 0, and the largest width, in bins, >= 0.
        time_masks, time_width: how many spans, >= 0, and the largest width, in frames, >= 0.
        time_share: the largest part of an item's frames that one span covers, 0 .. 1.
        p: probability that an item is masked at all, 0 .. 1.
        fill: value that covers, or "mean": the mean of the item's own valid frames.
        generator: on the device of the frames; None is torch's default.
    Shape:
        frames: [..., bins, frames]; an item is what the last two axes hold.  lengths: [...] valid frames of each item, or
        None: all.  Returns the same shape; what lies beyond lengths is left as it is.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range; `stream` in training (call `.eval()`).
    References:
        Park et al. 2019, SpecAugment (policy LD: 2 masks of up to 27 bins, 2 of up to 100 frames).
    Example:
        >>> import torch, temporal
        >>> augment = temporal.frontends.SpecAugment(time_width=20, generator=torch.Generator().manual_seed(0))
        >>> frames = torch.ones(8, 80, 100)
        >>> share = 1 - augment(frames).mean()
        >>> bool(0.1 < share < 0.7), bool((augment.eval()(frames) == frames).all())
        (True, True)
    """

    def __init__(
        self,
        freq_masks: int = 2,
        freq_width: int = 27,
        time_masks: int = 2,
        time_width: int = 100,
        *,
        time_share: float = 1.0,
        p: float = 1.0,
        fill: float | Literal["mean"] = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.freq_masks, self.freq_width = _count("freq_masks", freq_masks), _count("freq_width", freq_width)
        self.time_masks, self.time_width = _count("time_masks", time_masks), _count("time_width", time_width)
        self.time_share, self.p = _share("time_share", time_share), _share("p", p)
        if isinstance(fill, str) and fill != "mean":
            raise ValueError(f"SpecAugment: fill={fill!r} is unknown; give a number or 'mean'")
        self.fill = fill if isinstance(fill, str) else real("SpecAugment", "fill", fill)
        self.generator = generator

    def extra_repr(self) -> str:
        return (
            f"freq_masks={self.freq_masks}, freq_width={self.freq_width}, time_masks={self.time_masks}, "
            f"time_width={self.time_width}, time_share={self.time_share:g}, p={self.p:g}, fill={self.fill!r}"
        )

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream now; None in evaluation."""
        return "in training it masks whole utterances; call .eval() to stream" if self.training else None

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        frames = self._read(frames)
        if not self.training:
            return frames
        check_frame_lengths("SpecAugment", frames, lengths)
        *items, bins, count = frames.shape
        valid = torch.full(items, count, device=frames.device) if lengths is None else lengths.to(torch.int64)
        inside = (torch.arange(count, device=frames.device) < valid[..., None])[..., None, :]
        widest = torch.floor(valid * self.time_share).long().clamp_max(self.time_width)
        whole = torch.full_like(valid, bins)
        covered = self._spans(self.freq_masks, whole.clamp_max(self.freq_width), whole, bins)[..., :, None]
        covered = covered | self._spans(self.time_masks, widest, valid, count)[..., None, :]
        drawn = torch.rand(items, device=frames.device, generator=self.generator)[..., None, None] < self.p
        return torch.where(covered & inside & drawn, self._cover(frames, inside, valid), frames)

    def _spans(self, masks: int, limit: Tensor, extent: Tensor, size: int) -> Tensor:
        """[..., size]: where one of the spans lies, each at most `limit` [...] wide and within `extent` [...]."""
        # float64, so that uniform * n stays below n
        shape, options = (2, *limit.shape, masks), {"dtype": torch.float64, "device": limit.device}
        width, first = torch.rand(shape, generator=self.generator, **options)  # type: ignore[call-overload]
        width = (width * (limit[..., None] + 1)).long()
        first = (first * (extent[..., None] - width + 1)).long()
        at = torch.arange(size, device=limit.device)
        return ((at >= first[..., None]) & (at < (first + width)[..., None])).any(-2)

    def _cover(self, frames: Tensor, inside: Tensor, valid: Tensor) -> Tensor:
        if not isinstance(self.fill, str):
            return torch.full((), self.fill, dtype=frames.dtype, device=frames.device)
        total = torch.where(inside, frames, 0.0).sum((-2, -1))
        return (total / (valid * frames.shape[-2]).clamp_min(1))[..., None, None]


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"SpecAugment: {name}={value!r} is a {type(value).__name__}, not a whole number")
    if value < 0:
        raise ValueError(f"SpecAugment: {name}={value} is negative; give 0 or more")
    return value


def _share(name: str, value: float) -> float:
    number = real("SpecAugment", name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"SpecAugment: {name}={number:g} must lie between 0 and 1")
    return number
