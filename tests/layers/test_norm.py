import pytest
import torch
from torch import nn

import temporal


def test_without_padding_it_is_torchs_batch_norm():
    ours, theirs = temporal.BatchNorm(5).double(), nn.BatchNorm1d(5).double()
    for _ in range(3):
        x = torch.randn(10, 4, 5, dtype=torch.float64, requires_grad=True)
        y, z = ours(x), theirs(x.flatten(0, 1)).view_as(x)
        torch.testing.assert_close(y, z, rtol=0, atol=1e-12)
        cotangent = torch.randn_like(y)
        (ours_grad,) = torch.autograd.grad(y, x, cotangent, retain_graph=True)
        (theirs_grad,) = torch.autograd.grad(z, x, cotangent)
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=0, atol=1e-12)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).view_as(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("garbage", [0.0, 1e3])
def test_only_valid_steps_count_in_training(garbage):
    lengths = torch.tensor([6, 2, 4])
    x = torch.full((6, 3, 5), garbage)
    pieces = [torch.randn(n, 5) for n in lengths.tolist()]
    for b, piece in enumerate(pieces):
        x[: len(piece), b] = piece
    norm, plain = temporal.BatchNorm(5), nn.BatchNorm1d(5)
    y, z = norm(x, lengths=lengths), plain(torch.cat(pieces))
    valid = torch.cat([y[:n, b] for b, n in enumerate(lengths.tolist())])
    torch.testing.assert_close(valid, z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_trailing_axes_are_reduced_as_well():
    norm, plain = temporal.BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 2, 3, 5, 6)
    torch.testing.assert_close(norm(x), plain(x.flatten(0, 1)).view_as(x), rtol=1e-5, atol=1e-5)


def test_one_value_has_no_variance():
    with pytest.raises(ValueError, match="at least 2"):
        temporal.BatchNorm(3)(torch.randn(1, 1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        temporal.BatchNorm(3)(torch.randn(5, 2, 3), lengths=torch.tensor([1, 0]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_features"):
        temporal.BatchNorm(0)
    with pytest.raises(ValueError, match="eps"):
        temporal.BatchNorm(3, eps=0)
    with pytest.raises(ValueError, match="momentum"):
        temporal.BatchNorm(3, momentum=2)
    with pytest.raises(ValueError, match=r"\[T, B, 3"):
        temporal.BatchNorm(3)(torch.randn(5, 2, 4))


def test_dropout_keeps_one_mask_over_time_and_the_expectation():
    layer = temporal.Dropout(0.25)
    y = layer(torch.ones(6, 50, 40))
    assert torch.equal(y, y[:1].expand_as(y))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert y.mean().item() == pytest.approx(1, abs=0.05)  # 2000 draws: 5 standard deviations
    layer.eval()
    assert torch.equal(layer(y), y)
    with pytest.raises(ValueError, match="p=1"):
        temporal.Dropout(1)
