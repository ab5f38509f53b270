"""The compiled loops of ``cpu.py``: serial, over a range of neurons, without the interpreter's lock.

A block of neurons is taken through all steps at once, its membrane in cache, and each step is one vectorised loop over
the block. LLVM vectorises a loop only if few pairs of arrays might overlap, and not where an index might be negative;
so everything that belongs to a block lies at fixed offsets in one workspace, and a step's rows are slices.

Arithmetic follows ``reference.py`` operation by operation (no contraction, no reassociation): the same spikes, bit for
bit, in forward and in its recomputation, however neurons are divided among threads.
"""

import math

import numba
import numpy as np
from numba import types
from numba.extending import overload

from .._float32 import exp

__all__ = ["SLOPES", "backward", "forward"]

BLOCK = 4096  # neurons: their workspace fits the second-level cache, and rows are long enough to prefetch

# Rows of the workspace. FIRE is the threshold as a comparison needs it (see cpu.py), THRESHOLD as the slope does.
DECAY, GAIN, BIAS, FIRE, THRESHOLD, RESET, MEMBRANE, CARRY, SLOPE, GRAD_H, SUMS = (BLOCK * k for k in range(11))
FORWARD_SIZE, BACKWARD_SIZE = CARRY, SUMS + 5 * BLOCK

ZERO, HALF, ONE, MINUS = np.float32(0), np.float32(0.5), np.float32(1), np.float32(-1)
HALF_PI, SQRT_PI = np.float32(math.pi / 2), np.float32(math.sqrt(math.pi))

SLOPES = (
    "sigmoid", "atan", "triangle", "superspike", "fast_sigmoid", "softsign", "exponential", "erf", "boxcar",
    "multi_gaussian",
)  # fmt: skip
# multi_gaussian, in units of its width: heights of the middle and the two side densities, and the sides' sharpness
MIDDLE, SIDE = np.float32(1.15 / math.sqrt(2 * math.pi)), np.float32(0.15 / 6 / math.sqrt(2 * math.pi))
SIDE_SHARPNESS = np.float32(0.5 / 36)


def _knob(numbers, w, row, j):
    """The knob of neuron j of the block: a number for all, or from the workspace."""
    raise NotImplementedError


