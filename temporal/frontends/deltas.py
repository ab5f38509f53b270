"""Time derivatives of features, stacked onto them."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ._arguments import choice, positive_int, read_frames
from ._constants import DerivedConstants
from ._framing import Count, check_count
from ._precision import full_precision
from ._stage import FrontEnd

__all__ = ["Deltas"]


class DeltasState(NamedTuple):
    """What a stream of deltas carries from one chunk to the next."""

    frames: Tensor  # [..., bins, k]: the last frames, as many as later windows need
    read: int  # frames so far


class Deltas(DerivedConstants, FrontEnd):
    """Features with their time derivatives below them: the slopes of polynomials fitted to a few frames.

    y = [x, D_1 x, .., D_order x] along the bins,  D_d x[t] = d! times the leading coefficient of the polynomial of
    degree d that fits x[t - h], .., x[t + h] best, h = width // 2 (a Savitzky-Golay filter).

    Args:
        order: the highest derivative, 1 .. width - 1: 1 for deltas, 2 for deltas and their deltas.
        width: frames that a derivative looks at, odd, >= 3.
        mode: beyond the first and last whole window: "interp" goes on with its derivative (and needs `width` frames),
            "nearest" repeats the first and last frame.
    Shape:
        frames: [..., bins, frames].  Returns [..., (1 + order) * bins, frames].
        On a stream, frame t leaves when frame t + width // 2 has come (with "interp", the first ones with frame
        width - 1).
    Raises:
        ValueError: an even width; an order that the width cannot fit; with "interp", fewer frames than `width`.
    References:
        `librosa.feature.delta` 0.11; with order=1 and "nearest" `torchaudio.transforms.ComputeDeltas`.
    Example:
        >>> import torch, temporal
        >>> temporal.frontends.Deltas(order=1, width=3)(torch.tensor([[0.0, 1.0, 4.0, 9.0]]))
        tensor([[0., 1., 4., 9.],
                [2., 2., 4., 4.]])
    """

    reads = "frames"
    hop_length = 1
    kernels: Tensor  # [order, width]

    def __init__(self, order: int = 2, *, width: int = 9, mode: Literal["interp", "nearest"] = "interp") -> None:
        super().__init__()
        self.width = positive_int("Deltas", "width", width, "frames")
        self.order = positive_int("Deltas", "order", order, "derivatives")
        self.mode = choice("Deltas", "mode", mode, ("interp", "nearest"))
        if self.width < 3 or self.width % 2 == 0:
            raise ValueError(f"Deltas: width={self.width} frames must be odd and at least 3")
        if self.order >= self.width:
            raise ValueError(f"Deltas: order={self.order} needs a width of more than {self.width} frames")
        self.latency = self.width // 2
        self._register_constants("kernels")

    def extra_repr(self) -> str:
        return f"order={self.order}, width={self.width}, mode={self.mode!r}"

    def frames(self, samples: Count) -> Count:
        """As many frames as it is given."""
        return check_count("Deltas", samples)

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> [..., (1 + order) * bins, frames]."""
        frames = read_frames("Deltas", frames)
        if self.mode == "nearest":
            return self._inner(_repeat_ends(frames, self.latency, self.latency))
        self._check_length(frames.shape[-1])
        return self._stack(frames, _repeat_ends(self._slopes(frames), self.latency, self.latency))

    def stream(self, chunk: Tensor, state: DeltasState | None = None) -> tuple[Tensor, DeltasState]:
        """The frames that are complete now, and the last frames that later ones look back at."""
        chunk = read_frames("Deltas", chunk)
        if state is None:
            state = DeltasState(chunk[..., :0], 0)
        frames, read = torch.cat((state.frames, chunk), -1), state.read + chunk.shape[-1]
        if self.mode == "nearest":
            if state.read == 0:
                frames = _repeat_ends(frames, self.latency, 0)
            out, needed = self._inner(frames), self.width - 1
        elif read < self.width:
            out, needed = self._inner(frames[..., :0]), self.width
        elif state.read < self.width:  # the first whole window: it gives the frames before its middle, too
            slopes = _repeat_ends(self._slopes(frames), self.latency, 0)
            out, needed = self._stack(frames[..., : slopes.shape[-1]], slopes), self.width
        else:  # the window at the state's beginning has been given; flush needs it if it is the last
            out, needed = self._inner(frames[..., 1:]), self.width
        return out, DeltasState(frames[..., max(0, frames.shape[-1] - needed) :].clone(), read)

    def flush(self, state: DeltasState) -> tuple[Tensor, None]:
        """The last `width // 2` frames, whose windows reach beyond the end."""
        if state is None:
            raise ValueError("Deltas: flush needs the state that stream returned; nothing has been streamed yet")
        if self.mode == "nearest":
            return self._inner(_repeat_ends(state.frames, 0, self.latency)), None
        self._check_length(state.read)
        slopes = _repeat_ends(self._slopes(state.frames), 0, self.latency)[..., 1:]
        return self._stack(state.frames[..., self.latency + 1 :], slopes), None

    def _inner(self, frames: Tensor) -> Tensor:
        """Those frames, with derivatives, that have whole windows around them."""
        count = max(0, frames.shape[-1] - self.width + 1)
        return self._stack(frames[..., self.latency : self.latency + count], self._slopes(frames))

    def _slopes(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> [..., order, bins, whole windows]."""
        if frames.shape[-1] < self.width:
            return frames.new_zeros((*frames.shape[:-2], self.order, frames.shape[-2], 0))
        with full_precision(frames):
            slopes = frames.unfold(-1, self.width, 1) @ self._constant("kernels", frames.dtype).t()
        return slopes.movedim(-1, -3)

    def _stack(self, frames: Tensor, slopes: Tensor) -> Tensor:
        return torch.cat((frames, *slopes.unbind(-3)), -2)

    def _check_length(self, frames: int) -> None:
        if frames < self.width:
            raise ValueError(
                f"Deltas: mode='interp' needs at least width={self.width} frames, not {frames}; use mode='nearest'"
            )

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        # Monic polynomials p_d, orthogonal on the window: the best fit's leading coefficient is <p_d, x> / <p_d, p_d>.
        position = torch.arange(self.width, dtype=torch.float64, device=device) - self.latency
        polynomials = [torch.ones_like(position)]
        for _ in range(self.order):
            p = position * polynomials[-1]
            for q in polynomials:
                p = p - q * ((p @ q) / (q @ q))
            polynomials.append(p)
        kernels = [math.factorial(d) * p / (p @ p) for d, p in enumerate(polynomials)]
        return torch.stack(kernels[1:])


def _repeat_ends(frames: Tensor, before: int, after: int) -> Tensor:
    if frames.shape[-1] == 0:
        return frames
    first = frames[..., :1].expand(*frames.shape[:-1], before)
    last = frames[..., -1:].expand(*frames.shape[:-1], after)
    return torch.cat((first, frames, last), -1)
