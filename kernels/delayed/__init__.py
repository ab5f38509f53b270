"""Delayed synapses: weights, delays and a width in, current out; and the parts that this is made of."""

from torch import Tensor

from . import reference
from ._walls import inwards, unprojected
from .operator import delayed_synapses
from .reference import (
    KERNELS,
    NEGLIGIBLE,
    PER,
    SMALLEST_SIGMA,
    bounded,
    delay_kernel,
    delayed_product,
    delayed_shift,
    halves,
    nearest,
    spread,
)
from .shift import shifted

__all__ = [
    "KERNELS",
    "NEGLIGIBLE",
    "PER",
    "SMALLEST_SIGMA",
    "bounded",
    "delay_kernel",
    "delayed_linear",
    "delayed_product",
    "delayed_shift",
    "halves",
    "inwards",
    "nearest",
    "spread",
    "unprojected",
]


def delayed_linear(
    history: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: float | Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    kernel: str = "gaussian",
    per: str = "synapse",
    copies: Tensor | None = None,
    width: float | None = None,
) -> Tensor:
    """A layer of delayed synapses: weights, delays and a width in, current out.

    y[t,o] = sum over i and lag of w[o,i] g(lag; d[o,i], sigma) x[t-lag,i]   (+ b[o])

    Args:
        history: the max_delay steps before the first output and then T steps, oldest first.
        weight: with a third axis a pair of neurons has several synapses, which add up (synapse, axon and dendrite).
        delay: in steps, one for each synapse, axon or dendrite; taken within 0 .. max_delay.
        sigma: effective standard deviation in steps, >= 0.
        bias: added to every step.
        max_delay: the largest delay, in steps, inclusive.
        kernel: how a weight is spread over the lags: "gaussian", "triangle", "rounded" or "spectral".
        per: what has a delay of its own: "synapse", "axon", "dendrite", axons and dendrites ("additive"), or copies of axons
            ("group").
        copies: for a group, the copy that each synapse has picked.
        width: sigma as a number, by which the fastest way is chosen; without it a `sigma` on a GPU is taken for wide, since
            nothing waits for a device.
    Shape:
        history: [max_delay + T, B, I].  weight: [O, I] or [O, I, synapses].  delay: like weight, axon [I] or [I, synapses],
        dendrite [O] or [O, synapses], additive [I + O], the axons first, group [copies, I].  copies: [O, I].
        Returns [T, B, O].
    Raises:
        ValueError: an unknown `kernel` or `per`.

    >>> import torch
    >>> history = torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0]).view(5, 1, 1)  # two steps of silence, then three
    >>> delayed_linear(history, torch.ones(1, 1), torch.ones(1, 1), 0.0, max_delay=2).flatten()
    tensor([0., 1., 2.])
    """
    if per != "synapse" or kernel not in KERNELS:
        return reference.delayed_linear(
            history, weight, delay, sigma, bias, max_delay=max_delay, kernel=kernel, per=per, copies=copies, shift=shifted,
        )  # fmt: skip
    if not isinstance(sigma, Tensor):
        width = float(sigma)
        sigma = weight.new_full((), width)
    y = delayed_synapses(history, weight, delay, sigma.to(weight.dtype), width, max_delay=max_delay, kernel=kernel)
    return y if bias is None else y + bias.to(y.dtype)
