"""Stores that go past the caches, for results larger than they are.

An ordinary store first fetches the line that it writes to: 12 bytes move where 8 need to. Here numbers are gathered in a
small array, which stays in the first-level cache, and go from there to memory in whole lines. Only x86 has a rule for the
order in which other threads see them (a fence), so only there ``AVAILABLE`` is true.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

__all__ = ["AVAILABLE", "fence", "put"]

AVAILABLE = platform.machine().lower() in ("x86_64", "amd64")
_LINE = 64  # bytes


def _lines_copied(past_caches: bool):
    """Copy whole lines from the start of ``source`` to target[first], which for ``past_caches`` lies on a line's edge.

    Written out, since LLVM makes what it likes of a loop that copies.
    """

    def copy_lines(typing_context, target, first, source, lines):
        signature = types.void(target, types.intp, source, types.intp)

        def generate(context, builder, signature, arguments):
            to, start, source_array, count = arguments
            line, size = ir.VectorType(ir.IntType(32), _LINE // 4).as_pointer(), source.dtype.bitwidth // 8
            to_data = context.make_array(signature.args[0])(context, builder, to).data
            destination = builder.bitcast(builder.gep(to_data, [start]), line)
            origin = builder.bitcast(context.make_array(signature.args[2])(context, builder, source_array).data, line)
            with cgutils.for_range(builder, count) as loop:
                value = builder.load(builder.gep(origin, [loop.index]), align=size)
                place = builder.gep(destination, [loop.index])
                store = builder.store(value, place, align=_LINE if past_caches else size)
                if past_caches:
                    one = ir.Constant(ir.IntType(32), 1)
                    store.set_metadata("nontemporal", builder.module.add_metadata([one]))
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(copy_lines)


_past_caches, _into_caches = _lines_copied(True), _lines_copied(False)


@intrinsic
def fence(typing_context):
    """Let other threads see what was stored before they see what is stored after."""
    signature = types.void()

    def generate(context, builder, signature, arguments):
        if AVAILABLE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse.sfence", (), kind), [])
        return context.get_dummy_value()

    return signature, generate


@register_jitable
def put(target, first, source, n, streamed):
    """target[first : first + n] = source[:n]; ``streamed``: past the caches where whole lines allow it."""
    each = target.itemsize
    lines = n * each // _LINE
    if streamed and (target.ctypes.data + first * each) % _LINE == 0:
        _past_caches(target, first, source, lines)
    else:
        _into_caches(target, first, source, lines)
    for j in range(lines * _LINE // each, n):
        target[first + j] = source[j]
