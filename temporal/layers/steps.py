"""Between frames and steps, and between time and batch."""

import torch
from torch import Tensor, nn

__all__ = ["TimeDistributed", "to_steps"]


def to_steps(frames: Tensor) -> Tensor:
    """Turn a front end's frames into a network's steps.

    Args:
        frames: what a front end returns.
    Shape:
        frames: [B, bins, frames].  Returns [frames, B, bins], contiguous.
    Raises:
        ValueError: frames without exactly three axes.

    Example:
        >>> import torch, temporal
        >>> temporal.to_steps(torch.zeros(2, 40, 100)).shape
        torch.Size([100, 2, 40])
    """
    if frames.ndim != 3:
        raise ValueError(f"to_steps: frames has shape {tuple(frames.shape)}; [B, bins, frames] is right")
    return frames.permute(2, 0, 1).contiguous()


class TimeDistributed(nn.Module):
    """Apply a module to every step alone, by folding time into the batch.

    y[t] = module(x[t]), computed as one call on [T * B, *features].

    Args:
        module: any module that maps [B, *features] to [B, *out_features] without mixing samples.
    Shape:
        x: [T, B, *features].  Returns [T, B, *out_features]. No step (T = 0) is passed on as an empty batch.
    Raises:
        ValueError: an input with fewer than three axes.

    Example:
        >>> import torch, temporal
        >>> layer = temporal.TimeDistributed(torch.nn.Conv1d(1, 4, 3))
        >>> layer(torch.randn(10, 2, 1, 40)).shape
        torch.Size([10, 2, 4, 38])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3:
            raise ValueError(f"TimeDistributed: x has shape {tuple(x.shape)}; [T, B, *features] is right")
        y = self.module(x.flatten(0, 1))
        return torch.unflatten(y, 0, x.shape[:2])
