"""The kernel over lags and the causal product, against their equations, a loop, and dcls."""

import math

import pytest
import torch
from DCLS.construct.modules import Dcls1d
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels.delayed import (
    KERNELS,
    NEGLIGIBLE,
    PER,
    SMALLEST_SIGMA,
    bounded,
    delay_kernel,
    delayed_linear,
    delayed_product,
    delayed_shift,
    nearest,
    reference,
    spread,
)

WIDTHS = [12.0, 3.0, 1.0, 0.5, 0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-5, 1e-20, 1e-45, 0.0]
DELAYS = {
    "synapse": lambda o, i: (o, i), "axon": lambda o, i: (i,), "dendrite": lambda o, i: (o,),
    "additive": lambda o, i: (i + o,), "group": lambda o, i: (3, i),
}  # fmt: skip


def loop(history, kernel):
    """The equation, an index at a time."""
    outputs, inputs, taps = kernel.shape
    y = torch.zeros(len(history) - taps + 1, history.shape[1], outputs, dtype=history.dtype)
    for t in range(len(y)):
        for o in range(outputs):
            for i in range(inputs):
                for lag in range(taps):
                    y[t, :, o] += kernel[o, i, lag] * history[t + taps - 1 - lag, :, i]
    return y


# --- rounding and range ---------------------------------------------------------------------------------------------


def test_nearest_rounds_half_up():
    below_half = math.nextafter(0.5, 0.0)
    delay = torch.tensor([0.0, below_half, 0.5, 1.49, 1.5, 2.5, 3.5, 24.0], dtype=torch.float64)
    assert nearest(delay).tolist() == [0, 0, 1, 1, 2, 3, 4, 24]
    assert nearest(torch.tensor([0.49999997])).tolist() == [0]  # floor(x + 0.5) gives 1 in float32


def test_bounded_passes_only_the_gradient_that_leads_inside():
    delay = torch.tensor([-3.0, 0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 9.0, 9.0], requires_grad=True)
    gradient = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
    within = bounded(delay, 4)
    within.backward(gradient)
    assert within.tolist() == [0, 0, 0, 2, 2, 4, 4, 4, 4]
    assert delay.grad.tolist() == [0, 0, -1, 1, -1, 1, 0, 0, 1]


# --- the spread over the lags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [12.0, 2.0, 0.5, 0.1, 0.03])
def test_spread_is_the_normalised_gaussian(sigma):
    delays = [0.0, 0.3, 2.0, 3.5, 7.25, 8.0]
    share = spread(torch.tensor(delays, dtype=torch.float64), sigma, 8)
    for row, delay in zip(share, delays, strict=True):
        exponents = [-((lag - delay) ** 2) / (2 * sigma**2) for lag in range(9)]
        powers = [math.exp(e - max(exponents)) for e in exponents]
        truth = [p / math.fsum(powers) for p in powers]
        # Float64 rounding of the largest exponent, (8 / 0.03)^2 / 2 = 4e4 times 1e-16.
        assert row.tolist() == pytest.approx(truth, abs=1e-11)


@pytest.mark.parametrize("sigma", [12.0, 2.0, 0.5, 0.4082, 0.3, 0.21])
def test_spread_is_the_normalised_triangle(sigma):
    delays = [0.0, 0.3, 2.0, 3.5, 7.25, 8.0]
    share = spread(torch.tensor(delays, dtype=torch.float64), sigma, 8, "triangle")
    for row, delay in zip(share, delays, strict=True):
        heights = [max(0.0, math.sqrt(6) * sigma - abs(lag - delay)) for lag in range(9)]
        truth = [h / math.fsum(heights) for h in heights]
        assert row.tolist() == pytest.approx(truth, abs=1e-12)  # float64, divided by heights of 0.01 and more


