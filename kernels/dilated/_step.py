"""One step of a stream on the CPU: the outputs and the history of the next step, in one compiled call.

A step's products take a microsecond or ten, and so does every call of torch. So the loops are given addresses.
"""

# numba gives a function that it compiles its context, and a variable its type: mypy sees neither.
# mypy: disable-error-code="call-arg, var-annotated"

import numba
import numpy as np
from numba.extending import register_jitable

from .._float32 import floats_at
from ._loops import _apply

__all__ = ["make_step"]

_SUM = ("reassoc", "contract")  # sums in any order, in vectors; NaN stays


@numba.njit(fastmath=set(_SUM), error_model="numpy")
def _dot(a, at, b, n):
    total = np.float32(0)
    for j in range(n):
        total += a[at + j] * b[j]
    return total


@register_jitable
def _dense(taps, sums, biased, met, inputs, outputs, count, out):
    """``met``: [I, K] of one sample."""
    many = inputs * count
    for o in range(outputs):
        total = _dot(taps, o * many, met, many)
        out[o] = total + sums[o] if biased else total


@register_jitable
def _depthwise(taps, sums, biased, met, channels, count, out):
    """``met``: [C, K] of one sample."""
    for c in range(channels):
        total = np.float32(0)
        for k in range(count):
            total += taps[c * count + k] * met[c * count + k]
        out[c] = total + sums[c] if biased else total


def make_step(version: int):
    """y[b] from the taps [O, I / groups, K], a row x[b] and every ``dilation``-th row of the history.

    All but the numbers are addresses of float32, 0 where there is nothing: no history of no steps, no bias, and no wish for
    ``after``, the history that follows: the old one without its first step, and x.
    """

    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def step(x, history, weight, bias, y, after, past, count, dilation, batch, inputs, outputs, depthwise, kind):
        _ = version
        row = batch * inputs
        now = numba.carray(floats_at(x), row)
        taps = numba.carray(floats_at(weight), outputs * count * (1 if depthwise else inputs))
        before = numba.carray(floats_at(history), past * row)
        sums = numba.carray(floats_at(bias), outputs)
        out = numba.carray(floats_at(y), batch * outputs)
        if after != 0:
            later = numba.carray(floats_at(after), past * row)
            later[: (past - 1) * row] = before[row:]
            later[(past - 1) * row :] = now
        met, done = np.empty(inputs * count, np.float32), np.empty(outputs, np.float32)
        for b in range(batch):
            for k in range(count):
                source = now[b * inputs :] if k == count - 1 else before[(k * dilation * batch + b) * inputs :]
                for i in range(inputs):
                    met[i * count + k] = source[i]
            if depthwise:
                _depthwise(taps, sums, bias != 0, met, inputs, count, done)
            else:
                _dense(taps, sums, bias != 0, met, inputs, outputs, count, done)
            _apply(done, out[b * outputs :], outputs, kind)

    return step
