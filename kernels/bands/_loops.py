"""The compiled loops of ``cpu.py``: serial, over blocks of LANES frames side by side, without the interpreter's lock.

A block goes the whole way while it is in the second-level cache: cut, transposed and windowed on the way into rows, an FFT
(Stockham's, of half the length, two samples a complex number), powers, band sums, logarithm. The backward pass takes the
forward one again, which costs less than to store the spectra.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable

from .._float32 import floats_at, log
from ._lone import lone_powers, lone_sums
from ._vectors import LANES, add_weighted, butterfly, join, powers, split, transpose, weighted_sum

__all__ = ["make_backward", "make_forward", "make_from_spectra", "make_from_spectra_backward", "make_step"]

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
_PAIR = 2 * LANES  # floats of a complex row
_TWO = np.float32(2)


@register_jitable
def _cut(wave, origin, samples, start, hop, count, window, n_fft, rows, scratch):
    """Windowed frames at ``start``, start + hop, ... of the signal wave[origin : origin + samples] into the rows."""
    source, first, step = wave, origin + start, hop
    if start < 0 or start + (LANES - 1) * hop + n_fft > samples or count < LANES:
        for lane in range(LANES):
            here, row = start + lane * hop, lane * n_fft
            low = min(max(0, -here), n_fft)
            high = max(low, min(n_fft, samples - here))
            if lane >= count:
                low = high = n_fft
            into, out_of = scratch[row:], wave[origin + max(here, 0) :]
            for n in range(low):
                into[n] = 0
            for n in range(high - low):
                into[low + n] = out_of[n]
            for n in range(high, n_fft):
                into[n] = 0
        source, first, step = scratch, 0, n_fft
    whole = n_fft // LANES * LANES
    for n in range(0, whole, LANES):
        transpose(source, first + n, step, rows, n * LANES, LANES, window, n, 2)
    for n in range(whole, n_fft):
        for lane in range(LANES):
            rows[n * LANES + lane] = source[first + lane * step + n] * window[n]


@register_jitable
def _fft(a, b, half, radices, twiddles):
    """The FFT of ``half`` complex rows of a; the result is in the first array returned, the other is free."""
    source, target = a, b
    left, stride, turn = half, 1, 0
    for index in range(radices.size):
        radix = radices[index]
        rest = left // radix
        step, to_step = _PAIR * stride * rest, _PAIR * stride
        for p in range(rest):
            at, to, w = _PAIR * stride * p, _PAIR * stride * radix * p, turn + 2 * p * (radix - 1)
            for _ in range(stride):
                if radix == 4:
                    if p == 0:
                        butterfly(source, at, step, target, to, to_step, twiddles, w, 4, 0)
                    else:
                        butterfly(source, at, step, target, to, to_step, twiddles, w, 4, 1)
                elif radix == 2:
                    butterfly(source, at, step, target, to, to_step, twiddles, w, 2, 1)
                elif radix == 3:
                    butterfly(source, at, step, target, to, to_step, twiddles, w, 3, 1)
                else:
                    butterfly(source, at, step, target, to, to_step, twiddles, w, 5, 1)
                at += _PAIR
                to += _PAIR
        turn += 2 * rest * (radix - 1)
        left, stride = rest, stride * radix
        source, target = target, source
    return source, target


@register_jitable
def _split_powers(z, half, table, power, target):
    """Powers of the bins 0 .. half into real rows."""
    for k in range(half // 2 + 1):
        far = half - k if k else 0
        if power == 2:
            split(z, k * _PAIR, far * _PAIR, target, k * LANES, (half - k) * LANES, table, 2 * k, 2)
        else:
            split(z, k * _PAIR, far * _PAIR, target, k * LANES, (half - k) * LANES, table, 2 * k, 1)


@register_jitable
def _sum(rows, bank, spans, bins, sums):
    """Band sums of rows of powers."""
    for m in range(spans.size // 2):
        first, stop = spans[2 * m], spans[2 * m + 1]
        weighted_sum(rows, first * LANES, bank, m * bins + first, stop - first, sums, m * LANES)


@register_jitable
def _logarithm(rows, count, offset):
    for j in range(count):
        rows[j] = log(rows[j] + offset)


@register_jitable
def _give(rows, count, out, at, frames, n):
    """Rows into columns at .. at + n of out's rows."""
    for k in range(count):
        to, source = out[at + k * frames :], rows[k * LANES :]
        for lane in range(n):
            to[lane] = source[lane]


