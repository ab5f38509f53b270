"""The compiled lif kernel against its reference, and its threads among other threads and forked processes."""

import itertools
import math
import multiprocessing
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import _float32, _threads, use
from temporal.kernels.surrogates import names
from temporal.neurons.functional import li, lif

# Spikes and membranes are equal bit for bit. Gradients do the same float32 operations in the same order except in the
# surrogate's slope (an exp, a power and a division of their own: some 1e-7), which the steps multiply and add up.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(autouse=True)
def _threads_as_before():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def random_case(seed, steps, batch, features, hard, per_neuron, dtype=torch.float32):
    """Currents that fire in about a third of the steps, and knobs that all ask for gradients."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return (low + (high - low) * torch.rand(*shape, generator=g)).requires_grad_()

    size = features if per_neuron else ()
    knobs = {"decay": uniform(0.3, 0.95, size), "gain": uniform(0.5, 1.5, size), "bias": uniform(-0.1, 0.2, size)}
    # some knobs are one number for all even where others are not
    knobs["threshold"] = uniform(0.7, 1.2, () if seed % 3 == 0 else size)
    if hard:
        knobs["reset_to"] = uniform(-0.2, 0.3, size)
    elif seed % 2:
        knobs["reset_by"] = uniform(0.5, 1.2, size)
    x = uniform(-0.6, 1.4, steps, batch, *features).detach().to(dtype).requires_grad_()
    return x, uniform(-0.5, 0.9, batch, *features), knobs


def run(backend, x, v, knobs, used=(0, 1, 2), **rule):
    """Outputs, and gradients of a weighted sum of the ``used`` ones."""
    with use(backend):
        outputs = lif(x, v, **knobs, **rule)
        g = torch.Generator().manual_seed(7)
        weights = [torch.randn(o.shape, generator=g).bfloat16().half().float() for o in outputs]
        loss = sum((outputs[i] * weights[i]).sum() for i in used)
        return outputs, torch.autograd.grad(loss, [x, v, *knobs.values()])


def assert_equal_runs(x, v, knobs, **rule):
    ours, our_grads = run("cpu", x, v, knobs, **rule)
    theirs, their_grads = run("reference", x, v, knobs, **rule)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    # A 16-bit gradient of x is rounded from two float32 numbers that may lie on two sides of a rounding edge.
    rounding = {torch.bfloat16: 8e-3, torch.float16: 1e-3}.get(x.dtype, CLOSE["rtol"])
    torch.testing.assert_close(our_grads[0], their_grads[0], rtol=rounding, atol=rounding)
    for name, a, b in zip(["v", *knobs], our_grads[1:], their_grads[1:], strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    steps=st.sampled_from([1, 2, 15, 16, 17, 33]),
    batch=st.integers(1, 3),
    features=st.sampled_from([(1,), (7,), (2, 3), (130,)]),
    hard=st.booleans(),
    per_neuron=st.booleans(),
    strict=st.booleans(),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(names()),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_equals_the_reference(seed, steps, batch, features, hard, per_neuron, dtype, **rule):
    assert_equal_runs(*random_case(seed, steps, batch, features, hard, per_neuron, dtype), **rule)


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_some_outputs(used, detach_reset):
    assert_equal_runs(*random_case(5, 20, 2, (9,), True, True), used=used, detach_reset=detach_reset)


@pytest.mark.parametrize("name", names())
def test_slope_of_each_surrogate(name):
    """Through the gradient of one step, with distances from the threshold on both sides and far out."""
    distance = torch.cat([torch.linspace(-4, 4, 2001), torch.tensor([0.0, -50.0, 50.0, -1e20, 1e20])])
    for surrogate in (name, f"{name}(0.5)", f"{name}(7.0)"):
        slopes = []
        for backend in ("cpu", "reference"):
            with use(backend):
                x = distance.reshape(1, 1, -1).clone().requires_grad_()
                spikes, _, _ = lif(x, decay=0.5, threshold=0.0, reset_by=0.0, surrogate=surrogate)
                slopes.append(torch.autograd.grad(spikes.sum(), x)[0])
        # peaks reach 7; exp and the division are each good to some 1e-7 of the value
        torch.testing.assert_close(*slopes, rtol=2e-6, atol=1e-6)


def test_more_neurons_than_a_block_and_any_division_among_threads():
    x, v, knobs = random_case(1, 18, 3, (2 * 32_000 // 3 + 5,), True, True)
    assert_equal_runs(x, v, knobs)
    torch.set_num_threads(1)
    alone = run("cpu", x, v, knobs)
    for count in (2, 3, 7):
        torch.set_num_threads(count)
        torch.testing.assert_close(run("cpu", x, v, knobs)[0], alone[0], rtol=0, atol=0)
        grads = run("cpu", x, v, knobs)[1]
        torch.testing.assert_close(grads[:2], alone[1][:2], rtol=0, atol=0)
        # torch adds up the samples of a knob in an order that depends on its threads
        torch.testing.assert_close(grads[2:], alone[1][2:], **CLOSE)


@pytest.mark.parametrize(
    "view", [lambda x: x.transpose(0, 1).contiguous().transpose(0, 1), lambda x: x[:, :1].expand(-1, 3, -1)]
)
def test_strides(view):
    x, v, knobs = random_case(8, 20, 3, (6,), False, True)
    assert_equal_runs(view(x.detach()).requires_grad_(), v, knobs)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)])
def test_zero_size(shape):
    x, v, knobs = random_case(8, shape[0], shape[1], shape[2:], False, True)
    assert_equal_runs(x, v, knobs)


def test_special_values():
    """NaN stays in its neuron, an infinite current is reset, an infinite threshold is never reached."""
    x = torch.randn(20, 2, 40) + 0.5
    x[3, 1, 7], x[5, 0, 9] = math.nan, math.inf
    for rule in ({"reset_to": 0.0}, {"threshold": math.inf, "strict": True}, {"threshold": math.inf}, {"strict": True}):
        outputs = []
        for backend in ("cpu", "reference"):
            with use(backend):
                outputs.append(lif(x, decay=0.9, **rule))
        torch.testing.assert_close(*outputs, rtol=0, atol=0, equal_nan=True)


def test_leaky_integrator():
    x = torch.randn(50, 3, 20, requires_grad=True)
    results = []
    for backend in ("cpu", "reference"):
        with use(backend):
            v, last = li(x, decay=0.95)
            results.append((v, last, torch.autograd.grad(v.sin().sum() + last.sum(), x)[0]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_the_rule_of_choice():
    x = torch.zeros(1, 1, 1, dtype=torch.float64)
    assert lif(x, decay=0.5)[1].dtype == torch.float64  # auto takes the reference
    with (
        use("cpu"),
        pytest.raises(NotImplementedError, match=r"'cpu' computes in float32, x is float64; use: reference"),
    ):
        lif(x, decay=0.5)
    with (
        use("cuda"),
        pytest.raises(NotImplementedError, match="'cuda' needs a CUDA tensor, x is on cpu; use: cpu, reference"),
    ):
        lif(x.float(), decay=0.5)


def test_exp_is_good_to_one_unit_in_the_last_place():
    import numba

    @numba.njit
    def apply(x, out):
        for i in range(x.size):
            out[i] = _float32.exp(x[i])

    special = [-math.inf, -1e30, 0.0, 1e30, math.inf, math.nan]
    x = np.concatenate([np.linspace(-110, 95, 1_000_001), special]).astype(np.float32)
    out = np.full_like(x, np.nan)
    apply(x, out)
    with np.errstate(over="ignore"):
        exact = np.exp(x.astype(np.float64)).astype(np.float32).astype(np.float64)
    assert np.array_equal(out[-6:], np.array([0, 0, 1, np.inf, np.inf, np.nan], np.float32), equal_nan=True)
    normal = np.abs(x) < 87
    assert np.abs(out[normal] / np.exp(x[normal].astype(np.float64)) - 1).max() < 1.2e-7
    tiny = (x <= -87) & (x > -110)
    assert np.abs(out[tiny] - exact[tiny]).max() <= 2 * 2.0**-149  # subnormal spacing
    assert np.isinf(out[(x > 88.73)]).all()


def test_share_covers_every_item_once_with_as_many_threads_as_torch_has():
    for count, workers, grain in itertools.product((0, 1, 5, 1000), (1, 2, 4), (1, 10, 400)):
        torch.set_num_threads(workers)
        seen, idents = [], set()
        lock = threading.Lock()

        def task(first, stop, seen=seen, idents=idents, lock=lock):
            with lock:
                seen.extend(range(first, stop))
                idents.add(threading.get_ident())

        _threads.share(task, count, grain)
        assert sorted(seen) == list(range(count))
        assert len(idents) <= max(1, min(workers, count // grain))


def test_shares_run_at_the_same_time():
    torch.set_num_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    _threads.share(lambda first, stop: barrier.wait(), 2, 1)


def test_share_raises_what_a_share_raised():
    torch.set_num_threads(2)

    def task(first, stop):
        if first:
            raise ValueError("second half")

    with pytest.raises(ValueError, match="second half"):
        _threads.share(task, 10, 1)


def test_server_threads_at_once():
    """Four Python threads, each with kernels that use several threads."""
    torch.set_num_threads(3)
    x, v, knobs = random_case(2, 20, 2, (6000,), True, True)
    expected = run("cpu", x, v, knobs)[0]
    failures = []

    def serve():
        for _ in range(5):
            with torch.no_grad():
                spikes, _, last = lif(x, v, **knobs)
            if not (torch.equal(spikes, expected[0]) and torch.equal(last, expected[2])):
                failures.append(threading.get_ident())

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _child(queue):
    torch.set_num_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    _threads.share(lambda first, stop: barrier.wait(), 2, 1)
    # torch's own OpenMP threads do not survive a fork; a data loader's worker has one thread for that reason.
    torch.set_num_threads(1)
    queue.put(float(lif(torch.ones(20, 2, 6000), decay=0.5, reset_to=0.0)[0].sum()))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_processes(method):
    """A child begins its own threads, also where its parent's were at work before the fork."""
    context = multiprocessing.get_context(method)
    torch.set_num_threads(2)
    expected = float(lif(torch.ones(20, 2, 6000), decay=0.5, reset_to=0.0)[0].sum())
    assert _threads._pool is not None
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,), daemon=True)
    child.start()
    try:
        assert queue.get(timeout=60) == expected
        child.join(timeout=20)
        assert child.exitcode == 0
    finally:
        child.kill()
