"""What comes in from outside: one chunk, checked, and another sample rate, converted on the fly."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Resampler", "checked"]


def checked(chunk: Any, rate: float, already: int, *, samples: bool) -> Tensor:
    """A chunk as a finite floating-point tensor on its own device, or an error that says what to do.

    Args:
        chunk: what the user pushed.
        rate: entries of the first axis per second, for telling where a bad one is.
        already: entries pushed before.
        samples: a waveform [samples]; else steps [T, *units].
    """
    if isinstance(chunk, np.ndarray):
        if chunk.dtype.kind not in "fiu":
            raise TypeError(f"Stream.push: chunk holds {chunk.dtype}; float32 or float64 is right")
        chunk = torch.from_numpy(np.array(chunk, dtype=chunk.dtype.newbyteorder("=")))
    elif isinstance(chunk, Tensor):
        chunk = chunk.detach().clone()  # as above: a caller may refill its buffer while a state still looks into it
    else:
        raise TypeError(f"Stream.push: chunk is {type(chunk).__name__}; a tensor or a NumPy array is right")
    if not chunk.is_floating_point():
        raise TypeError(f"Stream.push: chunk is {chunk.dtype}; {_as_floats(chunk.dtype, samples)}")
    if samples and chunk.ndim != 1:
        raise ValueError(f"Stream.push: chunk has shape {list(chunk.shape)}; mono [samples] is right{_as_mono(chunk)}")
    if not samples and chunk.ndim < 2:
        raise ValueError(f"Stream.push: chunk has shape {list(chunk.shape)}; without a front end [T, units] is right")
    bad = ~torch.isfinite(chunk)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"Stream.push: NaN or infinite at {(already + first) / rate:.6g} s ({'sample' if samples else 'step'} {first} "
            "of this chunk); nothing of the chunk was taken: repair it and push it again"
        )
    return chunk


class Resampler:
    """Convert a stream of samples to another rate, chunk by chunk, with the samples of ``soxr.resample`` on the whole.

    Args:
        source: rate that comes in, Hz.
        target: rate that goes out, Hz.
        dtype: torch.float32 or torch.float64 (others go through float32).
    """

    def __init__(self, source: float, target: float, dtype: torch.dtype) -> None:
        import soxr

        kind = "float64" if dtype is torch.float64 else "float32"
        self._dtype = getattr(torch, kind)
        self._stream = soxr.ResampleStream(source, target, 1, dtype=kind)
        self.latency = _longest_delay(soxr.ResampleStream(source, target, 1, dtype=kind), source, target, kind)

    def __call__(self, samples: Tensor, last: bool = False) -> Tensor:
        array = samples.to("cpu", self._dtype).contiguous().numpy()
        return torch.from_numpy(self._stream.resample_chunk(array, last=last))

    def finish(self) -> Tensor:
        """The samples that were still inside the filter."""
        return self(torch.zeros(0), last=True)


def _longest_delay(fresh: Any, source: float, target: float, kind: str) -> float:
    """Seconds by which the output lags at most. soxr works in blocks of its own, so this is tried out with silence."""
    seconds = max(1.0, 8192 / min(source, target))  # several blocks
    piece = np.zeros(max(1, round(seconds * source / 400)), dtype=kind)
    came = went = longest = 0.0
    while came < seconds:
        came += len(piece) / source
        longest = max(longest, came - went)
        went += len(fresh.resample_chunk(piece)) / target
    return longest


def _as_floats(dtype: torch.dtype, samples: bool) -> str:
    if not samples or dtype.is_complex or dtype is torch.bool:
        return "real floating point is right"
    half = 2 ** (8 * dtype.itemsize - 1)
    offset = "" if dtype.is_signed else " - 1"
    return f"floating point in -1..1 is right: chunk / {half}{offset}"


def _as_mono(chunk: Tensor) -> str:
    if chunk.ndim == 2 and 1 in chunk.shape:
        return ": chunk.reshape(-1)"
    if chunk.ndim == 2:
        axis = 0 if chunk.shape[0] < chunk.shape[1] else 1
        return f": average the channels, chunk.mean({axis}), or give each channel a Stream of its own"
    return ""
