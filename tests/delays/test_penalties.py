"""What is added to a loss for short delays, and for delays that are spread out."""

import pytest
import torch

from temporal.delays import DelayedConv1d, DelayedLinear, DelaySchedule, RecurrentDelays, depth_penalty, spread_penalty
from temporal.kernels.delayed import PER
from temporal.neurons import LIF


def with_delays(values, max_delay=8, **more):
    layer = DelayedLinear(len(values), 1, max_delay, **more)
    layer.delay.data.copy_(torch.tensor(values).view_as(layer.delay))
    return layer


def test_depth_by_hand():
    network = torch.nn.ModuleList([with_delays([2.0, 4.0, 8.0, 0.0]), with_delays([1.0], 4)])
    assert depth_penalty(network).item() == pytest.approx((14 / 32 + 1 / 4) / 2)
    assert depth_penalty(network, power=2).item() == pytest.approx(((4 + 16 + 64) / 256 + 1 / 16) / 2)
    depth_penalty(network).backward()
    # Half of a mean over four; at 0 what leads outwards is taken away.
    torch.testing.assert_close(network[0].delay.grad, torch.tensor([[1.0, 1, 1, 0]]) / 64)
    with pytest.raises(ValueError, match=r"power=0.5 must be at least 1"):
        depth_penalty(network, power=0.5)


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([1.0, 3.0, 5.0, 7.0], 0.0),
        ([7.0, 1.0, 5.0, 3.0], 0.0),
        ([4.0] * 100, 1 / 4),
        ([0.0, 8.0] * 50, 1 / 4),
        ([8.0] * 100, 1.0),
    ],
)
def test_spread_by_hand(values, wanted):
    # The mean of (k - 1/2)^2 is a third of N^2 up to a twelfth.
    assert spread_penalty(with_delays(values)).item() == pytest.approx(wanted, abs=2e-4 if wanted else 1e-7)


def test_spread_draws_each_to_its_place():
    layer = with_delays([4.0, 4.1, 3.9, 0.0])
    spread_penalty(layer).backward()
    assert layer.delay.grad.sign().tolist() == [[-1, -1, 1, -1]]  # from 4, 4.1, 3.9, 0 to 5, 7, 3, 1
    optimizer = torch.optim.SGD([layer.delay], lr=20.0)
    for _ in range(50):
        optimizer.zero_grad()
        spread_penalty(layer).backward()
        optimizer.step()
    torch.testing.assert_close(layer.delay.detach(), torch.tensor([[5.0, 7.0, 3.0, 1.0]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("penalty", [depth_penalty, spread_penalty])
@pytest.mark.parametrize("per", PER)
def test_every_structure_is_led(penalty, per):
    layer = DelayedLinear(12, 9, 7, per=per)
    before = penalty(layer)
    assert 0 < before.item() < 1
    optimizer = torch.optim.SGD([layer.delay], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        penalty(layer).backward()
        optimizer.step()
    assert penalty(layer) < before


@pytest.mark.parametrize("penalty", [depth_penalty, spread_penalty])
def test_only_delays_that_learn_count(penalty):
    alone = with_delays([2.0, 5.0, 7.0])
    value = penalty(alone).item()
    others = [
        DelayedLinear(3, 2, 5, learn_delays=False), DelayedLinear(3, 2, 0), torch.nn.Linear(2, 2), LIF(2.0),
    ]  # fmt: skip
    assert penalty(torch.nn.ModuleList([alone, *others])).item() == pytest.approx(value)
    assert penalty(torch.nn.ModuleList(others)).item() == 0
    for layer in (DelayedConv1d(2, 3, 3, 5), RecurrentDelays(LIF(2.0), 4, 6)):
        assert penalty(layer).item() == pytest.approx(penalty(layer.delayed).item()) != 0
    # Rounded for good: a constant. At width 0 the loss would give them no gradient either.
    alone.set_sigma(0.0)
    penalty(alone).backward()
    assert alone.delay.grad.count_nonzero() == 0
    assert not penalty(alone.round_()).requires_grad and penalty(alone).item() == pytest.approx(value)
    straight = with_delays([2.0, 5.0, 7.0], kernel="rounded")
    penalty(straight).backward()
    assert straight.delay.grad.count_nonzero()
    assert not penalty(straight.round_()).requires_grad


@pytest.mark.parametrize("penalty", [depth_penalty, spread_penalty])
def test_pruned_synapses_do_not_count(penalty):
    layer = with_delays([2.0, 8.0, 5.0, 8.0, 7.0])
    layer.weight.data.copy_(torch.tensor([[1.0, 0.1, 1.0, 0.1, 1.0]]))
    layer.prune_(threshold=0.5)
    layer.delay.data[0, 1] = 3.0  # momentum, not taken away yet
    value = penalty(layer)
    value.backward()
    assert value.item() == pytest.approx(penalty(with_delays([2.0, 5.0, 7.0])).item())
    assert layer.delay.grad[~layer.alive].count_nonzero() == 0 and layer.delay.grad.isfinite().all()
    assert penalty(layer.prune_(1.0)).item() == 0


def trained(factor):
    """Ten inputs that say the same, of which lags 0 and 4 are wanted: most delays are of no use, and stay where they are."""
    torch.manual_seed(0)
    layer = DelayedLinear(10, 4, 12)
    optimizer = torch.optim.Adam([{"params": [layer.weight]}, {"params": [layer.delay], "lr": 0.1}], lr=0.01)
    schedule = DelaySchedule(end=0.3)
    for step in range(100):
        schedule.apply(layer, step / 100)
        x = torch.rand(40, 8, 1)
        wanted = x + torch.cat([torch.zeros(4, 8, 1), x[:-4]])
        loss = (layer(x.expand(-1, -1, 10))[0] - wanted)[12:].square().mean()
        optimizer.zero_grad()
        (loss + factor * depth_penalty(layer)).backward()
        optimizer.step()
    return layer.round_().delay.detach()


def test_trained_with_it_delays_are_shallower():
    free, held = trained(0.0), trained(1.0)
    assert held.mean() < 0.5 * free.mean() and held.max() < free.max()
