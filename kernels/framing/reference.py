"""Windowed frames of a signal, and their overlap-add, in plain torch: the specification of every other backend."""

import math
from functools import reduce

import torch
from torch import Tensor

__all__ = ["frame", "overlap_add"]


def frame(wave: Tensor, window: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    """F[t, n] = w[n] x[t hop_length + n - left], where x is 0 outside of its samples."""
    n_fft = window.shape[0]
    padded = torch.nn.functional.pad(wave, (left, right)) if left or right else wave
    if padded.shape[-1] < n_fft:
        return padded[..., :0, None] * window
    return (padded.unfold(-1, n_fft, hop_length) * window).contiguous()


def overlap_add(frames: Tensor, window: Tensor, hop_length: int, left: int, samples: int) -> Tensor:
    """x[s] = sum over t of w[n] F[t, n] with n = s + left - t hop_length: the adjoint of ``frame``."""
    *leading, count, n_fft = frames.shape
    windowed = (frames * window).reshape(math.prod(leading), count, n_fft)
    if windowed.shape[0] == 0 or count == 0:
        return windowed.new_zeros((*leading, samples)) + windowed.sum()
    length = (count - 1) * hop_length + n_fft
    if torch.compiler.is_exporting():
        return _overlap_add_of_hops(windowed, hop_length, left, samples).reshape(*leading, samples)
    whole = torch.nn.functional.fold(
        windowed.transpose(1, 2), (1, length), kernel_size=(1, n_fft), stride=(1, hop_length)
    ).reshape(*leading, length)
    before, rest = max(0, -left), max(0, left + samples - length)
    left = max(0, left)
    return torch.nn.functional.pad(whole, (before, rest))[..., left : left + samples].contiguous()


def _overlap_add_of_hops(windowed: Tensor, hop_length: int, left: int, samples: int) -> Tensor:
    """[R, frames, n_fft] -> [R, samples], hop by hop: an exporter would hold `fold` to the number of frames it saw."""
    hops = -(-windowed.shape[-1] // hop_length)
    pad = torch.nn.functional.pad
    parts = pad(windowed, (0, hops * hop_length - windowed.shape[-1])).unflatten(-1, (hops, hop_length)).unbind(-2)
    whole = reduce(torch.add, [pad(part, (0, 0, hop, hops - 1 - hop)) for hop, part in enumerate(parts)])
    return pad(whole.flatten(-2), (0, samples))[:, left : left + samples]
