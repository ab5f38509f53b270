"""Products of many small matrices in one call, in vectors of 16 float32; on some processors torch's run at half this speed.

    c[z] (+)= a[z] b[z],   the rows of b and c contiguous, a in any order

A panel of 32 columns of b is copied side by side once, and then meets the rows of a eight at a time, in registers.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from .._compiled import announced
from .._threads import share

__all__ = ["product"]

_LANES, _ROWS, _WIDE = 16, 8, 2
_PANEL = _LANES * _WIDE
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
_FUSED = ("contract",)
_GRAIN = 1 << 20  # products that pay for waking a thread
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def product(out: Tensor, left: Tensor, right: Tensor, add: bool = False) -> Tensor:
    """out (+)= left @ right, float32 [Z, M, K] and [Z, K, N]; the last axis of right and out is contiguous."""
    count, rows, depth = left.shape
    columns = right.shape[2]
    if not out.numel() or not depth:
        return out if add else out.zero_()
    panels = -(-columns // _PANEL)
    arrays = [_memory(tensor) for tensor in (out, left, right)]
    numbers = (
        rows, columns, depth, out.stride(0), out.stride(1), *left.stride(), right.stride(0), right.stride(1), add,
    )  # fmt: skip

    def task(first: int, stop: int) -> None:
        workspace = torch.empty(depth * _PANEL + _ROWS * _PANEL).numpy()  # where vectors begin at lines of the cache
        _multiply()(*arrays, *numbers, panels, workspace, first, stop)

    share(task, count * panels, max(1, _GRAIN // max(1, rows * depth * _PANEL)))
    return out


def _memory(tensor: Tensor) -> np.ndarray:
    """A flat array from the tensor's first element to its last."""
    reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.detach().as_strided((max(1, reach),), (1,)).numpy()


@intrinsic
def _tile(typing_context, out, to, to_row, left, at, row, step, panel, depth, add):
    """_ROWS rows of _PANEL columns: the sum over k of left[at + r row + k step] panel[k], added to out or not."""
    place = types.intp
    signature = types.void(out, place, place, left, place, place, place, panel, place, types.boolean)

    def generate(context, builder, signature, arguments):
        _, to, to_row, _, at, row, step, _, depth, add = arguments
        target, factors, values = (
            context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 3, 7)
        )
        totals = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(_WIDE)] for _ in range(_ROWS)]
        rows = []
        for r, line in enumerate(totals):
            rows.append(builder.add(at, builder.mul(row, ir.Constant(row.type, r))))
            for total in line:
                builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), total)
        with builder.if_then(add):
            for r, line in enumerate(totals):
                here = builder.add(to, builder.mul(to_row, ir.Constant(to_row.type, r)))
                for v, total in enumerate(line):
                    builder.store(builder.load(_vector(builder, target, here, v), align=4), total)
        undefined, zeros = (
            ir.Constant(_VECTOR, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES),
        )
        with cgutils.for_range(builder, depth) as loop:
            start = builder.mul(loop.index, ir.Constant(loop.index.type, _PANEL))
            wide = [builder.load(_vector(builder, values, start, v), align=64) for v in range(_WIDE)]
            along = builder.mul(loop.index, step)
            for begin, line in zip(rows, totals, strict=True):
                number = builder.load(builder.gep(factors, [builder.add(begin, along)]))
                number = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
                number = builder.shuffle_vector(number, undefined, zeros)
                for value, total in zip(wide, line, strict=True):
                    term = builder.fmul(number, value, flags=_FUSED)
                    builder.store(builder.fadd(term, builder.load(total), flags=_FUSED), total)
        for r, line in enumerate(totals):
            here = builder.add(to, builder.mul(to_row, ir.Constant(to_row.type, r)))
            for v, total in enumerate(line):
                builder.store(builder.load(total), _vector(builder, target, here, v), align=4)
        return context.get_dummy_value()

    return signature, generate


def _vector(builder: Any, data: Any, at: Any, vector: int) -> Any:
    element = builder.gep(data, [builder.add(at, ir.Constant(at.type, vector * _LANES))])
    return builder.bitcast(element, _VECTOR.as_pointer())


@cache
def _multiply():
    @numba.njit(**_options)
    def multiply(
        out, left, right, rows, columns, depth, out_z, out_row, left_z, left_row, left_step, right_z, right_step, add,
        panels, workspace, first, stop,
    ):  # fmt: skip
        """Panels first .. stop of all matrices' panels."""
        panel, edge = workspace[: depth * _PANEL], workspace[depth * _PANEL :]
        for number in range(first, stop):
            z, column = number // panels, number % panels * _PANEL
            wide = min(_PANEL, columns - column)
            for k in range(depth):
                source, target = right[z * right_z + k * right_step + column :], panel[k * _PANEL :]
                for n in range(wide):
                    target[n] = source[n]
                for n in range(wide, _PANEL):
                    target[n] = 0
            for r in range(0, rows, _ROWS):
                to, at = z * out_z + column, z * left_z
                if r + _ROWS <= rows and wide == _PANEL:
                    _tile(
                        out, to + r * out_row, out_row, left, at + r * left_row, left_row, left_step, panel, depth, add
                    )
                    continue
                # The last rows are fewer than a tile's: some of those before are taken again.
                begin = min(r, max(0, rows - _ROWS))
                if begin + _ROWS <= rows:
                    _tile(edge, 0, _PANEL, left, at + begin * left_row, left_row, left_step, panel, depth, False)
                else:
                    for one in range(rows):
                        _tile(edge[one * _PANEL :], 0, 0, left, at + one * left_row, 0, left_step, panel, depth, False)
                for one in range(r, min(r + _ROWS, rows)):
                    given, target = edge[(one - begin) * _PANEL :], out[to + one * out_row :]
                    if add:
                        for n in range(wide):
                            target[n] += given[n]
                    else:
                        for n in range(wide):
                            target[n] = given[n]

    return announced(multiply, "delayed synapses, matrix products")
