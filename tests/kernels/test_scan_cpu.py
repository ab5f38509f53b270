"""The compiled kernels of every family against the reference: spikes and states bit for bit, gradients closely.

A kernel is compiled for each kind of request, once on a machine, in about a second; so the kinds are a short list here, and
everything else (shapes, values, strides, rules, which outputs are used) varies within a kind.
"""

import itertools
import math
from importlib import import_module
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels._scan import Feedback, NeuronOperator
from temporal.kernels._scan._slopes import SLOPES
from temporal.kernels._scan.cpu import _LONG, _SHORT
from temporal.kernels.adaptive import adaptive
from temporal.kernels.adaptive_late import adaptive_late
from temporal.kernels.cuba import cuba
from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate, names

OPERATORS = [lif, cuba, adaptive, adaptive_late]
every_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16

# Gradients do the same float32 operations in the same order except in the surrogate's slope (an exp, a power and a division
# of their own: some 1e-7) and in sums over recurrent weights, which the steps multiply and add up. Relative to the largest.
CLOSE = 2e-5
# A 16-bit gradient of x is rounded from two float32 numbers that may lie on two sides of a rounding edge.
ROUNDING = {FLOAT32: CLOSE, BFLOAT16: 8e-3, FLOAT16: 1e-3}


class Kind(NamedTuple):
    """What a kernel is compiled for."""

    dtype: torch.dtype
    per_neuron: bool  # or one number for all neurons
    membranes: bool  # wanted, and used
    lengths: bool
    recurrent: bool
    learned: bool  # whether gradients of knobs are wanted


WHOLE = Kind(FLOAT32, True, True, False, False, True)
RAGGED_RECURRENT = Kind(FLOAT32, True, True, True, True, True)
NUMBERS = Kind(FLOAT32, False, False, False, False, False)
RAGGED = Kind(BFLOAT16, True, False, True, False, True)
HALF = Kind(FLOAT16, False, True, True, False, True)
RECURRENT_NUMBERS = Kind(BFLOAT16, False, False, False, True, False)
RECURRENT_HALF = Kind(FLOAT16, True, False, False, True, True)

# Every surrogate occurs; a slope has its own test below.
KINDS = {
    lif: {WHOLE: "atan", RAGGED_RECURRENT: "atan", NUMBERS: "sigmoid", RAGGED: "triangle", HALF: "superspike"},
    cuba: {WHOLE: "atan", RAGGED_RECURRENT: "atan", RAGGED: "softsign", RECURRENT_HALF: "exponential"},
    adaptive: {WHOLE: "atan", RAGGED_RECURRENT: "atan", NUMBERS: "fast_sigmoid", RECURRENT_NUMBERS: "boxcar"},
    adaptive_late: {WHOLE: "atan", RAGGED_RECURRENT: "atan", RAGGED: "erf", HALF: "multi_gaussian"},
}  # fmt: skip
NAMES = {
    WHOLE: "whole", RAGGED_RECURRENT: "ragged recurrent", NUMBERS: "numbers", RAGGED: "ragged", HALF: "half",
    RECURRENT_NUMBERS: "recurrent numbers", RECURRENT_HALF: "recurrent half",
}  # fmt: skip


def every_operator_with(*kinds):
    """Each operator with each of these kinds, or of all, that it is compiled for."""
    pairs = [(operator, kind) for operator, own in KINDS.items() for kind in own if not kinds or kind in kinds]
    ids = [f"{operator.name}, {NAMES[kind]}" for operator, kind in pairs]
    return pytest.mark.parametrize(("operator", "kind"), pairs, ids=ids)


RANGES = {
    "decay": (0.3, 0.95), "gain": (0.5, 1.2), "bias": (-0.1, 0.2), "threshold": (0.5, 1.0), "reset": (-0.2, 0.8),
    "i_decay": (0.2, 0.8), "reset_lift": (0.0, 0.5), "brake": (0.0, 0.5), "lift": (0.1, 0.6), "w_decay": (0.5, 0.95),
    "pull": (-0.1, 0.2), "jump": (0.1, 0.8),
}  # fmt: skip

