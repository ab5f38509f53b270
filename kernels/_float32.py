"""float32 functions for numba loops, in arithmetic that LLVM vectorises; numba itself calls the scalar C library."""

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["exp"]

_LOG2_E = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)  # nine bits, so that its product with a whole number below 2^15 is exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_TO_WHOLE = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to a whole number
_LOWEST, _HIGHEST = np.float32(-150), np.float32(100)  # beyond: 0 and infinity
_HALF = np.float32(0.5)
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(8))


@intrinsic
def _power_of_two(typing_context, n):
    """2^n for a float32 n that holds a whole number in [-126, 127], made from the bits of the exponent."""

    def generate(context, builder, signature, arguments):
        whole = builder.fptosi(arguments[0], ir.IntType(32))
        biased = builder.add(whole, ir.Constant(ir.IntType(32), 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.float32), generate


@numba.njit(inline="always")
def exp(x):
    """e^x for a float32 x, to 1 unit in the last place (1.2e-7), subnormal results included; NaN stays NaN.

    x = n ln 2 + r with |r| <= ln(2)/2, and e^r from seven terms of its series, whose rest is 5e-9.
    """
    bounded = x if x > _LOWEST else _LOWEST  # NaN too: it would be an undefined exponent
    bounded = bounded if bounded < _HIGHEST else _HIGHEST
    n = (bounded * _LOG2_E + _TO_WHOLE) - _TO_WHOLE
    r = (bounded - n * _LN2_HIGH) - n * _LN2_LOW
    series = _TAYLOR[7]
    series = series * r + _TAYLOR[6]
    series = series * r + _TAYLOR[5]
    series = series * r + _TAYLOR[4]
    series = series * r + _TAYLOR[3]
    series = series * r + _TAYLOR[2]
    series = series * r + _TAYLOR[1]
    series = series * r + _TAYLOR[0]
    half = (n * _HALF + _TO_WHOLE) - _TO_WHOLE  # in two factors, since 2^n alone may lie outside float32
    result = series * _power_of_two(half) * _power_of_two(n - half)  # type: ignore[call-arg]
    return x if x != x else result
