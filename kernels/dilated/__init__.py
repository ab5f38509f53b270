"""Causal dilated convolution over time, depthwise, dense or in groups, with its bias and activation in one operator."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .._dispatch import Backends
from . import frequency, reference
from .reference import ACTIVATIONS, BY_RESULT

__all__ = ["ACTIVATIONS", "causal_conv", "causal_conv_stream", "later"]


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilation: int = 1,
    groups: int = 1,
    activation: str = "none",
    history: Tensor | None = None,
) -> Tensor:
    """Convolution over time that sees no future; the weights mean what they mean in `torch.nn.functional.conv1d`.

    y[t] = activation(b + sum_k w[:, :, k] x[t - (K - 1 - k) dilation])

    Depthwise and dense kernels are ours, on a CPU and on a GPU; what else there is takes cuDNN, or torch's own. On a CPU
    depthwise ones of some 500 taps and more (in float64 some 50) are computed by Fourier transforms where that is faster;
    `temporal.kernels.use("reference")` has nothing of it. On a GPU dense float32 is TF32 where torch lets cuDNN use it. All
    tensors have one dtype: autocast is the caller's business.

    Args:
        x: [T, B, I], time first.
        weight: [O, I / groups, K]; the last tap meets the present.
        bias: [O], or None.
        dilation: steps from tap to tap, >= 1.
        groups: into which channels are divided, as in `conv1d`; I (= O): depthwise.
        activation: one of `ACTIVATIONS`: "none", "relu", "gelu" (the exact one), "silu", "tanh".
        history: [(K - 1) dilation, B, I], what came before x, oldest first, or None for silence. Gradients flow to it, too.
    Shape:
        Returns [T, B, O].
    Raises:
        ValueError: shapes that do not fit together, an unknown activation.
        TypeError: tensors of different dtypes or on different devices.

    >>> import torch
    >>> causal_conv(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), torch.tensor([[[10.0, 1.0]]]), dilation=2).flatten()
    tensor([ 1.,  2., 13.])
    """
    given = (x, weight, bias, history)
    _check(*given, dilation, groups, activation)
    rest = (dilation, groups, activation)
    if torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active():
        return reference.convolve(*given, *rest)
    learns = _learns(*given)
    if torch.compiler.is_compiling():
        # On a GPU the compiler fuses torch's own operations by itself.
        if x.dtype != torch.float32 or _cpu_refuses(x, weight, history, dilation, groups):
            return reference.convolve(*given, *rest)
        return torch.ops.temporal.causal_conv(*given, *rest, learns)[0]
    backend = _BACKENDS.choose(x, weight, history, dilation, groups)
    if backend is reference:
        return reference.convolve(*given, *rest)
    if type(x) not in (Tensor, torch.nn.Parameter):
        return torch.ops.temporal.causal_conv(*given, *rest, learns)[0]
    # Little work takes less time than an operator's way there.
    if x.device.type == "cpu" and backend.little(x, weight, groups, activation):
        return backend.convolve_little(*given, *rest)
    return _Eager.apply(*given, *rest) if learns else backend.forward(*given, *rest, False)[0]


def causal_conv_stream(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilation: int = 1,
    groups: int = 1,
    activation: str = "none",
    history: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A part of a stream: `causal_conv`, and the history with which the next part goes on.

    One step at a time takes the time of a few calls of torch.

    Args: as of `causal_conv`.
    Shape:
        Returns (y [T, B, O], history [(K - 1) dilation, B, I]).
    Raises: as `causal_conv`.

    >>> import torch
    >>> weight, history = torch.tensor([[[10.0, 1.0]]]), None
    >>> for x in torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1):
    ...     y, history = causal_conv_stream(x, weight, dilation=2, history=history)
    >>> y.item(), history.flatten()
    (13.0, tensor([2., 3.]))
    """
    given, rest = (x, weight, bias, history), (dilation, groups, activation)
    if x.ndim == 3 and x.shape[0] == 1 and type(x) is Tensor and not _transformed() and not _learns(*given):
        _check(*given, *rest)
        backend = _BACKENDS.choose(x, weight, history, dilation, groups)
        if backend is not reference and x.device.type == "cpu" and x.dtype == torch.float32:
            return backend.step(*given, *rest)
    y = causal_conv(x, weight, bias, dilation=dilation, groups=groups, activation=activation, history=history)
    return y, later(x, history, (weight.shape[2] - 1) * dilation)


