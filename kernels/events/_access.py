"""Elements of flat arrays in compiled loops, without what numba adds: no check for a negative index, no count of references.

A slice in a loop costs two atomic additions to the array's count of references, which at some microseconds a step is most of
the time. So the loops pass arrays whole, with the place where their part begins.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["BLOCK", "live", "load", "lowest", "store"]

BLOCK = 32  # values that are looked at at once
_MASK = ir.IntType(BLOCK)


def _pointer(context, builder, kind, array, index):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def load(typing_context, array, index):
    """array[index]."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature.args[0], *arguments))

    return array.dtype(array, types.intp), generate


@intrinsic
def store(typing_context, array, index, value):
    """array[index] = value."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _pointer(context, builder, signature.args[0], *arguments[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def live(typing_context, array, index):
    """Which of ``BLOCK`` float32 from there on are not zero (NaN is not), as the bits of a number."""

    def generate(context, builder, signature, arguments):
        many = ir.VectorType(ir.FloatType(), BLOCK)
        place = builder.bitcast(_pointer(context, builder, signature.args[0], *arguments), many.as_pointer())
        values = builder.load(place, align=4)
        return builder.bitcast(builder.fcmp_unordered("!=", values, ir.Constant(many, [0.0] * BLOCK)), _MASK)

    return types.uint32(array, types.intp), generate


@intrinsic
def lowest(typing_context, bits):
    """The place of the lowest bit that is set."""

    def generate(context, builder, signature, arguments):
        return builder.zext(builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return types.int64(types.uint32), generate
