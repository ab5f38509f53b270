import pytest
import torch
from torch import nn

import temporal
from temporal.analysis import record_spikes
from temporal.neurons import IF, LI, LIF


def network():
    torch.manual_seed(1)
    inner = temporal.Sequential(nn.Linear(6, 5), IF())
    return temporal.Sequential(
        nn.Linear(4, 6), temporal.BatchNorm(6), LIF(), nn.Dropout(0.9), inner, nn.Linear(5, 3), LI()
    )


def test_the_spikes_of_every_spiking_layer():
    net, x = network(), 3 * torch.rand(20, 1, 4)
    recorded = record_spikes(net, x)
    assert [(name, tuple(spikes.shape)) for name, spikes in recorded] == [("LIF 2", (20, 6)), ("IF 4.1", (20, 5))]
    net.eval()
    expected, _ = net[:3](x)
    assert expected.sum() > 0
    torch.testing.assert_close(recorded[0][1], expected[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(recorded[1][1], net[:5](x)[0][:, 0], rtol=0, atol=0)


def test_the_network_is_left_as_it_was():
    net = network()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    averages = net[1].running_mean.clone()
    recorded = record_spikes(net, torch.rand(20, 1, 4))
    assert [module.training for module in net.modules()] == modes
    assert (net[1].running_mean == averages).all()
    assert not any(module._forward_hooks for module in net.modules())
    assert not any(spikes.requires_grad for _, spikes in recorded)
    with pytest.raises(RuntimeError):
        record_spikes(net, torch.rand(20, 1, 5))  # of another width
    assert not any(module._forward_hooks for module in net.modules())
    assert [module.training for module in net.modules()] == modes


def test_neurons_of_another_make():
    class Step(nn.Module):
        spiking = True

        def forward(self, x):
            return (x > 0).to(x.dtype)

    net = temporal.Sequential(Step(), LIF())
    net[1].spiking = False
    assert [name for name, _ in record_spikes(net, torch.randn(9, 1, 2, 3))] == ["Step 0"]
    assert record_spikes(net, torch.randn(9, 1, 2, 3))[0][1].shape == (9, 6)
    assert [name for name, _ in record_spikes(LIF(), torch.randn(9, 1, 2))] == ["LIF"]


def test_one_recording_only():
    with pytest.raises(ValueError, match=r"\[9, 2, 4\]; one recording, \[T, 1, features\]"):
        record_spikes(network(), torch.rand(9, 2, 4))
