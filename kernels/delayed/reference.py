"""Delayed synapses in plain torch: the specification of every faster backend.

A synapse from input i to output o has a weight w[o,i], a delay d[o,i] in steps, and while it learns a width sigma in
steps. It spreads its weight over the lags 0 .. max_delay, and the layer is a causal correlation with that kernel:

    K[o,i,lag] = w[o,i] * g(lag; d[o,i], sigma)
    y[t,o]     = sum over i and lag of K[o,i,lag] * x[t-lag,i]   (+ b[o])

The spread g sums to one over the lags. Before that normalisation `gaussian` is exp(-(lag - d)^2 / (2 sigma^2)) and
`triangle` max(0, sqrt(6) sigma - |lag - d|), which has the same standard deviation and ends sqrt(6) sigma away;
`rounded` puts everything on the nearest lag, which is what these two tend to with sigma, and its delays learn by a
straight-through gradient: with G the gradient of the shares, and r the nearest lag,

    dL/dd = (G[r+1] - G[r-1]) / 2,   one-sided at an end

`spectral` is a gaussian in closed form in the frequency domain, on a circle of L = max_delay + 1 lags: what passes one end
comes in at the other,

    g(lag) = 1/L sum over k of exp(2 pi i k (lag - d) / L - (2 pi k sigma / L)^2 / 2),   |k| <= L / 2

so it sums to one without a normalisation, no delay is special, and whole delays are exact; at sigma near 0 fractional ones
are band-limited interpolation, with shares of both signs.

A delay belongs to each synapse (d[o,i]), to each axon (d[i], one for all synapses of an input), to each dendrite (d[o]), to
both ("additive": d[o,i] = a[i] + b[o]), or to each of several copies of an axon, of which a synapse has picked one
("group": d[o,i] = d[c[o,i],i]). All but the first need no kernel: a shift of x, or of y, or of both, and one matrix product;
for G copies G products.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ._walls import projected

__all__ = [
    "KERNELS",
    "NEGLIGIBLE",
    "PER",
    "SMALLEST_SIGMA",
    "bounded",
    "circle",
    "delay_kernel",
    "delayed_linear",
    "delayed_product",
    "delayed_shift",
    "differences",
    "halves",
    "nearest",
    "product_gradients",
    "spread",
    "spread_at",
]

PER = ("synapse", "axon", "dendrite", "additive", "group")
KERNELS = ("gaussian", "triangle", "rounded", "spectral")

# Below these widths, in steps, a spread is taken as rounded. A gaussian that narrow differs from it only for delays
# within 1e-4 of a half step, where its slope of 1 / (2 sigma)^2 would be of no use to an optimiser; a triangle whose
# half base is hardly more than half a step meets one lag only.
SMALLEST_SIGMA = {"gaussian": 1e-3, "triangle": 0.501 / math.sqrt(6), "spectral": 1e-3}

# A smaller share of a synapse becomes exactly zero. At widths near one step a twentieth of a gaussian's taps are
# subnormal numbers (1e-38 to 1e-45 in float32), which some processors multiply far more slowly; beside a share of at
# least 1 / (max_delay + 1) on the nearest lag this changes no sum, in float64 either.
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
        return projected(grad, low, high), None


def spread(delay: torch.Tensor, sigma: float | torch.Tensor, max_delay: int, kernel: str = "gaussian") -> torch.Tensor:
    """How a synapse's weight is spread over the lags; sums to one over them.

    Args:
        delay: in steps, any shape; taken within 0 .. max_delay.
        sigma: effective standard deviation in steps, >= 0. Under `SMALLEST_SIGMA`, zero included, the spread is
            rounded. A tensor of one element costs no synchronisation with a GPU.
        max_delay: the largest lag, in steps, inclusive.
        kernel: "gaussian", "triangle", "rounded" or "spectral".
    Shape:
        delay: [*shape].  Returns [*shape, max_delay + 1], in float32 or wider.
    """
    if kernel not in KERNELS:
        raise ValueError(f"spread: kernel={kernel!r} is not one of {', '.join(KERNELS)}")
    dtype = torch.promote_types(delay.dtype, torch.float32)
    delay = bounded(delay.to(dtype), max_delay)
    lags = torch.arange(max_delay + 1, device=delay.device, dtype=dtype)
    if not isinstance(sigma, torch.Tensor):
        sigma = torch.full((), sigma, dtype=dtype, device=delay.device)
    return spread_at(lags, delay, sigma.to(dtype), max_delay, kernel)


def spread_at(
    lags: torch.Tensor, delay: torch.Tensor, sigma: torch.Tensor, max_delay: int, kernel: str
) -> torch.Tensor:
    """`spread` at these lags only, among which it is normalised; the delay is within its range.

    Shape:
        lags: [count] or [*shape, count].  delay: [*shape].  sigma: [].  Returns [*shape, count].
    """
    if kernel == "rounded":
        return _rounded(lags, delay, sigma, max_delay)
    # A narrow spread around a whole step is one lag exactly, so one formula serves both, with no branch on sigma.
    smallest = SMALLEST_SIGMA[kernel]
    centre = torch.where(sigma < smallest, nearest(delay), delay)
    sigma = sigma.to(delay.dtype).clamp(min=smallest)
    distance = lags - centre.unsqueeze(-1)
    if kernel == "spectral":
        return torch.where(sigma > smallest, circle(distance, sigma, max_delay), (distance == 0).to(distance.dtype))
    return _triangle(distance, sigma) if kernel == "triangle" else _gaussian(distance, sigma)


def _rounded(lags: torch.Tensor, delay: torch.Tensor, sigma: torch.Tensor, max_delay: int) -> torch.Tensor:
    fixed = delay.detach()
    share = spread_at(lags, fixed, torch.zeros_like(sigma), max_delay, "gaussian")
    if not delay.requires_grad:
        return share
    return share + differences(lags, fixed, max_delay) * (delay - fixed).unsqueeze(-1)  # + 0: only a gradient


def differences(lags: torch.Tensor, delay: torch.Tensor, max_delay: int) -> torch.Tensor:
    """What the gradients of a rounded delay's shares are multiplied with and summed for its own, straight through.

    1/2 at the step after the nearest one and -1/2 at the step before it; at an end, beyond which there is none, 1 and -1 at
    the last two. Where max_delay is 0, nothing.

    Shape:
        lags: [count] or [*shape, count].  delay: [*shape], within 0 .. max_delay.  Returns [*shape, count].
    """
    at = nearest(delay).unsqueeze(-1)
    before, after = (at - 1).clamp(min=0), (at + 1).clamp(max=max_delay)
    return ((lags == after).to(delay.dtype) - (lags == before).to(delay.dtype)) / (after - before).clamp(min=1)


def circle(distance: torch.Tensor, sigma: torch.Tensor, max_delay: int, slopes: bool = False):
    """The spectral spread at these distances from the delay; or its slopes over the distance and over sigma."""
    length = max_delay + 1
    harmonics = 2 * math.pi / length * torch.arange(length // 2 + 1, device=distance.device, dtype=distance.dtype)
    parts = torch.full_like(harmonics, 2 / length)  # k and -k together
    parts[0] = 1 / length
    if length % 2 == 0:
        parts[-1] = 1 / length
    parts = parts * torch.exp(-((harmonics * sigma) ** 2) / 2)
    turns = distance.unsqueeze(-1) * harmonics
    if slopes:
        return turns.sin() @ (-parts * harmonics), turns.cos() @ (-parts * harmonics**2 * sigma)
    return turns.cos() @ parts


def _gaussian(distance: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    # Softmax subtracts the largest exponent first: no 0 / 0 where every gaussian underflows.
    return F.threshold(torch.softmax(distance**2 * (-0.5 / sigma**2), dim=-1), NEGLIGIBLE, 0.0)


def _triangle(distance: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    height = math.sqrt(6) * sigma - distance.abs()
    # max(0, height) with the slope 1/2 at 0, midway between the slopes on either side. With relu's slope of 0 a
    # triangle of half base 1 gives no gradient to a delay on a whole step, which then never leaves it.
    height = (height + height.abs()) / 2
    return height / height.sum(dim=-1, keepdim=True)


def delay_kernel(
    weight: torch.Tensor,
    delay: torch.Tensor,
    sigma: float | torch.Tensor,
    max_delay: int,
    kernel: str = "gaussian",
    per: str = "synapse",
    copies: torch.Tensor | None = None,
) -> torch.Tensor:
    """The kernel over lags of every pair of neurons: K[o,i,lag] = w[o,i] g(lag; d, sigma).

    Args:
        weight: with a third axis a pair of neurons has several synapses, which add up (synapse, axon and dendrite).
        delay: in steps, one for each synapse, axon or dendrite.
        sigma, max_delay, kernel: as in `spread`.
        per: "synapse", "axon", "dendrite", "additive" or "group".
        copies: for a group, the copy that each synapse has picked.
    Shape:
        weight: [O, I] or [O, I, synapses].  delay: like weight, axon [I] or [I, synapses], dendrite [O] or [O, synapses],
        additive [I + O], the axons first, group [copies, I].  copies: [O, I].
        Returns [O, I, max_delay + 1].
    """
    if per == "additive":
        axons, dendrites = _additive(delay, sigma, max_delay, kernel, weight.shape[1])
        pairs = _convolved(dendrites, axons)
        return weight.unsqueeze(-1) * pairs
    if per == "group" and copies is not None:
        shares = spread(delay, sigma, max_delay, kernel).expand(*weight.shape[:1], -1, -1, -1)
        picked = copies.long()[:, None, :, None].expand(-1, 1, -1, max_delay + 1)
        return weight.unsqueeze(-1) * shares.gather(1, picked).squeeze(1)
    share = spread(delay, sigma, max_delay, kernel)
    taps = weight.unsqueeze(-1) * (share.unsqueeze(1) if per == "dendrite" else share)
    return taps if weight.ndim == 2 else taps.sum(dim=2)


def halves(max_delay: int) -> tuple[int, int]:
    """The largest delays of axons and of dendrites that add up to max_delay."""
    return max_delay - max_delay // 2, max_delay // 2


def _additive(delay: torch.Tensor, sigma: float | torch.Tensor, max_delay: int, kernel: str, inputs: int):
    """The spreads of the axons, [I, lags], and of the dendrites, [O, lags], whose variances add up to sigma's."""
    largest, sigma = halves(max_delay), sigma / math.sqrt(2)
    parts = delay[:inputs], delay[inputs:]
    return tuple(spread(part, sigma, most, kernel) for part, most in zip(parts, largest, strict=True))


