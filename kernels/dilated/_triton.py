"""The Triton kernels of ``cuda.py``: causal convolutions with their bias and activation, depthwise and dense.

[T, B, C] are R = T B rows of C channels, so that a tap is a block of rows that lie together, a whole number of rows earlier.
Backwards, for the input's gradient, row n is the n-th from the end.
"""

# mypy: ignore-errors
# What is compiled here is Triton's language, in which a name may change its type.

import triton
import triton.language as tl

__all__ = ["dense_kernel", "depthwise_kernel"]


@triton.jit
def _activated(sums, KIND: tl.constexpr):
    """By the number of the activation in ``reference.ACTIVATIONS``."""
    if KIND == 1:
        sums = tl.where(sums < 0, 0.0, sums)  # NaN stays
    elif KIND == 2:
        sums = 0.5 * sums * (1 + tl.erf(sums * 0.7071067811865476))
    elif KIND == 3:
        sums = sums * tl.sigmoid(sums)
    elif KIND == 4:
        sums = 2 * tl.sigmoid(2 * sums) - 1
    return sums


@triton.jit
def depthwise_kernel(
    x, history, taps, bias, z, y, total, stride, count, channels: tl.constexpr,
    KIND: tl.constexpr, BACKWARDS: tl.constexpr, PAST: tl.constexpr, BIASED: tl.constexpr, KEPT: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of CHANNELS channels; ``taps`` is [K, C]."""
    program = tl.program_id(0)
    blocks = tl.cdiv(channels, CHANNELS)
    rows = (program // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    sums = tl.zeros([ROWS, CHANNELS], tl.float32)
    if BIASED:
        sums += tl.load(bias + c, mask=there, other=0.0).to(tl.float32)[None, :]
    for k in range(count):
        seen = rows - (count - 1 - k).to(tl.int64) * stride
        places = total - 1 - seen if BACKWARDS else seen
        inside = ((seen >= 0) & (rows < total))[:, None] & there[None, :]
        value = tl.load(x + places[:, None] * channels + c[None, :], mask=inside, other=0.0).to(tl.float32)
        if PAST:
            before = seen + (count - 1).to(tl.int64) * stride
            outside = ((seen < 0) & (rows < total))[:, None] & there[None, :]
            value += tl.load(history + before[:, None] * channels + c[None, :], mask=outside, other=0.0).to(tl.float32)
        sums += tl.load(taps + k * channels + c, mask=there, other=0.0).to(tl.float32)[None, :] * value
    to = (total - 1 - rows if BACKWARDS else rows)[:, None] * channels + c[None, :]
    mask = (rows < total)[:, None] & there[None, :]
    if KEPT:
        tl.store(z + to, sums.to(z.dtype.element_ty), mask=mask)
    tl.store(y + to, _activated(sums, KIND).to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["total", "before", "stride", "count"])
def dense_kernel(
    x, taps, bias, z, y, total, before, stride, count, inputs: tl.constexpr, outputs: tl.constexpr,
    KIND: tl.constexpr, BACKWARDS: tl.constexpr, BIASED: tl.constexpr, KEPT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of OUTPUTS channels, a product of matrices for each tap and INPUTS channels; ``taps`` is [K, O, I].

    ``x`` has ``before`` rows before the first one: its history.
    """
    program = tl.program_id(0)
    blocks: tl.constexpr = (outputs + OUTPUTS - 1) // OUTPUTS
    groups: tl.constexpr = (inputs + INPUTS - 1) // INPUTS
    rows = (program // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o = (program % blocks) * OUTPUTS + tl.arange(0, OUTPUTS)
    i = tl.arange(0, INPUTS)
    sums = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for step in range(count * groups):
        channel = step % groups * INPUTS + i
        seen = rows + before - stride.to(tl.int64) * (count - 1 - step // groups)
        places = total - 1 - seen if BACKWARDS else seen
        inside = ((seen >= 0) & (rows < total))[:, None] & (channel < inputs)[None, :]
        value = tl.load(x + places[:, None] * inputs + channel[None, :], mask=inside, other=0.0)
        line = taps + (step // groups * outputs + o)[:, None] * inputs + channel[None, :]
        tap = tl.load(line, mask=(o < outputs)[:, None] & (channel < inputs)[None, :], other=0.0)
        sums = tl.dot(value, tl.trans(tap), sums, input_precision=PRECISION)
    if BIASED:
        sums += tl.load(bias + o, mask=o < outputs, other=0.0).to(tl.float32)[None, :]
    to = (total - 1 - rows if BACKWARDS else rows)[:, None] * outputs + o[None, :]
    mask = (rows < total)[:, None] & (o < outputs)[None, :]
    if KEPT:
        tl.store(z + to, sums.to(z.dtype.element_ty), mask=mask)
    tl.store(y + to, _activated(sums, KIND).to(y.dtype.element_ty), mask=mask)
