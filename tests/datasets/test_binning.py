"""Binning: the presets against the code that published networks were fed by, and what an odd recording becomes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import Binning

PROPERTY = settings(derandomize=True, deadline=None)


def recording(seed=0, events=3000, longest=1.37, kind=np.float16):
    draw = np.random.default_rng(seed)
    return np.sort(draw.uniform(0, longest, events)).astype(kind), draw.integers(0, 700, events).astype(np.uint16)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "steps"), [("14.1ms", 100), ("5.6ms", 250)])
def test_digitize_presets(name, steps, kind):
    times, units = recording(kind=kind, longest=1.6)
    edges = np.linspace(0, 1.4, num=steps)
    times = np.concatenate([edges[:-1].astype(kind), times])  # right on the edges too
    units = np.concatenate([np.arange(steps - 1), units])
    truth = np.zeros((steps + 1, 700), np.float32)  # index `steps` is out of range there
    np.add.at(truth, (np.digitize(times, edges), units), 1)
    x = Binning.named(name)(times, units)
    assert torch.equal(x, torch.from_numpy(truth[:steps]))
    assert not x[0].any() and truth[steps].any()


def test_ten_milliseconds():
    times, units = recording(kind=np.float64)
    truth = np.zeros((137, 140), np.float32)
    np.add.at(truth, ((times * 1000 // 10).astype(int), units // 5), 1)  # no time lies within a rounding of an edge
    x = Binning.named("10ms")(times, units)
    assert torch.equal(x, torch.from_numpy(truth[: len(x)])) and not truth[len(x) :].any() and x[-1].any()


def test_ten_milliseconds_from_the_first_spike_as_spikingjelly_bins():
    shd = pytest.importorskip("spikingjelly.datasets.shd", exc_type=ImportError)
    times, units = recording(kind=np.float64, longest=1.0)
    times = times + 0.123
    theirs = shd._integrate_events_by_fixed_duration({"t": times, "x": units}, 10, 700)
    theirs = torch.from_numpy(theirs).float().unflatten(1, (140, 5)).sum(2)
    assert torch.equal(Binning.named("10ms-first")(times, units), theirs)


def test_four_milliseconds_are_filled_up():
    times, units = recording(longest=0.5)
    x = Binning.named("4ms")(times, units)
    assert x.shape == (250, 140) and not x[125:].any() and x.sum() == len(times)
    long_times, units = recording(longest=1.3)
    assert len(Binning.named("4ms")(long_times, units)) == int(long_times[-1] / 0.004) + 1 > 250


def test_one_millisecond_and_changes():
    times, units = recording()
    assert Binning.named("1ms")(times, units).shape[1] == 700
    assert Binning.named("1ms", merge=7, binary=True)(times, units).unique().tolist() == [0, 1]


@PROPERTY
@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 699)), max_size=30),
    st.sampled_from([0.001, 0.004, 0.01, 1.4 / 99, 0.3]),
    st.integers(1, 9),
    st.sampled_from([{}, {"duration": 0.105}, {"duration": 2.0, "at_least": 40}, {"steps": 30}, {"start": "first"}]),
    st.integers(0, 2),
)
def test_every_spike_is_somewhere(events, dt, merge, more, lead):
    times, units = np.array([t for t, _ in events]), np.array([u for _, u in events], int)
    binning = Binning(dt, merge, lead=lead, **more)
    x = binning(times, units)
    first, last = (times.min(), times.max()) if events else (0.0, 0.0)
    assert x.shape == (binning.lengths(np.array([first]), np.array([last]))[0], binning.channels(700))
    start = first if binning.start == "first" else 0.0
    inside = times < start + binning.limit if np.isfinite(binning.limit) else np.full(len(times), True)
    # A time within a rounding of the limit may go either way in this comparison.
    assert abs(x.sum() - inside.sum()) <= (abs(times - start - binning.limit) < 1e-9).sum()
    assert not x[:lead].any() and len(x) >= 1
    assert torch.equal(Binning(dt, merge, lead=lead, binary=True, **more)(times, units), (x > 0).float())
    by_channel = torch.from_numpy(np.bincount(units[inside] // merge, minlength=x.shape[1])).float()
    assert (x.sum(0) - by_channel).abs().sum() <= 2 * (abs(times - start - binning.limit) < 1e-9).sum()


@pytest.mark.parametrize("name", ["10ms", "10ms-first", "4ms", "14.1ms"])
def test_nothing_and_almost_nothing(name):
    binning = Binning.named(name)
    empty = binning(np.zeros(0), np.zeros(0, int))
    assert len(empty) == {"4ms": 250, "14.1ms": 100}.get(name, 1) and not empty.any()
    short = binning(np.array([0.0005]), np.array([3]))  # shorter than a step
    assert len(short) == len(empty) and short.sum() == 1


@pytest.mark.parametrize("dt", [0.001, 0.004, 0.01, 1.4 / 99, 1.4 / 249, 0.3])
@pytest.mark.parametrize("first", [0.0, 0.123])
def test_lengths_end_with_the_last_spike(dt, first):
    """Right on every edge, where a quotient would round to either side."""
    last = first + np.arange(1500) * dt
    binning = Binning(dt, start="first")
    assert binning.lengths(np.full(1500, first), last).tolist() == list(range(1, 1501))
    for n in range(0, 1500, 7):
        x = binning(np.array([first, last[n]]), np.array([0, 1]))
        assert len(x) == n + 1 and x[-1, 1] == 1


def test_a_last_channel_of_fewer_units():
    x = Binning(0.01, merge=300)(np.array([0.0, 0.0]), np.array([599, 600]))
    assert x.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0.0}, "dt=0.0 must be more than 0"),
        ({"dt": float("nan")}, "dt=nan must be"),
        ({"dt": 0.01, "merge": 0}, "merge=0 must be a whole number of at least 1"),
        ({"dt": 0.01, "at_least": 0}, "at_least=0 must be"),
        ({"dt": 0.01, "lead": -1}, "lead=-1 must be"),
        ({"dt": 0.01, "duration": -1.0}, "duration=-1.0 must be"),
        ({"dt": 0.01, "steps": 1, "lead": 1}, "steps=1 must be more than lead=1"),
        ({"dt": 0.01, "steps": 10, "duration": 1.0}, "give it without duration"),
        ({"dt": 0.01, "start": "last"}, "start='last' must be 'zero' or 'first'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match="Binning: ") as caught:
        Binning(**arguments)
    assert message in str(caught.value)


def test_an_unknown_preset():
    with pytest.raises(
        ValueError, match=r"preset .20ms. is unknown; known: 10ms, 10ms-first, 14\.1ms, 5\.6ms, 4ms, 1ms"
    ):
        Binning.named("20ms")
