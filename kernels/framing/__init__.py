"""Between a signal and its windowed frames: cut, and put together again by overlap-add, each the other's adjoint."""

import torch
from torch import Tensor

from .._dispatch import Backends
from . import reference

__all__ = ["frame", "overlap_add"]


def frame(wave: Tensor, window: Tensor, hop_length: int, *, left: int = 0, right: int = 0) -> Tensor:
    """Windowed frames of a signal that goes on as zeros beyond its ends.

    F[t, n] = w[n] x[t hop_length + n - left],  0 <= n < n_fft

    Args:
        wave: [..., samples], float32 or float64.
        window: [n_fft], of the wave's dtype; gradients flow to it, too.
        hop_length: samples from one frame to the next, >= 1.
        left, right: zeros before and behind the wave, in samples; negative ones cut samples off.
    Shape:
        Returns [..., frames, n_fft], contiguous, with 1 + (left + samples + right - n_fft) // hop_length frames, or none.

    >>> import torch
    >>> frame(torch.tensor([1.0, 2.0, 3.0]), torch.ones(2), 2, left=1)
    tensor([[0., 1.],
            [2., 3.]])
    """
    if _plain(wave, window):
        return reference.frame(wave, window, hop_length, left, right)
    return torch.ops.temporal.frame(wave, window, hop_length, left, right)


def overlap_add(frames: Tensor, window: Tensor, hop_length: int, *, left: int = 0, samples: int) -> Tensor:
    """Frames, each times the window, added up where they lie in the signal: the adjoint of `frame`.

    x[s] = sum_t w[n] F[t, n],  n = s + left - t hop_length

    Args:
        frames: [..., frames, n_fft], float32 or float64.
        window: [n_fft], of the frames' dtype; gradients flow to it, too.
        hop_length: samples from one frame to the next, >= 1.
        left: samples of the first frame that lie before the signal and are dropped; negative ones are zeros before it.
        samples: length of the result; what lies beyond is dropped, what no frame covers is 0.
    Shape:
        Returns [..., samples], contiguous.

    >>> import torch
    >>> overlap_add(torch.ones(3, 2), torch.ones(2), 1, samples=5)
    tensor([1., 2., 2., 1., 0.])
    """
    if _plain(frames, window):
        return reference.overlap_add(frames, window, hop_length, left, samples)
    return torch.ops.temporal.overlap_add(frames, window, hop_length, left, samples)


def _cpu_refuses(x: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"needs a CPU tensor, the signal is on {x.device}"
    return None if x.dtype == torch.float32 else f"computes in float32, the signal is {x.dtype}"


_BACKENDS = Backends("framing", __name__, cpu=_cpu_refuses, reference=lambda x: None)


def _plain(x: Tensor, window: Tensor) -> bool:
    """Whether plain torch is taken: other devices and dtypes, an exported program, a window that learns."""
    learned = window.requires_grad and torch.is_grad_enabled()
    return learned or _cpu_refuses(x) is not None or torch.compiler.is_exporting()


def _frame(wave: Tensor, window: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    return _BACKENDS.choose(wave).frame(wave, window, hop_length, left, right)


def _overlap_add(frames: Tensor, window: Tensor, hop_length: int, left: int, samples: int) -> Tensor:
    return _BACKENDS.choose(frames).overlap_add(frames, window, hop_length, left, samples)


def _frame_shape(wave, window, hop_length, left, right):
    n_fft = window.shape[0]
    frames = 1 + (left + wave.shape[-1] + right - n_fft) // hop_length
    return wave.new_empty((*wave.shape[:-1], frames if frames > 0 else 0, n_fft))


def _overlap_add_shape(frames, window, hop_length, left, samples):
    return frames.new_empty((*frames.shape[:-2], samples))


def _keep_frame(ctx, inputs, output):
    wave, window, ctx.hop_length, ctx.left, _ = inputs
    ctx.samples = wave.shape[-1]
    ctx.save_for_backward(window)


def _frame_backward(ctx, grad):
    (window,) = ctx.saved_tensors
    return overlap_add(grad, window, ctx.hop_length, left=ctx.left, samples=ctx.samples), None, None, None, None


def _keep_overlap_add(ctx, inputs, output):
    frames, window, ctx.hop_length, ctx.left, samples = inputs
    ctx.right = (frames.shape[-2] - 1) * ctx.hop_length + window.shape[0] - ctx.left - samples
    ctx.save_for_backward(window)


def _overlap_add_backward(ctx, grad):
    (window,) = ctx.saved_tensors
    return frame(grad, window, ctx.hop_length, left=ctx.left, right=ctx.right), None, None, None, None


_LIBRARY = torch.library.Library("temporal", "FRAGMENT")  # the operators live as long as this
for _name, _last, _run, _shape, _backward, _keep in (
    ("frame", "right", _frame, _frame_shape, _frame_backward, _keep_frame),
    ("overlap_add", "samples", _overlap_add, _overlap_add_shape, _overlap_add_backward, _keep_overlap_add),
):
    _LIBRARY.define(
        f"{_name}(Tensor signal, Tensor window, int hop_length, SymInt left, SymInt {_last}) -> Tensor",
        tags=(torch.Tag.pt2_compliant_tag,),
    )
    _LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"temporal::{_name}", _shape, lib=_LIBRARY)
    torch.library.register_autograd(f"temporal::{_name}", _backward, setup_context=_keep, lib=_LIBRARY)
