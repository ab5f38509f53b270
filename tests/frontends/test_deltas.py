"""Deltas against librosa and torchaudio."""

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import Deltas

# Sums of a few products, relative to the peak.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", ["interp", "nearest"])
@pytest.mark.parametrize("order, width, frames", [(1, 3, 3), (2, 9, 40), (3, 7, 8), (4, 5, 20)])
def test_librosa(dtype, mode, order, width, frames):
    x = torch.randn(2, 3, 5, frames, dtype=dtype)
    out = Deltas(order, width=width, mode=mode)(x)
    assert out.shape == (2, 3, 5 * (1 + order), frames) and out.dtype == dtype
    assert torch.equal(out[..., :5, :], x)
    for d in range(1, order + 1):
        theirs = librosa.feature.delta(x.double().numpy(), width=width, order=d, mode=mode)
        ours = out[..., d * 5 : (d + 1) * 5, :].numpy()
        assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max()


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_torchaudio(torchaudio, frames):
    x = torch.randn(2, 5, frames, dtype=torch.float64)
    theirs = torchaudio.transforms.ComputeDeltas(win_length=5)(x)
    torch.testing.assert_close(Deltas(1, width=5, mode="nearest")(x)[..., 5:, :], theirs, rtol=0, atol=1e-14)


def test_derivatives_of_a_polynomial_are_exact():
    t = torch.arange(30, dtype=torch.float64)
    _, d1, d2 = Deltas(2, width=7)((0.5 * t**2 - 3 * t)[None])
    inner = slice(3, -3)
    torch.testing.assert_close(d1[inner], (t - 3)[inner], rtol=0, atol=1e-10)
    torch.testing.assert_close(d2, torch.ones(30, dtype=torch.float64), rtol=0, atol=1e-10)


def test_autocast_and_gradients():
    x = torch.randn(2, 3, 12)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Deltas(width=5)(x), Deltas(width=5)(x.clone()))
        out = Deltas(width=5)(x)
    assert torch.equal(out, Deltas(width=5)(x))
    for mode in ("interp", "nearest"):
        layer = Deltas(width=5, mode=mode).double()
        torch.autograd.gradcheck(layer, torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True))


def test_nothing():
    assert Deltas(mode="nearest")(torch.zeros(2, 3, 0)).shape == (2, 9, 0)
    assert Deltas()(torch.zeros(0, 3, 20)).shape == (0, 9, 20)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Deltas(width=4), "width=4 frames must be odd and at least 3"),
        (lambda: Deltas(width=1), "width=1 frames must be odd and at least 3"),
        (lambda: Deltas(3, width=3), "order=3 needs a width of more than 3 frames"),
        (lambda: Deltas(0), "order=0 derivatives is not positive"),
        (lambda: Deltas(mode="wrap"), "mode='wrap' is unknown; there are 'interp', 'nearest'"),
        (lambda: Deltas()(torch.zeros(3, 8)), "mode='interp' needs at least width=9 frames, not 8; use mode='nearest'"),
        (lambda: Deltas().flush(None), "flush needs the state that stream returned"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=f"Deltas: {message}"):
        make()
