"""Surrogate gradients against SpikingJelly's, snnTorch's and a numerical integral; what a specification may be."""

import math

import pytest
import torch

from temporal.kernels.surrogates import Surrogate, names

# Both sides compute a handful of float64 operations.
EXACT = {"rtol": 1e-13, "atol": 1e-15}

SPIKINGJELLY = {
    "sigmoid": "Sigmoid",
    "atan": "ATan",
    "triangle": "PiecewiseQuadratic",
    "superspike": "SuperSpike",
    "softsign": "SoftSign",
    "exponential": "PiecewiseExp",
    "erf": "Erf",
    "boxcar": "Rect",
}


def distances() -> torch.Tensor:
    return torch.linspace(-3, 3, 1001, dtype=torch.float64)


def spikingjelly(name: str, **alpha):
    return getattr(pytest.importorskip("spikingjelly.activation_based.surrogate"), SPIKINGJELLY[name])(**alpha)


def slope_of(function, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.parametrize("alpha", [{}, {"alpha": 0.7}, {"alpha": 5.0}])
@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_equals_spikingjelly(name, alpha):
    theirs = spikingjelly(name, **alpha)
    ours = Surrogate(name, **alpha)
    assert Surrogate.resolve(theirs) == ours  # the defaults too
    torch.testing.assert_close(ours(distances()), slope_of(theirs, distances()), **EXACT)


@pytest.mark.parametrize("slope", [25.0, 4.0])
def test_fast_sigmoid_equals_snntorch(slope):
    theirs = pytest.importorskip("snntorch.surrogate").fast_sigmoid(slope=slope)
    torch.testing.assert_close(Surrogate("fast_sigmoid", slope)(distances()), slope_of(theirs, distances()), **EXACT)


def test_multi_gaussian_is_the_published_mixture():
    normal = torch.distributions.Normal
    x, w = distances(), torch.tensor(0.5, dtype=torch.float64)
    expected = 1.15 * normal(w * 0, w).log_prob(x).exp()
    for side in (-w, w):
        expected = expected - 0.15 * normal(side, 6 * w).log_prob(x).exp()
    torch.testing.assert_close(Surrogate("multi_gaussian")(x), expected, **EXACT)


@pytest.mark.parametrize("name", sorted(set(names()) - {"superspike", "fast_sigmoid"}))
def test_is_the_derivative_of_a_unit_step(name):
    """Its integral is 1, as the step's is (multi_gaussian: 1.15 - 2 x .15); those two are scaled by definition."""
    x = torch.linspace(-4e3, 4e3, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(Surrogate(name)(x), x).item()
    # Heavy tails (atan, softsign) leave 1e-4 outside, the boxcar's edges fall between grid points.
    assert area == pytest.approx(0.85 if name == "multi_gaussian" else 1.0, abs=3e-3)


@pytest.mark.parametrize("name", names())
def test_is_zero_at_infinity_finite_everywhere_and_nan_at_nan(name):
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-math.inf, -1e30, -100.0, 0.0, 100.0, 1e30, math.inf, math.nan], dtype=dtype)
        slope = Surrogate(name, 5.0)(x)
        assert slope.dtype == dtype
        assert slope[:7].isfinite().all()
        assert slope[0] == slope[6] == 0
        assert slope[7].isnan() or name == "boxcar"


@pytest.mark.parametrize(
    "spec", ["atan(5.0)", "atan( 5 )", " atan(alpha=5.0) ", Surrogate("atan", 5), str(Surrogate("atan", 5.0))]
)
def test_specifications_of_the_same_surrogate(spec):
    assert Surrogate.resolve(spec) == Surrogate("atan", 5.0)
    assert hash(Surrogate.resolve(spec)) == hash(Surrogate("atan", 5.0))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("atann", ValueError, "'atann' is not known; did you mean 'atan'"),
        ("qwz", ValueError, "known names: sigmoid, atan"),
        ("atan(five)", ValueError, r"alpha in 'atan\(five\)' is not a number"),
        ("atan()", ValueError, "is not a number"),
        ("atan(-1)", ValueError, "must be positive and finite"),
        ("atan(nan)", ValueError, "must be positive and finite"),
        ("atan(5", ValueError, "cannot read"),
        (3, TypeError, "got int"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_refuses(spec, error, message):
    with pytest.raises(error, match=message):
        Surrogate.resolve(spec)


def test_refuses_what_spikingjelly_has_and_we_do_not():
    theirs = pytest.importorskip("spikingjelly.activation_based.surrogate")
    with pytest.raises(ValueError, match=r"S2NN has no counterpart here; those that have: ATan"):
        Surrogate.resolve(theirs.S2NN())
    with pytest.raises(ValueError, match="spiking=False"):
        Surrogate.resolve(theirs.ATan(spiking=False))
