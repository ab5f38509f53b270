"""The compiled loops of ``cpu.py``: serial, for ``LANES`` channels side by side, without the interpreter's lock.

Time goes in tiles of at most 32 steps, which share a key of the noise. A tile is [steps, LANES], and so is everything
about its channels: each equation of ``reference.py`` is one vectorised loop over the lanes, in the same order of
operations, and all of it stays in the first-level cache. ``w`` holds one row a quantity, at distances known when the
loops are compiled (LLVM must see that they do not overlap).
"""

from typing import Any

import numba
import numpy as np
from numba import float32 as f32
from numba import uint64 as u64

from .._float32 import exp

__all__ = ["LANES", "MEMBRANE", "PROBABILITY", "SPIKES", "WORK_ROWS", "fold", "hear", "make_response"]

LANES = 64
MEMBRANE, PROBABILITY, SPIKES = range(3)  # what to give out
WORK_ROWS = 20  # of the workspace before the ring of releases

_Q, _C, _W, _I, _V, _S, _A = (row * LANES for row in range(7))
_P, _N, _CDF, _PMF, _ODDS, _U, _OLD, _FIRED = (row * LANES for row in range(7, 15))
_UNIFORMS, _RING = 15 * LANES, WORK_ROWS * LANES
_VECTORISED = 3  # releases that are looked for in all lanes at once; more are rare
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_INVERSE: Any = tuple(np.float32(1 / (i + 1)) for i in range(40))
_QUARTER = np.float32(2 / np.pi)
_TO_WHOLE = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to a whole number
_HIGH, _MIDDLE, _LOW = np.float32(1.5703125), np.float32(4.837512969970703e-4), np.float32(7.549789948768648e-8)
_SINE: Any = tuple(np.float32(value) for value in (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4))
_COSINE: Any = tuple(np.float32(value) for value in (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5))

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def make_response(version):
    """``response``; the version stands in the cache's key, because numba itself looks at this file only, not at `exp`'s."""

    @numba.njit(**_options)
    def response(amplitude, phase, origins, slopes, starts, ends, bins, real, imaginary, channels, first, stop):
        """V of channels first .. stop at ``bins`` even frequencies, and once more the first, in rows of bins + 1.

        The polynomials are flat [bands, channels, 6]; starts [bands + 1] are the first bins of the bands, and in the band
        of bin j the position is origin + slope (j - start). From bin ends[channel] on a response is 0.
        """
        _ = version
        for channel in range(first, stop):
            row = (channel - first) * (bins + 1)
            end = min(bins, ends[channel])
            for band in range(starts.size - 1):
                begin, count = starts[band], min(starts[band + 1], end) - starts[band]
                if count > 0:
                    at = (band * channels + channel) * 6
                    a0, a1, a2 = amplitude[at], amplitude[at + 1], amplitude[at + 2]
                    a3, a4, a5 = amplitude[at + 3], amplitude[at + 4], amplitude[at + 5]
                    b0, b1, b2 = phase[at], phase[at + 1], phase[at + 2]
                    b3, b4, b5 = phase[at + 3], phase[at + 4], phase[at + 5]
                    origin, slope = origins[band], slopes[band]
                    re, im = real[row + begin : row + begin + count], imaginary[row + begin : row + begin + count]
                    for j in range(count):
                        t = origin + slope * np.float32(j)
                        size = exp(((((a5 * t + a4) * t + a3) * t + a2) * t + a1) * t + a0)
                        angle = ((((b5 * t + b4) * t + b3) * t + b2) * t + b1) * t + b0
                        turns = (angle * _QUARTER + _TO_WHOLE) - _TO_WHOLE  # in quarters
                        z = ((angle - turns * _HIGH) - turns * _MIDDLE) - turns * _LOW
                        zz = z * z
                        sine = z + z * zz * ((_SINE[2] * zz + _SINE[1]) * zz + _SINE[0])
                        cosine = _ONE - _HALF * zz + zz * zz * ((_COSINE[2] * zz + _COSINE[1]) * zz + _COSINE[0])
                        quarter = np.int32(turns) & 3
                        swapped = (quarter & 1) == 1
                        x, y = (sine if swapped else cosine), (cosine if swapped else sine)
                        re[j] = size * (-x if quarter == 1 or quarter == 2 else x)
                        im[j] = size * (-y if quarter >= 2 else y)
            for j in range(max(0, end), bins):
                real[row + j] = _ZERO
                imaginary[row + j] = _ZERO
            real[row + bins], imaginary[row + bins] = real[row], imaginary[row]

    return response


