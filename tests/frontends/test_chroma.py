"""Chroma and FoldOctaves against librosa."""

import math

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import CQT, STFT, Chain, Chroma, FoldOctaves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_chroma": 24, "octwidth": None, "norm": 2},
        {"base_c": False, "ctroct": 4.0, "norm": 1, "tuning": 0.3},
        {"norm": None, "n_chroma": 7, "n_fft": 1024, "hop_length": 200},
    ],
)
def test_librosa(signal, options, dtype):
    wave, rate = signal
    ours = Chroma(rate, **options)(torch.tensor(wave, dtype=dtype)).numpy()
    theirs = librosa.feature.chroma_stft(y=wave, sr=rate, **({"tuning": 0} | options))
    assert ours.shape == theirs.shape and np.isfinite(ours).all()
    # A frame of rounding noise (beyond a click, or the rest of a sweep) is blown up to 1 by its norm, in float32.
    loud = np.abs(librosa.stft(wave, n_fft=2048, hop_length=options.get("hop_length", 512))).max(0) > 1e-3
    if dtype == torch.float32 and options.get("n_fft", 2048) == 2048:
        ours, theirs = ours[:, loud], theirs[:, loud]
    assert np.abs(ours - theirs).max(initial=0) <= 1e-5 * (np.abs(theirs).max(initial=0) or 1)


@pytest.mark.parametrize("n_chroma, bins_per_octave", [(12, 36), (24, 24), (12, 12), (6, 12)])
@pytest.mark.parametrize("fmin", [32.7032, 41.2, 55.0])
@pytest.mark.parametrize("base_c", [True, False])
def test_fold_is_librosas_map(n_chroma, bins_per_octave, fmin, base_c):
    options = {"bins_per_octave": bins_per_octave, "n_chroma": n_chroma, "fmin": fmin, "base_c": base_c}
    bins = 7 * bins_per_octave - 3
    assert np.array_equal(FoldOctaves(bins, **options).fold.numpy(), librosa.filters.cq_to_chroma(bins, **options))


def test_chroma_of_constant_q_frames():
    frames = np.abs(np.random.default_rng(0).standard_normal((84, 9)))
    frames[:, 3] = 0
    ours = FoldOctaves(84, threshold=4.0)(torch.tensor(frames)).numpy()
    theirs = librosa.feature.chroma_cqt(C=frames, bins_per_octave=12, threshold=4.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    chain = Chain(CQT(22050), FoldOctaves(84))
    tone = torch.sin(2 * torch.pi * 261.6256 / 22050 * torch.arange(30000))
    assert set(chain(tone)[:, 10:40].argmax(0).tolist()) == {0}


@pytest.mark.parametrize("make", [lambda: Chroma(1000, 16, hop_length=5), lambda: Chain(STFT(22), FoldOctaves(12))])
@pytest.mark.parametrize("norm", [math.inf, 1, 2])
def test_gradients(make, norm):
    layer = make().double()
    (layer if isinstance(layer, Chroma) else layer[1]).norm = norm
    wave = torch.randn(60, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, wave)
    silence = torch.zeros(60, dtype=torch.float64, requires_grad=True)
    out = layer(silence)
    out.sum().backward()
    assert not out.any() and torch.isfinite(silence.grad).all()


def test_the_filter_bank_can_learn():
    chroma = Chroma(16000, trainable=("filter_bank",))
    chroma(torch.randn(4000)).square().sum().backward()
    assert list(chroma.state_dict()) == ["filter_bank"] and chroma.filter_bank.grad.abs().max() > 0


@pytest.mark.parametrize("tuning", [None, "estimate"])
def test_an_estimate_of_the_tuning_is_refused(tuning):
    with pytest.raises(ValueError, match=r"Chroma: tuning=.*whole signal.*librosa\.estimate_tuning"):
        Chroma(16000, tuning=tuning)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Chroma(16000, n_chroma=0), "Chroma: n_chroma=0 classes is not positive"),
        (lambda: Chroma(16000, octwidth=0), "Chroma: octwidth=0 octaves must be greater than 0"),
        (lambda: Chroma(16000, norm="inf"), "Chroma: norm='inf' is unknown; did you mean 'math.inf'"),
        (lambda: FoldOctaves(bins_per_octave=13), "FoldOctaves: bins_per_octave=13 is no multiple of n_chroma=12"),
        (lambda: FoldOctaves(84)(torch.zeros(83, 2)), "FoldOctaves: the frames have 83 bins, not n_bins=84"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
