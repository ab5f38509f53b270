"""No momentum is left that leads a delay out of its range."""

import pytest
import torch

from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays, stop_at_walls
from temporal.neurons import LIF

OPTIMIZERS = {
    "exp_avg": lambda p: torch.optim.Adam(p, lr=0.5),
    "momentum_buffer": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_leads_outwards_at_a_wall_is_gone_and_nothing_else(name):
    layer = DelayedLinear(6, 1, max_delay=8)
    layer.delay.data.copy_(torch.tensor([[0.0, 0.0, 4.0, 4.0, 8.0, 8.0]]))
    optimizer = OPTIMIZERS[name]([layer.delay])
    stop_at_walls(optimizer, layer)
    layer.delay.grad = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])
    optimizer.step()
    moment = optimizer.state[layer.delay][name]
    assert moment.ne(0).tolist() == [[False, True, True, True, True, False]]
    assert moment.sign().tolist() == [[0, -1, 1, -1, 1, 0]]


def test_axons_and_dendrites_that_add_up_have_walls_of_their_own():
    layer = DelayedLinear(2, 2, max_delay=9, per="additive")  # 0 .. 5 and 0 .. 4
    layer.delay.data.copy_(torch.tensor([5.0, 4.5, 4.5, 2.0]))
    optimizer = torch.optim.SGD([layer.delay], lr=1e-3, momentum=0.9)
    stop_at_walls(optimizer, layer)
    layer.delay.grad = torch.full((4,), -1.0)
    optimizer.step()
    assert optimizer.state[layer.delay]["momentum_buffer"].tolist() == [0, -1, 0, -1]


def steps_until_it_leaves(stops):
    """A delay that is driven into a wall, and then wanted 3 steps inside."""
    layer = DelayedLinear(1, 1, max_delay=8)
    layer.set_sigma(2.0)
    layer.delay.data.fill_(7.0)
    layer.weight.data.fill_(1.0)
    adam = torch.optim.Adam([layer.delay], lr=0.3)
    if stops:
        stop_at_walls(adam, layer)

    def learn(aim):
        kernel = layer(torch.eye(9)[:, :1].unsqueeze(1))[0].flatten()
        adam.zero_grad()
        (kernel * (torch.arange(9.0) - aim) ** 2).sum().backward()
        adam.step()

    while layer.delay.item() < 8:
        learn(28.0)
    for step in range(100):
        learn(5.0)
        if layer.delay.item() < 8:
            return step
    return 100


def test_a_delay_leaves_the_wall_with_the_first_gradient_inside():
    assert steps_until_it_leaves(True) == 0 < steps_until_it_leaves(False)


def test_every_layer_with_delays_and_an_end():
    network = torch.nn.ModuleList([DelayedConv1d(1, 1, 1, 4), RecurrentDelays(LIF(2.0), 1, 5), DelayedLinear(1, 1, 4)])
    delays = [layer for layer in network.modules() if isinstance(layer, DelayedLinear)]
    adam = torch.optim.Adam(network.parameters())
    handle = stop_at_walls(adam, network)

    def moments():
        for layer in delays:
            layer.delay.data.zero_()
            layer.delay.grad = torch.ones_like(layer.delay)
        adam.step()
        return [adam.state[layer.delay]["exp_avg"].item() for layer in delays]

    assert moments() == [0, 0, 0]
    handle.remove()
    assert all(moment > 0 for moment in moments())
