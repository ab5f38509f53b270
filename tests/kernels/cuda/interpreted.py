"""The Triton kernels under Triton's interpreter, against the reference. Run by test_interpreter.py, in a process of its own.

The interpreter computes in numpy's float32, one operation at a time, as the reference does: spikes, membranes and states are
equal bit for bit. Gradients are the same sums in another order, so they are compared to within CLOSE.
"""

import dataclasses
import importlib.util
import math
import pathlib
import random
from importlib import import_module
from typing import Any

import pytest
import torch

from temporal.kernels._scan import Rule
from temporal.kernels.surrogates import Surrogate, names

# numpy warns of infinities and NaN, which some of these calls have on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

# Ten roundings of float32 (6e-8) a step, along at most 40 steps, of sums whose terms are near 1.
CLOSE = {"rtol": 3e-5, "atol": 3e-5}
# One rounding of the result to 16 bits, which may fall to the other side.
CLOSE_16 = {
    torch.float32: CLOSE,
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-4},
    torch.float16: {"rtol": 2**-10, "atol": 1e-4},
}

ROOT = pathlib.Path(__file__).parents[3]
NEURONS = ("lif", "cuba", "adaptive", "adaptive_late")
every_neuron = pytest.mark.parametrize("name", NEURONS)


@dataclasses.dataclass
class Problem:
    """One call of a backend's forward and backward."""

    name: str
    x: torch.Tensor
    state: Any
    knobs: Any
    rule: Rule
    lengths: torch.Tensor | None = None
    every: int = 16
    truncate: int = 0
    grads: tuple[Any, Any, Any] = (None, None, None)
    needs: list[bool] | None = None

    def forward(self, backend: str, *, v_sequence: bool = True, **options):
        arguments = (self.x, self.state, self.knobs, None, self.lengths, self.rule, v_sequence, self.every)
        return module(self.name, backend).forward(*arguments, **options)

    def backward(self, backend: str, checkpoints):
        needs = [True] * len(self.knobs) if self.needs is None else self.needs
        rule = (self.lengths, self.rule, self.every, self.truncate, needs)
        return module(self.name, backend).backward(*self.grads, self.x, checkpoints, self.knobs, None, None, *rule)[:3]

    def run(self, backend: str):
        """Everything that comes out: values, then gradients."""
        spikes, membranes, last, checkpoints = self.forward(backend)
        grad_x, grad_state, grad_knobs = self.backward(backend, checkpoints)
        values = {"spikes": spikes, "membranes": membranes, **fields("last", last), **fields("checkpoint", checkpoints)}
        return values, {"x": grad_x, **fields("state", grad_state), **fields("knob", grad_knobs)}


def module(name, backend):
    return import_module(f"temporal.kernels.{name}.{backend}")


def fields(kind, named):
    return {f"{kind} {field}": value for field, value in named._asdict().items()}


def problem(name, shape, *, seed=0, dtype=torch.float32, knobs="mixed", x=None, soft=False, **rule) -> Problem:
    """Currents that fire in about a third of the steps. ``knobs``: "number", "neuron", or "mixed": these and others."""
    g = torch.Generator().manual_seed(seed)
    family = module(name, "reference").FAMILY
    features = shape[2:]
    if x is None:
        x = (torch.randn(shape, generator=g) * 0.8 + 0.4).to(dtype)

    def normal(*size):
        return torch.randn(*size, generator=g)

    def knob(place, field):
        low, high = {"threshold": (0.5, 0.9), "reset": (0.5, 0.9) if soft else (-0.2, 0.2)}.get(field, (0.2, 0.7))
        shapes = {"number": [()], "neuron": [features], "mixed": [(), features, (1,) * len(features), features[-1:]]}[
            knobs
        ]
        return low + (high - low) * torch.rand(shapes[(place + seed) % len(shapes)], generator=g)

    state = family.state(*(0.3 * normal(*shape[1:]) for _ in family.state._fields))
    chosen = {"hard": not soft, "strict": False, "detach_reset": False, "surrogate": "atan"} | rule
    chosen.setdefault("alpha", Surrogate(chosen["surrogate"]).alpha)
    return Problem(
        name,
        x,
        state,
        family.knobs(*(knob(place, field) for place, field in enumerate(family.knobs._fields))),
        Rule(**chosen),
        grads=(normal(*shape).to(dtype), normal(*shape), family.state(*(normal(*shape[1:]) for _ in state))),
    )


