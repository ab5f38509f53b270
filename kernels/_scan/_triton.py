"""The two Triton kernels of ``cuda.py``, forward and backward: a family's equations over time, on a GPU.

One program, a warp, takes a block of neurons through all steps, the state in registers. PIECE steps are unrolled and their
loads issued together, so that few threads keep the memory busy; backward holds the membranes that it computes again in
registers. A row is read and written UNIT neurons a thread, 16 bytes where it can be.

The equations are a family's own, the same functions that ``reference.py`` runs: the kernels get them as constants, with
``state``, ``trace`` and ``knobs`` as tuples of blocks. Multiply-add fusion is off (an option of the launch): a spike is
decided by the same roundings here, in recomputation, and in ``reference.py``. What nobody asked for, as a knob's gradient,
is never stored, so the compiler drops its computation.
"""

# mypy: ignore-errors
# What is compiled here is Triton's language, in which a name may change its type.

import math

import triton
import triton.language as tl

__all__ = ["backward_kernel", "forward_kernel", "slope"]

HALF_PI = tl.constexpr(math.pi / 2)
ONE_OVER_SQRT_PI = tl.constexpr(1 / math.sqrt(math.pi))
# multi_gaussian, in units of its width: heights of the middle and the two side densities, and the sides' sharpness
MIDDLE = tl.constexpr(1.15 / math.sqrt(2 * math.pi))
SIDE = tl.constexpr(0.15 / 6 / math.sqrt(2 * math.pi))
SIDE_SHARPNESS = tl.constexpr(0.5 / 36)


@triton.jit
def slope(x, a, SURROGATE: tl.constexpr):
    """g(x) of ``surrogates.py``; 0, not NaN, at an infinite distance."""
    size = tl.abs(x)
    if SURROGATE == "sigmoid":
        e = tl.exp(-a * size)
        g = a * e / ((1 + e) * (1 + e))
    elif SURROGATE == "atan":
        y = a * HALF_PI * x
        g = 0.5 * a / (1 + y * y)
    elif SURROGATE == "triangle":
        y = a - a * a * size
        g = tl.where(y < 0, 0.0, y)  # not maximum, which would hide a NaN
    elif SURROGATE == "superspike":
        g = a / ((1 + size) * (1 + size))
    elif SURROGATE == "fast_sigmoid":
        g = 1 / ((1 + a * size) * (1 + a * size))
    elif SURROGATE == "softsign":
        g = 0.5 * a / ((1 + a * size) * (1 + a * size))
    elif SURROGATE == "exponential":
        g = 0.5 * a * tl.exp(-a * size)
    elif SURROGATE == "erf":
        y = a * x
        g = a * ONE_OVER_SQRT_PI * tl.exp(-y * y)
    elif SURROGATE == "boxcar":
        g = tl.where(size < 0.5 / a, a, 0.0)
    else:
        tl.static_assert(SURROGATE == "multi_gaussian", "a surrogate that this file does not know")
        y = a * x
        sides = tl.exp((y + 1) * (y + 1) * -SIDE_SHARPNESS) + tl.exp((y - 1) * (y - 1) * -SIDE_SHARPNESS)
        g = a * (tl.exp(-0.5 * y * y) * MIDDLE - sides * SIDE)
    return g


@triton.jit
def _fires(u, STRICT: tl.constexpr):
    return u > 0 if STRICT else u >= 0


@triton.jit
def _step(
    knobs, before, x,
    CHARGE: tl.constexpr, DISTANCE: tl.constexpr, SETTLE: tl.constexpr, HARD: tl.constexpr, STRICT: tl.constexpr,
):  # fmt: skip
    """What the step leaves for backward, who fired, the state after it."""
    trace = CHARGE(knobs, before, x)
    fired = _fires(DISTANCE(knobs, trace), STRICT)
    return trace, fired, SETTLE(knobs, before, trace, fired, HARD)


