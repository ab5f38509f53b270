"""AdLIF against the equations of its papers, at the limit of its stability, and at the edges of its arguments."""

import itertools

import pytest
import torch

from temporal.neurons import AdLIF
from temporal.neurons.functional import adlif

CLOSE = {"rtol": 1e-9, "atol": 1e-9}  # float64, the same operations in another order, adaptation of tens


def published(x, alpha, beta, a, b, symplectic):
    """Baronig et al. 2024, eq. of SE- and EF-adLIF, from rest: threshold 1, reset to 0."""
    u, w, s = (torch.zeros_like(x[0]) for _ in range(3))
    spikes = []
    for current in x:
        u_hat = alpha * u + (1 - alpha) * (current - w)
        fired = (u_hat >= 1).to(x.dtype)
        u_new = u_hat * (1 - fired)
        w = beta * w + (1 - beta) * ((a * u_new + b * fired) if symplectic else (a * u + b * s))
        u, s = u_new, fired
        spikes.append(fired)
    return torch.stack(spikes), u, w


@pytest.mark.parametrize("symplectic", [True, False])
def test_equals_the_published_equations(symplectic):
    x = torch.rand(200, 3, 5, dtype=torch.float64) * 60
    tau, tau_w, a, b = 12.0, 90.0, 50.0, 100.0
    spikes, state = AdLIF(tau, tau_w, a=a, b=b, symplectic=symplectic)(x)
    expected, u, w = published(x, 1 - 1 / tau, 1 - 1 / tau_w, a, b, symplectic)
    assert 0.02 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected)
    torch.testing.assert_close((state.v, state.w), (u, w), **CLOSE)


def test_equals_the_code_of_bittar_and_garner():
    """There w is computed before u, from the membrane before its reset, and nothing divides a and b."""
    alpha, beta, a, b = 0.9, 0.97, 0.4, 1.1
    x = torch.rand(120, 3, 5, dtype=torch.float64) * 30
    u, w, s = (torch.zeros_like(x[0]) for _ in range(3))
    expected = []
    for current in x:
        w = beta * w + a * u + b * s
        u = alpha * (u - s) + (1 - alpha) * (current - w)
        s = (u > 1).double()
        expected.append(s)
    knobs = {"decay": alpha, "w_decay": beta, "a": a / (1 - beta), "b": (a + b) / (1 - beta)}
    spikes, v, _ = adlif(x, **knobs, strict=True)
    assert 0.02 < spikes.mean() < 0.9
    assert torch.equal(spikes, torch.stack(expected))
    torch.testing.assert_close(v[-1], u - s, **CLOSE)


@pytest.mark.parametrize("symplectic", [True, False])
@pytest.mark.parametrize(("tau", "tau_w"), [(15.0, 180.0), (2.0, 9.0), (1.2, 1.5)])
def test_the_limits_are_those_of_stability(tau, tau_w, symplectic):
    """Just inside a pulse dies away, just outside (which only the function takes) it grows."""
    high = (2 * tau - 1) * (2 * tau_w - 1) if symplectic else tau + tau_w - 1
    x = torch.zeros(2000, 1, 1, dtype=torch.float64)
    x[0] = 1e-6
    knobs = {"decay": 1 - 1 / tau, "w_decay": 1 - 1 / tau_w, "b": 0.0, "threshold": float("inf"), "reset_to": 0.0}
    for a, grows in ((0.9 * high, False), (1.1 * high, True), (-0.7, False), (-1.5, True)):
        v = adlif(x, a=a, **knobs, symplectic=symplectic)[1].flatten().abs()
        assert bool(v[-200:].max() <= v[:200].max()) != grows, a  # what grows may have overflowed
    with pytest.raises(ValueError, match=r"AdLIF: a must be above -1 and below"):
        AdLIF(tau, tau_w, a=1.01 * high, symplectic=symplectic)
    with pytest.raises(ValueError, match=r"AdLIF: a must be above -1 and below .* got a=-1"):
        AdLIF(tau, tau_w, a=-1.0, symplectic=symplectic)


