"""The runner against the network's own layers: spike for spike on the grid; chunks, states, bad input."""

import copy
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import temporal
from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays
from temporal.kernels import use
from temporal.layers import LastStep, MaxOverTime, MeanOverTime, SumSoftmax, fold
from temporal.neurons import ALIF, IF, LI, LIF, AdLIF, CubaLIF, ParametricLIF, Recurrent
from temporal.neurons.functional import lif
from temporal.streaming import Runner, runner
from temporal.streaming._dense import pays
from temporal.streaming._stages import stages_of

ENGINES = ("event", "auto", "dense")

NEURONS = {
    "LIF": lambda n: LIF(2.0),
    "LIF-soft": lambda n: LIF(torch.linspace(1.5, 9, n), v_reset=None, size=n),
    "LIF-decay": lambda n: LIF(4.0, decay_input=True, v_reset=-0.25, v_threshold=0.5),
    "IF": lambda n: IF(v_threshold=torch.linspace(0.5, 2, n)),
    "ParametricLIF": lambda n: ParametricLIF(3.0),
    "CubaLIF": lambda n: CubaLIF(2.0, 3.0),
    "ALIF": lambda n: ALIF(2.0, 9.0, size=n, trainable=("adaptation",)),
    "AdLIF": lambda n: AdLIF(2.0, 9.0, a=0.5, b=1.0, v_threshold=0.4),
    "AdLIF-Euler": lambda n: AdLIF(2.0, 9.0, a=0.5, b=1.0, v_threshold=0.4, symplectic=False),
    "Recurrent-LIF": lambda n: Recurrent(LIF(2.0), n),
    **{
        f"RecurrentDelays-{per}": lambda n, per=per: RecurrentDelays(LIF(2.0), n, 6, min_delay=2, per=per).round_()
        for per in ("synapse", "axon", "dendrite")
    },
    "Recurrent-AdLIF": lambda n: Recurrent(AdLIF(2.0, 9.0, a=0.5, b=1.0, v_threshold=0.4), n),
    "LI": lambda n: LI(2.0, decay_input=True),
    "none": lambda n: nn.Identity(),
}
SYNAPSES = {
    "synapse": lambda i, o, d: DelayedLinear(i, o, d, bias=True).round_(),
    "axon": lambda i, o, d: DelayedLinear(i, o, d, per="axon").round_(),
    "dendrite": lambda i, o, d: DelayedLinear(i, o, d, per="dendrite", bias=True).round_(),
    "rounded": lambda i, o, d: DelayedLinear(i, o, d, kernel="rounded"),
    "triangle": lambda i, o, d: DelayedLinear(i, o, d, kernel="triangle").round_(),
    "additive": lambda i, o, d: DelayedLinear(i, o, d, per="additive", bias=True).round_(),
    "group": lambda i, o, d: DelayedLinear(i, o, d, per="group", groups=3).round_(),
    "several": lambda i, o, d: DelayedLinear(i, o, d, synapses=3).round_(),
    "several-axon": lambda i, o, d: DelayedLinear(i, o, d, per="axon", synapses=4, bias=True).round_(),
    "several-dendrite": lambda i, o, d: DelayedLinear(i, o, d, per="dendrite", synapses=2).round_(),
    "pruned": lambda i, o, d: DelayedLinear(i, o, d).prune_(0.6).round_(),
    "pruned-axon": lambda i, o, d: DelayedLinear(i, o, d, per="axon").prune_(0.5).round_(),
    "linear": lambda i, o, d: nn.Linear(i, o),
}


def on_the_grid(network, unit=1024):
    """Weights on multiples of 2^-10, small enough for sums under 16."""
    with torch.no_grad():
        for layer in network.modules():
            for name in ("weight", "bias"):
                parameter = getattr(layer, name, None)
                if isinstance(parameter, nn.Parameter):
                    scale = 0.3 if name == "bias" else 0.6
                    parameter.copy_((torch.rand_like(parameter) * 1.6 - 0.6).mul(scale * unit).round() / unit)
    return network.eval()


