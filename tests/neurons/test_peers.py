"""Neurons of other libraries are settings of ``functional.lif``: a row of its table, a test."""

import pytest
import torch

from temporal.neurons.functional import lif

BETAS = [0.5, 0.90625]  # snnTorch keeps beta in float32: exact there


def snntorch_leaky(x, **arguments):
    """Spikes of snnTorch's Leaky, which is called step by step, and the gradient of their weighted sum."""
    snntorch = pytest.importorskip("snntorch", reason="the snnTorch rows of the table are not tested without snntorch")
    neuron = snntorch.Leaky(**arguments).double()
    membrane = torch.zeros_like(x[0])
    spikes = []
    for current in x.unbind(0):
        spike, membrane = neuron(current, membrane)
        spikes.append(spike)
    return torch.stack(spikes)


def currents() -> torch.Tensor:
    return (torch.randn(60, 4, 8, dtype=torch.float64) * 0.6 + 0.3).requires_grad_()


def gradient(spikes, x):
    # snnTorch's spikes are float32 even in a float64 network, so the weights must be exact in float32.
    weight = torch.linspace(-1, 1, spikes.numel()).double().reshape(spikes.shape)
    return torch.autograd.grad((spikes * weight).sum(), x)[0]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_snntorch_leaky_subtracts_one_step_late(beta, threshold):
    x = currents()
    theirs = snntorch_leaky(x, beta=beta, threshold=threshold)
    ours, _, _ = lif(x, decay=beta, threshold=threshold, reset_by=threshold / beta, strict=True)
    assert theirs.mean() > 0.05
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(gradient(ours, x), gradient(theirs, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("reset_delay", [True, False])
def test_snntorch_leaky_resets_to_zero(beta, reset_delay):
    x = currents()
    theirs = snntorch_leaky(x, beta=beta, reset_mechanism="zero", reset_delay=reset_delay)
    ours, _, _ = lif(x, decay=beta, reset_to=0.0, strict=True)
    assert theirs.mean() > 0.05
    assert torch.equal(ours, theirs)
    if reset_delay:
        torch.testing.assert_close(gradient(ours, x), gradient(theirs, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta", BETAS)
def test_snntorch_leaky_without_reset(beta):
    x = currents()
    theirs = snntorch_leaky(x, beta=beta, reset_mechanism="none")
    ours, _, _ = lif(x, decay=beta, reset_by=0.0, strict=True)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("v_reset", [0.0, 0.2, None])
@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly_lif(v_reset, decay_input):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    tau = 5.0
    node = neuron.LIFNode(tau=tau, decay_input=decay_input, v_reset=v_reset, step_mode="m", store_v_seq=True)
    x = currents() * (3 if decay_input else 1)
    rest = v_reset or 0.0
    knobs = {"decay": 1 - 1 / tau, "gain": 1 / tau if decay_input else 1.0, "bias": rest / tau, "reset_to": v_reset}
    theirs = node(x)
    ours, v, _ = lif(x, torch.full_like(x[0], rest), **knobs, detach_reset=False, surrogate=node.surrogate_function)
    assert theirs.mean() > 0.05
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(v, node.v_seq, rtol=1e-12, atol=1e-12)  # another order of float64 operations
