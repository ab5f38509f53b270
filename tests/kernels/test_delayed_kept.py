"""What is kept for the backward pass of delayed synapses: counts as bytes, anything else as it is."""

import math

import pytest
import torch

from temporal.kernels.delayed import delayed_linear
from temporal.kernels.delayed._kept import packed


def test_counts_become_bytes():
    counts = torch.randint(0, 256, (40, 7, 11)).float()
    kept = packed(counts)
    assert kept.dtype == torch.uint8 and torch.equal(kept.float(), counts)


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, 1e10, math.nan, math.inf, -math.inf, 1 + 1e-6])
def test_one_other_number_anywhere_keeps_all_as_it_is(value):
    counts = torch.zeros(40, 70, 11)
    counts[23, 41, 5] = value
    assert packed(counts) is counts
    assert packed(torch.full((2, 3), value)).dtype == torch.float32


def test_nothing_and_strided_ones_are_kept_as_they_are():
    for history in (torch.zeros(0, 3, 2), torch.zeros(5, 4, 6)[:, :, ::2]):
        assert packed(history) is history


@pytest.mark.parametrize("sigma", [2.0, 0.0])
def test_gradients_of_kept_counts_are_those_of_the_same_numbers(sigma):
    torch.manual_seed(0)
    spikes, weight, delay = (torch.rand(44, 8, 64) < 0.2).float(), torch.randn(48, 64), torch.rand(48, 64) * 24
    saved, found = [], []
    for history in (spikes, spikes * 0.5):  # the latter is kept as it is
        leaves = [tensor.clone().requires_grad_() for tensor in (history, weight, delay)]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.dtype) or t, lambda t: t):
            y = delayed_linear(*leaves, sigma, max_delay=24)
        found.append(torch.autograd.grad(y.sum(), leaves, materialize_grads=True))
    assert saved.count(torch.uint8) == 1
    for one, half in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(one, 2 * half, rtol=0, atol=2e-5 * one.abs().max().item() + 1e-6)
