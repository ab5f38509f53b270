"""Every neuron against autograd on a plain loop of its equations as they were published: values and all gradients.

Here the reference runs; test_scan_cpu.py compares the compiled kernels with it, and test_operator.py holds what torch asks
of an operator.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels._scan import Feedback, NeuronOperator
from temporal.kernels.adaptive import adaptive
from temporal.kernels.adaptive_late import adaptive_late
from temporal.kernels.cuba import cuba
from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate
from temporal.neurons import ALIF, IF, LIF, AdLIF, CubaLIF, ParametricLIF, Recurrent, functional

# The same float64 operations in another order of accumulation.
CLOSE = {"rtol": 1e-10, "atol": 1e-11}


@pytest.fixture(autouse=True)
def _reference():
    with use("reference"):
        yield


# ---- the equations, one step each: carry, current -> spike, carry, whose first part is the membrane ----


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, surrogate, strict):
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0 if strict else distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        return grad * ctx.surrogate(distance), None, None


class Threshold:
    """What happens at the threshold, differentiated by autograd."""

    def __init__(self, strict=False, detach_reset=True, surrogate="atan"):
        self.strict, self.detach_reset, self.surrogate = strict, detach_reset, Surrogate.resolve(surrogate)

    def fire(self, h, threshold):
        return Spike.apply(h - threshold, self.surrogate, self.strict)

    def reset(self, h, s, reset_by, reset_to):
        s = s.detach() if self.detach_reset else s
        return h - s * reset_by if reset_to is None else (1 - s) * h + s * reset_to


def lif_step(carry, x, rule, *, decay, gain=1, bias=0, threshold=1, reset_by=None, reset_to=None):
    h = decay * carry[0] + gain * x + bias
    s = rule.fire(h, threshold)
    return s, (rule.reset(h, s, threshold if reset_by is None else reset_by, reset_to),)


def li_step(carry, x, rule, *, decay, gain=1, bias=0):
    v = decay * carry[0] + gain * x + bias
    return torch.zeros_like(v), (v,)


def cuba_step(carry, x, rule, *, decay, i_decay, gain=1, bias=0, threshold=1, reset_by=None, reset_to=None):
    v, i = carry
    i = i_decay * i + x
    s, (v,) = lif_step((v,), i, rule, decay=decay, gain=gain, bias=bias, threshold=threshold, reset_by=reset_by,
                       reset_to=reset_to)  # fmt: skip
    return s, (v, i)


def alif_step(carry, x, rule, *, decay, w_decay, adaptation, threshold=1, jump=1, gain=1, bias=0, reset_by=None,
              reset_to=None, reset_lift=0):  # fmt: skip
    """Bellec et al. 2018: A[t] = threshold + adaptation a[t], a[t] = w_decay a[t-1] + jump z[t-1]; a before the step."""
    v, a = carry
    h = decay * v + gain * x + bias
    s = rule.fire(h, threshold + adaptation * a)
    v = rule.reset(h, s, (threshold if reset_by is None else reset_by) + reset_lift * a, reset_to)
    return s, (v, w_decay * a + jump * s)


def symplectic_step(carry, x, rule, *, decay, w_decay, a, b, threshold=1, reset_by=None, reset_to=None):
    """Baronig et al. 2024, the symplectic Euler form."""
    u, w = carry
    u_hat = decay * u + (1 - decay) * (x - w)
    s = rule.fire(u_hat, threshold)
    u = rule.reset(u_hat, s, threshold if reset_by is None else reset_by, reset_to)
    return s, (u, w_decay * w + (1 - w_decay) * (a * u + b * s))


def euler_step(carry, x, rule, *, decay, w_decay, a, b, threshold=1, reset_by=None, reset_to=None):
    """Baronig et al. 2024, the forward Euler form. The first w has predecessors that only the state knows of."""
    u, w, *before = carry
    u_hat = decay * u + (1 - decay) * (x - w)
    s = rule.fire(u_hat, threshold)
    w = before[0] if len(before) == 1 else w_decay * w + (1 - w_decay) * (a * u + b * before[1])
    u = rule.reset(u_hat, s, threshold if reset_by is None else reset_by, reset_to)
    return s, (u, w, None, s)


def euler_state(carry, *, w_decay, a, b, **others):
    """The state of the layer, which holds the adaptation one step ahead."""
    if len(carry) == 3:
        return carry
    u, w, _, s = carry
    return u, w, w_decay * w + (1 - w_decay) * (a * u + b * s)


def plain(neuron, x, state, knobs, rule, lengths=None, truncate=None, weight=None, sent=None):
    """Spikes, membranes and the last state of a plain loop; of several lengths, from every sample's own loop."""
    if lengths is not None:
        runs = []
        for b, n in enumerate(lengths.tolist()):
            own = [part[b : b + 1] for part in (*state, *([] if sent is None else [sent]))]
            parts, before = own[: len(state)], None if sent is None else own[-1]
            spikes, v, last = plain(neuron, x[:n, b : b + 1], parts, knobs, rule, None, truncate, weight, before)
            rest = x.new_zeros(len(x) - n, 1, *x.shape[2:])
            runs.append((torch.cat([spikes, rest]), torch.cat([v, rest]), *last))
        spikes, v, *last = (torch.cat(parts, min(1, k)) for k, parts in _with_axis(zip(*runs, strict=True)))
        return spikes, v, tuple(last)
    carry, rule, none = tuple(state), Threshold(**rule), x.detach()[:0]
    spikes, membranes = [none], [none]
    for t, current in enumerate(x.unbind(0)):
        if truncate and t and t % truncate == 0:
            carry = tuple(part.detach() for part in neuron.finish(carry, **knobs))
            sent = None if sent is None else sent.detach()
        if weight is not None:
            current = current + sent @ weight.t()
        sent, carry = neuron.step(carry, current, rule, **knobs)
        spikes.append(sent.unsqueeze(0))
        membranes.append(carry[0].unsqueeze(0))
    return torch.cat(spikes), torch.cat(membranes), tuple(neuron.finish(carry, **knobs))


