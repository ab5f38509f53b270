"""Delayed synapses: weights, delays and a width in, current out; and the parts that this is made of."""

from .reference import (
    KERNELS,
    NEGLIGIBLE,
    PER,
    SMALLEST_SIGMA,
    bounded,
    delay_kernel,
    delayed_linear,
    delayed_product,
    delayed_shift,
    nearest,
    spread,
)

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
    "nearest",
    "spread",
]
