"""The operator: weights, delays and a width in, current out; its gradients in closed form; and who computes it."""

import math
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .._dispatch import Backends
from . import frequency, reference
from ._form import few_pay, form, form_on_gpu
from ._live import felt, gradients, shares, taps
from ._register import Pass, register

__all__ = ["delayed_synapses"]

_BLOCK = 1 << 21  # elements of a block's kernels over all lags


def delayed_synapses(
    history: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    width: float | None = None,
    *,
    max_delay: int,
    kernel: str,
) -> Tensor:
    """The currents of synapses with delays of their own, `delayed_product` of `delay_kernel`, without the kernel.

    Args:
        width: sigma as a number, by which the way is chosen, for a sigma on a GPU: nothing waits for a device. It may be
            larger than sigma, which costs time, but not smaller. None is sigma itself on a CPU, and infinite elsewhere.
    Shape:
        history: [max_delay + T, B, I].  weight, delay: [O, I] or [O, I, synapses].  Returns [T, B, O].
    """
    given = (history, weight, delay, sigma, width, max_delay, kernel)
    if _plain(given):
        return reference.delayed_product(history, reference.delay_kernel(weight, delay, sigma, max_delay, kernel))
    return torch.ops.temporal.delayed(*given)


def _plain(given) -> bool:
    """What is exported or transformed by functorch consists of torch's own operations."""
    if torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active():
        return True
    if torch.compiler.is_compiling() and given[0].device.type == "cuda":
        return (
            _unlike_a_gpu(*given[:4]) is not None
        )  # the compiler does not follow a search for packages: _forward chooses
    return _BACKENDS.choose(*given) is reference


def _width(sigma: Tensor, width: float | None) -> float:
    if width is not None:
        return width
    return sigma.item() if sigma.device.type == "cpu" else math.inf


def _forward(history, weight, delay, sigma, width, max_delay, kernel):
    backend = _BACKENDS.choose(history, weight, delay, sigma, width, max_delay, kernel)
    if backend is reference:
        return reference.delayed_product(history, reference.delay_kernel(weight, delay, sigma, max_delay, kernel))
    live, way, few = _way(history, weight, _width(sigma, width), max_delay, kernel, back=False)
    given = (history, weight, delay, sigma, max_delay, kernel)
    if few:
        return _events().forward(*given)
    if way == "taps":
        return backend.forward(*given, live)
    return frequency.forward(*given) if way == "frequency" else _dense_forward(*given)


def _backward(grad, history, weight, delay, sigma, width, max_delay, kernel, needs):
    packed = history.dtype == torch.uint8
    backend = _BACKENDS.choose(grad if packed else history, weight, delay, sigma, width, max_delay, kernel)
    wanted = (needs[0], any(needs[1:]))
    live, way, few = _way(history, weight, _width(sigma, width), max_delay, kernel, back=wanted[1])
    of_history, of_parameters = None, (None, None, None)
    if few and wanted[1] and backend is not reference:
        of_parameters = _events().parameters(grad.contiguous(), history, weight, delay, sigma, max_delay, kernel)
        wanted = (wanted[0], False)
    if packed and way != "frequency" and wanted[1]:
        history = history.to(grad.dtype)
    given = (grad, history, weight, delay, sigma, max_delay, kernel)
    if any(wanted):
        if way == "taps" and backend is not reference:
            found = _taps_backward(backend, given, live, wanted, needs[2])
        elif way == "frequency" and backend is not reference:
            found = frequency.backward(*given, wanted)
        else:
            found = _dense_backward(*given, wanted, needs[2])
        of_history, of_parameters = found[0], found[1] if wanted[1] else of_parameters
    # One that is not wanted has no elements: operators return tensors.
    results = (of_history, *of_parameters)
    return tuple(
        grad.new_empty(0) if found is None or not needed else found.contiguous()
        for found, needed in zip(results, needs, strict=True)
    )


def _way(history: Tensor, weight: Tensor, width: float, max_delay: int, kernel: str, back: bool):
    """The live taps; what computes; and whether the history has so few events that these compute what they can."""
    live = taps(width, max_delay, kernel)
    synapses = weight.shape[2] if weight.ndim == 3 else 1
    steps, batch, inputs = history.shape[0] - max_delay, *history.shape[1:]
    sizes = (steps, batch, inputs, weight.shape[0], synapses, max_delay, live)
    on_gpu = history.device.type == "cuda"
    if on_gpu:
        return live, form_on_gpu(*sizes), False
    compiled = weight.dtype == torch.float32
    few = compiled and history.is_contiguous() and few_pay(*sizes, partial(_density, history), back)
    return live, form(*sizes, compiled), few


