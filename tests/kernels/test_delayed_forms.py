"""The fast forms of delayed synapses against the plain one: live taps, the frequency domain, the rule between them."""

import math

import pytest
import torch
from DCLS.construct.modules import Dcls1d
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels.delayed import KERNELS, SMALLEST_SIGMA, delay_kernel, delayed_linear, operator, spread
from temporal.kernels.delayed import _events as events
from temporal.kernels.delayed._form import few_pay, form, form_on_gpu
from temporal.kernels.delayed._live import TOLERANCE, felt, shares, taps
from temporal.kernels.delayed._product import product

# Float32 sums of up to a few hundred terms, relative to the largest; the frequency domain adds its transforms' rounding, and
# live taps leave out TOLERANCE of a synapse's largest share. Gradients of delay and sigma divide by sigma and its square.
CLOSE = {torch.float32: 2e-5, torch.float64: 1e-12}
FORMS = ("taps", "frequency", "dense", "events")


def drawn(steps, batch, inputs, outputs, synapses, max_delay, dtype, seed=0):
    torch.manual_seed(seed)
    shape = (outputs, inputs) + ((synapses,) if synapses > 1 else ())
    history = torch.randn(max_delay + steps, batch, inputs, dtype=dtype)
    weight = torch.randn(shape, dtype=dtype)
    # Off the walls and the triangles' kinks, where a rounding may decide on which side a delay lies.
    delay = (torch.rand(shape, dtype=dtype) * 0.98 + 0.01) * max_delay
    return history, weight, delay, torch.randn(steps, batch, outputs, dtype=dtype)


def everything(history, weight, delay, sigma, pull, max_delay, kernel):
    """The output and the gradients of history, weight, delay and sigma."""
    width = torch.tensor(sigma, dtype=weight.dtype)
    leaves = [tensor.clone().requires_grad_() for tensor in (history, weight, delay, width)]
    y = delayed_linear(*leaves, max_delay=max_delay, kernel=kernel)
    return y.detach(), *torch.autograd.grad(y, leaves, pull, materialize_grads=True)


def assert_close(found, truth, tolerance):
    for name, one, other in zip(("y", "history", "weight", "delay", "sigma"), found, truth, strict=True):
        assert one.shape == other.shape, name
        if not one.numel():
            continue
        # Sigma's gradient is a sum over all synapses that nearly cancels.
        scale = max(1e-3, other.abs().max().item()) * (30 if name == "sigma" else 1)
        assert (one.double() - other.double()).abs().max().item() <= tolerance * scale, name


@pytest.fixture
def chosen(monkeypatch):
    def choose(name):
        monkeypatch.setattr(operator, "form", lambda *given: "frequency" if name == "events" else name)
        monkeypatch.setattr(operator, "few_pay", lambda *given: name == "events")

    return choose


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sigma", [3.0, 0.5, 0.3, 0.0])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "shape",
    [(20, 17, 9, 7, 1, 24), (40, 3, 6, 5, 2, 7), (1, 1, 3, 2, 1, 5), (5, 16, 4, 4, 3, 0), (130, 2, 3, 40, 1, 4)],
    ids=str,
)
def test_every_form_equals_the_reference(shape, name, sigma, kernel, dtype, chosen):
    """Values and gradients; odd and even numbers of taps, several synapses, sequences shorter than the longest delay."""
    if name in ("taps", "events") and dtype == torch.float64:
        pytest.skip("live taps and events are float32's")
    if name == "dense" and shape[0] > 100:
        pytest.skip("the reference itself")
    history, weight, delay, pull = drawn(*shape, dtype)
    if name == "events":
        history *= torch.rand_like(history) < 0.3
    with use("reference"):
        exact = (tensor.double() for tensor in (history, weight, delay))
        truth = everything(*exact, sigma, pull.double(), shape[-1], kernel)
    chosen(name)
    assert_close(everything(history, weight, delay, sigma, pull, shape[-1], kernel), truth, CLOSE[dtype])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    st.sampled_from(KERNELS), st.sampled_from(["contiguous", "transposed", "strided"]), st.integers(0, 9),
    st.integers(0, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.floats(0.25, 4.0),
)  # fmt: skip
def test_whatever_the_rule_chooses_equals_the_reference(
    kernel, layout, steps, batch, inputs, outputs, max_delay, sigma
):
    history, weight, delay, pull = drawn(steps, batch, inputs, outputs, 1, max_delay, torch.float32)
    if layout == "transposed":
        history = history.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    elif layout == "strided":
        history, pull = history.repeat(1, 1, 2)[..., ::2], pull.repeat(2, 1, 1)[::2]
    with use("reference"):
        exact = (tensor.double() for tensor in (history, weight, delay))
        truth = everything(*exact, sigma, pull.double(), max_delay, kernel)
    # A triangle's or a kink's side may be decided by float32's rounding of a distance: there the weights and values only.
    parts = 3 if kernel == "triangle" else 5
    found = everything(history, weight, delay, sigma, pull, max_delay, kernel)
    names = (found[:parts], truth[:parts])
    for one, other in zip(*names, strict=True):
        scale = max(1.0, other.abs().max().item() if other.numel() else 0.0) * 30
        torch.testing.assert_close(one.double(), other, rtol=0, atol=CLOSE[torch.float32] * scale)


