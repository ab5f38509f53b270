"""IF against SpikingJelly's IFNode, and as a stream."""

import itertools

import pytest
import torch

from temporal.neurons import IF


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, 0.25, -0.5, None])
def test_equals_spikingjelly(v_reset, detach_reset):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    arguments = {"v_threshold": 0.75, "v_reset": v_reset, "detach_reset": detach_reset}
    function = surrogate.ATan()
    theirs = neuron.IFNode(**arguments, surrogate_function=function, step_mode="m")
    x = torch.randn(40, 3, 5, dtype=torch.float64, requires_grad=True)
    spikes, state = IF(**arguments, surrogate=function)(x)
    their_spikes = theirs(x)
    assert torch.equal(spikes, their_spikes)
    # the same additions in another order, in float64
    torch.testing.assert_close(state, theirs.v, rtol=1e-12, atol=1e-12)
    weight = torch.randn(40, 3, 5, dtype=torch.float64)
    grads = [torch.autograd.grad((s * weight).sum(), x)[0] for s in (spikes, their_spikes)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_counts_exactly():
    """Currents on a grid of 2^-10 add without rounding: with a soft reset, spikes and rest account for every one."""
    x = torch.randint(0, 900, (200, 2, 5)) / 1024
    spikes, state = IF(v_reset=None)(x)
    assert torch.equal(spikes.sum(0) + state, x.sum(0))


def test_stream_equals_whole_bit_for_bit():
    layer = IF(v_reset=None, size=5, trainable=("v_threshold",))
    x = torch.randn(40, 2, 5)
    whole, last = layer(x)
    for edges in ([0, 1, 40], [0, 0, 17, 18, 40, 40], range(41)):
        state, parts = None, []
        for start, stop in itertools.pairwise(edges):
            part, state = layer(x[start:stop], state)
            parts.append(part)
        assert torch.equal(torch.cat(parts), whole) and torch.equal(state, last)


def test_learned_threshold():
    layer = IF(v_threshold=0.5, v_reset=0.25, size=3, trainable=("v_threshold",))
    layer(torch.rand(20, 2, 3))[0].sum().backward()
    assert layer.threshold.raw.grad.abs().sum() > 0
    torch.testing.assert_close(layer.v_threshold, torch.full((3,), 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trainable": ("tau",), "size": 3}, "IF: trainable='tau' is not a parameter; it can hold v_threshold"),
        ({"v_threshold": -1.0}, r"IF: v_threshold=-1\.0 must be above"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        IF(**arguments)