def test_a_triangle_pulls_a_delay_off_a_whole_step():
    """dcls gives 0 there: its positions freeze. The slope is midway between the one-sided ones."""
    sigma, pull = 1 / math.sqrt(6), torch.randn(9, dtype=torch.float64)
    assert math.sqrt(6) * sigma == 1  # half a base of exactly one step

    def slope(at):
        delay = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(spread(delay, sigma, 8, "triangle")[0] @ pull, delay)[0].item()

    assert slope(4.0) == pytest.approx((pull[5] - pull[3]).item() / 2)
    assert slope(4.001) == pytest.approx((pull[5] - pull[4]).item())
    assert slope(3.999) == pytest.approx((pull[4] - pull[3]).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", ["gaussian", "triangle"])
@pytest.mark.parametrize("sigma", WIDTHS)
def test_no_nan_at_any_width(sigma, kernel, dtype):
    """At sigma 0.03 a plain exp underflows at every lag around a half-integer and gives 0 / 0."""
    delay = torch.cat([torch.arange(0, 24.5, 0.25), torch.rand(200) * 24]).to(dtype).requires_grad_()
    weight = torch.ones_like(delay)[:, None].requires_grad_()
    taps = delay_kernel(weight, delay[:, None], torch.tensor(sigma, dtype=dtype), 24, kernel)
    taps.backward(torch.randn_like(taps))
    assert taps.isfinite().all() and delay.grad.isfinite().all() and weight.grad.isfinite().all()
    # 25 terms, each within an ulp of 1.
    torch.testing.assert_close(taps.sum(2), torch.ones_like(weight), rtol=0, atol=25 * torch.finfo(dtype).eps)


def test_width_zero_is_one_lag_and_gives_the_delay_no_gradient():
    delay = torch.tensor([0.0, 0.49, 0.5, 2.5, 3.7, 4.0, 9.0, -1.0], requires_grad=True)
    narrow = [(kernel, smallest * part) for kernel, smallest in SMALLEST_SIGMA.items() for part in (0.0, 0.999)]
    for kernel, sigma in [*narrow, ("rounded", 3.0)]:
        share = spread(delay, sigma, 4, kernel)
        assert share.equal(torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 3, 4, 4, 4, 0]), 5).float())
        (gradient,) = torch.autograd.grad(share, delay, torch.randn_like(share))
        assert (gradient.count_nonzero() == 0) == (kernel != "rounded")


def test_a_rounded_delay_has_the_gradient_of_its_neighbours(monkeypatch):
    """Straight through the rounding; one-sided at the ends of the range, and at a wall only inwards."""
    delay = torch.tensor([0.0, 0.0, 0.4, 0.6, 2.5, 3.7, 4.0, 4.0, 9.0, -1.0], dtype=torch.float64, requires_grad=True)
    slopes = torch.tensor([1.0, -1, 1, 1, 1, 1, 1, -1, 1, -1], dtype=torch.float64)
    squares = torch.arange(5.0, dtype=torch.float64) ** 2
    (spread(delay, 0.0, 4, "rounded") * squares * slopes.unsqueeze(-1)).sum().backward()
    assert delay.grad.tolist() == [0, -1, 1, 2, 6, 7, 7, 0, 7, -1]
    monkeypatch.setattr(reference, "differences", None)  # not called where nothing learns
    with torch.no_grad():
        assert not spread(delay, 0.0, 4, "rounded").requires_grad
    assert not spread(torch.tensor([1.0, 2.5]), 0.0, 4, "rounded").requires_grad


@pytest.mark.parametrize("kernel, widths", [("gaussian", [0.5, 0.1, 0.02]), ("triangle", [0.5, 0.3, 0.21])])
def test_a_narrow_spread_tends_to_rounded(kernel, widths):
    delay = torch.linspace(0, 24, 997, dtype=torch.float64)  # the nearest half step is 0.006 away
    rounded = spread(delay, 0.0, 24)
    widths = [*widths, SMALLEST_SIGMA[kernel]]
    error = [(spread(delay, sigma, 24, kernel) - rounded).abs().max().item() for sigma in widths]
    assert error == sorted(error, reverse=True)
    assert error[-1] == 0


def test_negligible_shares_are_zero_and_nothing_is_subnormal():
    delay = torch.rand(64, 64) * 24
    weight = torch.randn(64, 64)
    for sigma in (1.5, 1.0, 0.7, 0.5, 0.2):
        wide = delay.double().requires_grad_()
        exact = torch.softmax(-((torch.arange(25.0) - wide.unsqueeze(-1)) ** 2) / (2 * sigma**2), -1)
        kernel = delay_kernel(weight, delay, sigma, 24)
        sizes = kernel[kernel != 0].abs()
        assert sizes.min() > torch.finfo(torch.float32).tiny
        # Float32: an exponent of up to 700 that still counts (share 1e-26) is about 60, times 6e-8 relative.
        torch.testing.assert_close(
            kernel.double(), weight.double().unsqueeze(-1) * exact, rtol=2e-5, atol=NEGLIGIBLE * 5
        )


def test_half_precision_delays_are_spread_in_float32():
    delay = (torch.arange(48) / 2).bfloat16()[:, None]
    kernel = delay_kernel(torch.ones_like(delay), delay, 0.5, 24)
    assert kernel.dtype == torch.float32
    assert kernel.equal(delay_kernel(torch.ones(48, 1), delay.float(), 0.5, 24))


def test_several_synapses_of_a_pair_add_up():
    weight, delay = torch.randn(3, 2, 4).double(), torch.rand(3, 2, 4).double() * 6
    whole = delay_kernel(weight, delay, 0.8, 6)
    parts = sum(delay_kernel(weight[..., k], delay[..., k], 0.8, 6) for k in range(4))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-14)  # the order of four additions


