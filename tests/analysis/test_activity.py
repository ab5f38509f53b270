"""Spikes and synaptic operations counted by hooks, against a count by hand."""

import pytest
import torch
from torch import nn

import temporal
from temporal.analysis import count_delays, measure_activity, record_spikes
from temporal.delays import DelayedLinear, RecurrentDelays
from temporal.neurons import IF, LIF, Recurrent


def test_spikes_and_operations_against_a_count_by_hand():
    """Every synapse, step and recording one by one; the padding holds spikes that must not count."""
    torch.manual_seed(3)
    delayed, plain = DelayedLinear(4, 5, 3).round_(), nn.Linear(5, 2)
    with torch.no_grad():
        delayed.weight[torch.rand_like(delayed.weight) < 0.4] = 0
        plain.weight[0, 1] = 0
    network = temporal.Sequential(delayed, IF(), plain)
    x, lengths = (torch.rand(9, 3, 4) < 0.5).float(), torch.tensor([9, 4, 0])
    activity = measure_activity(network, x, lengths)
    spikes = network[:2](x)[0]

    def operations(signal, weight):
        return sum(
            int(weight[o, i] != 0)
            for b, length in enumerate(lengths)
            for t in range(length)
            for i in range(signal.shape[2])
            for o in range(len(weight))
            if signal[t, b, i] != 0
        )

    assert [part.operations for part in activity.synapses] == [
        operations(x, delayed.weight),
        operations(spikes, plain.weight),
    ]
    assert [part.events for part in activity.synapses] == [True, True]
    (layer,) = activity.layers
    assert layer.counts == tuple(int(spikes[:9, 0, n].sum() + spikes[:4, 1, n].sum()) for n in range(5))
    assert sum(layer.counts) > 0 and layer.steps == 13
    assert activity.spikes_per_recording == sum(layer.counts) / 3
    assert activity.buffer_depth == int(delayed.delay.max()) and activity.buffer_bytes == 4 * 3 * 4


def test_two_batches_add_up_to_one():
    torch.manual_seed(4)
    network = temporal.Sequential(DelayedLinear(3, 6, 2), LIF(1.5), nn.Linear(6, 2))
    x = 2 * torch.rand(12, 5, 3)
    whole = measure_activity(network, x)
    assert measure_activity(network, x[:, :2]) + measure_activity(network, x[:, 2:]) == whole
    assert whole.recordings == 5 and sum(whole.layers[0].counts) > 0
    real, events = whole.synapses
    assert not real.events and events.events  # the frames are real numbers, the spikes are not
    assert whole.products_per_recording == real.operations / 5 == 12 * 3 * 6
    assert whole.additions_per_recording == events.operations / 5 == sum(whole.layers[0].counts) * 2 / 5


def test_recurrent_neurons_are_seen_with_their_weights():
    torch.manual_seed(5)
    layer = Recurrent(LIF(1.5), 3)
    with torch.no_grad():
        layer.weight[0] = 0
    network = temporal.Sequential(layer)
    x = 2 * torch.rand(8, 1, 3)
    activity, ((name, spikes),) = measure_activity(network, x), record_spikes(network, x)
    assert name == activity.layers[0].name == "Recurrent 0"
    assert activity.layers[0].counts == tuple(spikes.sum(0).int().tolist()) and sum(activity.layers[0].counts) > 0
    (loop,) = activity.synapses
    assert loop.name == "Recurrent 0 recurrent" and loop.operations == int(spikes.sum()) * 2


def test_recurrent_delays_are_seen_and_counted_from_the_shortest_on():
    torch.manual_seed(7)
    layer = RecurrentDelays(LIF(1.5), 3, max_delay=5, min_delay=2).round_()
    with torch.no_grad():
        layer.delayed.delay.copy_(torch.tensor([[0.0, 1, 1], [1, 1, 1], [1, 1, 2]]))
        layer.delayed.weight[0] = 0
    network, x = temporal.Sequential(layer), 2 * torch.rand(8, 1, 3)
    activity, ((name, spikes),) = measure_activity(network, x), record_spikes(network, x)
    assert name == activity.layers[0].name == "RecurrentDelays 0"
    assert activity.layers[0].counts == tuple(spikes.sum(0).int().tolist()) and sum(activity.layers[0].counts) > 0
    (loop,) = activity.synapses
    assert loop.operations == int(spikes.sum()) * 2 and loop.depth == 4 and loop.buffer_bytes == 4 * 5 * 3
    (counted,) = count_delays(network)
    assert counted.counts == (1, 7, 1, 0) and list(counted.steps) == [2, 3, 4, 5] and counted.mean == 3.0


def test_dead_and_saturated_neurons():
    network = temporal.Sequential(IF(v_threshold=torch.tensor([0.5, 1.5, 99.0]), size=3))
    (layer,) = measure_activity(network, torch.ones(20, 2, 3)).layers
    assert layer.counts == (40, 20, 0) and layer.rates == [1.0, 0.5, 0.0]
    assert (layer.dead, layer.saturated, layer.rate) == (1, 1, 0.5)


def test_a_recurrent_layer_of_torch_multiplies_at_every_step():
    network = temporal.Sequential(nn.GRU(3, 4, num_layers=2), nn.Linear(4, 2))
    x = torch.rand(6, 2, 3)
    x[0, 0, 1] = 0
    layer, readout = measure_activity(network, x, torch.tensor([6, 2])).synapses
    # 8 valid steps of three gates of 4: 3 inputs, of which one is zero once, 4 states, and the second layer's 4 and 4.
    assert layer.operations == 8 * 12 * (3 + 4 + 4 + 4) - 12 and not layer.events
    assert readout.operations == 8 * 4 * 2


class Matrix(nn.Module):
    """Weights that nobody knows how to count."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 4))

    def forward(self, x):
        return x @ self.matrix


def test_what_is_not_understood_is_named_and_the_network_is_left_alone():
    network = temporal.Sequential(Matrix(), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    activity = measure_activity(network, torch.rand(6, 2, 3), torch.tensor([6, 2]))
    assert activity.unknown == ("Matrix 0",) and not activity.layers
    assert network.training and network[1].training and not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize("per", ["synapse", "axon", "dendrite", "additive", "group"])
def test_delays_are_counted_where_they_are_deployed(per):
    """The counts are those of the lags at which the deployed kernel is not zero."""
    torch.manual_seed(6)
    layer = DelayedLinear(7, 5, 4, per=per).round_()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    (counted,) = count_delays(layer)
    lags = layer.effective_kernel().argmax(-1)
    if per in ("axon", "dendrite"):
        lags = lags[0] if per == "axon" else lags[:, 0]
    assert counted.counts == tuple(torch.bincount(lags.flatten(), minlength=5).tolist())
    assert counted.total == lags.numel() and counted.learned


def test_delays_out_of_their_range_or_not_finite_are_counted_at_an_end():
    layer = DelayedLinear(2, 2, 3, learn_delays=False)
    layer.delay.data.copy_(torch.tensor([[-4.0, 9.0], [float("nan"), 1.5]]))
    (counted,) = count_delays(layer)
    assert counted.counts == (2, 0, 1, 1) and not counted.learned and counted.mean == 1.25
    assert count_delays(DelayedLinear(2, 2, 0))[0].counts == (4,) and count_delays(nn.Linear(2, 2)) == []
