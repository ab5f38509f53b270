"""The compiled loops of ``cpu.py``: all stages and all steps of a range of samples in one call, serial.

A sample goes through one stage after the other, and through each with all its steps: then its ring and the stage's weights
stay in the caches. A synapse costs a load of its weight, a load of its place in the ring, and an addition there; nothing of
that can be vectorised, but there are no branches, and a processor does one in about a cycle.

A ring has 2 (depth + 1) rows of ``size`` floats. What is sent at step t with delay d goes to row t % (depth + 1) + d, which
no synapse needs to wrap around; so what arrives at step t lies in two rows, t % (depth + 1) and depth + 1 rows further.
"""

# numba gives an intrinsic its context, which mypy does not see.
# mypy: disable-error-code="call-arg"

from enum import IntEnum

import numba
import numpy as np
from numba.extending import register_jitable

from .._scan._loops import equations, fires
from .._scan._rows import read, write
from .._scan.family import Family
from ..adaptive.reference import FAMILY as ADAPTIVE
from ..adaptive_late.reference import FAMILY as ADAPTIVE_LATE
from ..cuba.reference import FAMILY as CUBA
from ..lif.reference import FAMILY as LIF

__all__ = ["FAMILIES", "ROW", "WORK", "Field", "Kind", "first_unsound", "make_advance"]

FAMILIES = (LIF, CUBA, ADAPTIVE, ADAPTIVE_LATE)
ROW = 16_400  # floats: a row of the workspace, one for each knob and so on; no power of two, as rows would share cache lines
_STATE, _CURRENT, _FIRED = 12, 15, 16  # rows of the workspace; before them the knobs, at most 12, and then the state's parts
WORK = 17 * ROW
_ZERO, _ONE = np.float32(0), np.float32(1)


class Kind(IntEnum):
    """Of synapses."""

    NONE = 0
    ROWS = 1
    TAPS = 2


class Field(IntEnum):
    """The columns of the table of stages: sizes, and where in the pools a stage's arrays begin (-1: it has none)."""

    INPUTS = 0
    SIZE = 1
    PERIOD = 2  # rows of a half of the ring, depth + 1
    RING = 3
    LATE = 4  # the places of dendritic delays, in ints
    LATE_PERIOD = 5
    LATE_RING = 6
    BIAS = 7
    SCALE = 8
    FORWARD = 9  # four columns: kind, weights, first taps or delays (ints), places
    BACK = 13  # likewise
    FAMILY = 17
    HARD = 18
    STRICT = 19
    EMITS_V = 20
    KNOBS = 21
    STATE = 22


_INPUTS, _SIZE, _PERIOD, _RING = map(int, (Field.INPUTS, Field.SIZE, Field.PERIOD, Field.RING))
_LATE, _LATE_PERIOD, _LATE_RING = map(int, (Field.LATE, Field.LATE_PERIOD, Field.LATE_RING))
_BIAS, _SCALE, _FORWARD, _BACK = map(int, (Field.BIAS, Field.SCALE, Field.FORWARD, Field.BACK))
_FAMILY, _HARD, _STRICT, _EMITS_V = map(int, (Field.FAMILY, Field.HARD, Field.STRICT, Field.EMITS_V))
_KNOBS, _STATES = int(Field.KNOBS), int(Field.STATE)
_NONE, _ROWS = int(Kind.NONE), int(Kind.ROWS)


def _neurons(family: Family):
    """One step of a family's neurons on the workspace; and how many knobs and parts of a state they have."""
    charge, distance, settle, _ = equations(family)
    knobs, states = len(family.knobs._fields), len(family.state._fields)  # type: ignore[attr-defined]

    @register_jitable
    def step(w, n, hard, strict):
        for j in range(n):
            values = read(w, ROW, 0, knobs, j)
            before = read(w, ROW, _STATE, states, j)
            (current,) = read(w, ROW, _CURRENT, 1, j)
            trace = charge(values, before, current)
            fired = fires(distance(values, trace), strict)
            write(w, ROW, _STATE, settle(values, before, trace, fired, hard), j)
            write(w, ROW, _FIRED, (_ONE if fired else _ZERO,), j)

    return step, knobs, states