def test_the_membrane_oscillates_below_the_threshold():
    """Its answer to a resonant frequency is larger than to a lower and to a higher one."""
    t = torch.arange(2000.0)
    heights = []
    for period in (1000, 45, 8):
        x = torch.sin(2 * torch.pi * t / period)[:, None, None]
        v = adlif(x, decay=1 - 1 / 15, w_decay=1 - 1 / 180, a=60.0, b=0.0, threshold=1e9, reset_to=0.0)[1]
        heights.append(v[1000:].abs().max().item())
    assert heights[1] > 2 * heights[0] and heights[1] > 2 * heights[2]


@pytest.mark.parametrize("symplectic", [True, False])
def test_learned_values_start_where_they_were_given_and_stay_in_range(symplectic):
    names = ("tau", "tau_adaptation", "a", "b", "v_threshold")
    layer = AdLIF(5.0, torch.tensor([20.0, 30.0]), a=10.0, b=2.0, symplectic=symplectic, trainable=names)
    assert len(list(layer.parameters())) == 5
    # a float32 logit of a small part of the range
    torch.testing.assert_close(layer.a, torch.full((2,), 10.0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.b, torch.full((2,), 2.0))
    for sign, rate in ((1, 1.0), (-1, 1.0), (1, 100.0), (-1, 1e4)):
        optimiser = torch.optim.SGD(layer.parameters(), lr=rate)
        optimiser.zero_grad()
        (sign * layer(torch.rand(40, 2, 2) * 20)[0].sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        optimiser.step()
        high = (2 * layer.tau - 1) * (2 * layer.tau_adaptation - 1) if symplectic else layer.tau + layer.tau_adaptation
        assert (layer.a >= -1).all() and (layer.a <= high).all() and layer.a.isfinite().all() and (layer.b >= 0).all()
        if rate == 1.0:
            assert layer(torch.rand(400, 2, 2))[1].v.isfinite().all()


@pytest.mark.parametrize("symplectic", [True, False])
def test_gradients_of_learned_values(symplectic):
    """Against finite differences, with a surrogate that is zero away from the threshold."""
    names = ("tau", "tau_adaptation", "a", "b", "v_threshold")
    layer = AdLIF(3.0, 8.0, a=2.0, b=3.0, size=2, symplectic=symplectic, trainable=names, surrogate="boxcar(1e6)")
    layer.double()
    x = torch.rand(15, 2, 2, dtype=torch.float64) * 5
    labels = [label for label, _ in layer.named_parameters()]

    def last(*values):
        return tuple(torch.func.functional_call(layer, dict(zip(labels, values, strict=True)), (x,))[1])

    assert layer(x)[0].sum() > 0
    assert torch.autograd.gradcheck(last, [p.detach().clone().requires_grad_() for p in layer.parameters()])


@pytest.mark.parametrize("symplectic", [True, False])
def test_stream_equals_whole_bit_for_bit(symplectic):
    layer = AdLIF(3.0, 15.0, a=5.0, b=9.0, size=5, trainable=("tau", "a"), symplectic=symplectic)
    x = torch.rand(40, 2, 5) * 9
    whole, last = layer(x)
    assert whole.sum() > 0
    for edges in ([0, 1, 40], [0, 0, 17, 18, 40, 40], range(41)):
        state, parts = None, []
        for start, stop in itertools.pairwise(edges):
            part, state = layer(x[start:stop], state)
            parts.append(part)
        assert torch.equal(torch.cat(parts), whole)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, last, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"b": -1.0}, r"AdLIF: b=-1\.0 must be 0 or more"),
        ({"a": float("nan")}, r"AdLIF: a must be above -1 .* got a=nan"),
        ({"a": torch.tensor([1.0, -2.0])}, r"AdLIF: a must be above -1 and below 10411, .* values from -2 to 1"),
        ({"a": 1.0, "trainable": ("a",)}, "trainable 'a' is learned per neuron; give size="),
        ({"trainable": ("beta",), "size": 3}, "it can hold tau, tau_adaptation, a, b, v_threshold"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdLIF(**arguments)
