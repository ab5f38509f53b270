"""The compiled loops of ``cpu.py``: serial, over a range of neurons, without the interpreter's lock.

A block of neurons is taken through all steps at once, and each step is one vectorised loop over the block: its state stays
in cache, and what comes from memory and goes there is one row of the block after the other. Rows should be long (the
processor fetches ahead within a row) and the workspace small; see ``cpu.py`` for the lengths.

The equations are a family's own, the same functions that ``reference.py`` runs, compiled for float32 in the order in which
they are written (no contraction, no reassociation): the same spikes, bit for bit, in forward and in its recomputation,
however neurons are divided among threads.
"""

# numba gives a function that it compiles its context, and a loop variable its type: mypy sees neither.
# mypy: disable-error-code="call-arg, var-annotated, attr-defined"

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload, register_jitable

from ._rows import accumulate, narrow, read, widen, write
from ._stream import fence, put
from .family import Family

__all__ = ["equations", "fires", "make_backward", "make_forward"]

_ZERO = np.float32(0)
_STAGE = 256  # results that are gathered before they go past the caches


@overload(torch.where)
def _where(condition, chosen, other):
    return lambda condition, chosen, other: np.float32(chosen) if condition else np.float32(other)


@register_jitable
def fires(u, strict):
    return u > _ZERO if strict else u >= _ZERO


