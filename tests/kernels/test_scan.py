"""The operators of neurons with several states (cuba, adaptive), through their functions.

Against autograd on a plain loop of the equations as they were published, and against what torch asks of an operator.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels.adaptive import adaptive
from temporal.kernels.cuba import cuba
from temporal.kernels.surrogates import Surrogate
from temporal.neurons.functional import adlif, alif, cuba_lif

# The same float64 operations in another order of accumulation.
CLOSE = {"rtol": 1e-10, "atol": 1e-11}


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, surrogate, strict):
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0 if strict else distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        return grad * ctx.surrogate(distance), None, None


class Rule:
    """What happens at the threshold, differentiated by autograd."""

    def __init__(self, strict=False, detach_reset=True, surrogate="atan"):
        self.strict, self.detach_reset, self.surrogate = strict, detach_reset, Surrogate.resolve(surrogate)

    def fire(self, h, threshold):
        return _Spike.apply(h - threshold, self.surrogate, self.strict)

    def reset(self, h, s, reset_by, reset_to):
        s = s.detach() if self.detach_reset else s
        return h - s * reset_by if reset_to is None else (1 - s) * h + s * reset_to


def plain_cuba(x, state, *, decay, i_decay, gain, bias, threshold, reset_by=None, reset_to=None, **rule):
    v, i = state
    rule, spikes, membranes = Rule(**rule), [], []
    for current in x.unbind(0):
        i = i_decay * i + current
        h = decay * v + gain * i + bias
        s = rule.fire(h, threshold)
        v = rule.reset(h, s, threshold if reset_by is None else reset_by, reset_to)
        spikes.append(s)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes), (v, i)


def plain_alif(x, state, *, decay, w_decay, adaptation, threshold, jump, gain=1, bias=0, reset_by=None, reset_to=None,
               reset_lift=0, **rule):  # fmt: skip
    """A[t] = threshold + adaptation a[t], a[t] = w_decay a[t-1] + jump z[t-1]: a is the state before the step."""
    v, a = state
    rule, spikes, membranes = Rule(**rule), [], []
    for current in x.unbind(0):
        h = decay * v + gain * current + bias
        s = rule.fire(h, threshold + adaptation * a)
        subtract = threshold if reset_by is None else reset_by
        v = rule.reset(h, s, subtract + reset_lift * a, reset_to)
        a = w_decay * a + jump * s
        spikes.append(s)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes), (v, a)


def plain_adlif(x, state, *, decay, w_decay, a, b, threshold, reset_by=None, reset_to=None, symplectic=True, **rule):
    """Baronig et al. 2024, equations of the symplectic and of the forward Euler form."""
    u, w, *following = state
    rule, spikes, membranes = Rule(**rule), [], []
    s_before = None
    for current in x.unbind(0):
        u_hat = decay * u + (1 - decay) * (current - w)
        s = rule.fire(u_hat, threshold)
        u_before = u
        u = rule.reset(u_hat, s, threshold if reset_by is None else reset_by, reset_to)
        if symplectic:
            w = w_decay * w + (1 - w_decay) * (a * u + b * s)
        elif s_before is None:  # the only step whose predecessors are not here: the state holds what they lead to
            w = following[0]
        else:
            w = w_decay * w + (1 - w_decay) * (a * u_before + b * s_before)
        s_before = s
        spikes.append(s)
        membranes.append(u)
    if symplectic:
        return torch.stack(spikes), torch.stack(membranes), (u, w)
    return torch.stack(spikes), torch.stack(membranes), (u, w, w_decay * w + (1 - w_decay) * (a * u + b * s))


# name: function, oracle, parts of the state, ranges of the knobs, fixed arguments
NEURONS = {
    "cuba": (cuba_lif, plain_cuba, 2, {"i_decay": (0.2, 0.8), "gain": (0.5, 1), "bias": (-0.1, 0.2)}, {}),
    "alif": (
        alif,
        plain_alif,
        2,
        {"w_decay": (0.5, 0.95), "adaptation": (0.1, 0.6), "gain": (0.5, 1.5), "bias": (-0.1, 0.2), "jump": (0.3, 1)},
        {},
    ),
    "alif-reset-lift": (
        alif,
        plain_alif,
        2,
        {"w_decay": (0.5, 0.95), "adaptation": (0.1, 0.6), "jump": (0.3, 1), "reset_lift": (0.1, 0.6)},
        {},
    ),
    "adlif": (adlif, plain_adlif, 2, {"w_decay": (0.5, 0.9), "a": (-0.4, 2), "b": (0.1, 2)}, {}),
    "adlif-euler": (
        adlif,
        plain_adlif,
        3,
        {"w_decay": (0.5, 0.9), "a": (-0.4, 1), "b": (0.1, 2)},
        {"symplectic": False},
    ),
}
every_neuron = pytest.mark.parametrize("name", NEURONS)


def random_case(name, seed, steps, batch, features, hard=True, per_neuron=True, dtype=torch.float64):
    """Currents that fire in about a third of the steps, and states and knobs that all ask for gradients."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return (low + (high - low) * torch.rand(*shape, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()

    size = features if per_neuron else ()
    _, _, parts, ranges, _ = NEURONS[name]
    knobs = {"decay": uniform(0.2, 0.7, size), **{knob: uniform(*r, size) for knob, r in ranges.items()}}
    knobs["threshold"] = uniform(0.5, 0.9, size)
    if hard:
        knobs["reset_to"] = uniform(-0.2, 0.3, size)
    elif seed % 2:
        knobs["reset_by"] = uniform(0.5, 1.2, size)
    state = tuple(uniform(-0.3, 0.5, batch, *features) for _ in range(parts))
    scale = 2 if name.startswith("adlif") else 1
    return uniform(-0.6 * scale, 1.5 * scale, steps, batch, *features), state, knobs


