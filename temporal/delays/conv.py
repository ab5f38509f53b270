"""A convolution over positions (bands, taxels) whose synapses have delays of their own in time, learned with the weights."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temporal.layers._history import check_history, whole

from .linear import DelayedLinear

__all__ = ["DelayedConv1d"]


class DelayedConv1d(nn.Module):
    """Convolution over an axis of positions with learned delays in time; causal and streaming.

    y[t,o,p] = sum over i and k of w[o,i,k] * x[t - d[o,i,k], i, p stride + k dilation - padding]   (+ b[o])

    What `nn.Conv1d` is to `nn.Linear`, this is to :class:`DelayedLinear`: the same synapses at every position, with delays
    of their own in the time in which the signal arrives. Positions are an axis along which a pattern may move, such as the
    bands of a spectrum, the channels of a cochlea or the taxels of a whisker; positions beyond the ends are silent.

    The synapses are those of a `DelayedLinear` with I = in_channels * kernel_size inputs, `layer.delayed`, which holds
    their weights, delays and width: an optimiser, `DelaySchedule`, `prune_delays` and `temporal.models.deploy` find them
    there. An input of it is a channel at a place of the kernel; so per="axon" is a delay for each of these, d[i,k].

    Args:
        in_channels: number of channels I, >= 1.
        out_channels: number of channels O, >= 1.
        kernel_size: places of the kernel K along the positions, >= 1.
        max_delay: the largest delay, in steps, inclusive, >= 0.
        stride: positions from output to output, >= 1.
        padding: silent positions at each end, >= 0; or "same", as many as leave P outputs for P positions (stride 1).
        dilation: positions from place to place of the kernel, >= 1.
        per: what has a delay of its own: "synapse", "axon", "dendrite", "additive" or "group", as for `DelayedLinear`.
        kernel: "gaussian", "triangle", "spectral" or "rounded", as for `DelayedLinear`.
        synapses: how many synapses each w[o,i,k] stands for, >= 1; "additive" and "group" take 1.
        groups: copies of each axon, for per="group"; not the groups of `nn.Conv1d`.
        bias: adds a learned b[o].
        learn_delays: False keeps the random delays that the layer starts with.

    Attributes:
        weight: [O, I, K], or [O, I, K, synapses] where there are several; a view of `delayed.weight`, the leaf parameter.
        delay: like weight per synapse, [I, K] per axon, [O] per dendrite, [groups, I, K] per group, in steps; additive
            [I K + O], the axons' first. A view of `delayed.delay`, the leaf parameter.
        sigma: effective standard deviation in steps, starts at max_delay / 2; set by `set_sigma`.

    Shape:
        x: [T, B, I, P], T >= 0 steps, P positions.  state: the last max_delay inputs, oldest first, [max_delay, B, I, P], or
        None for silence.  Returns (y [T, B, O, P'], state), P' = (P + 2 padding - dilation (K - 1) - 1) // stride + 1.

    Raises:
        ValueError: a size, delay or width out of range, an unknown `per` or `kernel`, padding="same" with a stride, fewer
            positions than the kernel spans, x or state of another shape.
        TypeError: a size that is not a whole number; x or state of another dtype than the weights.

    References:
        Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning delays in spiking neural networks using dilated
        convolutions with learnable spacings", ICLR 2024, for one position. With kernel_size=1 values and gradients equal
        those of dcls 0.1.1, `Dcls2dK1d(version="gauss")` over (time, positions), as those of `DelayedLinear` equal
        `Dcls1d`'s.

    Example:
        >>> layer = DelayedConv1d(1, 16, kernel_size=5, max_delay=24, stride=2, padding=2)
        >>> bands = torch.rand(100, 8, 1, 40)  # 40 mel bands
        >>> y, state = layer(bands)
        >>> y.shape, state.shape
        (torch.Size([100, 8, 16, 20]), torch.Size([24, 8, 1, 40]))
        >>> first, state = layer(bands[:30])  # the same in two parts
        >>> rest, state = layer(bands[30:], state)
        >>> torch.allclose(torch.cat([first, rest]), y, atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        max_delay: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        per: str = "synapse",
        kernel: str = "gaussian",
        synapses: int = 1,
        groups: int = 4,
        bias: bool = False,
        learn_delays: bool = True,
    ):
        super().__init__()
        self.in_channels = whole("DelayedConv1d", "in_channels", in_channels)
        self.out_channels = whole("DelayedConv1d", "out_channels", out_channels)
        self.kernel_size = whole("DelayedConv1d", "kernel_size", kernel_size)
        self.stride = whole("DelayedConv1d", "stride", stride)
        self.dilation = whole("DelayedConv1d", "dilation", dilation)
        self.padding = _ends(padding, self.stride, self._span)
        self.delayed = DelayedLinear(
            self.in_channels * self.kernel_size, self.out_channels, whole("DelayedConv1d", "max_delay", max_delay, 0),
            per=per, kernel=kernel, synapses=synapses, groups=groups, bias=bias, learn_delays=learn_delays,
        )  # fmt: skip

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns (y, state): the output of every step of x, and what the next call needs to go on from there."""
        most = self.max_delay
        self._check(x)
        check_history("DelayedConv1d", x, state, self.delayed.weight, most, "max_delay")
        if state is None:
            state = x.new_zeros(most, *x.shape[1:])
        history = torch.cat([state, x])
        windows, positions = self._windows(history)
        y = self.delayed.currents(windows).unflatten(1, (x.shape[1], positions))
        # A copy of the last steps, so that a state kept between chunks does not keep the chunk.
        return y.transpose(2, 3).contiguous(), history[len(x) :].clone()

    def effective_kernel(self) -> Tensor:
        """The kernel in use, [O, I, K, max_delay + 1], lag 0 first; differentiable."""
        return self.delayed.effective_kernel().unflatten(1, (self.in_channels, self.kernel_size))

    def set_sigma(self, sigma: float) -> None:
        """Sets the width, in steps: finite and >= 0; a layer with kernel="rounded" takes 0 only."""
        self.delayed.set_sigma(sigma)

    def round_(self) -> Self:
        """Moves every delay to the nearest whole step, half-way ones up, and sets sigma to 0; returns the layer."""
        self.delayed.round_()
        return self

    def reset_parameters(self) -> None:
        """Draws weights, delays and bias afresh; sigma stays."""
        self.delayed.reset_parameters()

    @property
    def max_delay(self) -> int:
        """The largest delay, in steps."""
        return self.delayed.max_delay

    @property
    def weight(self) -> Tensor:
        """[O, I, K], or [O, I, K, synapses]."""
        return self.delayed.weight.unflatten(1, (self.in_channels, self.kernel_size))

    @property
    def delay(self) -> Tensor:
        """In steps; see the class."""
        axis = {"synapse": 1, "axon": 0, "group": 1}.get(self.delayed.per)
        delay = self.delayed.delay
        return delay if axis is None else delay.unflatten(axis, (self.in_channels, self.kernel_size))

    @property
    def bias(self) -> nn.Parameter | None:
        """[O], or None."""
        return self.delayed.bias

    @property
    def sigma(self) -> Tensor:
        """Effective standard deviation, in steps."""
        return self.delayed.sigma

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return text + f", padding={self.padding}, dilation={self.dilation}"

    @property
    def _span(self) -> int:
        """Positions from the first place of the kernel to the last."""
        return (self.kernel_size - 1) * self.dilation + 1

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[2] != self.in_channels:
            raise ValueError(
                f"DelayedConv1d: x has shape {list(x.shape)}, expected [steps, batch, in_channels={self.in_channels}, "
                "positions]"
            )
        padded = x.shape[3] + sum(self.padding)
        if padded < self._span:
            raise ValueError(
                f"DelayedConv1d: x has {x.shape[3]} positions, {padded} with the padding; the kernel spans {self._span}"
            )

    def _windows(self, history: Tensor) -> tuple[Tensor, int]:
        """Each position of the output as a sample of its own, with its inputs: [steps, B P', I K], and P'."""
        windows = F.pad(history, self.padding).unfold(3, self._span, self.stride)[..., :: self.dilation]
        steps, batch, _, positions, _ = windows.shape
        inputs = self.in_channels * self.kernel_size
        return windows.transpose(2, 3).reshape(steps, batch * positions, inputs), positions


def _ends(padding: int | str, stride: int, span: int) -> tuple[int, int]:
    """Silent positions before the first and after the last."""
    if padding == "same":
        if stride != 1:
            raise ValueError(f"DelayedConv1d: padding='same' needs stride=1, not stride={stride}")
        return (span - 1) // 2, span // 2
    if isinstance(padding, str):
        raise ValueError(f"DelayedConv1d: padding={padding!r} is neither a number of positions nor 'same'")
    return (whole("DelayedConv1d", "padding", padding, least=0),) * 2
