"""Between a signal and its windowed frames: cut, and put together again by overlap-add, each the other's adjoint."""

from torch import Tensor

from . import reference

__all__ = ["frame", "overlap_add"]


def frame(wave: Tensor, window: Tensor, hop_length: int, *, left: int = 0, right: int = 0) -> Tensor:
    """Windowed frames of a signal that goes on as zeros beyond its ends.

    F[t, n] = w[n] x[t hop_length + n - left],  0 <= n < n_fft

    Args:
        wave: [..., samples], float32 or float64.
        window: [n_fft], of the wave's dtype; gradients flow to it, too.
        hop_length: samples from one frame to the next, >= 1.
        left, right: zeros before and behind the wave, in samples; negative ones of `right` cut samples off.
    Shape:
        Returns [..., frames, n_fft], contiguous, with 1 + (left + samples + right - n_fft) // hop_length frames, or none.

    >>> import torch
    >>> frame(torch.tensor([1.0, 2.0, 3.0]), torch.ones(2), 2, left=1)
    tensor([[0., 1.],
            [2., 3.]])
    """
    return reference.frame(wave, window, hop_length, left, right)


def overlap_add(frames: Tensor, window: Tensor, hop_length: int, *, left: int = 0, samples: int) -> Tensor:
    """Frames, each times the window, added up where they lie in the signal: the adjoint of `frame`.

    x[s] = sum_t w[n] F[t, n],  n = s + left - t hop_length

    Args:
        frames: [..., frames, n_fft], float32 or float64.
        window: [n_fft], of the frames' dtype; gradients flow to it, too.
        hop_length: samples from one frame to the next, >= 1.
        left: samples of the first frame that lie before the signal and are dropped, >= 0.
        samples: length of the result; what lies beyond is dropped, what no frame covers is 0.
    Shape:
        Returns [..., samples], contiguous.

    >>> import torch
    >>> overlap_add(torch.ones(3, 2), torch.ones(2), 1, samples=5)
    tensor([1., 2., 2., 1., 0.])
    """
    return reference.overlap_add(frames, window, hop_length, left, samples)
