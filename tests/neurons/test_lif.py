"""LIF against SpikingJelly's LIFNode, as a stream, and at the edges of its arguments."""

import copy
import io
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.neurons import LIF

# SpikingJelly adds (x - v) / tau to v, we scale v and x first: float64 rounding, over some tens of steps.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def spikingjelly():
    package = "spikingjelly.activation_based"
    return pytest.importorskip(f"{package}.neuron"), pytest.importorskip(f"{package}.surrogate")


SETTINGS = {
    "tau": st.sampled_from([1.005, 1.5, 2.0, 5.0, 20.0, 100.0]),
    "decay_input": st.booleans(),
    "v_reset": st.sampled_from([0.0, 0.2, -0.3, None]),
    "v_threshold": st.sampled_from([1.0, 0.4]),
    "detach_reset": st.booleans(),
    "surrogate": st.sampled_from([("Sigmoid", {}), ("ATan", {"alpha": 5.0}), ("PiecewiseQuadratic", {}), ("Erf", {})]),
    "seed": st.integers(0, 10_000),
}


def both(surrogate, dtype, **arguments):
    """Our layer and SpikingJelly's with the same settings, which is handed its own surrogate object."""
    neuron, surrogates = spikingjelly()
    function = getattr(surrogates, surrogate[0])(**surrogate[1])
    theirs = neuron.LIFNode(**arguments, surrogate_function=function, step_mode="m", store_v_seq=True)
    return LIF(**arguments, surrogate=function).to(dtype), theirs


def currents(seed, steps, arguments, dtype):
    """About a third of the steps fire, whatever tau divides."""
    g = torch.Generator().manual_seed(seed)
    scale = arguments["tau"] if arguments["decay_input"] else 1.0
    return (torch.randn(steps, 3, 7, generator=g, dtype=torch.float64).add(0.4) * scale).to(dtype).requires_grad_()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**SETTINGS)
def test_equals_spikingjelly_in_float64(seed, surrogate, **arguments):
    ours, theirs = both(surrogate, torch.float64, **arguments)
    x = currents(seed, 30, arguments, torch.float64)
    weights = torch.randn(2, 30, 3, 7, dtype=torch.float64)
    spikes, state = ours(x)
    their_spikes = theirs(x)
    assert torch.equal(spikes, their_spikes)
    torch.testing.assert_close(state, theirs.v, **CLOSE)
    grads = [
        torch.autograd.grad((s * weights[0]).sum() + (v * weights[1, -1]).sum(), x)[0]
        for s, v in ((spikes, state), (their_spikes, theirs.v))
    ]
    torch.testing.assert_close(*grads, **CLOSE)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(**SETTINGS)
def test_equals_spikingjelly_in_float32_up_to_the_threshold(seed, surrogate, **arguments):
    """Each neuron's first difference, if any, lies within 1e-5 of its threshold: there the roundings decide."""
    ours, theirs = both(surrogate, torch.float32, **arguments)
    x = currents(seed, 100, arguments, torch.float32)
    with torch.no_grad():
        spikes, _ = ours(x)
        their_spikes = theirs(x)
    for b, n in itertools.product(range(3), range(7)):
        differs = (spikes[:, b, n] != their_spikes[:, b, n]).nonzero()
        if len(differs):
            t = int(differs[0])
            before = theirs.v_seq[t - 1, b, n].double() if t else torch.tensor(arguments["v_reset"] or 0.0)
            rest = arguments["v_reset"] or 0.0
            gain = 1 / arguments["tau"] if arguments["decay_input"] else 1.0
            h = before - (before - rest) / arguments["tau"] + gain * x[t, b, n].double()
            assert abs(h.item() - arguments["v_threshold"]) < 1e-5


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 40), max_size=6),
    tau=st.sampled_from([1.005, 2.0, 20.0]),
    v_reset=st.sampled_from([0.0, 0.2, None]),
    learned=st.booleans(),
)
def test_stream_equals_whole_bit_for_bit(cuts, tau, v_reset, learned):
    layer = LIF(tau, v_reset=v_reset, size=5, trainable=("tau", "v_threshold") if learned else ())
    x = torch.randn(40, 2, 5) + 0.4
    whole, last = layer(x)
    state, parts = None, []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 40]):
        part, state = layer(x[start:stop], state)
        parts.append(part)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(state, last)


