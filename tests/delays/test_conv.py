"""DelayedConv1d: a 2-D convolution over time and positions with its effective kernel; what it has of DelayedLinear."""

import copy

import pytest
import torch
import torch.nn.functional as F
from DCLS.construct.modules import Dcls2dK1d
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.delays import DelayedConv1d, DelayedLinear, DelaySchedule
from temporal.kernels.delayed import KERNELS, PER

PLACES = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": "same"},
    {"stride": 3, "dilation": 2, "padding": 3},
]


def layer_of(per="synapse", sigma=0.8, **options):
    layer = DelayedConv1d(2, 3, 4, max_delay=5, per=per, bias=True, **options).double()
    if layer.delayed.kernel != "rounded":
        layer.set_sigma(sigma)
    return layer


def dense(layer, x):
    """torch's convolution over (time, positions): lag 0 is the last row of its kernel."""
    left, right = layer.padding
    padded = F.pad(x.permute(1, 2, 0, 3), (left, right, layer.max_delay, 0))
    kernel = layer.effective_kernel().permute(0, 1, 3, 2).flip(2)
    y = F.conv2d(padded, kernel, layer.bias, stride=(1, layer.stride), dilation=(1, layer.dilation))
    return y.permute(2, 0, 1, 3)


@pytest.mark.parametrize("places", PLACES, ids=str)
@pytest.mark.parametrize("per", PER)
def test_equals_the_dense_convolution(per, places):
    layer = layer_of(per, **places)
    x = torch.randn(9, 2, 2, 11, dtype=torch.float64, requires_grad=True)
    y, state = layer(x)
    true = dense(layer, x)
    torch.testing.assert_close(y, true, rtol=0, atol=1e-12)  # float64 sums of 48 terms
    assert y.is_contiguous() and state.shape == (5, 2, 2, 11)
    pull, leaves = torch.randn_like(y), (x, *layer.parameters())
    grads = [torch.autograd.grad(result, leaves, pull) for result in (y, true)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_one_spike_moves_by_its_delay_and_its_place():
    layer = DelayedConv1d(1, 1, 3, max_delay=4, kernel="rounded", padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 2.0, 4.0]]]))
        layer.delay.copy_(torch.tensor([[[0.0, 3.0, 1.0]]]))
    x = torch.zeros(6, 1, 1, 5)
    x[1, 0, 0, 2] = 1
    # Place k of the kernel at position p sees position p + k - 1: the spike at 2 is seen from p = 3, 2 and 1.
    expected = torch.zeros(6, 5)
    expected[1, 3], expected[4, 2], expected[2, 1] = 1, 2, 4
    assert layer(x)[0][:, 0, 0].equal(expected)


def test_a_kernel_of_one_place_is_a_delayed_linear_at_every_position():
    layer = DelayedConv1d(4, 3, 1, max_delay=6)
    linear, x = DelayedLinear(4, 3, 6), torch.randn(12, 2, 4, 5)
    linear.load_state_dict(layer.delayed.state_dict())
    for position in range(5):
        torch.testing.assert_close(layer(x)[0][..., position], linear(x[..., position])[0], rtol=0, atol=1e-5)