def later(x: Tensor, history: Tensor | None, past: int) -> Tensor:
    """The last ``past`` inputs: a copy, so that a state kept between chunks does not keep the chunk."""
    steps = x.shape[0]
    if steps >= past:
        return x[steps - past :].clone()  # not x[-past:], which would be everything where past is 0
    if history is None:
        return torch.nn.functional.pad(x, (0, 0, 0, 0, past - steps, 0))
    return torch.cat([history[steps:], x])


def _learns(*given: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)


def _transformed() -> bool:
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()


def _check(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> None:
    """Compiled loops look at no bounds. All at once first, since this is on the way of every step of a stream."""
    if activation in ACTIVATIONS and x.ndim == 3 and weight.ndim == 3 and dilation > 0 and groups > 0:
        (_, batch, inputs), (outputs, of_group, taps), dtype, device = x.shape, weight.shape, x.dtype, x.device
        if (
            taps > 0 < of_group
            and of_group * groups == inputs
            and outputs > 0 == outputs % groups
            and (bias is None or bias.shape == (outputs,))
            and (history is None or history.shape == ((taps - 1) * dilation, batch, inputs))
            and all(t is None or (t.dtype is dtype and t.device == device) for t in (weight, bias, history))
        ):
            return
    _explain(x, weight, bias, history, dilation, groups, activation)


def _explain(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> None:
    """Say what is wrong."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"causal_conv: activation={activation!r} is not one of {', '.join(map(repr, ACTIVATIONS))}")
    if x.dim() != 3 or weight.dim() != 3 or weight.shape[2] < 1:
        shapes = f"{list(x.shape)} and {list(weight.shape)}"
        raise ValueError(
            f"causal_conv: x and weight have shapes {shapes}; right are [T, B, I] and [O, I / groups, K >= 1]"
        )
    (_, batch, inputs), (outputs, of_group, taps) = x.shape, weight.shape
    if dilation < 1 or groups < 1:
        raise ValueError(f"causal_conv: dilation={dilation}, groups={groups}: both are at least 1")
    if of_group * groups != inputs or outputs % groups or not of_group or not outputs:
        raise ValueError(
            f"causal_conv: weight has shape {list(weight.shape)}, which does not fit x of {inputs} channels in "
            f"groups={groups}: [O, {inputs}/{groups}, K] with O a multiple of {groups} is right"
        )
    past = ((taps - 1) * dilation, batch, inputs)
    for name, tensor, shape in (("bias", bias, (outputs,)), ("history", history, past)):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"causal_conv: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    for name, tensor in (("weight", weight), ("bias", bias), ("history", history)):
        if tensor is not None and (tensor.dtype != x.dtype or tensor.device != x.device):
            raise TypeError(
                f"causal_conv: {name} is {tensor.dtype} on {tensor.device}, x is {x.dtype} on {x.device}: they must agree"
            )


def _cpu_refuses(x: Tensor, weight: Tensor, history: Tensor | None, dilation: int, groups: int) -> str | None:
    if x.device.type != "cpu":
        return f"needs a CPU tensor, x is on {x.device}"
    if x.dtype != torch.float32:
        if x.dtype == torch.float64 and frequency.pays(x, weight, history is not None, dilation, groups):
            return None
        return f"computes in float32, and in float64 very long depthwise kernels, x is {x.dtype}"
    if groups > 1 and not weight.shape[0] == x.shape[2] == groups:
        return f"has dense and depthwise kernels, not {groups} groups of {x.shape[2]} channels into {weight.shape[0]}"
    return "has nothing to compute" if not x.numel() else None


def _cuda_refuses(x: Tensor, weight: Tensor, history: Tensor | None, dilation: int, groups: int) -> str | None:
    if x.device.type != "cuda":
        return f"needs a CUDA tensor, x is on {x.device}"
    if x.dtype == torch.float64:
        return "computes in float32, x is float64"
    if groups > 1 and not weight.shape[0] == x.shape[2] == groups:
        return f"has dense and depthwise kernels, not {groups} groups of {x.shape[2]} channels into {weight.shape[0]}"
    if not x.numel() or x.shape[0] * x.shape[1] >= 1 << 31:
        return "has nothing to compute, or more rows than it can count"
    return None if find_spec("triton") else "needs the package triton, which is not installed"


_BACKENDS = Backends("causal_conv", __name__, cuda=_cuda_refuses, cpu=_cpu_refuses, reference=lambda *request: None)


def _forward(x, weight, bias, history, dilation, groups, activation, keep):
    backend = _BACKENDS.choose(x, weight, history, dilation, groups)
    return backend.forward(x, weight, bias, history, dilation, groups, activation, keep)


def _shapes(x, weight, bias, history, dilation, groups, activation, keep):
    y = x.new_empty((*x.shape[:2], weight.shape[0]))
    return y, x.new_empty(y.shape if keep and activation not in BY_RESULT else 0)


def _backward(grad, x, weight, bias, history, kept, dilation, groups, activation, needs):
    backend = _BACKENDS.choose(x, weight, history, dilation, groups)
    return backend.backward(grad, x, weight, history, kept, dilation, groups, activation, needs)


def _backward_shapes(grad, x, weight, bias, history, kept, dilation, groups, activation, needs):
    given = (x, weight, bias, history)
    return [x.new_empty(t.shape if n else 0) for t, n in zip(given, needs, strict=True)]


def _keep(ctx, inputs, output):
    *tensors, dilation, groups, activation, keep = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[activation != "relu"])
    ctx.rest, ctx.keep = (dilation, groups, activation), keep


def _differentiate(ctx, grad, grad_kept):
    if grad is None:
        return (None,) * 8
    if not ctx.keep:
        raise RuntimeError("temporal::causal_conv: keep=False keeps nothing for a backward pass; give keep=True")
    needs = ctx.needs_input_grad[:4]
    results = torch.ops.temporal.causal_conv_backward(grad, *ctx.saved_tensors, *ctx.rest, needs)
    return *(r if n else None for r, n in zip(results, needs, strict=True)), *[None] * 4


class _Eager(torch.autograd.Function):
    """The operator without its dispatch, which takes up to 300 microseconds a pass."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, weight, bias, history, dilation, groups, activation = inputs
        y, kept = _forward(x, weight, bias, history, dilation, groups, activation, True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, history, y if activation == "relu" else kept)
        ctx.rest, ctx.keep = (dilation, groups, activation), True
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if grads[0] is None or torch.is_grad_enabled():  # whose own gradient the operator refuses
            return _differentiate(ctx, grads[0], None)[:7]
        needs = ctx.needs_input_grad[:4]
        (x, weight, bias, history, kept), (dilation, groups, activation) = ctx.saved_tensors, ctx.rest
        results = _backward(grads[0], x, weight, bias, history, kept, dilation, groups, activation, needs)
        return *(r if n else None for r, n in zip(results, needs, strict=True)), None, None, None


def _refuse(ctx, *grads):
    raise RuntimeError(
        "causal_conv: no second derivatives here; use temporal.kernels.use('reference'), or float64 and a shorter kernel"
    )


_LIBRARY = torch.library.Library("temporal", "FRAGMENT")  # the operators live as long as this
_GIVEN, _REST = "Tensor x, Tensor weight, Tensor? bias, Tensor? history", "int dilation, int groups, str activation"
for _name, _schema, _run, _fake, _gradient, _keeps in (
    ("causal_conv", f"({_GIVEN}, {_REST}, bool keep) -> (Tensor, Tensor)", _forward, _shapes, _differentiate, _keep),
    (
        "causal_conv_backward",
        f"(Tensor grad, {_GIVEN}, Tensor kept, {_REST}, bool[] needs) -> Tensor[]",
        _backward,
        _backward_shapes,
        _refuse,
        None,
    ),
):
    _LIBRARY.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"temporal::{_name}", _fake, lib=_LIBRARY)
    torch.library.register_autograd(f"temporal::{_name}", _gradient, setup_context=_keeps, lib=_LIBRARY)
