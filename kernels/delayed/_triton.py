"""The Triton kernels of ``cuda.py``: the live taps of synapses, gathered and correlated, and shifts of whole neurons.

Signals of synapses lie neuron by neuron, [N, steps, B], so that a delay is a shift of a row by whole steps, and a thread
reads neighbouring samples. A program takes OUTS outputs, LANES places (samples, and where these are few, groups of steps)
and STEPS steps in a row: neighbouring taps of neighbouring steps read the same element, which is loaded once, so TAPS live
taps are STEPS * TAPS multiply-adds for STEPS + TAPS - 1 loads. More taps than registers hold come as several groups.
"""

# mypy: ignore-errors
# What is compiled here is Triton's language, in which a name may change its type.

import triton
import triton.language as tl

__all__ = ["correlate_kernel", "gather_kernel", "shift_correlate_kernel", "shift_kernel"]


@triton.jit
def _lanes(block, steps, BATCH: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr):
    """First step and sample of each lane of a block of rows; a sample that does not exist has no step."""
    lots: tl.constexpr = (BATCH + SAMPLES - 1) // SAMPLES
    lane = tl.arange(0, LANES)
    sample = (block % lots) * SAMPLES + lane % SAMPLES
    step = (block // lots) * (LANES // SAMPLES * STEPS) + lane // SAMPLES * STEPS
    return tl.where(sample < BATCH, step, steps), sample


@triton.jit
def _window(row, place, given, sample, BATCH: tl.constexpr, COUNT: tl.constexpr):
    """COUNT steps of a row of samples from ``place`` on; silence outside of the given ones."""
    found = ()
    for m in tl.static_range(COUNT):
        inside = (place + m >= 0) & (place + m < given) & (sample < BATCH)
        found = found + (tl.load(row + (place + m) * BATCH + sample, mask=inside, other=0.0),)  # noqa: RUF005
    return found


@triton.jit(do_not_specialize=["outputs", "entries", "steps", "given", "offset"])
def gather_kernel(
    out, source, values, shifts, outputs, entries, steps, given, offset,
    BATCH: tl.constexpr, SYNAPSES: tl.constexpr, TAPS: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr,
    STEPS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    """out[q, t] = sum over entries e and taps j of values[e, j, q] source[e // SYNAPSES, t + shifts[e, q] - offset - j]."""
    program = tl.program_id(0)
    blocks = tl.cdiv(outputs, OUTS)
    q = (program % blocks) * OUTS + tl.arange(0, OUTS)
    there = q < outputs
    step, sample = _lanes(program // blocks, steps, BATCH, SAMPLES, LANES, STEPS)
    totals = ()
    for _ in tl.static_range(STEPS):
        totals = totals + (tl.zeros([OUTS, LANES], tl.float32),)  # noqa: RUF005
    for entry in range(entries):
        shift = tl.load(shifts + entry * outputs + q, mask=there, other=0)
        row = source + given.to(tl.int64) * BATCH * (entry // SYNAPSES)
        place = step[None, :] + (shift - offset - (TAPS - 1))[:, None]
        seen = _window(row, place, given, sample[None, :], BATCH, STEPS + TAPS - 1)
        weights = ()
        for j in tl.static_range(TAPS):
            weight = tl.load(values + (entry * TAPS + j) * outputs + q, mask=there, other=0.0)
            weights = weights + (weight[:, None],)  # noqa: RUF005
        new = ()
        for k in tl.static_range(STEPS):
            total = totals[k]
            for j in tl.static_range(TAPS):
                total += weights[j] * seen[k + TAPS - 1 - j]
            new = new + (total,)  # noqa: RUF005
        totals = new
    line = out + q.to(tl.int64)[:, None] * steps * BATCH
    for k in tl.static_range(STEPS):
        inside = there[:, None] & (step + k < steps)[None, :]
        tl.store(line + ((step + k) * BATCH + sample)[None, :], totals[k], mask=inside)


@triton.jit(do_not_specialize=["outputs", "entries", "steps", "given", "blocks_of_rows", "parts"])
def correlate_kernel(
    sums, grads, source, shifts, outputs, entries, steps, given, blocks_of_rows, parts,
    BATCH: tl.constexpr, SYNAPSES: tl.constexpr, TAPS: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr,
    STEPS: tl.constexpr, OUTS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """sums[part, e, j, q] = sum over the part's rows of grads[q, t] source[e // SYNAPSES, t + shifts[e, q] - j].

    ENTRIES at a time meet the same gradients. A part is every parts-th block of rows: nothing is added by two programs.
    """
    program = tl.program_id(0)
    blocks = tl.cdiv(outputs, OUTS)
    q = (program % blocks) * OUTS + tl.arange(0, OUTS)
    there = q < outputs
    part = program // blocks % parts
    first = program // blocks // parts * ENTRIES
    shift = ()
    totals = ()
    for u in tl.static_range(ENTRIES):
        here = there & (first + u < entries)
        shift = shift + (tl.load(shifts + (first + u) * outputs + q, mask=here, other=0)[:, None],)  # noqa: RUF005
        for _ in tl.static_range(TAPS):
            totals = totals + (tl.zeros([OUTS, LANES], tl.float32),)  # noqa: RUF005
    line = grads + q.to(tl.int64)[:, None] * steps * BATCH
    for block in range(part, blocks_of_rows, parts):
        step, sample = _lanes(block, steps, BATCH, SAMPLES, LANES, STEPS)
        grad = ()
        for k in tl.static_range(STEPS):
            inside = there[:, None] & (step + k < steps)[None, :]
            grad = grad + (tl.load(line + ((step + k) * BATCH + sample)[None, :], mask=inside, other=0.0),)  # noqa: RUF005
        new = ()
        for u in tl.static_range(ENTRIES):
            entry = tl.minimum(first + u, entries - 1)  # one that does not exist is computed, and not stored
            row = source + given.to(tl.int64) * BATCH * (entry // SYNAPSES)
            place = step[None, :] + shift[u] - (TAPS - 1)
            seen = _window(row, place, given, sample[None, :], BATCH, STEPS + TAPS - 1)
            for j in tl.static_range(TAPS):
                total = totals[u * TAPS + j]
                for k in tl.static_range(STEPS):
                    total += grad[k] * seen[k + TAPS - 1 - j]
                new = new + (total,)  # noqa: RUF005
        totals = new
    for u in tl.static_range(ENTRIES):
        here = there & (first + u < entries)
        for j in tl.static_range(TAPS):
            to = ((part * entries + first + u).to(tl.int64) * TAPS + j) * outputs
            tl.store(sums + to + q, tl.sum(totals[u * TAPS + j], axis=1), mask=here)


@triton.jit(do_not_specialize=["batch", "steps", "given", "start", "lags"])
def shift_kernel(
    out, source, values, batch, steps, given, start, lags, neurons: tl.constexpr,
    TAPS: tl.constexpr, STEPS: tl.constexpr, NEURONS: tl.constexpr,
):  # fmt: skip
    """out[t, b, n] = sum over lags of values[lag, n] source[t + start - lag, b, n], STEPS steps of one sample.

    TAPS lags at a time; the last ones overlap those before, rather than reach beyond, and do not count twice.
    """
    program = tl.program_id(0)
    blocks: tl.constexpr = (neurons + NEURONS - 1) // NEURONS
    n = (program % blocks) * NEURONS + tl.arange(0, NEURONS)
    there = n < neurons
    sample = program // blocks % batch
    first = program // blocks // batch * STEPS
    row = batch.to(tl.int64) * neurons
    column = source + sample * neurons + n
    totals = ()
    for _ in tl.static_range(STEPS):
        totals = totals + (tl.zeros([NEURONS], tl.float32),)  # noqa: RUF005
    for done in range(0, lags, TAPS):
        lag = tl.minimum(done, lags - TAPS)
        seen = _column(column, row, first + start - lag - (TAPS - 1), given, there, STEPS + TAPS - 1)
        weights = ()
        for j in tl.static_range(TAPS):
            weight = tl.load(values + (lag + j) * neurons + n, mask=there & (lag + j >= done), other=0.0)
            weights = weights + (weight,)  # noqa: RUF005
        new = ()
        for k in tl.static_range(STEPS):
            total = totals[k]
            for j in tl.static_range(TAPS):
                total += weights[j] * seen[k + TAPS - 1 - j]
            new = new + (total,)  # noqa: RUF005
        totals = new
    to = out + first * row + sample * neurons + n
    for k in tl.static_range(STEPS):
        tl.store(to + k * row, totals[k], mask=there & (first + k < steps))


@triton.jit
def _column(column, row, begin, given, there, COUNT: tl.constexpr):
    """COUNT steps of a sample from ``begin`` on; silence outside of the given ones."""
    found = ()
    for m in tl.static_range(COUNT):
        inside = there & (begin + m >= 0) & (begin + m < given)
        found = found + (tl.load(column + (begin + m) * row, mask=inside, other=0.0),)  # noqa: RUF005
    return found


@triton.jit(do_not_specialize=["batch", "steps", "given", "start", "lags", "pieces", "parts"])
def shift_correlate_kernel(
    sums, grads, source, batch, steps, given, start, lags, pieces, parts, neurons: tl.constexpr,
    TAPS: tl.constexpr, STEPS: tl.constexpr, NEURONS: tl.constexpr,
):  # fmt: skip
    """sums[part, lag, n] = sum over the part's rows of grads[t, b, n] source[t + start - lag, b, n]; TAPS lags."""
    program = tl.program_id(0)
    blocks: tl.constexpr = (neurons + NEURONS - 1) // NEURONS
    n = (program % blocks) * NEURONS + tl.arange(0, NEURONS)
    there = n < neurons
    groups = tl.cdiv(lags, TAPS)
    lag = tl.minimum(program // blocks % groups * TAPS, lags - TAPS)  # lags of two groups get the same sums twice
    part = program // blocks // groups
    row = batch.to(tl.int64) * neurons
    totals = ()
    for _ in tl.static_range(TAPS):
        totals = totals + (tl.zeros([NEURONS], tl.float32),)  # noqa: RUF005
    for piece in range(part, pieces, parts):
        sample = piece % batch
        first = piece // batch * STEPS
        begin = first + start - lag - (TAPS - 1)
        seen = _column(source + sample * neurons + n, row, begin, given, there, STEPS + TAPS - 1)
        grad = _column(grads + sample * neurons + n, row, first, steps, there, STEPS)
        new = ()
        for j in tl.static_range(TAPS):
            total = totals[j]
            for k in tl.static_range(STEPS):
                total += grad[k] * seen[k + TAPS - 1 - j]
            new = new + (total,)  # noqa: RUF005
        totals = new
    for j in tl.static_range(TAPS):
        tl.store(sums + (part * lags + lag + j) * neurons + n, totals[j], mask=there)