def test_starts_at_rest():
    assert torch.equal(LIF(v_reset=0.25)(torch.zeros(0, 2, 5))[1], torch.full((2, 5), 0.25))


def test_batch_neighbours_do_not_matter():
    x = torch.randn(20, 4, 5)
    whole, _ = LIF()(x)
    for b in range(4):
        assert torch.equal(LIF()(x[:, b : b + 1])[0], whole[:, b : b + 1])


@pytest.mark.parametrize("shape", [(6, 2), (6, 2, 5), (6, 2, 3, 4, 5)])
def test_shapes(shape):
    spikes, state = LIF()(torch.randn(shape))
    assert spikes.shape == shape and state.shape == shape[1:]


def test_per_neuron_values_are_the_neurons_apart():
    tau, threshold = torch.tensor([1.5, 2.0, 10.0]), torch.tensor([0.5, 1.0, 1.5])
    x = torch.randn(30, 2, 3) + 0.5
    together, state = LIF(tau, v_threshold=threshold, decay_input=True, v_reset=0.1)(x)
    for n in range(3):
        apart = LIF(tau[n].item(), v_threshold=threshold[n].item(), decay_input=True, v_reset=0.1)
        spikes, v = apart(x[..., n : n + 1])
        assert torch.equal(together[..., n : n + 1], spikes)
        # the decay is rounded to float32 before or after 1 - 1/tau
        torch.testing.assert_close(state[..., n : n + 1], v, rtol=1e-5, atol=1e-6)


def test_size_may_be_a_shape_that_broadcasts_over_maps():
    layer = LIF(size=(3, 1, 1), trainable=("tau",))
    spikes, _ = layer(torch.randn(5, 2, 3, 4, 4))
    spikes.sum().backward()
    assert layer.time_constant.logit.grad.shape == (3, 1, 1)


def test_learned_values_start_where_they_were_given():
    layer = LIF(torch.tensor([1.5, 20.0]), v_threshold=0.7, v_reset=0.2, trainable=("tau", "v_threshold"))
    torch.testing.assert_close(layer.tau, torch.tensor([1.5, 20.0]))
    torch.testing.assert_close(layer.v_threshold, torch.tensor([0.7, 0.7]))
    assert set(dict(layer.named_parameters())) == {"time_constant.logit", "threshold.raw"}
    assert not list(LIF(torch.tensor([1.5, 20.0])).parameters())


def test_learned_values_stay_in_range_whatever_the_optimiser_does():
    layer = LIF(2.0, v_reset=0.2, size=4, trainable=("tau", "v_threshold"))
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e3)
    for sign in (1, -1, 1):
        optimiser.zero_grad()
        (sign * layer(torch.randn(10, 2, 4) + 0.5)[0].sum()).backward()
        optimiser.step()
        decay, rate = layer.time_constant.decay_and_rate()
        assert (layer.tau >= 1).all() and (decay >= 0).all() and (decay <= 1).all() and (rate >= 0).all()
        assert (layer.v_threshold >= 0.2).all()


@pytest.mark.parametrize("v_reset", [0.0, 0.2, None])
def test_gradients_of_learned_values(v_reset):
    """Against finite differences, with a surrogate that is zero away from the threshold."""
    x = torch.randn(20, 2, 3, dtype=torch.float64)

    def loss(logit, raw):
        parameters = {"time_constant.logit": logit, "threshold.raw": raw}
        return torch.func.functional_call(layer, parameters, (x,))[1]

    arguments = {"v_reset": v_reset, "decay_input": True, "size": 3, "trainable": ("tau", "v_threshold")}
    layer = LIF(3.0, surrogate="boxcar(1e6)", **arguments).double()
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(loss, parameters)