def _with_axis(columns):
    """Spikes and membranes have samples on axis 1, parts of the state on axis 0."""
    return ((1 if k < 2 else 0, column) for k, column in enumerate(columns))


# ---- the table ----


def _settings(*, threshold=1.0, reset_by=None, reset_to=None, **knobs):
    """The operator's knobs from the function's, where both say the same."""
    reset = reset_to if reset_to is not None else threshold if reset_by is None else reset_by
    return {"gain": 1.0, "bias": 0.0, **knobs, "threshold": threshold, "reset": reset}


def _alif_settings(*, adaptation, **knobs):
    fixed = {"reset_lift": 0.0, "jump": 1.0, "brake": 0.0, "pull": 0.0}
    return {**fixed, **_settings(**knobs), "lift": adaptation}


def _adlif_settings(*, decay, w_decay, a, b, **knobs):
    mine = {"gain": 1 - decay, "brake": 1 - decay, "pull": (1 - w_decay) * a, "jump": (1 - w_decay) * b}
    return {**_settings(decay=decay, w_decay=w_decay, **knobs), "reset_lift": 0.0, "lift": 0.0, **mine}


class Neuron(NamedTuple):
    """function(x, state, **knobs) -> spikes, membranes, state; its plain step; its operator, and the knobs of that."""

    function: Callable
    step: Callable
    operator: NeuronOperator
    settings: Callable
    parts: int  # of the state
    ranges: dict[str, tuple[float, float]]
    scale: float = 1.0  # of the currents
    finish: Callable = lambda carry, **knobs: carry


def _lif(x, state=(None,), **rest):
    spikes, v, last = functional.lif(x, *state, **rest)
    return spikes, v, (last,)


def _li(x, state=(None,), *, strict=False, detach_reset=True, surrogate="atan", **rest):
    v, last = functional.li(x, *state, **rest)
    return torch.zeros_like(x), v, (last,)


def _adlif_euler(x, state=None, **rest):
    return functional.adlif(x, state, symplectic=False, **rest)


_COMMON = {"gain": (0.5, 1.5), "bias": (-0.1, 0.2)}
_ADAPTS = {"w_decay": (0.5, 0.95), "adaptation": (0.1, 0.6), "jump": (0.3, 1)}
_FOLLOWS = {"w_decay": (0.5, 0.9), "a": (-0.4, 1), "b": (0.1, 2)}
NEURONS = {
    "lif": Neuron(_lif, lif_step, lif, _settings, 1, _COMMON),
    "li": Neuron(_li, li_step, lif, lambda **k: _settings(threshold=math.inf, reset_by=0.0, **k), 1, _COMMON),
    "cuba": Neuron(functional.cuba_lif, cuba_step, cuba, _settings, 2, {"i_decay": (0.2, 0.8), **_COMMON}, 0.7),
    "alif": Neuron(functional.alif, alif_step, adaptive, _alif_settings, 2, {**_ADAPTS, **_COMMON}),
    "alif, reset lifted": Neuron(
        functional.alif, alif_step, adaptive, _alif_settings, 2, {**_ADAPTS, "reset_lift": (0.1, 0.6)}
    ),
    "adlif, symplectic": Neuron(
        functional.adlif, symplectic_step, adaptive, _adlif_settings, 2, {**_FOLLOWS, "a": (-0.4, 2)}, 2.0
    ),
    "adlif, euler": Neuron(
        _adlif_euler, euler_step, adaptive_late, _adlif_settings, 3, _FOLLOWS, 2.0, euler_state
    ),
}  # fmt: skip
SPIKING = [name for name in NEURONS if name != "li"]
every_neuron = pytest.mark.parametrize("name", NEURONS)
every_spiking_neuron = pytest.mark.parametrize("name", SPIKING)