def flat(outputs):
    spikes, membranes, state = outputs
    return [spikes, membranes, *state]


def gradients(function, x, state, knobs, **rule):
    outputs = flat(function(x, state, **knobs, **rule))
    g = torch.Generator().manual_seed(7)
    # Weights that 16 bits hold exactly, so that they reach the operator unrounded whatever the dtype of its outputs.
    weights = [torch.randn(o.shape, generator=g).bfloat16().half().double() for o in outputs]
    loss = sum((o.double() * w).sum() for o, w in zip(outputs, weights, strict=True))
    # A hard reset does not use what a soft one would subtract.
    return outputs, torch.autograd.grad(loss, [x, *state, *knobs.values()], materialize_grads=True)


@every_neuron
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 40),
    batch=st.integers(1, 3),
    features=st.sampled_from([(), (1,), (5,), (2, 3)]),
    hard=st.booleans(),
    per_neuron=st.booleans(),
    strict=st.booleans(),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["sigmoid", "atan(5.0)", "triangle", "superspike", "multi_gaussian"]),
)
def test_equals_autograd_on_a_plain_loop(name, seed, steps, batch, features, hard, per_neuron, **rule):
    function, oracle, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, seed, steps, batch, features, hard, per_neuron)
    ours, our_grads = gradients(function, x, state, knobs, **rule, **fixed)
    theirs, their_grads = gradients(oracle, x, state, knobs, **rule, **fixed)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours, theirs, **CLOSE)
    labels = ["x", *(f"state {n}" for n in range(len(state))), *knobs]
    for label, ours, theirs in zip(labels, our_grads, their_grads, strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda text, label=label: f"{label}: {text}", **CLOSE)


@every_neuron
def test_the_cases_fire(name):
    x, state, knobs = random_case(name, 3, 40, 3, (5,))
    function, _, _, _, fixed = NEURONS[name]
    assert 0.1 < function(x, state, **knobs, **fixed)[0].mean() < 0.7


@every_neuron
@pytest.mark.parametrize("used", range(4))
def test_gradient_of_each_output_alone(name, used):
    function, oracle, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 3, 33, 2, (4,))
    for detach_reset in (True, False):
        ours, theirs = (
            torch.autograd.grad(
                flat(f(x, state, **knobs, **fixed, detach_reset=detach_reset))[used].sin().sum(),
                [x, *state, knobs["decay"]],
                materialize_grads=True,
            )
            for f in (function, oracle)
        )
        torch.testing.assert_close(ours, theirs, **CLOSE)


@every_neuron
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_gradcheck(name, hard, detach_reset):
    """With a surrogate that is zero but within 5e-7 of the threshold, the gradient is the true derivative."""
    function, _, parts, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 11, 18, 1, (2,), hard)

    def run(x, *rest):
        values = dict(zip(knobs, rest[parts:], strict=True))
        outputs = flat(function(x, rest[:parts], **values, **fixed, detach_reset=detach_reset, surrogate="boxcar(1e6)"))
        return tuple(outputs)

    assert torch.autograd.gradcheck(run, (x, *state, *knobs.values()))


