"""What torch asks of the neurons' operators: schemas, fake kernels, autograd, the compiler, memory, refusals."""

import pathlib
import subprocess
import sys

import pytest
import torch

from temporal.kernels import use
from temporal.kernels._scan import Feedback
from temporal.kernels.adaptive import adaptive
from temporal.kernels.adaptive_late import adaptive_late
from temporal.kernels.cuba import cuba
from temporal.kernels.lif import lif
from temporal.kernels.surrogates import Surrogate
from temporal.neurons import ALIF, LIF, AdLIF, CubaLIF, Recurrent, functional

OPERATORS = [lif, cuba, adaptive, adaptive_late]
every_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
RULE = {"hard": True, "strict": False, "detach_reset": True, "surrogate": Surrogate("atan")}


@pytest.fixture(autouse=True)
def _reference():
    with use("reference"):
        yield


def arguments(operator, steps=9, size=3, dtype=torch.float32):
    """x, state and knobs as the operator takes them."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(steps, 2, size, generator=g).to(dtype).requires_grad_()
    state = [torch.rand(2, size, generator=g).requires_grad_() for _ in operator.family.state._fields]
    knobs = [torch.rand(size, generator=g).mul(0.5).requires_grad_() for _ in operator.family.knobs._fields]
    return x, operator.family.state(*state), operator.family.knobs(*knobs)


def feedback(size=3):
    g = torch.Generator().manual_seed(2)
    return Feedback(torch.randn(size, size, generator=g).requires_grad_(), torch.ones(2, size).requires_grad_())


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    ("operator", "backend", "hard", "v_sequence", "every", "recurrent", "ragged"),
    [  # compiled, those that test_scan_cpu.py compiles too
        (lif, "reference", True, True, 1, False, True),
        (lif, "cpu", True, True, 4, False, False),
        (adaptive_late, "reference", True, False, 16, True, False),
        *(
            (operator, backend, False, True, 16, True, True)
            for operator in OPERATORS
            for backend in ("reference", "cpu")
        ),
    ],
)
def test_opcheck(operator, backend, hard, v_sequence, every, recurrent, ragged):
    x, state, knobs = arguments(operator)
    weight, sent = feedback() if recurrent else (None, None)
    lengths, rule = torch.tensor([9, 4]) if ragged else None, (hard, False, False, "atan", 2.0)
    forward = (x, *state, *knobs, weight, sent, lengths, *rule, v_sequence, every, 2)
    with use(backend):
        torch.library.opcheck(operator.run, forward)
        with torch.no_grad():
            spikes, _, *rest = operator.run(*forward)
        membranes = torch.ones_like(x) if v_sequence else None
        grads = (torch.ones_like(x), membranes, None, *(torch.ones_like(part) for part in state[1:]))
        saved = (x, *rest[len(state) :], *knobs, weight, sent, spikes if recurrent else None, lengths)
        saved = (None if t is None else t.detach() for t in saved)
        needs = [n % 2 == 0 for n in range(len(knobs))]
        torch.library.opcheck(operator.run_backward, (*grads, *saved, *rule, every, 2, needs))


def test_opcheck_without_membranes_and_gradients():
    x, state, knobs = (
        [t.detach() for t in part] if isinstance(part, tuple) else part.detach() for part in arguments(lif)
    )
    torch.library.opcheck(lif.run, (x, *state, *knobs, None, None, None, True, True, True, "erf", 2.0, False, 0, 0))


@every_operator
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole_for_any_number_of_steps(operator, recurrent, backend):
    torch._dynamo.reset()
    sizes = []  # nodes of each graph, in the order of compilation

    def counting(graph, inputs):
        sizes.append(len(graph.graph.nodes))
        return torch._dynamo.lookup_backend(backend)(graph, inputs)

    _, state, knobs = arguments(operator)
    weights = feedback() if recurrent else None

    def network(x, decay):
        values = knobs._replace(decay=decay.sigmoid())
        spikes, v, _ = operator(x.tanh() * 2, state, values, **RULE, v_sequence=True, feedback=weights)
        return (spikes + v).sum()

    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend=counting)
    compilations = []
    for steps in (20, 50, 200):
        x = torch.randn(steps, 2, 3, requires_grad=True)
        inputs = [x, knobs.decay, *(weights or ())]
        with use("reference"):
            ours, theirs = (torch.autograd.grad(f(x, knobs.decay), inputs) for f in (compiled, network))
        # inductor evaluates tanh and sigmoid with other roundings than eager
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        compilations.append(len(sizes))
    assert compilations[0] == compilations[-1]  # other lengths compile nothing
    assert max(sizes) < 90  # the scan is one node, not some for each step


LAYERS = {
    "LIF": lambda **k: LIF(4.0, **k),
    "CubaLIF": lambda **k: CubaLIF(3.0, 2.0, **k),
    "ALIF": lambda **k: ALIF(4.0, 9.0, **k),
    "AdLIF": lambda **k: AdLIF(3.0, 9.0, a=2.0, b=4.0, **k),
    "AdLIF, euler": lambda **k: AdLIF(3.0, 9.0, a=2.0, b=4.0, symplectic=False, **k),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_compiles_whole_for_any_number_of_steps(name):
    """Its graph has as many nodes for 5 steps as for 80, also where each is compiled for itself."""
    sizes = {}
    layer = Recurrent(LAYERS[name](truncate=7), 3)
    for steps in (5, 80):
        torch._dynamo.reset()

        def counting(graph, inputs, steps=steps):
            sizes.setdefault(steps, []).append(len(graph.graph.nodes))
            return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

        x = torch.randn(steps, 2, 3, requires_grad=True)
        with use("reference"):
            outputs = [f(x)[0] for f in (torch.compile(layer, fullgraph=True, backend=counting), layer)]
            grads = [torch.autograd.grad(y.sum(), [x, layer.weight]) for y in outputs]
        assert torch.equal(*outputs)
        torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-6)  # float32, the same operations
    assert sizes[5] == sizes[80]


@every_operator
def test_autocast_leaves_the_state_in_float32(operator):
    """The layers' current comes in 16 bits; everything that is kept over time does not."""
    linear = torch.nn.Linear(6, 3)
    _, state, knobs = arguments(operator)
    with torch.autocast("cpu", torch.bfloat16), use("reference"):
        current = linear(torch.randn(20, 2, 6))
        spikes, v, last = operator(current, state, knobs, **RULE, v_sequence=True)
        expected = operator(current.float(), state, knobs, **RULE, v_sequence=True)
    assert current.dtype == spikes.dtype == torch.bfloat16
    assert {v.dtype, *(part.dtype for part in last)} == {torch.float32}
    assert torch.equal(v, expected[1]) and torch.equal(spikes.float(), expected[0])
    spikes.sum().backward()
    assert linear.weight.grad.abs().sum() > 0


