"""ParametricLIF against SpikingJelly's ParametricLIFNode: spikes, membranes, and the gradient of the time constant."""

import pytest
import torch

from temporal.neurons import LIF, ParametricLIF

# SpikingJelly adds (x - v) / tau to v, we scale v and x first: float64 rounding, over some tens of steps.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, 0.25, None])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [1.5, 8.0])
def test_equals_spikingjelly(tau, decay_input, v_reset, detach_reset):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    arguments = {"v_reset": v_reset, "decay_input": decay_input, "detach_reset": detach_reset}
    function = surrogate.ATan()
    theirs = neuron.ParametricLIFNode(tau, **arguments, surrogate_function=function, step_mode="m").double()
    ours = ParametricLIF(tau, **arguments, surrogate=function).double()
    with torch.no_grad():  # the same number to the last bit: both start from a rounded logarithm
        ours.time_constant.logit.copy_(-theirs.w)
    x = (torch.randn(40, 3, 5, dtype=torch.float64) + 0.4) * (tau if decay_input else 1)
    x.requires_grad_()
    spikes, state = ours(x)
    their_spikes = theirs(x)
    assert spikes.mean() > 0.05
    assert torch.equal(spikes, their_spikes)
    torch.testing.assert_close(state, theirs.v, **CLOSE)
    weight = torch.randn(40, 3, 5, dtype=torch.float64)
    our_x, our_logit = torch.autograd.grad((spikes * weight).sum(), [x, ours.time_constant.logit])
    their_x, their_w = torch.autograd.grad((their_spikes * weight).sum(), [x, theirs.w])
    torch.testing.assert_close(our_x, their_x, **CLOSE)
    torch.testing.assert_close(our_logit, -their_w, **CLOSE)


def test_one_time_constant_for_the_layer_or_one_per_neuron():
    layer = ParametricLIF(3.0)
    assert layer.time_constant.logit.shape == () and layer.tau.item() == pytest.approx(3.0)
    assert ParametricLIF(3.0, size=4).time_constant.logit.shape == (4,)
    assert ParametricLIF(torch.tensor([2.0, 5.0])).tau.tolist() == pytest.approx([2.0, 5.0])
    assert ParametricLIF(3.0, v_threshold=torch.ones(4)).time_constant.logit.shape == ()
    learned = dict(ParametricLIF(3.0, size=4, trainable=("v_threshold",)).named_parameters())
    assert set(learned) == {"time_constant.logit", "threshold.raw"}


@pytest.mark.parametrize("size", [None, 5])
def test_starts_as_the_lif_of_its_time_constant(size):
    x = torch.randn(50, 2, 5)
    spikes, state = ParametricLIF(2.0, size=size)(x)  # tau = 2 is exact as a logit
    expected, v = LIF(2.0)(x)
    assert torch.equal(spikes, expected) and torch.equal(state, v)


def test_finds_a_time_constant():
    """Gradient descent on the membrane finds the tau that made it."""
    x = torch.rand(30, 16, 1, dtype=torch.float64)
    target = LIF(6.0, v_threshold=100.0)(x)[1]
    layer = ParametricLIF(2.0, v_threshold=100.0).double()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(80):
        optimiser.zero_grad()
        (layer(x)[1] - target).square().mean().backward()
        optimiser.step()
    assert layer.tau.item() == pytest.approx(6.0, rel=0.02)


def test_refuses():
    with pytest.raises(ValueError, match="ParametricLIF: trainable='tau' is not a parameter; it can hold v_threshold"):
        ParametricLIF(trainable=("tau",))