# --- live taps ---


@pytest.mark.parametrize("kernel", ["gaussian", "triangle"])
def test_what_is_left_out_is_below_the_tolerance(kernel):
    delay = torch.linspace(0, 24, 2001, dtype=torch.float64)
    for sigma in (0.1, 0.25, 0.5, 1.0, 2.0):
        count = taps(sigma, 24, kernel)
        share = spread(delay, sigma, 24, kernel)
        first = shares(delay, torch.tensor(sigma, dtype=torch.float64), 24, kernel, count)[0]
        inside = (torch.arange(25) >= first[:, None]) & (torch.arange(25) < first[:, None] + count)
        left_out = share.masked_fill(inside, 0)
        assert (left_out.amax(1) <= TOLERANCE * share.amax(1) * (kernel == "gaussian")).all()
        assert count < 25


def test_how_many_taps_are_live():
    assert [taps(sigma, 24, "gaussian") for sigma in (0.0, 1e-4, 0.1, 0.5, 12.0, math.inf)] == [1, 1, 2, 6, 25, 25]
    assert taps(0.5, 24, "triangle") == 3 and taps(0.5, 1, "gaussian") == 2 and taps(3.0, 24, "rounded") == 1
    assert [felt(1, longest, "rounded") for longest in (24, 1, 0)] == [3, 2, 1] and felt(6, 24, "gaussian") == 6


def test_rounded_synapses_are_exact_on_a_grid():
    """Every sum is exact in float32, so the forms must be equal to the bit, whatever the sizes are."""
    for steps, batch in ((100, 64), (3, 1), (1, 5)):
        history = (torch.rand(24 + steps, batch, 33) < 0.2).float()
        weight = (torch.randn(29, 33).clamp(-0.5, 0.5) * 1024).round() / 1024
        delay = torch.randint(0, 25, (29, 33)).float()
        with use("reference"):
            truth = delayed_linear(history, weight, delay, 0.0, max_delay=24)
        assert delayed_linear(history, weight, delay, 0.0, max_delay=24).equal(truth)


def test_products_of_any_size():
    generator = torch.Generator().manual_seed(0)
    for count, rows, depth, columns in ((1, 1, 1, 1), (2, 9, 5, 33), (3, 16, 7, 64), (1, 15, 0, 31), (2, 3, 4, 32)):
        for turned in (False, True):
            left = torch.randn(count, depth, rows, generator=generator).transpose(1, 2)
            left = left if turned else left.contiguous()
            right = torch.randn(count, depth, 2 * columns, generator=generator)[..., :columns]
            out = torch.zeros(count, rows, columns)
            torch.testing.assert_close(product(out, left, right), left @ right, rtol=0, atol=1e-5)  # 7 float32 terms
            torch.testing.assert_close(product(out, left, right, add=True), 2 * (left @ right), rtol=0, atol=2e-5)


# --- the rule ---


def test_the_rule_follows_sigma_and_size():
    training = (100, 64, 256, 256, 1, 24)
    assert form(*training, 1, True) == form(*training, 2, True) == "taps"
    assert form(*training, 6, True) == form(*training, 25, True) == form(*training, 25, False) == "frequency"
    assert form(*training, 1, False) == "dense"  # never the frequency domain for whole delays
    assert form(1, 1, 256, 256, 1, 24, 1, True) == "taps"
    assert form(0, 64, 256, 256, 1, 24, 6, True) == form(100, 0, 256, 256, 1, 24, 6, True) == "dense"


def test_the_rule_of_events():
    """They pay for few, sooner for gradients; never with whole delays, nor in a small call, where none is counted."""
    training = (100, 64, 256, 256, 1, 24)

    def density(value):
        return lambda: value

    assert few_pay(*training, 25, density(0.05), False) and not few_pay(*training, 25, density(0.3), False)
    assert few_pay(*training, 6, density(0.15), True) and not few_pay(*training, 6, density(0.15), False)
    for small in ((*training, 1), (1, 1, 256, 256, 1, 24, 6), (0, 64, 256, 256, 1, 24, 6)):
        assert not few_pay(*small, lambda: pytest.fail("nothing to count for"), True)