def check(p: Problem) -> None:
    """Both backends agree."""
    (values, grads), (true_values, true_grads) = p.run("cuda"), p.run("reference")
    for field, value in values.items():
        assert value.dtype == true_values[field].dtype and value.is_contiguous()
        torch.testing.assert_close(
            value, true_values[field], rtol=0, atol=0, equal_nan=True, msg=lambda m, f=field: f"{f}: {m}"
        )
    for field, value in grads.items():
        close = CLOSE_16[p.x.dtype] if field == "x" else CLOSE
        torch.testing.assert_close(
            value, true_grads[field], **close, equal_nan=True, msg=lambda m, f=field: f"gradient of {f}: {m}"
        )


SHAPES = [(1, 1, 1), (9, 2, 5), (20, 3, 32), (17, 2, 2, 6), (33, 1, 140), (5, 4), (16, 2, 8), (40, 1, 3)]


def random_problem(name, seed) -> Problem:
    choose = random.Random(seed)
    p = problem(
        name,
        choose.choice(SHAPES),
        seed=seed,
        dtype=choose.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16]),
        knobs=choose.choice(["number", "neuron", "mixed"]),
        soft=choose.random() < 0.5,
        strict=choose.random() < 0.5,
        detach_reset=choose.random() < 0.5,
        surrogate=choose.choice(names()),
    )
    if choose.random() < 0.5:
        p.lengths = torch.tensor([choose.randint(0, p.x.shape[0] + 3) for _ in range(p.x.shape[1])])
    p.truncate = choose.choice([0, 0, 1, 3, 7, 16])
    p.every = choose.choice([16, 16, 32, 8, 5, 1, 24])
    p.needs = choose.choice([None, [choose.random() < 0.5 for _ in p.knobs]])
    p.grads = tuple(None if choose.random() < 0.2 else grad for grad in p.grads[:2]) + p.grads[2:]
    if choose.random() < 0.3:
        p.grads = (*p.grads[:2], type(p.state)(*[None] * len(p.state)))
    return p


@every_neuron
@pytest.mark.parametrize("seed", range(6))
def test_random_calls(name, seed):
    check(random_problem(name, seed))


@pytest.mark.slow
@every_neuron
@pytest.mark.parametrize("seed", range(6, 60))
def test_more_random_calls(name, seed):
    check(random_problem(name, seed))


@pytest.mark.parametrize("surrogate", names())
def test_every_surrogate(surrogate):
    p = problem("lif", (6, 2, 40), surrogate=surrogate, knobs="number")
    p.x[2, 0, :7] = torch.tensor([40.0, -40.0, 1e20, -1e20, math.inf, -math.inf, math.nan])
    check(p)


@every_neuron
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_every_reset(name, hard, detach_reset):
    for strict in (True, False):
        p = problem(name, (10, 2, 12), soft=not hard, detach_reset=detach_reset, strict=strict, knobs="neuron")
        check(p)


def test_on_the_threshold():
    """Membranes that are equal to it: who fires is a matter of `strict`."""
    for strict in (True, False):
        p = problem("lif", (4, 1, 64), strict=strict)
        p.state = type(p.state)(torch.zeros(1, 64))
        p.knobs = type(p.knobs)(*map(torch.tensor, (0.5, 1.0, 0.0, 1.0, 0.0)))
        p.x = torch.ones(4, 1, 64) * torch.tensor([1.0, 0.5, 0.75, 2.0]).repeat(16)
        check(p)
        assert p.forward("cuda")[0][0, 0].tolist() == [float(not strict), 0, 0, 1] * 16


@every_neuron
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0), (1, 3, 7), (0, 0, 0)])
def test_little_or_nothing(name, shape):
    p = problem(name, shape, knobs="number")
    check(p)
    p.grads = (None, None, type(p.state)(*[None] * len(p.state)))
    check(p)


def views(shape):
    """Currents that lie in memory in many ways."""
    steps, batch, features = shape
    g = torch.Generator().manual_seed(3)

    def normal(*size):
        return torch.randn(*size, generator=g) * 0.8 + 0.4

    return {
        "steps of a longer sequence": normal(2 * steps, batch, features)[::2],
        "samples of a larger batch": normal(steps, batch + 2, features)[:, 1:-1],
        "off by one element": normal(steps * batch * features + 1)[1:].view(shape),
        "features of more": normal(steps, batch, features + 3)[..., 1:-2],
        "batch first": normal(batch, steps, features).transpose(0, 1),
        "features first": normal(features, batch, steps).permute(2, 1, 0),
        "one step for all": normal(1, batch, features).expand(shape),
        "one number for all": normal(1, 1, 1).expand(shape),
    }


