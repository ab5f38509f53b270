"""Recurrent layers against a plain loop through autograd, and against snnTorch's RLeaky."""

import itertools
import math

import pytest
import torch
from torch import nn

import temporal
from temporal.kernels.surrogates import Surrogate
from temporal.neurons import ALIF, IF, LI, LIF, AdLIF, CubaLIF, ParametricLIF, Recurrent

NEURONS = {
    "LIF": lambda: LIF(2.0),
    "IF": lambda: IF(),
    "ParametricLIF": lambda: ParametricLIF(3.0, size=6),
    "ALIF": lambda: ALIF(3.0, 20.0),
    "AdLIF": lambda: AdLIF(3.0, 9.0, a=2.0, b=4.0),
    "AdLIF-Euler": lambda: AdLIF(3.0, 9.0, a=2.0, b=4.0, symplectic=False),
    "CubaLIF": lambda: CubaLIF(2.0, 3.0),
    "LI": lambda: LI(3.0),
}


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * Surrogate("atan")(ctx.saved_tensors[0])


@pytest.mark.parametrize("detach_reset", [True, False])
def test_equals_a_plain_loop(detach_reset):
    layer = Recurrent(LIF(4.0, detach_reset=detach_reset), 6).double()
    x = (torch.randn(30, 3, 6, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    v, s, spikes = torch.zeros(3, 6).double(), torch.zeros(3, 6).double(), []
    for current in x.unbind(0):
        h = 0.75 * v + current + s @ layer.weight.t()
        s = _Spike.apply(h - 1)
        v = h * (1 - (s.detach() if detach_reset else s))
        spikes.append(s)
    expected = torch.stack(spikes)
    ours, state = layer(x)
    assert 0.1 < expected.mean() < 0.6
    assert torch.equal(ours, expected) and torch.equal(state.y, s)
    torch.testing.assert_close(state.neuron, v, rtol=1e-11, atol=1e-12)  # float64, sums in another order
    weight = torch.randn_like(expected)
    grads = [torch.autograd.grad((y * weight).sum(), [x, layer.weight]) for y in (ours, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


def test_equals_snntorch_rleaky():
    snntorch = pytest.importorskip("snntorch", reason="RLeaky is not compared without snntorch")
    theirs = snntorch.RLeaky(beta=0.75, linear_features=6, reset_mechanism="zero", reset_delay=False).double()
    layer = Recurrent(LIF(4.0), 6).double()
    with torch.no_grad():
        theirs.recurrent.bias.zero_()
        theirs.recurrent.weight.copy_(layer.weight)
    x = torch.randn(40, 3, 6, dtype=torch.float64) * 0.6 + 0.2
    spike, membrane, spikes = torch.zeros(3, 6).double(), torch.zeros(3, 6).double(), []
    for current in x.unbind(0):
        spike, membrane = theirs(current, spike, membrane)
        spike = spike.double()
        spikes.append(spike)
    ours, _ = layer(x)
    assert ours.mean() > 0.05
    assert torch.equal(ours, torch.stack(spikes))


@pytest.mark.parametrize("name", NEURONS)
def test_stream_equals_whole_bit_for_bit(name):
    """The product has the same shape at every step, however the signal is cut."""
    layer = Recurrent(NEURONS[name](), 6, gain=0.5)
    x = torch.randn(30, 3, 6) * 2
    with torch.no_grad():
        whole, last = layer(x)
        for edges in ([0, 1, 30], [0, 0, 17, 18, 30, 30], range(31)):
            state, parts = None, []
            for start, stop in itertools.pairwise(edges):
                part, state = layer(x[start:stop], state)
                parts.append(part)
            assert torch.equal(torch.cat(parts), whole)
            assert torch.equal(state.y, last.y)


@pytest.mark.parametrize("name", NEURONS)
def test_everything_that_is_learned_gets_a_gradient(name):
    layer = Recurrent(NEURONS[name](), 6)
    x = (torch.rand(20, 2, 6) * 4).requires_grad_()
    y, _ = layer(x)
    (y * torch.randn_like(y)).sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_silent_weights_leave_the_neuron_alone():
    layer = Recurrent(LIF(2.0), 6)
    nn.init.zeros_(layer.weight)
    x = torch.randn(30, 2, 6)
    assert torch.equal(layer(x)[0], LIF(2.0)(x)[0])


def test_a_spike_is_heard_one_step_late():
    layer = Recurrent(LIF(2.0), 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))  # 0 -> 1 -> 2
    x = torch.zeros(5, 1, 3)
    x[1, 0, 0] = 1
    assert layer(x)[0][:, 0].nonzero().tolist() == [[1, 0], [2, 1], [3, 2]]


def test_in_a_sequential_it_learns_to_remember():
    """Which of two inputs spoke, six steps ago? Neurons that leak at once do not know by themselves."""
    torch.manual_seed(2)
    cells = [Recurrent(LIF(1.01), 24), LIF(1.01)]
    losses = []
    for cell in cells:
        network = temporal.Sequential(nn.Linear(2, 24), cell, nn.Linear(24, 2))
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        x, labels = torch.zeros(6, 32, 2), torch.arange(32) % 2
        x[0, torch.arange(32), labels] = 3
        for _ in range(120):
            logits = network(x)[0][-1]
            loss = nn.functional.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 0.1 and losses[1] == pytest.approx(math.log(2), abs=0.01)


def test_autocast_and_sixteen_bits():
    layer = Recurrent(CubaLIF(2.0, 3.0), 6)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(torch.randn(5, 2, 6, dtype=torch.bfloat16))
    assert y.dtype == state.y.dtype == torch.bfloat16 and state.neuron.v.dtype == torch.float32
    y, state = layer.bfloat16()(torch.randn(5, 2, 6, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16 and state.neuron.v.dtype == torch.float32


@pytest.mark.parametrize(
    ("neuron", "size", "error", "message"),
    [
        (nn.Linear(3, 3), 3, TypeError, "neuron must be a layer called as .* got Linear"),
        (nn.GRU(3, 3), 3, TypeError, "got GRU"),
        (LIF(), 0, ValueError, "size=0 must be a positive number"),
    ],
)
def test_refuses(neuron, size, error, message):
    with pytest.raises(error, match=message):
        Recurrent(neuron, size)
