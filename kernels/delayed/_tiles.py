"""The inner loops of ``cpu.py`` and ``_late.py``, in registers: LLVM would have to prove that no rows overlap.

All arrays are flat; float32 but for the places, which are int32. Everything is counted in elements.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["GROUP", "TILE", "add_late", "add_rows", "add_shifted", "dot_late", "dot_shifted"]

_LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
_FUSED = ("contract",)  # a product and a sum may round once
_SUMS = 8  # side by side: each addition waits four cycles for the one before, and two start in a cycle
TILE = _SUMS * _LANES  # elements that `add_shifted` adds to
GROUP = _SUMS  # places whose products `dot_shifted` takes at once


@intrinsic
def add_shifted(typing_context, target, to, source, weights, places, first, count):
    """target[to + n] += sum over k of weights[k] source[places[k] + n], for TILE n and k = first .. first + count."""
    place = types.intp
    signature = types.void(target, place, source, weights, places, place, place)

    def generate(context, builder, signature, arguments):
        _, to, _, _, _, first, count = arguments
        out, values, factors, offsets = (_data(context, builder, signature, arguments, k) for k in (0, 2, 3, 4))
        here = [_address(builder, out, to, j) for j in range(_SUMS)]
        totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_SUMS)]
        for total, address in zip(totals, here, strict=True):
            builder.store(builder.load(address, align=4), total)
        with cgutils.for_range(builder, count) as loop:
            k = builder.add(first, loop.index)
            factor = _everywhere(builder, builder.load(builder.gep(factors, [k])))
            start = builder.sext(builder.load(builder.gep(offsets, [k])), to.type)
            for j, total in enumerate(totals):
                row = builder.load(_address(builder, values, start, j), align=4)
                builder.store(_fused(builder, factor, row, builder.load(total)), total)
        for total, address in zip(totals, here, strict=True):
            builder.store(builder.load(total), address, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def dot_shifted(typing_context, target, first, other, at, source, places, shift, vectors):
    """target[k] += sum over n of other[at + n] source[places[k] + shift + n], for GROUP k from first, 16 n a vector."""
    place = types.intp
    signature = types.void(target, place, other, place, source, places, place, place)

    def generate(context, builder, signature, arguments):
        _, first, _, at, _, _, shift, vectors = arguments
        out, left, values, offsets = (_data(context, builder, signature, arguments, k) for k in (0, 2, 4, 5))
        lanes = ir.Constant(at.type, _LANES)
        totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(GROUP)]
        starts = []
        for k, total in enumerate(totals):
            builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), total)
            entry = builder.add(first, ir.Constant(first.type, k))
            offset = builder.sext(builder.load(builder.gep(offsets, [entry])), at.type)
            starts.append(builder.add(offset, shift))
        with cgutils.for_range(builder, vectors) as loop:
            n = builder.mul(loop.index, lanes)
            row = builder.load(_address(builder, left, builder.add(at, n), 0), align=4)
            for start, total in zip(starts, totals, strict=True):
                moved = builder.load(_address(builder, values, builder.add(start, n), 0), align=4)
                builder.store(_fused(builder, row, moved, builder.load(total)), total)
        add = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR]),
            f"llvm.vector.reduce.fadd.v{_LANES}f32",
        )
        for k, total in enumerate(totals):
            address = builder.gep(out, [builder.add(first, ir.Constant(first.type, k))])
            lane_sum = builder.call(add, [ir.Constant(ir.FloatType(), 0.0), builder.load(total)], fastmath=("reassoc",))
            builder.store(builder.fadd(builder.load(address), lane_sum), address)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_late(typing_context, target, to, source, at, factors, places, count):
    """target[to + n] = sum over k < count of factors[k][n] source[at + places[k] + n], for GROUP vectors n; int64 places."""
    place = types.intp
    signature = types.void(target, place, source, place, factors, places, place)

    def generate(context, builder, signature, arguments):
        _, to, _, at, _, _, count = arguments
        out, values, weights, offsets = (_data(context, builder, signature, arguments, k) for k in (0, 2, 4, 5))
        totals = _zeros(builder)
        with cgutils.for_range(builder, count) as loop:
            row = builder.mul(loop.index, ir.Constant(at.type, _LANES))
            factor = builder.load(_address(builder, weights, row, 0), align=4)
            start = builder.add(at, builder.load(builder.gep(offsets, [loop.index])))
            for j, total in enumerate(totals):
                row = builder.load(_address(builder, values, start, j), align=4)
                builder.store(_fused(builder, factor, row, builder.load(total)), total)
        for j, total in enumerate(totals):
            builder.store(builder.load(total), _address(builder, out, to, j), align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def dot_late(typing_context, target, to, grads, at, source, begin, steps):
    """target[to + k][n] += sum over t of grads[at + t][n] source[begin + t - k][n], t and k < GROUP in vectors of n."""
    place = types.intp
    signature = types.void(target, place, grads, place, source, place, place)

    def generate(context, builder, signature, arguments):
        _, to, _, at, _, begin, steps = arguments
        out, left, values = (_data(context, builder, signature, arguments, k) for k in (0, 2, 4))
        totals = _zeros(builder)
        with cgutils.for_range(builder, steps) as loop:
            n = builder.mul(loop.index, ir.Constant(at.type, _LANES))
            row = builder.load(_address(builder, left, builder.add(at, n), 0), align=4)
            start = builder.add(begin, n)
            for k, total in enumerate(totals):
                moved = builder.load(_address(builder, values, start, -k), align=4)
                builder.store(_fused(builder, row, moved, builder.load(total)), total)
        for k, total in enumerate(totals):
            address = _address(builder, out, to, k)
            builder.store(builder.fadd(builder.load(address, align=4), builder.load(total)), address, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def add_rows(typing_context, target, to, source, starts, factors, shift, first, count, rows):
    """target[to + n] += sum over k of factors[k] source[starts[k] + shift + n], for `rows` vectors n, a literal number of
    them, and k = first .. first + count; both begin at lines of the cache."""
    place, number = types.intp, rows.literal_value
    signature = types.void(target, place, source, starts, factors, place, place, place, rows)

    def generate(context, builder, signature, arguments):
        _, to, _, _, _, shift, first, count, _ = arguments
        out, values, offsets, numbers = (_data(context, builder, signature, arguments, k) for k in (0, 2, 3, 4))
        here = [_address(builder, out, to, j) for j in range(number)]
        totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(number)]
        for total, address in zip(totals, here, strict=True):
            builder.store(builder.load(address, align=64), total)
        with cgutils.for_range(builder, count) as loop:
            k = builder.add(first, loop.index)
            factor = _everywhere(builder, builder.load(builder.gep(numbers, [k])))
            start = builder.add(builder.sext(builder.load(builder.gep(offsets, [k])), to.type), shift)
            for j, total in enumerate(totals):
                row = builder.load(_address(builder, values, start, j), align=64)
                builder.store(_fused(builder, factor, row, builder.load(total)), total)
        for total, address in zip(totals, here, strict=True):
            builder.store(builder.load(total), address, align=64)
        return context.get_dummy_value()

    return signature, generate


def _zeros(builder: Any) -> list[Any]:
    totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_SUMS)]
    for total in totals:
        builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), total)
    return totals


def _data(context: Any, builder: Any, signature: Any, arguments: Any, k: int) -> Any:
    return context.make_array(signature.args[k])(context, builder, arguments[k]).data


def _address(builder: Any, data: Any, at: Any, vector: int) -> Any:
    element = builder.gep(data, [builder.add(at, ir.Constant(at.type, vector * _LANES))])
    return builder.bitcast(element, _VECTOR.as_pointer())


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)


def _everywhere(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    vector = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(vector, undefined, zeros)
