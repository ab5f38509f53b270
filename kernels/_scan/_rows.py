"""Rows of a workspace in compiled loops, and numbers of 16 bits in arrays of whole ones.

LLVM vectorises a loop only if it can tell that what it writes does not overlap what it reads. So everything that belongs to
a block of neurons lies in one array, in rows at distances known when the loop is compiled; a group of rows is read and
written as one tuple.

A 16-bit number is held by its bits, as numba has no arithmetic for it: bfloat16 in an array of uint16, float16 in one of
int16.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["accumulate", "narrow", "read", "widen", "write"]

_FLOAT, _WORD, _HALF_WORD = ir.FloatType(), ir.IntType(32), ir.IntType(16)


@intrinsic(prefer_literal=True)
def read(typing_context, w, stride, first, count, j):
    """The tuple w[first * stride + j], w[(first + 1) * stride + j], ...: ``count`` rows of row length ``stride``."""
    distance, start, rows = stride.literal_value, first.literal_value, count.literal_value
    signature = types.UniTuple(w.dtype, rows)(w, stride, first, count, types.intp)

    def generate(context, builder, signature, arguments):
        array, *_, column = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        values = [builder.load(_element(builder, data, column, (start + k) * distance)) for k in range(rows)]
        return context.make_tuple(builder, signature.return_type, values)

    return signature, generate


def _writer(adds: bool):
    """Write a tuple, or add it, to the places that ``read`` reads: (w, stride, first, values, j)."""

    def store(typing_context, w, stride, first, values, j):
        distance, start = stride.literal_value, first.literal_value
        signature = types.void(w, stride, first, values, types.intp)

        def generate(context, builder, signature, arguments):
            array, _, _, numbers, column = arguments
            data = context.make_array(signature.args[0])(context, builder, array).data
            for k, number in enumerate(cgutils.unpack_tuple(builder, numbers, signature.args[3].count)):
                place = _element(builder, data, column, (start + k) * distance)
                builder.store(builder.fadd(builder.load(place), number) if adds else number, place)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(prefer_literal=True)(store)


write, accumulate = _writer(adds=False), _writer(adds=True)


@intrinsic
def widen(typing_context, number):
    """An array's element as float32."""
    signature = types.float32(number)

    def generate(context, builder, signature, arguments):
        (bits,) = arguments
        if number == types.float32:
            return bits
        if number == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(bits, _WORD), ir.Constant(_WORD, 16)), _FLOAT)
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), _FLOAT)

    return signature, generate


@intrinsic
def narrow(typing_context, number, like):
    """A float32 as an element of the kind of ``like``, rounded to the nearest, a tie to the even one."""
    signature = like(types.float32, like)

    def generate(context, builder, signature, arguments):
        value, _ = arguments
        if like == types.float32:
            return value
        if like == types.int16:
            return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _HALF_WORD)
        bits = builder.bitcast(value, _WORD)
        high = builder.lshr(bits, ir.Constant(_WORD, 16))
        odd = builder.and_(high, ir.Constant(_WORD, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(_WORD, 0x7FFF)))
        quiet = builder.or_(bits, ir.Constant(_WORD, 0x400000))  # rounding could carry a NaN over into infinity
        chosen = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
        return builder.trunc(builder.lshr(chosen, ir.Constant(_WORD, 16)), _HALF_WORD)

    return signature, generate


def _element(builder, data, column, offset):
    return builder.gep(data, [builder.add(column, ir.Constant(column.type, offset))])