def test_events_run_where_they_pay(monkeypatch):
    """Spikes do, the same layer's dense input does not; several blocks of outputs and an uneven rest."""
    counted = []

    def count(name, run):
        monkeypatch.setattr(events, name, lambda *given: counted.append(name) or run(*given))

    count("forward", events.forward)
    count("parameters", events.parameters)
    history, weight, delay, pull = drawn(60, 20, 70, 85, 1, 24, torch.float32)
    spikes = (history > 1.6).float()
    for x, expected in ((spikes, ["forward", "parameters"]), (spikes * 0.3, ["forward", "parameters"]), (history, [])):
        counted.clear()
        with use("reference"):
            exact = (tensor.double() for tensor in (x, weight, delay))
            truth = everything(*exact, 2.0, pull.double(), 24, "gaussian")
        assert_close(everything(x, weight, delay, 2.0, pull, 24, "gaussian"), truth, CLOSE[torch.float32])
        assert counted == expected


def test_the_rule_on_a_gpu():
    """Few live taps by the kernel that loads each alone, more in the frequency domain; whole delays never there."""
    training = (100, 64, 256, 256, 1, 24)
    assert [form_on_gpu(*training, live) for live in (1, 3, 6, 25)] == ["taps", "taps", "frequency", "frequency"]
    assert form_on_gpu(1, 1, 256, 256, 1, 24, 6) == form_on_gpu(1, 1, 256, 256, 1, 24, 1) == "taps"
    assert form_on_gpu(1, 1, 256, 256, 1, 24, 25) == form_on_gpu(1, 1, 256, 256, 1, 1, 2) == "dense"
    assert form_on_gpu(0, 64, 256, 256, 1, 24, 6) == "dense"


def test_a_requested_backend_is_obeyed_or_refused():
    half = torch.zeros(9, 1, 2, dtype=torch.bfloat16)
    weight, delay = torch.zeros(3, 2, dtype=torch.bfloat16), torch.zeros(3, 2, dtype=torch.bfloat16)
    with use("cpu"), pytest.raises(NotImplementedError, match=r"float32 or float64, not torch\.bfloat16"):
        delayed_linear(half, weight, delay, 0.5, max_delay=4)
    assert delayed_linear(half, weight, delay, 0.5, max_delay=4).dtype == torch.bfloat16
    with pytest.raises(NotImplementedError, match=r"does not have this operator|needs a CUDA tensor"), use("cuda"):
        delayed_linear(half.float(), weight.float(), delay.float(), 0.5, max_delay=4)


# --- the operator ---


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("sigma", [12.0, 0.5, 0.0])
@pytest.mark.parametrize("dtype", CLOSE)
def test_opcheck(sigma, dtype):
    history, weight, delay, _ = drawn(8, 3, 4, 5, 1, 6, dtype)
    leaves = [tensor.requires_grad_() for tensor in (history, weight, delay, torch.tensor(sigma, dtype=dtype))]
    for kernel in ("gaussian", "rounded"):
        torch.library.opcheck(torch.ops.temporal.delayed, (*leaves, None, 6, kernel))


@pytest.mark.parametrize("kernel", ["gaussian", "triangle", "spectral"])
@pytest.mark.parametrize("name", ["frequency", "dense"])
def test_gradients_are_those_of_finite_differences(name, kernel, chosen):
    chosen(name)
    history, weight, delay, _ = drawn(9, 2, 3, 2, 2, 4, torch.float64)
    for sigma in (2.0, 0.5):
        leaves = [t.requires_grad_() for t in (history, weight, delay, torch.tensor(sigma, dtype=torch.float64))]
        assert torch.autograd.gradcheck(lambda *given: delayed_linear(*given, max_delay=4, kernel=kernel), leaves)


def test_compiled_training_equals_eager():
    history, weight, delay, pull = drawn(30, 4, 6, 5, 1, 8, torch.float32)
    compiled = torch.compile(everything, backend="aot_eager")  # graphs and fake kernels; no code to compile
    for sigma in (0.5, 2.0):
        truth = everything(history, weight, delay, sigma, pull, 8, "gaussian")
        assert_close(compiled(history, weight, delay, sigma, pull, 8, "gaussian"), truth, 1e-6)


