"""CubaLIF against SpikingJelly's CUBALIFNode, and at the edges of its arguments."""

import copy
import pickle

import pytest
import torch

from temporal.neurons import CubaLIF

CLOSE = {"rtol": 1e-10, "atol": 1e-10}  # float64 sums in another order


@pytest.mark.parametrize("v_reset", [0.0, 0.25, -0.5, None])
@pytest.mark.parametrize(("tau", "tau_synapse"), [(4.0, 2.0), (2.0, 8.0)])
def test_equals_spikingjelly(tau, tau_synapse, v_reset):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    function = surrogate.Rect()
    theirs = neuron.CUBALIFNode(1 - 1 / tau_synapse, 1 - 1 / tau, 0.5, v_reset, function)
    ours = CubaLIF(
        tau, tau_synapse, v_threshold=0.5, v_reset=v_reset, detach_reset=theirs.detach_reset, surrogate=function
    )
    x = (torch.randn(40, 3, 5, dtype=torch.float64) * 0.5 + 0.1).requires_grad_()
    spikes, state = ours(x)
    their_spikes = torch.stack([theirs(current) for current in x.unbind(0)])
    assert 0.05 < spikes.mean() < 0.9
    assert torch.equal(spikes, their_spikes)
    torch.testing.assert_close(tuple(state), (theirs.v, theirs.c), **CLOSE)
    weight = torch.randn(40, 3, 5, dtype=torch.float64)
    grads = [torch.autograd.grad((s * weight).sum(), x)[0] for s in (spikes, their_spikes)]
    torch.testing.assert_close(*grads, **CLOSE)


def test_learned_values():
    names = ("tau", "tau_synapse", "v_threshold")
    layer = CubaLIF(2.0, 4.0, v_threshold=0.5, size=3, trainable=names)
    assert len(list(layer.parameters())) == 3
    torch.testing.assert_close(layer.tau_synapse, torch.full((3,), 4.0))
    layer(torch.rand(20, 2, 3))[0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e3)
    for _ in range(3):
        optimiser.step()
    assert (layer.tau >= 1).all() and (layer.tau_synapse >= 1).all() and (layer.v_threshold >= 0).all()


def test_per_neuron_values_are_the_neurons_apart():
    tau, synapse = torch.tensor([2.0, 4.0, 8.0]), torch.tensor([4.0, 2.0, 4.0])  # exact decays
    x = torch.rand(40, 2, 3)
    spikes, _ = CubaLIF(tau, synapse)(x)
    for n in range(3):
        apart, _ = CubaLIF(tau[n].item(), synapse[n].item())(x[..., n : n + 1])
        assert torch.equal(spikes[..., n : n + 1], apart)


def test_copies_and_prints():
    layer = CubaLIF(2.0, torch.tensor([2.0, 4.0]))
    x = torch.rand(20, 2, 2)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x)[0], layer(x)[0])
    state = layer(x)[1]
    assert torch.equal(pickle.loads(pickle.dumps(state)).i, state.i)
    assert "v_reset=0.0" in repr(layer) and "atan(2.0)" in repr(layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"v_threshold": 0.0}, r"CubaLIF: v_threshold=0\.0 must be above"),
        ({"trainable": ("a",), "size": 2}, "it can hold tau, tau_synapse, v_threshold"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        CubaLIF(**arguments)