def _convolved(dendrites: torch.Tensor, axons: torch.Tensor) -> torch.Tensor:
    """The spread of every pair's sum of delays, [O, I, lags]."""
    late = dendrites.shape[1] - 1  # lag by lag, not as a product of matrices, which autocast would round
    terms = (F.pad(dendrites[:, lag, None, None] * axons, (lag, late - lag)) for lag in range(late + 1))
    return sum(terms, torch.zeros((), dtype=axons.dtype, device=axons.device))


def delayed_linear(
    history: torch.Tensor,
    weight: torch.Tensor,
    delay: torch.Tensor,
    sigma: float | torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    max_delay: int,
    kernel: str = "gaussian",
    per: str = "synapse",
    copies: torch.Tensor | None = None,
    shift: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """The whole layer: weights, delays and width in, current out. Arguments as in `delay_kernel` and `delayed_product`.

    Args:
        shift: what shifts neurons, `delayed_shift` or one that computes the same.
    Shape:
        history: [max_delay + T, B, I].  Returns [T, B, O].
    """
    if per == "synapse":
        return delayed_product(history, delay_kernel(weight, delay, sigma, max_delay, kernel), bias)
    shift = delayed_shift if shift is None else shift
    if per == "additive":
        axons, dendrites = _additive(delay, sigma, max_delay, kernel, history.shape[2])
        return shift(F.linear(shift(history, axons), weight), dendrites, bias)
    share = spread(delay, sigma, max_delay, kernel)
    if per == "group" and copies is not None:
        # Each input's copies side by side, and of a synapse's weight only the place of the copy that it has picked.
        late = torch.cat([shift(history, g) for g in share], 2)
        picked = [weight * (copies == g) for g in range(len(share))]
        return F.linear(late, torch.cat(picked, 1), bias)
    if per not in ("axon", "dendrite"):
        raise ValueError(f"delayed_linear: per={per!r} is not one of {', '.join(PER)}")
    if weight.ndim == 3:
        return _several(history, weight, share, bias, per, shift)
    if per == "axon":
        return F.linear(shift(history, share), weight, bias)
    return shift(F.linear(history, weight), share, bias)


def _several(history, weight, share, bias, per, shift):
    """Synapses that share the delays of their axon, or of their dendrite, which has as many as a pair has synapses."""
    each = share.unbind(1)
    if per == "axon":
        late = torch.cat([shift(history, g) for g in each], 2)
        return F.linear(late, weight.transpose(1, 2).flatten(1), bias)
    y = sum(shift(F.linear(history, weight[..., k]), g) for k, g in enumerate(each))
    return y if bias is None else y + bias.to(y.dtype)


def delayed_product(history: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The causal correlation y[t,o] = sum over i and lag of K[o,i,lag] x[t-lag,i] (+ bias[o]).

    Args:
        history: the max_delay steps before x and then the T steps of x, oldest first.
        kernel: K, lag 0 (no delay) first.
        bias: added to every step.
    Shape:
        history: [max_delay + T, B, I].  kernel: [O, I, max_delay + 1].  bias: [O].  Returns [T, B, O], contiguous.
    """
    if _nothing(history, kernel):
        return F.linear(history[kernel.shape[2] - 1 :], kernel[:, :, 0].to(history.dtype), bias)
    return _correlate(history, kernel, bias, groups=1)


def delayed_shift(history: torch.Tensor, share: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Each neuron's own signal, late by its own delay: z[t,n] = sum over lag of g[n,lag] h[t-lag,n] (+ bias[n]).

    Args:
        history: the max_delay steps before the first output and then T steps, oldest first.
        share: g, from `spread`.
        bias: added to every step.
    Shape:
        history: [max_delay + T, B, N].  share: [N, max_delay + 1].  bias: [N].  Returns [T, B, N], contiguous.
    """
    if _nothing(history, share):
        z = history[share.shape[1] - 1 :] * share[:, 0].to(history.dtype)
        return z if bias is None else z + bias.to(history.dtype)
    return _correlate(history, share.unsqueeze(1), bias, groups=len(share))


def _nothing(history: torch.Tensor, kernel: torch.Tensor) -> bool:
    """No step or no sample: a convolution refuses both."""
    return history.shape[0] < kernel.shape[-1] or history.shape[1] == 0


def _correlate(history: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None, groups: int) -> torch.Tensor:
    y = F.conv2d(_picture(history), _mirrored(kernel, history.dtype), bias, groups=groups)
    return y.squeeze(0).permute(1, 2, 0).contiguous()  # nothing to do, except for a single input or a permuted history


def product_gradients(
    grad: torch.Tensor, history: torch.Tensor, kernel: torch.Tensor, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `delayed_product` for history and kernel, where autograd does not go: inside an operator."""
    if _nothing(history, kernel):
        return torch.zeros_like(history), torch.zeros_like(kernel)
    of_picture, of_kernel, _ = torch.ops.aten.convolution_backward(
        _picture(grad), _picture(history), _mirrored(kernel, history.dtype), None,
        (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (*wanted, False),
    )  # fmt: skip
    of_history = of_picture.squeeze(0).permute(1, 2, 0) if wanted[0] else torch.zeros_like(history)
    return of_history, of_kernel.squeeze(-1).flip(2) if wanted[1] else torch.zeros_like(kernel)


def _picture(history: torch.Tensor) -> torch.Tensor:
    # One picture in the channels-last layout: steps are its rows, samples its columns, neurons its channels. So x and y
    # stay as they lie in memory, and the processor's direct convolution reads contiguous neurons: forward and backward
    # take three quarters of the time of F.conv1d, which wants time last.
    return history.permute(2, 0, 1).unsqueeze(0)


def _mirrored(kernel: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return kernel.flip(2).unsqueeze(-1).to(dtype)
