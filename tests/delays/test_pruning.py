"""Synapses that are taken out: which, for good, and at no cost from then on."""

import copy
import math
import pickle

import pytest
import torch

from temporal.analysis import count_delays, measure_activity
from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays, prune_delays
from temporal.interop import hardware_cost, integer_delays
from temporal.kernels.delayed import PER
from temporal.layers import Sequential
from temporal.neurons import LIF
from temporal.streaming import Runner
from temporal.streaming._stages import stages_of

LAYERS = {per: lambda per=per: DelayedLinear(6, 5, 8, per=per) for per in PER}
LAYERS["several"] = lambda: DelayedLinear(6, 5, 8, synapses=3)
LAYERS["several-axon"] = lambda: DelayedLinear(6, 5, 8, per="axon", synapses=2)
LAYERS["several-dendrite"] = lambda: DelayedLinear(6, 5, 8, per="dendrite", synapses=2)
every_kind = pytest.mark.parametrize("kind", LAYERS)


# --- which ----------------------------------------------------------------------------------------------------------


def test_the_weakest_go():
    layer = DelayedLinear(4, 2, max_delay=8)
    layer.weight.data.copy_(torch.tensor([[0.1, -0.5, 0.3, -0.2], [0.9, 0.0, -0.4, 0.2]]))
    assert layer.prune_(0.5) is layer
    assert layer.alive.tolist() == [[False, True, True, False], [True, False, True, False]]
    assert layer.weight.equal(torch.tensor([[0, -0.5, 0.3, 0], [0.9, 0, -0.4, 0]]))
    assert layer.delay.eq(0).equal(~layer.alive)
    layer.prune_(0.25)  # so many are out already
    assert layer.alive.sum() == 4
    layer.prune_(threshold=0.4)
    assert layer.weight.ne(0).tolist() == [[False, True, False, False], [True, False, True, False]]
    layer.prune_(1.0)
    assert layer.alive.sum() == 0 and layer(torch.randn(9, 2, 4))[0].count_nonzero() == 0
    assert layer.prune_(threshold=0.0).alive.sum() == 0


def test_ties_fall_in_the_order_of_the_synapses():
    layer = DelayedLinear(4, 2, max_delay=8)
    layer.weight.data.fill_(0.5)
    assert layer.prune_(0.25).alive.flatten().tolist() == [False] * 2 + [True] * 6


def test_over_a_network_the_weakest_of_all_layers_go():
    network = torch.nn.ModuleList([
        DelayedLinear(4, 8, 5), RecurrentDelays(LIF(2.0), 8, 6), DelayedConv1d(1, 2, 3, 4), torch.nn.Linear(8, 2),
        DelayedLinear(8, 2, 5, per="axon"),
    ])  # fmt: skip
    layers = [layer for layer in network.modules() if isinstance(layer, DelayedLinear)]
    sizes = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
    limit = sizes.sort().values[59]
    assert prune_delays(network, 60 / 118) == 60
    for layer in layers:
        strength = layer.weight.detach().abs()
        assert layer.alive is None or bool((strength[layer.alive] > limit).all())
    assert sum(int((layer.weight == 0).sum()) for layer in layers) == 60
    assert prune_delays(network, 0.1) == 60  # more than that are out
    assert prune_delays(torch.nn.Linear(2, 2), 0.5) == 0


@pytest.mark.parametrize("amount", [-0.1, 1.1, math.nan])
def test_amounts_out_of_range(amount):
    with pytest.raises(ValueError, match=rf"prune_delays: amount={amount} is not a share"):
        prune_delays(DelayedLinear(2, 2, 2), amount)
    with pytest.raises(ValueError, match=rf"DelayedLinear.prune_: amount={amount} is not a share"):
        DelayedLinear(2, 2, 2).prune_(amount)


def test_what_prune_refuses():
    layer = DelayedLinear(2, 2, 2)
    for given in ({}, {"amount": 0.5, "threshold": 0.1}):
        with pytest.raises(TypeError, match="one of the two is right"):
            layer.prune_(**given)
    for threshold in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"threshold={threshold} is not a size of weights"):
            layer.prune_(threshold=threshold)
    assert layer.alive is None


# --- for good -------------------------------------------------------------------------------------------------------


