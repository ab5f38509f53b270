"""The compiled loops of ``cpu.py``: serial, over a range of rows or of columns, without the interpreter's lock.

Time and batch lie together: [T, B, C] is R = T B rows of C channels, row n = t B + b, and a tap that looks back by some
steps looks back by ``stride`` = dilation B rows for each. Dilation and batch are one thing, then, and rows whose numbers
agree modulo the stride, a phase, are a sequence by themselves.

The last vector of a row reaches back where the channels do not come in whole vectors: some are then computed twice.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable

from .._float32 import exp
from ._vectors import LANES, ROWS, slide, slide_across, slide_window

__all__ = [
    "make_activate",
    "make_differentiate",
    "make_packed",
    "make_packed_weight",
    "make_rows",
    "make_rows_weight",
    "make_windows",
]

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
_STAGE = 256
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_ROOT, _DENSITY = np.float32(0.5**0.5), np.float32((2 * np.pi) ** -0.5)
# erf by Abramowitz and Stegun, 7.1.26: within 1.5e-7.
_P = np.float32(0.3275911)
_ERF = tuple(np.float32(a) for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))


@register_jitable
def _slide(a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, rows):
    """``slide`` for any number of rows up to 8."""
    while rows > 0:
        if rows >= 8:
            slide(a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, 8)
            done = 8
        elif rows >= 4:
            slide(a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, 4)
            done = 4
        elif rows >= 2:
            slide(a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, 2)
            done = 2
        else:
            slide(a, at, a_step, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, 1)
            done = 1
        rows -= done
        x_at += done * x_row
        init_at += done * init_row
        out_at += done * out_row


@register_jitable
def _slide_all(a, at, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, rows, channels):
    """The same for all channels; a's rows are as long, and those that begin the last vector are computed twice."""
    whole, last = channels // LANES, channels - LANES
    if rows == 8:
        slide_across(
            a, at, channels, x, x_at, x_step, x_row, count, init, init_at, init_row, out, out_at, out_row, 8, whole
        )
    else:
        for index in range(whole):
            c = index * LANES
            _slide(
                a, at + c, channels, x, x_at + c, x_step, x_row, count, init, init_at + c, init_row,
                out, out_at + c, out_row, rows,
            )  # fmt: skip
    if channels % LANES:
        _slide(
            a, at + last, channels, x, x_at + last, x_step, x_row, count, init, init_at + last, init_row,
            out, out_at + last, out_row, rows,
        )  # fmt: skip


@register_jitable
def _column(index, channels):
    """The first channel of a vector."""
    return min(index * LANES, channels - LANES)


@register_jitable
def _put_taps(sums, count, c, channels, out):
    """A vector's sums into [K, C]."""
    for k in range(count):
        for j in range(LANES):
            out[k * channels + c + j] = sums[k * LANES + j]


@register_jitable
def _sigmoid(z):
    return _ONE / (_ONE + exp(-z))


@numba.njit(inline="always")  # LLVM finds it too long, and a loop that calls is no loop over vectors
def _normal(z):
    """The cumulative normal distribution, within 1.5e-7."""
    size = (z if z > _ZERO else -z) * _ROOT
    t = _ONE / (_ONE + _P * size)
    series = _ERF[4] * t + _ERF[3]
    series = series * t + _ERF[2]
    series = series * t + _ERF[1]
    series = (series * t + _ERF[0]) * t
    upper = _HALF * series * exp(-size * size)
    return upper if z < _ZERO else _ONE - upper


@register_jitable
def _apply(z, to, n, kind):
    """The activation of the first n numbers."""
    if kind == 0:
        for j in range(n):
            to[j] = z[j]
    elif kind == 1:
        for j in range(n):
            to[j] = _ZERO if z[j] < _ZERO else z[j]  # NaN stays
    elif kind == 2:
        for j in range(n):
            to[j] = z[j] * _normal(z[j])
    elif kind == 3:
        for j in range(n):
            to[j] = z[j] * _sigmoid(z[j])
    else:
        for j in range(n):
            to[j] = _TWO * _sigmoid(_TWO * z[j]) - _ONE