def test_no_second_derivatives():
    history, weight, delay, _ = drawn(8, 3, 4, 5, 1, 6, torch.float64)
    y = delayed_linear(history.requires_grad_(), weight.requires_grad_(), delay, 1.0, max_delay=6)
    (gradient,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()


def test_a_nan_stays_in_its_sample_unless_frequencies_mix_steps():
    """Never silently finite: what depends on it is NaN in every form."""
    history, weight, delay, _ = drawn(30, 2, 6, 5, 1, 8, torch.float32)
    history[12, 1, 3] = math.nan
    for sigma in (0.0, 0.5, 4.0):
        y = delayed_linear(history, weight, delay, sigma, max_delay=8)
        assert y[:, 1].isnan().any() and y[:, 0].isfinite().all()


@pytest.mark.parametrize("name", ["taps", "events", "frequency"])
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_a_delay_that_is_nan_makes_its_output_nan(name, sigma, chosen):
    """And no other; it is a place to read from, too, and must be one that is there."""
    chosen(name)
    history, weight, delay, pull = drawn(40, 4, 6, 5, 1, 8, torch.float32)
    delay[2, 3] = math.nan
    y, of_history, of_weight, *_ = everything(history, weight, delay, sigma, pull, 8, "gaussian")
    assert y[:, :, 2].isnan().all() and y[:, :, [0, 1, 3, 4]].isfinite().all()
    assert of_history.isnan().any() and of_weight[2].isnan().any()


# --- dcls 0.1.1, at the size of a training ---


@pytest.mark.parametrize("max_delay", [24, 23])
@pytest.mark.parametrize("sigma", [12.27, 2.0, 0.5, 0.27])
def test_equals_dcls(sigma, max_delay):
    """Whichever form is chosen for 50 steps of 16 samples, against dcls in float64, delays off the walls."""
    history, weight, delay, pull = drawn(50, 16, 32, 48, 1, max_delay, torch.float32)
    history[:max_delay] = 0
    found = everything(history, weight, delay, sigma, pull, max_delay, "gaussian")
    count = max_delay + 1
    layer = Dcls1d(32, 48, 1, dilated_kernel_size=count, bias=False, version="gauss").double()
    with torch.no_grad():
        layer.weight.copy_(weight.double().unsqueeze(-1))
        layer.P.copy_((max_delay - count // 2 - delay.double()).view(1, 48, 32, 1))
        layer.SIG.fill_(sigma - 0.27)
    x = history.double().permute(1, 2, 0).requires_grad_()
    y = layer(x)
    y.backward(pull.double().permute(1, 2, 0))
    truth = (y.permute(2, 0, 1), x.grad.permute(2, 0, 1), layer.weight.grad[..., 0], -layer.P.grad[0, ..., 0])
    for one, other in zip(found[:4], truth, strict=True):
        # 1e-5 as a training needs it: dcls itself errs by 3e-7 (see test_delayed.py).
        assert (one.double() - other).abs().max() <= 1e-5 * other.abs().max()


def test_kernels_of_synapses_are_never_built_whole():
    """At most a few bytes a tap of all [O, I, taps] while it trains, and none of them saved for the backward pass."""
    history, weight, delay, _ = drawn(20, 8, 64, 64, 1, 24, torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t):
        delayed_linear(history.requires_grad_(), weight.requires_grad_(), delay.requires_grad_(), 0.5, max_delay=24)
    assert max(saved) <= max(history.numel(), weight.numel())


def test_spectral_spread_is_a_gaussian_on_a_circle():
    delay = torch.tensor([0.0, 0.3, 5.5, 8.0], dtype=torch.float64)
    lags = torch.arange(9, dtype=torch.float64)
    for sigma in (1.0, 1.7):
        wrapped = sum(torch.exp(-((lags - delay[:, None] + 9 * turn) ** 2) / (2 * sigma**2)) for turn in range(-4, 5))
        truth = wrapped / math.sqrt(2 * math.pi) / sigma
        # Harmonics above half the circle are left out: exp(-(pi sigma)^2 / 2) is 7e-3 at sigma 1, 6e-7 at 1.7.
        torch.testing.assert_close(
            spread(delay, sigma, 8, "spectral"), truth, rtol=0, atol=2 * math.exp(-((math.pi * sigma) ** 2) / 2)
        )
    whole = delay_kernel(torch.ones(1, 9), torch.arange(9.0)[None], 2 * SMALLEST_SIGMA["spectral"], 8, "spectral")
    torch.testing.assert_close(whole[0], torch.eye(9), rtol=0, atol=1e-4)  # whole delays: 1 - (pi sigma)^2 / 6
