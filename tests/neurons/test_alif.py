"""ALIF against the neurons of its papers, step by step, and at the edges of its arguments."""

import itertools

import pytest
import torch

from temporal.neurons import ALIF, LIF

CLOSE = {"rtol": 1e-10, "atol": 1e-10}  # float64, the same operations in another order


def currents(*features, steps=60):
    return torch.rand(steps, 3, *features, dtype=torch.float64)


def test_equals_the_neuron_of_2018():
    """Bellec et al. 2018: V' = a V + (1-a) I - B z, B = b0 + beta b, b' = rho b + (1 - rho) z, one time step late."""
    tau, tau_a, beta, b0 = 10.0, 40.0, 1.8, 0.4
    alpha, rho = 1 - 1 / tau, 1 - 1 / tau_a
    x = currents(5) * 2
    layer = ALIF(tau, tau_a, adaptation=beta, v_threshold=b0, decay_input=True, reset_adapts=True)
    spikes, state = layer(x)
    v, b, z, expected = torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), []
    threshold = torch.full((3, 5), b0).double()
    for current in x:
        v = alpha * (v - threshold * z) + (1 - alpha) * current
        b = rho * b + (1 - rho) * z
        threshold = b0 + beta * b
        z = (v >= threshold).double()
        expected.append(z)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, torch.stack(expected))
    torch.testing.assert_close(state.v, v - threshold * z, **CLOSE)
    torch.testing.assert_close(state.w, rho * b + (1 - rho) * z, **CLOSE)


def test_equals_the_neuron_of_2020():
    """Bellec et al. 2020: v' = a v + I - z v_th, a' = rho a + z, A = v_th + beta a; adaptation = beta tau_adaptation."""
    tau, tau_a, beta, v_th = 5.0, 20.0, 0.17, 0.8
    alpha, rho = 1 - 1 / tau, 1 - 1 / tau_a
    x = currents(5)
    spikes, _ = ALIF(tau, tau_a, adaptation=beta * tau_a, v_threshold=v_th)(x)
    v, a, z, expected = torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), []
    for current in x:
        v = (
            alpha * v + current - z * v_th * alpha
        )  # the paper subtracts after the decay: alpha, where we subtract before
        a = rho * a + z
        z = (v >= v_th + beta * a).double()
        expected.append(z)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, torch.stack(expected))


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
        ({"tau_adaptation": 0.5}, r"ALIF: tau_adaptation=0\.5 steps must be above 1"),
        ({"adaptation": -1.0}, r"ALIF: adaptation=-1\.0 must be 0 or more"),
        ({"adaptation": float("nan")}, r"ALIF: adaptation=nan must be 0 or more"),
        ({"adaptation": torch.tensor([1.0, -2.0])}, r"ALIF: adaptation must be 0 or more.* from -2 to 1"),
        ({"adaptation": 0.0, "size": 3, "trainable": ("adaptation",)}, "a learned adaptation must start above 0"),
        ({"adaptation": 1.0, "trainable": ("adaptation",)}, "trainable 'adaptation' is learned per neuron; give size="),
        ({"reset_adapts": True, "v_reset": 0.0}, "reset_adapts is about a soft reset"),
        ({"trainable": ("beta",), "size": 3}, "it can hold tau, tau_adaptation, adaptation, v_threshold"),
        ({"adaptation": torch.ones(2), "tau": torch.full((3,), 2.0)}, r"adaptation has shape \[2\], which disagrees"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ALIF(**arguments)
