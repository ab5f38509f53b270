"""The compiled loops of ``cpu.py``: all stages and all steps of a range of samples in one call, serial.

A sample goes through one stage after the other, and through each with all its steps: then its ring and the stage's weights
stay in the caches. A synapse costs a load of its weight, a load of its place in the ring, and an addition there; nothing of
that can be vectorised, but there are no branches, and a processor does one in about a cycle.

A ring has 2 (depth + 1) rows of ``size`` floats. What is sent at step t with delay d goes to row t % (depth + 1) + d, which
no synapse needs to wrap around; so what arrives at step t lies in two rows, t % (depth + 1) and depth + 1 rows further.
"""

# numba gives a function that it compiles its context, and a variable its type: mypy sees neither.
# mypy: disable-error-code="call-arg, var-annotated"

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
from ._access import BLOCK, live, load, lowest, store

__all__ = ["FAMILIES", "FIELDS", "ROW", "WORK", "Field", "Kind", "first_unsound", "make_advance"]

FAMILIES = (LIF, CUBA, ADAPTIVE, ADAPTIVE_LATE)
ROW = 16_400  # floats: a row of the workspace, one for each knob and so on; no power of two, as rows would share cache lines
_STATE, _CURRENT, _FIRED = (
    12,
    15,
    16,
)  # rows of the workspace; before them the knobs, at most 12, and then the state's parts
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


FIELDS = max(Field) + 1
_SIZE, _PERIOD, _RING = map(int, (Field.SIZE, Field.PERIOD, Field.RING))
_LATE, _LATE_PERIOD, _LATE_RING = map(int, (Field.LATE, Field.LATE_PERIOD, Field.LATE_RING))
_BIAS, _SCALE, _FORWARD, _BACK = map(int, (Field.BIAS, Field.SCALE, Field.FORWARD, Field.BACK))
_FAMILY, _HARD, _STRICT, _EMITS_V = map(int, (Field.FAMILY, Field.HARD, Field.STRICT, Field.EMITS_V))
_KNOBS, _STATES = int(Field.KNOBS), int(Field.STATE)
_NONE, _ROWS = int(Kind.NONE), int(Kind.ROWS)


def _neurons(family: Family):
    """One step of a family's neurons on the workspace; and how many knobs and parts of a state they have."""
    charge, distance, settle, _ = equations(family)
    knobs, states = len(family.knobs._fields), len(family.state._fields)  # type: ignore[attr-defined]

    def step(w, n, hard, strict):
        for j in range(n):
            values = read(w, ROW, 0, knobs, j)
            before = read(w, ROW, _STATE, states, j)
            (current,) = read(w, ROW, _CURRENT, 1, j)
            trace = charge(values, before, current)
            fired = fires(distance(values, trace), strict)
            write(w, ROW, _STATE, settle(values, before, trace, fired, hard), j)
            write(w, ROW, _FIRED, (_ONE if fired else _ZERO,), j)

    # Compiled code knows a function by its name and a running number. From caches that several processes filled come equal
    # numbers, so functions of one name would take each other's place.
    step.__name__ = step.__qualname__ = f"step_{family.name}"
    return register_jitable(step), knobs, states


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
def _copy(target, to, source, origin, n):
    for j in range(n):
        store(target, to + j, load(source, origin + j))


@register_jitable
def _add(target, to, source, origin, n):
    for j in range(n):
        store(target, to + j, load(target, to + j) + load(source, origin + j))


@register_jitable
def _add_row(ring, base, weights, origin, n, value):
    for j in range(n):
        store(ring, base + j, load(ring, base + j) + value * np.float32(load(weights, origin + j)))


@register_jitable
def _scatter(ring, base, places, at, weights, origin, n, value):
    for k in range(n):
        to = base + np.int64(load(places, at + k))
        store(ring, to, load(ring, to) + value * np.float32(load(weights, origin + k)))


@register_jitable
def _take(w, to, ring, low, high, n):
    """Set n floats of the workspace to what has arrived, and free its two rows of the ring."""
    for j in range(n):
        store(w, to + j, load(ring, low + j) + load(ring, high + j))
    for j in range(n):
        store(ring, low + j, _ZERO)
    for j in range(n):
        store(ring, high + j, _ZERO)


@register_jitable
def _send(ring, base, size, of, synapses, weights, ints, places, who, what, first, stop):
    """Add the weights of these events to the ring, each at its delay from row ``base`` on."""
    at_weights, at_ints, at_places = load(of, synapses + 1), load(of, synapses + 2), load(of, synapses + 3)
    if load(of, synapses) == _ROWS:
        for e in range(first, stop):
            i = np.int64(load(who, e))
            to = base + load(ints, at_ints + i) * size
            _add_row(ring, to, weights, at_weights + i * size, size, load(what, e))
        return
    for e in range(first, stop):
        i = np.int64(load(who, e))
        begin, end = load(ints, at_ints + i), load(ints, at_ints + i + 1)
        _scatter(ring, base, places, at_places + begin, weights, at_weights + begin, end - begin, load(what, e))


