"""float32 functions for numba loops, in arithmetic that LLVM vectorises; numba itself calls the scalar C library."""

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["exp", "floats_at", "log", "times_plus"]

_LOG2_E = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)  # nine bits, so that its product with a whole number below 2^15 is exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_TO_WHOLE = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to a whole number
_LOWEST, _HIGHEST = np.float32(-150), np.float32(100)  # beyond: 0 and infinity
_HALF = np.float32(0.5)
_ZERO, _TWO, _24, _TWO_24 = np.float32(0), np.float32(2), np.float32(24), np.float32(2**24)
_SMALLEST, _INFINITY, _NAN = np.float32(2**-126), np.float32(np.inf), np.float32(np.nan)
_ATANH = tuple(np.float32(1 / (2 * k + 1)) for k in range(5))
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(8))


@intrinsic
def floats_at(typing_context, address):
    """The float32 at an address, for ``numba.carray``: a hundredth of the time of an array that numba has to unpack."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(address), generate


@intrinsic
def times_plus(typing_context, x, factor, term):
    """x * factor + term, rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.f32")
        return builder.call(fused, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


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


@intrinsic
def _exponent(typing_context, x):
    """The whole number n, as float32, for which x / 2^n lies within a factor sqrt(2) of 1; x is normal and > 0."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        moved = builder.sub(bits, ir.Constant(ir.IntType(32), 0x3F3504F3))  # the bits of sqrt(1/2)
        return builder.sitofp(builder.ashr(moved, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _scaled(typing_context, x, n):
    """x / 2^n, by its bits; both the result and x are normal."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        whole = builder.fptosi(arguments[1], ir.IntType(32))
        moved = builder.sub(bits, builder.shl(whole, ir.Constant(ir.IntType(32), 23)))
        return builder.bitcast(moved, ir.FloatType())

    return types.float32(types.float32, types.float32), generate


@numba.njit(inline="always")
def log(x):
    """The natural logarithm of a float32 x, to 2 units in the last place; -inf at 0, NaN below, NaN and inf stay.

    x = 2^n m with m within a factor sqrt(2) of 1, and log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172, by five terms.
    """
    small = x < _SMALLEST
    normal = x * _TWO_24 if small else x
    n = _exponent(normal)  # type: ignore[call-arg, var-annotated]
    m = _scaled(normal, n)  # type: ignore[call-arg]
    n = n - _24 if small else n
    f = m - _ATANH[0]
    s = f / (_TWO + f)
    z = s * s
    series = _ATANH[4]
    series = series * z + _ATANH[3]
    series = series * z + _ATANH[2]
    series = series * z + _ATANH[1]
    # log m = f - s (f - 2 z series): f itself is exact
    result = n * _LN2_HIGH + (f - (s * (f - _TWO * z * series) - n * _LN2_LOW))
    result = result if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)
    return result if x < _INFINITY else x
