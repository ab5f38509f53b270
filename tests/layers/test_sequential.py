from collections import OrderedDict

import pytest
import torch
from torch import nn

import temporal
from temporal.layers import fold


class Counter(nn.Module):
    """y[t] = x[t] + number of steps seen before; remembers the lengths it was given."""

    def forward(self, x, state=None, lengths=None):
        start = 0 if state is None else state
        self.seen_lengths = lengths
        steps = torch.arange(start, start + x.shape[0]).view(-1, *(1,) * (x.ndim - 1))
        return x + steps, start + x.shape[0]


def test_states_are_threaded_and_returned_one_a_layer():
    net = temporal.Sequential(Counter(), nn.Identity(), Counter())
    x = torch.zeros(4, 1, 2)
    whole, state = net(x)
    assert state == (4, None, 4)
    first, state = net(x[:3])
    second, _ = net(x[3:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert whole[:, 0, 0].tolist() == [0, 2, 4, 6]


def test_a_gru_of_torch_takes_part():
    net = temporal.Sequential(nn.GRU(3, 4, num_layers=2), nn.Linear(4, 2))
    x = torch.randn(6, 2, 3)
    whole, state = net(x)
    first, carried = net(x[:2])
    rest, last = net(x[2:], carried)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    torch.testing.assert_close(last[0], state[0])


def test_lengths_reach_the_layers_that_name_them_and_no_other():
    counter = Counter()
    net = temporal.Sequential(nn.Linear(2, 2), counter)
    lengths = torch.tensor([3, 1])
    net(torch.zeros(3, 2, 2), lengths=lengths)
    assert counter.seen_lengths is lengths


def test_it_is_an_nn_sequential():
    net = temporal.Sequential(OrderedDict(a=nn.Linear(2, 3), b=Counter(), c=nn.Linear(3, 1)))
    assert isinstance(net[:2], temporal.Sequential) and list(net[:2]._modules) == ["a", "b"]
    y, state = net[:2](torch.zeros(2, 1, 2))
    assert y.shape == (2, 1, 3) and state == (None, 2)


def test_its_list_can_change():
    net = temporal.Sequential(nn.Linear(2, 3), Counter(), nn.Linear(3, 1))
    net.append(Counter())
    net.insert(0, Counter())
    _, state = net(torch.zeros(5, 1, 2))
    assert state == (5, None, 5, None, 5)
    del net[0]
    net[-1] = nn.Identity()
    _, state = net(torch.zeros(5, 1, 2))
    assert state == (None, 5, None, None)


@pytest.mark.parametrize(
    ("layer", "hint"),
    [
        (nn.BatchNorm1d(3), "temporal.BatchNorm"),
        (nn.SyncBatchNorm(3), "temporal.BatchNorm"),
        (nn.Conv1d(3, 3, 1), "temporal.TimeDistributed"),
        (nn.ConvTranspose1d(3, 3, 1), "temporal.TimeDistributed"),
        (nn.MaxPool1d(2), "temporal.TimeDistributed"),
        (nn.AdaptiveAvgPool1d(2), "temporal.TimeDistributed"),
        (nn.GroupNorm(1, 3), "temporal.TimeDistributed"),
        (nn.Flatten(), "temporal.TimeDistributed"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "temporal.TimeDistributed"),
        (nn.Sequential(nn.GRU(2, 2)), "temporal.Sequential inside"),
        (nn.GRU(2, 2, batch_first=True), "batch_first=False"),
        (nn.LSTM(2, 2, bidirectional=True), "bidirectional=False"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_layers_that_would_read_the_wrong_axis_are_refused(layer, hint):
    with pytest.raises(TypeError, match=hint):
        temporal.Sequential(nn.Identity(), layer)
    with pytest.raises(TypeError, match=hint):
        temporal.Sequential(nn.Identity()).append(layer)


def test_a_function_is_no_layer():
    with pytest.raises(TypeError):
        temporal.Sequential(torch.tanh)


@pytest.mark.parametrize("state", [(None,), (None, None, None), [None, None]])
def test_a_state_of_another_network_is_refused(state):
    net = temporal.Sequential(Counter(), Counter())
    with pytest.raises(ValueError, match="tuple of 2 entries"):
        net(torch.zeros(1, 1, 1), state)


def test_fold_equals_the_network_in_evaluation_and_leaves_it_alone():
    net = temporal.Sequential(
        nn.Linear(3, 4, bias=False),
        temporal.BatchNorm(4),
        temporal.Sequential(nn.Linear(4, 5), temporal.BatchNorm(5), nn.Tanh(), temporal.BatchNorm(5)),
    )
    for _ in range(3):
        net(torch.randn(20, 8, 3) * 3 + 1)
    net.eval()
    x = torch.randn(7, 2, 3)
    before = net(x)[0].clone()
    folded = fold(net)
    torch.testing.assert_close(folded(x)[0], before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net(x)[0], before, rtol=0, atol=0)
    kinds = [type(m).__name__ for m in folded.modules()]
    assert kinds.count("BatchNorm") == 1  # the one behind Tanh has no weights before it