def test_equals_dcls_for_a_kernel_of_one_place():
    """Dcls2dK1d over (time, positions), as `DelayedLinear` equals Dcls1d: tap k = P + L // 2 is lag max_delay - k."""
    count, sigma = 7, 0.9
    peer = Dcls2dK1d(2, 3, 1, dilated_kernel_size=count, bias=False, version="gauss").double()
    layer = DelayedConv1d(2, 3, 1, max_delay=count - 1).double()
    layer.set_sigma(sigma)
    with torch.no_grad():
        peer.weight.copy_(layer.weight)
        peer.P.copy_((count - 1 - count // 2 - layer.delay).reshape(peer.P.shape))
        peer.SIG.fill_(sigma - 0.27)
    x = torch.randn(9, 2, 2, 4, dtype=torch.float64)
    y, pull = layer(x)[0], torch.randn(9, 2, 3, 4, dtype=torch.float64)
    theirs = peer(F.pad(x.permute(1, 2, 0, 3), (0, 0, count - 1, 0))).permute(2, 0, 1, 3)
    torch.testing.assert_close(y, theirs, rtol=0, atol=1e-6)  # dcls adds 1e-7 to the sum it divides by
    ours = torch.autograd.grad(y, (layer.delayed.weight, layer.delayed.delay), pull)
    of_weight, of_position = torch.autograd.grad(theirs, (peer.weight, peer.P), pull)
    torch.testing.assert_close(ours[0], of_weight[..., 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], -of_position[0, ..., 0], rtol=0, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.sampled_from(PLACES), st.sampled_from(PER))
def test_stream_equals_whole(chunks, places, per):
    """Spikes, weights in multiples of 2^-10, whole delays: float32 sums are exact in any order."""
    layer = DelayedConv1d(2, 3, 4, max_delay=5, per=per, **places)
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 1024).round() / 1024)
    layer.round_()
    x = (torch.rand(sum(chunks), 2, 2, 11, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    whole, last = layer(x)
    parts, state = [], None
    for chunk in x.split(chunks):
        y, state = layer(chunk, state)
        parts.append(y)
    assert torch.cat(parts).equal(whole) and state.equal(last)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("synapses", [1, 2])
def test_views_of_the_synapses(kernel, synapses):
    layer = layer_of(kernel=kernel, synapses=synapses)
    more = () if synapses == 1 else (synapses,)
    assert layer.weight.shape == layer.delay.shape == (3, 2, 4, *more)
    with torch.no_grad():
        layer.delay.fill_(2.0)  # through the view, into the parameter
    assert layer.delayed.delay.eq(2).all() and layer.effective_kernel().shape == (3, 2, 4, 6)
    x = torch.zeros(6, 1, 2, 4, dtype=torch.float64)
    x[0, 0, 1, 3] = 1
    impulse = layer(x)[0][..., 0] - layer.bias
    torch.testing.assert_close(impulse[:, 0].T, layer.effective_kernel()[:, 1, 3], rtol=0, atol=1e-14)


def test_shapes_of_delays():
    shapes = {"synapse": (3, 2, 4), "axon": (2, 4), "dendrite": (3,), "additive": (2 * 4 + 3,), "group": (4, 2, 4)}
    assert {per: tuple(DelayedConv1d(2, 3, 4, 5, per=per).delay.shape) for per in PER} == shapes


def test_schedule_rounding_and_saving_reach_the_synapses():
    layer = DelayedConv1d(2, 3, 4, max_delay=6)
    assert layer.sigma.item() == 3 and layer.bias is None
    DelaySchedule(end=0.5, until=0.5).apply(torch.nn.Sequential(layer), 0.25)
    assert 0.5 < layer.sigma.item() < 3
    before = layer.delay.detach().clone()
    assert layer.round_() is layer and layer.sigma.item() == 0
    assert layer.delay.equal((before + 0.5).floor())
    fresh = DelayedConv1d(2, 3, 4, max_delay=6)
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(9, 1, 2, 8)
    assert fresh(x)[0].equal(layer(x)[0]) and copy.deepcopy(layer)(x)[0].equal(layer(x)[0])
    layer.reset_parameters()
    assert not layer.delay.equal(layer.delay.round())


def test_autocast_and_half_precision():
    layer, x = layer_of().float(), torch.randn(9, 2, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(x)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=2**-6, atol=2**-5)  # bfloat16 keeps 8 bits
    assert layer.bfloat16()(x.bfloat16())[0].dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(0, 2), (1, 1), (3, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("max_delay", [0, 4])
def test_no_step_no_sample_no_delay(shape, max_delay):
    layer = DelayedConv1d(2, 3, 3, max_delay)
    y, state = layer(torch.randn(*shape, 2, 5))
    assert y.shape == (*shape, 3, 3) and state.shape == (max_delay, shape[1], 2, 5)
    y.sum().backward()


def test_non_contiguous_inputs():
    layer, x = layer_of(), torch.randn(8, 2, 11, 9, dtype=torch.float64).permute(3, 2, 1, 0)[:, ::3, :, :]
    assert layer(x)[0].equal(layer(x.contiguous())[0])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"in_channels": 0}, ValueError, "DelayedConv1d: in_channels=0 must be at least 1"),
        ({"kernel_size": 0}, ValueError, "DelayedConv1d: kernel_size=0 must be at least 1"),
        ({"max_delay": -1}, ValueError, "DelayedConv1d: max_delay=-1 must be at least 0"),
        ({"stride": 0}, ValueError, "DelayedConv1d: stride=0 must be at least 1"),
        ({"dilation": 1.5}, TypeError, "DelayedConv1d: dilation=1.5 is not a whole number"),
        ({"padding": -1}, ValueError, "DelayedConv1d: padding=-1 must be at least 0"),
        ({"padding": "full"}, ValueError, "padding='full' is neither a number of positions nor 'same'"),
        ({"padding": "same", "stride": 2}, ValueError, "padding='same' needs stride=1, not stride=2"),
        ({"per": "neuron"}, ValueError, "per='neuron' is not one of"),
        ({"synapses": 2, "per": "group"}, ValueError, "synapses=2 need per='synapse', 'axon' or 'dendrite'"),
    ],
    ids=str,
)
def test_arguments_that_are_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        DelayedConv1d(**({"in_channels": 2, "out_channels": 3, "kernel_size": 4, "max_delay": 5} | arguments))


def test_inputs_that_are_refused():
    layer = DelayedConv1d(2, 3, 4, max_delay=5)
    with pytest.raises(
        ValueError, match=r"x has shape \[9, 2, 8\], expected \[steps, batch, in_channels=2, positions\]"
    ):
        layer(torch.zeros(9, 2, 8))
    with pytest.raises(ValueError, match=r"x has 3 positions, 3 with the padding; the kernel spans 4"):
        layer(torch.zeros(9, 2, 2, 3))
    with pytest.raises(
        ValueError, match=r"state has shape \[5, 1, 2, 8\], expected \[5, 2, 2, 8\]: the last max_delay"
    ):
        layer(torch.zeros(9, 2, 2, 8), torch.zeros(5, 1, 2, 8))
    with pytest.raises(TypeError, match="x is float64, the weights are float32"):
        layer(torch.zeros(9, 2, 2, 8, dtype=torch.float64))