def whole(network, x):
    with torch.inference_mode():
        return network(x)[0]


def in_chunks(runs, x, cuts):
    """Pieces of these lengths, single steps through ``step``, then the rest."""
    parts, start = [], 0
    for length in [*cuts, len(x)]:
        piece = x[start : start + length]
        parts.append(runs.step(piece[0])[None] if len(piece) == 1 else runs.run(piece))
        start += length
    return torch.cat(parts)


@st.composite
def networks(draw):
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    torch.manual_seed(draw(st.integers(0, 1000)))
    layers = []
    for place, (inputs, size) in enumerate(pairwise(sizes), start=2):
        layers.append(SYNAPSES[draw(st.sampled_from(sorted(SYNAPSES)))](inputs, size, draw(st.integers(0, 6))))
        # A product of real numbers by weights of a grid is on a finer one: only one layer of synapses may follow another.
        last = place == len(sizes)
        neuron = draw(st.sampled_from(sorted(NEURONS if last else set(NEURONS) - {"LI", "none"})))
        layers.append(NEURONS[neuron](size))
        if draw(st.booleans()):
            layers.append(temporal.Dropout(0.3))
    if draw(st.booleans()):
        layers = [temporal.Sequential(*layers[:2]), *layers[2:]]
    return on_the_grid(temporal.Sequential(*layers)), sizes[0]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    networks(),
    st.lists(st.integers(0, 9), max_size=4),
    st.integers(1, 3),
    st.sampled_from(["spikes", "counts", "eighths"]),
)
def test_equal_to_the_layers_on_the_grid_however_chunked(network_and_units, cuts, batch, kind):
    network, units = network_and_units
    x = torch.randint(0, {"spikes": 2, "counts": 3, "eighths": 9}[kind], (25, batch, units)).float()
    x = x / 8 if kind == "eighths" else x * (torch.rand_like(x) < 0.6)
    want = whole(network, x)
    for engine in ENGINES:
        torch.testing.assert_close(in_chunks(Runner(network, engine), x, cuts), want, rtol=0, atol=0)
    with use("reference"):
        torch.testing.assert_close(in_chunks(Runner(network, "event"), x, cuts), want, rtol=0, atol=0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(networks(), st.lists(st.integers(0, 9), max_size=3), st.sets(st.integers(0, 2)))
def test_equal_whichever_layers_are_products(network_and_units, cuts, products):
    network, units = network_and_units
    x = (torch.rand(25, 2, units) < 0.5).float()
    runs = Runner(network, "auto")
    runs._runs._which_multiply = lambda x: sorted(k for k in products if k < len(runs._runs._stages))
    torch.testing.assert_close(in_chunks(runs, x, cuts), whole(network, x), rtol=0, atol=0)


@pytest.mark.parametrize("neuron", sorted(NEURONS))
@pytest.mark.parametrize("synapses", sorted(SYNAPSES))
def test_every_neuron_behind_every_kind_of_synapses(synapses, neuron):
    torch.manual_seed(2)
    network = on_the_grid(temporal.Sequential(SYNAPSES[synapses](6, 7, 4), NEURONS[neuron](7)))
    x = (torch.rand(30, 2, 6) < 0.4).float()
    for engine in ("event", "dense"):
        torch.testing.assert_close(in_chunks(Runner(network, engine), x, [1, 9]), whole(network, x), rtol=0, atol=0)


@pytest.mark.parametrize("synapses", sorted(set(SYNAPSES) - {"linear"}))
def test_the_events_of_one_spike_are_the_effective_kernel(synapses):
    """An impulse at each input: what comes out, lag by lag, is the kernel that the layer says it has."""
    torch.manual_seed(3)
    layer = SYNAPSES[synapses](5, 6, 4)
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.zero_()
        kernel = layer.effective_kernel()  # [O, I, lag]
    x = torch.eye(5).expand(1, 5, 5)  # a sample for each input
    y = Runner(layer, "event").run(torch.cat([x, torch.zeros(4, 5, 5)]))
    torch.testing.assert_close(y, kernel.permute(2, 1, 0), rtol=0, atol=1e-6)  # of several synapses a sum of three


def test_the_networks_of_these_tests_fire():
    """All neurons, some of the time: else equality would say nothing."""
    for name, make in NEURONS.items():
        torch.manual_seed(0)
        network = on_the_grid(temporal.Sequential(nn.Linear(8, 8), make(8)))
        y = whole(network, (torch.rand(200, 2, 8) < 0.4).float())
        if name not in ("LI", "none"):
            assert 0.02 < y.mean() < 0.95, name


@pytest.mark.parametrize("engine", ["event", "auto"])
@pytest.mark.parametrize("seed", range(4))
def test_with_real_weights_a_first_difference_lies_on_the_threshold(engine, seed):
    torch.manual_seed(seed)
    delayed, decay = DelayedLinear(64, 64, 9).round_(), 0.5
    x = (torch.rand(300, 16, 64) < (0.9 if engine == "auto" else 0.3)).float()
    with torch.no_grad():
        current, _ = delayed(x)
        s, v, _ = lif(current, decay=decay, reset_to=0.0)
    runs = Runner(temporal.Sequential(delayed, LIF(2.0)), engine)
    differs = in_chunks(runs, x, [1, 1, 17, 60]) != s
    assert bool(runs._runs.__dict__.get("_products")) == (engine == "auto")
    first = differs & (differs.cumsum(0) == 1)
    charged = current + decay * torch.cat([torch.zeros_like(v[:1]), v[:-1]])
    assert 0.02 < s.mean() < 0.9
    assert not first.any() or (charged[first] - 1.0).abs().max() < 1e-5
    currents = in_chunks(Runner(delayed, engine), x, [1, 100])
    assert (currents - current).abs().max() < 1e-5  # sums of 64 numbers of size 1, each rounded to 6e-8


def batch_normalised():
    torch.manual_seed(0)
    network = temporal.Sequential(
        temporal.BatchNorm(6), DelayedLinear(6, 9, 5).round_(), temporal.BatchNorm(9), LIF(), nn.Linear(9, 4), LI(2.0)
    )
    for layer in network:
        if isinstance(layer, temporal.BatchNorm):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.2, 1)
    return network.eval()


