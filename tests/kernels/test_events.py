"""The event engine: compiled against event by event, and that against sums over synapses written out."""

import os
import pathlib
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels.adaptive.reference import FAMILY as ADAPTIVE
from temporal.kernels.adaptive_late.reference import FAMILY as ADAPTIVE_LATE
from temporal.kernels.cuba.reference import FAMILY as CUBA
from temporal.kernels.events import Cell, Rows, Stage, Taps, cpu, engine, reference, taps_of
from temporal.kernels.lif.reference import FAMILY as LIF

FAMILIES = (LIF, CUBA, ADAPTIVE, ADAPTIVE_LATE)
# Numbers in sixteenths, so that every sum is exact in float32 and the order of events does not matter.
UNIT = 1 / 16


def synapses(generator, inputs, size, kind, least, most, whole):
    def weights(*shape):
        values = generator.integers(-8, 20, shape)
        return values.astype(np.int8) if whole else (values * UNIT).astype(np.float32)

    if kind == "rows":
        return Rows(weights(inputs, size), generator.integers(least, most + 1, inputs))
    first = np.concatenate([[0], generator.integers(0, 2 * size + 1, inputs).cumsum()])
    return Taps(
        first, generator.integers(least, most + 1, first[-1]), generator.integers(0, size, first[-1]), weights(first[-1])
    )  # fmt: skip


def cell(generator, family, size, hard, emits_v):
    knobs = {name: generator.integers(1, 9, size) / 8 for name in family.knobs._fields}
    knobs["bias"] = generator.integers(-2, 3, size) * UNIT
    rest = (0.25,) + (0.0,) * (len(family.state._fields) - 1)
    values = family.knobs(**{name: knob.astype(np.float32) for name, knob in knobs.items()})
    return Cell(family, values, hard, bool(generator.integers(2)), rest, emits_v)


@st.composite
def stages(draw):
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = draw(st.lists(st.sampled_from([1, 3, 31, 32, 40]), min_size=2, max_size=4))
    whole = draw(st.booleans())
    made = []
    for inputs, size in pairwise(sizes):
        depth, late = draw(st.integers(0, 5)), draw(st.sampled_from([None, 0, 3]))
        family = draw(st.sampled_from([None, *FAMILIES]))
        kind, back_kind = draw(st.sampled_from(["rows", "taps"])), draw(st.sampled_from([None, "rows", "taps"]))
        # What does not fire would only grow if it heard itself.
        back = None if back_kind is None or family is None else synapses(generator, size, size, back_kind, 1, 4, whole)
        made.append(
            Stage(
                inputs, size, synapses(generator, inputs, size, kind, 0, depth, whole), back,
                None if late is None else generator.integers(0, late + 1, size),
                draw(st.sampled_from([None, np.full(size, UNIT, np.float32)])),
                np.full(size, UNIT / 2, np.float32) if whole else None,
                None if family is None else cell(generator, family, size, draw(st.booleans()), False),
            )
        )  # fmt: skip
    return made, generator


@settings(derandomize=True, deadline=None, max_examples=60)
@given(stages(), st.integers(0, 3), st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.0, 0.1, 0.6, 1.0]))
def test_compiled_equals_event_by_event(drawn, batch, first, second, activity):
    made, generator = drawn
    slow, fast = reference.Engine(made, batch), cpu.Engine(made, batch)
    for steps in (first, second):
        x = (generator.random((steps, batch, made[0].inputs)) < activity).astype(np.float32)
        (y, counts), (y_fast, counts_fast) = slow.advance(x), fast.advance(x)
        np.testing.assert_array_equal(y_fast, y)
        np.testing.assert_array_equal(counts_fast, counts)
        for state, state_fast in zip(slow.state(), fast.state(), strict=True):
            assert list(state) == list(state_fast)
            for name, part in state.items():
                np.testing.assert_array_equal(state_fast[name], part, err_msg=name)
        other = cpu.Engine(made, batch)
        other.load(fast.state())
        fast = other


@settings(derandomize=True, deadline=None, max_examples=30)
@given(stages(), st.integers(1, 9))
def test_currents_from_elsewhere_arrive_at_their_steps_and_stages_can_be_taken_in_parts(drawn, steps):
    made, generator = drawn
    slow, fast = reference.Engine(made, 2), cpu.Engine(made, 2)
    x = (generator.random((steps, 2, made[0].inputs)) < 0.3).astype(np.float32)
    more = (generator.integers(-9, 30, (steps + made[0].depth, 2, made[0].size)) * UNIT).astype(np.float32)
    for _ in range(2):
        y, _ = slow.advance(x, 0, 1, more)
        y_fast, _ = fast.advance(x, 0, 1, more)
        np.testing.assert_array_equal(y_fast, y)
        if len(made) > 1:
            np.testing.assert_array_equal(fast.advance(y, 1)[0], slow.advance(y, 1)[0])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 4), st.integers(1, 9))