class Case(NamedTuple):
    """What a neuron is run on; every tensor asks for its gradient."""

    x: torch.Tensor
    state: tuple
    knobs: dict[str, torch.Tensor]

    def learned(self):
        return [self.x, *self.state, *self.knobs.values()]

    def names(self):
        return ["x", *(f"state {k}" for k in range(len(self.state))), *self.knobs]


def random_case(name, seed, steps, batch, features, hard=True, per_neuron=True, dtype=torch.float64) -> Case:
    """Currents that fire in about a third of the steps."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return (low + (high - low) * torch.rand(*shape, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()

    neuron, size = NEURONS[name], {True: features, False: (), "last axis": features[-1:]}[per_neuron]
    knobs = {"decay": uniform(0.2, 0.8, size), **{knob: uniform(*r, size) for knob, r in neuron.ranges.items()}}
    if name != "li":
        knobs["threshold"] = uniform(0.5, 0.9, size)
        if hard:
            knobs["reset_to"] = uniform(-0.2, 0.3, size)
        elif seed % 2:
            knobs["reset_by"] = uniform(0.5, 1.2, size)
    state = tuple(uniform(-0.3, 0.5, batch, *features) for _ in range(neuron.parts))
    return Case(uniform(-0.6 * neuron.scale, 1.5 * neuron.scale, steps, batch, *features), state, knobs)


def recurrent_weight(size, seed=3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, size, generator=g, dtype=torch.float64).mul(0.5).to(dtype).requires_grad_()


def flat(outputs):
    spikes, membranes, state = outputs
    return [spikes, membranes, *state]


def loss_of(outputs: list) -> torch.Tensor:
    """A weighted sum; 16 bits hold the weights exactly, so they reach the operator unrounded whatever the outputs' dtype."""
    g = torch.Generator().manual_seed(7)
    weights = [torch.randn(o.shape, generator=g).bfloat16().half().double() for o in outputs]
    return sum((o.double() * w).sum() for o, w in zip(outputs, weights, strict=True))


def with_gradients(outputs: Any, inputs: list) -> tuple[list, tuple]:
    outputs = flat(outputs)
    return outputs, torch.autograd.grad(loss_of(outputs), inputs, materialize_grads=True)


def assert_same(ours: tuple[list, tuple], theirs: tuple[list, tuple], names: list[str], **close):
    """Equal spikes; membranes, states and gradients that are close."""
    close = close or CLOSE
    (outputs, grads), (expected, expected_grads) = ours, theirs
    assert torch.equal(outputs[0], expected[0])
    torch.testing.assert_close(outputs[1:], expected[1:], **close)
    for name, a, b in zip(names, grads, expected_grads, strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"gradient of {name}: {text}", **close)


# ---- values and gradients ----


@every_neuron
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 40),
    batch=st.integers(1, 3),
    features=st.sampled_from([(), (1,), (5,), (2, 3)]),
    hard=st.booleans(),
    per_neuron=st.sampled_from([True, False, "last axis"]),
    ragged=st.booleans(),
    truncate=st.sampled_from([None, None, 1, 7, 16, 20]),
    strict=st.booleans(),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["sigmoid", "atan(5.0)", "triangle", "superspike", "multi_gaussian"]),
)
def test_equals_autograd_on_a_plain_loop(
    name, seed, steps, batch, features, hard, per_neuron, ragged, truncate, **rule
):
    case = random_case(name, seed, steps, batch, features, hard, per_neuron)
    lengths = torch.randint(0, steps + 1, (batch,)) if ragged else None
    ours = NEURONS[name].function(case.x, case.state, **case.knobs, **rule, lengths=lengths, truncate=truncate)
    theirs = plain(NEURONS[name], *case, rule, lengths, truncate)
    assert_same(with_gradients(ours, case.learned()), with_gradients(theirs, case.learned()), case.names())