@register_jitable
def _events(who, what, count, values, at, n):
    """Append what of n values is not zero to the list of ``count`` events; returns how many there are now.

    Few are: a block of them costs no more than one look.
    """
    whole = n // BLOCK * BLOCK
    for begin in range(0, whole, BLOCK):
        bits = live(values, at + begin)
        while bits != 0:
            i = begin + lowest(bits)
            store(who, count, np.int32(i))
            store(what, count, load(values, at + i))
            count += 1
            bits &= bits - np.uint32(1)
    for i in range(whole, n):
        value = load(values, at + i)
        if value != _ZERO:
            store(who, count, np.int32(i))
            store(what, count, value)
            count += 1
    return count


def make_advance(version: int):
    """``reference.Engine.advance`` for samples first .. stop.

    Arrays are flat. ``table`` [stages, fields] says where in the pools ``weights``, ``places``, ``ints`` and ``floats`` a
    stage's arrays begin; ``rings`` and ``states`` hold ``ring_size`` and ``state_size`` floats a sample. ``now`` [stages]
    are the steps that each has taken so far. ``w`` is workspace of ``WORK`` floats; ``who`` and ``what`` are events, [2,
    room], those that come to a stage and those that leave it, and ``edges`` [2, steps + 1] says which belong to a step.
    ``counts`` is [samples, end - begin]. ``currents`` are of ``more`` steps, or None. ``version`` stands in the cache's
    key, so that nothing compiled from other sources is loaded.
    """

    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def advance(
        x, inputs, currents, more, out, counts, now, table, weights, places, ints, floats, rings, ring_size, states,
        state_size, steps, batch, begin, end, w, who, what, edges, room, first, stop,
    ):  # fmt: skip
        _ = version
        last = load(table, (end - 1) * FIELDS + _SIZE)
        for b in range(first, stop):
            come, go = 0, 1
            count = 0
            store(edges, 0, 0)
            for t in range(steps):
                count = _events(who, what, count, x, (t * batch + b) * inputs, inputs)
                store(edges, t + 1, count)
            for s in range(begin, end):
                of = table[s * FIELDS : (s + 1) * FIELDS]
                size, period, family = of[_SIZE], of[_PERIOD], of[_FAMILY]
                is_last = s + 1 == end
                knobs, parts = 0, 0
                if family >= 0:
                    knobs, parts = _sizes(family)
                state = b * state_size + of[_STATES]
                for k in range(knobs):
                    _copy(w, k * ROW, floats, of[_KNOBS] + k * size, size)
                for k in range(parts):
                    _copy(w, (_STATE + k) * ROW, states, state + k * size, size)
                emitted = _FIRED * ROW
                if family < 0:
                    emitted = _CURRENT * ROW
                elif of[_EMITS_V] > 0:
                    emitted = _STATE * ROW
                comes, leaves = come * (steps + 1), go * (steps + 1)
                counts[b * (end - begin) + s - begin] = load(edges, comes + steps) - come * room
                rows = b * ring_size + of[_RING]
                late_rows = b * ring_size + of[_LATE_RING]
                slot, late_slot = now[s] % period, now[s] % of[_LATE_PERIOD]
                count = go * room
                store(edges, leaves, count)
                for t in range(steps):
                    base = rows + slot * size
                    _send(
                        rings, base, size, of, _FORWARD, weights, ints, places, who, what, load(edges, comes + t),
                        load(edges, comes + t + 1),
                    )  # fmt: skip
                    _take(w, _CURRENT * ROW, rings, base, base + period * size, size)
                    if currents is not None and s == begin:
                        _add(w, _CURRENT * ROW, currents, (t * batch + b) * size, size)
                    to_back = base
                    if of[_LATE] >= 0:
                        base_late = late_rows + late_slot * size
                        _scatter(rings, base_late, ints, of[_LATE], w, _CURRENT * ROW, size, _ONE)
                        _take(w, _CURRENT * ROW, rings, base_late, base_late + of[_LATE_PERIOD] * size, size)
                        to_back = base_late
                        late_slot = late_slot + 1 if late_slot + 1 < of[_LATE_PERIOD] else 0
                    if of[_SCALE] >= 0:
                        for j in range(size):
                            scaled = load(w, _CURRENT * ROW + j) * load(floats, of[_SCALE] + j)
                            store(w, _CURRENT * ROW + j, scaled)
                    if of[_BIAS] >= 0:
                        _add(w, _CURRENT * ROW, floats, of[_BIAS], size)
                    if family >= 0:
                        _fire(w, size, family, of[_HARD] > 0, of[_STRICT] > 0)
                    before = count
                    if not is_last or of[_BACK] != _NONE:
                        count = _events(who, what, count, w, emitted, size)
                    store(edges, leaves + t + 1, count)
                    if of[_BACK] != _NONE:
                        _send(rings, to_back, size, of, _BACK, weights, ints, places, who, what, before, count)
                    if is_last:
                        _copy(out, (t * batch + b) * last, w, emitted, size)
                    slot = slot + 1 if slot + 1 < period else 0
                if currents is not None and s == begin:
                    for t in range(steps, more):
                        _add(rings, rows + slot * size, currents, (t * batch + b) * size, size)
                        slot = slot + 1 if slot + 1 < period else 0
                for k in range(parts):
                    _copy(states, state + k * size, w, (_STATE + k) * ROW, size)
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
