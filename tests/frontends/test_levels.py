"""Log and AmplitudeToDB."""

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import AmplitudeToDB, Log

# float32 logarithms of values over 12 decades, in dB (up to 120): a few units in the last place.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-12}


def power(dtype):
    return (10 ** torch.linspace(-12, 2, 600, dtype=torch.float64).reshape(2, 30, 10)).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("top_db", [None, 0, 30.0, 80])
@pytest.mark.parametrize("ref", [1.0, 0.01, 1e-30])
def test_power_as_librosa_gives_it_for_one_item(dtype, top_db, ref):
    frames = power(dtype)
    out = AmplitudeToDB(top_db=top_db, ref=ref)(frames)
    for item, ours in zip(frames, out, strict=True):
        theirs = librosa.power_to_db(item.double().numpy(), ref=ref, top_db=top_db)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("top_db", [None, 80])
def test_magnitude_as_librosa_gives_it(top_db):
    frames = power(torch.float64)[0]
    ours = AmplitudeToDB("magnitude", top_db=top_db)(frames)
    np.testing.assert_allclose(ours.numpy(), librosa.amplitude_to_db(frames.numpy(), top_db=top_db), rtol=0, atol=1e-11)


def test_torchaudio(torchaudio):
    frames = power(torch.float64)
    for stype in ("power", "magnitude"):
        theirs = torchaudio.transforms.AmplitudeToDB(stype)(frames)
        torch.testing.assert_close(AmplitudeToDB(stype, amin=1e-10)(frames), theirs, rtol=0, atol=1e-11)


def test_top_db_does_not_couple_the_items_of_a_batch():
    frames = torch.rand(4, 3, 20, 10)
    frames[2] *= 1e6
    to_db = AmplitudeToDB(top_db=10)
    out = to_db(frames)
    for i in range(4):
        for j in range(3):
            assert torch.equal(out[i, j], to_db(frames[i, j]))


def test_top_db_of_nothing():
    for shape in [(0, 20, 10), (2, 20, 0)]:
        assert AmplitudeToDB(top_db=10)(torch.zeros(shape)).shape == shape


def test_log():
    frames = power(torch.float64)
    np.testing.assert_allclose(Log(1e-6)(frames).numpy(), np.log(frames.numpy() + 1e-6), rtol=1e-14)
    assert torch.equal(Log(1e-3)(torch.tensor([[-1.0, 0.0]])), torch.full((1, 2), 1e-3).log())


@pytest.mark.parametrize("layer", [Log(), AmplitudeToDB(), AmplitudeToDB("magnitude", top_db=80)])
def test_gradients(layer):
    torch.autograd.gradcheck(layer, torch.rand(2, 3, 4, dtype=torch.float64).add(0.1).requires_grad_())
    silence = torch.zeros(2, 3, 4, requires_grad=True)
    layer(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


def test_half_precision_is_computed_and_given_in_float32():
    for layer in (Log(), AmplitudeToDB()):
        frames = torch.rand(3, 4).bfloat16()
        assert torch.equal(layer(frames), layer(frames.float()))
