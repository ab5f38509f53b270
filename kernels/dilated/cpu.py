"""Causal convolutions on the CPU: depthwise ones compiled by numba, dense ones by oneDNN, channels last.

Depthwise ones of very long kernels are products of spectra, by a rule: `frequency.pays`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .._memory import empty, workspace
from .._threads import share
from . import _dense, frequency, reference
from ._activations import KINDS, activate, differentiated, flat, kernel
from ._little import convolve as convolve_little
from ._little import pays as little
from ._vectors import LANES, ROWS

__all__ = ["backward", "convolve_little", "forward", "little", "step"]

_GRAIN = 1 << 16  # products that pay for waking a thread (about 10 microseconds)
_PACKED = 12  # taps from which phases are packed: where that was faster, see benchmarks/RESULTS.md
_CACHE = 1 << 19  # bytes: half of a usual second-level cache
_BLOCK = 64  # rows of inputs and gradients that are read again for every eight taps, from the second-level cache
_STEP = 1 << 15  # products of a dense step up to which one serial loop is faster than the library's threads
_STATE = 1 << 14  # numbers of a state up to which a copy of it is faster than a call
_MOST = 4  # vectors that are packed at a time: 256 bytes that lie together


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``reference.convolve``, and with ``keep`` what was before an activation whose gradient is not seen in its result."""
    kind, stride = KINDS[activation], dilation * x.shape[1]
    keep = keep and kind > 1
    if frequency.pays(x, weight, history is not None, dilation, groups):
        taps, before = _that_meet(weight, history, x, dilation)
        z = frequency.convolve(x, taps, bias, before, dilation)
        if z.isfinite().all():  # else what is not would have spread over its block
            y = z if not kind else reference.ACTIVATIONS[activation](z)
            return y, z if keep else y.new_empty(0)
    if x.dtype == torch.float64:
        return reference.forward(x, weight, bias, history, dilation, groups, activation, keep)
    weight, history = _that_meet(weight, history, x, dilation)
    if groups == 1:
        y, z = _dense.convolve(x, weight, bias, history, stride, keep, kind)
    else:
        y = empty(x.shape, torch.float32)
        z = empty(x.shape, torch.float32) if keep else y
        _depthwise(x, weight, bias, history, stride, z, y, kind)
    return y, z if keep else y.new_empty(0)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, history: Tensor | None, kept: Tensor, dilation: int, groups: int,
    activation: str, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """Gradients for x, weight, bias and history: those that ``needs`` asks for, the others empty."""
    for_x, for_weight, for_bias, for_history = needs
    stride, kind, taps = dilation * x.shape[1], KINDS[activation], weight.shape[2]
    grad = grad.contiguous()
    double, none = x.dtype == torch.float64, grad.new_empty(0)
    spectral = frequency.pays(x, weight, history is not None, dilation, groups) and bool(
        grad.isfinite().all() and x.isfinite().all() and (history is None or history.isfinite().all())
    )
    if double and not spectral:
        return reference.backward(grad, x, weight, history, kept, dilation, groups, activation, needs)
    if kind:
        grad = reference.undo(grad, kept, activation) if double else differentiated(grad, kept, kind)
    results = [none, none, grad.sum((0, 1)) if for_bias else none, none]
    if spectral:
        return _spectral(grad, x, weight, history, dilation, needs, results)
    if for_history and history is not None:  # it is input, too
        past = history.shape[0]
        of_all = _input_gradient(grad, weight, stride, groups, past)
        results[0], results[3] = of_all[past:].clone() if for_x else none, of_all[:past].clone()
    elif for_x:
        results[0] = _input_gradient(grad, _that_meet(weight, None, x, dilation)[0], stride, groups, 0)
    if for_weight:
        met, history = _that_meet(weight, history, x, dilation)
        of_weight = _depthwise_weight if groups > 1 else _dense.weight_gradient
        found = of_weight(grad, x, history, stride, met.shape)
        results[1] = torch.nn.functional.pad(found, (taps - met.shape[2], 0))
    return results


