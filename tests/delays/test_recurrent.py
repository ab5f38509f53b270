"""RecurrentDelays against the loop over steps that its equation is, and against Recurrent, which is its shortest form."""

import pytest
import torch
from torch import Tensor, nn

from temporal.delays import DelayedLinear, DelaySchedule, RecurrentDelays
from temporal.layers import Model, Sequential, SumSoftmax
from temporal.models import deploy
from temporal.neurons import LI, LIF, AdLIF, Recurrent


def step_by_step(layer: RecurrentDelays, x: Tensor) -> Tensor:
    """The equation, one step at a time, with the kernel that the layer shows."""
    kernel = layer.effective_kernel()
    outputs, inner = [], None
    for t in range(len(x)):
        current = x[t]
        for lag in range(1, min(t, layer.max_delay) + 1):
            current = current + outputs[t - lag] @ kernel[:, :, lag].T
        y, inner = layer.neuron(current.unsqueeze(0), inner)
        outputs.append(y[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("form", ["wide", "whole", "straight", "fixed"])
@pytest.mark.parametrize("per", ["synapse", "axon", "dendrite"])
@pytest.mark.parametrize("min_delay, max_delay", [(1, 1), (1, 6), (3, 7), (5, 5), (4, 30)])
def test_equals_the_loop(per, min_delay, max_delay, form):
    torch.manual_seed(max_delay)
    kernel = "rounded" if form in ("straight", "fixed") else "gaussian"
    layer = RecurrentDelays(LI(3.0), 5, max_delay, min_delay=min_delay, per=per, gain=0.4, kernel=kernel).double()
    layer = layer.round_() if form in ("whole", "fixed") else layer
    x = torch.randn(17, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(17, 3, 5, dtype=torch.float64)
    results = []
    for run in (lambda: layer(x)[0], lambda: step_by_step(layer, x)):
        y = run()
        wanted = [x, *layer.parameters()]
        grads = torch.autograd.grad((y * weight).sum(), wanted, allow_unused=True)
        results.append([y, *(g if g is not None else torch.zeros_like(p) for p, g in zip(wanted, grads, strict=True))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)
    assert bool(results[0][-1].count_nonzero()) == (form in ("wide", "straight") and max_delay > min_delay)


@pytest.mark.parametrize("neuron", [LIF(2.0), AdLIF(2.0, 9.0, a=2.0, b=5.0)], ids=lambda n: type(n).__name__)
def test_one_step_is_recurrent(neuron):
    """With no delay but one step it is what snnTorch and others call recurrent."""
    torch.manual_seed(0)
    layer, plain = RecurrentDelays(neuron, 8, 1), Recurrent(neuron, 8)
    with torch.no_grad():
        grid = (plain.weight * 1024).round() / 1024
        plain.weight.copy_(grid), layer.delayed.weight.copy_(grid)
    x = (torch.rand(30, 4, 8) < 0.4).float() * 2
    spikes = layer(x)[0]
    assert 0.05 < spikes.mean() < 0.95
    torch.testing.assert_close(spikes, plain(x)[0], rtol=0, atol=0)


def test_the_shortest_delay_saves_calls(monkeypatch):
    """As many steps at once as the shortest delay has; after rounding, as the shortest that is left."""
    layer, calls = RecurrentDelays(LIF(2.0), 6, 12, min_delay=4), []
    forward = LIF.forward

    def counted(self, x, state=None, lengths=None):
        calls.append(len(x))
        return forward(self, x, state, lengths)

    monkeypatch.setattr(LIF, "forward", counted)
    x = torch.rand(21, 2, 6)
    layer(x)
    assert calls == [4, 4, 4, 4, 4, 1]
    calls.clear()
    with torch.no_grad():
        layer.delayed.delay.uniform_(3.0, 8.0)[0, 0] = 3.0
    whole, _ = layer.round_()(x)
    assert calls == [7, 7, 7]
    calls.clear()
    with torch.no_grad():
        layer.delayed.delay[0, 0] = 0.0
    layer(x)
    assert calls == [4, 4, 4, 4, 4, 1]
    assert whole.shape == x.shape


@pytest.mark.parametrize("per", ["synapse", "axon"])
def test_state_stands_at_each_samples_end(per):
    torch.manual_seed(1)
    layer = RecurrentDelays(LIF(2.0), 5, 6, min_delay=2, per=per)
    x, lengths = torch.randn(11, 4, 5) * 2, torch.tensor([11, 4, 0, 7])
    y, state = layer(x, lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        alone, ended = layer(x[:n, b : b + 1])
        torch.testing.assert_close(y[:n, b], alone[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(state.sent[:, b], ended.sent[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(state.neuron[b], ended.neuron[0], rtol=0, atol=1e-5)


def test_learns_when_to_be_heard():
    """A pulse must come back after 9 steps, through one synapse that starts at 3: only the delay can do it."""
    layer = RecurrentDelays(LI(1.001), 2, 12, min_delay=2)
    with torch.no_grad():
        layer.delayed.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        layer.delayed.delay.fill_(1.0)
    layer.delayed.weight.requires_grad_(False)
    x, wanted = torch.zeros(16, 1, 2), torch.zeros(16)
    x[0, 0, 0] = wanted[9] = 1.0
    optimizer = torch.optim.Adam([layer.delayed.delay], lr=0.3)
    schedule = DelaySchedule(end=0.3, until=0.8)
    for step in range(100):
        schedule.apply(layer, step / 100)
        optimizer.zero_grad()
        (layer(x)[0][:, 0, 1] - wanted).square().sum().backward()
        optimizer.step()
    assert layer.delays()[1, 0].item() == 9
    assert layer.delayed.sigma == 0


def test_deployed_it_has_whole_delays():
    layer = RecurrentDelays(LIF(2.0), 4, 9, min_delay=2)
    deployed = deploy(Model(None, Sequential(DelayedLinear(3, 4, 2), layer), SumSoftmax(), labels=list("abcd")))
    delays = deployed.network[1].delays()
    assert torch.equal(delays, delays.round()) and deployed.network[1].delayed.sigma == 0


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ({"neuron": nn.Linear(3, 3)}, TypeError, "neuron must be a layer called as y, state"),
        ({"size": 0}, ValueError, "size=0 must be at least 1"),
        ({"min_delay": 0}, ValueError, "min_delay=0 must be at least 1"),
        ({"max_delay": 1, "min_delay": 2}, ValueError, "max_delay=1 is shorter than min_delay=2"),
        ({"max_delay": 2.5}, TypeError, "max_delay=2.5 is not a whole number"),
        ({"per": "additive"}, ValueError, "per='additive' is not one of 'synapse', 'axon', 'dendrite'"),
        ({"kernel": "box"}, ValueError, "kernel='box'"),
    ],
)
def test_refuses(arguments, kind, message):
    given = {"neuron": LIF(2.0), "size": 3, "max_delay": 5} | arguments
    with pytest.raises(kind, match=message):
        RecurrentDelays(given.pop("neuron"), given.pop("size"), given.pop("max_delay"), **given)


def test_refuses_inputs_and_states_of_others():
    layer = RecurrentDelays(LIF(2.0), 3, 5)
    x = torch.rand(4, 2, 3)
    _, state = layer(x)
    with pytest.raises(ValueError, match=r"expected \[steps, batch, size=3\]"):
        layer(torch.rand(4, 2, 5))
    with pytest.raises(TypeError, match="the weights are float32"):
        layer(x.double())
    with pytest.raises(TypeError, match="pair"):
        layer(x, state.sent)
    with pytest.raises(ValueError, match="the last max_delay inputs of the same batch"):
        layer(x[:, :1], state)
    with pytest.raises(ValueError, match="lengths run from 0 to 9"):
        layer(x, lengths=torch.tensor([0, 9]))