@triton.jit
def _block(units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """The neurons of this program, which of them exist, and the length of a row."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return n, n < units * UNIT, units * UNIT  # a product: so the compiler sees that UNIT divides it


@triton.jit
def _knobs(knobs, n, features, inside, KINDS: tl.constexpr, UNIT: tl.constexpr):
    """Every knob's value: a number, the content of one element, or of a row with a value a feature."""
    values = ()
    feature = tl.max_contiguous(tl.multiple_of(n % features, UNIT), UNIT)  # a unit lies within one sample
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == "number":
            values = values + (knobs[k],)  # noqa: RUF005 # Triton knows no starred tuples
        elif KINDS[k] == "element":
            values = values + (tl.load(knobs[k]),)  # noqa: RUF005
        else:
            values = values + (tl.load(knobs[k] + feature, mask=inside, other=0.0),)  # noqa: RUF005
    return values


@triton.jit
def _ends(lengths, n, inside, steps, features, UNIT: tl.constexpr):
    """How many steps each neuron takes, and the most that one of the block takes."""
    if lengths is None:
        return tl.where(inside, steps, 0), steps
    else:
        ends = tl.minimum(tl.load(lengths + n // features, mask=inside, other=0), steps).to(tl.int32)
        ends = tl.max_constancy(ends, UNIT)  # a unit lies within one sample (the launcher sees to it): wide loads
        return ends, tl.max(ends, axis=0)


@triton.jit
def _load_rows(rows, offset, n, inside):
    """A block of each part of a state, or zeros where there is none; ``offset`` elements on."""
    values = ()
    for k in tl.static_range(len(rows)):
        if rows[k] is None:
            values = values + (tl.zeros_like(n).to(tl.float32),)  # noqa: RUF005
        else:
            values = values + (tl.load(rows[k] + offset + n, mask=inside, other=0.0),)  # noqa: RUF005
    return values


@triton.jit
def _store_rows(rows, offset, values, n, inside):
    for k in tl.static_range(len(rows)):
        tl.store(rows[k] + offset + n, values[k], mask=inside)


@triton.jit
def _select(condition, chosen, other):
    """Of two tuples, element by element."""
    values = ()
    for k in tl.static_range(len(chosen)):
        values = values + (tl.where(condition, chosen[k], other[k]),)  # noqa: RUF005
    return values


@triton.jit
def _load_piece(x, first, stride, n, ends, PIECE: tl.constexpr):
    """PIECE steps of a sequence; at once, since no load passes the store of an earlier step, which might alias it."""
    rows = ()
    row = x + first * stride.to(tl.int64)
    for j in tl.static_range(PIECE):
        rows = rows + (tl.load(row + n, mask=first + j < ends, other=0.0),)  # noqa: RUF005
        row += stride
    return rows


@triton.jit
def _store_spikes(spikes, t, fired, n, inside, there, neurons, BLOCK: tl.constexpr, PACKED: tl.constexpr):
    """A row of spikes, one a neuron, or as bits: neuron 32 k + j is bit j of word k, in a GPU's order of bytes."""
    if PACKED:
        row_bytes = tl.cdiv(neurons, 32) * 4
        byte = tl.program_id(0) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
        bits = tl.reshape(fired.to(tl.int32), (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :]
        packed = tl.sum(bits, axis=1).to(tl.uint8)
        tl.store(spikes + t * row_bytes.to(tl.int64) + byte, packed, mask=there & (byte < row_bytes))
    else:
        ones = tl.where(fired, 1.0, 0.0).to(spikes.dtype.element_ty)
        tl.store(spikes + t * neurons.to(tl.int64) + n, ones, mask=there & inside)


@triton.jit(do_not_specialize=["steps", "units", "x_units", "features"])
def forward_kernel(
    x, state, knobs, lengths, spikes, v_sequence, last, checkpoints, steps, units, x_units, features,
    CHARGE: tl.constexpr, DISTANCE: tl.constexpr, SETTLE: tl.constexpr, KINDS: tl.constexpr, HARD: tl.constexpr,
    STRICT: tl.constexpr, PACKED: tl.constexpr, EVERY: tl.constexpr, PIECE: tl.constexpr, UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """``reference.forward``; rows are ``units * UNIT`` neurons, x's rows ``x_units * UNIT`` apart."""
    n, inside, neurons = _block(units, UNIT, BLOCK)
    x_stride = x_units * UNIT
    values = _knobs(knobs, n, features, inside, KINDS, UNIT)
    ends, stop = _ends(lengths, n, inside, steps, features, UNIT)
    now = _load_rows(state, 0, n, inside)
    for first in range(0, stop, PIECE):
        if EVERY > 0:  # noqa: SIM102 # the compiler would divide by 0
            if first % EVERY == 0:
                _store_rows(checkpoints, first // EVERY * neurons.to(tl.int64), now, n, inside)
        currents = _load_piece(x, first, x_stride, n, ends, PIECE)
        for j in tl.static_range(PIECE):
            t = first + j
            live = t < ends
            current = currents[j].to(tl.float32)
            _, fired, after = _step(values, now, current, CHARGE, DISTANCE, SETTLE, HARD, STRICT)
            now = _select(live, after, now)
            _store_spikes(spikes, t, fired & live, n, inside, t < steps, neurons, BLOCK, PACKED)
            if v_sequence is not None:
                v = tl.where(live, now[0], 0.0)
                tl.store(v_sequence + t * neurons.to(tl.int64) + n, v, mask=inside & (t < steps))
    if lengths is not None:
        for t in range(tl.cdiv(stop, PIECE) * PIECE, steps):  # where no sample of the block takes a step
            if EVERY > 0:  # noqa: SIM102
                if t % EVERY == 0:
                    _store_rows(checkpoints, t // EVERY * neurons.to(tl.int64), now, n, inside)
            _store_spikes(spikes, t, n < 0, n, inside, t < steps, neurons, BLOCK, PACKED)
            if v_sequence is not None:
                tl.store(v_sequence + t * neurons.to(tl.int64) + n, tl.zeros_like(now[0]), mask=inside)
    _store_rows(last, 0, now, n, inside)


@triton.jit(do_not_specialize=["steps", "units", "x_units", "s_units", "v_units", "features", "truncate", "alpha"])
def backward_kernel(
    grad_spikes, grad_v_sequence, grad_last, x, checkpoints, knobs, lengths, grad_x, grad_state, grad_knobs,
    steps, units, x_units, s_units, v_units, features, truncate, alpha,
    CHARGE: tl.constexpr, DISTANCE: tl.constexpr, SETTLE: tl.constexpr, BACK: tl.constexpr, KINDS: tl.constexpr,
    NEEDS: tl.constexpr, HARD: tl.constexpr, STRICT: tl.constexpr, ATTACHED: tl.constexpr, SURROGATE: tl.constexpr,
    TRUNCATE: tl.constexpr, EVERY: tl.constexpr, SPAN: tl.constexpr, PIECE: tl.constexpr, UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """``reference.backward``; a knob of one element gets one sum a program, another one a neuron, added up later.

    Pieces are taken last first. Where one does not begin at a checkpoint, the neurons are taken there from it: to the span
    of pieces around it once, from the span's first step for each piece. Those steps' x is read again, from the cache that
    the program's other reads went through.
    """
    n, inside, neurons = _block(units, UNIT, BLOCK)
    x_stride = x_units * UNIT
    values = _knobs(knobs, n, features, inside, KINDS, UNIT)
    ends, stop = _ends(lengths, n, inside, steps, features, UNIT)
    grads = _load_rows(grad_last, 0, n, inside)
    sums = ()
    for k in tl.static_range(len(NEEDS)):
        sums = sums + ((tl.zeros_like(ends).to(tl.float32) if NEEDS[k] > 0 else 0.0),)  # noqa: RUF005
    spans = tl.cdiv(stop, SPAN)
    if lengths is not None:
        for t in range(spans * SPAN, steps):  # where no sample of the block takes a step
            nothing = tl.zeros_like(ends).to(grad_x.dtype.element_ty)
            tl.store(grad_x + t * neurons.to(tl.int64) + n, nothing, mask=inside)
    for done in range(spans):
        start = (spans - 1 - done) * SPAN
        block = start // EVERY
        base = _load_rows(checkpoints, block * neurons.to(tl.int64), n, inside)
        base = _advance(
            x, x_stride, base, block * EVERY, start, n, ends, values, CHARGE, DISTANCE, SETTLE, HARD, STRICT
        )
        for back in range(SPAN // PIECE):
            first = start + (SPAN - PIECE) - back * PIECE
            now = _advance(x, x_stride, base, start, first, n, ends, values, CHARGE, DISTANCE, SETTLE, HARD, STRICT)
            currents = _load_piece(x, first, x_stride, n, ends, PIECE)
            if grad_spikes is not None:
                from_spikes = _load_piece(grad_spikes, first, s_units * UNIT, n, ends, PIECE)
            if grad_v_sequence is not None:
                from_v = _load_piece(grad_v_sequence, first, v_units * UNIT, n, ends, PIECE)
            row = grad_x + (first + (PIECE - 1)) * neurons.to(tl.int64)
            states, traces = (), ()
            for j in tl.static_range(PIECE):
                states = states + (now,)  # noqa: RUF005
                current = currents[j].to(tl.float32)
                trace, _, now = _step(values, now, current, CHARGE, DISTANCE, SETTLE, HARD, STRICT)
                traces = traces + (trace,)  # noqa: RUF005
            for j in tl.static_range(PIECE - 1, -1, -1):
                t = first + j
                live = t < ends
                arriving = grads
                if grad_v_sequence is not None:
                    arriving = (grads[0] + from_v[j],) + grads[1:]  # noqa: RUF005
                grad_fired = from_spikes[j].to(tl.float32) if grad_spikes is not None else tl.zeros_like(grads[0])
                u = DISTANCE(values, traces[j])
                gx, before, parts = BACK(
                    values, states[j], traces[j], _fires(u, STRICT), slope(u, alpha, SURROGATE), currents[j].to(tl.float32),
                    grad_fired, arriving, HARD, ATTACHED,
                )  # fmt: skip
                tl.store(row + n, tl.where(live, gx, 0.0).to(grad_x.dtype.element_ty), mask=inside & (t < steps))
                row -= neurons
                sums = _add(sums, live, parts, NEEDS)
                if TRUNCATE:
                    before = _select((t > 0) & (t % truncate == 0), _zeros(before), before)
                grads = _select(live, before, grads)
    _store_rows(grad_state, 0, grads, n, inside)
    for k in tl.static_range(len(NEEDS)):
        if NEEDS[k] == 2:
            tl.store(grad_knobs[k] + n, sums[k], mask=inside)
        elif NEEDS[k] == 1:
            tl.store(grad_knobs[k] + tl.program_id(0), tl.sum(sums[k], axis=0))


@triton.jit
def _advance(
    x, stride, state, begin, end, n, ends, knobs,
    CHARGE: tl.constexpr, DISTANCE: tl.constexpr, SETTLE: tl.constexpr, HARD: tl.constexpr, STRICT: tl.constexpr,
):  # fmt: skip
    """The state before step ``end``, from that before ``begin``."""
    for t in range(begin, end):
        current = tl.load(x + t * stride.to(tl.int64) + n, mask=t < ends, other=0.0)
        _, _, state = _step(knobs, state, current.to(tl.float32), CHARGE, DISTANCE, SETTLE, HARD, STRICT)
    return state


@triton.jit
def _zeros(blocks):
    values = ()
    for k in tl.static_range(len(blocks)):
        values = values + (tl.zeros_like(blocks[k]),)  # noqa: RUF005
    return values


@triton.jit
def _add(sums, live, parts, NEEDS: tl.constexpr):
    """The sums of the knobs' gradients that are wanted, one step on."""
    values = ()
    for k in tl.static_range(len(NEEDS)):
        values = values + ((sums[k] + tl.where(live, parts[k], 0.0)) if NEEDS[k] > 0 else sums[k],)  # noqa: RUF005
    return values
