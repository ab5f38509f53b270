"""One piece of a convolution or of its gradient, in vectors over LANES channels, its sums in registers.

Written out, since LLVM neither keeps an array of sums in registers nor knows that what is written does not overlap what is
read. All arrays are flat float32; all places and steps are counted in floats.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "slide"]

LANES = 16
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FUSED = ("contract",)  # a product and a sum may round once


@intrinsic(prefer_literal=True)
def slide(
    typing_context, a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, rows
):
    """out[p] = init[p] + sum over j < count of a[j] x[j, p], for p < ``rows``, a literal; each a vector of LANES.

    a[j] lies at ``at + j a_step``, x[j, p] at ``x_at + j x_step + p x_row``, and so on. A convolution: a are the taps and
    p counts outputs. The gradient of its taps: a are the outputs' gradients and p counts taps.
    """
    many, n = rows.literal_value, types.intp
    signature = types.void(a, n, n, x, n, n, n, n, init, n, n, out, n, n, rows)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, _ = arguments
        kinds = signature.args
        places = ((0, a), (3, x), (8, init), (11, out))
        of_a, of_x, of_init, of_out = (
            context.make_array(kinds[k])(context, builder, array).data for k, array in places
        )

        def vector(data: Any, place: Any) -> Any:
            return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())

        sums = []
        for _ in range(many):
            sums.append(cgutils.alloca_once(builder, _VECTOR))
            builder.store(builder.load(vector(of_init, init_at), align=4), sums[-1])
            init_at = builder.add(init_at, init_row)
        tap, row = cgutils.alloca_once_value(builder, at), cgutils.alloca_once_value(builder, x_at)
        with cgutils.for_range(builder, count):
            factor = builder.load(vector(of_a, builder.load(tap)), align=4)
            place = builder.load(row)
            for total in sums:
                product = builder.fmul(factor, builder.load(vector(of_x, place), align=4), flags=_FUSED)
                builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)
                place = builder.add(place, x_row)
            builder.store(builder.add(builder.load(tap), a_step), tap)
            builder.store(builder.add(builder.load(row), x_step), row)
        for total in sums:
            builder.store(builder.load(total), vector(of_out, out_at), align=4)
            out_at = builder.add(out_at, out_row)
        return context.get_dummy_value()

    return signature, generate