@every_spiking_neuron
@pytest.mark.parametrize("hard", [True, False])
def test_the_cases_here_fire_and_are_silent(name, hard):
    case = random_case(name, 1, 40, 3, (20,), hard)
    assert 0.1 < NEURONS[name].function(case.x, case.state, **case.knobs)[0].mean() < 0.7


@every_neuron
@pytest.mark.parametrize("used", [0, 1, 2, -1], ids=["spikes", "v_sequence", "v", "last part of the state"])
def test_gradient_of_each_output_alone(name, used):
    case = random_case(name, 3, 33, 2, (4,))
    for detach_reset in (True, False):
        rule = {"detach_reset": detach_reset}
        ours = NEURONS[name].function(case.x, case.state, **case.knobs, **rule)
        theirs = plain(NEURONS[name], *case, rule)
        if not flat(theirs)[used].requires_grad:
            assert name == "li" and used == 0
            continue
        grads = (
            torch.autograd.grad(flat(outputs)[used].sin().sum(), case.learned(), materialize_grads=True)
            for outputs in (ours, theirs)
        )
        torch.testing.assert_close(*grads, **CLOSE)


@every_neuron
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_gradcheck(name, hard, detach_reset):
    """With a surrogate that is zero but within 5e-7 of the threshold, the gradient is the true derivative."""
    case = random_case(name, 11, 10, 1, (2,), hard)
    parts = len(case.state)

    def run(x, *rest):
        knobs = dict(zip(case.knobs, rest[parts:], strict=True))
        rule = {"detach_reset": detach_reset, "surrogate": "boxcar(1e6)"}
        outputs = flat(NEURONS[name].function(x, rest[:parts], **knobs, **rule))
        return tuple(outputs[1:] if name == "li" else outputs)

    assert torch.autograd.gradcheck(run, tuple(case.learned()))


@every_neuron
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 50), max_size=6),
    hard=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_stream_equals_whole_bit_for_bit(name, cuts, hard, dtype):
    function = NEURONS[name].function
    x, state, knobs = random_case(name, 5, 50, 3, (7,), hard, dtype=torch.float32)
    x = x.to(dtype)
    whole = flat(function(x, state, **knobs))
    parts = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 50]):
        *part, state = function(x[start:stop], state, **knobs)
        parts.append(part)
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, whole[2:], strict=True))


# ---- lengths ----