def _density(history: Tensor) -> float:
    """The part that is not zero, of some steps."""
    some = history[:: max(1, len(history) // 16)]
    return int(some.count_nonzero()) / max(1, some.numel())


def _events():
    from . import _events  # numba, when used

    return _events


def _dense_forward(history, weight, delay, sigma, max_delay, kernel):
    """All lags, a block of outputs at a time."""
    parts = [
        reference.delayed_product(history, reference.delay_kernel(weight[o], delay[o], sigma, max_delay, kernel))
        for o in _blocks(weight, max_delay)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _taps_backward(backend, given, live, wanted, of_delay):
    """All of the live taps, and apart from that the parameters' gradients where a delay feels more lags than are live."""
    around = felt(live, *given[5:])
    if around == live or not of_delay:
        return backend.backward(*given, live, wanted)
    of_history = backend.backward(*given, live, (True, False))[0] if wanted[0] else None
    return of_history, backend.backward(*given, around, (False, True))[1]


def _dense_backward(grad, history, weight, delay, sigma, max_delay, kernel, wanted, of_delay):
    of_history = torch.zeros_like(history) if wanted[0] else None
    found: list[Any] = []
    for o in _blocks(weight, max_delay):
        first, share = shares(delay[o], sigma, max_delay, kernel, max_delay + 1)
        value = weight[o].unsqueeze(-1) * share
        value = value.sum(2) if weight.ndim == 3 else value
        here, of_value = reference.product_gradients(grad[:, :, o], history, value, wanted)
        if of_history is not None:
            of_history += here
        if wanted[1]:
            of_taps = of_value.unsqueeze(2) if weight.ndim == 3 else of_value
            found.append(gradients(of_taps, weight[o], delay[o], sigma, first, share, max_delay, kernel, of_delay))
    if not found:
        return of_history, (None, None, None)
    weights, delays, sigmas = zip(*found, strict=True)
    return of_history, (torch.cat(weights), torch.cat(delays), torch.stack(sigmas).sum())


def _blocks(weight: Tensor, max_delay: int) -> list[slice]:
    size = max(16, _BLOCK // max(1, weight[0].numel() * (max_delay + 1)))
    return [slice(first, first + size) for first in range(0, weight.shape[0], size)]


def _cpu_refuses(history, weight, delay, sigma, width, max_delay, kernel) -> str | None:
    if history.device.type != "cpu":
        return f"needs a CPU tensor, the history is on {history.device}"
    if len({tensor.dtype for tensor in (history, weight, delay, sigma)}) > 1:
        return "computes in one dtype"
    if torch.is_autocast_enabled("cpu"):
        return "leaves autocast to torch's convolution"
    return (
        None
        if history.dtype in (torch.float32, torch.float64)
        else f"computes in float32 or float64, not {history.dtype}"
    )


def _cuda_refuses(history, weight, delay, sigma, width, max_delay, kernel) -> str | None:
    reason = _unlike_a_gpu(history, weight, delay, sigma)
    if reason is not None:
        return reason
    return None if find_spec("triton") else "needs the package triton, which is not installed"


def _unlike_a_gpu(history, weight, delay, sigma) -> str | None:
    if history.device.type != "cuda":
        return f"needs a CUDA tensor, the history is on {history.device}"
    if any(tensor.dtype != torch.float32 for tensor in (history, weight, delay, sigma)):
        return "computes in float32"
    if torch.is_autocast_enabled("cuda"):
        return "leaves autocast to torch's convolution"
    most = max(2 * history.shape[0] * history.shape[1], 8 * weight.numel())
    return None if most < 1 << 31 else "cannot count so many rows or synapses"


_BACKENDS = Backends(
    "delayed synapses", __package__, cuda=_cuda_refuses, cpu=_cpu_refuses, reference=lambda *given: None
)


def _keep(ctx, inputs, output):
    history = inputs[0]
    # Not where a compiler or a mode looks on, whose tensors may have no numbers: what is kept depends on them.
    watched = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack()
    real = type(history) is Tensor and not watched
    if real and history.device.type == "cpu" and history.dtype == torch.float32:
        from ._kept import packed  # numba, when used

        history = packed(history)
    ctx.save_for_backward(history, *inputs[1:4])
    ctx.rest = inputs[4:]


def _differentiate(ctx, grad):
    needs = ctx.needs_input_grad[:4]
    found = torch.ops.temporal.delayed_backward(grad, *ctx.saved_tensors, *ctx.rest, needs)
    return *(g if needed else None for g, needed in zip(found, needs, strict=True)), None, None, None


def _refuse(ctx, *grads):
    raise RuntimeError("delayed synapses: no second derivatives here; use temporal.kernels.use('reference')")


def _shape(history, weight, delay, sigma, width, max_delay, kernel):
    return history.new_empty(history.shape[0] - max_delay, history.shape[1], weight.shape[0])


def _shapes(grad, history, weight, delay, sigma, width, max_delay, kernel, needs: Sequence[bool]):
    return tuple(
        torch.empty_like(tensor, memory_format=torch.contiguous_format) if needed else history.new_empty(0)
        for tensor, needed in zip((history, weight, delay, sigma), needs, strict=True)
    )


_LIBRARY = register(  # the operators live as long as this
    "delayed",
    "Tensor history, Tensor weight, Tensor delay, Tensor sigma, float? width, SymInt max_delay, str kernel",
    4,
    Pass(_forward, _shape, _differentiate, _keep),
    Pass(_backward, _shapes, _refuse),
)
