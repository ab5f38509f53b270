"""What every front end offers beside `forward`: where its frames lie in time, and the same frames from a stream."""

from typing import Any, Literal

from torch import Tensor, nn

from ._arguments import read_frames
from ._framing import Count, check_count

__all__ = ["Framewise", "FrontEnd"]


class FrontEnd(nn.Module):
    """A layer that maps a signal along its last axis: [..., samples] -> [..., bins, frames], or frames to frames.

    `hop_length` and `latency` count steps of the layer's own input: samples where it `reads` samples, frames where it
    reads frames. So hops multiply and latencies add up when front ends are chained. Frame t is complete, and leaves a
    stream, when `t * hop_length + latency` samples have been read (a layer that gives frames for frames lets frame t go
    when frame `t + latency` has come). A layer that reads frames and gives samples has the `hop_length` samples of a frame,
    and lets sample n go when frame `floor(n / hop_length + latency)` has come.
    """

    reads: Literal["samples", "frames"] = "samples"
    gives: Literal["samples", "frames"] = "frames"
    hop_length: int
    latency: int
    sample_rate: float | None = None  # Hz, where the layer knows it
    pad_mode: str | None = None  # how the signal is continued at its ends, where it is

    def frames(self, samples: Count) -> Count:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape."""
        raise NotImplementedError

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        return None

    def stream(self, chunk: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The frames that are complete now: all streamed frames, then `flush`'s, are those of the whole signal.

        Args:
            chunk: the next [..., samples] of the signal, of any length, 0 included.
            state: what the call before returned; None at the start of a signal.
        Shape:
            Returns ([..., bins, frames], state) with 0 or more frames.
        """
        raise NotImplementedError

    def flush(self, state: Any) -> tuple[Tensor, None]:
        """The frames that waited for samples to come, as at the end of the whole signal. The stream starts afresh."""
        raise NotImplementedError

    def absorbs(self, following: nn.Module) -> dict[str, Any] | None:
        """Whether this layer can do the work of the one behind it in the same pass, and the arguments that ask for it.

        `Chain` then gives them to `forward`, `stream` and `flush` and leaves `following` out. None: it cannot.
        """
        return None

    def _check_streams(self) -> None:
        if self.stream_obstacle is not None:
            raise ValueError(f"{type(self).__name__}: {self.stream_obstacle}")


class Framewise(FrontEnd):
    """A front end that maps each frame by itself, so that a stream is the same call. Its state holds no numbers."""

    reads = "frames"
    hop_length = 1
    latency = 0

    def frames(self, samples: Count) -> Count:
        """As many frames as it is given."""
        return check_count(type(self).__name__, samples)

    def stream(self, chunk: Tensor, state: Any = None) -> tuple[Tensor, tuple[Tensor]]:
        """The same as the whole: `self(chunk)`. The state holds no frames, only their shape."""
        self._check_streams()
        out = self(chunk)
        return out, (out.new_zeros((*out.shape[:-1], 0)),)

    def flush(self, state: Any) -> tuple[Tensor, None]:
        """No frame waits: [..., bins, 0]."""
        self._check_streams()
        if state is None:
            raise ValueError(
                f"{type(self).__name__}: flush needs the state that stream returned; nothing has been streamed yet"
            )
        return state[0], None

    def _read(self, frames: Tensor) -> Tensor:
        return read_frames(type(self).__name__, frames)
