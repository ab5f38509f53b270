"""Normalisation with the mean and deviation of the utterance itself."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ._arguments import check_trainable, positive_int
from ._stage import Framewise

__all__ = ["Affine", "UtteranceNormalize", "check_frame_lengths"]


class Affine(Framewise):
    """A normalisation with a gain and an offset for each bin behind it, where they are to be learned."""

    gain: Tensor | None
    offset: Tensor | None

    def __init__(self, size: int | None, trainable: Collection[str]) -> None:
        super().__init__()
        owner = type(self).__name__
        self.size = None if size is None else positive_int(owner, "size", size, "bins")
        self.trainable = check_trainable(owner, trainable, ("gain", "offset"))
        if self.trainable and self.size is None:
            raise ValueError(f"{owner}: trainable parameters are one per bin; give size, the number of bins")
        for name, start in (("gain", 1.0), ("offset", 0.0)):
            learned = nn.Parameter(torch.full((self.size or 1,), start)) if name in self.trainable else None
            self.register_parameter(name, learned)

    def _read(self, frames: Tensor) -> Tensor:
        frames = super()._read(frames)
        if self.size is not None and frames.shape[-2] != self.size:
            raise ValueError(
                f"{type(self).__name__}: frames {list(frames.shape)} have {frames.shape[-2]} bins, not size={self.size}"
            )
        return frames

    def _scale(self, frames: Tensor) -> Tensor:
        if self.gain is not None:
            frames = frames * self.gain.to(frames.dtype)[:, None]
        if self.offset is not None:
            frames = frames + self.offset.to(frames.dtype)[:, None]
        return frames


class UtteranceNormalize(Affine):
    """Frames with a mean of 0 and a deviation of 1 in each bin, by the utterance's own mean and deviation.

    y[b, t] = (x[b, t] - mean_t x[b, t]) / std_t x[b, t]

    over the valid frames of one item, so no item depends on its neighbours or its padding. The deviation is that of the
    population (divided by the count). A bin that does not change is 0.

    Args:
        scale: divide by the deviation; with False only the mean is taken off.
        size: number of bins; needed with `trainable`.
        trainable: names among "gain" and "offset" that become parameters [size]: y is times gain, plus offset.
    Shape:
        frames: [..., bins, frames].  lengths: [...] valid frames of each item, or None: all.
        Returns the same shape, 0 beyond lengths.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: lengths of another shape; `stream` (`RunningNormalize` streams); `trainable` without `size`.
    References:
        Cepstral mean and variance normalisation: Viikki and Laurila 1998.
    Example:
        >>> import torch, temporal
        >>> frames = torch.tensor([[[1.0, 3.0, 9.0]]])
        >>> temporal.frontends.UtteranceNormalize()(frames, lengths=torch.tensor([2]))
        tensor([[[-1.,  1.,  0.]]])
    """

    def __init__(self, *, scale: bool = True, size: int | None = None, trainable: Collection[str] = ()) -> None:
        super().__init__(size, trainable)
        self.scale = bool(scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, size={self.size}, trainable={self.trainable}"

    @property
    def stream_obstacle(self) -> str:
        """Why the layer cannot stream and which variant can."""
        return "it needs the mean and deviation of the whole utterance; use RunningNormalize or a fitted Normalize"

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        frames = self._read(frames)
        if frames.shape[-1] == 0:
            return self._scale(frames)
        check_frame_lengths("UtteranceNormalize", frames, lengths)
        # From the first frame on, so that sums stay small and a bin that does not change is exactly 0.
        moved = frames - frames[..., :1]
        count: int | Tensor
        if lengths is None:
            valid, count = None, frames.shape[-1]
        else:
            valid = torch.arange(frames.shape[-1], device=frames.device) < lengths[..., None, None]
            count = lengths[..., None, None].clamp_min(1)
            moved = torch.where(valid, moved, 0.0)
        moved = moved - moved.sum(-1, keepdim=True) / count
        if valid is not None:
            moved = torch.where(valid, moved, 0.0)
        if self.scale:
            variance = moved.square().sum(-1, keepdim=True) / count
            constant = variance == 0
            moved = moved * torch.where(constant, 1.0, variance).rsqrt()
        out = self._scale(moved)
        return out if valid is None else torch.where(valid, out, 0.0)


def check_frame_lengths(owner: str, frames: Tensor, lengths: Tensor | None) -> None:
    """One whole number of frames for each item; the values are looked at on the host only."""
    if lengths is None:
        return
    if lengths.is_floating_point() or lengths.shape != frames.shape[:-2]:
        raise ValueError(
            f"{owner}: lengths came as {list(lengths.shape)} of {lengths.dtype}; give integers of shape "
            f"{list(frames.shape[:-2])}"
        )
    on_host = lengths.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_host and bool((lengths > frames.shape[-1]).any()):
        raise ValueError(
            f"{owner}: lengths reach {int(lengths.max())}, but there are {frames.shape[-1]} frames; give lengths in "
            "frames, not samples"
        )
