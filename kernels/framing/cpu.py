"""Frames and overlap-add on the CPU: one pass each, compiled by numba, threaded over frames or over signals."""

import torch
from torch import Tensor

from .._compiled import announced
from .._memory import empty, flat
from .._threads import share
from . import _loops

__all__ = ["frame", "overlap_add"]

_GRAIN = 1 << 16  # samples that pay for waking a thread (about 10 microseconds)
announced(_loops.frame, "frames")
announced(_loops.overlap_add, "overlap-add")


def frame(wave: Tensor, window: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    """``reference.frame``."""
    samples, n_fft = wave.shape[-1], window.shape[0]
    frames = max(0, 1 + (left + samples + right - n_fft) // hop_length)
    out = empty((*wave.shape[:-1], frames, n_fft), torch.float32)
    if out.numel():
        arguments = (flat(wave), samples, flat(window), hop_length, left, frames, flat(out))
        share(lambda first, stop: _loops.frame(*arguments, first, stop), out.numel() // n_fft, max(1, _GRAIN // n_fft))
    return out


def overlap_add(frames: Tensor, window: Tensor, hop_length: int, left: int, samples: int) -> Tensor:
    """``reference.overlap_add``."""
    *leading, count, n_fft = frames.shape
    out = empty((*leading, samples), torch.float32)
    if out.numel():
        arguments = (flat(frames), count, flat(window), hop_length, left, samples, flat(out))
        items = out.numel() // samples
        share(
            lambda first, stop: _loops.overlap_add(*arguments, first, stop),
            items,
            max(1, _GRAIN // max(1, count * n_fft)),
        )
    return out