@register_jitable
def _take(rows, count, grads, at, frames, n):
    """The reverse of ``_give``; 0 in lanes beyond."""
    for k in range(count):
        into, source = rows[k * LANES :], grads[at + k * frames :]
        for lane in range(n):
            into[lane] = source[lane]
        for lane in range(n, LANES):
            into[lane] = 0


@register_jitable
def _to_powers(sums, slopes, count, bank, spans, bins, offset, logged, grads):
    """Gradients of the powers, in rows, from those of the bands; ``sums`` are the bands themselves, where logged."""
    if logged:
        for j in range(count * LANES):
            slopes[j] /= sums[j] + offset
    if bank.size == 0:
        for j in range(bins * LANES):
            grads[j] = slopes[j]
        return
    for j in range(bins * LANES):
        grads[j] = 0
    for m in range(count):
        first, stop = spans[2 * m], spans[2 * m + 1]
        add_weighted(grads, first * LANES, bank, m * bins + first, stop - first, slopes, m * LANES)


@register_jitable
def _block(
    wave, origin, samples, start, hop, n, window, radices, twiddles, table, bank, spans, bands, power, offset, logged,
    frames, out, at, work,
):  # fmt: skip
    """``n`` frames at ``start``, start + hop, ... into columns at .. at + n of out's rows; see ``_cut``."""
    n_fft, bins = window.size, window.size // 2 + 1
    size = bins * _PAIR
    edge = (-work.ctypes.data & 63) // 4
    a, b, sums = work[edge : edge + size], work[edge + size : edge + 2 * size], work[edge + 2 * size :]
    _cut(wave, origin, samples, start, hop, n, window, n_fft, a, b)
    z, rows = _fft(a, b, n_fft // 2, radices, twiddles)
    _split_powers(z, n_fft // 2, table, power, rows)
    if bank.size:
        _sum(rows, bank, spans, bins, sums)
        rows = sums
    if logged:
        _logarithm(rows, bands * LANES, offset)
    _give(rows, bands, out, at, frames, n)


def make_forward(version):
    """``spectrogram``; the version stands in the cache's key, since numba looks at this file only."""

    @numba.njit(**_options)
    def forward(
        wave, samples, hop, left, window, radices, twiddles, table, bank, spans, bands, power, offset, logged, frames, out,
        work, first, stop,
    ):  # fmt: skip
        """Blocks first .. stop of all signals, each of ceil(frames / LANES); without a bank, the bands are the bins."""
        _ = version
        blocks = (frames + LANES - 1) // LANES
        for block in range(first, stop):
            item, t = block // blocks, block % blocks * LANES
            _block(
                wave, item * samples, samples, t * hop - left, hop, min(LANES, frames - t), window, radices, twiddles, table,
                bank, spans, bands, power, offset, logged, frames, out, item * bands * frames + t, work,
            )  # fmt: skip

    return forward


def make_step(version):
    """``spectrogram`` of at most LANES frames of a signal in two pieces."""

    @numba.njit(**_options)
    def step(
        kept, count, chunk, more, start, hop, window, radices, twiddles, table, bank, spans, bands, power, offset, logged,
        out, rest, work,
    ):  # fmt: skip
        """The frames from ``start`` on of ``count`` samples kept and ``more`` of a chunk, both given by their addresses.

        The last of them go into ``rest``.
        """
        _ = version
        samples, frames = count + more, out.shape[1]
        joined, end = work[:samples], samples - rest.size
        old, new = numba.carray(floats_at(kept), count), numba.carray(floats_at(chunk), more)
        for j in range(count):
            joined[j] = old[j]
        for j in range(more):
            joined[count + j] = new[j]
        for j in range(rest.size):
            rest[j] = joined[end + j]
        columns, scratch = out.reshape(-1), work[samples:]
        if frames == 1 and window.size & (window.size - 1) == 0:
            bins = window.size // 2 + 1
            powers = scratch[:bins] if bank.size else columns
            lone_powers(joined[start:], window, radices.size, twiddles, table, power, scratch[bins:], powers)
            if bank.size:
                lone_sums(powers, bank, spans, columns)
        elif frames:
            _block(
                joined, 0, samples, start, hop, frames, window, radices, twiddles, table, bank, spans, bands, power, offset,
                False, frames, columns, 0, scratch,
            )  # fmt: skip
        if logged:
            _logarithm(columns, columns.size, offset)

    return step


def make_backward(version):
    """The gradient for the signal."""

    @numba.njit(**_options)
    def backward(
        grad, wave, samples, hop, left, window, radices, twiddles, table, bank, spans, bands, power, offset, logged, frames,
        out, work, first, stop,
    ):  # fmt: skip
        """Of signals first .. stop."""
        _ = version
        n_fft, bins, half = window.size, window.size // 2 + 1, window.size // 2
        size = bins * _PAIR
        edge = (-work.ctypes.data & 63) // 4
        a, b = work[edge : edge + size], work[edge + size : edge + 2 * size]
        slopes, sums = work[edge + 2 * size : edge + 3 * size], work[edge + 3 * size :]
        grads, slopes = slopes[: bins * LANES], slopes[bins * LANES :]
        bank_slopes = sums[bands * LANES :]
        for item in range(first, stop):
            signal = out[item * samples : (item + 1) * samples]
            for s in range(samples):
                signal[s] = 0
            for t in range(0, frames, LANES):
                n, start = min(LANES, frames - t), t * hop - left
                _cut(wave, item * samples, samples, start, hop, n, window, n_fft, a, b)
                z, x = _fft(a, b, half, radices, twiddles)
                if logged:
                    _split_powers(z, half, table, power, grads)
                    if bank.size:
                        _sum(grads, bank, spans, bins, sums)
                    else:
                        for j in range(bins * LANES):
                            sums[j] = grads[j]
                for k in range(half // 2 + 1):
                    far = half - k if k else 0
                    split(z, k * _PAIR, far * _PAIR, x, k * _PAIR, (half - k) * _PAIR, table, 2 * k, 0)
                _take(bank_slopes, bands, grad, item * bands * frames + t, frames, n)
                _to_powers(sums, bank_slopes, bands, bank, spans, bins, offset, logged, grads)
                for j in range(LANES):
                    grads[j] *= _TWO
                    grads[half * LANES + j] *= _TWO
                for k in range(half // 2 + 1):
                    far = half - k
                    near_grad, far_grad = k * LANES, far * LANES
                    if power == 2:
                        join(x, k * _PAIR, far * _PAIR, grads, near_grad, far_grad, z, table, 2 * k, 2)
                    else:
                        join(x, k * _PAIR, far * _PAIR, grads, near_grad, far_grad, z, table, 2 * k, 1)
                y, scratch = _fft(z, x, half, radices, twiddles)
                _add(y, scratch, n_fft, window, signal, samples, start, hop, n)

    return backward


@register_jitable
def _add(rows, scratch, n_fft, window, signal, samples, start, hop, count):
    """Rows, whose even and odd ones have changed places, times the window, added to the signal where they lie."""
    whole = n_fft // LANES * LANES
    for n in range(0, n_fft, 2):
        for lane in range(LANES):
            j = n * LANES + lane
            even = rows[j + LANES]
            rows[j + LANES] = rows[j]
            rows[j] = even
    for n in range(0, whole, LANES):
        transpose(rows, n * LANES, LANES, scratch, n, n_fft, window, n, 1)
    for n in range(whole, n_fft):
        for lane in range(LANES):
            scratch[lane * n_fft + n] = rows[n * LANES + lane] * window[n]
    for lane in range(count):
        here = start + lane * hop
        low = min(max(0, -here), n_fft)
        high = min(n_fft, samples - here)
        to, source = signal[here + low :], scratch[lane * n_fft + low :]
        for j in range(high - low):
            to[j] += source[j]


@register_jitable
def _rows_of(spectra, at, width, n, rows, scratch):
    """LANES rows of ``width`` numbers from spectra[at] on, transposed; those from n on are 0."""
    source, first = spectra, at
    if n < LANES:
        for j in range(n * width):
            scratch[j] = spectra[at + j]
        for j in range(n * width, LANES * width):
            scratch[j] = 0
        source, first = scratch, 0
    whole = width // LANES * LANES
    for k in range(0, whole, LANES):
        transpose(source, first + k, width, rows, k * LANES, LANES, source, 0, 0)
    for k in range(whole, width):
        for lane in range(LANES):
            rows[k * LANES + lane] = source[first + lane * width + k]


@register_jitable
def _powers_of(x, bins, power, rows):
    for k in range(bins):
        if power == 2:
            powers(x, k * _PAIR, rows, k * LANES, 0, 0, 2)
        else:
            powers(x, k * _PAIR, rows, k * LANES, 0, 0, 1)


def make_from_spectra(version):
    """``bands`` and ``magnitude``."""

    @numba.njit(**_options)
    def forward(spectra, bins, bank, spans, bands, power, offset, logged, frames, out, work, first, stop):
        """Blocks first .. stop of all items; spectra are pairs of float32."""
        _ = version
        size = bins * _PAIR
        edge = (-work.ctypes.data & 63) // 4
        x, rows, sums = work[edge : edge + size], work[edge + size : edge + 2 * size], work[edge + 2 * size :]
        blocks = (frames + LANES - 1) // LANES
        for block in range(first, stop):
            item, t = block // blocks, block % blocks * LANES
            n = min(LANES, frames - t)
            _rows_of(spectra, (item * frames + t) * 2 * bins, 2 * bins, n, x, rows)
            _powers_of(x, bins, power, rows)
            result = rows
            if bank.size:
                _sum(rows, bank, spans, bins, sums)
                result = sums
            if logged:
                _logarithm(result, bands * LANES, offset)
            _give(result, bands, out, item * bands * frames + t, frames, n)

    return forward


def make_from_spectra_backward(version):
    """The gradient of ``bands`` and ``magnitude`` for the spectra."""

    @numba.njit(**_options)
    def backward(grad, spectra, bins, bank, spans, bands, power, offset, logged, frames, out, work, first, stop):
        """Blocks first .. stop of all items."""
        _ = version
        size = bins * _PAIR
        edge = (-work.ctypes.data & 63) // 4
        x, y = work[edge : edge + size], work[edge + size : edge + 2 * size]
        grads, rest = work[edge + 2 * size : edge + 2 * size + bins * LANES], work[edge + 2 * size + bins * LANES :]
        sums, slopes = rest[: bands * LANES], rest[bands * LANES :]
        blocks = (frames + LANES - 1) // LANES
        for block in range(first, stop):
            item, t = block // blocks, block % blocks * LANES
            n, at = min(LANES, frames - t), (item * frames + t) * 2 * bins
            _rows_of(spectra, at, 2 * bins, n, x, y)
            if logged:
                _powers_of(x, bins, power, grads)
                if bank.size:
                    _sum(grads, bank, spans, bins, sums)
                else:
                    for j in range(bins * LANES):
                        sums[j] = grads[j]
            _take(slopes, bands, grad, item * bands * frames + t, frames, n)
            _to_powers(sums, slopes, bands, bank, spans, bins, offset, logged, grads)
            for k in range(bins):
                if power == 2:
                    powers(x, k * _PAIR, y, k * _PAIR, grads, k * LANES, 2)
                else:
                    powers(x, k * _PAIR, y, k * _PAIR, grads, k * LANES, 1)
            width = 2 * bins
            whole = width // LANES * LANES
            for k in range(0, whole, LANES):
                transpose(y, k * LANES, LANES, x, k, width, y, 0, 0)
            for k in range(whole, width):
                for lane in range(LANES):
                    x[lane * width + k] = y[k * LANES + lane]
            to = out[at:]
            for j in range(n * width):
                to[j] = x[j]

    return backward
