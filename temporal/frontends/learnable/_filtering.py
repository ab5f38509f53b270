"""A signal through a bank of filters: by 1-D convolution, or by FFTs of overlapping blocks (overlap-save)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._framing import Framing, FramingState

__all__ = ["Blocks", "block_rows", "choose_engine", "filter_stream", "overlapping_blocks"]

_PIECE = 4096  # samples of a stream that are cut into windows at a time
_ELEMENTS = {"cpu": 2**17, "cuda": 2**26}  # in a block of rows: what the cache holds; what keeps a GPU busy


class Blocks(NamedTuple):
    """How overlap-save cuts a signal: an FFT over `length` samples gives `step` samples of the filtered signal."""

    length: int
    step: int

    @classmethod
    def of(cls, kernel_size: int, hop_length: int) -> "Blocks":
        """A power of two of about four times the filters; steps of whole hops."""
        length = 2 ** max(8, (max(4 * kernel_size, kernel_size + hop_length) - 1).bit_length())
        return cls(length, (length - kernel_size + 1) // hop_length * hop_length)


def choose_engine(engine: str, kernel_size: int, hop_length: int, device: torch.device) -> str:
    """The rule of engine="auto".

    Convolution costs kernel_size multiplications for each output, FFTs some 100 for each sample (whatever the hop).
    TABLE
    Traced programs (torch.compile, torch.export, ONNX) take the convolution, which every runtime has, and GPUs too.
    """
    if engine != "auto":
        return engine
    if torch.compiler.is_compiling() or device.type != "cpu":
        return "conv"
    return "fft" if kernel_size >= 64 * hop_length else "conv"


def block_rows(elements: int, device: torch.device) -> int:
    """Rows to compute at a time, where each makes so many numbers on the way."""
    return max(1, _ELEMENTS.get(device.type, _ELEMENTS["cuda"]) // elements)


def overlapping_blocks(wave: Tensor, left: int, blocks: Blocks, outputs: int) -> Tensor:
    """[R, samples], with `left` zeros before it and as many as needed after it, -> [R, blocks, length]."""
    count = -(-outputs // blocks.step)
    right = (count - 1) * blocks.step + blocks.length - left - wave.shape[-1]
    # A signal that ends long before its last block would give a negative padding only if outputs were too few.
    return torch.nn.functional.pad(wave, (left, right)).unfold(-1, blocks.length, blocks.step)


def filter_stream(
    framing: Framing, chunk: Tensor | None, state: FramingState | None, kernels: Tensor
) -> tuple[Tensor, Any]:
    """The filtered samples [..., filters, n] that a chunk of a stream completes; those of its end if there is none."""
    if chunk is None:
        windows, state = framing.flush(state)
        return (windows @ kernels.t()).transpose(-1, -2), state
    parts = []
    for piece in chunk.split(_PIECE, -1):
        windows, state = framing.stream(piece, state)
        parts.append((windows @ kernels.t()).transpose(-1, -2))
    return torch.cat(parts, -1), state