def test_batch_normalisation_is_folded_also_where_nothing_is_before_it():
    network, x = batch_normalised(), torch.randn(40, 2, 6)
    y = Runner(network, "event").run(x)
    torch.testing.assert_close(y, whole(network, x), rtol=0, atol=1e-5)  # rounded once more in the folded weights
    assert len(Runner(network)._runs._stages) == 3


def trained():
    torch.manual_seed(1)
    return on_the_grid(
        temporal.Sequential(
            DelayedLinear(7, 20, 6).round_(), LIF(), DelayedLinear(20, 5, 3, per="dendrite").round_(), LI(2.0)
        )
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [SumSoftmax, LastStep, MaxOverTime, MeanOverTime])
def test_the_readout_of_all_steps_so_far(engine, kind):
    readout = kind()
    network, x = trained(), (torch.rand(30, 2, 7) < 0.4).float()
    runs = Runner(network, engine, readout=readout)
    assert runs.logits is None
    for end, piece in zip((10, 11, 30), x.split([10, 1, 19]), strict=True):
        runs.run(piece)
        want, _ = readout(whole(network, x[:end]))
        torch.testing.assert_close(runs.logits, want, rtol=0, atol=1e-5)  # votes of up to 30 steps, in another order


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_goes_through_a_file_and_reset_forgets(engine):
    network, x = trained(), (torch.rand(30, 2, 7) < 0.4).float()
    runs = Runner(network, engine, readout=SumSoftmax())
    runs.run(x[:13])
    file = io.BytesIO()
    torch.save(runs.state_dict(), file)
    file.seek(0)
    other = Runner(network, engine, readout=SumSoftmax())
    other.run(x[:3])
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other.logits, runs.logits, rtol=0, atol=0)
    assert other.steps == 13 and other.activity == runs.activity
    rest = runs.run(x[13:])
    torch.testing.assert_close(other.run(x[13:]), rest, rtol=0, atol=0)
    torch.testing.assert_close(other.logits, runs.logits, rtol=0, atol=0)
    runs.reset()
    assert runs.steps == 0 and runs.logits is None
    torch.testing.assert_close(runs.run(x[:, :1]), whole(network, x[:, :1]), rtol=0, atol=0)
    empty = Runner(network, engine)
    empty.load_state_dict(Runner(network, engine).state_dict())
    torch.testing.assert_close(empty.run(x), whole(network, x), rtol=0, atol=0)


