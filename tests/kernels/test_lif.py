"""The lif operator against autograd on a plain loop, and against what torch asks of an operator."""

import itertools
import math
import pathlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import temporal.kernels.lif as op
from temporal.kernels.surrogates import Surrogate
from temporal.neurons.functional import li, lif

# The same float64 operations in another order of accumulation.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
KNOBS = ("decay", "gain", "bias", "threshold", "reset_by", "reset_to")


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


def oracle(x, v=None, *, decay, gain=1, bias=0, threshold=1, reset_by=None, reset_to=None, strict=False,
           detach_reset=True, surrogate="atan"):  # fmt: skip
    """The neuron as its equations read, differentiated by autograd."""
    v = torch.zeros_like(x[0]) if v is None else v
    spikes, membranes = [], []
    for current in x.unbind(0):
        h = decay * v + gain * current + bias
        s = _Spike.apply(h - threshold, Surrogate.resolve(surrogate), strict)
        reset = s.detach() if detach_reset else s
        if reset_to is not None:
            v = (1 - reset) * h + reset * reset_to
        else:
            v = h - reset * (threshold if reset_by is None else reset_by)
        spikes.append(s)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes), v


def random_case(seed: int, steps: int, batch: int, features: tuple[int, ...], hard: bool, per_neuron: bool, dtype):
    """Currents that fire in about a third of the steps, and knobs that all ask for gradients."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return (low + (high - low) * torch.rand(*shape, generator=g, dtype=torch.float64)).to(dtype).requires_grad_()

    size = features if per_neuron else ()
    knobs = {"decay": uniform(0.3, 0.99, size), "gain": uniform(0.5, 1.5, size), "bias": uniform(-0.1, 0.2, size)}
    knobs["threshold"] = uniform(0.7, 1.2, size)
    if hard:
        knobs["reset_to"] = uniform(-0.2, 0.3, size)
    elif seed % 2:
        knobs["reset_by"] = uniform(0.5, 1.2, size)
    return uniform(-0.6, 1.4, steps, batch, *features), uniform(-0.5, 0.9, batch, *features), knobs


def gradients(function, x, v, knobs, **rule):
    outputs = function(x, v, **knobs, **rule)
    g = torch.Generator().manual_seed(7)
    # Weights that 16 bits hold exactly, so that they reach the operator unrounded whatever the dtype of its outputs.
    weights = [torch.randn(o.shape, generator=g).bfloat16().half().double() for o in outputs]
    loss = sum((o.double() * w).sum() for o, w in zip(outputs, weights, strict=True))
    return outputs, torch.autograd.grad(loss, [x, v, *knobs.values()])


@settings(max_examples=40, deadline=None, derandomize=True)
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
def test_equals_autograd_on_a_plain_loop(seed, steps, batch, features, hard, per_neuron, **rule):
    x, v, knobs = random_case(seed, steps, batch, features, hard, per_neuron, torch.float64)
    ours, our_grads = gradients(lif, x, v, knobs, **rule)
    theirs, their_grads = gradients(oracle, x, v, knobs, **rule)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for name, ours, theirs in zip(["x", "v", *knobs], our_grads, their_grads, strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)


@pytest.mark.parametrize("used", ["spikes", "v_sequence", "v_last"])
def test_gradient_of_each_output_alone(used):
    x, v, knobs = random_case(3, 33, 2, (4,), True, True, torch.float64)
    which = ["spikes", "v_sequence", "v_last"].index(used)
    for detach_reset in (True, False):
        ours, theirs = (
            torch.autograd.grad(f(x, v, **knobs, detach_reset=detach_reset)[which].sin().sum(), [x, v, knobs["decay"]])
            for f in (lif, oracle)
        )
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_gradcheck(hard, detach_reset):
    """With a surrogate that is zero but within 5e-7 of the threshold, the gradient is the true derivative."""
    x, v, knobs = random_case(11, 20, 2, (3,), hard, True, torch.float64)
    names = list(knobs)

    def run(x, v, *values):
        return lif(x, v, **dict(zip(names, values, strict=True)), detach_reset=detach_reset, surrogate="boxcar(1e6)")

    assert torch.autograd.gradcheck(run, (x, v, *knobs.values()))


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(("hard", "v_sequence", "every"), [(True, True, 1), (False, True, 4), (True, False, 16)])
def test_opcheck(hard, v_sequence, every):
    x, v, knobs = random_case(1, 9, 2, (3,), hard, True, torch.float32)
    reset = knobs["reset_to" if hard else "reset_by"]
    knobs = [knobs[name] for name in ("decay", "gain", "bias", "threshold")] + [reset]
    rule = (hard, False, False, "atan", 2.0)
    torch.library.opcheck(
        torch.ops.temporal.lif_forward.default, (x, v, *knobs, None, None, None, *rule, v_sequence, every, 0)
    )
    checkpoints = torch.ops.temporal.lif_forward(x, v, *knobs, None, None, None, *rule, v_sequence, every, 0)[
        3
    ].detach()
    grads = (torch.ones_like(x), torch.ones_like(x) if v_sequence else None, None)
    needs = [True, False, True, False, True]
    arguments = (
        *grads,
        x.detach(),
        checkpoints,
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
    torch.library.opcheck(torch.ops.temporal.lif_backward.default, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole_for_any_number_of_steps(backend):
    torch._dynamo.reset()
    sizes = []  # nodes of each graph, in the order of compilation

    def counting(graph, inputs):
        sizes.append(len(graph.graph.nodes))
        return torch._dynamo.lookup_backend(backend)(graph, inputs)

    def network(x, decay):
        spikes, v, _ = lif(x.tanh() * 2, decay=decay.sigmoid(), reset_to=0.0)
        return (spikes + v).sum()

    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend=counting)
    compilations = []
    for steps in (20, 50, 200):
        x = torch.randn(steps, 2, 3, requires_grad=True)
        decay = torch.randn(3, requires_grad=True)
        ours, theirs = (torch.autograd.grad(f(x, decay), [x, decay]) for f in (compiled, network))
        # inductor evaluates tanh and sigmoid with other roundings than eager
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        compilations.append(len(sizes))
    assert compilations[0] == compilations[-1]  # other lengths compile nothing
    assert max(sizes) < 50  # the scan is one node, not some for each step


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 50), max_size=6),
    hard=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_stream_equals_whole_bit_for_bit(cuts, hard, dtype):
    x, v, knobs = random_case(5, 50, 3, (7,), hard, True, torch.float32)
    x = x.to(dtype)
    whole = lif(x, v, **knobs)
    edges = [0, *sorted(cuts), 50]
    parts = []
    for start, stop in itertools.pairwise(edges):
        *part, v = lif(x[start:stop], v, **knobs)
        parts.append(part)
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert torch.equal(v, whole[2])


@pytest.mark.parametrize("per_neuron", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_currents_keep_a_float32_state(dtype, per_neuron):
    x, v, knobs = random_case(2, 30, 2, (5,), True, per_neuron, torch.float32)
    x = x.detach().to(dtype).requires_grad_()
    wide = x.detach().float().requires_grad_()
    (spikes, membrane, last), grads = gradients(lif, x, v, knobs)
    assert (spikes.dtype, membrane.dtype, last.dtype) == (dtype, torch.float32, torch.float32)
    expected, wide_grads = gradients(lif, wide, v, knobs)
    assert torch.equal(spikes.float(), expected[0]) and torch.equal(membrane, expected[1])
    assert grads[0].dtype == dtype
    torch.testing.assert_close(grads, (wide_grads[0].to(dtype), *wide_grads[1:]), rtol=0, atol=0)


def test_autocast_leaves_the_state_in_float32():
    linear = torch.nn.Linear(6, 5)
    x = torch.randn(20, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        current = linear(x)
        spikes, membrane, last = lif(current, decay=torch.full((5,), 0.9, requires_grad=True), reset_to=0.0)
    assert current.dtype == spikes.dtype == torch.bfloat16
    assert membrane.dtype == last.dtype == torch.float32
    assert torch.equal(membrane, lif(current.float(), decay=torch.full((5,), 0.9), reset_to=0.0)[1])
    spikes.sum().backward()
    assert linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:, :1].expand(-1, 4, -1),
    ],
)
def test_any_strides(view):
    x, _, knobs = random_case(8, 20, 4, (6,), False, True, torch.float32)
    strided = view(x.detach())
    dense = strided.clone(memory_format=torch.contiguous_format)
    assert not strided.is_contiguous() and dense.is_contiguous()
    v = torch.zeros(6, 4).t().requires_grad_()
    ours = gradients(lif, strided.requires_grad_(), v, knobs)
    theirs = gradients(lif, dense.requires_grad_(), v, knobs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert ours[0][0].is_contiguous()


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0)])
def test_zero_size(shape):
    x = torch.randn(shape, requires_grad=True)
    v = torch.randn(shape[1:], requires_grad=True)
    decay = torch.full(shape[2:], 0.5, requires_grad=True)
    spikes, membrane, last = lif(x, v, decay=decay)
    assert spikes.shape == membrane.shape == shape
    if shape[0] == 0:
        assert torch.equal(last, v) and (v.numel() == 0 or last.data_ptr() != v.data_ptr())
    grads = torch.autograd.grad(spikes.sum() + membrane.sum() + last.sum(), [x, v, decay])
    assert [g.shape for g in grads] == [x.shape, v.shape, decay.shape]
    if shape[0] == 0 and v.numel():
        assert torch.equal(grads[1], torch.ones_like(v))


def test_nan_stays_in_its_neuron():
    x = torch.randn(30, 2, 4) + 0.5
    dirty = x.clone()
    dirty[10, 1, 2] = math.nan
    x.requires_grad_()
    dirty.requires_grad_()
    for knobs in ({"reset_to": 0.0}, {}):
        (_, clean_v, _), (_, dirty_v, _) = lif(x, decay=0.9, **knobs), lif(dirty, decay=0.9, **knobs)
        hit = torch.zeros(30, 2, 4, dtype=torch.bool)
        hit[10:, 1, 2] = True
        assert torch.equal(dirty_v.isnan(), hit)
        assert torch.equal(dirty_v[~hit], clean_v[~hit])
        (clean_g,), (dirty_g,) = (torch.autograd.grad(v.sum(), s) for v, s in ((clean_v, x), (dirty_v, dirty)))
        others = torch.ones(30, 2, 4, dtype=torch.bool)
        others[:, 1, 2] = False
        assert torch.equal(dirty_g[others], clean_g[others])


def test_an_infinite_current_is_reset_like_any_other():
    x = torch.tensor([0.0, math.inf, 0.5]).reshape(3, 1, 1)
    spikes, v, _ = lif(x, decay=0.5, reset_to=0.0)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert v.flatten().tolist() == [0, 0, 0.5]


def test_a_spike_on_the_threshold():
    x = torch.ones(1, 1, 1)
    assert lif(x, decay=0.5)[0].item() == 1
    assert lif(x, decay=0.5, strict=True)[0].item() == 0


def test_second_derivative_is_refused():
    x = torch.randn(5, 1, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(lif(x, decay=0.5)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="lif: a surrogate gradient has no derivative"):
        grad.sum().backward()


def test_what_is_kept_for_the_backward_pass():
    """x itself, one membrane in sixteen, and the knobs; without gradients nothing."""
    x = torch.randn(160, 2, 3, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        lif(x, decay=0.5)
    own = [t for t in kept if t.data_ptr() != x.data_ptr()]
    assert len(own) == len(kept) - 1
    assert sum(t.numel() for t in own if t.dim()) == 160 // 16 * 2 * 3
    calls = (torch.no_grad(), torch.inference_mode())
    for context in calls:
        with context:
            arguments = [torch.tensor(k) for k in (0.5, 1.0, 0.0, 1.0, 0.0)]
            rule = {"hard": True, "strict": False, "detach_reset": True, "surrogate": Surrogate("atan")}
            _, membrane, last = op.lif(x.detach(), (torch.zeros(2, 3),), arguments, **rule, v_sequence=False)
            assert membrane.numel() == 0 and last.v.shape == (2, 3)


def test_direct_call_without_checkpoints_has_no_backward():
    x = torch.randn(4, 1, 2, requires_grad=True)
    knobs = [torch.tensor(k) for k in (0.5, 1.0, 0.0, 1.0, 0.0)]
    out = torch.ops.temporal.lif_forward(
        x, torch.zeros(1, 2), *knobs, None, None, None, True, False, True, "atan", 2.0, False, 0, 0
    )
    assert out[3].numel() == 0
    with pytest.raises(RuntimeError, match="every=0 keeps nothing"):
        out[0].sum().backward()


def test_li_is_the_same_scan_without_spikes():
    x, v, _ = random_case(4, 40, 2, (3,), True, True, torch.float64)
    decay = torch.rand(3, dtype=torch.float64).requires_grad_()
    outputs = []
    for run in (li, lambda x, v, **k: oracle(x, v, threshold=1e9, **k)[1:]):
        out = run(x, v, decay=decay, gain=0.3, bias=0.1)
        outputs.append((*out, *torch.autograd.grad(out[0].sin().sum() + out[1].sum(), [x, v, decay])))
    torch.testing.assert_close(*outputs, **CLOSE)
    assert li(torch.full((3, 1, 1), math.inf), decay=0.5)[0].isposinf().all()


def test_importing_loads_no_compiler():
    script = "import sys, temporal.neurons; print({'numba', 'triton', 'torch._dynamo'} & set(sys.modules))"
    root = pathlib.Path(op.__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "set()"