@register_jitable
def _apply_aside(z, to, n, kind, stage):
    """The same where both may be one array: a loop that may read what it writes is no loop over vectors."""
    for start in range(0, n, _STAGE):
        many = min(_STAGE, n - start)
        _apply(z[start:], stage, many, 0)
        _apply(stage, to[start:], many, kind)


def make_activate(version: int):
    """Activations of numbers first .. stop."""

    @numba.njit(**_options)
    def activate(z, out, kind, first, stop):
        _ = version
        stage = np.empty(_STAGE, np.float32)
        _apply_aside(z[first:], out[first:], stop - first, kind, stage)

    return activate


def make_differentiate(version: int):
    """Gradients before an activation, from those behind it and what was before, or for "relu" behind, it."""

    @numba.njit(**_options)
    def differentiate(grad, kept, out, kind, first, stop):
        _ = version
        g, z, to = grad[first:], kept[first:], out[first:]
        if kind == 1:
            for j in range(stop - first):
                to[j] = g[j] if z[j] > _ZERO else _ZERO
        elif kind == 2:
            for j in range(stop - first):
                to[j] = g[j] * (_normal(z[j]) + z[j] * _DENSITY * exp(-_HALF * z[j] * z[j]))
        elif kind == 3:
            for j in range(stop - first):
                s = _sigmoid(z[j])
                to[j] = g[j] * s * (_ONE + z[j] * (_ONE - s))
        else:
            for j in range(stop - first):
                s = _sigmoid(_TWO * z[j])
                to[j] = g[j] * (_TWO + _TWO) * s * (_ONE - s)

    return differentiate


