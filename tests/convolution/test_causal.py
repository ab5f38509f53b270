"""CausalConv1d against nn.Conv1d on a padded signal, and against bad input; test_protocol.py has the rest."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import temporal
from temporal.convolution import CausalConv1d

ACTIVATIONS = {None: nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}


def of_torch(conv, x, activation):
    padded = F.pad(x.permute(1, 2, 0), ((conv.kernel_size[0] - 1) * conv.dilation[0], 0))
    return ACTIVATIONS[activation](conv(padded)).permute(2, 0, 1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(12, 12, 12), (12, 8, 1), (12, 8, 4), (4, 12, 4)])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 4), (33, 2)])
def test_values_and_gradients_are_those_of_conv1d(taps, dilation, inputs, outputs, groups, bias, activation):
    conv = nn.Conv1d(inputs, outputs, taps, dilation=dilation, groups=groups, bias=bias)
    layer = CausalConv1d.from_conv1d(conv, activation=activation)
    found = []
    for call, parameters in ((lambda x: layer(x)[0], layer), (lambda x: of_torch(conv, x, activation), conv)):
        x = torch.randn(50, 3, inputs, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = call(x)
        y.square().mean().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in parameters.parameters())])
    # float32 sums of up to 400 products, in another order
    torch.testing.assert_close(*found, rtol=1e-4, atol=2e-6)


def test_it_starts_like_conv1d():
    torch.manual_seed(0)
    layer, conv = CausalConv1d(64, 96, 5, groups=2), nn.Conv1d(64, 96, 5, groups=2)
    for ours, theirs in zip(layer.parameters(), conv.parameters(), strict=True):
        assert ours.shape == theirs.shape
    bound = (5 * 32) ** -0.5
    assert 0.99 * bound < layer.weight.abs().max() <= bound and abs(layer.weight.std() - bound / 3**0.5) < 0.02 * bound
    assert 0 < layer.bias.abs().max() <= bound


def test_from_conv1d_copies_and_refuses_what_it_cannot_do():
    conv = nn.Conv1d(4, 4, 3, padding=2, dtype=torch.float64)
    layer = CausalConv1d.from_conv1d(conv)
    assert layer.weight.dtype == torch.float64 and torch.equal(layer.weight, conv.weight)
    layer.weight.data.zero_()
    assert conv.weight.any()
    with pytest.raises(ValueError, match="conv has stride 2; right is 1"):
        CausalConv1d.from_conv1d(nn.Conv1d(4, 4, 3, stride=2))
    with pytest.raises(ValueError, match="padding_mode='reflect'"):
        CausalConv1d.from_conv1d(nn.Conv1d(4, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(TypeError, match=r"conv is Linear, expected an nn\.Conv1d"):
        CausalConv1d.from_conv1d(nn.Linear(3, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_as_conv1d_does(dtype):
    conv, x = nn.Conv1d(8, 8, 3), torch.randn(20, 2, 8)
    layer = CausalConv1d.from_conv1d(conv)
    with torch.autocast("cpu", dtype=dtype):
        y, state = layer(x)
        expected = of_torch(conv, x, None)
        again, _ = layer(x[:3].to(dtype), state.to(dtype))
        doubled, _ = layer.double()(x.double())
    assert y.dtype == dtype == again.dtype and state.dtype == torch.float32 and doubled.dtype == torch.float64
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.02)


def test_a_state_is_the_last_inputs_and_keeps_no_chunk():
    layer, x = CausalConv1d(3, 3, 4, dilation=2), torch.randn(9, 2, 3)
    assert torch.equal(layer(x)[1], x[3:])
    _, state = layer(x[:2])
    assert torch.equal(state, torch.cat([torch.zeros(4, 2, 3), x[:2]]))
    assert torch.equal(layer(x[2:], state)[1], x[3:])
    assert layer(x)[1].untyped_storage().nbytes() == 6 * 2 * 3 * 4
    assert CausalConv1d(3, 3, 1)(x)[1].shape == (0, 2, 3)


@pytest.mark.parametrize("groups", [1, 20])
def test_one_step_at_a_time(groups):
    layer = CausalConv1d(20, 20, 30, dilation=3, groups=groups, activation="gelu")
    x, state, parts = torch.randn(100, 1, 20), None, []
    with torch.no_grad():
        for step in x.split(1):
            y, state = layer(step, state)
            parts.append(y)
        whole, last = layer(x)
    # float32 sums of 600 products, in another order
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)
    assert torch.equal(state, last)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size=0 must be at least 1"),
        ({"dilation": 0}, ValueError, "dilation=0 must be at least 1"),
        ({"in_channels": 2.5}, TypeError, "in_channels=2.5 is not a whole number"),
        ({"groups": 3}, ValueError, "groups=3 does not divide in_channels=4"),
        ({"groups": 4}, ValueError, "groups=4 does not divide out_channels=6"),
        ({"activation": "none"}, ValueError, "activation='none' is not one of None, 'relu', 'gelu', 'silu', 'tanh'"),
        ({"activation": "elu"}, ValueError, "activation='elu' is not one of"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=f"CausalConv1d: {words}"):
        CausalConv1d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments})


def test_bad_input():
    layer, x = CausalConv1d(4, 6, 3), torch.randn(5, 2, 4)
    for wrong in (x[0], x[..., :3]):
        with pytest.raises(ValueError, match=r"expected \[steps, batch, in_channels=4\]"):
            layer(wrong)
    with pytest.raises(TypeError, match=r"x is float64, the weights are float32: use x.to\(torch.float32\)"):
        layer(x.double())
    with pytest.raises(TypeError, match="x is int64"):
        layer(x.long())
    with pytest.raises(ValueError, match=r"state has shape \[2, 1, 4\], expected \[2, 2, 4\]"):
        layer(x, torch.zeros(2, 1, 4))
    with pytest.raises(TypeError, match="state is float64, x is float32"):
        layer(x, torch.zeros(2, 2, 4).double())
    with pytest.raises(ValueError, match="state is on meta, x is on cpu"):
        layer(x, torch.zeros(2, 2, 4, device="meta"))


def test_sequential_takes_it_and_names_it_where_a_conv_is():
    with pytest.raises(TypeError, match=r"use temporal.convolution.CausalConv1d.*from_conv1d\(conv\)"):
        temporal.Sequential(nn.Conv1d(4, 4, 3))
    network = temporal.Sequential(CausalConv1d(4, 6, 3, activation="relu"), nn.Linear(6, 2))
    y, state = network(torch.randn(5, 2, 4))
    assert y.shape == (5, 2, 2) and state[0].shape == (2, 2, 4) and state[1] is None
