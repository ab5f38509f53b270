"""Causal convolutions on a GPU: one Triton kernel with the bias and the activation, forward and for the input's gradient.

Depthwise, a program computes ROWS rows of CHANNELS channels; bytes from memory: input and output once, since what the taps
read again is in a cache. Dense, it is a product of matrices on tensor cores, tap after tap, of rows as they lie: nothing is
transposed, as it is for cuDNN. The gradients for taps and bias are torch's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from .._launch import Launch, announce
from . import reference
from ._triton import dense_kernel, depthwise_kernel
from .reference import ACTIVATIONS, BY_RESULT

__all__ = ["backward", "forward", "plan", "plan_dense", "with_precision"]

_KINDS = {name: number for number, name in enumerate(ACTIVATIONS)}
_ROWS, _CHANNELS = 8, 128
_DENSE_ROWS, _MOST = 128, 128  # rows and outputs of a program's product

announce("the convolutions'", depthwise_kernel, dense_kernel)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``reference.forward``."""
    y, z, launch = (plan_dense if groups == 1 else plan)(x, weight, bias, history, dilation, activation, keep)
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
    if groups == 1:
        of_x, _, launch = plan_dense(
            before, weight.transpose(0, 1), None, None, dilation, "none", False, backwards=True
        )
    else:
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
    """Depthwise: the result and what is kept, still empty, and the call that fills them."""
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


def plan_dense(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, activation: str, keep: bool,
    backwards: bool = False,
) -> tuple[Tensor, Tensor, Launch]:  # fmt: skip
    """Dense, like `plan`. The weight is [to, from, K]; backwards with its channels transposed."""
    steps, batch, inputs = x.shape
    outputs, total = weight.shape[0], steps * batch
    before = 0 if history is None else len(history) * batch
    kept = keep and activation not in BY_RESULT
    y = x.new_empty(steps, batch, outputs)
    z = torch.empty_like(y) if kept else x.new_empty(0)
    arguments: dict[str, Any] = {
        "x": x.contiguous() if history is None else torch.cat([history, x]),
        "taps": weight.permute(2, 0, 1).contiguous(),
        "bias": x if bias is None else bias.contiguous(),
        "z": z if kept else y,
        "y": y,
        "total": total,
        "before": before,
        "stride": dilation * batch,
        "count": weight.shape[2],
    }
    constants = {
        "inputs": inputs,  # known, so that whole rows are read and written in wide accesses
        "outputs": outputs,
        "KIND": _KINDS[activation],
        "BACKWARDS": backwards,
        "BIASED": bias is not None,
        "KEPT": kept,
        "OUTPUTS": max(16, min(_MOST, triton.next_power_of_2(outputs))),
        "INPUTS": 32 if x.dtype == torch.float32 else 64,
    }
    launch = Launch(dense_kernel, 0, arguments, constants, {"num_warps": 8, "num_stages": 3})
    return y, z, with_precision(launch, _precision(x.dtype))


def with_precision(launch: Launch, precision: str) -> Launch:
    """The call of a dense convolution with float32 as "tf32" or "tf32x3", whose parts need registers for half the rows."""
    rows = _DENSE_ROWS if precision == "tf32" else _DENSE_ROWS // 2
    outputs = triton.cdiv(launch.constants["outputs"], launch.constants["OUTPUTS"])
    constants = launch.constants | {"PRECISION": precision, "ROWS": rows}
    return launch._replace(programs=triton.cdiv(launch.arguments["total"], rows) * outputs, constants=constants)


def _precision(dtype: torch.dtype) -> str:
    """How float32 meets tensor cores: in TF32 where torch lets cuDNN do so, else in three products of its parts."""
    cudnn: Any = torch.backends.cudnn  # whose attributes are made as it loads
    if dtype != torch.float32 or cudnn.conv.fp32_precision == "tf32":
        return "tf32"
    return "tf32x3"
