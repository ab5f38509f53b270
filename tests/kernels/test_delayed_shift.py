"""The operator that shifts neurons by delays of their own, against the plain form in float64."""

import math

import pytest
import torch

from temporal.kernels import use
from temporal.kernels.delayed import KERNELS, delayed_linear, delayed_shift, spread
from temporal.kernels.delayed.shift import shifted

# Float32 sums of up to 25 lags, and over all steps and samples for a share.
CLOSE = 2e-6

# Steps, samples, neurons, max_delay: whole vectors and parts of one, one step, fewer steps than lags, no delay, many lags.
SHAPES = [(20, 3, 40, 24), (1, 1, 1, 5), (7, 2, 16, 0), (9, 4, 17, 11), (33, 1, 3, 40), (4, 0, 5, 3), (0, 2, 5, 3)]


def results(shift, history, share, pull):
    leaves = [tensor.clone().requires_grad_() for tensor in (history, share)]
    z = shift(*leaves)
    return z.detach(), *torch.autograd.grad(z, leaves, pull)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sigma", [3.0, 0.5, 0.0])
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_plain_form(kernel, sigma, shape):
    steps, batch, neurons, max_delay = shape
    torch.manual_seed(0)
    history, pull = torch.randn(max_delay + steps, batch, neurons), torch.randn(steps, batch, neurons)
    share = spread(torch.rand(neurons) * max_delay, sigma, max_delay, kernel)
    found = results(shifted, history, share, pull)
    truth = results(delayed_shift, history.double(), share.double(), pull.double())
    for one, other in zip(found, truth, strict=True):
        assert one.shape == other.shape and one.dtype == torch.float32
        if one.numel():
            assert (one - other).abs().max() <= CLOSE * max(1, other.abs().max())


def test_whole_delays_move_numbers_unchanged():
    history = torch.randn(30, 2, 19)
    delay = torch.arange(19) % 9
    z = shifted(history, spread(delay.float(), 0.0, 8))
    for neuron, late in enumerate(delay.tolist()):
        assert torch.equal(z[:, :, neuron], history[8 - late : 30 - late, :, neuron])


def test_any_memory_layout():
    torch.manual_seed(0)
    history, share = torch.randn(5, 26, 14).transpose(0, 1)[::2], torch.randn(9, 14).t()
    pull = torch.randn(5).expand(5, 5).unsqueeze(-1).expand(5, 5, 14)
    one, other = (results(f, history, share, pull) for f in (shifted, delayed_shift))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_only_what_is_wanted_has_a_gradient():
    history, share = torch.randn(12, 2, 5), torch.randn(5, 4)
    for wanted in (history, share):
        wanted.requires_grad_()
        (found,) = torch.autograd.grad(shifted(history, share).square().sum(), wanted)
        (truth,) = torch.autograd.grad(delayed_shift(history, share).square().sum(), wanted)
        torch.testing.assert_close(found, truth)
        wanted.requires_grad_(False)


@pytest.mark.parametrize("per", ["axon", "dendrite", "additive", "group"])
def test_layers_of_them_equal_the_reference(per):
    torch.manual_seed(0)
    inputs, outputs, max_delay = 20, 33, 9
    sizes = {"axon": (inputs,), "dendrite": (outputs,), "additive": (inputs + outputs,), "group": (3, inputs)}
    history, weight = torch.randn(max_delay + 15, 4, inputs), torch.randn(outputs, inputs)
    delay, pull = torch.rand(sizes[per]) * 4, torch.randn(15, 4, outputs)
    copies, bias = torch.randint(0, 3, (outputs, inputs)), torch.randn(outputs)
    truth = []
    for backend in ("reference", "cpu"):
        leaves = [tensor.clone().requires_grad_() for tensor in (history, weight, delay, bias)]
        with use(backend):
            y = delayed_linear(*leaves[:3], 0.7, leaves[3], max_delay=max_delay, per=per, copies=copies)
            found = (y, *torch.autograd.grad(y, leaves, pull))
        truth = truth or found
        for one, other in zip(found, truth, strict=True):
            torch.testing.assert_close(
                one, other, rtol=1e-4, atol=1e-4
            )  # sums of 660 terms, gradients of 25 times as many


def test_a_nan_stays_in_its_neuron_and_sample():
    history = torch.randn(20, 2, 18)
    history[10, 1, 17] = math.nan
    z = shifted(history, spread(torch.full((18,), 2.0), 0.0, 4))
    assert z.isnan().sum() == 1 and z[8, 1, 17].isnan()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_opcheck():
    history, share = torch.randn(9, 2, 18, requires_grad=True), torch.randn(18, 4, requires_grad=True)
    torch.library.opcheck(torch.ops.temporal.delayed_shift, (history, share))


def test_a_requested_backend_is_obeyed_or_refused():
    history, share = torch.randn(9, 2, 3), torch.randn(3, 4)
    with use("cpu"), pytest.raises(NotImplementedError, match=r"'cpu' computes in float32, not torch\.float64"):
        shifted(history.double(), share.double())
    with use("cpu"), torch.autocast("cpu"), pytest.raises(NotImplementedError, match="autocast"):
        shifted(history, share)


def test_no_second_derivatives():
    history, share = torch.randn(9, 2, 3, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(shifted(history, share).square().sum(), share, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()
