"""One frame by itself, in half of the time that it takes beside 15 others: it fits the first-level cache, they do not.

The same sums in the same order as in ``_loops.py``, fused alike, so that a stream has the numbers of the whole to the last
bit. Powers of two only: other lengths go into rows, as in a whole signal.
"""

# numba gives a function that it compiles its context, and a variable its type: mypy sees neither.
# mypy: disable-error-code="call-arg, var-annotated"

import numba
import numpy as np

from .._float32 import times_plus

__all__ = ["lone_powers", "lone_sums"]

_compiled = numba.njit(error_model="numpy")
_HALF = np.float32(0.5)


@_compiled
def lone_powers(samples, window, passes, twiddles, table, power, work, powers):
    """``_cut``, ``_fft`` and ``_split_powers`` of the frame samples[: n_fft]; ``work`` has 4 halves of a frame."""
    half = window.size // 2
    re, im, to_re, to_im = work[:half], work[half : 2 * half], work[2 * half : 3 * half], work[3 * half : 4 * half]
    for n in range(half):
        re[n] = samples[2 * n] * window[2 * n]
        im[n] = samples[2 * n + 1] * window[2 * n + 1]
    left, stride, turn = half, 1, 0
    for _ in range(passes):
        if left == 2:
            _two(re, im, to_re, to_im, stride)
        else:
            _four(re, im, to_re, to_im, left // 4, stride, twiddles[turn:])
        turn += 6 * (left // 4)
        left, stride = left // 4, stride * 4
        re, im, to_re, to_im = to_re, to_im, re, im
    _split(re, im, table, power, powers)


@_compiled
def _four(re, im, to_re, to_im, rest, stride, twiddles):
    """A pass of radix 4."""
    step = stride * rest
    for p in range(rest):
        w1, v1, w2, v2 = twiddles[6 * p], twiddles[6 * p + 1], twiddles[6 * p + 2], twiddles[6 * p + 3]
        w3, v3 = twiddles[6 * p + 4], twiddles[6 * p + 5]
        for q in range(stride):
            at, to = stride * p + q, 4 * stride * p + q
            a, b, c, d = re[at], re[at + step], re[at + 2 * step], re[at + 3 * step]
            e, f, g, h = im[at], im[at + step], im[at + 2 * step], im[at + 3 * step]
            ac, bd, less_ac, less_bd = a + c, b + d, a - c, b - d
            eg, fh, less_eg, less_fh = e + g, f + h, e - g, f - h
            to_re[to], to_im[to] = ac + bd, eg + fh
            x, y = less_ac + less_fh, less_eg - less_bd
            to_re[to + stride], to_im[to + stride] = times_plus(x, w1, -(y * v1)), times_plus(x, v1, y * w1)
            x, y = ac - bd, eg - fh
            to_re[to + 2 * stride], to_im[to + 2 * stride] = times_plus(x, w2, -(y * v2)), times_plus(x, v2, y * w2)
            x, y = less_ac - less_fh, less_eg + less_bd
            to_re[to + 3 * stride], to_im[to + 3 * stride] = times_plus(x, w3, -(y * v3)), times_plus(x, v3, y * w3)


@_compiled
def _two(re, im, to_re, to_im, stride):
    """The last pass of radix 2, which turns nothing."""
    for q in range(stride):
        a, b, e, f = re[q], re[q + stride], im[q], im[q + stride]
        to_re[q], to_im[q] = a + b, e + f
        to_re[q + stride], to_im[q + stride] = a - b, e - f


@_compiled
def _split(re, im, table, power, powers):
    """The powers of bins k and half - k of the real signal."""
    half = re.size
    for k in range(half // 2 + 1):
        far = half - k if k else 0
        one_re, one_im, other_re, other_im = re[k] * _HALF, im[k] * _HALF, re[far] * _HALF, im[far] * _HALF
        even_re, even_im, x, y = one_re + other_re, one_im - other_im, one_re - other_re, one_im + other_im
        w, v = table[2 * k], table[2 * k + 1]
        odd_re, odd_im = times_plus(x, w, -(y * v)), times_plus(x, v, y * w)
        here_re, here_im, there_re, there_im = even_re + odd_im, even_im - odd_re, even_re - odd_im, even_im + odd_re
        here, there = (
            times_plus(here_re, here_re, here_im * here_im),
            times_plus(there_re, there_re, there_im * there_im),
        )
        powers[k] = here if power == 2 else np.sqrt(here)
        powers[half - k] = there if power == 2 else np.sqrt(there)


@_compiled
def lone_sums(powers, bank, spans, sums):
    """``_sum``, in four parts as there."""
    for m in range(sums.size):
        first, count = spans[2 * m], spans[2 * m + 1] - spans[2 * m]
        row, source = bank[m * powers.size + first :], powers[first:]
        a = b = c = d = np.float32(0)
        done = count // 4 * 4
        for k in range(0, done, 4):
            a = times_plus(source[k], row[k], a)
            b = times_plus(source[k + 1], row[k + 1], b)
            c = times_plus(source[k + 2], row[k + 2], c)
            d = times_plus(source[k + 3], row[k + 3], d)
        for k in range(done, count):
            a = times_plus(source[k], row[k], a)
        sums[m] = (a + b) + (c + d)
