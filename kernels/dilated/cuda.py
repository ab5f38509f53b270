"""Depthwise causal convolutions on a GPU: one Triton kernel with the bias and the activation, forward and for the input's
gradient.

A program computes ROWS rows of CHANNELS channels, [T, B, C] being R = T B rows: a tap is one load of a block of rows that
lie together. Bytes from memory: input and output once, since what the taps read again is in a cache. The gradients for
taps and bias are torch's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import Launch, announce
from . import reference
from .reference import ACTIVATIONS, BY_RESULT

__all__ = ["backward", "forward", "plan"]

_KINDS = {name: number for number, name in enumerate(ACTIVATIONS)}
_ROWS, _CHANNELS = 8, 128


@triton.jit
def depthwise_kernel(
    x, history, taps, bias, z, y, total, stride, count, channels: tl.constexpr,
    KIND: tl.constexpr, BACKWARDS: tl.constexpr, PAST: tl.constexpr, BIASED: tl.constexpr, KEPT: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of CHANNELS channels; ``taps`` is [K, C]. Backwards, row n is the n-th from the end."""
    program = tl.program_id(0)
    blocks = tl.cdiv(channels, CHANNELS)
    rows = (program // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    sums = tl.zeros([ROWS, CHANNELS], tl.float32)
    if BIASED:
        sums += tl.load(bias + c, mask=there, other=0.0).to(tl.float32)[None, :]
    for k in range(count):
        seen = rows - (count - 1 - k).to(tl.int64) * stride
        places = total - 1 - seen if BACKWARDS else seen
        inside = ((seen >= 0) & (rows < total))[:, None] & there[None, :]
        value = tl.load(x + places[:, None] * channels + c[None, :], mask=inside, other=0.0).to(tl.float32)
        if PAST:
            before = seen + (count - 1).to(tl.int64) * stride
            outside = ((seen < 0) & (rows < total))[:, None] & there[None, :]
            value += tl.load(history + before[:, None] * channels + c[None, :], mask=outside, other=0.0).to(tl.float32)
        sums += tl.load(taps + k * channels + c, mask=there, other=0.0).to(tl.float32)[None, :] * value
    to = (total - 1 - rows if BACKWARDS else rows)[:, None] * channels + c[None, :]
    mask = (rows < total)[:, None] & there[None, :]
    if KEPT:
        tl.store(z + to, sums.to(z.dtype.element_ty), mask=mask)
    if KIND == 1:
        sums = tl.where(sums < 0, 0.0, sums)  # NaN stays
    elif KIND == 2:
        sums = 0.5 * sums * (1 + tl.erf(sums * 0.7071067811865476))
    elif KIND == 3:
        sums = sums * tl.sigmoid(sums)
    elif KIND == 4:
        sums = 2 * tl.sigmoid(2 * sums) - 1
    tl.store(y + to, sums.to(y.dtype.element_ty), mask=mask)


announce("the convolutions'", depthwise_kernel)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``reference.forward``."""
    y, z, launch = plan(x, weight, bias, history, dilation, activation, keep)
    launch.run(x.device)
    return y, z


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, history: Tensor | None, kept: Tensor, dilation: int, groups: int,
    activation: str, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """``reference.backward``; the gradient for x by the kernel, where none is wanted for the history."""
    if not needs[0] or needs[3]:
        return reference.backward(grad, x, weight, history, kept, dilation, groups, activation, needs)
    before = reference.undo(grad, kept, activation)
    of_x, _, launch = plan(before, weight, None, None, dilation, "none", False, backwards=True)
    launch.run(x.device)
    rest = [False, *needs[1:]]
    if not any(rest):
        return [of_x, *(grad.new_empty(0) for _ in range(3))]
    others = reference.backward(before, x, weight, history, kept, dilation, groups, "none", rest)
    return [of_x, *others[1:]]


def plan(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, activation: str, keep: bool,
    backwards: bool = False,
) -> tuple[Tensor, Tensor, Launch]:  # fmt: skip
    """The result and what is kept, still empty, and the call that fills them."""
    x, channels, total = x.contiguous(), x.shape[2], x.shape[0] * x.shape[1]
    kept = keep and activation not in BY_RESULT
    y = torch.empty_like(x)
    z = torch.empty_like(x) if kept else x.new_empty(0)
    past = history is not None and history.numel() > 0
    arguments: dict[str, Any] = {
        "x": x,
        "history": history.contiguous() if past and history is not None else x,
        "taps": weight[:, 0].t().contiguous(),
        "bias": x if bias is None else bias.contiguous(),
        "z": z if kept else y,
        "y": y,
        "total": total,
        "stride": dilation * x.shape[1],
        "count": weight.shape[2],
    }
    constants = {
        "channels": channels,  # known, so that whole rows are read and written in wide accesses
        "KIND": _KINDS[activation],
        "BACKWARDS": backwards,
        "PAST": past,
        "BIASED": bias is not None,
        "KEPT": kept,
        "ROWS": _ROWS,
        "CHANNELS": _CHANNELS,
    }
    programs = triton.cdiv(total, _ROWS) * triton.cdiv(channels, _CHANNELS)
    return y, z, Launch(depthwise_kernel, programs, arguments, constants)
