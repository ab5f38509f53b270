"""Causal dilated convolution over time, with the protocol's state."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from temporal.kernels.dilated import ACTIVATIONS, causal_conv, causal_conv_stream, later
from temporal.layers._history import autocasts, check_inputs, whole

__all__ = ["CausalConv1d"]


class CausalConv1d(nn.Module):
    """Convolution over time that sees no future; causal and streaming.

    y[t] = activation(b + sum_k w[:, :, k] x[t - (K - 1 - k) dilation])

    It is `nn.Conv1d` on a signal padded on the left by (K - 1) dilation zeros, with time first and the activation in the
    same pass; weights and their initial values are those of `nn.Conv1d`. Neither lengths nor padding matter.

    Args:
        in_channels: number of inputs I, >= 1.
        out_channels: number of outputs O, >= 1.
        kernel_size: taps K, >= 1.
        dilation: steps from tap to tap, >= 1.
        groups: into which channels are divided; must divide I and O. groups = I = O is a depthwise convolution.
        bias: adds a learned b[o].
        activation: None, "relu", "gelu" (the exact one), "silu" or "tanh".

    Attributes:
        weight: [O, I / groups, K]; the last tap meets the present.
        bias: [O], or None.

    Shape:
        x: [T, B, I], T >= 0.  state: the last (K - 1) dilation inputs, oldest first, [(K - 1) dilation, B, I], or None for
        silence.  Returns (y [T, B, O], state).

    Raises:
        ValueError: a size out of range, channels that groups do not divide, an unknown activation, x or state of another
            shape.
        TypeError: a size that is not a whole number; x or state of another dtype than the weights.

    References:
        van den Oord et al., "WaveNet: a generative model for raw audio", 2016. Values and gradients equal those of
        `torch.nn.Conv1d`.

    Example:
        >>> layer = CausalConv1d(40, 64, kernel_size=3, dilation=4, activation="relu")
        >>> x = torch.rand(100, 8, 40)
        >>> y, state = layer(x)
        >>> y.shape, state.shape
        (torch.Size([100, 8, 64]), torch.Size([8, 8, 40]))
        >>> first, state = layer(x[:30])  # the same in two parts
        >>> rest, state = layer(x[30:], state)
        >>> torch.allclose(torch.cat([first, rest]), y, atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | None = None,
    ):
        super().__init__()
        self.in_channels = whole("CausalConv1d", "in_channels", in_channels)
        self.out_channels = whole("CausalConv1d", "out_channels", out_channels)
        self.kernel_size = whole("CausalConv1d", "kernel_size", kernel_size)
        self.dilation = whole("CausalConv1d", "dilation", dilation)
        self.groups = whole("CausalConv1d", "groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"CausalConv1d: groups={groups} does not divide {name}={channels}")
        if activation is not None and (activation == "none" or activation not in ACTIVATIONS):
            known = ", ".join(repr(name) for name in ACTIVATIONS if name != "none")
            raise ValueError(f"CausalConv1d: activation={activation!r} is not one of None, {known}")
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    @classmethod
    def from_conv1d(cls, conv: nn.Conv1d, *, activation: str | None = None) -> Self:
        """The causal layer with a copy of an `nn.Conv1d`'s weights, whatever its padding; on its device, of its dtype.

        Raises:
            TypeError: something else than an `nn.Conv1d`.
            ValueError: a stride other than 1, padding with something else than zeros.
        """
        if not isinstance(conv, nn.Conv1d):
            raise TypeError(f"CausalConv1d.from_conv1d: conv is {type(conv).__name__}, expected an nn.Conv1d")
        if conv.stride != (1,):
            raise ValueError(
                f"CausalConv1d.from_conv1d: conv has stride {conv.stride[0]}; right is 1, an output a step"
            )
        if conv.padding_mode != "zeros":
            raise ValueError(
                f"CausalConv1d.from_conv1d: conv has padding_mode={conv.padding_mode!r}; a stream begins with zeros"
            )
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size[0],
            dilation=conv.dilation[0], groups=conv.groups, bias=conv.bias is not None, activation=activation,
        )  # fmt: skip
        layer.to(conv.weight.device, conv.weight.dtype).load_state_dict(conv.state_dict())
        return layer

    def reset_parameters(self) -> None:
        """Draws weights and bias afresh, as `nn.Conv1d` does: uniform in +-1 / sqrt(K I / groups)."""
        bound = 1 / math.sqrt(self.kernel_size * self.in_channels // self.groups)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns (y, state): the output of every step of x, and what the next call needs to go on from there."""
        check_inputs(
            "CausalConv1d", x, state, self.weight, ("in_channels", self.in_channels), self._past,
            "(kernel_size - 1) dilation",
        )  # fmt: skip
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        how: Any = {"dilation": self.dilation, "groups": self.groups, "activation": self.activation or "none"}
        if not autocasts(x, weight):
            return causal_conv_stream(x, weight, bias, history=state, **how)
        dtype = torch.get_autocast_dtype(x.device.type)
        bias, history = (None if t is None else t.to(dtype) for t in (bias, state))
        y = causal_conv(x.to(dtype), weight.to(dtype), bias, history=history, **how)
        return y, later(x, state, self._past)  # of the inputs' own precision

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, dilation={self.dilation}"
        return text + f", groups={self.groups}, bias={self.bias is not None}, activation={self.activation!r}"

    @property
    def _past(self) -> int:
        """Steps of the state."""
        return (self.kernel_size - 1) * self.dilation
