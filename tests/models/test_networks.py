"""The named networks: what they are built of, and the sizes of the published ones."""

import pytest
import torch

from temporal.delays import DelayedLinear, RecurrentDelays
from temporal.models import GRU, DelayedLIF
from temporal.neurons import LIF, AdLIF, ParametricLIF


def trained(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "spec, inputs, classes, parameters",
    [  # SHD; SSC and GSC with one and with two synapses a pair (Hammouamri et al.)
        (DelayedLIF(hidden=256, layers=2, max_delay=24), 140, 20, 214_016),
        (DelayedLIF(hidden=512, layers=3, max_delay=30), 140, 35, 1_230_848),
        (DelayedLIF(hidden=512, layers=3, max_delay=30, synapses=2), 140, 35, 2_458_624),
    ],
)
def test_published_sizes(spec, inputs, classes, parameters):
    assert trained(spec.build(inputs, classes)) == parameters


@pytest.mark.parametrize("per", ["synapse", "axon", "dendrite", "additive", "group"])
def test_delays_belong_to_what_is_asked_for(per):
    net = DelayedLIF(hidden=8, layers=1, max_delay=6, per=per, groups=3).build(4, 5)
    layers = [layer for layer in net if isinstance(layer, DelayedLinear)]
    assert [layer.per for layer in layers] == [per, per]
    assert all(layer.delay.requires_grad for layer in layers)
    y, _ = net(torch.rand(9, 2, 4))
    assert y.shape == (9, 2, 5)


def test_controls_have_no_delay_to_learn():
    x = torch.rand(20, 3, 4)
    fixed = DelayedLIF(hidden=8, layers=1, max_delay=6, delays="random").build(4, 5)
    assert fixed[0].sigma == 0 and not fixed[0].delay.requires_grad
    taps = fixed[0].effective_kernel() != 0
    assert (taps.sum(-1) == 1).all() and len(taps.float().argmax(-1).unique()) > 3
    none = DelayedLIF(hidden=8, layers=1, delays="none").build(4, 5)
    assert none[0].max_delay == 0
    torch.testing.assert_close(none[0](x)[0], x @ none[0].weight.T, rtol=1e-5, atol=1e-5)
    assert trained(fixed) == trained(none) == 8 * 4 + 5 * 8 + 16


def test_neurons_and_their_time_constants():
    kinds = {"lif": LIF, "parametric-lif": ParametricLIF, "adlif": AdLIF, "adlif-euler": AdLIF}
    for name, kind in kinds.items():
        net = DelayedLIF(hidden=8, layers=1, max_delay=3, neuron=name).build(4, 5)
        assert type(net[2]) is kind
    torch.manual_seed(0)
    own = DelayedLIF(hidden=200, layers=1, max_delay=3, tau=1.5, tau_max=20.0).build(4, 5)[2].tau
    assert own.shape == (200,) and 1.5 <= own.min() < 2 and 15 < own.max() <= 20
    assert 4.5 < own.log().mean().exp() < 6.5  # log-uniform: the middle is sqrt(1.5 * 20)


def test_recurrent_delays_lie_around_the_neurons():
    net = DelayedLIF(hidden=8, layers=2, max_delay=3, recurrent="axon", recurrent_min_delay=4, recurrent_max_delay=9)
    layers = [layer for layer in net.build(4, 5) if isinstance(layer, RecurrentDelays)]
    assert [(layer.min_delay, layer.max_delay, layer.delayed.per) for layer in layers] == [(4, 9, "axon")] * 2


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"layers": 0}, "layers=0; at least 1"),
        ({"delays": "some"}, "delays='some'; learned, random, none are known"),
        ({"neuron": "relu"}, "neuron='relu'; lif, "),
        ({"recurrent": "all"}, "recurrent='all'; none, axon, synapse"),
        ({"tau_max": 1.5}, "tau_max=1.5 must be above tau=2.0"),
        ({"delays": "none", "recurrent": "axon"}, "recurrent='none' is right"),
        ({"per": "neuron"}, "per='neuron' is not one of"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        DelayedLIF(**fields).build(4, 5)


def test_gru_streams_through_empty_chunks():
    net = GRU(hidden=6, layers=2, dropout=0.0).build(4, 5).eval()
    x = torch.randn(7, 2, 4)
    whole, _ = net(x)
    state, parts = None, []
    for a, b in ((0, 0), (0, 3), (3, 3), (3, 7)):
        y, state = net(x[a:b], state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="GRU: layers=0"):
        GRU(layers=0).build(4, 5)
