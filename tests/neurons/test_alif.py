"""ALIF against its equations, its function against the neurons of the papers, and both at the edges of its arguments."""

import itertools

import pytest
import torch

from temporal.neurons import ALIF, LIF
from temporal.neurons.functional import alif

CLOSE = {"rtol": 1e-10, "atol": 1e-10}  # float64, the same operations in another order


def currents(*features, steps=60):
    return torch.rand(steps, 3, *features, dtype=torch.float64)


def test_equals_the_neuron_of_2018():
    """Bellec et al. 2018: V' = a V + (1-a) I - B z, B = b0 + beta b, b' = rho b + (1 - rho) z."""
    alpha, rho, beta, b0 = 0.9, 0.975, 1.8, 0.4
    x = currents(5) * 2
    v, b, z = (torch.zeros(3, 5).double() for _ in range(3))
    expected = []
    for current in x:
        v = alpha * v + (1 - alpha) * current - (b0 + beta * b) * z
        b = rho * b + (1 - rho) * z
        z = (v >= b0 + beta * b).double()
        expected.append(z)
    knobs = {"decay": alpha, "gain": 1 - alpha, "w_decay": rho, "jump": 1 - rho, "adaptation": beta, "threshold": b0}
    spikes, _, state = alif(x, **knobs, reset_by=b0 / alpha, reset_lift=beta / alpha)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, torch.stack(expected))
    torch.testing.assert_close(state.w, rho * b + (1 - rho) * z, **CLOSE)


def test_equals_the_neuron_of_2020():
    """Bellec et al. 2020: v' = a v + I - z v_th, a' = rho a + z, A = v_th + beta a."""
    alpha, rho, beta, v_th = 0.8, 0.95, 0.17, 0.8
    x = currents(5)
    v, a, z = (torch.zeros(3, 5).double() for _ in range(3))
    expected = []
    for current in x:
        v = alpha * v + current - z * v_th
        a = rho * a + z
        z = (v >= v_th + beta * a).double()
        expected.append(z)
    spikes, _, _ = alif(x, decay=alpha, w_decay=rho, adaptation=beta, threshold=v_th, reset_by=v_th / alpha)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, torch.stack(expected))


@pytest.mark.parametrize("reset_adapts", [True, False])
@pytest.mark.parametrize("decay_input", [True, False])
def test_equals_its_equations(decay_input, reset_adapts):
    tau, tau_w, adaptation, base = 10.0, 40.0, 1.8, 0.4
    x = currents(5) * (2 if decay_input else 0.3)
    arguments = {"decay_input": decay_input, "reset_adapts": reset_adapts}
    spikes, state = ALIF(tau, tau_w, adaptation=adaptation, v_threshold=base, **arguments)(x)
    v, w, expected = torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), []
    for current in x:
        h = v - v / tau + (current / tau if decay_input else current)
        theta = base + adaptation * w
        s = (h >= theta).double()
        v = h - (theta if reset_adapts else base) * s
        w = w + (s - w) / tau_w
        expected.append(s)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, torch.stack(expected))
    torch.testing.assert_close(tuple(state), (v, w), **CLOSE)


@pytest.mark.parametrize("v_reset", [None, 0.0, 0.2])
@pytest.mark.parametrize("decay_input", [True, False])
def test_without_adaptation_it_is_lif(v_reset, decay_input):
    x = torch.randn(60, 2, 5) + 0.5
    arguments = {"v_reset": v_reset, "decay_input": decay_input}
    spikes, state = ALIF(2.0, 50.0, adaptation=0.0, **arguments)(x)
    expected, v = LIF(2.0, **arguments)(x)
    assert expected.mean() > 0.02
    assert torch.equal(spikes, expected) and torch.equal(state.v, v)


def test_a_constant_current_is_answered_ever_more_slowly():
    spikes, _ = ALIF(5.0, 100.0, adaptation=4.0)(torch.full((400, 1, 1), 0.5))
    times = spikes.flatten().nonzero().flatten()
    intervals = times.diff()
    assert len(times) > 10
    assert intervals[-3:].float().mean() > 1.5 * intervals[:3].float().mean()


def test_learned_values_start_where_they_were_given_and_stay_in_range():
    names = ("tau", "tau_adaptation", "adaptation", "v_threshold")
    layer = ALIF(4.0, torch.tensor([10.0, 20.0, 400.0]), adaptation=0.5, trainable=names)
    torch.testing.assert_close(layer.tau_adaptation, torch.tensor([10.0, 20.0, 400.0]))
    torch.testing.assert_close(layer.adaptation, torch.full((3,), 0.5))
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e4)
    for sign in (1, -1, 1):
        optimiser.zero_grad()
        (sign * layer(torch.rand(20, 2, 3) * 3)[0].sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        optimiser.step()
        assert (layer.adaptation >= 0).all() and (layer.tau_adaptation >= 1).all() and (layer.v_threshold >= 0).all()


def test_an_adaptation_can_be_learned():
    """Gradient descent on the firing rate moves the strength that brings it down."""
    layer = ALIF(2.0, 10.0, adaptation=0.5, size=1, trainable=("adaptation",))
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.2)
    x = torch.rand(100, 8, 1)
    for _ in range(60):
        loss = (layer(x)[0].mean() - 0.15) ** 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert layer(x)[0].mean().item() == pytest.approx(0.15, abs=0.03)
    assert layer.adaptation.item() > 0.6


def test_stream_equals_whole_bit_for_bit():
    layer = ALIF(3.0, 15.0, size=5, trainable=("tau", "adaptation"))
    x = torch.rand(40, 2, 5)
    whole, last = layer(x)
    for edges in ([0, 1, 40], [0, 0, 17, 18, 40, 40], range(41)):
        state, parts = None, []
        for start, stop in itertools.pairwise(edges):
            part, state = layer(x[start:stop], state)
            parts.append(part)
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(state.v, last.v) and torch.equal(state.w, last.w)


def test_starts_at_rest():
    _, state = ALIF(v_reset=0.25)(torch.zeros(0, 2, 3))
    assert torch.equal(state.v, torch.full((2, 3), 0.25)) and torch.equal(state.w, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adaptation": -1.0}, r"ALIF: adaptation=-1\.0 must be 0 or more"),
        ({"adaptation": float("nan")}, r"ALIF: adaptation=nan must be 0 or more"),
        ({"adaptation": torch.tensor([1.0, -2.0])}, r"ALIF: adaptation must be 0 or more.* from -2 to 1"),
        ({"adaptation": 0.0, "size": 3, "trainable": ("adaptation",)}, "a learned adaptation must start above 0"),
        ({"adaptation": 1.0, "trainable": ("adaptation",)}, "trainable 'adaptation' is learned per neuron; give size="),
        ({"reset_adapts": True, "v_reset": 0.0}, "reset_adapts is about a soft reset"),
        ({"trainable": ("beta",), "size": 3}, "it can hold tau, tau_adaptation, adaptation, v_threshold"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ALIF(**arguments)