_lif, _LIF_KNOBS, _LIF_STATES = _neurons(LIF)
_cuba, _CUBA_KNOBS, _CUBA_STATES = _neurons(CUBA)
_adaptive, _ADAPTIVE_KNOBS, _ADAPTIVE_STATES = _neurons(ADAPTIVE)
_late, _LATE_KNOBS, _LATE_STATES = _neurons(ADAPTIVE_LATE)


@register_jitable
def _fire(w, n, family, hard, strict):
    if family == 0:
        _lif(w, n, hard, strict)
    elif family == 1:
        _cuba(w, n, hard, strict)
    elif family == 2:
        _adaptive(w, n, hard, strict)
    else:
        _late(w, n, hard, strict)


@register_jitable
def _sizes(family):
    """Knobs, and parts of the state."""
    if family == 0:
        return _LIF_KNOBS, _LIF_STATES
    if family == 1:
        return _CUBA_KNOBS, _CUBA_STATES
    if family == 2:
        return _ADAPTIVE_KNOBS, _ADAPTIVE_STATES
    return _LATE_KNOBS, _LATE_STATES


@register_jitable
def _copy(target, source, n):
    for j in range(n):
        target[j] = source[j]


@register_jitable
def _take(current, ring, base, distance, n):
    """Set the current to what has arrived, and free its two rows of the ring."""
    low, high = ring[base:], ring[base + distance :]
    for j in range(n):
        current[j] = low[j] + high[j]
    for j in range(n):
        low[j] = 0
    for j in range(n):
        high[j] = 0


@register_jitable
def _scatter(ring, base, places, weights, n, value):
    to = ring[base:]
    for k in range(n):
        to[np.uint64(places[k])] += value * np.float32(weights[k])


@register_jitable
def _add_row(ring, base, weights, n, value):
    to = ring[base:]
    for j in range(n):
        to[j] += value * np.float32(weights[j])


@register_jitable
def _send(ring, base, size, kind, at_weights, at_ints, at_places, weights, ints, places, who, what, n):
    """Add the weights of the first n events to the ring, each at its delay from row ``base`` on."""
    if kind == _ROWS:
        for e in range(n):
            i = who[e]
            delay = ints[at_ints + i]
            _add_row(ring, base + delay * size, weights[at_weights + i * size :], size, what[e])
        return
    for e in range(n):
        first, stop = ints[at_ints + who[e]], ints[at_ints + who[e] + 1]
        _scatter(ring, base, places[at_places + first :], weights[at_weights + first :], stop - first, what[e])


@register_jitable
def _events(who, what, values, n):
    """List what is not zero; returns how many there are."""
    count = 0
    for i in range(n):
        value = values[i]
        who[count], what[count] = i, value
        count += value != _ZERO
    return count