@every_operator
def test_direct_call_without_checkpoints_has_no_backward(operator):
    x, state, knobs = arguments(operator)
    out = operator.run(x, *state, *knobs, None, None, None, True, False, True, "atan", 2.0, False, 0, 0)
    assert all(checkpoints.numel() == 0 for checkpoints in out[2 + len(state) :])
    with pytest.raises(RuntimeError, match=f"temporal::{operator.name}_forward: every=0 keeps nothing"):
        out[0].sum().backward()


@every_operator
def test_an_output_without_elements_sends_nothing_back(operator):
    x, state, knobs = arguments(operator)
    grads = []
    for use_membranes in (False, True):
        spikes, membranes, last = operator(x, state, knobs, **RULE, v_sequence=False)
        assert membranes.shape == (0, 2, 3) and isinstance(last, operator.family.state)
        loss = spikes.sum() + (membranes.sum() if use_membranes else 0)
        grads.append(torch.autograd.grad(loss, [x, *state]))
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@every_operator
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_results_share_no_memory_with_arguments(operator, recurrent, backend):
    for steps in (0, 5):
        x, state, knobs = arguments(operator, steps)
        weights, lengths = (feedback(), torch.full((2,), steps)) if recurrent else (None, None)
        with use(backend):
            spikes, v, last = operator(x, state, knobs, **RULE, v_sequence=True, feedback=weights, lengths=lengths)
            inputs = [x, *state, *knobs, *(weights or ())]
            ones = [torch.ones_like(part) for part in (v, *last)]
            grads = torch.autograd.grad([v, *last], inputs, ones, materialize_grads=True)
        taken = {t.untyped_storage().data_ptr() for t in (*inputs, *ones) if t.numel()}
        given = [t.untyped_storage().data_ptr() for t in (spikes, v, *last, *grads) if t.numel()]
        assert not taken & set(given) and len(set(given)) == len(given)


