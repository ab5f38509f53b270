"""Dense causal convolutions on the CPU, by the libraries' own convolutions and products on rows of channels as they lie.

[T, B, I] are R = T B rows, and a tap that looks back by some steps looks back by ``stride`` = dilation B rows for each.
2 R I O K operations each way, without turning anything around:

- image: the rows are an image with its channels last, oneDNN's fastest layout. Of lines as wide as some divisor of the
  stride, so that taps lie below each other: then oneDNN leaves out what lies above the image, the zeros before the first
  step, and gives each thread lines of its own.
- columns: what the taps of an output meet is laid side by side, and one product does the rest.
- the gradient of the weights is a product for each tap, of those rows alone that it meets.

The rule, measured with 16 to 256 channels, 3 to 31 taps, one and two threads: columns where they are few, since calls and
not operations take the time then, and for up to four channels; else the image.
"""

from collections.abc import Iterator
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

from .._memory import empty
from ._activations import activate

__all__ = ["convolve", "input_gradient", "weight_gradient"]

_COLUMNS = 1 << 18  # numbers of columns that are few; of more, a piece has four times as many
_NARROW = 4  # channels of which columns are always best
_LINE = 128  # rows of a line of the image, at most
_TURNED = 5  # taps from which the outputs' gradients are turned around once, not by each product
_SMALL, _PIECE = 1 << 14, 2048  # of a result of fewer numbers a product leaves threads idle: pieces of rows, then


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, stride: int, keep: bool, kind: int
) -> tuple[Tensor, Tensor]:
    """``y``, behind the activation, and with ``keep`` ``z``, before it; else ``y`` twice."""
    rows, before = _rows(x), None if history is None else _rows(history)
    taps, bias, past = weight.detach(), None if bias is None else bias.detach(), (weight.shape[2] - 1) * stride
    if _in_columns(len(rows), weight.shape[1], weight.shape[2]):
        z = _by_columns(_lengthened(rows, before, past, 0), taps, bias, stride)
    elif before is None:
        z = _by_image(rows, taps, bias, stride, past)[: len(rows)]
    else:
        z = _by_image(_lengthened(rows, before, past, 0), taps, bias, stride, 0)
    z = z.view(*x.shape[:2], weight.shape[0])
    y = empty(z.shape, torch.float32) if keep else z
    activate(z, y, kind)
    return y, z


def input_gradient(grad: Tensor, weight: Tensor, stride: int, past: int) -> Tensor:
    """The gradient for x, behind those of ``past`` steps before it: the convolution backwards of the outputs' gradients."""
    rows, missing = _rows(grad), past * grad.shape[1]
    outputs, inputs, count = weight.shape
    reach, backwards = (count - 1) * stride, weight.detach().flip(2).transpose(0, 1)
    if _in_columns(len(rows) + missing, outputs, count):
        out = _by_columns(_lengthened(rows, None, missing, reach), backwards, None, stride)
    else:
        out = _by_image(rows, backwards, None, stride, reach)[reach - missing :]
    return out.view(-1, grad.shape[1], inputs)


def weight_gradient(grad: Tensor, x: Tensor, history: Tensor | None, stride: int, shape: torch.Size) -> Tensor:
    """The gradient for a weight of that shape."""
    rows, of, (outputs, inputs, count) = _rows(x), _rows(grad), shape
    before = None if history is None else _rows(history)
    if _in_columns(len(rows), inputs, count):
        line, found = _lengthened(rows, before, (count - 1) * stride, 0), grad.new_zeros(outputs, count * inputs)
        for first, columns in _columns(line, count, stride):
            found.addmm_(of[first : first + len(columns)].t(), columns)
        return found.view(outputs, count, inputs).transpose(1, 2).contiguous()
    out, turned = empty((count, outputs, inputs), torch.float32), of.t()
    if count >= _TURNED:
        turned = empty(turned.shape, torch.float32).copy_(turned)
    for k in range(count):
        lag = (count - 1 - k) * stride
        met = max(0, len(of) - lag)
        _outer(turned[:, len(of) - met :], rows[:met], out[k])
        if before is not None and lag:
            early = min(lag, len(of))
            out[k].addmm_(turned[:, :early], before[k * stride : k * stride + early])
    return out.permute(1, 2, 0).contiguous()