def operator_case(operator, hard, dtype=torch.float32):
    """The arguments of the raw operator: x, state, knobs."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(9, 2, 3, generator=g).to(dtype).requires_grad_()
    state = [torch.rand(2, 3, generator=g).requires_grad_() for _ in operator.family.state._fields]
    knobs = [torch.rand(3, generator=g).mul(0.5).requires_grad_() for _ in operator.family.knobs._fields]
    return x, state, knobs


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("operator", [cuba, adaptive], ids=["cuba", "adaptive"])
@pytest.mark.parametrize(("hard", "v_sequence", "every"), [(True, True, 1), (False, True, 4), (True, False, 16)])
def test_opcheck(operator, hard, v_sequence, every):
    x, state, knobs = operator_case(operator, hard)
    rule = (hard, False, False, "atan", 2.0)
    arguments = (x, *state, *knobs, None, None, None, *rule, v_sequence, every, 0)
    torch.library.opcheck(operator.run, arguments)
    checkpoints = [c.detach() for c in operator.run(*arguments)[2 + len(state) :]]
    grads = (torch.ones_like(x), torch.ones_like(x) if v_sequence else None, None, torch.ones_like(state[1]))
    needs = [n % 2 == 0 for n in range(len(knobs))]
    arguments = (
        *grads,
        x.detach(),
        *checkpoints,
        *[k.detach() for k in knobs],
        None,
        None,
        None,
        None,
        *rule,
        every,
        0,
        needs,
    )
    torch.library.opcheck(operator.run_backward, arguments)


@pytest.mark.parametrize("operator", [cuba, adaptive], ids=["cuba", "adaptive"])
def test_direct_call_without_checkpoints_has_no_backward(operator):
    x, state, knobs = operator_case(operator, True)
    out = operator.run(x, *state, *knobs, None, None, None, True, False, True, "atan", 2.0, False, 0, 0)
    assert all(checkpoints.numel() == 0 for checkpoints in out[4:])
    with pytest.raises(RuntimeError, match=f"temporal::{operator.name}_forward: every=0 keeps nothing"):
        out[0].sum().backward()


@pytest.mark.parametrize("operator", [cuba, adaptive], ids=["cuba", "adaptive"])
def test_an_output_without_elements_sends_nothing_back(operator):
    x, state, knobs = operator_case(operator, True)
    rule = {"hard": True, "strict": False, "detach_reset": True, "surrogate": Surrogate("atan"), "v_sequence": False}
    grads = []
    for use_membranes in (False, True):
        spikes, membranes, last = operator(x, state, knobs, **rule)
        assert membranes.shape == (0, 2, 3) and isinstance(last, operator.family.state)
        loss = spikes.sum() + (membranes.sum() if use_membranes else 0)
        grads.append(torch.autograd.grad(loss, [x, *state]))
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@every_neuron
def test_compiles_whole_for_any_number_of_steps(name):
    torch._dynamo.reset()
    function, _, _, _, fixed = NEURONS[name]
    sizes = []

    def counting(graph, inputs):
        sizes.append(len(graph.graph.nodes))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    _, state, knobs = random_case(name, 1, 1, 2, (3,), dtype=torch.float32)

    def network(x, decay):
        spikes, v, _ = function(x * 2, state, **{**knobs, "decay": decay}, **fixed)
        return (spikes + v).sum()

    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend=counting)
    compilations = []
    for steps in (20, 50, 200):
        x = torch.randn(steps, 2, 3, requires_grad=True)
        ours, theirs = (torch.autograd.grad(f(x, knobs["decay"]), [x, knobs["decay"]]) for f in (compiled, network))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # float32, the same operations
        compilations.append(len(sizes))
    assert compilations[0] == compilations[-1]  # other lengths compile nothing
    assert max(sizes) < 80  # the scan is one node, not some for each step


@every_neuron
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 50), max_size=6),
    hard=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_stream_equals_whole_bit_for_bit(name, cuts, hard, dtype):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 5, 50, 3, (7,), hard, dtype=torch.float32)
    x = x.to(dtype)
    whole = flat(function(x, state, **knobs, **fixed))
    parts = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 50]):
        *part, state = function(x[start:stop], state, **knobs, **fixed)
        parts.append(part)
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, whole[2:], strict=True))


@every_neuron
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_currents_keep_a_float32_state(name, dtype):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 2, 30, 2, (5,), dtype=torch.float32)
    x = x.detach().to(dtype).requires_grad_()
    wide = x.detach().float().requires_grad_()
    outputs, grads = gradients(function, x, state, knobs, **fixed)
    assert outputs[0].dtype == dtype and {o.dtype for o in outputs[1:]} == {torch.float32}
    expected, wide_grads = gradients(function, wide, state, knobs, **fixed)
    assert torch.equal(outputs[0].float(), expected[0]) and torch.equal(outputs[1], expected[1])
    assert grads[0].dtype == dtype
    torch.testing.assert_close(grads, (wide_grads[0].to(dtype), *wide_grads[1:]), rtol=0, atol=0)


@every_neuron
def test_autocast_leaves_the_state_in_float32(name):
    function, _, _, _, fixed = NEURONS[name]
    linear = torch.nn.Linear(6, 5)
    _, _, knobs = random_case(name, 2, 1, 3, (5,), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        current = linear(torch.randn(20, 3, 6))
        outputs = flat(function(current, **knobs, **fixed))
    assert current.dtype == outputs[0].dtype == torch.bfloat16
    assert {o.dtype for o in outputs[1:]} == {torch.float32}
    assert torch.equal(outputs[1], function(current.float(), **knobs, **fixed)[1])
    outputs[0].sum().backward()
    assert linear.weight.grad.abs().sum() > 0


@every_neuron
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:, :1].expand(-1, 4, -1),
    ],
)
def test_any_strides(name, view):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 8, 20, 4, (6,), False, dtype=torch.float32)
    strided = view(x.detach())
    dense = strided.clone(memory_format=torch.contiguous_format)
    assert not strided.is_contiguous() and dense.is_contiguous()
    turned = tuple(s.detach().t().contiguous().t().requires_grad_() for s in state)
    ours = gradients(function, strided.requires_grad_(), turned, knobs, **fixed)
    theirs = gradients(function, dense.requires_grad_(), state, knobs, **fixed)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@every_neuron
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0)])
def test_zero_size(name, shape):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 1, *shape[:2], shape[2:], dtype=torch.float32)
    spikes, membranes, last = function(x, state, **knobs, **fixed)
    assert spikes.shape == membranes.shape == shape
    if shape[0] == 0:
        for before, after in zip(state, last, strict=True):
            assert torch.equal(before, after) and (before.numel() == 0 or before.data_ptr() != after.data_ptr())
    loss = spikes.sum() + membranes.sum() + sum(s.sum() for s in last)
    inputs = [x, *state, knobs["decay"]]
    grads = torch.autograd.grad(loss, inputs)
    assert [g.shape for g in grads] == [i.shape for i in inputs]


@every_neuron
def test_nan_stays_in_its_neuron(name):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 4, 30, 2, (4,), dtype=torch.float32)
    dirty = x.detach().clone()
    dirty[10, 1, 2] = math.nan
    clean_v, dirty_v = (function(i, state, **knobs, **fixed)[1] for i in (x, dirty.requires_grad_()))
    hit = torch.zeros(30, 2, 4, dtype=torch.bool)
    hit[10:, 1, 2] = True
    assert torch.equal(dirty_v.isnan(), hit)
    assert torch.equal(dirty_v[~hit], clean_v[~hit])
    clean_g, dirty_g = (torch.autograd.grad(v.sum(), i)[0] for v, i in ((clean_v, x), (dirty_v, dirty)))
    others = torch.ones(30, 2, 4, dtype=torch.bool)
    others[:, 1, 2] = False
    assert torch.equal(dirty_g[others], clean_g[others])


@every_neuron
def test_second_derivative_is_refused(name):
    function, _, _, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 4, 5, 1, (2,))
    (grad,) = torch.autograd.grad(function(x, state, **knobs, **fixed)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="a surrogate gradient has no derivative"):
        grad.sum().backward()


@every_neuron
def test_what_is_kept_for_the_backward_pass(name):
    """x itself, one state in sixteen, and the knobs."""
    function, _, parts, _, fixed = NEURONS[name]
    x, state, knobs = random_case(name, 4, 160, 2, (3,), per_neuron=False, dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        function(x, state, **knobs, **fixed)
    own = [t for t in kept if t.data_ptr() != x.data_ptr()]
    assert len(own) == len(kept) - 1
    assert sum(t.numel() for t in own if t.dim()) == parts * 160 // 16 * 2 * 3


@pytest.mark.parametrize("function", [cuba_lif, alif, adlif])
def test_refuses_in_its_own_name(function):
    x = torch.zeros(4, 2, 3)
    knobs = {
        cuba_lif: {"decay": 0.5, "i_decay": 0.5},
        alif: {"decay": 0.5, "w_decay": 0.5, "adaptation": 0.5},
        adlif: {"decay": 0.5, "w_decay": 0.5, "a": 0.5, "b": 0.5},
    }[function]
    name, second = function.__name__, {cuba_lif: "i"}.get(function, "w")
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
