"""Dense causal convolutions as matrix products on [R, channels], R = T B rows: each tap is one, of rows that lie as they are.

A block of rows takes all its taps while its sums are in a cache. 2 R I O K operations, less what taps would do to zeros.
"""

import torch
from torch import Tensor

from ._activations import activate

__all__ = ["convolve", "input_gradient", "weight_gradient"]

_BLOCK = 1 << 17  # numbers of a block of outputs, in the second-level cache


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, stride: int, z: Tensor, y: Tensor, kind: int
) -> None:
    """Fills ``z``, before the activation, and ``y``, behind it."""
    taps = weight.detach().permute(2, 1, 0).contiguous()
    rows, past, sums = _rows(x), None if history is None else _rows(history), z.view(-1, z.shape[-1])
    block = max(64, _BLOCK // sums.shape[1])
    for first in range(0, len(sums), block):
        part = sums[first : first + block]
        stop = first + len(part)
        if bias is None:
            part.zero_()
        else:
            part.copy_(bias.detach().expand_as(part))
        for k, tap in enumerate(taps):
            lag = (len(taps) - 1 - k) * stride
            low = min(max(first, lag), stop)
            if low < stop:
                part[low - first :].addmm_(rows[low - lag : stop - lag], tap)
            if past is not None and first < low:
                part[: low - first].addmm_(past[first + k * stride : low + k * stride], tap)
        activate(part, y.view(-1, y.shape[-1])[first:stop], kind)


def input_gradient(grad: Tensor, weight: Tensor, stride: int, out: Tensor) -> None:
    """Fills ``out`` with the convolution backwards of the outputs' gradients."""
    taps = weight.detach().permute(2, 0, 1).contiguous()
    rows, sums = _rows(grad), out.view(-1, out.shape[-1])
    block = max(64, _BLOCK // sums.shape[1])
    for first in range(0, len(sums), block):
        part = sums[first : first + block].zero_()
        for k, tap in enumerate(taps):
            ahead = rows[first + (len(taps) - 1 - k) * stride :][: len(part)]
            part[: len(ahead)].addmm_(ahead, tap)


def weight_gradient(grad: Tensor, x: Tensor, history: Tensor | None, stride: int, shape: torch.Size) -> Tensor:
    """The gradient for a weight of that shape."""
    count = shape[2]
    rows, of, past = _rows(grad), _rows(x), None if history is None else _rows(history)
    out = rows.new_empty(count, shape[0], shape[1])
    for k in range(count):
        lag = min((count - 1 - k) * stride, len(rows))
        torch.mm(rows[lag:].t(), of[: len(rows) - lag], out=out[k])
        if past is not None and lag:
            out[k].addmm_(rows[:lag].t(), past[k * stride : k * stride + lag])
    return out.permute(1, 2, 0).contiguous()


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1])