def test_event_by_event_equals_the_sum_over_synapses(seed, depth, steps):
    generator = np.random.default_rng(seed)
    kernel = (generator.integers(-9, 9, (3, 4, depth + 1)) * UNIT * (generator.random((3, 4, depth + 1)) < 0.5)).astype(
        np.float32
    )
    x = generator.integers(0, 3, (steps, 2, 4)).astype(np.float32)
    want = np.zeros((steps, 2, 3), np.float32)
    for t in range(steps):
        for lag in range(min(t, depth) + 1):
            want[t] += x[t - lag] @ kernel[:, :, lag].T
    y, counts = reference.Engine([Stage(4, 3, taps_of(kernel))], 2).advance(x)
    np.testing.assert_array_equal(y, want)
    assert counts == np.count_nonzero(x)


def simple(inputs=40, size=300, depth=9, seed=0):
    generator = np.random.default_rng(seed)
    kernel = np.zeros((size, inputs, depth + 1), np.float32)
    for o in range(size):
        kernel[o, np.arange(inputs), generator.integers(0, depth + 1, inputs)] = (
            generator.integers(-8, 9, inputs) * UNIT
        )
    return [Stage(inputs, size, taps_of(kernel), cell=cell(generator, LIF, size, True, False))]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_change_nothing(two_threads):
    made = simple()
    x = (np.random.default_rng(1).random((200, 16, 40)) < 0.3).astype(np.float32)
    y, counts = cpu.Engine(made, 16).advance(x)
    torch.set_num_threads(1)
    alone, counts_alone = cpu.Engine(made, 16).advance(x)
    np.testing.assert_array_equal(y, alone)
    assert y.any() and (counts == counts_alone).all()


def test_engines_of_several_python_threads_do_not_disturb_each_other():
    made = simple()
    x = (np.random.default_rng(1).random((50, 4, 40)) < 0.3).astype(np.float32)
    want, _ = cpu.Engine(made, 4).advance(x)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(cpu.Engine(made, 4).advance(x)[0], want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


COMPILED_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import numba
import numpy as np
from test_events import ADAPTIVE, CUBA, cell, synapses
from temporal.kernels.events import Stage, cpu, reference

for _ in range(int(sys.argv[2])):
    numba.njit(lambda: 0)()
for whole in sys.argv[3]:
    generator = np.random.default_rng(0)
    scale = np.full(9, 1 / 32, np.float32) if whole == "1" else None
    neurons = cell(generator, ADAPTIVE if whole == "1" else CUBA, 9, True, False)
    stages = [Stage(9, 9, synapses(generator, 9, 9, "taps", 0, 3, whole == "1"), None, None, None, scale, neurons)]
    x = (generator.random((30, 1, 9)) < 0.5).astype(np.float32)
    fast, slow = cpu.Engine(stages, 1), reference.Engine(stages, 1)
    assert np.array_equal(fast.advance(x)[0], slow.advance(x)[0])
    assert all(np.array_equal(a, b) for a, b in zip(fast.state()[0].values(), slow.state()[0].values(), strict=True))
"""


@pytest.mark.slow
def test_a_cache_filled_by_several_processes_serves_one(tmp_path):
    """Two kinds of weights, compiled by a process each, of which one compiled some other functions before."""
    here = pathlib.Path(__file__)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(here.parents[2])}

    def process(others, kinds):
        command = [sys.executable, "-c", COMPILED_ALONE, str(here.parent), str(others), kinds]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    process(0, "0")
    for others in (6, 7):  # where, without names of their own, one family's neurons stood in for another's
        for overload in tmp_path.rglob("*advance*.2.nbc"):
            overload.unlink()
        process(others, "1")
        for kinds in ("01", "10"):
            process(0, kinds)


def test_large_rings_take_wider_places():
    made = simple(inputs=3, size=700, depth=60)
    assert made[0].size * 2 * 61 > 1 << 16
    x = np.ones((70, 1, 3), np.float32)
    np.testing.assert_array_equal(cpu.Engine(made, 1).advance(x)[0], reference.Engine(made, 1).advance(x)[0])


def test_what_is_refused():
    big = Stage(1, 16_400, Rows(np.zeros((1, 16_400), np.float32), np.zeros(1, np.int64)))
    with pytest.raises(NotImplementedError, match="16384 neurons, here are 16400"):
        cpu.Engine([big], 1)
    with pytest.raises(ValueError, match=r"\[3, 2, 39\]; \[T, 2, 40\] is right"):
        cpu.Engine(simple(), 2).advance(np.zeros((3, 2, 39), np.float32))
    mixed = Rows(np.zeros((2, 2), np.int8), np.zeros(2, np.int64))
    with pytest.raises(TypeError, match="one kind"):
        cpu.Engine([Stage(2, 2, mixed), Stage(2, 2, mixed._replace(weight=np.zeros((2, 2), np.float32)))], 1)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_backend_is_chosen_and_finds_what_is_not_finite(backend):
    with use(backend):
        runs = engine(simple(), 2)
    assert type(runs).__module__.endswith(backend)
    x = np.zeros((3, 2, 5), np.float32)
    assert runs.first_unsound(x) == -1 and runs.first_unsound(x[:0]) == -1
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 1, 2] = bad
        assert runs.first_unsound(x) == 17