@overload(_knob, inline="always")
def _knob_of(numbers, w, row, j):
    if isinstance(numbers, types.NoneType):
        return lambda numbers, w, row, j: w[row + j]
    return lambda numbers, w, row, j: numbers[row // BLOCK]


@numba.njit(inline="always")
def _after(h, fire, reset, hard):
    """The membrane after the reset."""
    target = reset if hard else h - reset
    return target if h >= fire else h


@numba.njit
def _fill(w, row, values, start, n):
    """One value for all neurons, or one for each feature, for the block's neurons."""
    if values.size == 1:
        for j in range(n):
            w[row + j] = values[0]
    else:
        feature = start % values.size
        for j in range(n):
            w[row + j] = values[feature]
            feature += 1
            if feature == values.size:
                feature = 0


@numba.njit
def _fill_knobs(w, rows, start, n):
    for k in range(6):
        _fill(w, k * BLOCK, rows[k], start, n)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def forward(x, v, numbers, rows, hard, one, every, spikes, membranes, last, checkpoints, steps, neurons, first, stop):
    """Neurons first..stop of ``reference.forward``; arrays are flat, [steps, neurons]; ``one`` is a spike's bits."""
    w = np.empty(FORWARD_SIZE, np.float32)
    zero = one - one
    for start in range(first, stop, BLOCK):
        n = min(BLOCK, stop - start)
        if rows is not None:
            _fill_knobs(w, rows, start, n)
        for j in range(n):
            w[MEMBRANE + j] = v[start + j]
        for t in range(steps):
            if every > 0 and t % every == 0:
                kept = checkpoints[t // every * neurons + start :]
                for j in range(n):
                    kept[j] = w[MEMBRANE + j]
            x_t = x[t * neurons + start :]
            spikes_t = spikes[t * neurons + start :]
            for j in range(n):
                h = _knob(numbers, w, DECAY, j) * w[MEMBRANE + j] + _knob(numbers, w, GAIN, j) * x_t[j]
                h += _knob(numbers, w, BIAS, j)
                fire = _knob(numbers, w, FIRE, j)
                w[MEMBRANE + j] = _after(h, fire, _knob(numbers, w, RESET, j), hard)
                spikes_t[j] = one if h >= fire else zero
            if membranes.size:
                membranes_t = membranes[t * neurons + start :]
                for j in range(n):
                    membranes_t[j] = w[MEMBRANE + j]
        for j in range(n):
            last[start + j] = w[MEMBRANE + j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def backward(
    grad_spikes, spike_stride, grad_v_sequence, grad_v_last, x, checkpoints, numbers, rows, hard, attached, slope,
    alpha, every, needs, grad_x, grad_v, grad_knobs, steps, neurons, first, stop,
):  # fmt: skip
    """Neurons first..stop of ``reference.backward``.

    ``spike_stride`` is 0 where one row ``grad_spikes`` serves every step; ``grad_v_sequence`` is empty where there is
    none; ``grad_knobs`` [5, neurons] is to be summed over the neurons that share a knob.
    """
    w = np.empty(BACKWARD_SIZE, np.float32)
    charged = np.empty(min(every, steps) * BLOCK, np.float32)
    for start in range(first, stop, BLOCK):
        n = min(BLOCK, stop - start)
        if rows is not None:
            _fill_knobs(w, rows, start, n)
        for j in range(n):
            w[CARRY + j] = grad_v_last[start + j]
        for k in range(5):
            for j in range(n):
                w[SUMS + k * BLOCK + j] = ZERO
        for begin in range((steps - 1) // every * every, -1, -every):
            end = min(begin + every, steps)
            before = checkpoints[begin // every * neurons + start :]
            _charge_again(w, charged, before, x, numbers, hard, begin, end, neurons, start, n)
            for t in range(end - 1, begin - 1, -1):
                h = charged[(t - begin) * BLOCK :]
                if grad_v_sequence.size:
                    from_outside = grad_v_sequence[t * neurons + start :]
                    for j in range(n):
                        w[CARRY + j] += from_outside[j]
                _slopes(slope, alpha, numbers, w, h, n)
                if needs[4]:
                    _reset_terms(numbers, w, h, hard, n)
                grad_s, grad_x_t = grad_spikes[t * spike_stride + start :], grad_x[t * neurons + start :]
                _step_back(numbers, w, h, grad_s, grad_x_t, hard, attached, n)
                if needs[0]:
                    if t > begin:
                        _decay_terms(numbers, w, charged[(t - 1 - begin) * BLOCK :], hard, n)
                    else:
                        for j in range(n):
                            w[SUMS + j] += w[GRAD_H + j] * before[j]
                if needs[1]:
                    x_t = x[t * neurons + start :]
                    for j in range(n):
                        w[SUMS + BLOCK + j] += w[GRAD_H + j] * x_t[j]
                if needs[2]:
                    for j in range(n):
                        w[SUMS + 2 * BLOCK + j] += w[GRAD_H + j]
                if needs[3]:
                    for j in range(n):
                        w[SUMS + 3 * BLOCK + j] -= w[SLOPE + j]
        for j in range(n):
            grad_v[start + j] = w[CARRY + j]
        for k in range(5):
            if needs[k]:
                for j in range(n):
                    grad_knobs[k, start + j] = w[SUMS + k * BLOCK + j]


@numba.njit
def _charge_again(w, charged, before, x, numbers, hard, begin, end, neurons, start, n):
    """The membranes before each reset of the steps begin..end, from the membrane before them."""
    for j in range(n):
        w[MEMBRANE + j] = before[j]
    for t in range(begin, end):
        h = charged[(t - begin) * BLOCK :]
        x_t = x[t * neurons + start :]
        for j in range(n):
            value = _knob(numbers, w, DECAY, j) * w[MEMBRANE + j] + _knob(numbers, w, GAIN, j) * x_t[j]
            value += _knob(numbers, w, BIAS, j)
            h[j] = value
            w[MEMBRANE + j] = _after(value, _knob(numbers, w, FIRE, j), _knob(numbers, w, RESET, j), hard)


@numba.njit
def _step_back(numbers, w, h, grad_s, grad_x, hard, attached, n):
    """One step: from the gradient of v (CARRY) and of the spikes to that of x, h (GRAD_H), and v one step before."""
    for j in range(n):
        reset, grad_v = _knob(numbers, w, RESET, j), w[CARRY + j]
        grad_fired = grad_s[j]
        if attached:
            grad_fired += grad_v * (reset - h[j] if hard else -reset)
        through_spike = grad_fired * w[SLOPE + j]
        grad_h = through_spike + (ZERO if hard and h[j] >= _knob(numbers, w, FIRE, j) else grad_v)
        w[SLOPE + j] = through_spike
        w[GRAD_H + j] = grad_h
        w[CARRY + j] = _knob(numbers, w, DECAY, j) * grad_h
        grad_x[j] = _knob(numbers, w, GAIN, j) * grad_h


@numba.njit
def _reset_terms(numbers, w, h, hard, n):
    sign = ONE if hard else MINUS
    for j in range(n):
        fired = h[j] >= _knob(numbers, w, FIRE, j)
        w[SUMS + 4 * BLOCK + j] += sign * w[CARRY + j] if fired else ZERO


@numba.njit
def _decay_terms(numbers, w, h_before, hard, n):
    for j in range(n):
        v = _after(h_before[j], _knob(numbers, w, FIRE, j), _knob(numbers, w, RESET, j), hard)
        w[SUMS + j] += w[GRAD_H + j] * v


@numba.njit(error_model="numpy")  # a check for division by zero would keep the loops scalar
def _slopes(slope, a, numbers, w, h, n):
    """SLOPE = g(h - threshold), the formulas of ``surrogates.py``, numbered as in SLOPES; below 0 none is needed."""
    if slope < 0:
        for j in range(n):
            w[SLOPE + j] = ZERO
        return
    for j in range(n):
        w[SLOPE + j] = h[j] - _knob(numbers, w, THRESHOLD, j)
    if slope == 0:
        for j in range(n):
            e = exp(-a * abs(w[SLOPE + j]))
            w[SLOPE + j] = a * e / ((ONE + e) * (ONE + e))
    elif slope == 1:
        for j in range(n):
            y = HALF_PI * a * w[SLOPE + j]
            w[SLOPE + j] = HALF * a / (ONE + y * y)
    elif slope == 2:
        for j in range(n):
            y = a - a * a * abs(w[SLOPE + j])
            w[SLOPE + j] = ZERO if y < ZERO else y
    elif slope == 3:
        for j in range(n):
            y = ONE + abs(w[SLOPE + j])
            w[SLOPE + j] = a / (y * y)
    elif slope == 4:
        for j in range(n):
            y = ONE + a * abs(w[SLOPE + j])
            w[SLOPE + j] = ONE / (y * y)
    elif slope == 5:
        for j in range(n):
            y = ONE + a * abs(w[SLOPE + j])
            w[SLOPE + j] = HALF * a / (y * y)
    elif slope == 6:
        for j in range(n):
            w[SLOPE + j] = HALF * a * exp(-a * abs(w[SLOPE + j]))
    elif slope == 7:
        for j in range(n):
            y = a * w[SLOPE + j]
            w[SLOPE + j] = a / SQRT_PI * exp(-y * y)
    elif slope == 8:
        for j in range(n):
            w[SLOPE + j] = a if abs(w[SLOPE + j]) < HALF / a else ZERO
    else:
        for j in range(n):
            y = a * w[SLOPE + j]
            left, right = y + ONE, y - ONE
            sides = exp(-SIDE_SHARPNESS * left * left) + exp(-SIDE_SHARPNESS * right * right)
            w[SLOPE + j] = a * (MIDDLE * exp(-HALF * y * y) - SIDE * sides)