@numba.njit(**_options)
def fold(real, imaginary, first, spectra, ends, steps, out, size, lanes):
    """The spectra of real signals of ``size`` points, (V X)[j] + conj (V X)[steps - j] for j up to steps // 2, then 0.

    real, imaginary: rows of steps + 1 for the channels from ``first`` on. spectra: [4, steps // 2 + 1], flat: real and
    imaginary part of X[j], then of X[steps - j], all scaled. out: [LANES, size // 2 + 1] pairs, flat.
    """
    half, width = steps // 2 + 1, size // 2 + 1
    x, y, back_x, back_y = spectra[:half], spectra[half : 2 * half], spectra[2 * half : 3 * half], spectra[3 * half :]
    for lane in range(LANES):
        row = out[2 * lane * width : 2 * (lane + 1) * width]
        if lane >= lanes:
            row[:] = _ZERO
            continue
        at = (first + lane) * (steps + 1)
        end = min(ends[first + lane], steps)
        a, b = real[at : at + steps + 1], imaginary[at : at + steps + 1]
        near = min(end, half)
        for j in range(near):
            row[2 * j] = a[j] * x[j] - b[j] * y[j]
            row[2 * j + 1] = a[j] * y[j] + b[j] * x[j]
        row[2 * near :] = _ZERO
        for j in range(max(1, steps - end + 1), half):
            row[2 * j] += a[steps - j] * back_x[j] - b[steps - j] * back_y[j]
            row[2 * j + 1] -= a[steps - j] * back_y[j] + b[steps - j] * back_x[j]
        row[0] += a[steps] * back_x[0] - b[steps] * back_y[0]
        row[1] -= a[steps] * back_y[0] + b[steps] * back_x[0]