def test_states_of_event_and_auto_are_the_same_and_others_are_refused():
    network, x = trained(), (torch.rand(30, 2, 7) < 0.4).float()
    event, auto, dense = (Runner(network, engine) for engine in ENGINES)
    event.run(x[:11])
    auto.load_state_dict(event.state_dict())
    torch.testing.assert_close(auto.run(x[11:]), whole(network, x)[11:], rtol=0, atol=0)
    with pytest.raises(ValueError, match="other kind of engine"):
        dense.load_state_dict(event.state_dict())
    with pytest.raises(ValueError, match="another network"):
        Runner(nn.Linear(7, 3)).load_state_dict(event.state_dict())
    with pytest.raises(ValueError, match="no batch"):
        auto.load_state_dict({"steps": 3})
    dense.run(x)
    with pytest.raises(ValueError, match=r"Runner.load_state_dict: .* another model's"):
        Runner(
            fold(
                temporal.Sequential(DelayedLinear(7, 20, 5).round_(), LIF(), DelayedLinear(20, 5, 3).round_(), LI(2.0))
            ),
            "dense",
        ).load_state_dict(dense.state_dict())


def test_arrays_and_tensors_of_any_kind():
    network, x = trained(), (torch.rand(12, 2, 7) < 0.4)
    want = whole(network, x.float())
    for engine in ENGINES:
        for kind in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64):
            torch.testing.assert_close(Runner(network, engine).run(x.to(kind)), want, rtol=0, atol=0)
        strided = torch.stack([x.float(), x.float()], dim=-1)[..., 0]
        torch.testing.assert_close(Runner(network, engine).run(strided), want, rtol=0, atol=0)
        y = Runner(network, engine).run(x.numpy()[:, ::-1])
        assert isinstance(y, np.ndarray)
        np.testing.assert_array_equal(y, want.numpy()[:, ::-1])
        given = x.float().numpy()
        runs = Runner(network, engine)
        first = runs.step(given[0]).copy()
        given[:] = 1  # a caller may refill its buffer
        np.testing.assert_array_equal(first, want[0].numpy())


