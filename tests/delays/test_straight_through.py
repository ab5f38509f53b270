"""Delays that learn on whole steps: their gradient is the difference of what one step more and one step less would bring."""

import copy

import pytest
import torch

from temporal.delays import DelayedConv1d, DelayedLinear, DelaySchedule
from temporal.kernels import use
from temporal.kernels.delayed import PER, cpu, nearest, operator

LAYERS = {per: lambda d, per=per: DelayedLinear(3, 4, d, per=per, kernel="rounded") for per in PER}
LAYERS["several"] = lambda d: DelayedLinear(3, 4, d, kernel="rounded", synapses=2)
LAYERS["several-axon"] = lambda d: DelayedLinear(3, 4, d, per="axon", kernel="rounded", synapses=2)


def brought(layer, x, pull):
    """Linear in a layer's kernel, so that its difference between two delays is what the gradient of shares says."""
    return float((layer(x)[0].detach() * pull).sum())


def by_moving(layer, x, pull):
    """The gradient of each delay, from moving that delay alone by a step."""
    found = torch.zeros_like(layer.delay)
    for part, largest in layer._ranges():
        flat = part.data.view(-1)
        start = part.storage_offset()
        for k in range(flat.numel()):
            kept = float(flat[k])
            step = int(nearest(flat[k]))
            ends = max(0, step - 1), min(largest, step + 1)
            sides = []
            for end in ends:
                flat[k] = end
                sides.append(brought(layer, x, pull))
            flat[k] = kept
            slope = (sides[1] - sides[0]) / max(1, ends[1] - ends[0])
            outwards = (kept <= 0 and slope > 0) or (kept >= largest and slope < 0)
            found.view(-1)[start + k] = 0.0 if outwards else slope
    return found


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("max_delay", [0, 1, 2, 7])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_is_the_difference_of_the_neighbouring_steps(kind, max_delay, dtype, backend):
    torch.manual_seed(max_delay)
    layer = LAYERS[kind](max_delay).to(dtype)
    with torch.no_grad():  # some at each end, on the wall and a little off it; one halfway
        layer.delay.view(-1)[:2] = torch.tensor([0.0, 2.5 if max_delay == 7 else 0.3])
        for part, largest in layer._ranges():
            part.view(-1)[-1] = largest
    x, pull = torch.randn(15, 5, 3, dtype=dtype), torch.randn(15, 5, 4, dtype=dtype)
    with use(backend):
        truth = by_moving(layer, x, pull)
        (layer(x)[0] * pull).sum().backward()
    # Float32 differences of sums of some hundred terms.
    torch.testing.assert_close(layer.delay.grad, truth, rtol=0, atol=1e-10 if dtype == torch.float64 else 2e-3)
    assert truth.count_nonzero() or not max_delay or kind == "additive"


@pytest.mark.parametrize("name", ["taps", "frequency", "dense"])
def test_every_form_gives_it(name, monkeypatch):
    layer = DelayedLinear(5, 4, 6, kernel="rounded")
    x = torch.randn(30, 16, 5)
    with use("reference"):
        layer(x)[0].square().sum().backward()
    truth = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    monkeypatch.setattr(operator, "form", lambda *given: name)
    layer(x)[0].square().sum().backward()
    for p, other in zip(layer.parameters(), truth, strict=True):
        close = 1e-4 * float(other.abs().max())  # float32 sums of 480 terms
        torch.testing.assert_close(p.grad, other, rtol=0, atol=close)


def test_a_convolution_over_positions_has_the_same():
    torch.manual_seed(0)
    layer = DelayedConv1d(2, 3, 3, 5, padding=1, kernel="rounded").double()
    x, pull = torch.randn(12, 2, 2, 6, dtype=torch.float64), torch.randn(12, 2, 3, 6, dtype=torch.float64)
    (layer(x)[0] * pull).sum().backward()
    delays, truth = layer.delayed.delay.data.view(-1), torch.zeros(18, dtype=torch.float64)
    for k in range(18):
        kept, step = float(delays[k]), int(nearest(delays[k]))
        low, high = max(0, step - 1), min(5, step + 1)
        sides = []
        for delays[k] in (low, high):
            sides.append(brought(layer, x, pull))
        delays[k] = kept
        truth[k] = (sides[1] - sides[0]) / (high - low)
    torch.testing.assert_close(layer.delayed.delay.grad.view(-1), truth, rtol=0, atol=1e-10)


@pytest.mark.parametrize("per", PER)
def test_a_delay_is_learned_on_whole_steps(per):
    """From 2 steps to 9: each step on the way is nearer to a slow signal that is late by 9."""
    layer = DelayedLinear(1, 1, 12, per=per, kernel="rounded", groups=1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.delay.copy_(torch.tensor([1.0, 1.4]) if per == "additive" else torch.full_like(layer.delay, 2.0))
    x = torch.sin(torch.arange(80.0) / 8).view(80, 1, 1)
    wanted = torch.cat([torch.zeros(9, 1, 1), x[:-9]])
    optimizer = torch.optim.Adam([layer.delay], lr=0.2)
    for _ in range(120):
        optimizer.zero_grad()
        (layer(x)[0] - wanted).square()[20:].sum().backward()
        optimizer.step()
    assert layer.effective_kernel().flatten().argmax() == 9
    assert layer(x)[0].equal(copy.deepcopy(layer).round_()(x)[0])  # what trains is what is deployed


def test_rounded_for_good_they_learn_no_more():
    layer = DelayedLinear(6, 5, 8, kernel="rounded")
    schedule, x = DelaySchedule(until=0.5, round_at=0.5), torch.randn(30, 4, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)

    def step(progress):
        schedule.apply(layer, progress)
        optimizer.zero_grad()
        (layer(x)[0] - 1).square().mean().backward()
        optimizer.step()

    before = layer.delay.detach().clone()
    step(0.0)
    assert layer.delay.grad.count_nonzero() and not layer.delay.equal(before)
    step(0.6)
    whole, weight = layer.delay.detach().clone(), layer.weight.detach().clone()
    assert whole.equal(whole.round()) and layer.delay.grad.count_nonzero() == 0
    step(0.7)
    assert layer.delay.equal(whole) and not layer.weight.equal(weight)
    step(0.0)  # another training
    assert layer.delay.grad.count_nonzero()


def test_delays_that_do_not_learn_cost_no_more_than_their_weights(monkeypatch):
    """One live tap a synapse in both passes, as ever; three where the delay's gradient is wanted."""
    counts, backward = [], cpu.backward
    monkeypatch.setattr(cpu, "backward", lambda *given: counts.append(given[7:]) or backward(*given))
    monkeypatch.setattr(operator, "form", lambda *given: "taps")
    for learns in (False, True):
        layer = DelayedLinear(6, 5, 8, kernel="rounded", learn_delays=learns)
        layer(torch.randn(20, 4, 6, requires_grad=True))[0].sum().backward()
        assert (layer.delay.grad is not None) == learns
    assert counts == [(1, (True, True)), (1, (True, False)), (3, (False, True))]
