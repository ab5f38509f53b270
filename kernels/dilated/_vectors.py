"""One piece of a convolution or of its gradient, in vectors over LANES channels, its sums in registers.

Written out, since LLVM neither keeps an array of sums in registers nor knows that what is written does not overlap what is
read. All arrays are flat float32; all places and steps are counted in floats.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "ROWS", "slide", "slide_across", "slide_window"]

LANES = 16
ROWS = 8  # of outputs, whose sums ``slide_window`` keeps in registers
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
    n = types.intp
    signature = types.void(a, n, n, x, n, n, n, n, init, n, n, out, n, n, rows)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _emit(context, builder, signature, arguments, rows.literal_value)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def slide_across(
    typing_context, a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, rows,
    vectors,
):  # fmt: skip
    """``slide`` for so many vectors side by side, in one loop: for few taps a call takes longer than their products."""
    n = types.intp
    signature = types.void(a, n, n, x, n, n, n, n, init, n, n, out, n, n, rows, n)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *given, vectors = arguments
        with cgutils.for_range(builder, vectors) as loop:
            beside = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            moved = [builder.add(v, beside) if k in _PLACES else v for k, v in enumerate(given)]
            _emit(context, builder, signature, moved, rows.literal_value)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def slide_window(typing_context, a, at, a_step, x, x_at, x_step, count, init, init_at, out, out_at, out_row, vectors):
    """out[p] = init + sum over j < count of a[j] x[j + p], for p < ROWS and so many vectors side by side; count >= ROWS.

    Each x is loaded once and meets ROWS taps, which are few and lie in the first-level cache, where ``slide`` loads one x
    for each product. No x meets a tap that is not its own, not even one of zero: it may be infinite.
    """
    n = types.intp
    signature = types.void(a, n, n, x, n, n, n, init, n, out, n, n, n)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, at, a_step, x, x_at, x_step, count, init, init_at, out, out_at, out_row, vectors = arguments
        kinds, places = signature.args, ((0, a), (3, x), (7, init), (9, out))
        of_a, of_x, of_init, of_out = (
            context.make_array(kinds[k])(context, builder, array).data for k, array in places
        )

        def vector(data: Any, place: Any) -> Any:
            return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())

        def times(number: int, step: Any) -> Any:
            return builder.mul(step, ir.Constant(step.type, number))

        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(ROWS)]
        with cgutils.for_range(builder, vectors) as loop:
            c = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            first = builder.load(vector(of_init, builder.add(init_at, c)), align=4)
            for total in sums:
                builder.store(first, total)
            taps, rows = builder.add(at, c), builder.add(x_at, c)

            def meet(r: Any, some: range, taps: Any = taps, rows: Any = rows) -> None:
                """Row r of x, and its taps r - p of these outputs."""
                value = builder.load(vector(of_x, builder.add(rows, builder.mul(r, x_step))), align=4)
                latest = builder.add(taps, builder.mul(r, a_step))
                for p in some:
                    factor = builder.load(vector(of_a, builder.sub(latest, times(p, a_step))), align=4)
                    product = builder.fmul(factor, value, flags=_FUSED)
                    builder.store(builder.fadd(product, builder.load(sums[p]), flags=_FUSED), sums[p])

            def place(number: int) -> Any:
                return ir.Constant(count.type, number)

            for r in range(ROWS - 1):
                meet(place(r), range(r + 1))
            with cgutils.for_range(builder, builder.sub(count, place(ROWS - 1))) as inner:
                meet(builder.add(inner.index, place(ROWS - 1)), range(ROWS))
            for r in range(ROWS - 1):
                meet(builder.add(count, place(r)), range(r + 1, ROWS))
            for p, total in enumerate(sums):
                to = builder.add(builder.add(out_at, c), times(p, out_row))
                builder.store(builder.load(total), vector(of_out, to), align=4)
        return context.get_dummy_value()

    return signature, generate


_PLACES = (1, 4, 9, 12)  # of the arguments: where a, x, init and out begin


def _emit(context: Any, builder: Any, signature: Any, arguments: Any, many: int) -> None:
    a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, _ = arguments
    kinds = signature.args
    places = ((0, a), (3, x), (8, init), (11, out))
    of_a, of_x, of_init, of_out = (context.make_array(kinds[k])(context, builder, array).data for k, array in places)

    def vector(data: Any, place: Any) -> Any:
        return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())

    sums = []
    for _ in range(many):
        sums.append(cgutils.alloca_once(builder, _VECTOR))
        builder.store(builder.load(vector(of_init, init_at), align=4), sums[-1])
        init_at = builder.add(init_at, init_row)
    tap, row = cgutils.alloca_once(builder, at.type), cgutils.alloca_once(builder, x_at.type)
    builder.store(at, tap)
    builder.store(x_at, row)
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