@every_operator
def test_second_derivative_is_refused(operator):
    x, state, knobs = arguments(operator)
    spikes, _, _ = operator(x, state, knobs, **RULE, v_sequence=False)
    (grad,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{operator.name}: a surrogate gradient has no derivative"):
        grad.sum().backward()


@every_operator
@pytest.mark.parametrize("recurrent", [False, True])
def test_what_is_kept_for_the_backward_pass(operator, recurrent):
    """x itself, one state in sixteen, the knobs; with recurrent weights they and the spikes; without gradients nothing."""
    x, state, _ = arguments(operator, steps=160)
    knobs = operator.family.knobs(*(torch.tensor(0.5) for _ in operator.family.knobs._fields))
    weights, kept = feedback() if recurrent else None, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        spikes, _, _ = operator(x, state, knobs, **RULE, v_sequence=False, feedback=weights)
    given = {t.data_ptr() for t in (x, spikes, *(weights or ()))}
    own = [t for t in kept if t.data_ptr() not in given]
    assert len(kept) - len(own) == (4 if recurrent else 1)
    assert sum(t.numel() for t in own if t.dim()) == operator.states * 160 // 16 * 2 * 3
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            _, membrane, last = operator(x.detach(), state, knobs, **RULE, v_sequence=False)
        assert membrane.numel() == 0 and last[0].shape == (2, 3) and not last[0].requires_grad


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradients_only_of_the_knobs_that_need_one(backend):
    x, state, knobs = arguments(adaptive)
    needs, rule = [n % 3 > 0 for n in range(len(knobs))], (True, False, True, "atan", 2.0)
    with use(backend), torch.no_grad():
        spikes, v, _, _, *checkpoints = adaptive.run(x, *state, *knobs, None, None, None, *rule, True, 16, 0)
        grads = torch.ones_like(spikes), torch.ones_like(v), None, None
        saved = (x, *checkpoints, *knobs, None, None, None, None)
        _, _, _, *of_knobs = adaptive.run_backward(*grads, *saved, *rule, 16, 0, needs)
    assert [grad.numel() for grad in of_knobs[: len(knobs)]] == [3 if needed else 0 for needed in needs]


def test_importing_loads_no_compiler():
    script = "import sys, temporal.neurons; print({'numba', 'triton', 'torch._dynamo'} & set(sys.modules))"
    root = pathlib.Path(functional.__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "set()"


def test_the_rule_of_choice():
    x = torch.zeros(1, 1, 1, dtype=torch.float64)
    with use("auto"):  # takes the reference
        assert functional.lif(x, decay=0.5)[1].dtype == torch.float64
    double = pytest.raises(NotImplementedError, match=r"'cpu' computes in float32, x is float64; use: reference")
    with use("cpu"), double:
        functional.lif(x, decay=0.5)
    device = pytest.raises(NotImplementedError, match=r"'cuda' needs a CUDA tensor, x is on cpu; use: cpu, reference")
    with use("cuda"), device:
        functional.lif(x.float(), decay=0.5)


@every_operator
def test_more_recurrent_neurons_than_a_block_are_the_references(operator):
    """Refused by name, taken by the reference when nobody asks; the weights here are one number."""
    size = 16_385
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1).expand(size, size)
    state = operator.family.state(*(torch.zeros(1, size) for _ in operator.family.state._fields))
    knobs = operator.family.knobs(*(torch.tensor(0.5) for _ in operator.family.knobs._fields))
    rest = {**RULE, "v_sequence": False, "feedback": Feedback(weight, torch.zeros(1, size))}
    message = f"{operator.name}: backend 'cpu' takes up to 16384 recurrent neurons, here are 16385; use: reference"
    with use("cpu"), pytest.raises(NotImplementedError, match=message):
        operator(x, state, knobs, **rest)
    with use("auto"):
        assert operator.backends.choose(x, weight).__name__.endswith(".reference")
        assert operator.backends.choose(x, weight[1:, 1:]).__name__.endswith(".cpu")