def _outer(turned: Tensor, rows: Tensor, out: Tensor) -> None:
    """out = turned @ rows, in pieces where the library would leave threads idle."""
    pieces = len(rows) // _PIECE if out.numel() < _SMALL and torch.get_num_threads() > 1 else 0
    if pieces < 2:
        torch.mm(turned, rows, out=out)
        return
    size = len(rows) // pieces
    some = size * pieces
    lefts = turned[:, :some].unflatten(1, (pieces, size)).transpose(0, 1)
    torch.sum(torch.bmm(lefts, rows[:some].view(pieces, size, -1)), 0, out=out)
    if some < len(rows):
        out.addmm_(turned[:, some:], rows[some:])


def _in_columns(rows: int, channels: int, count: int) -> bool:
    """The rule."""
    return channels <= _NARROW or rows * channels * count <= _COLUMNS


def _by_columns(line: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """``line``: the rows, and those that they look back at before them."""
    outputs, inputs, count = weight.shape
    rows = len(line) - (count - 1) * stride
    if rows <= outputs:  # columns in the order of the weights, of which there are more
        met = line.as_strided((rows, inputs, count), (inputs, 1, stride * inputs), line.storage_offset())
        return F.linear(met.reshape(rows, -1), weight.reshape(outputs, -1), bias)
    taps = weight.permute(2, 1, 0).reshape(count * inputs, outputs)
    y = empty((rows, outputs), torch.float32)
    for first, columns in _columns(line, count, stride):
        part = y[first : first + len(columns)]
        if bias is None:
            torch.mm(columns, taps, out=part)
        else:
            torch.addmm(bias, columns, taps, out=part)
    return y


def _columns(line: Tensor, count: int, stride: int) -> Iterator[tuple[int, Tensor]]:
    """Pieces [rows, K I] of what the taps meet, each with its first row; one lies where the one before it lay."""
    channels, rows = line.shape[1], len(line) - (count - 1) * stride
    piece = min(rows, max(1, 4 * _COLUMNS // (count * channels)))
    place = empty((piece, count, channels), torch.float32)
    for first in range(0, rows, piece):
        some = min(piece, rows - first)
        at = line.storage_offset() + first * channels
        columns = place[:some].copy_(line.as_strided((some, count, channels), (channels, stride * channels, 1), at))
        yield first, columns.view(some, -1)


def _lengthened(rows: Tensor, before: Tensor | None, early: int, late: int) -> Tensor:
    """The rows behind those of the history, or as many zeros, and before some more zeros."""
    if not early and not late:
        return rows
    line = empty((early + len(rows) + late, rows.shape[1]), torch.float32)
    line[:early] = 0 if before is None else before
    line[early : early + len(rows)] = rows
    line[early + len(rows) :] = 0
    return line


def _by_image(rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """With so many rows of zeros before and behind; without them, of the outputs, too."""
    common = gcd(stride, len(rows))
    width = next(w for w in range(min(_LINE, common), 0, -1) if common % w == 0)
    if width >= 8:
        lines = stride // width  # from tap to tap
        image, taps, around, apart = _image(rows, width), weight.unsqueeze(3), (padding // width, 0), (lines, 1)
    else:  # too narrow for a vector of pixels: one line
        image, taps, around, apart = _image(rows, len(rows)), weight.unsqueeze(2), (0, padding), (1, stride)
    out = F.conv2d(image, taps, bias, padding=around, dilation=apart)
    return out.permute(0, 2, 3, 1).reshape(-1, weight.shape[0])


def _image(rows: Tensor, width: int) -> Tensor:
    """[1, channels, lines, width], channels last, which torch tells by the strides, that of the one image among them."""
    count, channels = rows.shape
    return rows.as_strided((1, channels, count // width, width), (rows.numel(), 1, width * channels, channels))


def _rows(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(-1, x.shape[-1])