@pytest.mark.parametrize("name", ["lif", "adaptive_late"])
@pytest.mark.parametrize("view", views((2, 2, 2)))
def test_strides(name, view):
    shape = (11, 2, 16)
    p = problem(name, shape, x=views(shape)[view])
    p.grads = (views(shape)[view] - 0.4, views(shape)["steps of a longer sequence"], p.grads[2])
    before = p.x.clone()
    check(p)
    assert torch.equal(p.x, before)


@every_neuron
def test_a_state_and_gradients_that_are_not_contiguous(name):
    p = problem(name, (11, 3, 16))

    def spread(tensor):
        return torch.stack([tensor, tensor], -1)[..., 0]

    p.state = type(p.state)(*map(spread, p.state))
    p.grads = (spread(p.grads[0]), spread(p.grads[1]), type(p.state)(*map(spread, p.grads[2])))
    p.knobs = type(p.knobs)(*(spread(k) if k.dim() else k for k in p.knobs))
    check(p)


@every_neuron
@pytest.mark.parametrize("features", [12, 5])
def test_a_sample_is_what_it_is_alone(name, features):
    """Padding holds NaN, and arriving gradients do too; neither goes anywhere."""
    steps, lengths = 19, [19, 0, 7, 16]
    p = problem(name, (steps, 4, features), knobs="neuron")
    p.lengths = torch.tensor(lengths)
    for b, length in enumerate(lengths):
        for padded in (p.x, *p.grads[:2]):
            padded[length:, b] = math.nan
    values, grads = p.run("cuda")
    for b, length in enumerate(lengths):
        alone = problem(name, (steps, 4, features), knobs="neuron")
        part = slice(b, b + 1)
        alone.x, alone.state = p.x[:length, part], type(p.state)(*(s[part] for s in p.state))
        grad_last = type(p.state)(*(s[part] for s in p.grads[2]))
        alone.grads = (p.grads[0][:length, part], p.grads[1][:length, part], grad_last)
        its_values, its_grads = alone.run("reference")
        for field in ("spikes", "membranes"):
            assert torch.equal(values[field][:length, part], its_values[field])
            assert not values[field][length:, b].any()
        for field in alone.state._fields:
            assert torch.equal(values[f"last {field}"][part], its_values[f"last {field}"])
            torch.testing.assert_close(grads[f"state {field}"][part], its_grads[f"state {field}"], **CLOSE)
        torch.testing.assert_close(grads["x"][:length, part], its_grads["x"], **CLOSE)
        assert not grads["x"][length:, b].any()
    assert not any(grad.isnan().any() for grad in grads.values())


@every_neuron
@pytest.mark.parametrize("every", [16, 8])
def test_truncation_is_a_chain_of_detached_calls(name, every):
    steps, cut = 23, 6
    p = problem(name, (steps, 2, 9), knobs="number")
    p.every, p.truncate = every, cut
    grads = p.run("cuda")[1]
    state, pieces = p.state, []
    for start in range(0, steps, cut):
        piece = dataclasses.replace(p, x=p.x[start : start + cut], state=state, truncate=0)
        last_one = start + cut >= steps
        grad_last = p.grads[2] if last_one else type(state)(*[None] * len(state))
        piece.grads = (p.grads[0][start : start + cut], p.grads[1][start : start + cut], grad_last)
        state = piece.forward("reference")[2]
        pieces.append(piece.run("reference")[1])
    torch.testing.assert_close(grads["x"], torch.cat([piece["x"] for piece in pieces]), **CLOSE)
    for field in p.state._fields:
        torch.testing.assert_close(grads[f"state {field}"], pieces[0][f"state {field}"], **CLOSE)
    for field in p.knobs._fields:
        torch.testing.assert_close(grads[f"knob {field}"], sum(piece[f"knob {field}"] for piece in pieces), **CLOSE)


@every_neuron
def test_only_wanted_gradients_of_knobs(name):
    for wanted in range(3):
        p = problem(name, (3, 2, 4))
        p.needs = [k % 3 == wanted for k in range(len(p.knobs))]
        check(p)
        grads = p.backward("cuda", p.forward("cuda")[3])[2]
        assert [grad.numel() > 0 for grad in grads] == p.needs
        assert all(g.shape == k.shape for g, k, needed in zip(grads, p.knobs, p.needs, strict=True) if needed)