@every_neuron
@pytest.mark.parametrize("truncate", [None, 5])
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_each_sample_equals_its_own_run_alone(name, garbage, truncate):
    """Whatever stands in the padding, and whatever gradient arrives there."""
    function, steps, lengths = NEURONS[name].function, 24, torch.tensor([24, 0, 17, 1, 16])
    clean, state, knobs = random_case(name, 2, steps, len(lengths), (3,), hard=False)
    padding = (torch.arange(steps)[:, None] >= lengths)[..., None].expand(clean.shape)
    x = clean.detach().masked_fill(padding, garbage).requires_grad_()
    rule = {"detach_reset": False, "truncate": truncate}
    outputs = flat(function(x, state, **knobs, **rule, lengths=lengths))
    for output in outputs[:2]:
        assert torch.equal(output[padding], torch.zeros_like(output[padding]))

    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=g, dtype=o.dtype) for o in outputs]
    for weight in weights[:2]:
        weight[padding] = garbage
    learns = [k for k, o in enumerate(outputs) if o.requires_grad]
    ours = torch.autograd.grad([outputs[k] for k in learns], [x, *state, *knobs.values()], [weights[k] for k in learns])
    assert torch.equal(ours[0][padding], torch.zeros_like(ours[0][padding]))

    shared = [torch.zeros_like(knob) for knob in knobs.values()]
    for b, n in enumerate(lengths.tolist()):
        own = [clean[:n, b : b + 1], *(part[b : b + 1] for part in state)]
        alone = flat(function(own[0], tuple(own[1:]), **knobs, **rule))
        expected = [o[:n, b : b + 1] if k < 2 else o[b : b + 1] for k, o in enumerate(outputs)]
        assert all(torch.equal(a, e) for a, e in zip(alone, expected, strict=True))
        own_weights = [w[:n, b : b + 1] if k < 2 else w[b : b + 1] for k, w in enumerate(weights)]
        grads = torch.autograd.grad(
            [alone[k] for k in learns], [*own, *knobs.values()], [own_weights[k] for k in learns],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        got = [ours[0][:n, b : b + 1], *(grad[b : b + 1] for grad in ours[1 : len(own)])]
        torch.testing.assert_close(got, list(grads[: len(own)]), **CLOSE)
        shared = [total + grad for total, grad in zip(shared, grads[len(own) :], strict=True)]
    torch.testing.assert_close(list(ours[len(own) :]), shared, **CLOSE)


@every_neuron
def test_lengths_of_all_steps_change_nothing(name):
    case = random_case(name, 4, 20, 3, (2, 3))
    runs = [NEURONS[name].function(case.x, case.state, **case.knobs, lengths=n) for n in (None, torch.full((3,), 20))]
    ours, theirs = (with_gradients(outputs, case.learned()) for outputs in runs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# ---- truncated back-propagation ----


def in_chunks(run, x, state, k, lengths=None):
    """The same steps, k at a time, without a gradient from one chunk to the one before."""
    spikes, membranes, steps = [], [], len(x)
    for start in range(0, steps, k):
        if start:
            state = tuple(part.detach() for part in state)
        own = None if lengths is None else (lengths - start).clamp(0, min(k, steps - start))
        s, v, state = run(x[start : start + k], state, own)
        spikes.append(s)
        membranes.append(v)
    return torch.cat(spikes), torch.cat(membranes), state


@every_neuron
@pytest.mark.parametrize("k", [1, 3, 16, 21, 40, 50])
def test_truncate_equals_chunks_with_the_state_detached_between(name, k):
    case, function = random_case(name, 6, 40, 2, (4,), hard=False), NEURONS[name].function
    whole = function(case.x, case.state, **case.knobs, detach_reset=False, truncate=k)

    def run(x, state, lengths):
        return function(x, state, **case.knobs, detach_reset=False)

    theirs = in_chunks(run, case.x, case.state, k)
    assert_same(with_gradients(whole, case.learned()), with_gradients(theirs, case.learned()), case.names())


@every_neuron
@pytest.mark.parametrize("k", [1, 5, 16])
def test_truncate_with_lengths(name, k):
    """Without the last state, of which a sample that has ended keeps the gradient and chunks do not."""
    case, function = random_case(name, 7, 33, 4, (3,)), NEURONS[name].function
    lengths = torch.tensor([0, 33, 16, 11])
    spikes, v, _ = function(case.x, case.state, **case.knobs, lengths=lengths, truncate=k)

    def run(x, state, lengths):
        return function(x, state, **case.knobs, lengths=lengths)

    chunks = in_chunks(run, case.x, case.state, k, lengths)
    ours, theirs = (with_gradients((*outputs[:2], ()), case.learned()) for outputs in ((spikes, v), chunks))
    assert_same(ours, theirs, case.names())


# ---- recurrent weights ----


def operate(name, case, weight, sent, lengths=None, truncate=None, **rule):
    """The operator itself, with recurrent weights."""
    neuron = NEURONS[name]
    values = neuron.settings(**case.knobs)
    knobs = neuron.operator.family.knobs(**{k: torch.as_tensor(v, dtype=case.x.dtype) for k, v in values.items()})
    rule = {"strict": name == "li", "detach_reset": True, "surrogate": "atan", **rule}
    rule["surrogate"] = Surrogate.resolve(rule["surrogate"])
    return neuron.operator(
        case.x, neuron.operator.family.state(*case.state), knobs, hard="reset_to" in case.knobs, v_sequence=True,
        feedback=Feedback(weight, sent), lengths=lengths, truncate=truncate or 0, **rule,
    )  # fmt: skip


@every_spiking_neuron
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 40),
    batch=st.integers(1, 3),
    size=st.sampled_from([1, 5]),
    hard=st.booleans(),
    per_neuron=st.booleans(),
    ragged=st.booleans(),
    truncate=st.sampled_from([None, None, 1, 7, 16]),
    strict=st.booleans(),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["atan", "sigmoid", "triangle"]),
)
def test_recurrent_weights_equal_a_plain_loop(
    name, seed, steps, batch, size, hard, per_neuron, ragged, truncate, **rule
):
    case = random_case(name, seed, steps, batch, (size,), hard, per_neuron)
    weight = recurrent_weight(size, seed)
    sent = torch.randint(0, 2, (batch, size)).double().requires_grad_()
    lengths = torch.randint(0, steps + 1, (batch,)) if ragged else None
    inputs, names = [*case.learned(), weight, sent], [*case.names(), "weight", "sent"]
    ours = operate(name, case, weight, sent, lengths, truncate, **rule)
    theirs = plain(NEURONS[name], *case, rule, lengths, truncate, weight, sent)
    # gradients grow through the weights, and their rounding errors with them
    grown = {
        "rtol": 1e-8,
        "atol": 1e-8 * max(1.0, max(g.abs().max().item() for g in with_gradients(theirs, inputs)[1])),
    }
    theirs = plain(NEURONS[name], *case, rule, lengths, truncate, weight, sent)
    assert_same(with_gradients(ours, inputs), with_gradients(theirs, inputs), names, **grown)


