"""DelayedLinear: streams, range of the delays, rounding, what it saves, and what it refuses."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.delays import DelayedLinear
from temporal.kernels.delayed import KERNELS, PER


def on_grid(layer):
    """Weights in multiples of 2^-10 and whole delays: float32 sums of spikes are exact in any order."""
    with torch.no_grad():
        layer.weight.copy_((layer.weight.clamp(-0.5, 0.5) * 1024).round() / 1024)
    return layer.round_()


def spikes(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.2).float()


def delays_of_synapses(layer):
    """[O, I], whatever has the delays."""
    if layer.per == "additive":
        return layer.delay[layer.in_features :, None] + layer.delay[: layer.in_features]
    if layer.per == "group":
        return layer.delay.gather(0, layer.copies.long())
    return (layer.delay.unsqueeze(1) if layer.per == "dendrite" else layer.delay).expand_as(layer.weight)


def shifted_sum(layer, x):
    """y[t,o] = sum_i w[o,i] x[t - d[o,i], i], one synapse after the other."""
    y = torch.zeros(len(x), x.shape[1], layer.out_features, dtype=x.dtype)
    delays = delays_of_synapses(layer)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            delay = int(delays[o, i])
            if delay < len(x):
                y[delay:, :, o] += layer.weight[o, i].detach() * x[: len(x) - delay, :, i]
    return y


# --- what it computes -----------------------------------------------------------------------------------------------


def test_starts_as_documented():
    layer = DelayedLinear(50, 200, max_delay=24)
    assert layer.weight.shape == layer.delay.shape == (200, 50)
    assert layer.weight.is_leaf and layer.delay.is_leaf and layer.delay.requires_grad
    assert layer.sigma.item() == 12 and layer.bias is None
    bound = math.sqrt(6 / 50)
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    # 10,000 uniform draws: each quarter of the range holds 2500 +- 43; four deviations.
    quarters = torch.histc(layer.delay.detach(), bins=4, min=0, max=24)
    assert layer.delay.min() >= 0 and layer.delay.max() <= 24
    assert (quarters - 2500).abs().max() < 180


@pytest.mark.parametrize("max_delay", [0, 1, 4, 30])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("per", PER)
def test_rounded_equals_shift_and_sum_exactly(per, kernel, max_delay):
    layer = on_grid(DelayedLinear(6, 5, max_delay, per=per, kernel=kernel))
    x = spikes(20, 3, 6)
    assert layer(x)[0].equal(shifted_sum(layer, x))


def test_one_synapse_moves_a_spike_by_its_delay():
    layer = DelayedLinear(1, 1, max_delay=5, kernel="rounded")
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.delay.fill_(3.0)
    x = torch.zeros(8, 1, 1)
    x[1] = 1
    assert layer(x)[0].flatten().tolist() == [0, 0, 0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("per", PER)
def test_effective_kernel_is_what_the_layer_does_to_an_impulse(per, kernel):
    layer = DelayedLinear(3, 4, max_delay=6, per=per, kernel=kernel).double()
    if kernel != "rounded":
        layer.set_sigma(0.7)
    for i in range(3):
        x = torch.zeros(7, 1, 3, dtype=torch.float64)
        x[0, 0, i] = 1
        # Nothing but products: no sum to round.
        torch.testing.assert_close(layer(x)[0][:, 0].T, layer.effective_kernel()[:, i], rtol=0, atol=1e-15)


@pytest.mark.parametrize("per", PER)
def test_bias_is_added_to_every_step(per):
    layer = DelayedLinear(3, 4, max_delay=6, per=per, bias=True)
    y, _ = layer(torch.zeros(5, 2, 3))
    assert y.equal(layer.bias.expand(5, 2, 4))
    assert layer(torch.zeros(0, 2, 3))[0].shape == (0, 2, 4)


# --- streaming ------------------------------------------------------------------------------------------------------


@st.composite
def cuts(draw):
    """(max_delay, chunk lengths): zero steps, and fewer steps than the longest delay, included."""
    return draw(st.integers(0, 6)), draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(cuts(), st.integers(1, 3), st.sampled_from(PER))
def test_stream_equals_whole(cut, batch, per):
    max_delay, chunks = cut
    x = spikes(sum(chunks), batch, 4)
    layer = on_grid(DelayedLinear(4, 3, max_delay, per=per))
    whole, last = layer(x)
    outputs, state = [], None
    for chunk in x.split(chunks):
        y, state = layer(chunk, state)
        outputs.append(y)
        assert state.shape == (max_delay, batch, 4)
    assert torch.cat(outputs).equal(whole)
    assert state.equal(last)
    padded = torch.cat([torch.zeros(max_delay, batch, 4), x])
    assert state.equal(padded[len(padded) - max_delay :])


@pytest.mark.parametrize("per", PER)
def test_stream_equals_whole_while_delays_are_fractions(per):
    layer = DelayedLinear(4, 3, max_delay=6, per=per).double()
    layer.set_sigma(0.8)
    x = torch.randn(25, 2, 4, dtype=torch.float64)
    whole, _ = layer(x)
    head, state = layer(x[:11])
    tail, _ = layer(x[11:], state)
    torch.testing.assert_close(torch.cat([head, tail]), whole, rtol=0, atol=1e-13)  # float64 sums of 28 terms


def test_two_chunks_and_one_backward():
    """Gradients flow through the state, and the second forward's projection does not spoil the first one's graph."""
    layer = DelayedLinear(4, 3, max_delay=6).double()
    x = torch.randn(25, 2, 4, dtype=torch.float64)
    layer(x)[0].square().sum().backward()
    whole = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    head, state = layer(x[:3])
    tail, _ = layer(x[3:], state)
    torch.cat([head, tail]).square().sum().backward()
    for gradient, p in zip(whole, layer.parameters(), strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-12, atol=1e-12)


def test_the_state_is_a_copy():
    layer = DelayedLinear(4, 3, max_delay=6)
    x = torch.randn(25, 2, 4, requires_grad=True)
    y, state = layer(x)
    with torch.no_grad():
        state.zero_()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert state.untyped_storage().nbytes() == 6 * 2 * 4 * 4  # it does not hold the chunk that it came from


# --- the range of the delays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_wild_steps_leave_no_delay_outside(optimiser):
    torch.manual_seed(1)
    layer = DelayedLinear(6, 5, max_delay=8)
    wild = optimiser([layer.delay], lr=1e3)
    for _ in range(5):
        y, _ = layer(torch.randn(30, 4, 6))
        assert layer.delay.min() >= 0 and layer.delay.max() <= 8
        wild.zero_grad()
        y.square().sum().backward()
        wild.step()
        assert layer.effective_kernel().isfinite().all()
    assert layer.delay.min() < 0 and layer.delay.max() > 8  # so the steps were wild indeed
    saved = layer.state_dict()["delay"]
    assert saved.min() >= 0 and saved.max() <= 8


@pytest.mark.parametrize("wall, target", [(0.0, 5), (8.0, 3)])
def test_a_delay_comes_back_from_the_wall(wall, target):
    """Even after the optimiser was pushed against the wall for a while: no momentum piles up there."""
    layer = DelayedLinear(1, 1, max_delay=8)
    layer.set_sigma(2.0)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.delay.fill_(wall)
    adam = torch.optim.Adam([layer.delay], lr=0.1)

    def learn(aim):
        kernel = layer(torch.eye(9)[:, :1].unsqueeze(1))[0].flatten()
        adam.zero_grad()
        (kernel * (torch.arange(9.0) - aim) ** 2).sum().backward()
        adam.step()

    for _ in range(100):
        learn(-20.0 if wall == 0 else 28.0)
    assert layer.delay.item() == wall
    for _ in range(100):
        learn(float(target))
    assert abs(layer.delay.item() - target) < 1.5


def test_eval_uses_the_range_without_touching_the_parameter():
    layer = DelayedLinear(1, 1, max_delay=4, kernel="rounded").eval()
    with torch.no_grad():
        layer.delay.fill_(9.0)
        layer.weight.fill_(1.0)
    assert layer(torch.eye(6)[:, :1].unsqueeze(1))[0].flatten().tolist() == [0, 0, 0, 0, 1, 0]
    assert layer.delay.item() == 9


# --- sigma and rounding ---------------------------------------------------------------------------------------------


def test_round_is_half_up_and_returns_the_layer():
    layer = DelayedLinear(4, 1, max_delay=8)
    with torch.no_grad():
        layer.delay.copy_(torch.tensor([[0.49999997, 0.5, 2.5, 7.6]]))
    assert layer.round_() is layer
    assert layer.delay.tolist() == [[0, 1, 3, 8]]
    assert layer.sigma.item() == 0


def test_rounded_delays_stay_through_momentum_and_weights_go_on_learning():
    layer = DelayedLinear(6, 5, max_delay=8)
    adam = torch.optim.Adam([{"params": [layer.weight]}, {"params": [layer.delay], "lr": 0.1}])

    def step():
        y, _ = layer(torch.randn(30, 4, 6))
        adam.zero_grad()
        (y - 1).square().mean().backward()
        adam.step()

    for _ in range(20):
        step()
    whole = layer.round_().delay.detach().clone()
    weights = layer.weight.detach().clone()
    for _ in range(20):
        step()
    assert layer.delay.grad.count_nonzero() == 0
    assert layer.state_dict()["delay"].equal(whole)
    assert not layer.weight.equal(weights)
    layer.set_sigma(1.0)  # learning again
    for _ in range(3):
        step()
    learnt = layer.state_dict()["delay"]
    assert not learnt.equal(learnt.round())


def test_sigma_zero_computes_rounded_but_changes_no_delay():
    layer = DelayedLinear(6, 5, max_delay=8)
    before = layer.delay.detach().clone()
    layer.set_sigma(0.0)
    x = spikes(20, 3, 6)
    y, _ = layer(x)
    assert layer.delay.equal(before)
    assert y.equal(copy.deepcopy(layer).round_()(x)[0])


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.03, 0.5, 12.0])
def test_no_nan_at_half_steps(sigma):
    layer = DelayedLinear(49, 3, max_delay=24)
    with torch.no_grad():
        layer.delay.copy_(torch.arange(49) / 2)
    layer.set_sigma(sigma)
    y, _ = layer(torch.randn(40, 2, 49))
    y.square().sum().backward()
    assert y.isfinite().all()
    assert layer.weight.grad.isfinite().all() and layer.delay.grad.isfinite().all()


def test_learn_delays_false_keeps_and_saves_them():
    layer = DelayedLinear(6, 5, max_delay=8, learn_delays=False)
    layer(torch.randn(9, 2, 6))[0].sum().backward()
    assert not layer.delay.requires_grad and layer.delay.grad is None and layer.weight.grad is not None
    assert "delay" in layer.state_dict()


# --- dtypes, saving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", PER)
def test_autocast_builds_the_kernel_in_float32(per):
    layer = DelayedLinear(6, 5, max_delay=24, per=per, bias=True)
    x, kernel = spikes(40, 3, 6), layer.effective_kernel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.effective_kernel().equal(kernel) and kernel.dtype == torch.float32
        y, state = layer(x)
        again, _ = layer(x[:7], state)
        none, _ = layer(x[:0], state)
    assert y.dtype == again.dtype == none.dtype == torch.bfloat16 and state.dtype == torch.float32
    # bfloat16 keeps 8 bits: of the kernel, of the sum, and with two products of what lies between them.
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=2**-6, atol=2**-6)
    y.float().sum().backward()
    assert layer.delay.grad.isfinite().all()


@pytest.mark.parametrize("per", PER)
def test_half_precision_weights_work(per):
    layer = DelayedLinear(6, 5, max_delay=8, per=per, bias=True).bfloat16()
    y, state = layer(spikes(20, 3, 6).bfloat16())
    assert y.dtype == state.dtype == torch.bfloat16 and y.isfinite().all()


def test_state_dict_pickle_and_copy_carry_sigma_and_delays():
    layer = DelayedLinear(6, 5, max_delay=8, bias=True)
    layer.set_sigma(0.6)
    assert sorted(layer.state_dict()) == ["bias", "delay", "sigma", "weight"]
    loaded = DelayedLinear(6, 5, max_delay=8, bias=True)
    loaded.load_state_dict(layer.state_dict())
    x = torch.randn(20, 3, 6)
    for other in (loaded, pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert other.sigma.item() == layer.sigma.item()
        assert other(x)[0].equal(layer(x)[0])


def test_delays_of_a_longer_layer_are_refused():
    saved = DelayedLinear(6, 5, max_delay=24).state_dict()
    with pytest.raises(RuntimeError, match=r"delay spans .* steps, max_delay=8"):
        DelayedLinear(6, 5, max_delay=8).load_state_dict(saved)
    saved["delay"][0, 0] = math.nan
    with pytest.raises(RuntimeError, match="delay spans nan"):
        DelayedLinear(6, 5, max_delay=24).load_state_dict(saved)


# --- what it refuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"max_delay": -1}, ValueError, "max_delay=-1 must be at least 0"),
        ({"max_delay": 24.0}, TypeError, "max_delay=24.0 is not a whole number"),
        ({"in_features": 0}, ValueError, "in_features=0 must be at least 1"),
        ({"out_features": 0}, ValueError, "out_features=0 must be at least 1"),
        ({"per": "neuron"}, ValueError, "per='neuron' is not one of 'synapse', 'axon', 'dendrite'"),
        ({"kernel": "box"}, ValueError, "kernel='box' is not one of 'gaussian', 'triangle', 'rounded'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"DelayedLinear: {message}"):
        DelayedLinear(**({"in_features": 3, "out_features": 2, "max_delay": 4} | arguments))


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_bad_sigma(sigma):
    layer = DelayedLinear(3, 2, 4)
    with pytest.raises(ValueError, match=f"DelayedLinear: sigma={sigma}"):
        layer.set_sigma(sigma)
    assert layer.sigma.item() == 2


def test_a_rounded_layer_has_no_width():
    layer = DelayedLinear(3, 2, 4, kernel="rounded")
    assert layer.sigma.item() == 0
    layer.set_sigma(0.0)
    with pytest.raises(ValueError, match="kernel='rounded' has no width"):
        layer.set_sigma(1.0)


@pytest.mark.parametrize(
    "x, state, error, message",
    [
        (torch.zeros(5, 2, 4), None, ValueError, r"x has shape \[5, 2, 4\], expected \[steps, batch, in_features=3\]"),
        (torch.zeros(5, 3), None, ValueError, r"x has shape \[5, 3\], expected"),
        (torch.zeros(5, 2, 3, dtype=torch.int64), None, TypeError, "x is int64, the weights are float32: use x.to"),
        (torch.zeros(5, 2, 3, dtype=torch.bool), None, TypeError, "x is bool, the weights are float32"),
        (torch.zeros(5, 2, 3, dtype=torch.float64), None, TypeError, "x is float64, the weights are float32"),
        (torch.zeros(5, 2, 3), torch.zeros(4, 7, 3), ValueError, r"state has shape \[4, 7, 3\], expected \[4, 2, 3\]"),
        (torch.zeros(5, 2, 3), torch.zeros(3, 2, 3), ValueError, r"state has shape \[3, 2, 3\], expected \[4, 2, 3\]"),
        (torch.zeros(5, 2, 3), torch.zeros(4, 2, 3).double(), TypeError, "state is float64, x is float32"),
    ],
)
def test_bad_input(x, state, error, message):
    with pytest.raises(error, match=f"DelayedLinear: {message}"):
        DelayedLinear(3, 2, max_delay=4)(x, state)


@pytest.mark.parametrize("per", PER)
def test_any_memory_layout_and_fewer_steps_than_the_longest_delay(per):
    torch.manual_seed(0)
    layer = DelayedLinear(5, 4, max_delay=9, per=per)
    x = torch.randn(3, 6, 10).transpose(0, 1)[:, :, ::2]  # [6, 3, 5]
    for steps in (6, 1, 0):
        y, state = layer(x[:steps])
        truth, kept = layer(x[:steps].contiguous())
        assert torch.equal(y, truth) and torch.equal(state, kept) and y.shape == (steps, 3, 4)


@pytest.mark.parametrize("per", PER)
def test_a_nan_is_seen_in_its_sample_and_nowhere_else(per):
    x = torch.randn(12, 3, 5)
    x[4, 1, 2] = math.nan
    y, _ = DelayedLinear(5, 4, max_delay=3, per=per)(x)
    assert y[:, 1].isnan().any() and y[:, 0].isfinite().all() and y[:, 2].isfinite().all()


def test_two_devices_are_refused():
    layer, x = DelayedLinear(3, 2, max_delay=4), torch.zeros(5, 2, 3)
    with pytest.raises(ValueError, match="DelayedLinear: x is on meta, the weights are on cpu"):
        layer(x.to("meta"))
    with pytest.raises(ValueError, match="DelayedLinear: state is on meta, x is on cpu"):
        layer(x, torch.zeros(4, 2, 3, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_autocast_does_not_cast_everything(dtype):
    layer = DelayedLinear(3, 2, max_delay=4)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(TypeError, match="the weights are float32"):
        layer(torch.zeros(5, 2, 3, dtype=dtype))


# --- several synapses, additive delays, groups ----------------------------------------------------------------------


def test_synapses_of_a_pair_are_layers_that_add_up():
    layer = DelayedLinear(6, 5, max_delay=8, synapses=3)
    assert layer.weight.shape == layer.delay.shape == (5, 6, 3)
    assert layer.weight.abs().max() <= math.sqrt(6 / 18)  # the fan-in counts synapses
    x, total = torch.randn(30, 2, 6), 0
    for k in range(3):
        one = DelayedLinear(6, 5, max_delay=8)
        one.load_state_dict({"weight": layer.weight[..., k], "delay": layer.delay[..., k], "sigma": layer.sigma})
        total = total + one(x)[0]
    torch.testing.assert_close(layer(x)[0], total, rtol=0, atol=1e-5)  # float32 sums of 18 synapses in another order


@pytest.mark.parametrize("per", ["axon", "dendrite"])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_synapses_that_share_delays_are_synapses_with_these(per, sigma):
    """Four delays an axon, or a dendrite, are the same as four synapses a pair that happen to have them."""
    torch.manual_seed(0)
    shared = DelayedLinear(6, 5, max_delay=8, per=per, synapses=4, bias=True).double()
    assert shared.weight.shape == (5, 6, 4) and shared.delay.shape == ((6, 4) if per == "axon" else (5, 4))
    each = DelayedLinear(6, 5, max_delay=8, synapses=4, bias=True).double()
    shared.set_sigma(sigma)
    delay = shared.delay.detach().unsqueeze(1 if per == "dendrite" else 0).expand_as(shared.weight)
    each.load_state_dict(shared.state_dict() | {"delay": delay})
    x = torch.randn(30, 2, 6, dtype=torch.float64)
    grad, sums = torch.randn(30, 2, 5, dtype=torch.float64), 1 if per == "dendrite" else 0
    gradients = []
    for layer in (shared, each):
        given = x.clone().requires_grad_()
        y, _ = layer(given)
        y.backward(grad)
        gradients.append((y, given.grad, layer.weight.grad, layer.bias.grad, layer.effective_kernel()))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(shared.delay.grad, each.delay.grad.sum(sums), rtol=0, atol=1e-12)


def test_additive_delays_have_half_the_range_each():
    layer = DelayedLinear(40, 30, max_delay=9, per="additive")
    assert layer.delay.shape == (70,)
    assert 4 < layer.delay[:40].max() <= 5 and 3 < layer.delay[40:].max() <= 4
    with torch.no_grad():
        layer.delay.fill_(50.0)
    layer(torch.randn(12, 1, 40))
    assert layer.delay.tolist() == [5.0] * 40 + [4.0] * 30
    # Variances of independent shifts add up: away from the ends the kernel has the layer's sigma.
    middle = DelayedLinear(1, 1, max_delay=40, per="additive")
    with torch.no_grad():
        middle.delay.fill_(10.0)
        middle.weight.fill_(1.0)
    middle.set_sigma(2.0)
    kernel, lags = middle.effective_kernel()[0, 0].double(), torch.arange(41.0)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-6)
    assert (kernel * lags).sum().item() == pytest.approx(20, abs=1e-4)
    assert (kernel * (lags - 20) ** 2).sum().sqrt().item() == pytest.approx(2.0, abs=1e-4)


def test_a_group_keeps_its_copies():
    layer = DelayedLinear(40, 30, max_delay=9, per="group", groups=3)
    assert layer.delay.shape == (3, 40) and layer.copies.shape == (30, 40)
    assert sorted(layer.copies.unique().tolist()) == [0, 1, 2]
    other = DelayedLinear(40, 30, max_delay=9, per="group", groups=3)
    assert not other.copies.equal(layer.copies)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(12, 2, 40)
    assert other(x)[0].equal(layer(x)[0]) and "groups=3" in repr(layer)


def test_bad_structures_are_refused():
    for arguments, message in (
        ({"synapses": 0}, "synapses=0 must be at least 1"),
        ({"synapses": 2, "per": "additive"}, "synapses=2 need per='synapse', 'axon' or 'dendrite', not 'additive'"),
        ({"groups": 0, "per": "group"}, "groups=0 must be at least 1"),
        ({"groups": 256, "per": "group"}, "groups=256 must be at most 255"),
        ({"per": "neuron"}, "per='neuron' is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            DelayedLinear(3, 2, 4, **arguments)


@pytest.mark.parametrize(
    "change", [{"synapses": 2}, {"per": "additive"}, {"per": "group", "groups": 2}, {"kernel": "spectral"}]
)
def test_further_structures_stream_learn_and_travel(change):
    layer = DelayedLinear(6, 5, max_delay=8, **change)
    layer.set_sigma(0.7)
    x = torch.randn(30, 2, 6)
    whole, _ = layer(x)
    first, state = layer(x[:11])
    rest, _ = layer(x[11:], state)
    torch.testing.assert_close(torch.cat([first, rest]), whole, rtol=0, atol=1e-5)  # float32 sums in another order
    whole.square().sum().backward()
    assert layer.delay.grad.count_nonzero() and layer.weight.grad.isfinite().all()
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x)[0], whole)
    torch.testing.assert_close(copy.deepcopy(layer)(x)[0], whole)


def test_sigma_is_written_and_loaded_without_a_stale_width():
    layer = DelayedLinear(6, 5, max_delay=8)
    x = torch.randn(30, 2, 6)
    layer(x)
    narrow = DelayedLinear(6, 5, max_delay=8).round_()
    layer.load_state_dict(narrow.state_dict())
    assert layer(x)[0].equal(narrow(x)[0])
    layer.sigma.fill_(2.0)
    narrow.set_sigma(2.0)
    assert layer(x)[0].equal(narrow(x)[0])
