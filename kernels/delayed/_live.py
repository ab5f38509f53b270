"""The live taps of a synapse, the lags that get a share of its weight worth computing, and their gradients in closed form.

A synapse's window is `taps` lags around its delay, moved inside 0 .. max_delay. What lies outside has less than TOLERANCE of
the largest share (triangles and rounded delays: nothing at all), so values and gradients err by about that much, relative.
A window of all lags leaves nothing out.

With u the slope of log g without its normalisation, the gradients of a share's g are centred, since the shares sum to one:

    dg/dd = g (u - sum of g u),  gaussian: u = (lag - d) / sigma^2 for the delay, (lag - d)^2 / sigma^3 for sigma

A rounded delay has one live tap, and feels the lags beside it: its gradient is the difference of theirs, `differences`.
"""

import math

import torch
from torch import Tensor

from ._walls import projected
from .reference import SMALLEST_SIGMA, circle, differences, nearest, spread_at

__all__ = ["TOLERANCE", "by_lag", "felt", "gradients", "gradients_by_lag", "shares", "taps"]

TOLERANCE = 1e-6  # of the largest share, for gaussians: 6 taps at sigma = 0.5


def taps(width: float, max_delay: int, kernel: str) -> int:
    """How many lags around a delay are live, at most max_delay + 1, for a sigma of `width`."""
    if kernel == "rounded" or width < SMALLEST_SIGMA[kernel]:
        return 1
    if kernel == "spectral":
        return max_delay + 1
    # The nearest lag outside a window of n centred lags is at least n / 2 away.
    reach = math.sqrt(6) if kernel == "triangle" else math.sqrt(-2 * math.log(TOLERANCE))
    span = 2 * width * reach
    return min(max_delay + 1, math.floor(span) + 1) if span < max_delay + 1 else max_delay + 1


def felt(live: int, max_delay: int, kernel: str) -> int:
    """How many lags around a delay its gradient is made of: the live ones, and those beside a rounded one."""
    return min(3, max_delay + 1) if kernel == "rounded" else live


def shares(delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int) -> tuple[Tensor, Tensor]:
    """Where each synapse's window begins, and the shares in it.

    Shape:
        delay: [*shape].  Returns (first [*shape], whole numbers, shares [*shape, count]).
    """
    delay = delay.clamp(0, max_delay)
    around_nearest = count == 1 or kernel == "rounded"
    first = nearest(delay) - count // 2 if around_nearest else (delay - count / 2).ceil()
    first = first.nan_to_num(0.0).clamp(0, max_delay + 1 - count)  # a place to read, whose shares are NaN
    lags = first.unsqueeze(-1) + torch.arange(count, device=delay.device, dtype=delay.dtype)
    return first, spread_at(lags, delay, sigma, max_delay, kernel)


def gradients(
    grad: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    first: Tensor,
    share: Tensor,
    max_delay: int,
    kernel: str,
    wants_delay: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of weight, delay and sigma, from those of the live taps.

    A rounded delay's is 0 where it is not wanted (`wants_delay`), or where less is there than it has `felt`.

    Shape:
        grad, share: [*shape, count].  weight, delay, first: [*shape].  sigma: [].
    """
    grad_weight = (grad * share).sum(-1)
    within = delay.clamp(0, max_delay)
    count = torch.arange(share.shape[-1], device=delay.device, dtype=delay.dtype)
    if kernel == "rounded":
        grad_delay = torch.zeros_like(delay)
        if wants_delay and share.shape[-1] >= felt(1, max_delay, kernel):
            beside = differences(first.unsqueeze(-1) + count, within, max_delay)
            grad_delay = _inwards(weight * (grad * beside).sum(-1), delay, max_delay)
        return grad_weight, grad_delay, torch.zeros_like(sigma)
    smallest = SMALLEST_SIGMA[kernel]
    wide = (sigma >= smallest).to(
        delay.dtype
    )  # a rounded delay gets no gradient; no branch on a number of the device's
    sigma = sigma.to(delay.dtype).clamp(min=smallest)
    distance = (first - within).unsqueeze(-1) + count
    of_delay, of_sigma = _slopes(grad, grad_weight, distance, sigma, share, max_delay, kernel)
    grad_delay = weight * of_delay * wide
    return grad_weight, _inwards(grad_delay, delay, max_delay), (weight * of_sigma).sum() * wide


def by_lag(weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, turned: bool = False) -> Tensor:
    """The kernels over all lags, the lag first.

    Shape:
        weight, delay: [O, I] or [O, I, synapses].  Returns [max_delay + 1, O, I]; [max_delay + 1, I, O] if turned.
    """
    if _compiled(weight, sigma, kernel):
        from ._gaussian import kernels  # numba, when used

        weight, delay = (t.t().contiguous() if turned else t.contiguous() for t in (weight, delay))
        return kernels(weight, delay.clamp(0, max_delay), sigma.item(), max_delay)
    taps = weight.unsqueeze(-1) * shares(delay, sigma, max_delay, kernel, max_delay + 1)[1]
    taps = taps if weight.ndim == 2 else taps.sum(2)
    return (taps.permute(2, 1, 0) if turned else taps.permute(2, 0, 1)).contiguous()


def gradients_by_lag(
    grad: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`gradients` from those of the kernels over all lags, [max_delay + 1, O, I]."""
    if _compiled(weight, sigma, kernel):
        from . import _gaussian

        within = delay.clamp(0, max_delay).contiguous()
        of_weight, of_delay, of_sigma = _gaussian.gradients(grad, weight.contiguous(), within, sigma.item())
        return of_weight, _inwards(of_delay, delay, max_delay), of_sigma.sum()
    first, share = shares(delay, sigma, max_delay, kernel, max_delay + 1)
    grad = grad.permute(1, 2, 0)
    grad = grad if weight.ndim == 2 else grad.unsqueeze(2)
    return gradients(grad, weight, delay, sigma, first, share, max_delay, kernel)


def _compiled(weight: Tensor, sigma: Tensor, kernel: str) -> bool:
    here = weight.device.type == sigma.device.type == "cpu" and weight.dtype == torch.float32
    return here and kernel == "gaussian" and weight.ndim == 2 and sigma.item() >= SMALLEST_SIGMA[kernel]


def _inwards(grad_delay: Tensor, delay: Tensor, max_delay: int) -> Tensor:
    """Without what would lead out of 0 .. max_delay, as in `bounded`."""
    return projected(grad_delay, delay <= 0, delay >= max_delay)


def _slopes(
    grad: Tensor, mean: Tensor, distance: Tensor, sigma: Tensor, share: Tensor, max_delay: int, kernel: str
) -> tuple[Tensor, Tensor]:
    if kernel == "spectral":
        by_distance, by_sigma = circle(distance, sigma, max_delay, slopes=True)
        return -(grad * by_distance).sum(-1), (grad * by_sigma).sum(-1)
    centred = grad - mean.unsqueeze(-1)  # its product with g is centred
    if kernel == "gaussian":
        moment = centred * share * distance
        return moment.sum(-1) / sigma**2, (moment * distance).sum(-1) / sigma**3
    height = math.sqrt(6) * sigma - distance.abs()
    rising = (height.sign() + 1) / 2
    total = height.clamp(min=0).sum(-1)
    up = centred * rising
    return (up * distance.sign()).sum(-1) / total, math.sqrt(6) * up.sum(-1) / total