def _spectral(
    grad: Tensor, x: Tensor, weight: Tensor, history: Tensor | None, dilation: int, needs: Sequence[bool],
    results: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    """``results``, of which that for the bias is there, by products of spectra."""
    met, before = _that_meet(weight, history, x, dilation)
    past = (met.shape[2] - 1) * dilation
    of_all, of_weight = frequency.backward(grad, x, met, before, dilation, needs[0] or needs[3], needs[1])
    if of_all is not None:
        if needs[0]:
            results[0] = of_all[past:].clone()
        if needs[3]:
            results[3] = of_all[:past].clone()
    if of_weight is not None:
        results[1] = torch.nn.functional.pad(of_weight, (weight.shape[2] - met.shape[2], 0))
    return results


def step(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> tuple[Tensor, Tensor]:
    """One step, and the history behind it."""
    (_, batch, inputs), (outputs, _, count) = x.shape, weight.shape
    past, depthwise = (count - 1) * dilation, groups > 1
    if history is None and past:
        history = x.new_zeros(past, batch, inputs)
    x, weight = x.contiguous(), weight.contiguous()
    if history is not None:
        history = history.contiguous()
    if not depthwise and batch * weight.numel() > _STEP:
        line = x if history is None else torch.cat([history, x])
        met = line.as_strided((batch, inputs, count), (inputs, 1, dilation * batch * inputs), line.storage_offset())
        y = torch.nn.functional.linear(met.reshape(batch, -1), weight.view(outputs, -1), bias).unsqueeze(0)
        activate(y, y, KINDS[activation])
        return y, line[1:]
    y, small = torch.empty(1, batch, outputs), past * batch * inputs <= _STATE
    if history is None:
        after, addresses = x[1:].clone(), (0, 0)
    elif small:
        after = torch.empty(past, batch, inputs)
        addresses = history.data_ptr(), after.data_ptr()
    else:
        after, addresses = torch.cat([history[1:], x]), (history.data_ptr(), 0)
    kernel("step")(
        x.data_ptr(), addresses[0], weight.data_ptr(), 0 if bias is None else bias.contiguous().data_ptr(), y.data_ptr(),
        addresses[1], past, count, dilation, batch, inputs, outputs, depthwise, KINDS[activation],
    )  # fmt: skip
    return y, after


def _that_meet(weight: Tensor, history: Tensor | None, x: Tensor, dilation: int) -> tuple[Tensor, Tensor | None]:
    """The taps that meet an input, all of them where there is a history."""
    if history is not None and history.numel():
        return weight, history
    most = max(1, -(-x.shape[0] // dilation))
    return weight[:, :, -most:], None


def _input_gradient(grad: Tensor, weight: Tensor, stride: int, groups: int, past: int) -> Tensor:
    """The gradient for x, behind those of ``past`` steps before it: the convolution backwards of the outputs' gradients."""
    if groups == 1:
        return _dense.input_gradient(grad, weight, stride, past)
    if past:  # as if the outputs of these steps had gradients of 0
        grad = torch.cat([grad.new_zeros(past, *grad.shape[1:]), grad])
    out = empty(grad.shape, torch.float32)
    _depthwise(grad, weight, None, None, stride, out, out, 0, backwards=True)
    return out


def _depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, stride: int, z: Tensor, y: Tensor, kind: int,
    backwards: bool = False,
) -> None:  # fmt: skip
    """Fills ``z``, before the activation, and ``y``, behind it."""
    channels, count, total = weight.shape[0], weight.shape[2], x.shape[0] * x.shape[1]
    if channels < LANES:  # whole vectors only
        past, start = (None if t is None else _widened(t) for t in (history, bias))
        out = empty((*x.shape[:2], LANES), torch.float32)
        before = out if z is y else empty(out.shape, torch.float32)
        taps = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, LANES - channels))
        _depthwise(_widened(x), taps, start, past, stride, before, out, kind, backwards)
        y.copy_(out[..., :channels])
        if z is not y:
            z.copy_(before[..., :channels])
        return
    sums = np.zeros(channels, np.float32) if bias is None else flat(bias)
    arguments = (flat(x), flat(history), flat(weight[:, 0].t()), sums, count, stride, channels, kind, backwards)
    results, phases, vectors = (flat(z), flat(y)), -(-total // stride), -(-channels // LANES)
    early = min(total, (count - 1) * stride)
    # Windows begin behind the rows that look back before the first: where these are many, phases are packed.
    if _packs(count, phases) and 4 * early > total:
        piece = _piece(count + phases, vectors)
        run, size = kernel("packed"), (8 + piece * (2 * count + phases)) * LANES

        def task(first: int, stop: int) -> None:
            with workspace(size) as (work,):
                run(*arguments, *results, z is not y, total, piece, work, first, stop)

        share(task, -(-vectors // piece) * min(stride, total), max(1, _GRAIN // (count * phases * LANES * piece)))
        return
    # Row after row; and of many taps, ROWS rows of a phase at a time where all taps meet an input.
    by_rows, grain = kernel("rows"), max(1, _GRAIN // (count * channels))
    blocks = (total - early) // (ROWS * stride) if count >= ROWS else 0
    behind = early + blocks * ROWS * stride
    for begin, end in ((0, early), (behind, total)) if blocks else ((0, total),):
        share(lambda n, stop, b=begin: by_rows(*arguments, *results, total, b + n, b + stop), end - begin, grain)  # type: ignore[misc]
    if blocks:
        in_windows, given = kernel("windows"), (arguments[0], *arguments[2:])
        share(lambda n, stop: in_windows(*given, *results, total, n, stop), blocks * stride, max(1, grain // ROWS))


def _depthwise_weight(grad: Tensor, x: Tensor, history: Tensor | None, stride: int, shape: torch.Size) -> Tensor:
    channels, count, total = shape[0], shape[2], x.shape[0] * x.shape[1]
    if channels < LANES:
        past = None if history is None else _widened(history)
        return _depthwise_weight(_widened(grad), _widened(x), past, stride, torch.Size((LANES, 1, count)))[:channels]
    out = torch.empty(count, channels)
    vectors, phases = -(-channels // LANES), -(-total // stride)
    if _packs(count, phases):
        piece = _piece(count + 2 * phases, vectors)
        run, size, length, units = (
            kernel("packed_weight"),
            piece * (2 * count + 2 * phases),
            piece,
            -(-vectors // piece),
        )
    else:
        run, size, length, units = kernel("rows_weight"), vectors * count, _BLOCK, vectors
    arguments = (flat(grad), flat(x), flat(history), count, stride, channels, length, flat(out))

    def task(first: int, stop: int) -> None:
        with workspace(size * LANES) as (work,):
            run(*arguments, total, work, first, stop)

    share(task, units, max(1, _GRAIN * units // (count * total * channels)))
    return out.t().contiguous().unsqueeze(1)


def _packs(count: int, phases: int) -> bool:
    """Whether phases are packed, by measurement: for many taps over enough rows."""
    return count >= _PACKED and phases >= 8


def _piece(rows: int, vectors: int) -> int:
    """So many vectors at a time that so many rows of them find room in the second-level cache, and at most a few."""
    return max(1, min(vectors, _MOST, _CACHE // (rows * LANES * 4)))


def _widened(x: Tensor) -> Tensor:
    """Channels up to a whole vector, of zeros."""
    return torch.nn.functional.pad(x, (0, LANES - x.shape[-1]))
