"""LI against its closed form, and as a stream."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.neurons import LI


@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("tau", [1.5, 20.0, torch.tensor([1.5, 3.0, 20.0], dtype=torch.float64)])
def test_equals_the_closed_form(tau, decay_input):
    """v[t] = sum over s of decay^(t - s) x[s], in float64, where both sums agree to rounding."""
    x = torch.randn(30, 2, 3, dtype=torch.float64, requires_grad=True)
    v, state = LI(tau, decay_input=decay_input)(x)
    lags = torch.arange(30)[:, None] - torch.arange(30)
    decay = 1 - 1 / torch.as_tensor(tau, dtype=torch.float64).expand(3)
    kernel = torch.where(lags >= 0, decay[:, None, None] ** lags.clamp(min=0), 0)
    expected = torch.einsum("nts,sbn->tbn", kernel, x) * ((1 - decay) if decay_input else 1)
    torch.testing.assert_close(v, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(v[-1], state)
    grads = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (v, expected)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 50), max_size=6), tau=st.sampled_from([1.01, 2.0, 50.0]), learned=st.booleans())
def test_stream_equals_whole_bit_for_bit(cuts, tau, learned):
    layer = LI(tau, decay_input=True, size=4, trainable=("tau",) if learned else ())
    x = torch.randn(50, 3, 4)
    whole, last = layer(x)
    state, parts = None, []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 50]):
        part, state = layer(x[start:stop], state)
        parts.append(part)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(state, last)


def test_learned_time_constant():
    layer = LI(3.0, size=3, trainable=("tau",)).double()
    x = torch.randn(20, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda logit: torch.func.functional_call(layer, {"time_constant.logit": logit}, (x,)),
        layer.time_constant.logit.detach().clone().requires_grad_(),
    )


def test_sixteen_bit_currents_are_integrated_in_float32():
    """2000 times 1/256 with almost no leak: a bfloat16 sum would stop growing at 1."""
    x = torch.full((2000, 1, 1), 1 / 256, dtype=torch.bfloat16)
    v, state = LI(1e6)(x)
    assert v.dtype == state.dtype == torch.float32
    assert state.item() == pytest.approx(2000 / 256, rel=2e-3)


def test_never_fires():
    v, _ = LI(2.0)(torch.full((5, 1, 1), 1e30))
    assert (v.diff(dim=0) > 0).all()


def test_refuses():
    with pytest.raises(ValueError, match="LI: trainable='v_threshold' is not a parameter; it can hold tau"):
        LI(size=2, trainable=("v_threshold",))
