"""DelaySchedule: the widths it gives, and what it does to a network."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.delays import DelayedConv1d, DelayedLinear, DelaySchedule, RecurrentDelays
from temporal.neurons import LIF


def network():
    return torch.nn.ModuleDict(
        {
            "first": DelayedLinear(4, 3, max_delay=24),
            "inner": torch.nn.ModuleList([DelayedLinear(3, 3, max_delay=10)]),
            "fixed": DelayedLinear(3, 2, max_delay=10, kernel="rounded", learn_delays=False),
            "bands": DelayedConv1d(1, 2, 3, max_delay=10),
            "recurrent": RecurrentDelays(LIF(2.0), 3, max_delay=11),
            "plain": torch.nn.Linear(2, 2),
        }
    )


def test_falls_geometrically_then_rounds():
    schedule = DelaySchedule(start=8.0, end=0.5, until=0.5, round_at=0.75)
    widths = [schedule.sigma(p) for p in (0, 0.125, 0.25, 0.375, 0.5, 0.7499, 0.75, 1)]
    assert widths == pytest.approx([8, 4, 2, 1, 0.5, 0.5, 0, 0], abs=1e-12)
    assert not schedule.rounded(0.7499) and schedule.rounded(0.75)


def test_published_widths():
    """SNN-delays on SHD: SIG from 12 by a factor of (0.23 / 12)^(1/37) an epoch, 37 of 150 epochs; sigma = SIG + 0.27.

    Ours is geometric in sigma, theirs in SIG: the same ends, and between them at most 0.9 steps apart.
    """
    schedule = DelaySchedule(start=12.27, end=0.5, until=37 / 150, round_at=1)
    theirs = [12 * (0.23 / 12) ** (min(epoch, 37) / 37) + 0.27 for epoch in range(150)]
    ours = [schedule.sigma(epoch / 150) for epoch in range(150)]
    assert ours[0] == pytest.approx(theirs[0]) and ours[37:] == pytest.approx(theirs[37:])
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.9


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_never_widens(a, b):
    schedule = DelaySchedule()
    early, late = sorted((a, b))
    assert schedule.sigma(early, 24) >= schedule.sigma(late, 24)
    assert 0 <= schedule.sigma(late, 24) <= 12


def test_apply_reaches_every_layer_and_leaves_rounded_ones_alone():
    net, schedule = network(), DelaySchedule()
    fixed = net["fixed"].delay.detach().clone()
    schedule.apply(net, 0.0)
    assert net["first"].sigma.item() == 12 and net["inner"][0].sigma.item() == 5
    assert net["bands"].sigma.item() == net["recurrent"].delayed.sigma.item() == 5
    schedule.apply(net, 0.7)
    assert net["first"].sigma.item() == pytest.approx(schedule.sigma(0.7, 24))
    assert net["inner"][0].sigma.item() == pytest.approx(schedule.sigma(0.7, 10))
    schedule.apply(net, 0.75)
    for layer in (net["first"], net["inner"][0], net["bands"], net["recurrent"].delayed):
        assert layer.sigma.item() == 0
        assert layer.delay.equal(layer.delay.round())
    assert net["fixed"].delay.equal(fixed)


def test_a_resumed_training_finds_the_same_widths():
    schedule, whole, resumed = DelaySchedule(), network(), network()
    for step in range(60):
        schedule.apply(whole, step / 100)
    schedule.apply(resumed, 59 / 100)
    assert resumed["first"].sigma.equal(whole["first"].sigma)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_training_ends_on_what_is_deployed():
    """From round_at on, the network in training computes exactly what it computes with rounded delays."""
    torch.manual_seed(0)
    layer = DelayedLinear(4, 3, max_delay=6)
    schedule = DelaySchedule()
    adam = torch.optim.Adam([{"params": [layer.weight]}, {"params": [layer.delay], "lr": 0.1}])
    for epoch in range(40):
        schedule.apply(layer, epoch / 40)
        adam.zero_grad()
        (layer(torch.randn(30, 4, 4))[0] - 1).square().mean().backward()
        adam.step()
        if epoch == 30:
            at_rounding = layer.state_dict()["delay"].clone()
    assert layer.state_dict()["delay"].equal(at_rounding)
    x = torch.randn(20, 2, 4)
    trained, _ = layer(x)
    assert trained.equal(layer.round_().eval()(x)[0])


def test_a_layer_shorter_than_the_last_width_keeps_its_own():
    assert DelaySchedule(end=0.5).sigma(0.5, max_delay=0) == 0
    assert DelaySchedule(end=0.6).sigma(0.5, max_delay=1) == 0.5
    layer = DelayedLinear(2, 2, max_delay=0)
    for progress in (0.0, 0.5, 1.0):
        DelaySchedule().apply(layer, progress)
        assert layer.sigma.item() == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"start": 0.0}, "start=0.0"),
        ({"start": math.nan}, "start=nan"),
        ({"end": 0.0}, "end=0.0"),
        ({"end": math.nan}, "end=nan"),
        ({"start": 1.0, "end": 2.0}, "end=2.0 is wider than start=1.0"),
        ({"until": 0.0}, "until=0.0"),
        ({"until": 1.5}, "until=1.5"),
        ({"until": 0.8, "round_at": 0.5}, r"round_at=0.5 is not a fraction in \[until=0.8, 1\]"),
        ({"round_at": 1.5}, "round_at=1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"DelaySchedule: {message}"):
        DelaySchedule(**arguments)


@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_bad_progress(progress):
    with pytest.raises(ValueError, match=f"DelaySchedule: progress={progress}"):
        DelaySchedule().sigma(progress, 24)


def test_start_none_needs_a_layer():
    with pytest.raises(ValueError, match="start=None is half of a layer's max_delay"):
        DelaySchedule().sigma(0.1)
