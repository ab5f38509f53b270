"""Delayed synapses in plain torch: the specification of every faster backend.

A synapse from input i to output o has a weight w[o,i], a delay d[o,i] in steps, and while it learns a width sigma in
steps. It spreads its weight over the lags 0 .. max_delay, and the layer is a causal correlation with that kernel:

    K[o,i,lag] = w[o,i] * g(lag; d[o,i], sigma)
    y[t,o]     = sum over i and lag of K[o,i,lag] * x[t-lag,i]

The spread g sums to one over the lags. `gaussian` is exp(-(lag - d)^2 / (2 sigma^2)), normalised over the lags that
exist; `rounded` puts everything on the nearest lag.
"""

import torch
import torch.nn.functional as F

__all__ = ["KERNELS", "NEGLIGIBLE", "SMALLEST_SIGMA", "bounded", "delay_kernel", "delayed_product", "nearest", "spread"]

KERNELS = ("gaussian", "rounded")

# Below this width, in steps, a gaussian is taken as rounded: the two differ only for delays within 1e-4 of a half step,
# and there the slope 1 / (2 sigma)^2 would be of no use to an optimiser.
SMALLEST_SIGMA = 1e-3

# A smaller share of a synapse becomes exactly zero. The tails of a narrow gaussian pass through the subnormal numbers
# (1e-38 to 1e-45 in float32), which many processors add and multiply a hundred times slower; beside a share of at least
# 1 / (max_delay + 1) on the nearest lag this changes no sum, in float64 either.
NEGLIGIBLE = 1e-26


def nearest(delay: torch.Tensor) -> torch.Tensor:
    """Whole steps, the half-way ones up: 2.5 -> 3, 3.5 -> 4, and the float just below 0.5 -> 0."""
    whole = delay.floor()
    return whole + (delay - whole >= 0.5)  # floor(delay + 0.5) would round the last of the three up


def bounded(delay: torch.Tensor, max_delay: int) -> torch.Tensor:
    """The delay within 0 .. max_delay, with the gradient projected onto that range.

    At or beyond a wall only the gradient that leads back inside passes: an optimiser with momentum does not go on
    pushing outwards, and a delay that is on the wall can leave it.
    """
    return _Bounded.apply(delay, max_delay)


class _Bounded(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(delay, max_delay):
        return delay.clamp(0, max_delay)

    @staticmethod
    def setup_context(ctx, inputs, output):
        delay, max_delay = inputs
        ctx.save_for_backward(delay <= 0, delay >= max_delay)

    @staticmethod
    def backward(ctx, grad):
        low, high = ctx.saved_tensors
        outwards = (low & (grad > 0)) | (high & (grad < 0))  # descent subtracts the gradient
        return grad.masked_fill(outwards, 0), None


def spread(delay: torch.Tensor, sigma: float | torch.Tensor, max_delay: int, kernel: str = "gaussian") -> torch.Tensor:
    """How a synapse's weight is spread over the lags; sums to one over them.

    Args:
        delay: in steps, any shape; taken within 0 .. max_delay.
        sigma: effective standard deviation in steps, >= 0. Under `SMALLEST_SIGMA`, zero included, the spread is
            rounded. A tensor of one element costs no synchronisation with a GPU.
        max_delay: the largest lag, in steps, inclusive.
        kernel: "gaussian" or "rounded".
    Shape:
        delay: [*shape].  Returns [*shape, max_delay + 1], in float32 or wider.
    """
    if kernel not in KERNELS:
        raise ValueError(f"spread: kernel={kernel!r} is not one of {', '.join(KERNELS)}")
    dtype = torch.promote_types(delay.dtype, torch.float32)
    delay = bounded(delay.to(dtype), max_delay)
    lags = torch.arange(max_delay + 1, device=delay.device, dtype=dtype)
    if kernel == "rounded":
        sigma = 0.0
    if not isinstance(sigma, torch.Tensor):
        sigma = torch.full((), sigma, dtype=dtype, device=delay.device)
    # A narrow gaussian around a whole step is one lag exactly, so one formula serves both, with no branch on sigma.
    centre = torch.where(sigma < SMALLEST_SIGMA, nearest(delay), delay)
    scale = -0.5 / sigma.to(dtype).clamp(min=SMALLEST_SIGMA) ** 2
    # Softmax subtracts the largest exponent first: no 0 / 0 where every gaussian underflows.
    share = torch.softmax(scale * (lags - centre.unsqueeze(-1)) ** 2, dim=-1)
    return F.threshold(share, NEGLIGIBLE, 0.0)


def delay_kernel(
    weight: torch.Tensor, delay: torch.Tensor, sigma: float | torch.Tensor, max_delay: int, kernel: str = "gaussian"
) -> torch.Tensor:
    """The kernel of a layer with one delay a synapse: K[o,i,lag] = w[o,i] g(lag; d[o,i], sigma).

    Args:
        weight, delay: one for each synapse; with a third axis a pair of neurons has several synapses, which add up.
        sigma, max_delay, kernel: as in `spread`.
    Shape:
        weight, delay: [O, I] or [O, I, synapses].  Returns [O, I, max_delay + 1].
    """
    taps = weight.unsqueeze(-1) * spread(delay, sigma, max_delay, kernel)
    return taps if weight.ndim == 2 else taps.sum(dim=2)


def delayed_product(history: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The causal correlation y[t,o] = sum over i and lag of K[o,i,lag] x[t-lag,i] (+ bias[o]).

    Args:
        history: the max_delay steps before x and then the T steps of x, oldest first.
        kernel: K, lag 0 (no delay) first.
        bias: added to every step.
    Shape:
        history: [max_delay + T, B, I].  kernel: [O, I, max_delay + 1].  bias: [O].  Returns [T, B, O], contiguous.
    """
    kernel = kernel.to(history.dtype)
    bias = None if bias is None else bias.to(history.dtype)
    if history.shape[0] < kernel.shape[2] or history.shape[1] == 0:  # no step or no sample: a convolution refuses both
        return F.linear(history[kernel.shape[2] - 1 :], kernel[:, :, 0], bias)
    # One picture in the channels-last layout: steps are its rows, samples its columns, neurons its channels. So x and y
    # stay as they lie in memory, and the processor's direct convolution reads contiguous neurons: forward and backward
    # take three quarters of the time of F.conv1d, which wants time last.
    picture = history.permute(2, 0, 1).unsqueeze(0)
    y = F.conv2d(picture, kernel.flip(2).unsqueeze(-1), bias)
    return y.squeeze(0).permute(1, 2, 0).contiguous()  # nothing to do, except for a single input or a permuted history
