"""Delayed synapses: the kernel over lags of a weight, a delay and a width, and the causal product with it."""

from .reference import (
    KERNELS,
    NEGLIGIBLE,
    SMALLEST_SIGMA,
    bounded,
    delay_kernel,
    delayed_product,
    nearest,
    spread,
)

__all__ = ["KERNELS", "NEGLIGIBLE", "SMALLEST_SIGMA", "bounded", "delay_kernel", "delayed_product", "nearest", "spread"]
