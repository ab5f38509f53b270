"""A signal through a bank of filters: by 1-D convolution, or by FFTs of overlapping blocks (overlap-save)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Blocks", "block_rows", "choose_engine", "convolve", "overlapping_blocks", "power_of_inverse"]

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


def choose_engine(engine: str, fft_pays: bool, device: torch.device) -> str:
    """The rule of engine="auto": by FFT on a CPU where the layer's filters are long enough that it pays.

    Measured on two cores with AVX-512, 4 x 16,000 samples, ms forward, forward and backward, convolution | FFT:

        LEAF, 40 filters     K = 65: 8, 44 | 9, 45     K = 129: 14, 59 | 8, 38     K = 401: 44, 140 | 8, 38
        SincConv, 80, hop 1  K = 65: 3, 10 | 7, 22     K = 129: 5, 14 | 6, 23      K = 251: 9, 23 | 8, 26
        SincConv, K = 251    hop 2: 6, 13 | 10, 30     hop 16: 1, 2 | 9, 28

    (on one core, SincConv with K = 251: 16, 45 | 10, 33). Programs that are traced (torch.compile, torch.export, ONNX)
    take the convolution, which every runtime has, and so do GPUs, whose convolutions are fast.
    """
    if engine != "auto":
        return engine
    return "fft" if fft_pays and device.type == "cpu" and not torch.compiler.is_compiling() else "conv"


def block_rows(elements: int, device: torch.device) -> int:
    """Rows to compute at a time, where each makes so many numbers on the way."""
    return max(1, _ELEMENTS.get(device.type, _ELEMENTS["cuda"]) // elements)


def overlapping_blocks(wave: Tensor, left: int, blocks: Blocks, outputs: int) -> Tensor:
    """[R, samples], with `left` zeros before it and as many as needed after it, -> [R, blocks, length]."""
    count = -(-outputs // blocks.step)
    right = (count - 1) * blocks.step + blocks.length - left - wave.shape[-1]
    return torch.nn.functional.pad(wave, (left, right)).unfold(-1, blocks.length, blocks.step)


def power_of_inverse(spectra: Tensor, step: int) -> Tensor:
    """|ifft(spectra)|^2 of the first `step` samples, [..., step]."""
    if torch.compiler.is_compiling():
        return _power(torch.fft.ifft(spectra)[..., :step])
    return _PowerOfInverse.apply(spectra, step)


class _PowerOfInverse(torch.autograd.Function):
    """With a backward pass of one FFT; the parts of a complex number by themselves would make it three times as long."""

    @staticmethod
    def forward(ctx: Any, spectra: Tensor, step: int) -> Tensor:
        signal = torch.fft.ifft(spectra)[..., :step]
        ctx.length = spectra.shape[-1]
        ctx.save_for_backward(signal)
        return _power(signal)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (signal,) = ctx.saved_tensors
        return torch.fft.fft(signal * (grad * (2 / ctx.length)), ctx.length), None


def _power(signal: Tensor) -> Tensor:
    return signal.real.square() + signal.imag.square()


def convolve(wave: Tensor, kernels: Tensor, hop_length: int) -> Tensor:
    """The filters' inner products with each whole window, [..., samples] -> [..., filters, windows], also if none is."""
    filters, kernel_size = kernels.shape
    count = max(0, 1 + (wave.shape[-1] - kernel_size) // hop_length)
    if count == 0 or wave.numel() == 0:
        return wave.new_zeros((*wave.shape[:-1], filters, count))
    out = torch.nn.functional.conv1d(wave.reshape(-1, 1, wave.shape[-1]), kernels[:, None], stride=hop_length)
    return out.reshape(*wave.shape[:-1], filters, count)