def make_advance(version: int):
    """``reference.Engine.advance`` for samples first .. stop.

    ``table`` [stages, fields] says where in the pools ``weights``, ``places``, ``ints`` and ``floats`` a stage's arrays
    begin; ``rings`` and ``states`` are [samples, floats]. ``now`` [stages] are the steps that each has taken so far. ``w`` is workspace of
    ``WORK`` floats; ``who`` and ``what`` are [2, events] for those that come to a stage and those that leave it, with room
    for one more than there can be, and ``edges`` [2, T + 1] says which belong to a step. ``counts`` is [samples, stages].
    ``version`` stands in the cache's key, so that nothing compiled from other sources is loaded.
    """

    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def advance(
        x, currents, out, counts, now, table, weights, places, ints, floats, rings, states, w, who, what, edges, begin, end,
        first, stop,
    ):  # fmt: skip
        _ = version
        steps = x.shape[0]
        current, fired, membrane = w[_CURRENT * ROW :], w[_FIRED * ROW :], w[_STATE * ROW :]
        for b in range(first, stop):
            ring, state = rings[b], states[b]
            come, go = 0, 1
            edges[come, 0] = 0
            for t in range(steps):
                n = edges[come, t]
                edges[come, t + 1] = n + _events(who[come, n:], what[come, n:], x[t, b], x.shape[2])
            for s in range(begin, end):
                of = table[s]
                size, period, family = of[_SIZE], of[_PERIOD], of[_FAMILY]
                knobs, parts = 0, 0
                if family >= 0:
                    knobs, parts = _sizes(family)
                for k in range(knobs):
                    _copy(w[k * ROW :], floats[of[_KNOBS] + k * size :], size)
                for k in range(parts):
                    _copy(w[(_STATE + k) * ROW :], state[of[_STATES] + k * size :], size)
                counts[b, s - begin] = edges[come, steps]
                slot, late_slot = now[s] % period, now[s] % of[_LATE_PERIOD]
                edges[go, 0] = 0
                for t in range(steps):
                    base = of[_RING] + slot * size
                    begun, ended = edges[come, t], edges[come, t + 1]
                    _send(
                        ring, base, size, of[_FORWARD], of[_FORWARD + 1], of[_FORWARD + 2], of[_FORWARD + 3], weights,
                        ints, places, who[come, begun:], what[come, begun:], ended - begun,
                    )  # fmt: skip
                    _take(current, ring, base, period * size, size)
                    if of[_SCALE] >= 0:
                        factor = floats[of[_SCALE] :]
                        for j in range(size):
                            current[j] *= factor[j]
                    if currents is not None and s == begin:
                        _add_row(current, 0, currents[t, b], size, _ONE)
                    if of[_LATE] >= 0:
                        late = of[_LATE_RING] + late_slot * size
                        _scatter(ring, late, ints[of[_LATE] :], current, size, _ONE)
                        _take(current, ring, late, of[_LATE_PERIOD] * size, size)
                        late_slot = late_slot + 1 if late_slot + 1 < of[_LATE_PERIOD] else 0
                    if of[_BIAS] >= 0:
                        _add_row(current, 0, floats[of[_BIAS] :], size, _ONE)
                    if family < 0:
                        emitted = current
                    else:
                        _fire(w, size, family, of[_HARD] > 0, of[_STRICT] > 0)
                        emitted = membrane if of[_EMITS_V] > 0 else fired
                    n = edges[go, t]
                    count = 0
                    if s + 1 < end or of[_BACK] != _NONE:
                        count = _events(who[go, n:], what[go, n:], emitted, size)
                    edges[go, t + 1] = n + count
                    if of[_BACK] != _NONE:
                        _send(
                            ring, base, size, of[_BACK], of[_BACK + 1], of[_BACK + 2], of[_BACK + 3], weights, ints,
                            places, who[go, n:], what[go, n:], count,
                        )  # fmt: skip
                    if s + 1 == end:
                        _copy(out[t, b], emitted, size)
                    slot = slot + 1 if slot + 1 < period else 0
                if currents is not None and s == begin:
                    for t in range(steps, currents.shape[0]):
                        to, more = ring[of[_RING] + slot * size :], currents[t, b]
                        for j in range(size):
                            if of[_SCALE] < 0:
                                to[j] += more[j]
                            elif floats[of[_SCALE] + j] != _ZERO:
                                to[j] += more[j] / floats[of[_SCALE] + j]
                        slot = slot + 1 if slot + 1 < period else 0
                for k in range(parts):
                    _copy(state[of[_STATES] + k * size :], w[(_STATE + k) * ROW :], size)
                come, go = go, come

    return advance


@numba.njit(nogil=True, cache=True)
def first_unsound(x):
    """The place of the first NaN or infinity in the bits (as int32, flat) of float32 numbers, or -1."""
    largest = np.int32(0)
    for k in range(x.size):
        largest = max(largest, x[k] & np.int32(0x7FFFFFFF))
    if largest < 0x7F800000:
        return -1
    for k in range(x.size):
        if x[k] & np.int32(0x7FFFFFFF) >= 0x7F800000:
            return k
    return -1
