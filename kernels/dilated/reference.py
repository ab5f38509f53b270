"""Causal dilated convolution in plain torch: the specification of every other backend."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATIONS", "BY_RESULT", "backward", "convolve", "forward", "undo"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}

BY_RESULT = ("none", "relu")  # whose gradients need nothing but the result
_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda grad, _: grad,
    "relu": lambda grad, y: grad * (y > 0),
    "gelu": torch.ops.aten.gelu_backward,
    "silu": torch.ops.aten.silu_backward,
    "tanh": lambda grad, z: grad * (1 - torch.tanh(z).square()),
}


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str
) -> Tensor:
    """y[t] = activation(b + sum_k w[:, :, k] x[t - (K - 1 - k) dilation]), where x before its first step is ``history``."""
    whole = _whole(x, history, (weight.shape[2] - 1) * dilation)
    z = F.conv1d(whole, weight, bias, dilation=dilation, groups=groups).permute(2, 0, 1)
    return ACTIVATIONS[activation](z)[: x.shape[0]].contiguous()


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor | None, dilation: int, groups: int, activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``convolve``, and with ``keep`` what was before an activation whose gradient is not seen in its result."""
    if not keep or activation in BY_RESULT:
        y = convolve(x, weight, bias, history, dilation, groups, activation)
        return y, y.new_empty(0)
    z = convolve(x, weight, bias, history, dilation, groups, "none")
    return ACTIVATIONS[activation](z), z


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, history: Tensor | None, kept: Tensor, dilation: int, groups: int,
    activation: str, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """Gradients for x, weight, bias and history: those that ``needs`` asks for, the others empty.

    ``kept``: what forward kept, or for "relu" its result.
    """
    past = (weight.shape[2] - 1) * dilation
    outer = undo(grad, kept, activation).permute(1, 2, 0)
    if not x.shape[0]:
        outer = F.pad(outer, (0, 1))
    of_input, of_weight, of_bias = needs[0] or needs[3], needs[1], needs[2]
    found = torch.ops.aten.convolution_backward(
        outer, _whole(x, history, past), weight, [weight.shape[0]], [1], [0], [dilation], False, [0], groups,
        [of_input, of_weight, of_bias],
    )  # fmt: skip
    none = grad.new_empty(0)
    of_all = found[0].permute(2, 0, 1) if of_input else none
    results = (of_all[past : past + x.shape[0]], found[1], found[2], of_all[:past])
    return [r.clone(memory_format=torch.contiguous_format) if n else none for r, n in zip(results, needs, strict=True)]


def undo(grad: Tensor, kept: Tensor, activation: str) -> Tensor:
    """The gradient before the activation."""
    return _GRADIENTS[activation](grad, kept)


def _whole(x: Tensor, history: Tensor | None, past: int) -> Tensor:
    """[B, I, steps], with what came before; one step more of an empty x: torch convolves nothing shorter than the kernel."""
    if history is None:
        history = x.new_zeros(past, *x.shape[1:])
    whole = torch.cat([history, x]).permute(1, 2, 0)
    return whole if x.shape[0] else F.pad(whole, (0, 1))
