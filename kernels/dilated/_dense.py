"""Dense causal convolutions on the CPU, by oneDNN on rows of channels as they lie.

[T, B, I] is an image of one line, T B wide, with its channels last, and a kernel's taps lie dilation B columns apart: the
library's fastest layout, forward and backward, without turning anything around. 2 T B I O K operations each way, less those
with zeros before the first step, which are left out by halves and quarters where they are many.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .._memory import empty
from ._activations import activate

__all__ = ["convolve", "input_gradient", "weight_gradient"]

_BLOCK = 1 << 17  # numbers of a block of outputs that takes its activation in the second-level cache
_TAPS = 8  # of the weights' gradient at a time
_LINE = 8  # from so many samples on, the image of the weights' gradient has a line for each step
_FEW = 16  # zeros before the first step are computed with where they are at most 1/16 of the rows


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, stride: int, keep: bool, kind: int
) -> tuple[Tensor, Tensor]:
    """``y``, behind the activation, and with ``keep`` ``z``, before it; else ``y`` twice."""
    shape, count = (*x.shape[:2], weight.shape[0]), weight.shape[2]
    rows, total, past = _rows(x), x.shape[0] * x.shape[1], (count - 1) * stride
    taps, bias = weight.detach(), None if bias is None else bias.detach()
    if x.shape[0] == 1:
        z = _one_step(x, taps, bias, history, stride // x.shape[1])
        y = empty(shape, torch.float32) if keep else z
        activate(z, y, kind)
        return y, z
    edges = _edges(total, past if history is None else 0, shape[2] if kind else 0)
    if len(edges) == 2 and history is None and past * _FEW <= total:
        z = _image_conv(rows, taps, bias, stride, past)[:total].view(shape)
        y = empty(shape, torch.float32) if keep else z
        activate(z, y, kind)
        return y, z
    z = empty(shape, torch.float32)
    y = empty(shape, torch.float32) if keep else z
    before = None if history is None else _rows(history)
    for first, stop in pairwise(edges):
        met = count if before is not None else min(count, -(-stop // stride))
        window = _window(rows, before, first - (met - 1) * stride, stop)
        block = _rows(z)[first:stop].copy_(_image_conv(window, taps[:, :, count - met :], bias, stride))
        activate(block, _rows(y)[first:stop], kind)
    return y, z


def _one_step(x: Tensor, taps: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int) -> Tensor:
    """A step of a stream: one product with what the taps meet, without copying the rest of the history."""
    met = x.detach() if history is None else torch.cat([history.detach()[::dilation], x.detach()])
    columns = met.permute(1, 2, 0).reshape(x.shape[1], -1)
    return F.linear(columns, taps.reshape(len(taps), -1), bias).unsqueeze(0)


def input_gradient(grad: Tensor, weight: Tensor, stride: int, past: int) -> Tensor:
    """The gradient for x, behind those of ``past`` steps before it: the convolution backwards of the outputs' gradients."""
    backwards = weight.detach().flip(2).transpose(0, 1)
    rows, reach = _rows(grad), (weight.shape[2] - 1) * stride
    missing = past * grad.shape[1]
    total = len(rows) + missing
    edges = [total - edge for edge in reversed(_edges(total, reach, 0))]
    if len(edges) == 2 and reach * _FEW <= total:
        found = _image_conv(rows, backwards, None, stride, reach)[reach - missing :]
        return found.view(-1, grad.shape[1], weight.shape[1])
    out = empty((total, weight.shape[1]), torch.float32)
    for first, stop in pairwise(edges):
        met = min(weight.shape[2], -(-(total - first) // stride))
        window = _window(rows, None, first - missing, stop - missing + (met - 1) * stride)
        out[first:stop].copy_(_image_conv(window, backwards[:, :, :met], None, stride))
    return out.view(-1, grad.shape[1], weight.shape[1])


def weight_gradient(grad: Tensor, x: Tensor, history: Tensor | None, stride: int, shape: torch.Size) -> Tensor:
    """The gradient for a weight of that shape, some taps at a time: of many at once the library makes very slow work."""
    rows, of, batch, count = _rows(x), _rows(grad), x.shape[1], shape[2]
    before, out = None if history is None else _rows(history), grad.new_zeros(shape)
    lines = batch >= _LINE
    for tap in range(0, count, _TAPS):
        taps = min(_TAPS, count - tap)
        nearest, farthest = (count - tap - taps) * stride, (count - 1 - tap) * stride
        first = 0 if before is not None else min(nearest, len(of))  # what comes earlier meets zeros
        if first == len(of):
            continue
        window = _window(rows, before, first - farthest, len(of) - nearest)
        width, kernel, apart = (batch, (taps, 1), [stride // batch, 1]) if lines else (None, (1, taps), [1, stride])
        like = grad.new_empty(1).expand(*shape[:2], *kernel)
        _, found, _ = torch.ops.aten.convolution_backward(
            _image(of[first:], width), _image(window, width), like, None,
            [1, 1], [0, 0], apart, False, [0, 0], 1, [False, True, False],
        )  # fmt: skip
        out[:, :, tap : tap + taps] = found.view(*shape[:2], taps)
    return out


def _edges(total: int, reach: int, outputs: int) -> list[int]:
    """The blocks of rows: four where many taps meet zeros; with an activation, of ``outputs`` numbers, no longer than it."""
    parts = 4 if 4 * reach > total > 4 else 1
    if outputs:
        parts = max(parts, min(total * outputs // _BLOCK, total // max(1, 8 * reach)))
    return [total * part // parts for part in range(parts + 1)]


def _window(rows: Tensor, before: Tensor | None, first: int, stop: int) -> Tensor:
    """Rows first .. stop of the input, which goes on as zeros where there is nothing."""
    if first >= 0 and stop <= len(rows):
        return rows[first:stop]
    low, high = min(max(first, 0), len(rows)), max(0, min(stop, len(rows)))
    inner = rows[low : max(low, high)]
    if before is not None and first < 0:
        return torch.cat([before[len(before) + first : len(before) + min(stop, 0)], inner])
    window = empty((stop - first, rows.shape[1]), torch.float32)
    window[: low - first].zero_()
    window[low - first : low - first + len(inner)].copy_(inner)
    window[low - first + len(inner) :].zero_()
    return window


def _image_conv(rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int = 0) -> Tensor:
    out = F.conv2d(_image(rows), weight.unsqueeze(2), bias, padding=(0, padding), dilation=(1, stride))
    return out.permute(0, 2, 3, 1).reshape(-1, weight.shape[0])


def _image(rows: Tensor, width: int | None = None) -> Tensor:
    """[1, channels, lines, width], channels last, which torch tells by the strides, that of the one image among them."""
    count, channels = rows.shape
    width = count if width is None else width
    return rows.as_strided((1, channels, count // width, width), (rows.numel(), 1, width * channels, channels))


def _rows(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(-1, x.shape[-1])
