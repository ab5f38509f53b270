"""The Triton kernel of depthwise convolutions under Triton's interpreter. Run by test_interpreter.py."""

import pytest
import torch

from temporal.kernels.dilated import ACTIVATIONS, reference

pytest.importorskip("triton", reason="the interpreter of Triton, which is not installed")
from temporal.kernels.dilated import cuda


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(("shape", "taps", "dilation"), [((13, 2, 130), 3, 2), ((5, 1, 7), 9, 1), ((1, 3, 128), 4, 3)])
def test_depthwise(shape, taps, dilation, history, activation):
    _, batch, channels = shape
    x, weight, bias = torch.randn(shape), torch.randn(channels, 1, taps), torch.randn(channels)
    past = torch.randn((taps - 1) * dilation, batch, channels) if history else None
    for some in (bias, None):
        rest = (dilation, channels, activation)
        found = [side.forward(x, weight, some, past, *rest, True) for side in (cuda, reference)]
        # float32 sums of at most ten terms, in another order; exp and erf to some units in the last place
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
        y, z = found[1]
        grad, kept = torch.randn(shape), y if activation == "relu" else z
        for needs in ((True, True, True, False), (True, False, False, False), (True, True, True, history)):
            grads = [side.backward(grad, x, weight, past, kept, *rest, needs) for side in (cuda, reference)]
            torch.testing.assert_close(*grads, rtol=1e-5, atol=2e-5)


def test_nan_stays_where_it_is():
    x = torch.randn(20, 2, 9)
    x[5, 1, 3] = torch.nan
    hit = cuda.forward(x, torch.ones(9, 1, 3), None, None, 2, 9, "relu", False)[0].isnan()
    expected = torch.zeros_like(hit)
    expected[[5, 7, 9], 1, 3] = True
    assert torch.equal(hit, expected)


# Rows and outputs in one block and in several, channels that fill none; one step; no dilation.
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(
    ("shape", "outputs", "taps", "dilation", "activation"),
    [
        ((70, 2, 40), 130, 3, 2, "gelu"),
        ((5, 1, 3), 7, 4, 1, "relu"),
        ((1, 3, 16), 16, 2, 3, "tanh"),
        ((4, 2, 5), 3, 1, 1, "none"),
    ],
)
def test_dense(shape, outputs, taps, dilation, activation, history):
    _, batch, inputs = shape
    x, weight, bias = (
        torch.randn(shape),
        torch.randn(outputs, inputs, taps) / (inputs * taps) ** 0.5,
        torch.randn(outputs),
    )
    past = torch.randn((taps - 1) * dilation, batch, inputs) if history else None
    rest = (dilation, 1, activation)
    for some in (bias, None):
        found = [side.forward(x, weight, some, past, *rest, True) for side in (cuda, reference)]
        # float32 sums of at most 120 terms of size 1, in another order; the interpreter rounds nothing to TF32
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    y, z = found[1]
    grad, kept = torch.randn(y.shape), y if activation == "relu" else z
    for needs in ((True, True, True, False), (True, False, False, False), (True, True, True, history)):
        grads = [side.backward(grad, x, weight, past, kept, *rest, needs) for side in (cuda, reference)]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=5e-5)