def test_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="kernel='box' is not one of gaussian, triangle, rounded, spectral"):
        spread(torch.zeros(1), 1.0, 4, "box")
    with pytest.raises(ValueError, match="per='neuron' is not one of synapse, axon, dendrite, additive, group"):
        delayed_linear(torch.zeros(5, 1, 2), torch.zeros(2, 2), torch.zeros(2), 0.0, max_delay=4, per="neuron")


# --- the product ----------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5), st.randoms())
def test_product_is_the_sum_over_synapses_and_lags(steps, batch, inputs, outputs, max_delay, rng):
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    history = torch.randn(max_delay + steps, batch, inputs, dtype=torch.float64, generator=generator)
    kernel = torch.randn(outputs, inputs, max_delay + 1, dtype=torch.float64, generator=generator)
    y = delayed_product(history, kernel)
    assert y.is_contiguous()
    torch.testing.assert_close(y, loop(history, kernel), rtol=0, atol=1e-13)  # float64 sums of at most 18 terms


@pytest.mark.parametrize("shape", [(12, 3, 2), (7, 1, 2), (6, 3, 2), (6, 0, 2), (12, 0, 2)])
def test_product_of_any_memory_layout_and_no_steps_or_samples(shape):
    kernel, bias = torch.randn(4, 2, 7).double(), torch.randn(4).double()
    history = torch.randn(shape[::-1]).double().permute(2, 1, 0).requires_grad_()
    y = delayed_product(history, kernel, bias)
    assert y.shape == (shape[0] - 6, shape[1], 4)
    torch.testing.assert_close(y, loop(history, kernel) + bias, rtol=0, atol=1e-13)
    y.sum().backward()
    assert history.grad.isfinite().all()


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("kernel", ["gaussian", "triangle"])
def test_gradients_are_those_of_finite_differences(kernel, per):
    history = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    # Half of it for additive delays, of which axons and dendrites have half the range each.
    delay = (torch.rand(DELAYS[per](2, 3), dtype=torch.float64) * 3.6 + 0.2) / (2 if per == "additive" else 1)
    copies = torch.randint(0, 3, (2, 3)) if per == "group" else None
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    for sigma in (2.0, 0.5, 0.3):
        width = torch.tensor(sigma, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda h, w, d, s, b: delayed_linear(h, w, d, s, b, max_delay=4, kernel=kernel, per=per, copies=copies),
            (history, weight, delay.requires_grad_(), width, bias),
        )


# --- one delay an axon or a dendrite --------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.sampled_from(PER), st.sampled_from(KERNELS),
    st.integers(0, 7), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5), st.randoms(),
)  # fmt: skip
def test_axons_and_dendrites_equal_synapses_with_the_same_delays(
    per, kernel, steps, batch, inputs, outputs, max_delay, rng
):
    """Values and every gradient, against the full kernel and the equation's loop."""
    torch.manual_seed(rng.randrange(2**31))
    history = torch.randn(max_delay + steps, batch, inputs, dtype=torch.float64)
    weight, bias = torch.randn(outputs, inputs, dtype=torch.float64), torch.randn(outputs, dtype=torch.float64)
    delay = torch.rand(DELAYS[per](outputs, inputs), dtype=torch.float64) * max_delay
    copies = torch.randint(0, 3, (outputs, inputs)) if per == "group" else None
    pull = torch.randn(steps, batch, outputs, dtype=torch.float64)
    results = []
    for short in (True, False):
        given = [t.clone().requires_grad_() for t in (history, weight, delay, bias)]
        if short:
            y = delayed_linear(
                given[0], *given[1:3], 0.7, given[3], max_delay=max_delay, kernel=kernel, per=per, copies=copies
            )
            assert y.is_contiguous()
        else:
            y = loop(given[0], delay_kernel(*given[1:3], 0.7, max_delay, kernel, per, copies)) + given[3]
        results.append((y, *torch.autograd.grad((y * pull).sum(), given, materialize_grads=True)))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)  # float64 sums in another order


def test_a_shift_moves_each_neuron_by_its_own_delay():
    history = torch.arange(12.0).view(6, 1, 2)
    assert delayed_shift(history, spread(torch.tensor([0.0, 2.0]), 0.0, 2)).tolist() == [
        [[4.0, 1.0]], [[6.0, 3.0]], [[8.0, 5.0]], [[10.0, 7.0]],
    ]  # fmt: skip


# --- dcls 0.1.1 -----------------------------------------------------------------------------------------------------