@every_neuron
def test_without_a_membrane_sequence_or_checkpoints(name):
    p = problem(name, (5, 2, 4))
    true = p.forward("reference")
    p.every = 0
    spikes, membranes, last, checkpoints = p.forward("cuda", v_sequence=False)
    assert torch.equal(spikes, true[0]) and all(map(torch.equal, last, true[2]))
    assert membranes.shape == (0, 2, 4) and membranes.dtype == torch.float32
    assert [c.shape for c in checkpoints] == [(0, *s.shape) for s in p.state]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 2, 48), (5, 3, 7), (2, 1, 33), (3, 1, 300), (0, 2, 5), (3, 0, 4)])
def test_packed_spikes(shape, dtype):
    p = problem("lif", shape, dtype=dtype)
    if shape[1] > 1:
        p.lengths = torch.arange(2, 2 + shape[1])
    dense, packed = p.forward("reference")[0], p.forward("cuda", packed=True)[0]
    neurons = shape[1:].numel() if isinstance(shape, torch.Size) else math.prod(shape[1:])
    assert packed.dtype == torch.int32 and packed.shape == (shape[0], -(-neurons // 32))
    bits = ((packed[..., None] >> torch.arange(32)) & 1).flatten(1)
    assert torch.equal(bits[:, :neurons].reshape(shape).to(dtype), dense)
    assert not bits[:, neurons:].any()


@every_neuron
def test_a_nan_stays_with_its_neuron(name):
    p = problem(name, (12, 2, 8), knobs="neuron")
    p.needs = [False] * len(p.knobs)
    clean_values, clean_grads = p.run("cuda")
    p.x = p.x.clone()
    p.x[5, 1, 3] = math.nan
    values, grads = p.run("cuda")
    assert values["membranes"][5:, 1, 3].isnan().all()
    others = torch.ones(2, 8, dtype=torch.bool)
    others[1, 3] = False
    for after, clean in ((values["membranes"], clean_values["membranes"]), (grads["x"], clean_grads["x"])):
        assert torch.equal(after[:, others], clean[:, others])


@every_neuron
def test_a_neuron_that_never_fires(name):
    """An infinite threshold: the leaky integrator's."""
    p = problem(name, (9, 2, 8), strict=True, detach_reset=True, soft=True, surrogate="triangle")
    p.knobs = p.knobs._replace(threshold=torch.tensor(math.inf), reset=torch.tensor(0.0))
    check(p)
    assert not p.forward("cuda")[0].any()


@every_neuron
@pytest.mark.parametrize("steps", [0, 3])
def test_results_share_no_memory_with_arguments(name, steps):
    p = problem(name, (steps, 2, 4))
    arguments = {t.data_ptr() for t in (p.x, *p.state, *p.knobs, *p.grads[:2], *p.grads[2]) if t.numel()}
    for results in p.run("cuda"):
        for field, result in results.items():
            assert not result.numel() or result.data_ptr() not in arguments, field


@pytest.fixture
def gpu_check(monkeypatch):
    """examples/gpu_check.py, and operators that take the kernels for CPU tensors."""
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "examples" / "gpu_check.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name in NEURONS:
        operator = getattr(import_module(f"temporal.kernels.{name}"), name)
        monkeypatch.setitem(operator.backends.refusals, "cuda", lambda x, weight: None)
    return script


def test_through_the_operators(gpu_check, monkeypatch):
    """The neurons' public functions, under autograd, by the same comparison that runs on a GPU."""
    used = []
    for name in NEURONS:
        fused = module(name, "cuda").fused
        monkeypatch.setattr(module(name, "cuda"), "forward", lambda *a, f=fused: used.append(f) or f.forward(*a))
    check = gpu_check.Check("cpu", "cuda", 1, 1, 1)
    for name, (_, knobs) in gpu_check.NEURONS.items():
        x = gpu_check.currents(check, 18, 2, 9)
        options = {"lengths": torch.tensor([18, 7]), "truncate": 5}
        given = gpu_check.learned(check, knobs, 9)
        ours, true = (gpu_check.outcome(name, x, given, backend, **options) for backend in ("cuda", "reference"))
        gpu_check.compare(check, name, x.dtype, ours, true)
    assert check.failures == [] and len(used) == len(gpu_check.NEURONS)


@pytest.mark.slow
def test_the_other_parts_of_the_check_of_a_gpu(gpu_check):
    check = gpu_check.Check("cpu", "cuda", 8, 2, 32)
    for section in (gpu_check.waiting, gpu_check.graphs, gpu_check.speed):
        section(check)
    assert check.failures == []