@register_jitable
def _even(count, most):
    """The length of equal blocks, none above ``most``, in whole lines of the cache."""
    blocks = (count + most - 1) // most
    return min(most, ((count + blocks - 1) // blocks + 15) // 16 * 16) if blocks > 1 else most


@register_jitable
def _fill(w, first, values, start, n):
    """One value for all neurons, or one for each feature, for the block's neurons."""
    if values.size == 1:
        for j in range(n):
            w[first + j] = values[0]
        return
    feature = start % values.size
    for j in range(n):
        w[first + j] = values[feature]
        feature += 1
        if feature == values.size:
            feature = 0


@register_jitable
def _copy(target, first, source, start, n):
    to, origin = target[first:], source[start:]  # an index that cannot be negative lets the loop be vectorised
    for j in range(n):
        to[j] = origin[j]


@register_jitable
def _add(target, first, source, start, n):
    to, origin = target[first:], source[start:]
    for j in range(n):
        to[j] += origin[j]


@register_jitable
def _clear(target, first, n):
    to = target[first:]
    for j in range(n):
        to[j] = 0


@register_jitable
def _hear(target, x, t, sent, spikes, before, weight, n):
    """Set ``target`` to the currents and the weights [n, n] of what was sent at the step before; most sent nothing."""
    for j in range(n):
        target[j] = widen(x[j])
    if t == 0:
        _add_weights(target, sent, weight, n)
    else:
        _add_weights(target, spikes[before:], weight, n)


@register_jitable
def _add_weights(target, sent, weight, n):
    for i in range(n):
        spike = widen(sent[i])
        if spike != _ZERO:
            row = weight[i * n :]
            for j in range(n):
                target[j] += spike * row[j]


@register_jitable
def _echo(target, grads, weight, n):
    """Set ``target`` to the sum of the rows of the weights [n, n], each times its gradient.

    Four rows at a time, so that the sum is fetched and put back a quarter as often.
    """
    _clear(target, 0, n)
    whole = n // 4 * 4
    for i in range(0, whole, 4):
        a, b, c, d = grads[i], grads[i + 1], grads[i + 2], grads[i + 3]
        row_a, row_b, row_c, row_d = (
            weight[i * n :],
            weight[(i + 1) * n :],
            weight[(i + 2) * n :],
            weight[(i + 3) * n :],
        )
        for j in range(n):
            target[j] = (((target[j] + a * row_a[j]) + b * row_b[j]) + c * row_c[j]) + d * row_d[j]
    for i in range(whole, n):
        a, row_a = grads[i], weight[i * n :]
        for j in range(n):
            target[j] += a * row_a[j]


_compilable: set[FunctionType] = set()


def equations(family: Family) -> tuple[Callable, ...]:
    """The family's functions, which compiled code may call from now on."""
    functions = (family.charge, family.distance, family.settle, family.back)
    for function in functions:
        _make_compilable(function)
    return functions


def _make_compilable(function: Any) -> None:
    """Them, and what they call of their own module's or another family's."""
    if not isinstance(function, FunctionType) or function in _compilable:
        return
    _compilable.add(register_jitable(function))
    for name in function.__code__.co_names:
        _make_compilable(function.__globals__.get(name))


def make_forward(family: Family, row: int, version: int):
    """``Reference.forward`` of a family for neurons first..stop, in blocks of ``row`` neurons.

    Arrays are flat, [steps, neurons] or [neurons]; x has any distance between steps. ``numbers`` holds the knobs, one for
    all neurons, or is None, and then ``rows`` has an array for each. ``one`` is a spike; ``membranes`` may be None, and so
    may ``lengths`` and the recurrent ``weight``, [from, to], with ``sent``; with weights a block is a sample of ``features``
    neurons. ``streamed``: spikes go past the caches. ``w`` is workspace of ``row``
    floats a knob, a state, and one more. ``version`` stands in the cache's key, so that nothing compiled from other sources
    is loaded.
    """
    charge, distance, settle, _ = equations(family)
    knobs, states = len(family.knobs._fields), len(family.state._fields)
    state, heard = knobs, (knobs + states) * row

    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def forward(
        x, x_step, starts, numbers, rows, hard, strict, one, every, spikes, membranes, lasts, checkpoints, weight,
        sent, lengths, features, streamed, steps, neurons, w, first, stop,
    ):  # fmt: skip
        _ = version
        stage = np.empty(_STAGE, spikes.dtype)
        start, most = first, _even(stop - first, row)
        while start < stop:
            n = min(most, stop - start)
            if weight is not None:
                n = features
            if rows is not None:
                for k in range(knobs):
                    _fill(w, k * row, rows[k], start, n)
            for k in range(states):
                _copy(w, (state + k) * row, starts[k], start, n)
            for t in range(steps):
                if every > 0 and t % every == 0:
                    for k in range(states):
                        _copy(checkpoints[k], t // every * neurons + start, w, (state + k) * row, n)
                edge = 0
                while edge < n:  # all neurons of the block, or those of one sample after the other
                    here, m = t * neurons + start + edge, n - edge
                    if lengths is not None:
                        m = min(m, features - (start + edge) % features)
                        if t >= lengths[(start + edge) // features]:
                            _clear(spikes, here, m)
                            if membranes is not None:
                                _clear(membranes, here, m)
                            edge += m
                            continue
                    x_t = x[t * x_step + start + edge :]
                    if weight is not None:
                        _hear(w[heard:], x_t, t, sent[start:], spikes, here - neurons, weight, n)
                    for begin in range(0, m, _STAGE):
                        count, x_piece = min(_STAGE, m - begin), x_t[begin:]
                        for k in range(count):
                            j = edge + begin + k
                            if numbers is None:
                                values = read(w, row, 0, knobs, j)
                            else:
                                values = numbers
                            current = widen(x_piece[k])
                            if weight is not None:
                                current = w[heard + j]
                            before = read(w, row, state, states, j)
                            trace = charge(values, before, current)
                            fired = fires(distance(values, trace), strict)
                            write(w, row, state, settle(values, before, trace, fired, hard), j)
                            stage[k] = one if fired else one - one
                        put(spikes, here + begin, stage, count, streamed)
                    if membranes is not None:
                        _copy(membranes, here, w, state * row + edge, m)
                    edge += m
            for k in range(states):
                _copy(lasts[k], start, w, (state + k) * row, n)
            start += n
        fence()

    return forward


def make_backward(family: Family, slope, row: int, version: int):
    """``Reference.backward`` of a family with one surrogate, for neurons first..stop; see ``make_forward``.

    ``grads`` are the gradients for spikes, at any distance between steps, for the membranes, or None, and for the last
    state. ``sums`` is a flat array [knobs, neurons] that takes the knobs' gradients, to be summed over the neurons that
    share one, or None if none is wanted. With recurrent weights, ``weight`` is [from, to], ``weight_back`` [to, from],
    ``spikes`` what forward returned, and ``grad_sent`` takes a gradient. ``w`` is workspace of ``row`` floats a knob, state,
    state's gradient, two more and, with sums, knob; ``traces``, for each step of ``every``, of ``row`` floats a trace and,
    with sums, a state and the current.
    """
    charge, distance, settle, back = equations(family)
    knobs, states, traced = len(family.knobs._fields), len(family.state._fields), len(family.trace._fields)
    state, carry, total = knobs, knobs + states, knobs + 2 * states + 2
    heard_before = traced + states  # a row of the traces
    heard, echo = (total - 2) * row, (total - 1) * row  # what is heard, or its gradient; the gradient of what was sent

    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def backward(
        grads, grad_step, grad_membranes, grad_lasts, x, x_step, checkpoints, numbers, rows, hard, strict, attached, alpha,
        every, truncate, sums, grad_x, grad_starts, weight, weight_back, sent, spikes, grad_sent, lengths, features,
        steps, neurons, w, traces, first, stop,
    ):  # fmt: skip
        _ = version
        height = traced * row
        if sums is not None:
            height += (states + 1) * row
        start, most = first, _even(stop - first, row)
        while start < stop:
            n = min(most, stop - start)
            if weight is not None:
                n = features
            if rows is not None:
                for k in range(knobs):
                    _fill(w, k * row, rows[k], start, n)
            for k in range(states):
                _copy(w, (carry + k) * row, grad_lasts[k], start, n)
            if sums is not None:
                for k in range(knobs):
                    _clear(w, (total + k) * row, n)
            if weight is not None:
                _clear(w, echo, n)
            for begin in range((steps - 1) // every * every, -1, -every):
                end = min(begin + every, steps)
                for k in range(states):
                    _copy(w, (state + k) * row, checkpoints[k], begin // every * neurons + start, n)
                for t in range(begin, end):  # take these steps once more, and keep what they leave behind
                    trace_t = traces[(t - begin) * height :]
                    edge = 0
                    while edge < n:
                        here, m = t * neurons + start + edge, n - edge
                        if lengths is not None:
                            m = min(m, features - (start + edge) % features)
                            if t >= lengths[(start + edge) // features]:
                                edge += m
                                continue
                        x_t = x[t * x_step + start + edge :]
                        if weight is not None:
                            _hear(w[heard:], x_t, t, sent[start:], spikes, here - neurons, weight, n)
                        for k in range(m):
                            j = edge + k
                            if numbers is None:
                                values = read(w, row, 0, knobs, j)
                            else:
                                values = numbers
                            current = widen(x_t[k])
                            if weight is not None:
                                current = w[heard + j]
                            before = read(w, row, state, states, j)
                            trace = charge(values, before, current)
                            write(trace_t, row, 0, trace, j)
                            if sums is not None:
                                write(trace_t, row, traced, before, j)
                                write(trace_t, row, heard_before, (current,), j)
                            fired = fires(distance(values, trace), strict)
                            write(w, row, state, settle(values, before, trace, fired, hard), j)
                        edge += m
                for t in range(end - 1, begin - 1, -1):
                    trace_t = traces[(t - begin) * height :]
                    cut = truncate > 0 and t > 0 and t % truncate == 0
                    edge = 0
                    while edge < n:
                        here, m = t * neurons + start + edge, n - edge
                        if lengths is not None:
                            m = min(m, features - (start + edge) % features)
                            if t >= lengths[(start + edge) // features]:
                                _clear(grad_x, here, m)
                                edge += m
                                continue
                        if grad_membranes is not None:
                            _add(w, carry * row + edge, grad_membranes, here, m)
                        grad_t, grad_x_t = grads[t * grad_step + start + edge :], grad_x[here:]
                        for k in range(m):
                            j = edge + k
                            if numbers is None:
                                values = read(w, row, 0, knobs, j)
                            else:
                                values = numbers
                            trace = read(trace_t, row, 0, traced, j)
                            if sums is None:
                                before, current = (
                                    read(w, row, state, states, j),
                                    _ZERO,
                                )  # nothing depends on their values
                            else:
                                before = read(trace_t, row, traced, states, j)
                                (current,) = read(trace_t, row, heard_before, 1, j)
                            grad_fired = widen(grad_t[k])
                            if weight is not None:
                                grad_fired += w[echo + j]
                            u = distance(values, trace)
                            to_x, to_before, to_knobs = back(
                                values, before, trace, fires(u, strict), slope(alpha, u), current, grad_fired,
                                read(w, row, carry, states, j), hard, attached,
                            )  # fmt: skip
                            write(w, row, carry, to_before, j)
                            if weight is not None:
                                w[heard + j] = to_x
                            grad_x_t[k] = narrow(to_x, grad_x_t[k])
                            if sums is not None:
                                accumulate(w, row, total, to_knobs, j)
                        if cut:
                            for k in range(states):
                                _clear(w, (carry + k) * row + edge, m)
                        if weight is not None:
                            if cut:
                                _clear(w, echo, n)
                            else:
                                _echo(w[echo:], w[heard:], weight_back, n)
                        edge += m
            for k in range(states):
                _copy(grad_starts[k], start, w, (carry + k) * row, n)
            if weight is not None:
                _copy(grad_sent, start, w, echo, n)
            if sums is not None:
                for k in range(knobs):
                    _copy(sums, k * neurons + start, w, (total + k) * row, n)
            start += n

    return backward