@pytest.mark.parametrize("engine", ENGINES)
def test_no_step_no_sample_one_step_and_all_active(engine):
    network = trained()
    assert Runner(network, engine).run(torch.zeros(0, 2, 7)).shape == (0, 2, 5)
    assert Runner(network, engine).run(torch.zeros(4, 0, 7)).shape == (4, 0, 5)
    assert Runner(network, engine).step(torch.zeros(1, 7)).shape == (1, 5)
    x = torch.ones(40, 3, 7)
    torch.testing.assert_close(Runner(network, engine).run(x), whole(network, x), rtol=0, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("synapses", sorted(SYNAPSES))
def test_shorter_than_the_longest_delay_and_delays_of_no_steps(synapses, engine):
    torch.manual_seed(4)
    for max_delay, steps in ((9, 3), (0, 5)):
        network = on_the_grid(temporal.Sequential(SYNAPSES[synapses](6, 7, max_delay), LIF()))
        x = (torch.rand(steps, 2, 6) < 0.5).float()
        torch.testing.assert_close(in_chunks(Runner(network, engine), x, [1]), whole(network, x), rtol=0, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_fractions_and_negative_values_are_events_of_that_size(engine):
    """No spikes, but real numbers: computed right, not refused."""
    torch.manual_seed(5)
    layer = SYNAPSES["synapse"](6, 7, 4)
    x = torch.randn(20, 2, 6) * (torch.rand(20, 2, 6) < 0.5)
    torch.testing.assert_close(in_chunks(Runner(layer, engine), x, [1, 7]), whole(layer, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["event", "auto"])
def test_parts_of_other_dtypes_than_float32_are_taken_as_it(engine):
    """A network of mixed precision, and a chunk of another dtype than the one before it."""
    network = trained()
    mixed = copy.deepcopy(network)
    mixed[0].double()
    mixed[2].bfloat16()
    with torch.no_grad():
        network[2].weight.copy_(mixed[2].weight)
        network[2].delay.copy_(mixed[2].delay)
    x = (torch.rand(12, 2, 7) < 0.4).float()
    runs = Runner(mixed, engine)
    y = torch.cat([runs.run(x[:5].double()), runs.run(x[5:].to(torch.uint8))])
    torch.testing.assert_close(y, whole(network, x), rtol=0, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_finite_is_refused_and_nothing_taken(engine):
    network, x = trained(), (torch.rand(12, 2, 7) < 0.4).float()
    runs = Runner(network, engine)
    runs.run(x[:5])
    for bad in (torch.nan, torch.inf):
        spoilt = x[5:].clone()
        spoilt[3, 1, 2] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            runs.run(spoilt)
    with pytest.raises(ValueError, match="NaN or infinite"):
        runs.step(np.full((2, 7), np.nan))
    torch.testing.assert_close(runs.run(x[5:]), whole(network, x)[5:], rtol=0, atol=0)


def test_what_is_wrong_is_said():
    network = trained()
    runs = Runner(network)
    runs.run(torch.zeros(3, 2, 7))
    around_another = Recurrent(temporal.Sequential(LIF()), 3)
    for error, message, call in (
        (ValueError, r"\[2, 3, 7\]; \[B, units\]", lambda: runs.step(torch.zeros(2, 3, 7))),
        (ValueError, "time first", lambda: runs.run(torch.zeros(2, 7))),
        (ValueError, "8 units came, but the network takes 7", lambda: runs.step(torch.zeros(2, 8))),
        (ValueError, "goes on with one of 2.*reset", lambda: runs.step(torch.zeros(3, 7))),
        (TypeError, "complex64", lambda: runs.step(torch.zeros(2, 7, dtype=torch.complex64))),
        (TypeError, "complex128", lambda: runs.step(np.zeros((2, 7), complex))),
        (TypeError, "list", lambda: runs.step([[0.0] * 7])),
        (ValueError, "'auto', 'dense', 'event'", lambda: Runner(network, "fast")),
        (ValueError, "'float32', 'int8'", lambda: Runner(network, weights="int4")),
        (ValueError, "for the event engine", lambda: Runner(network, "dense", weights="int8")),
        (TypeError, "takes no state", lambda: Runner(network, readout=nn.Softmax(-1))),
        (TypeError, "model.network", lambda: Runner(temporal.Model(None, network, SumSoftmax()))),
        (TypeError, "GRU .layer 1.*dense", lambda: Runner(temporal.Sequential(nn.Linear(2, 3), nn.GRU(3, 3)))),
        (TypeError, "Sequential .in layer 1", lambda: Runner(temporal.Sequential(nn.Linear(2, 3), around_another))),
        (ValueError, r"sigma=3.*round_\(\)", lambda: Runner(temporal.Sequential(DelayedLinear(2, 3, 6)))),
        (ValueError, "training mode", lambda: Runner(batch_normalised().train())),
        (ValueError, "takes 4 inputs, but 3 come", lambda: Runner(temporal.Sequential(nn.Linear(2, 3), nn.Linear(4, 3)))),
        (ValueError, r"decay of shape \[4\], but 3", lambda: Runner(nn.Sequential(nn.Linear(2, 3), LIF(torch.ones(4) + 1)))),
        (ValueError, "size=4, but 3", lambda: Runner(temporal.Sequential(nn.Linear(2, 3), Recurrent(LIF(), 4)))),
        (ValueError, "how many neurons", lambda: Runner(temporal.Sequential(LIF()))),
        (ValueError, "no layer", lambda: Runner(temporal.Sequential(temporal.Dropout(0.1)))),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_a_network_may_begin_with_neurons():
    x = torch.randn(20, 2, 4) + 0.5
    for layers in (
        (LIF(), nn.Linear(4, 3)),
        (LIF(size=4), LI(2.0)),
        (Recurrent(LIF(), 4),),
        (LIF(), LIF(), nn.Linear(4, 2)),
    ):
        network = on_the_grid(temporal.Sequential(*layers))
        torch.testing.assert_close(Runner(network, "event").run(x), whole(network, x), rtol=0, atol=1e-6)


def test_a_single_layer_a_copy_and_float64():
    layer = on_the_grid(DelayedLinear(5, 4, 3).round_())
    x = (torch.rand(9, 1, 5) < 0.5).float()
    want = whole(layer, x)
    runs = Runner(layer)
    with torch.no_grad():
        layer.weight.zero_()
    torch.testing.assert_close(runs.run(x), want, rtol=0, atol=0)
    double = copy.deepcopy(trained()).double()
    x = torch.rand(9, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(Runner(double, "dense").run(x), whole(double, x), rtol=0, atol=0)


def test_int8_weights_are_the_nearest_and_their_error_is_told():
    network = temporal.Sequential(
        DelayedLinear(30, 20, 6).round_(), LIF(), Recurrent(LIF(), 20), nn.Linear(20, 5), LI(2.0)
    )
    runs = Runner(network, "event", weights="int8")
    assert list(runs.quantisation_error) == ["0", "2", "3"] and Runner(network).quantisation_error == {}
    near = copy.deepcopy(network)
    with torch.no_grad():
        for layer in (near[0], near[2], near[3]):
            largest = layer.weight.abs().amax(1, keepdim=True)
            if isinstance(layer, Recurrent):
                largest = largest.clamp(min=1)  # the currents that reach it are weighted by 1
            scale = largest / 127
            layer.weight.copy_((layer.weight / scale).round() * scale)
    for name, layer, rounded in (("0", network[0], near[0]), ("3", network[3], near[3])):
        error = (layer.weight - rounded.weight).norm() / layer.weight.norm()
        assert abs(runs.quantisation_error[name] - error) < 1e-6
        assert 0.001 < error < 0.01  # of 127 levels, a uniform error of up to half of one
    x = (torch.rand(60, 4, 30) < 0.2).float()
    first = Runner(temporal.Sequential(network[0]), weights="int8").run(x)
    torch.testing.assert_close(first, whole(temporal.Sequential(near[0]), x), rtol=0, atol=1e-5)
    auto = Runner(network[:1], "auto", weights="int8")
    auto._runs._which_multiply = lambda x: [0]
    torch.testing.assert_close(auto.run(x), first, rtol=0, atol=1e-5)
    assert (runs.run(x) - whole(near, x)).abs().max() < 0.5  # a spike may differ


def test_the_activity_decides_by_the_rule():
    torch.manual_seed(0)
    network = temporal.Sequential(DelayedLinear(64, 64, 24).round_(), LIF(), nn.Linear(64, 5), LI(2.0))
    runs = Runner(network)
    for share, products in ((0.02, set()), (0.4, set()), (1.0, {0})):
        x = (torch.rand(128, 8, 64) < share).float()
        for _ in range(6):
            runs.run(x)
        assert abs(runs.activity["0"] - x.mean()) < 0.02
        assert set(runs._runs._products) - {1} == products, share
    runs = Runner(network)
    for features in torch.ones(50, 1, 64):
        runs.step(features)
    assert not runs._runs._products, "a single step never pays"


@pytest.mark.parametrize(
    ("layer", "break_even"),
    [
        (DelayedLinear(256, 256, 24).round_(), 0.8),
        (DelayedLinear(256, 256, 24, per="axon").round_(), 0.9),
        (DelayedLinear(256, 256, 24, per="dendrite").round_(), 0.33),
        (nn.Linear(256, 256), 0.33),
    ],
    ids=["synapse", "axon", "dendrite", "linear"],
)
def test_the_rule_is_the_one_that_is_written(layer, break_even):
    (stage,) = stages_of(layer).values()
    assert not pays(stage, 100, 32, break_even - 0.05) and pays(stage, 100, 32, break_even + 0.06)
    assert not pays(stage, 1, 32, 1.0)


def test_a_long_run_goes_in_pieces(monkeypatch):
    network, x = trained(), (torch.rand(50, 2, 7) < 0.4).float()
    monkeypatch.setattr(runner, "_EVENTS", 100)
    runs = Runner(network)
    assert runs._runs._piece == 5
    torch.testing.assert_close(runs.run(x), whole(network, x), rtol=0, atol=0)


# --- layers that hold one of delayed synapses -------------------------------------------------------------------------


class Flat(nn.Module):
    """Bands of a step side by side, [T, B, 8], as 2 channels of 4 positions for a convolution, and back."""

    def __init__(self):
        super().__init__()
        self.convolution = DelayedConv1d(2, 3, 3, 5, padding=1).round_()

    def forward(self, x, state=None):
        y, state = self.convolution(x.unflatten(2, (2, 4)), state)
        return y.flatten(2), state


def holders():
    return {
        "DelayedConv1d": temporal.Sequential(Flat(), LIF(2.0)),
        "RecurrentDelays": temporal.Sequential(
            DelayedLinear(8, 5, 3).round_(), RecurrentDelays(LIF(2.0), 5, 6).round_()
        ),
    }


@pytest.mark.parametrize("name", ["DelayedConv1d", "RecurrentDelays"])
def test_the_dense_engine_leaves_them_whole(name):
    network = on_the_grid(holders()[name])
    x = (torch.rand(30, 2, 8) < 0.4).float()
    assert in_chunks(Runner(network, "dense"), x, (7, 1, 12)).equal(whole(network, x))


def test_the_event_engine_refuses_positions_and_names_the_engine_that_has_them():
    for network in (temporal.Sequential(DelayedConv1d(2, 3, 3, 5).round_(), LIF(2.0)), holders()["DelayedConv1d"]):
        for engine in ("event", "auto"):
            kind = type(network[0]).__name__
            with pytest.raises(TypeError, match=rf'does not have {kind} \(layer 0\).*engine="dense" runs it as it is'):
                Runner(network, engine)


def test_recurrent_delays_in_training_or_of_another_size_are_refused():
    wide = temporal.Sequential(nn.Linear(8, 5), RecurrentDelays(LIF(2.0), 5, 6)).eval()
    with pytest.raises(ValueError, match=r"layer 1, RecurrentDelays, spreads its delays over several steps"):
        Runner(wide)
    with pytest.raises(ValueError, match=r"layer 1, RecurrentDelays, has size=5, but 4 currents come to it"):
        Runner(temporal.Sequential(nn.Linear(8, 4), RecurrentDelays(LIF(2.0), 5, 6).round_()).eval())