# How x or a gradient of spikes lies in memory. The first five keep the values.
VIEWS = {
    "dense": lambda x: x,
    "shifted": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
    "every other step": lambda x: torch.stack([x, -x], 1).flatten(0, 1)[::2],
    "samples first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other neuron": lambda x: torch.stack([x, -x], -1)[..., 0],
    "one step": lambda x: x[:1].expand_as(x),
    "one sample": lambda x: x[:, :1].expand_as(x),
    "steps that overlap": lambda x: x.flatten().as_strided(x.shape, (1, *x.stride()[1:])),
}
KEEPS_VALUES = list(VIEWS)[:5]


class Case(NamedTuple):
    operator: NeuronOperator
    x: torch.Tensor
    state: Any
    knobs: Any
    feedback: Feedback | None
    lengths: torch.Tensor | None
    surrogate: Surrogate
    v_sequence: bool

    def inputs(self) -> dict[str, torch.Tensor]:
        """Those that ask for a gradient."""
        named = {"x": self.x, **self.state._asdict(), **self.knobs._asdict()}
        named |= self.feedback._asdict() if self.feedback else {}
        return {name: tensor for name, tensor in named.items() if tensor.requires_grad}


def random_case(operator, kind: Kind, seed, steps, batch, features, view="dense", alpha=None) -> Case:
    """Currents that fire in about a third of the steps.

    With recurrent weights, currents and weights lie on a grid on which float32 sums are exact in any order.
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=g)

    x = uniform(-0.6, 1.4, steps, batch, *features)
    if kind.recurrent:
        x = (x * 64).round() / 64
    x = x.to(kind.dtype)
    knobs = []
    for k, field in enumerate(operator.family.knobs._fields):
        # in one request some knobs are one number for all, or for the neurons of an axis
        shapes = [features, (), features[-1:], (*features[:-1], 1)] if kind.per_neuron else [()]
        knob = uniform(*RANGES[field], shapes[(seed + k) % len(shapes)] if k else shapes[0])
        knobs.append(knob.requires_grad_(kind.learned and (k == 0 or (seed + k) % 5 > 0)))
    state = [uniform(-0.3, 0.6, batch, *features).requires_grad_() for _ in operator.family.state._fields]
    lengths, feedback = None, None
    if kind.lengths:
        lengths = torch.randint(0, steps + 1, (batch,), generator=g)
        if view in KEEPS_VALUES:
            x[torch.arange(steps)[:, None] >= lengths] = (math.nan, math.inf)[seed % 2]
    if kind.recurrent:
        size = features[0]
        weight = (torch.randn(size, size, generator=g) * 512 / max(1, size) ** 0.5).round() / 1024
        sent = torch.randint(0, 2, (batch, size), generator=g).float()
        feedback = Feedback(weight.requires_grad_(), sent.requires_grad_())
    surrogate = Surrogate(KINDS[operator][kind], alpha)
    return Case(
        operator, VIEWS[view](x).requires_grad_(), operator.family.state(*state), operator.family.knobs(*knobs),
        feedback, lengths, surrogate, kind.membranes,
    )  # fmt: skip


def forward(backend, case, *, hard=True, strict=False, detach_reset=True, truncate=0):
    with use(backend):
        spikes, membranes, last = case.operator(
            case.x, case.state, case.knobs, hard=hard, strict=strict, detach_reset=detach_reset,
            surrogate=case.surrogate, v_sequence=case.v_sequence, feedback=case.feedback, lengths=case.lengths,
            truncate=truncate,
        )  # fmt: skip
    return [spikes, membranes, *last]


def run(backend, case, view="dense", used=(0, 2), **rule):
    """Outputs, and the gradients of the ``used`` ones: 0 spikes, 2 and on the last state; of membranes if there are any."""
    outputs = forward(backend, case, **rule)
    g = torch.Generator().manual_seed(7)
    weights = [torch.randn(o.shape, generator=g).to(o.dtype) for o in outputs]
    if case.lengths is not None:
        for weight in weights[: 1 + case.v_sequence]:
            weight[torch.arange(len(case.x))[:, None] >= case.lengths] = math.nan  # must not get anywhere
    if case.lengths is None or view in KEEPS_VALUES:
        weights[0] = VIEWS[view](weights[0])
    chosen = [*used, 1] if case.v_sequence else list(used)
    with use(backend):
        grads = torch.autograd.grad(
            [outputs[k] for k in chosen], list(case.inputs().values()), [weights[k] for k in chosen],
            materialize_grads=True,
        )  # fmt: skip
    return outputs, dict(zip(case.inputs(), grads, strict=True))


def assert_equals_the_reference(case, **how):
    ours, our_grads = run("cpu", case, **how)
    theirs, their_grads = run("reference", case, **how)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    for name, a in our_grads.items():
        b = their_grads[name]
        # the gradient of the weights is made of x's
        tolerance = ROUNDING[case.x.dtype] if name in ("x", "weight") else CLOSE
        largest = b.abs().nan_to_num(0, 0).max().item() if b.numel() else 0.0
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * max(1.0, largest), equal_nan=True,
            msg=lambda text, name=name: f"gradient of {name}: {text}",
        )  # fmt: skip


# ---- equal to the reference ----


@every_operator_with()
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    steps=st.sampled_from([1, 2, 15, 16, 17, 33]),
    batch=st.integers(1, 3),
    features=st.sampled_from([(7,), (2, 3), (130,)]),
    x_view=st.sampled_from(list(VIEWS)),
    view=st.sampled_from(list(VIEWS)),
    used=st.sampled_from([(0,), (2,), (-1,), (0, 2, -1)]),
    alpha=st.sampled_from([None, 0.5, 3.0]),
    truncate=st.sampled_from([0, 0, 1, 5, 16, 20]),
    hard=st.booleans(),
    strict=st.booleans(),
    detach_reset=st.booleans(),
)
def test_equals_the_reference(operator, kind, seed, steps, batch, features, x_view, view, used, alpha, **rule):
    features = features[:1] if kind.recurrent else features
    case = random_case(operator, kind, seed, steps, batch, features, x_view, alpha)
    used = dict.fromkeys(k % (2 + operator.states) for k in used)
    assert_equals_the_reference(case, view=view, used=tuple(used), **rule)


@every_operator
def test_the_cases_here_fire_and_are_silent(operator):
    for kind in KINDS[operator]:
        spikes = forward("cpu", random_case(operator, kind, 1, 33, 3, (130,)))[0]
        assert 0.03 < spikes.float().mean() < 0.8


@pytest.mark.parametrize("name", names())
def test_slope_of_each_surrogate(name):
    """On both sides of the threshold, at it, and far out, where nothing may become NaN."""
    slope = SLOPES[name]

    @numba.njit(error_model="numpy")
    def slopes(alpha, distance, out):
        for i in range(distance.size):
            out[i] = slope(alpha, distance[i])

    far = [0.0, -0.0, -50.0, 50.0, -1e20, 1e20, -math.inf, math.inf, math.nan]
    distance = torch.cat([torch.linspace(-4, 4, 2001), torch.tensor(far)])
    for alpha in (None, 0.5, 7.0):
        surrogate, out = Surrogate(name, alpha), torch.full_like(distance, math.nan)
        slopes(np.float32(surrogate.alpha), distance.numpy(), out.numpy())
        expected = surrogate(distance)
        # peaks reach 7; exp and the division are each good to some 1e-7 of the value
        torch.testing.assert_close(out[:-1], expected[:-1], rtol=2e-6, atol=1e-6)
        assert out[:-1].isfinite().all()


@every_operator_with()
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0)])
def test_zero_size(operator, kind, shape, request):
    if kind.recurrent and shape == (4, 2, 0):
        reason = "_grad_weight reshapes to [-1, 0], which torch refuses: no recurrent neurons have no backward pass"
        request.applymarker(pytest.mark.xfail(strict=True, raises=RuntimeError, reason=reason))
    assert_equals_the_reference(random_case(operator, kind, 8, *shape[:2], shape[2:]))


@every_operator_with(NUMBERS, HALF)
def test_one_neuron_one_sample_one_step_and_no_feature_dimension(operator, kind):
    assert_equals_the_reference(random_case(operator, kind, 8, 1, 1, (1,)))
    assert_equals_the_reference(random_case(operator, kind, 8, 17, 3, ()))


@every_operator
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_special_values(operator, hard, strict):
    """NaN stays in its neuron, an infinite current is reset, an infinite threshold is never reached."""
    case = random_case(operator, WHOLE, 5, 20, 2, (40,))
    with torch.no_grad():
        case.x[3, 1, 7], case.x[5, 0, 9], case.x[6, 0, 10] = math.nan, math.inf, -math.inf
        case.x[7, 0, 11], case.x[8, 0, 12] = 1e38, 1e-42
        case.state[0][0, 13] = math.nan
        case.x[9, 1, 20] = math.inf
        case.knobs.threshold[20], case.knobs.threshold[21] = math.inf, -math.inf
    with torch.no_grad():
        ours, theirs = (
            forward("cpu", case, hard=hard, strict=strict),
            forward("reference", case, hard=hard, strict=strict),
        )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert not ours[0].isnan().any()
    clean = torch.ones(2, 40, dtype=torch.bool)
    clean[1, 7] = clean[0, 9] = clean[0, 10] = clean[0, 11] = clean[0, 13] = clean[1, 20] = False
    clean[:, 21] = False  # it fires at every step, and what is subtracted may be what was compared
    assert ours[1][:, clean].isfinite().all()
    _, our_grads = run("cpu", case, hard=hard, strict=strict)
    _, their_grads = run("reference", case, hard=hard, strict=strict)
    torch.testing.assert_close(our_grads["x"][:, clean], their_grads["x"][:, clean], rtol=CLOSE, atol=CLOSE)
    assert our_grads["x"][:, clean].isfinite().all()


@every_operator
def test_ties_at_the_threshold(operator):
    """Currents, states and knobs on a grid, so that many membranes lie exactly on the threshold."""
    case = random_case(operator, WHOLE, 3, 33, 2, (64,))
    with torch.no_grad():
        case.x.copy_((case.x * 4).round() / 4)
        for part in case.state:
            part.copy_((part * 4).round() / 4)
        for knob in case.knobs:
            knob.copy_((knob * 2).round() / 2)
    assert_equals_the_reference(case)
    loose, strict = (forward("cpu", case, strict=strict)[0].mean() for strict in (False, True))
    assert loose > strict


# ---- blocks and threads ----


@pytest.fixture
def _threads_as_before():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


BLOCKS = {
    WHOLE: (3, 2 * _SHORT // 3 + 5),  # samples, neurons: a block crosses a sample's end
    NUMBERS: (3, 2 * _LONG // 3 + 5),
    RAGGED: (3, _SHORT + 1000),  # a block ends with a sample
    RAGGED_RECURRENT: (30, 20),  # a sample is a block
}


@pytest.mark.usefixtures("_threads_as_before")
@every_operator_with(*BLOCKS)
def test_more_neurons_than_a_block_and_any_division_among_threads(operator, kind):
    batch, features = BLOCKS[kind]
    case = random_case(operator, kind, 1, 18, batch, (features,))
    torch.set_num_threads(1)
    assert_equals_the_reference(case)
    outputs, grads = run("cpu", case)
    for count in (2, 3, 7):
        torch.set_num_threads(count)
        others, other_grads = run("cpu", case)
        torch.testing.assert_close(others, outputs, rtol=0, atol=0)
        for name in ("x", *case.state._fields):
            torch.testing.assert_close(other_grads[name], grads[name], rtol=0, atol=0)
        for name in grads:  # torch adds up the samples of a knob in an order that depends on its threads
            largest = grads[name].abs().max().item()
            torch.testing.assert_close(other_grads[name], grads[name], rtol=CLOSE, atol=CLOSE * max(1.0, largest))


@every_operator_with()
@settings(max_examples=10, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 40), max_size=5))
def test_stream_equals_whole_bit_for_bit(operator, kind, cuts):
    """Also where weights and currents are any numbers: the products are added up in the same order at every step."""
    case = random_case(operator, kind, 5, 40, 4, (9,), "dense")
    if kind.recurrent:
        weight = torch.randn(9, 9, generator=torch.Generator().manual_seed(1)) * 0.3
        case = case._replace(feedback=case.feedback._replace(weight=weight), x=(case.x.detach() * 0.977))
    spikes, membranes, *last = forward("cpu", case)
    parts, state, feedback = [], case.state, case.feedback
    for start, stop in itertools.pairwise([0, *sorted(cuts), 40]):
        lengths = None if case.lengths is None else (case.lengths - start).clamp(0, stop - start)
        part = case._replace(x=case.x[start:stop], state=state, lengths=lengths, feedback=feedback)
        s, v, *state = forward("cpu", part)
        state = operator.family.state(*state)
        parts.append((s, v))
        if feedback is not None and len(s):
            feedback = feedback._replace(sent=s[-1].float())  # of a sample that has ended, nothing is heard any more
    assert torch.equal(torch.cat([s for s, _ in parts]), spikes)
    assert torch.equal(torch.cat([v for _, v in parts]), membranes)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, last, strict=True))


@every_operator_with(RAGGED, HALF, RAGGED_RECURRENT)
def test_each_sample_equals_its_own_run_alone(operator, kind):
    case = random_case(operator, kind, 4, 33, 5, (6,))
    case = case._replace(lengths=torch.tensor([0, 33, 16, 1, 20]))
    outputs = forward("cpu", case)
    for b, n in enumerate(case.lengths.tolist()):
        feedback = case.feedback and case.feedback._replace(sent=case.feedback.sent[b : b + 1])
        state = operator.family.state(*(part[b : b + 1] for part in case.state))
        own = torch.tensor([n])
        alone = case._replace(x=case.x[:n, b : b + 1], state=state, feedback=feedback, lengths=own)
        for k, (ours, theirs) in enumerate(zip(forward("cpu", alone), outputs, strict=True)):
            mine = theirs[b : b + 1] if k > 1 else theirs[:n, b : b + 1]
            torch.testing.assert_close(ours, mine, rtol=0, atol=0, equal_nan=True)
            assert k > 1 or not theirs[n:, b].any()


@pytest.mark.xfail(
    strict=True, reason="lengths are handed over with their strides: others compile a kernel of their own"
)
def test_lengths_of_other_strides_compile_nothing():
    case = random_case(lif, RAGGED, 4, 20, 3, (7,))
    lengths = torch.tensor([20, -1, 0, -1, 7, -1])[::2]
    compiled = import_module("temporal.kernels.lif.cpu")._COMPILED._forward(_SHORT)
    with torch.no_grad():
        expected = forward("cpu", case._replace(lengths=lengths.contiguous()))
        before = len(compiled.signatures)
        assert all(map(torch.equal, forward("cpu", case._replace(lengths=lengths)), expected))
    assert len(compiled.signatures) == before


# ---- recurrent weights that are any numbers ----


@every_operator
@pytest.mark.parametrize("tenths", [False, True])
def test_any_recurrent_weights_differ_first_at_the_threshold(operator, tenths):
    """Sums in another order: where a sample first differs from the reference, it lies within 1e-5 of the threshold.

    With weights and currents of tenths membranes lie on the threshold all the time, but for such rounding.
    """
    case = random_case(operator, RAGGED_RECURRENT, 4, 60, 6, (40,))
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(40, 40, generator=g) * 0.15
    x = torch.rand(case.x.shape, generator=g) * 2 - 0.8
    if tenths:
        weight, x = (weight * 10).round() / 10, (x * 10).round() / 10
        tens = [(knob.detach() * 10).round() / 10 for knob in case.knobs]
        decay = torch.ones(40) if operator in (lif, cuba) else tens[0]
        case = case._replace(knobs=operator.family.knobs(*tens)._replace(decay=decay))
    case = case._replace(x=x, lengths=torch.full((6,), 60), feedback=case.feedback._replace(weight=weight))
    with torch.no_grad():
        ours, theirs = forward("cpu", case), forward("reference", case)
        differ = ours[0] != theirs[0]
        assert differ.any() or not (tenths and operator is lif)
        for b in range(6):
            steps = differ[:, b].any(1).nonzero().flatten().tolist()
            t = steps[0] if steps else 60
            torch.testing.assert_close(ours[1][:t, b], theirs[1][:t, b], rtol=1e-5, atol=1e-5)
            if not steps:
                continue
            *_, before = [case.state, *([forward("reference", _until(case, t))[2:]] if t else [])]
            sent = theirs[0][t - 1] if t else case.feedback.sent
            trace = operator.family.charge(case.knobs, operator.family.state(*before), x[t] + sent @ weight.t())
            distance = operator.family.distance(case.knobs, trace)[b]
            assert distance[differ[t, b]].abs().max() < 1e-5


def _until(case, t):
    return case._replace(x=case.x[:t], lengths=case.lengths.clamp(max=t))
