"""Gammatonegram against an independent statement of its filters, and against nnAudio where it is installed."""

import warnings

import numpy as np
import pytest
import scipy.signal
import torch

from temporal.frontends import STFT, Gammatonegram
from temporal.frontends.auditory import gammatone_filter_bank, gammatone_frequencies


def slaney_cascade(rate, centre, frequencies):
    """|H|^1 of Slaney's four second-order sections at these frequencies, 1 at the centre, from scipy's freqz."""
    period, erb = 1 / rate, centre / 9.26449 + 24.7
    decay, angle = np.exp(-1.019 * 2 * np.pi * erb * period), 2 * np.pi * centre * period
    poles = [1, -2 * np.cos(angle) * decay, decay**2]
    points = np.concatenate((frequencies, [centre])) * 2 * np.pi * period
    response = np.ones(len(points), complex)
    for sign in (1, -1):
        for root in (3 + 2**1.5, 3 - 2**1.5):
            numerator = [period, -period * (np.cos(angle) + sign * np.sqrt(root) * np.sin(angle)) * decay, 0]
            response *= scipy.signal.freqz(numerator, poles, worN=points)[1]
    return np.abs(response[:-1]) / np.abs(response[-1])


@pytest.mark.parametrize("rate, n_fft, n_bins, fmin, fmax", [(16000, 512, 24, 50, 8000), (8000, 401, 10, 100, 3000)])
def test_the_bank_is_slaneys_cascade(rate, n_fft, n_bins, fmin, fmax):
    bank = gammatone_filter_bank(rate, n_fft, n_bins, fmin, fmax).numpy()
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    for row, centre in zip(bank, gammatone_frequencies(n_bins, fmin, fmax).numpy(), strict=True):
        theirs = slaney_cascade(rate, centre, bins) / n_fft
        np.testing.assert_allclose(row, theirs, rtol=1e-6, atol=1e-9 * theirs.max())


def test_the_bands_are_even_in_erb():
    centres = gammatone_frequencies(32, 50.0, 8000.0).numpy()
    erb = np.log(1 + centres / (24.7 * 9.26449))
    np.testing.assert_allclose(np.diff(erb), np.diff(erb)[0], rtol=1e-9)
    assert abs(centres[0] - 50) < 1e-9 and centres[-1] < 8000
    assert torch.equal(Gammatonegram(16000, 512, n_bins=32, fmin=50).frequencies, torch.tensor(centres))


def test_it_is_the_bank_times_the_power(signal):
    wave, rate = torch.tensor(signal[0]), signal[1]
    layer = Gammatonegram(rate, 512, hop_length=160, n_bins=24, fmin=50, power=1.5)
    power = STFT(512, hop_length=160)(wave) ** 1.5
    theirs = gammatone_filter_bank(rate, 512, 24, 50, rate / 2) @ power
    peak = theirs.abs().max().clamp_min(1e-30)
    assert (layer(wave) - theirs).abs().max() <= 1e-12 * peak
    # float32: the power makes 1.5 of what a magnitude errs, and how that is summed depends on the processor's vectors
    assert (layer(wave.float()) - theirs).abs().max() <= 1.5e-6 * peak


@pytest.mark.parametrize("rate, n_fft, n_bins", [(16000, 1024, 64), (22050, 2048, 64)])
def test_nnaudio(rate, n_fft, n_bins):
    features = pytest.importorskip("nnAudio.features")
    wave = torch.rand(2, 8000) - 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = features.Gammatonegram(sr=rate, n_fft=n_fft, n_bins=n_bins, hop_length=160, fmin=20.0, verbose=False)
        theirs = theirs(wave)
    ours = Gammatonegram(rate, n_fft, hop_length=160, n_bins=n_bins, pad_mode="reflect")(wave)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()  # measured 5e-7: its STFT is a float32 convolution


def test_gradients():
    layer = Gammatonegram(1000, 32, hop_length=7, n_bins=4, fmax=400).double()
    torch.autograd.gradcheck(layer, torch.randn(2, 40, dtype=torch.float64, requires_grad=True))
    silence = torch.zeros(2, 2000, requires_grad=True)
    Gammatonegram(16000, 512, n_bins=24)(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fmax": 9000}, "fmax=9000 Hz is above the Nyquist frequency"),
        ({"n_bins": 0}, "n_bins=0 bands is not positive"),
        ({"fmin": -1}, "fmin=-1 Hz must lie between 0"),
        ({"trainable": ("bank",)}, "trainable='bank' is unknown"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ValueError, match=f"Gammatonegram: {message}"):
        Gammatonegram(16000, 512, **options)
