"""The live taps of a synapse, the lags that get a share of its weight worth computing, and their gradients in closed form.

A synapse's window is `taps` lags around its delay, moved inside 0 .. max_delay. What lies outside has less than TOLERANCE of
the largest share (triangles and rounded delays: nothing at all), so values and gradients err by about that much, relative.
A window of all lags leaves nothing out.

With u the slope of log g without its normalisation, the gradients of a share's g are centred, since the shares sum to one:

    dg/dd = g (u - sum of g u),  gaussian: u = (lag - d) / sigma^2 for the delay, (lag - d)^2 / sigma^3 for sigma
"""

import math

import torch
from torch import Tensor

from .reference import SMALLEST_SIGMA, bounded, circle, nearest, spread_at

__all__ = ["TOLERANCE", "gradients", "shares", "taps"]

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


def shares(delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int) -> tuple[Tensor, Tensor]:
    """Where each synapse's window begins, and the shares in it.

    Shape:
        delay: [*shape].  Returns (first [*shape], whole numbers, shares [*shape, count]).
    """
    delay = delay.clamp(0, max_delay)
    first = nearest(delay) if count == 1 else (delay - count / 2).ceil()
    first = first.clamp(0, max_delay + 1 - count)
    lags = first.unsqueeze(-1) + torch.arange(count, device=delay.device, dtype=delay.dtype)
    return first, spread_at(lags, delay, sigma, max_delay, kernel)


def gradients(
    grad: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, first: Tensor, share: Tensor, max_delay: int, kernel: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Of weight, delay and sigma, from those of the live taps.

    Shape:
        grad, share: [*shape, count].  weight, delay, first: [*shape].  sigma: [].
    """
    grad_weight = (grad * share).sum(-1)
    if kernel == "rounded":
        return grad_weight, torch.zeros_like(delay), torch.zeros_like(sigma)
    smallest = SMALLEST_SIGMA[kernel]
    wide = (sigma >= smallest).to(delay.dtype)  # a rounded delay gets no gradient; no branch on a number of the device's
    sigma = sigma.to(delay.dtype).clamp(min=smallest)
    within = delay.clamp(0, max_delay)
    distance = (first - within).unsqueeze(-1) + torch.arange(share.shape[-1], device=delay.device, dtype=delay.dtype)
    of_delay, of_sigma = _slopes(grad, grad_weight, distance, sigma, share, max_delay, kernel)
    grad_delay = weight * of_delay * wide
    outwards = ((delay <= 0) & (grad_delay > 0)) | ((delay >= max_delay) & (grad_delay < 0))
    return grad_weight, grad_delay.masked_fill(outwards, 0), (weight * of_sigma).sum() * wide


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