def make_rows(version: int):
    """A depthwise convolution, row after row: for few taps, whose inputs wait in the caches.

    ``x`` and ``z`` are [R, C], read and written from the end where ``backwards``: the gradient for a convolution's input is
    the convolution of its output's, backwards. ``taps`` is [K, C]; ``history`` holds the rows before the first, or
    nothing. ``y`` takes the activation of ``z``, and may be the same array.
    """

    @numba.njit(**_options)
    def rows(x, history, taps, bias, count, stride, channels, kind, backwards, z, y, total, first, stop):
        _ = version
        stage = np.empty(_STAGE, np.float32)
        step = -channels if backwards else channels
        origin = (total - 1) * channels if backwards else 0
        past, n = (count - 1) * stride, first
        vectors = (channels + LANES - 1) // LANES
        while n < stop:
            back = min(n // stride, count - 1)  # taps that look at x beside the last
            tile = min(8, stop - n)
            if n < past:
                tile = min(tile, (back + 1) * stride - n)
            early = count - 1 - back
            here = origin + n * step
            if early == 0 or history.size == 0:
                _slide_all(
                    taps, early * channels, x, here - back * stride * step, stride * step, step, back + 1, bias, 0, 0,
                    z, here, step, tile, channels,
                )  # fmt: skip
            else:  # vector by vector: what two share must not hear the history twice
                for index in range(vectors):
                    c = _column(index, channels)
                    _slide(
                        taps, early * channels + c, channels, x, here - back * stride * step + c, stride * step, step,
                        back + 1, bias, c, 0, z, here + c, step, tile,
                    )  # fmt: skip
                    _slide(
                        taps, c, channels, history, n * channels + c, stride * channels, channels, early,
                        z, here + c, step, z, here + c, step, tile,
                    )  # fmt: skip
            if kind > 0:
                low = here + (tile - 1) * step if backwards else here
                _apply_aside(z[low:], y[low:], tile * channels, kind, stage)
            n += tile

    return rows


def make_windows(version: int):
    """As ``make_rows``, of rows behind the ``past`` first, for ROWS taps and more: ROWS outputs of a phase at a time.

    Piece n of first .. stop is phase n % stride of the ROWS * stride rows that begin at past + n // stride * ROWS * stride.
    """

    @numba.njit(**_options)
    def windows(x, taps, bias, count, stride, channels, kind, backwards, z, y, total, first, stop):
        _ = version
        stage = np.empty(_STAGE, np.float32)
        step = -channels if backwards else channels
        origin = (total - 1) * channels if backwards else 0
        past, along, whole = (count - 1) * stride, stride * step, channels // LANES
        for piece in range(first, stop):
            n = past + piece // stride * ROWS * stride + piece % stride
            here = origin + n * step
            early = here - past * step
            slide_window(taps, 0, channels, x, early, along, count, bias, 0, z, here, along, whole)
            if channels % LANES:  # those that begin the last vector twice
                c = channels - LANES
                slide_window(taps, c, channels, x, early + c, along, count, bias, c, z, here + c, along, 1)
            if kind > 0:
                for p in range(ROWS):
                    low = here + p * along
                    _apply_aside(z[low:], y[low:], channels, kind, stage)

    return windows


def make_rows_weight(version: int):
    """The gradient for the taps of ``make_rows``, of the vectors first .. stop of the channels; ``out`` is [K, C].

    ``work`` has room for the sums of all vectors, each its own: of those that share channels, each has the whole sum.
    """

    @numba.njit(**_options)
    def rows_weight(grad, x, history, count, stride, channels, block, out, total, work, first, stop):
        _ = version
        for j in range((stop - first) * count * LANES):
            work[j] = 0
        for begin in range(0, total, block):
            end = min(total, begin + block)
            for index in range(first, stop):
                c, sums = _column(index, channels), (index - first) * count * LANES
                k = 0
                while k < count:
                    lag = (count - 1 - k) * stride
                    many = min(8, count - k) if begin >= lag else 1
                    low = max(begin, lag)
                    if low < end:
                        _slide(
                            grad, low * channels + c, channels,
                            x, (low - lag) * channels + c, channels, stride * channels, end - low,
                            work, sums + k * LANES, LANES, work, sums + k * LANES, LANES, many,
                        )  # fmt: skip
                    if begin < lag and history.size > 0:
                        _slide(
                            grad, begin * channels + c, channels,
                            history, (begin + k * stride) * channels + c, channels, 0, min(lag, end) - begin,
                            work, sums + k * LANES, LANES, work, sums + k * LANES, LANES, 1,
                        )  # fmt: skip
                    k += many
        for index in range(first, stop):
            _put_taps(work[(index - first) * count * LANES :], count, _column(index, channels), channels, out)

    return rows_weight


@register_jitable
def _gather(source, at, step, rows, first, vectors, channels, target, to, apart):
    """Rows of the vectors from ``first`` on, at steps: each vector's side by side, ``apart`` from the next one's."""
    for v in range(vectors):
        c = _column(first + v, channels)
        for i in range(0, rows, 8):  # a sum of no products is a copy
            _slide(
                source, 0, 0, source, 0, 0, 0, 0, source, at + i * step + c, step,
                target, to + v * apart + i * LANES, LANES, min(8, rows - i),
            )  # fmt: skip


@register_jitable
def _gather_past(history, phase, stride, past, first, vectors, channels, target, apart):
    """The rows before a phase's first, or zeros."""
    if history.size > 0:
        _gather(history, phase * channels, stride * channels, past, first, vectors, channels, target, 0, apart)
    else:
        for v in range(vectors):
            to = target[v * apart :]
            for j in range(past * LANES):
                to[j] = 0


def make_packed(version: int):
    """As ``make_rows``, for many taps: phase by phase, the rows of each vector side by side in ``work``.

    Where they lie, at a large power of two from each other, few of them would find room in a cache. Unit: a phase of a piece
    of ``piece`` vectors. ``work`` has room for 8 vectors, and for each of the piece for the taps, all rows of a phase and
    those before it. ``kept``: ``z`` is wanted beside ``y``.
    """

    @numba.njit(**_options)
    def packed(
        x, history, taps, bias, count, stride, channels, kind, backwards, z, y, kept, total, piece, work, first, stop
    ):  # fmt: skip
        _ = version
        step = -channels if backwards else channels
        origin = (total - 1) * channels if backwards else 0
        past, longest = count - 1, (count - 1 + (total + stride - 1) // stride) * LANES
        stage, factors, line = work[: 8 * LANES], work[8 * LANES :], work[(8 + piece * count) * LANES :]
        before = -1
        for unit in range(first, stop):
            number, phase = unit // stride, unit % stride  # phases within a piece: its taps are gathered once
            vectors = min(piece, (channels + LANES - 1) // LANES - number * piece)
            if number != before:
                _gather(taps, 0, channels, count, number * piece, vectors, channels, factors, 0, count * LANES)
                before = number
            rows = (total - phase + stride - 1) // stride
            here, apart = origin + phase * step, stride * step
            _gather_past(history, phase, stride, past, number * piece, vectors, channels, line, longest)
            _gather(x, here, apart, rows, number * piece, vectors, channels, line, past * LANES, longest)
            for q in range(0, rows, 8):
                many, place = min(8, rows - q), here + q * apart
                skip = max(0, past - q - many + 1) if history.size == 0 else 0  # taps that would meet zeros only
                for v in range(vectors):
                    c, tap, row = _column(number * piece + v, channels), (v * count + skip) * LANES, v * longest
                    row += (q + skip) * LANES
                    if kind == 0:
                        _slide(
                            factors, tap, LANES, line, row, LANES, LANES, count - skip, bias, c, 0, z, place + c, apart, many
                        )  # fmt: skip
                        continue
                    # Aside, since another thread may compute some of the channels, too.
                    _slide(
                        factors, tap, LANES, line, row, LANES, LANES, count - skip, bias, c, 0, stage, 0, LANES, many
                    )
                    for p in range(many):
                        _apply(stage[p * LANES :], y[place + c + p * apart :], LANES, kind)
                        if kept:
                            _apply(stage[p * LANES :], z[place + c + p * apart :], LANES, 0)

    return packed


def make_packed_weight(version: int):
    """As ``make_rows_weight``, phase by phase, of pieces first .. stop of the channels.

    ``work`` has room for the taps, two phases and the rows before one, for each vector of a piece.
    """

    @numba.njit(**_options)
    def packed_weight(grad, x, history, count, stride, channels, piece, out, total, work, first, stop):
        _ = version
        past, most = count - 1, (total + stride - 1) // stride
        longest, shorter = (past + most) * LANES, most * LANES
        sums, line = work, work[piece * count * LANES :]
        other = line[piece * longest :]
        for number in range(first, stop):
            first_vector = number * piece
            vectors = min(piece, (channels + LANES - 1) // LANES - first_vector)
            for j in range(vectors * count * LANES):
                sums[j] = 0
            for phase in range(min(stride, total)):
                rows = (total - phase + stride - 1) // stride
                at, step = phase * channels, stride * channels
                _gather_past(history, phase, stride, past, first_vector, vectors, channels, line, longest)
                _gather(x, at, step, rows, first_vector, vectors, channels, line, past * LANES, longest)
                _gather(grad, at, step, rows, first_vector, vectors, channels, other, 0, shorter)
                for v in range(vectors):
                    for k in range(0, count, 8):
                        many, to = min(8, count - k), (v * count + k) * LANES
                        skip = max(0, past - k - many + 1) if history.size == 0 else 0
                        if skip < rows:
                            _slide(
                                other, v * shorter + skip * LANES, LANES, line, v * longest + (k + skip) * LANES, LANES,
                                LANES, rows - skip, sums, to, LANES, sums, to, LANES, many,
                            )  # fmt: skip
            for v in range(vectors):
                _put_taps(sums[v * count * LANES :], count, _column(first_vector + v, channels), channels, out)

    return packed_weight