LAYERS = {
    "LIF": ("lif", lambda **k: LIF(4.0, trainable=("tau", "v_threshold"), **k), ("tau",)),
    "LIF, soft": ("lif", lambda **k: LIF(4.0, v_reset=None, trainable=("tau", "v_threshold"), **k), ("tau",)),
    "IF": ("lif", lambda **k: IF(trainable=("v_threshold",), **k), ()),
    "ParametricLIF": ("lif", lambda **k: ParametricLIF(3.0, **k), ("tau",)),
    "CubaLIF": ("cuba", lambda **k: CubaLIF(3.0, 2.0, trainable=("tau", "tau_synapse"), **k), ("tau", "tau_synapse")),
    "ALIF": ("alif", lambda **k: ALIF(4.0, 9.0, trainable=("tau", "tau_adaptation"), **k), ("tau", "tau_adaptation")),
    "AdLIF": (
        "adlif, symplectic",
        lambda **k: AdLIF(3.0, 9.0, a=2.0, b=4.0, trainable=("tau", "tau_adaptation"), **k),
        ("tau", "tau_adaptation"),
    ),
    "AdLIF, euler": (
        "adlif, euler",
        lambda **k: AdLIF(3.0, 9.0, a=2.0, b=4.0, symplectic=False, trainable=("tau", "tau_adaptation"), **k),
        ("tau", "tau_adaptation"),
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def recurrent_layer(name, dtype=torch.float64, **settings) -> Recurrent:
    return Recurrent(LAYERS[name][1](size=6, **settings), 6, gain=0.6).to(dtype)


def knobs_of(name, neuron) -> dict:
    """The published knobs of a layer, as functions of its parameters."""
    decays = [1 - 1 / getattr(neuron, tau) for tau in LAYERS[name][2]]
    knobs = {"decay": decays[0] if decays else 1.0, "threshold": neuron.v_threshold}
    if neuron.v_reset is not None:
        knobs["reset_to"] = neuron.v_reset
    kind = LAYERS[name][0]
    if kind == "cuba":
        knobs["i_decay"] = decays[1]
    elif kind != "lif":
        knobs["w_decay"] = decays[1]
        alif = kind == "alif"
        knobs |= {"adaptation": 1.8, "jump": 1 - decays[1]} if alif else {"a": neuron.a, "b": neuron.b}
    return knobs


@every_layer
@pytest.mark.parametrize(("ragged", "truncate"), [(False, None), (True, None), (False, 7), (True, 7)])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_a_recurrent_layer_equals_a_plain_loop(name, detach_reset, ragged, truncate):
    layer = recurrent_layer(name, detach_reset=detach_reset, truncate=truncate)
    neuron, steps, kind = layer.neuron, 30, NEURONS[LAYERS[name][0]]
    x = (torch.rand(steps, 3, 6, dtype=torch.float64) * 3 * kind.scale - 1).requires_grad_()
    state = [torch.rand(3, 6, dtype=torch.float64).requires_grad_() for _ in range(kind.parts)]
    sent = torch.randint(0, 2, (3, 6)).double().requires_grad_()
    lengths = torch.tensor([30, 0, 13]) if ragged else None
    inner = state[0] if kind.parts == 1 else type(layer(x[:1])[1].neuron)(*state)
    spikes, (after, y) = layer(x, (inner, sent), lengths)
    rule = {"detach_reset": detach_reset}
    expected, _, last = plain(kind, x, state, knobs_of(name, neuron), rule, lengths, truncate, layer.weight, sent)
    assert 0.05 < expected.mean() < 0.7
    inputs = [x, *state, sent, *layer.parameters()]
    ours = with_gradients((spikes, spikes, (after,) if kind.parts == 1 else tuple(after)), inputs)
    theirs = with_gradients((expected, expected, last), inputs)
    names = ["x", *(f"state {k}" for k in range(kind.parts)), "sent", *(n for n, _ in layer.named_parameters())]
    # float64, and tau goes through the layer's own parameter
    assert_same(ours, theirs, names, rtol=1e-8, atol=1e-8)
    ends = [expected[n - 1, b] if n else sent[b] for b, n in enumerate([30, 0, 13] if ragged else [30] * 3)]
    assert torch.equal(y, torch.stack(ends))


@every_layer
def test_truncate_of_a_recurrent_layer_equals_chunks(name):
    x = (torch.rand(30, 3, 6, dtype=torch.float64) * 4 - 0.5).requires_grad_()
    torch.manual_seed(1)
    layer, whole = recurrent_layer(name), recurrent_layer(name, truncate=8)
    whole.load_state_dict(layer.state_dict())
    state, parts = None, []
    for start in range(0, 30, 8):
        if state is not None:
            inner = (
                state.neuron.detach()
                if torch.is_tensor(state.neuron)
                else type(state.neuron)(*(p.detach() for p in state.neuron))
            )
            state = type(state)(inner, state.y.detach())
        part, state = layer(x[start : start + 8], state)
        parts.append(part)
    ours, theirs = whole(x)[0], torch.cat(parts)
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(x)
    grads = [
        torch.autograd.grad((y * weight).sum(), [x, *module.parameters()])
        for y, module in ((ours, whole), (theirs, layer))
    ]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


@every_spiking_neuron
def test_recurrent_samples_with_lengths_equal_their_own_runs(name):
    """NaN and infinity in the padding, in the currents and in the gradients that arrive there."""
    steps, lengths = 20, torch.tensor([20, 0, 7, 16])
    clean = random_case(name, 9, steps, 4, (5,))
    weight, sent = recurrent_weight(5), torch.randint(0, 2, (4, 5)).double().requires_grad_()
    padding = (torch.arange(steps)[:, None] >= lengths)[..., None].expand(clean.x.shape)
    for garbage in (math.nan, math.inf):
        case = clean._replace(x=clean.x.detach().masked_fill(padding, garbage).requires_grad_())
        outputs = flat(operate(name, case, weight, sent, lengths))
        weights = [torch.randn_like(o) for o in outputs]
        for w in weights[:2]:
            w[padding] = garbage
        grads = torch.autograd.grad(outputs, [*case.learned(), weight, sent], weights)
        assert all(grad.isfinite().all() for grad in grads)
        total = torch.zeros_like(weight)
        for b, n in enumerate(lengths.tolist()):
            own = Case(clean.x[:n, b : b + 1], tuple(p[b : b + 1] for p in clean.state), clean.knobs)
            alone = flat(operate(name, own, weight, sent[b : b + 1]))
            for k, (a, o) in enumerate(zip(alone, outputs, strict=True)):
                # a product of one sample's spikes may add up in another order
                torch.testing.assert_close(a, o[:n, b : b + 1] if k < 2 else o[b : b + 1], **CLOSE)
            own_weights = [w[:n, b : b + 1] if k < 2 else w[b : b + 1] for k, w in enumerate(weights)]
            total += torch.autograd.grad(alone, weight, own_weights)[0]
        torch.testing.assert_close(grads[-2], total, rtol=1e-8, atol=1e-8)


# ---- kinds of numbers, of strides and of values ----


@every_neuron
@pytest.mark.parametrize("per_neuron", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_currents_keep_a_float32_state(name, dtype, per_neuron):
    function = NEURONS[name].function
    x, state, knobs = random_case(name, 2, 30, 2, (5,), per_neuron=per_neuron, dtype=torch.float32)
    x = x.detach().to(dtype).requires_grad_()
    wide = x.detach().float().requires_grad_()
    rest = [*state, *knobs.values()]
    outputs, grads = with_gradients(function(x, state, **knobs), [x, *rest])
    assert outputs[0].dtype == dtype and {o.dtype for o in outputs[1:]} == {torch.float32}
    expected, wide_grads = with_gradients(function(wide, state, **knobs), [wide, *rest])
    assert torch.equal(outputs[0].float(), expected[0]) and torch.equal(outputs[1], expected[1])
    assert grads[0].dtype == dtype
    torch.testing.assert_close(grads, (wide_grads[0].to(dtype), *wide_grads[1:]), rtol=0, atol=0)


@every_neuron
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:, :1].expand(-1, 4, -1),
    ],
    ids=["all turned", "samples first", "every other", "one for all samples"],
)
def test_any_strides(name, view):
    x, state, knobs = random_case(name, 8, 20, 4, (6,), False, dtype=torch.float32)
    strided = view(x.detach())
    dense = strided.clone(memory_format=torch.contiguous_format)
    assert not strided.is_contiguous() and dense.is_contiguous()
    turned = tuple(s.detach().t().contiguous().t().requires_grad_() for s in state)
    cases = Case(strided.requires_grad_(), turned, knobs), Case(dense.requires_grad_(), state, knobs)
    ours, theirs = (with_gradients(NEURONS[name].function(c.x, c.state, **knobs), c.learned()) for c in cases)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert ours[0][0].is_contiguous() or name == "li"


