"""Compression of levels: the logarithm, plain or in decibels."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ._arguments import choice, real
from ._stage import Framewise

__all__ = ["AmplitudeToDB", "Log", "decibels", "logarithm_of_powers"]


class Log(Framewise):
    """Natural logarithm of frames, with an offset that bounds it on silence.

    y = ln(max(x, 0) + offset)

    Args:
        offset: added to every value, > 0; what counts as silence.
    Shape:
        frames: [..., bins, frames], values >= 0 (negative ones count as 0).  Returns the same shape.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: offset <= 0.
    Example:
        >>> import torch, temporal
        >>> temporal.frontends.Log()(torch.zeros(40, 3))[0, 0]
        tensor(-13.8155)
    """

    def __init__(self, offset: float = 1e-6) -> None:
        super().__init__()
        self.offset = real("Log", "offset", offset, above=0)

    def extra_repr(self) -> str:
        return f"offset={self.offset:g}"

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        return torch.log(self._read(frames).clamp_min(0) + self.offset)


def logarithm_of_powers(following: nn.Module) -> dict[str, float] | None:
    """The argument that asks a layer for ln(power + offset), if that is all that the module behind it does."""
    if type(following) is Log and not (following._forward_hooks or following._forward_pre_hooks):
        return {"log": following.offset}
    return None


class AmplitudeToDB(Framewise):
    """Power or magnitude in decibels.

    y = 10 log10(max(x, amin)) - 10 log10(max(ref, amin)) for power (20 for 10 for magnitude), then, with `top_db`,
    max(y, peak - top_db), where the peak is that of the item, so that no item depends on its batch.

    Args:
        stype: what the frames are: "power" or "magnitude".
        ref: the value that is 0 dB, > 0.
        amin: the smallest value that is told apart, > 0; librosa's by default: 1e-10 for power, 1e-5 for magnitude.
        top_db: the range below an item's peak that is kept, in dB, >= 0; None keeps everything, and only that streams.
    Shape:
        frames: [..., bins, frames]; an item is what the last two axes hold.  Returns the same shape.
    Raises:
        TypeError: frames that are complex or integers.
        ValueError: an argument out of range; `stream` with `top_db` set.
    References:
        `librosa.power_to_db` and `librosa.amplitude_to_db` 0.11 of one item (whose `top_db` is 80 by default);
        `torchaudio.transforms.AmplitudeToDB` (which has amin=1e-10 for magnitude too, and couples the channels).
    Example:
        >>> import torch, temporal
        >>> temporal.frontends.AmplitudeToDB(top_db=60)(torch.tensor([[1.0, 0.01, 0.0]]))
        tensor([[  0., -20., -60.]])
    """

    def __init__(
        self,
        stype: Literal["power", "magnitude"] = "power",
        *,
        ref: float = 1.0,
        amin: float | None = None,
        top_db: float | None = None,
    ) -> None:
        super().__init__()
        self.stype = choice("AmplitudeToDB", "stype", stype, ("power", "magnitude"))
        if amin is None:
            amin = 1e-10 if stype == "power" else 1e-5
        self.ref = real("AmplitudeToDB", "ref", ref, above=0)
        self.amin = real("AmplitudeToDB", "amin", amin, above=0)
        self.top_db = None if top_db is None else real("AmplitudeToDB", "top_db", top_db, unit="dB")
        if self.top_db is not None and self.top_db < 0:
            raise ValueError(f"AmplitudeToDB: top_db={self.top_db:g} dB is negative; give 0 or more, or None")

    def extra_repr(self) -> str:
        return f"{self.stype!r}, ref={self.ref:g}, amin={self.amin:g}, top_db={self.top_db}"

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        if self.top_db is None:
            return None
        return f"top_db={self.top_db:g} needs the peak of the whole utterance; use top_db=None on a stream"

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        factor = 10.0 if self.stype == "power" else 20.0
        return decibels(self._read(frames), factor, self.ref, self.amin, self.top_db)


def decibels(frames: Tensor, factor: float, ref: float, amin: float, top_db: float | None) -> Tensor:
    """factor log10(max(x, amin) / max(ref, amin)), no lower than `top_db` below the peak of the item."""
    level = factor * torch.log10(frames.clamp_min(amin)) - factor * math.log10(max(ref, amin))
    if top_db is None or level.numel() == 0:
        return level
    return torch.maximum(level, level.amax((-2, -1), keepdim=True) - top_db)
