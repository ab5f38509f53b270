"""The operator of axons and dendrites with delays of their own: each neuron's signal, spread over its own lags."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from .._dispatch import Backends
from . import reference
from ._register import Pass, register

__all__ = ["shifted"]


def shifted(history: Tensor, share: Tensor, bias: Tensor | None = None) -> Tensor:
    """`reference.delayed_shift`, by the fastest backend; torch differentiates `share`, which is small, by itself.

    Shape:
        history: [max_delay + T, B, N].  share: [N, max_delay + 1].  bias: [N].  Returns [T, B, N].
    """
    # What is exported or transformed by functorch consists of torch's own operations.
    plain = torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()
    nothing = history.shape[0] < share.shape[1] or not history.shape[1] * history.shape[2]
    if plain or nothing or _refused(history, share):
        return reference.delayed_shift(history, share, bias)
    z = torch.ops.temporal.delayed_shift(history, share)
    return z if bias is None else z + bias.to(z.dtype)


def _refused(history: Tensor, share: Tensor) -> bool:
    if torch.compiler.is_compiling():  # which does not follow the import of a backend: `_forward` chooses
        unlike = _unlike_a_gpu if history.device.type == "cuda" else _cpu_refuses
        return unlike(history, share) is not None
    return _BACKENDS.choose(history, share) is reference


def _forward(history, share):
    ours = _kernels(history, share)
    return reference.delayed_shift(history, share) if ours is None else ours[0](history, share)


def _backward(grad, history, share, needs):
    ours = _kernels(history, share)
    if ours is not None:
        return ours[1](grad, history, share, tuple(needs))
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (history, share)]
        found = torch.autograd.grad(reference.delayed_shift(*leaves), leaves, grad)
    return tuple(f.contiguous() if needed else f.new_empty(0) for f, needed in zip(found, needs, strict=True))


def _kernels(history: Tensor, share: Tensor) -> tuple[Callable, Callable] | None:
    """Forward and backward of the backend that runs; None is torch's own."""
    backend = _BACKENDS.choose(history, share)
    if backend is reference:
        return None
    if hasattr(backend, "shift"):
        return backend.shift, backend.shift_backward
    from . import _late  # the CPU's

    return _late.forward, _late.backward


def _cpu_refuses(history, share) -> str | None:
    if history.device.type != "cpu":
        return f"needs a CPU tensor, the history is on {history.device}"
    if torch.is_autocast_enabled("cpu"):
        return "leaves autocast to torch's convolution"
    if history.dtype != torch.float32 or share.dtype != torch.float32:
        return f"computes in float32, not {history.dtype} with shares in {share.dtype}"
    return None


def _cuda_refuses(history, share) -> str | None:
    reason = _unlike_a_gpu(history, share)
    if reason is not None:
        return reason
    return None if find_spec("triton") else "needs the package triton, which is not installed"


def _unlike_a_gpu(history, share) -> str | None:
    if history.device.type != "cuda":
        return f"needs a CUDA tensor, the history is on {history.device}"
    if torch.is_autocast_enabled("cuda"):
        return "leaves autocast to torch's convolution"
    if history.dtype != torch.float32 or share.dtype != torch.float32:
        return f"computes in float32, not {history.dtype} with shares in {share.dtype}"
    return None if history.shape[0] * history.shape[1] < 1 << 30 else "cannot count so many rows"


_BACKENDS = Backends(
    "delays of neurons", __package__, cuda=_cuda_refuses, cpu=_cpu_refuses, reference=lambda *given: None
)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad):
    found = torch.ops.temporal.delayed_shift_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad)
    return tuple(g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=True))


def _refuse(ctx, *grads):
    raise RuntimeError("delays of neurons: no second derivatives here; use temporal.kernels.use('reference')")


def _shape(history, share):
    return history.new_empty(history.shape[0] - share.shape[1] + 1, *history.shape[1:])


def _shapes(grad, history, share, needs: Sequence[bool]):
    return tuple(
        torch.empty_like(tensor, memory_format=torch.contiguous_format) if needed else tensor.new_empty(0)
        for tensor, needed in zip((history, share), needs, strict=True)
    )


_LIBRARY = register(  # the operators live as long as this
    "delayed_shift",
    "Tensor history, Tensor share",
    2,
    Pass(_forward, _shape, _differentiate, _keep),
    Pass(_backward, _shapes, _refuse),
)