def dcls_layer(weight, delay, sigma, max_delay, version):
    """A Dcls1d that means the same: k = P + L // 2 is its tap, max_delay - k our lag."""
    outputs, inputs = weight.shape
    taps = max_delay + 1
    layer = Dcls1d(inputs, outputs, 1, dilated_kernel_size=taps, bias=False, version=version).double()
    with torch.no_grad():
        layer.weight.copy_(weight.unsqueeze(-1))
        layer.P.copy_((max_delay - taps // 2 - delay).view(1, outputs, inputs, 1))
        if layer.SIG is not None:
            layer.SIG.fill_(sigma - 0.27 if version == "gauss" else max(0.0, math.sqrt(6) * sigma - 1))
    return layer


def both(weight, delay, sigma, max_delay, version, steps=40):
    """(ours, theirs), each (output, gradient of x, of the weights, of the delays)."""
    x = torch.randn(steps, 2, weight.shape[1], dtype=torch.float64)
    pull = torch.randn(steps, 2, weight.shape[0], dtype=torch.float64)
    ours = [t.clone().requires_grad_() for t in (x, weight, delay)]
    history = torch.cat([x.new_zeros(max_delay, *x.shape[1:]), ours[0]])
    kernel = "gaussian" if version == "gauss" else "triangle"
    y = delayed_product(history, delay_kernel(ours[1], ours[2], sigma, max_delay, kernel))
    y.backward(pull)
    layer = dcls_layer(weight, delay, sigma, max_delay, version)
    theirs_x = x.clone().requires_grad_()
    padded = torch.nn.functional.pad(theirs_x.permute(1, 2, 0), (max_delay, 0))
    theirs = layer(padded).permute(2, 0, 1)
    theirs.backward(pull)
    # d = max_delay - L // 2 - P, hence the sign.
    their_gradients = (theirs_x.grad, layer.weight.grad[..., 0], -layer.P.grad[0, ..., 0])
    return (y, *(t.grad for t in ours)), (theirs, *their_gradients)


@pytest.mark.parametrize("max_delay", [24, 23])
@pytest.mark.parametrize("half_base", [1.0, 1.7, 6.0])
def test_triangle_equals_dcls(half_base, max_delay):
    """Its "max", max(0, 1 + |SIG| - |k - P|), away from the kinks; 1e-7 beside a normalising sum of at least 1."""
    weight = torch.randn(5, 4).double()
    delay = (0.05 + 0.1 * torch.randint(0, 9, (5, 4)) + torch.randint(0, max_delay, (5, 4))).double()
    for ours, theirs in zip(*both(weight, delay, half_base / math.sqrt(6), max_delay, "max"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("max_delay", [24, 30, 6, 23])
@pytest.mark.parametrize("sigma", [12.27, 3.0, 1.0, 0.5, 0.27])
def test_gaussian_equals_dcls(sigma, max_delay):
    """Odd and even numbers of taps, delays off the walls.

    dcls adds 1e-7 to the normalising sum, which is at least 0.36 (a half-integer delay at sigma 0.27): 3e-7 relative.
    """
    weight = torch.randn(5, 4).double()
    delay = (0.02 + 0.96 * torch.rand(5, 4).double()) * max_delay
    for ours, theirs in zip(*both(weight, delay, sigma, max_delay, "gauss"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("max_delay", [24, 23])
def test_rounded_equals_dcls_of_whole_positions(max_delay):
    weight = torch.randn(5, 4).double()
    delay = torch.randint(0, max_delay + 1, (5, 4)).double()
    ours, theirs = both(weight, delay, 0.0, max_delay, "max")
    # dcls divides the one tap by 1 + 1e-7.
    for mine, other in list(zip(ours, theirs, strict=True))[:3]:
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_where_dcls_is_wrong():
    # With an even number of taps its limit of P is one tap outside, where the synapse vanishes; ours cannot get there.
    taps, weight = 24, torch.ones(1, 1).double()
    beyond = torch.tensor([[-1.0]]).double()  # P = +12, which clamp_parameters() allows
    layer = dcls_layer(weight, beyond, 0.0, taps - 1, "max")
    layer.clamp_parameters()
    assert layer.P.item() == taps // 2
    assert layer.DCK(layer.weight, layer.P, layer.SIG).sum().item() == 0
    assert delay_kernel(weight, beyond, 0.0, taps - 1).flatten().tolist() == [1.0] + [0.0] * 23

    # At whole positions its triangle has no gradient at all; a narrow gaussian has one on both sides.
    layer = dcls_layer(weight, torch.tensor([[5.0]]).double(), 0.0, 24, "v1")
    layer(torch.randn(1, 1, 60).double()).square().sum().backward()
    assert layer.P.grad.item() == 0
    delay = torch.tensor([[5.0]]).double().requires_grad_()
    delay_kernel(weight, delay, 0.5, 24)[0, 0, 6].backward()
    assert delay.grad.item() > 0
