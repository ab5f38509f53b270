"""Binning: the compiled loops against plain numpy, and both against numpy's own histogram and digitize."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels.binning import PROBLEMS, bin_events, span

PROPERTY = settings(derandomize=True, deadline=None)
BACKENDS = ("reference", "cpu")


def binned(backend, times, units, shape, **arguments):
    out = np.zeros(shape, np.float32)
    with use(backend):
        bin_events(np.asarray(times), np.asarray(units), out, **arguments)
    return out


@st.composite
def recordings(draw):
    """Times of any order and type, many of them exactly on an edge; units beyond the channels too."""
    count = draw(st.integers(0, 60))
    dt = draw(st.sampled_from([0.01, 0.004, 1.4 / 99, 0.001, 1 / 3]))
    on_edge = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    off = draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    exact = draw(st.booleans())
    times = np.array([(k if exact else k + f) * dt for k, f in zip(on_edge, off, strict=True)])
    units = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
    kind = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    return times.astype(kind), np.array(units, draw(st.sampled_from([np.uint16, np.int64]))), dt


@PROPERTY
@given(recordings(), st.integers(1, 30), st.integers(1, 9), st.integers(1, 5), st.sampled_from([0.0, 0.02, 0.5]))
def test_compiled_equals_reference(recording, steps, channels, merge, start):
    times, units, dt = recording
    arguments = {"shape": (steps, channels), "dt": dt, "merge": merge, "start": start}
    ours, truth = (binned(backend, times, units, **arguments) for backend in ("cpu", "reference"))
    np.testing.assert_array_equal(ours, truth)
    # By hand: a spike counts where its step and its channel exist.
    by_hand = np.zeros((steps, channels))
    for t, u in zip(times.astype(float), units, strict=True):
        k = [k for k in range(steps) if start + k * dt <= t < start + (k + 1) * dt]
        if k and u // merge < channels:
            by_hand[k[0], u // merge] += 1
    np.testing.assert_array_equal(truth, by_hand)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_equal_to_numpy(backend, kind):
    draw = np.random.default_rng(0)
    times, units = draw.uniform(0, 1.4, 5000).astype(kind), draw.integers(0, 700, 5000)
    edges = np.arange(141) * 0.01
    truth = np.histogram2d(times.astype(float), units // 5, (edges, np.arange(141)))[0]
    inside = times.astype(float) < edges[-1]  # numpy's last bin has its right edge too
    ours = binned(backend, times[inside], units[inside], (140, 140), dt=0.01, merge=5)
    np.testing.assert_array_equal(ours, np.histogram2d(times[inside], units[inside] // 5, (edges, range(141)))[0])
    assert ours.sum() == inside.sum() and abs(truth.sum() - ours.sum()) <= (~inside).sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_spike_in_a_channel_too_many_is_left_out(backend):
    np.testing.assert_array_equal(binned(backend, [0.0, 0.0], [4, 5], (1, 1), dt=1.0, merge=5), [[1]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_span(backend):
    cases = {
        (0.5, 0.2, 0.9): ((1, 2, 699), (0.2, 0.9, False, 0, -1)),
        (0.2, 0.2, 0.9): ((1, 2, 699), (0.2, 0.9, True, 0, -1)),
        (): ((), (0.0, 0.0, True, 0, -1)),
        (0.1, float("nan"), -1.0): ((1, 1, 1), (0.0, 0.0, False, 1, 1)),
        (0.1, 0.2, float("inf")): ((1, 1, 1), (0.0, 0.0, False, 1, 2)),
        (0.1, -1e-9, 7.0): ((1, 1, 1), (0.0, 0.0, False, 2, 1)),
        (0.1, 60.5): ((1, 1), (0.0, 0.0, False, 3, 1)),
        (0.1, 0.2): ((1, 700), (0.0, 0.0, False, 4, 1)),
        (0.1, 0.3): ((-1, 70), (0.0, 0.0, False, 4, 0)),
    }
    for times, (units, expected) in cases.items():
        with use(backend):
            found = span(np.array(times), np.array(units, np.int64), 700, 60.0)
        assert found == expected
        assert found.problem == 0 or PROBLEMS[found.problem]


@PROPERTY
@given(st.lists(st.tuples(st.floats(width=32), st.integers(-3, 12)), max_size=12))
def test_span_of_anything(spikes):
    times = np.array([t for t, _ in spikes], np.float32)
    units = np.array([u for _, u in spikes], np.int64)
    found = {}
    for backend in BACKENDS:
        with use(backend):
            found[backend] = span(times, units, 10, 60.0)
    assert found["cpu"] == found["reference"]