@every_neuron
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0)])
def test_zero_size(name, shape, lengths):
    x, state, knobs = random_case(name, 1, *shape[:2], shape[2:], dtype=torch.float32)
    lengths = torch.full(shape[1:2], shape[0]) if lengths else None
    spikes, membranes, last = NEURONS[name].function(x, state, **knobs, lengths=lengths)
    assert spikes.shape == membranes.shape == shape
    if shape[0] == 0:
        for before, after in zip(state, last, strict=True):
            assert torch.equal(before, after) and (before.numel() == 0 or before.data_ptr() != after.data_ptr())
    loss = spikes.sum() + membranes.sum() + sum(s.sum() for s in last)
    inputs = [x, *state, *knobs.values()]
    grads = torch.autograd.grad(loss, inputs)
    assert [g.shape for g in grads] == [i.shape for i in inputs]
    if shape[0] == 0:
        assert all(torch.equal(grad, torch.ones_like(grad)) for grad in grads[1 : 1 + len(state)])


@every_neuron
@pytest.mark.parametrize("hard", [True, False])
def test_nan_stays_in_its_neuron(name, hard):
    function = NEURONS[name].function
    x, state, knobs = random_case(name, 4, 30, 2, (4,), hard, dtype=torch.float32)
    dirty = x.detach().clone()
    dirty[10, 1, 2] = math.nan
    clean_v, dirty_v = (function(i, state, **knobs)[1] for i in (x, dirty.requires_grad_()))
    hit = torch.zeros(30, 2, 4, dtype=torch.bool)
    hit[10:, 1, 2] = True
    assert torch.equal(dirty_v.isnan(), hit)
    assert torch.equal(dirty_v[~hit], clean_v[~hit])
    clean_g, dirty_g = (torch.autograd.grad(v.sum(), i)[0] for v, i in ((clean_v, x), (dirty_v, dirty)))
    others = torch.ones(30, 2, 4, dtype=torch.bool)
    others[:, 1, 2] = False
    assert torch.equal(dirty_g[others], clean_g[others])