@every_kind
def test_it_computes_what_it_would_with_those_weights_at_zero(kind):
    layer = LAYERS[kind]()
    x = torch.randn(20, 3, 6)
    zeroed = copy.deepcopy(layer)
    layer.prune_(0.6)
    zeroed.weight.data.masked_fill_(~layer.alive, 0)
    torch.testing.assert_close(layer(x)[0], zeroed(x)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.effective_kernel(), zeroed.effective_kernel(), rtol=0, atol=1e-6)


@every_kind
@pytest.mark.parametrize("kernel", ["gaussian", "rounded"])
def test_training_brings_none_back(kind, kernel):
    """Neither the weights nor the delays, although the optimiser has momentum for both; the others go on learning."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    layer = DelayedLinear(6, 5, 8, per=layer.per, synapses=layer.synapses, kernel=kernel)
    adam = torch.optim.Adam([{"params": [layer.weight]}, {"params": [layer.delay], "lr": 0.1}], lr=0.05)

    def step():
        adam.zero_grad()
        (layer(torch.randn(30, 4, 6))[0] - 1).square().mean().backward()
        adam.step()

    for _ in range(5):
        step()
    layer.prune_(0.7)
    with torch.no_grad():  # an axon, a dendrite and all copies of an input without a synapse
        none = torch.zeros_like(layer.alive)
        layer._take_out(none.index_fill(1, torch.tensor([2]), True).index_fill(0, torch.tensor([3]), True))
    alive, left = layer.alive.clone(), layer.alive_delays()
    weight, delay = layer.weight.detach().clone(), layer.delay.detach().clone()
    for _ in range(5):
        step()
    assert not left.all()
    assert layer.weight.grad[~alive].count_nonzero() == 0 and layer.delay.grad[~left].count_nonzero() == 0
    assert layer.weight.detach()[~alive].count_nonzero()  # the momentum: not projected yet
    y, kernels = layer.eval()(torch.ones(20, 1, 6))[0], layer.effective_kernel()
    saved = layer.state_dict()
    assert saved["weight"][~alive].count_nonzero() == 0 and saved["delay"][~left].count_nonzero() == 0
    assert layer(torch.ones(20, 1, 6))[0].equal(y) and layer.effective_kernel().equal(kernels)
    assert layer.weight[alive].ne(weight[alive]).all() and layer.delay[left].ne(delay[left]).any()


def test_an_axon_goes_with_its_last_synapse():
    layer = DelayedLinear(3, 2, 8, per="axon")
    layer.weight.data.copy_(torch.tensor([[0.1, 0.9, 0.2], [0.2, 0.1, 0.9]]))
    layer.prune_(threshold=0.5)
    assert layer.alive_delays().tolist() == [False, True, True]
    assert layer.delay[0] == 0 and layer.delay[1:].ne(0).all()
    group = DelayedLinear(2, 2, 8, per="group", groups=2)
    group.copies.copy_(torch.tensor([[0, 1], [1, 1]]))
    group.weight.data.copy_(torch.tensor([[0.1, 0.9], [0.9, 0.1]]))
    assert group.prune_(threshold=0.5).alive_delays().tolist() == [[False, False], [True, True]]
    both = DelayedLinear(2, 2, 8, per="additive")
    both.weight.data.copy_(torch.tensor([[0.1, 0.9], [0.1, 0.1]]))
    assert both.prune_(threshold=0.5).alive_delays().tolist() == [False, True, True, False]


# --- saving ---------------------------------------------------------------------------------------------------------


@every_kind
def test_state_dicts_say_it_and_those_of_others_stay_as_they_were(kind):
    layer, fresh = LAYERS[kind](), LAYERS[kind]()
    assert "alive" not in layer.state_dict() and "alive" not in layer.prune_(0.0).state_dict()
    layer.prune_(0.5)
    x = torch.randn(20, 3, 6)
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.alive.equal(layer.alive) and other(x)[0].equal(layer(x)[0])
        other.weight.data.fill_(1.0)
        assert other.eval()(x)[0].equal(layer.eval()(x)[0]) == bool(layer.weight[layer.alive].eq(1).all())
    fresh.load_state_dict(LAYERS[kind]().state_dict())  # of a layer that has all its synapses
    assert fresh.alive is None
    fresh.prune_(0.5).load_state_dict({"sigma": torch.tensor(1.0)}, strict=False)
    assert fresh.alive is not None
    assert "pruned=0.5" in repr(fresh)


def test_it_moves_and_is_converted_with_the_layer():
    layer = DelayedLinear(4, 3, 5).prune_(0.5)
    assert layer.double().alive.dtype == torch.bool and layer.to("meta").alive.device.type == "meta"
    drawn = DelayedLinear(4, 3, 5).prune_(0.5)
    alive = drawn.alive.clone()
    drawn.reset_parameters()
    assert drawn.weight.ne(0).equal(alive)


# --- at no cost -----------------------------------------------------------------------------------------------------


def pruned(per="synapse"):
    """Of 4 x 2 synapses three are left; the longest delay of these is 5, the longest of all 7."""
    layer = DelayedLinear(4, 2, 7, per=per)
    layer.weight.data.copy_(torch.tensor([[1.0, 0.1, 0.1, 0.1], [1, 0.1, 1, 0.1]]))
    if per == "synapse":
        layer.delay.data.copy_(torch.tensor([[5.0, 7, 7, 7], [2, 7, 3, 7]]))
    elif per == "axon":
        layer.delay.data.copy_(torch.tensor([5.0, 7, 3, 7]))
    return layer.prune_(threshold=0.5).round_()


@pytest.mark.parametrize("per, delays", [("synapse", 3), ("axon", 2)])
def test_what_a_chip_keeps(per, delays):
    cost = hardware_cost(pruned(per), real_inputs=False)
    assert (cost.synapses, cost.weight_bits) == (3, 96)
    assert cost.delay_bits == delays * 3  # 5 takes three bits
    assert (cost.buffer_depth, cost.buffer_bits) == (5, 10)  # of the two inputs that are heard
    assert integer_delays(pruned(per))[0].longest == 5


@pytest.mark.parametrize("per, counts", [("synapse", (0, 0, 1, 1, 0, 1, 0, 0)), ("axon", (0, 0, 0, 1, 0, 1, 0, 0))])
def test_what_is_counted(per, counts):
    layer = pruned(per)
    assert count_delays(layer)[0].counts == counts
    activity = measure_activity(Sequential(layer), torch.ones(10, 1, 4))
    assert activity.synapses[0].operations == 30 and activity.buffer_depth == 5
    layer.prune_(1.0)
    assert measure_activity(Sequential(layer), torch.ones(10, 1, 4)).buffer_depth == 0
    assert hardware_cost(layer).delay_bits == 0 and count_delays(layer)[0].total == 0


def test_costs_do_not_see_what_momentum_made_of_the_weights():
    layer = pruned()
    with torch.no_grad():
        layer.weight.add_(0.01)
        layer.delay.add_(1.0)
    assert hardware_cost(layer, real_inputs=False).synapses == 3 and integer_delays(layer)[0].longest == 6
    assert measure_activity(Sequential(layer), torch.ones(10, 1, 4)).synapses[0].operations == 30
    assert count_delays(layer)[0].total == 3


@pytest.mark.parametrize("per", ["synapse", "axon", "dendrite"])
def test_the_event_engine_has_only_what_is_left(per):
    """Of axons and dendrites, too, once few are left: then each by itself is faster than whole rows."""
    torch.manual_seed(0)
    layer = DelayedLinear(20, 30, 9, per=per).round_()
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 1024).round() / 1024)
    for amount, left in ((0.5, 300 if per == "synapse" else 600), (0.9, 60)):
        forward = stages_of(layer.prune_(amount).eval())["0"].forward
        assert forward.weight.size == left
        x = (torch.rand(40, 2, 20) < 0.3).float()
        assert Runner(layer, "event").run(x).equal(layer(x)[0])


def test_recurrent_delays_run_as_many_steps_at_once_as_the_shortest_that_is_left():
    layer = RecurrentDelays(LIF(2.0), 3, 9, min_delay=2)
    inner = layer.delayed
    inner.weight.data.fill_(0.5)[0, 0] = 0.1
    inner.delay.data.fill_(4.0)[0, 0] = 0.0
    x = torch.rand(21, 2, 3)
    assert layer.round_()._shortest()[0] == 2
    zeroed = copy.deepcopy(layer)
    zeroed.delayed.weight.data[0, 0] = 0.0
    inner.prune_(threshold=0.2)
    assert layer._shortest()[0] == 6
    inner.weight.data.fill_(0.5)
    torch.testing.assert_close(layer.eval()(x)[0], zeroed(x)[0], rtol=0, atol=0)
    inner.prune_(1.0)
    assert layer._shortest()[0] == 9
    torch.testing.assert_close(layer(x)[0], LIF(2.0)(x)[0], rtol=0, atol=0)
