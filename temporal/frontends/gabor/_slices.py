"""A long signal in slices of one length that cross-fade, so that memory is constant and a stream has an end in sight.

Slice b holds the samples from `b * half - quarter` on (half = length / 2, quarter = length / 4), faded in and out around
`b * half` and `(b + 1) * half`; the rest of it is zero, so that what a filter does before and after its input has a
place. Slices of even number lie side by side without a gap, and so do those of odd number: two layers of frames.
Before the first odd slice there is room for the quarter of slice 0 that lies before the signal, in mirror image.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .._framing import Count, windows

__all__ = ["SliceInverse", "SliceStream", "Slices"]

_pad = torch.nn.functional.pad


class SliceStream(NamedTuple):
    """What a stream of slices carries from one chunk to the next."""

    samples: Tensor  # [..., k]: from where the next slice's fade-in begins
    frames: Tensor  # [..., 2, bins, m]: known frames that have not left, from frame `given` on
    slices: int  # slices so far
    given: int  # frames that have left
    read: int  # samples so far


class SliceInverse(NamedTuple):
    """What the inverse of a stream carries from one chunk of frames to the next."""

    frames: Tensor  # [..., 2, bins, m]: from the frame on where the next slice begins
    tail: Tensor  # [..., transition]: the last slice's fade-out
    slices: int  # slices so far


@dataclass(frozen=True)
class Slices:
    """How samples and frames are cut into slices, and put together again."""

    length: int  # samples
    transition: int  # samples of the cross-fade, at most length / 2
    hop: int  # samples from frame to frame

    @property
    def half(self) -> int:
        """Samples from slice to slice."""
        return self.length // 2

    @property
    def quarter(self) -> int:
        """Frames in a quarter of a slice."""
        return self.length // 4 // self.hop

    def count(self, samples: Count) -> Count:
        """Slices that see a signal of so many samples, at least 1."""
        if isinstance(samples, Tensor):
            reach = samples + self.transition // 2 + self.half - 1
            return torch.div(reach, self.half, rounding_mode="floor")
        return (samples + self.transition // 2 + self.half - 1) // self.half

    def frames(self, slices: Count) -> Count:
        """Frames of so many slices."""
        return (2 * slices + 1) * self.quarter

    def cut(self, samples: Tensor, slices: int, window: Tensor, opens: bool) -> Tensor:
        """[..., from the first slice's fade-in on] -> [..., slices, length], faded; the signal's first is not faded in."""
        size = self.half + self.transition
        missing = (slices - 1) * self.half + size - samples.shape[-1]
        opening = (
            torch.cat((torch.ones_like(window[: self.transition]), window[self.transition :])) if opens else window
        )
        margin = (self.half - self.transition) // 2
        around = margin, self.length - size - margin
        if torch.compiler.is_exporting():
            parts = windows(_pad(samples, (0, self.half + size)), 0, slices, size, self.half)
            number = torch.arange(slices, device=samples.device)
            return _pad(parts * torch.where(number[:, None] == 0, opening, window), around)
        if opens:
            window = torch.cat((opening.unsqueeze(0), window.expand(slices - 1, size)))
        parts = _pad(samples, (0, missing)).unfold(-1, size, self.half) * window
        return _pad(parts, around)

    def lay(self, slices: Tensor) -> Tensor:
        """Coefficients [..., slices, bins, frames of a slice] -> layers [..., 2, bins, frames]."""
        count, quarter = slices.shape[-3], self.quarter
        if torch.compiler.is_exporting():
            return self._lay_by_index(slices, count)
        even, odd = (_side_by_side(slices[..., parity::2, :, :]) for parity in (0, 1))
        even, first = even[..., quarter:], even[..., :quarter].flip(-1)
        total = self.frames(count)
        odd = torch.cat((first, odd), -1)
        return torch.stack([_pad(layer, (0, total - layer.shape[-1])) for layer in (even, odd)], -3)

    def _lay_by_index(self, slices: Tensor, count: int) -> Tensor:
        """`lay` for any number of slices in one program: each frame from a place in a slice, which is 0 after the last."""
        size, frame = 4 * self.quarter, torch.arange(self.frames(count), device=slices.device)
        slices = _pad(slices.movedim(-3, -2), (0, 0, 0, 1))
        layers = []
        for parity, shift in enumerate((self.quarter, -self.quarter)):
            number = parity + 2 * torch.div(frame + shift, size, rounding_mode="floor")
            place = (frame + shift) % size
            if parity:  # the quarter of slice 0 that lies before the signal
                number, place = number.clamp_min(0), torch.where(number < 0, self.quarter - 1 - frame, place)
            layers.append(slices[..., number.clamp_max(count), place])
        return torch.stack(layers, -3)

    def lift(self, layers: Tensor) -> Tensor:
        """Layers [..., 2, bins, frames] -> coefficients [..., slices, bins, frames of a slice]: the inverse of `lay`."""
        quarter = self.quarter
        count = (layers.shape[-1] // quarter - 1) // 2
        even, odd = layers.unbind(-3)
        even = torch.cat((odd[..., :quarter].flip(-1), even), -1)
        pairs = -(-count // 2)
        layered = [
            _pad(layer, (0, 4 * pairs * quarter - layer.shape[-1])).unflatten(-1, (pairs, 4 * quarter))
            for layer in (even[..., : 4 * pairs * quarter], odd[..., quarter : (1 + 4 * pairs) * quarter])
        ]
        return torch.stack(layered, -2).flatten(-3, -2).movedim(-2, -3)[..., :count, :, :]

    def extend(self, frames: Tensor, part: Tensor, number: int) -> Tensor:
        """Known frames [..., 2, bins, m] and slice `number` [..., bins, frames of a slice] -> frames, two quarters more."""
        quarter = self.quarter
        if number == 0:
            first = part[..., :quarter].flip(-1)
            return torch.stack((part[..., quarter:], _pad(first, (0, 2 * quarter))), -3)
        more = _pad(part, (frames.shape[-1] - 2 * quarter, 0))
        layers = (more, torch.zeros_like(more))
        return _pad(frames, (0, 2 * quarter)) + torch.stack(layers if number % 2 == 0 else layers[::-1], -3)

    def take(self, frames: Tensor, number: int) -> tuple[list[Tensor], Tensor]:
        """The slices from `number` on that these frames complete, and the frames that the next one needs."""
        quarter, parts = self.quarter, []
        if number == 0 and frames.shape[-1] >= 3 * quarter:
            first = frames[..., 1, :, :quarter].flip(-1)
            parts.append(torch.cat((first, frames[..., 0, :, : 3 * quarter]), -1))
            frames, number = frames[..., quarter:], 1
        while number > 0 and frames.shape[-1] >= 4 * quarter:
            parts.append(frames[..., number % 2, :, : 4 * quarter])
            frames, number = frames[..., 2 * quarter :], number + 1
        return parts, frames.clone()

    def join(self, slices: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Slices' samples [..., slices, length] and the fade-out of the one before -> the samples that are complete,
        from the first fade-in on, [..., slices * half], and the last one's fade-out."""
        margin = (self.half - self.transition) // 2
        parts = slices[..., margin : margin + self.half + self.transition]
        tails = torch.cat((tail.unsqueeze(-2), parts[..., self.half :]), -2)
        joined = parts[..., : self.half] + _pad(tails[..., :-1, :], (0, self.half - self.transition))
        return joined.flatten(-2), tails[..., -1, :]


def _side_by_side(slices: Tensor) -> Tensor:
    """[..., slices, bins, frames] -> [..., bins, slices * frames]."""
    return slices.movedim(-3, -2).flatten(-2)