@numba.njit(**_options)
def hear(
    samples, size, base, weights, taps, points, stages, steps, first, keys, shared, channel, lanes, silence, numbers,
    output, w, tile, out, out_start, out_stride, spike_steps, spike_channels,
):  # fmt: skip
    """``steps`` steps of up to LANES channels from ``channel`` on, of which ``first`` is the first; returns how many spikes.

    With taps, samples holds the channels' membranes and ``gather`` reads them (points: workspace); without, it holds
    the sound and ``filters`` makes them. keys: one for ``shared`` steps, which are a tile. w: see ``cells``. out takes
    velocities or probabilities, a row a channel.
    """
    spikes, t = 0, 0
    while t < steps:
        now = first + t
        count = min(shared - now % shared, steps - t)
        if taps > 0:
            gather(samples, size, base, weights, taps, t, count, points, tile)
        else:
            filters(samples, t, count, stages, tile)
        if output != MEMBRANE:
            key = keys[now // shared - first // shared]
            spikes = cells(
                tile, count, now, key, channel, lanes, silence, numbers, output == SPIKES, w, spike_steps, spike_channels,
                spikes,
            )  # fmt: skip
        if output != SPIKES:
            for lane in range(lanes):
                at = out_start + lane * out_stride + t
                for i in range(count):
                    out[at + i] = tile[i * LANES + lane]
        t += count
    return spikes


@numba.njit(**_options)
def gather(samples, size, base, weights, taps, begin, count, rows, tile):
    """Steps begin .. begin + count of signals [LANES, size] as a tile: step t is sum_i weights[t, i] signal[base[t] + i].

    Signals are periodic. rows: workspace for as many points as the steps look at.
    """
    low = base[begin]
    points = base[begin + count - 1] - low + taps
    for lane in range(LANES):
        place = low % size
        for i in range(points):
            rows[i * LANES + lane] = samples[lane * size + place]
            place += 1
            if place == size:
                place = 0
    if taps == 1:
        for t in range(count):
            for j in range(LANES):
                tile[t * LANES + j] = rows[t * LANES + j]
        return
    for t in range(count):
        first, at = (begin + t) * taps, (base[begin + t] - low) * LANES
        source, target = rows[at : at + 9 * LANES], tile[t * LANES : (t + 1) * LANES]
        w0, w1, w2, w3, w4 = (
            weights[first],
            weights[first + 1],
            weights[first + 2],
            weights[first + 3],
            weights[first + 4],
        )
        w5, w6, w7, w8 = weights[first + 5], weights[first + 6], weights[first + 7], weights[first + 8]
        for j in range(LANES):
            near = w0 * source[j] + w1 * source[LANES + j] + w2 * source[2 * LANES + j]
            middle = w3 * source[3 * LANES + j] + w4 * source[4 * LANES + j] + w5 * source[5 * LANES + j]
            far = w6 * source[6 * LANES + j] + w7 * source[7 * LANES + j] + w8 * source[8 * LANES + j]
            target[j] = near + middle + far


@numba.njit(**_options)
def filters(samples, begin, count, stages, tile):
    """``count`` steps of gammatone filters, two samples each, as a tile.

    One step of a cascade is y[k] = x + a (y[0] + ... + y[k]), so two are y[k] = x1 + (k + 1) a x0 + a^2 (sums of the sums).
    stages: [4 + 4 + 5, LANES], flat: real and imaginary parts, then a, a^2 and the gain.
    """
    s = stages
    for t in range(count):
        x0, x1 = samples[2 * (begin + t)], samples[2 * (begin + t) + 1]
        target = tile[t * LANES : (t + 1) * LANES]
        for j in range(LANES):
            ax, ay = s[8 * LANES + j] * x0, s[9 * LANES + j] * x0
            bx, by = s[10 * LANES + j], s[11 * LANES + j]
            px = s[j]
            qx = px
            py = s[4 * LANES + j]
            qy = py
            mx, my = x1 + ax, ay
            s[j] = mx + (bx * qx - by * qy)
            s[4 * LANES + j] = my + (bx * qy + by * qx)
            px, py = px + s[LANES + j], py + s[5 * LANES + j]
            qx, qy, mx, my = qx + px, qy + py, mx + ax, my + ay
            s[LANES + j] = mx + (bx * qx - by * qy)
            s[5 * LANES + j] = my + (bx * qy + by * qx)
            px, py = px + s[2 * LANES + j], py + s[6 * LANES + j]
            qx, qy, mx, my = qx + px, qy + py, mx + ax, my + ay
            s[2 * LANES + j] = mx + (bx * qx - by * qy)
            s[6 * LANES + j] = my + (bx * qy + by * qx)
            px, py = px + s[3 * LANES + j], py + s[7 * LANES + j]
            qx, qy, mx, my = qx + px, qy + py, mx + ax, my + ay
            last = mx + (bx * qx - by * qy)
            s[3 * LANES + j] = last
            s[7 * LANES + j] = my + (bx * qy + by * qx)
            target[j] = s[12 * LANES + j] * last


@numba.njit(**_options)
def cells(tile, count, step, key, channel, lanes, silence, numbers, draws, w, spike_steps, spike_channels, spikes):
    """Hair and bushy cells over a tile: it holds velocities, and then probabilities; returns how many spikes there are now.

    w: the state's rows, workspace, and the ring of releases, [rows, LANES], flat. Spikes are appended after ``spikes``.
    """
    for t in range(count):
        _hair_cells(tile[t * LANES : (t + 1) * LANES], numbers, w)
        if not draws:
            continue
        now = step + t
        if t == 0 or now % 4 == 0:
            _uniforms(key, now // 4, channel, w)
        ring = _RING + now % silence * LANES
        uniforms = w[_UNIFORMS + now % 4 * LANES : _UNIFORMS + (now % 4 + 1) * LANES]
        for j in range(LANES):
            w[_U + j] = uniforms[j]
        old = w[ring : ring + LANES]
        for j in range(LANES):
            w[_OLD + j] = old[j]
        late = _release(w)
        if late > 0:
            _release_more(w)
        for j in range(LANES):
            old[j] = w[_N + j]
        if _bushy_cells(numbers, np.float32(silence), w) > 0:
            for j in range(lanes):
                if w[_FIRED + j] > _ZERO:
                    spike_steps[spikes] = now
                    spike_channels[spikes] = channel + j
                    spikes += 1
    return spikes


@numba.njit(**_options)
def _hair_cells(row, n, w):
    A, B, M, g, y, loss, r, x, h = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    for j in range(LANES):
        u = row[j] + A
        k = g * u / (u + B) if u > _ZERO else _ZERO
        q, c, v = w[_Q + j], w[_C + j], w[_W + j]
        ejected, recovered, reprocessed = k * q, r * c, x * v
        missing = M - q
        missing = missing if missing > _ZERO else _ZERO
        q = ((q + y * missing) - ejected) + reprocessed
        c = ((c + ejected) - loss * c) - recovered
        v = (v + recovered) - reprocessed
        w[_Q + j] = q if q > _ZERO else _ZERO
        c = c if c > _ZERO else _ZERO
        w[_C + j] = c
        w[_W + j] = v if v > _ZERO else _ZERO
        w[_P + j] = h * c
    for j in range(LANES):
        row[j] = w[_P + j]


@numba.njit(**_options)
def _uniforms(key, group, channel, w):
    """Philox4x32-10, as in ``noise.py``."""
    mask, top = u64(0xFFFFFFFF), u64(32)
    start0, start1 = key & mask, key >> top
    for j in range(LANES):
        c0, c1, c2, c3 = u64(group) & mask, u64(channel + j), u64(0), u64(0)
        k0, k1 = start0, start1
        for _ in range(10):
            a, b = c0 * u64(0xD2511F53), c2 * u64(0xCD9E8D57)
            c0, c1, c2, c3 = (b >> top) ^ c1 ^ k0, b & mask, (a >> top) ^ c3 ^ k1, a & mask
            k0, k1 = (k0 + u64(0x9E3779B9)) & mask, (k1 + u64(0xBB67AE85)) & mask
        w[_UNIFORMS + j] = f32(np.int32(c0 >> u64(8))) * f32(2.0**-24)
        w[_UNIFORMS + LANES + j] = f32(np.int32(c1 >> u64(8))) * f32(2.0**-24)
        w[_UNIFORMS + 2 * LANES + j] = f32(np.int32(c2 >> u64(8))) * f32(2.0**-24)
        w[_UNIFORMS + 3 * LANES + j] = f32(np.int32(c3 >> u64(8))) * f32(2.0**-24)


@numba.njit(**_options)
def _release(w):
    """How many fibres release, where that is no more than ``_VECTORISED``; returns in how many lanes it may be more."""
    late = np.int32(0)
    for j in range(LANES):
        trials = w[_A + j] + w[_OLD + j]
        p = w[_P + j]
        p = p if p < _ONE else _ONE
        rare = _ONE - p if p > _HALF else p
        power = _ONE - rare
        odds = rare / power
        whole = np.int32(trials)
        none = power if whole & 1 else _ONE
        power = power * power
        none = none * power if whole & 2 else none
        power = power * power
        none = none * power if whole & 4 else none
        power = power * power
        none = none * power if whole & 8 else none
        power = power * power
        none = none * power if whole & 16 else none
        power = power * power
        none = none * power if whole & 32 else none
        u, pmf, cdf, n = w[_U + j], none, none, _ZERO
        n += _ONE if u >= cdf else _ZERO
        pmf = pmf * (odds * trials)
        cdf = cdf + pmf
        n += _ONE if u >= cdf else _ZERO
        pmf = pmf * (odds * ((trials - _ONE) * _HALF))
        cdf = cdf + pmf
        n += _ONE if u >= cdf else _ZERO
        pmf = pmf * (odds * ((trials - np.float32(2)) * _INVERSE[2]))
        cdf = cdf + pmf
        late += np.int32(1) if u >= cdf or p > _HALF or n > trials else np.int32(0)
        w[_A + j] = trials
        w[_CDF + j] = cdf
        w[_PMF + j] = pmf
        w[_ODDS + j] = odds
        w[_N + j] = n
    return late


@numba.njit(**_options)
def _release_more(w):
    """The lanes that ``_release`` left unfinished."""
    for j in range(LANES):
        u, trials, n, p = w[_U + j], w[_A + j], w[_N + j], w[_P + j]
        if u >= w[_CDF + j]:
            cdf, pmf, i = w[_CDF + j], w[_PMF + j], np.int64(_VECTORISED)
            while u >= cdf and i < trials:
                n = np.float32(i + 1)
                pmf = pmf * (w[_ODDS + j] * ((trials - np.float32(i)) * _INVERSE[min(i, 39)]))
                cdf = cdf + pmf
                i += 1
        n = min(n, trials)
        w[_N + j] = trials - n if p > _HALF else n


@numba.njit(**_options)
def _bushy_cells(n, silence, w):
    """Returns how many fire."""
    synapse, membrane, strength = n[9], n[10], n[11]
    count = np.int32(0)
    for j in range(LANES):
        released = w[_N + j]
        w[_A + j] -= released
        current = w[_I + j] * synapse + released
        w[_I + j] = current
        charged = w[_V + j] * membrane + current * strength
        silent = w[_S + j]
        fires = charged >= _ONE and silent == _ZERO
        left = silent - _ONE if silent > _ZERO else _ZERO
        w[_V + j] = _ZERO if fires or silent > _ZERO else charged
        w[_S + j] = silence if fires else left
        w[_FIRED + j] = _ONE if fires else _ZERO
        count += np.int32(1) if fires else np.int32(0)
    return count