def test_a_threshold_can_be_learned():
    """Gradient descent on the firing rate moves the threshold that sets it."""
    layer = LIF(size=1, trainable=("v_threshold",))
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    x = torch.rand(100, 8, 1)
    for _ in range(60):
        loss = (layer(x)[0].mean() - 0.1) ** 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert layer(x)[0].mean().item() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    layer = LIF(torch.tensor([2.0, 3.0]), size=2, trainable=("v_threshold",)).to(dtype)
    spikes, state = layer(torch.randn(9, 2, 2, dtype=dtype))
    assert spikes.dtype == dtype
    assert state.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert layer(torch.randn(9, 2, 2, dtype=dtype), state)[1].dtype == state.dtype


def test_default_dtype_does_not_reach_the_state():
    layer = LIF(size=2, trainable=("tau",))
    x = torch.randn(9, 2, 2, requires_grad=True)
    torch.set_default_dtype(torch.float64)
    try:
        spikes, state = layer(x)
        (grad,) = torch.autograd.grad(spikes.sum() + state.sum(), x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert spikes.dtype == state.dtype == grad.dtype == torch.float32
    assert torch.equal(spikes, layer(x)[0])


def test_autocast():
    model = torch.nn.Linear(4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        spikes, state = LIF(size=5, trainable=("tau",))(model(torch.randn(9, 2, 4)))
    assert (spikes.dtype, state.dtype) == (torch.bfloat16, torch.float32)


def test_copies_pickles_and_state_dicts():
    layer = LIF(torch.tensor([2.0, 3.0]), trainable=("v_threshold",))
    x = torch.randn(20, 2, 2)
    expected = layer(x)[0]
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = LIF(torch.tensor([9.0, 9.0]), trainable=("v_threshold",))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(other(x)[0], expected)
    assert "v_reset=0.0" in repr(layer) and "atan(2.0)" in repr(layer) and "[2], learned" in repr(layer)


def test_compiles_whole():
    layer = LIF(size=3, trainable=("tau", "v_threshold"), v_reset=0.1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, state = torch.randn(20, 2, 3), torch.zeros(2, 3)
    for ours, theirs in zip(compiled(x, state), layer(x, state), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpointing_and_repeated_calls_are_safe():
    """Nothing hides in the module, so running it twice changes nothing."""
    layer = LIF(size=3, trainable=("tau",))
    x = torch.randn(20, 2, 3, requires_grad=True)
    grads = []
    for run in (layer, lambda x: torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)):
        grads.append(torch.autograd.grad(run(x)[0].sum(), [x, layer.time_constant.logit]))
    torch.testing.assert_close(*grads, rtol=0, atol=0)


NAN = math.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": torch.tensor([2.0, 0.9])}, r"LIF: tau must be above 1 step.*values from 0\.9 to 2"),
        ({"v_threshold": 0.0}, r"v_threshold=0\.0 must be above 0\.0"),
        ({"v_threshold": 0.5, "v_reset": 0.5}, r"v_threshold=0\.5 must be above 0\.5"),
        ({"v_threshold": torch.tensor([1.0, -1.0])}, "v_threshold must be above"),
        ({"v_threshold": NAN}, "v_threshold=nan must be above"),
        ({"v_reset": NAN}, "v_reset=nan must be finite"),
        ({"trainable": ("tau",)}, "trainable 'tau' is learned per neuron; give size="),
        ({"trainable": ("decay",), "size": 3}, "trainable='decay' is not a parameter; it can hold tau, v_threshold"),
        ({"trainable": ("v_threshold",), "size": 3, "v_threshold": math.inf}, "infinite v_threshold cannot be learned"),
        ({"surrogate": "atam"}, "did you mean 'atan'"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LIF(**arguments)