def test_an_infinite_current_is_reset_like_any_other():
    x = torch.tensor([0.0, math.inf, 0.5]).reshape(3, 1, 1)
    spikes, v, _ = functional.lif(x, decay=0.5, reset_to=0.0)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert v.flatten().tolist() == [0, 0, 0.5]
    assert functional.li(x, decay=0.5)[0].flatten().tolist() == [0, math.inf, math.inf]


def test_a_spike_on_the_threshold():
    x = torch.ones(1, 1, 1)
    assert functional.lif(x, decay=0.5)[0].item() == 1
    assert functional.lif(x, decay=0.5, strict=True)[0].item() == 0


# ---- bad input ----


@pytest.mark.parametrize("function", [functional.cuba_lif, functional.alif, functional.adlif])
def test_refuses_in_its_own_name(function):
    x = torch.zeros(4, 2, 3)
    name = function.__name__
    knobs = {
        "cuba_lif": {"decay": 0.5, "i_decay": 0.5},
        "alif": {"decay": 0.5, "w_decay": 0.5, "adaptation": 0.5},
        "adlif": {"decay": 0.5, "w_decay": 0.5, "a": 0.5, "b": 0.5},
    }[name]
    second = {"cuba_lif": "i"}.get(name, "w")
    for knob in knobs:
        with pytest.raises(ValueError, match=rf"{name}: {knob} has shape \[2\], which does not broadcast"):
            function(x, **{**knobs, knob: torch.zeros(2)})
        with pytest.raises(ValueError, match=f"{name}: {knob} is NaN"):
            function(x, **{**knobs, knob: math.nan})
    with pytest.raises(ValueError, match=rf"{name}: give reset_by .* or reset_to .* not both"):
        function(x, **knobs, reset_by=1.0, reset_to=0.0)
    with pytest.raises(TypeError, match=rf"{name}: state must be None or the tensors \(v, {second}\), got Tensor"):
        function(x, torch.zeros(2, 3), **knobs)
    with pytest.raises(TypeError, match="got a tuple of 1"):
        function(x, (torch.zeros(2, 3),), **knobs)
    with pytest.raises(ValueError, match=rf"{name}: state.{second} has shape \[5, 3\]"):
        function(x, (torch.zeros(2, 3), torch.zeros(5, 3)), **knobs)
    with pytest.raises(TypeError, match=rf"{name}: state.v is torch.float64"):
        function(x, (torch.zeros(2, 3).double(), torch.zeros(2, 3)), **knobs)
