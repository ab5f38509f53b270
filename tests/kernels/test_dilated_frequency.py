"""Very long depthwise convolutions as products of spectra: against the plain form, whole and in parts; the rule."""

import pytest
import torch

from temporal.convolution import CausalConv1d
from temporal.kernels import use
from temporal.kernels.dilated import causal_conv, frequency

# Relative to the largest of each: a transform rounds log2(N) times, and sums of thousands of products grow as their root.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def tensors(steps, batch, channels, taps, dilation=1, *, history=False):
    """x, weight, bias and history in float64; sums of about unit size."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x, weight, bias = draw(steps, batch, channels), draw(channels, 1, taps) / taps**0.5, draw(channels)
    return x, weight, bias, draw((taps - 1) * dilation, batch, channels) if history else None


@pytest.fixture
def always(monkeypatch):
    """Transforms at every size, counted."""
    calls, run = [], frequency.convolve
    monkeypatch.setattr(frequency, "pays", lambda x, weight, history, dilation, groups: groups > 1 and x.numel() > 0)
    monkeypatch.setattr(frequency, "convolve", lambda *given: calls.append(given) or run(*given))
    return calls


def results(given, dilation, activation, backend):
    inputs = [None if t is None else t.detach().clone().requires_grad_() for t in given]
    with use(backend):
        y = causal_conv(
            *inputs[:3], dilation=dilation, groups=given[0].shape[2], activation=activation, history=inputs[3]
        )
    weight = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [t for t in inputs if t is not None], weight)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("history", "activation"), [(False, "none"), (True, "tanh"), (False, "relu"), (True, "gelu")])
@pytest.mark.parametrize(
    ("steps", "batch", "channels", "taps", "dilation"),
    [
        (40, 2, 5, 90, 1),
        (301, 1, 3, 7, 1),
        (301, 2, 40, 60, 3),
        (1000, 2, 4, 33, 1),
        (2, 3, 4, 9, 5),
        (128, 1, 2, 128, 1),
    ],
)
def test_equal_to_the_sums(steps, batch, channels, taps, dilation, history, activation, dtype, always, monkeypatch):
    monkeypatch.setattr(frequency, "_WORK", 1 << 13)  # several pieces of the channels
    given = tensors(steps, batch, channels, taps, dilation, history=history)
    truth = results(given, dilation, activation, "reference")
    found = results([None if t is None else t.to(dtype) for t in given], dilation, activation, "cpu")
    assert len(always) == 1
    for ours, true in zip(found, truth, strict=True):
        assert ours.dtype == dtype and ours.shape == true.shape and ours.is_contiguous()
        assert (ours.double() - true).abs().max() <= TOLERANCE[dtype] * true.abs().max()


def test_one_gradient_alone_and_a_second_refused(always):
    given = tensors(50, 2, 3, 20, 2, history=True)
    for wanted in range(4):
        inputs = [t.clone().requires_grad_(k == wanted) for k, t in enumerate(given)]
        found = []
        for backend in ("cpu", "reference"):
            with use(backend):
                y = causal_conv(*inputs[:3], dilation=2, groups=3, history=inputs[3])
            found.append(torch.autograd.grad(y.square().sum(), inputs[wanted])[0])
        torch.testing.assert_close(*found, rtol=1e-11, atol=1e-11)
    x, weight = given[0].requires_grad_(), given[1].requires_grad_()
    (grad,) = torch.autograd.grad(causal_conv(x, weight, groups=3).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivatives here; use temporal\.kernels\.use"):
        grad.sum().backward()


def test_gradcheck(always):
    given = [t.requires_grad_() for t in tensors(7, 2, 2, 4, 2, history=True)]

    def call(x, weight, bias, history):
        return causal_conv(x, weight, bias, dilation=2, groups=2, activation="silu", history=history)

    assert torch.autograd.gradcheck(call, given) and always


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_stream_equals_the_whole(dtype, always):
    layer = CausalConv1d(6, 6, 50, dilation=3, groups=6, activation="silu").to(dtype)
    x, state, parts = torch.randn(400, 2, 6, dtype=dtype), None, []
    with torch.no_grad():
        whole, last = layer(x)
        for chunk in x.split([1, 200, 2, 0, 150, 47]):
            y, state = layer(chunk, state)
            parts.append(y)
    assert len(always) >= 5 and torch.equal(state, last)
    assert (torch.cat(parts) - whole).abs().max() <= TOLERANCE[dtype] * whole.abs().max()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_is_not_finite_stays_where_it_is(dtype, bad, always):
    x, weight = torch.randn(300, 2, 4, dtype=dtype), torch.rand(4, 1, 60, dtype=dtype).add_(0.1).requires_grad_()
    x[100, 1, 2] = bad
    y = causal_conv(x, weight, groups=4)
    hit = ~torch.isfinite(y.detach())
    expected = torch.zeros_like(hit)
    expected[100:160, 1, 2] = True
    assert always and torch.equal(hit, expected)
    (grad,) = torch.autograd.grad(y[:, :, [0, 1, 3]].sum(), weight)
    assert torch.isfinite(grad[[0, 1, 3]]).all()


def test_the_rule_that_is_written():
    def pays(steps, channels, taps, dilation=1, dtype=torch.float32, history=False, groups=None):
        x, weight = torch.zeros(steps, 1, channels, dtype=dtype), torch.zeros(channels, 1, taps, dtype=dtype)
        return frequency.pays(x, weight, history, dilation, groups or channels)

    assert not pays(8000, 64, 300) and pays(8000, 64, 700)
    assert not pays(8000, 64, 30, dtype=torch.float64) and pays(8000, 64, 100, dtype=torch.float64)
    assert not pays(8000, 64, 700, dilation=64)  # 125 steps of a phase
    assert not pays(700, 64, 8000) and pays(700, 64, 8000, history=True)  # what meets zeros is left out
    assert not pays(100, 64, 8000, history=True)  # a short chunk of a stream
    assert not pays(1, 64, 8000, history=True) and not pays(0, 64, 700) and not pays(600, 1, 600)
    assert not pays(8000, 64, 700, groups=32)
    given = [t.float() for t in tensors(3000, 1, 16, 800)[:3]]
    run, calls = frequency.convolve, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequency, "convolve", lambda *given: calls.append(0) or run(*given))
        ours = causal_conv(*given, groups=16)
        with use("reference"):
            plain = causal_conv(*given, groups=16)
    assert len(calls) == 1 and (ours - plain).abs().max() < 1e-5 * plain.abs().max()
