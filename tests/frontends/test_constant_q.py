"""CQT and VQT against the definition summed directly in float64, and against librosa."""

import math
import warnings

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import CQT, VQT

C1 = 440 * 2 ** (-45 / 12)  # Hz


def direct(wave, rate, hop, *, n_bins=84, per_octave=12, fmin=C1, gamma=0.0):
    """C[k, t] = sqrt(N_k) sum_n x[t hop + n] h_k[-n], one window after the other, from numbers and numpy only."""
    ratio = 2 ** (2 / per_octave)
    alpha = (ratio - 1) / (ratio + 1)
    frames = 1 + len(wave) // hop
    out = np.empty((n_bins, frames), complex)
    for k in range(n_bins):
        f = fmin * 2 ** (k / per_octave)
        length = rate / alpha / (f + gamma / alpha)
        n = np.arange(math.floor(-length / 2), math.floor(length / 2))
        h = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n.size) / n.size)) * np.exp(2j * np.pi * f * n / rate)
        h *= math.sqrt(length) / np.abs(h).sum()
        padded = np.pad(wave, n.size)
        for t in range(frames):
            start = t * hop - n[-1] + n.size
            out[k, t] = padded[start : start + n.size] @ h[::-1]
    return out


def error(ours, theirs, edge=0):
    assert ours.shape == theirs.shape
    difference = np.abs(ours.numpy() - theirs)
    assert np.isfinite(difference).all()
    return difference[..., edge : ours.shape[-1] - edge].max() / (np.abs(theirs).max() or 1.0)


def bins_below(rate):
    """Bins from C1 up to a quarter tone below the Nyquist frequency, at most 84."""
    return min(84, int(12 * math.log2(rate / 2 / 32.7)) - 1)


@pytest.mark.parametrize("hop", [512, 441])
@pytest.mark.parametrize("make, gamma", [(CQT, None), (VQT, 24.7 / 0.108)], ids=["CQT", "VQT"])
def test_the_definition(signal, make, gamma, hop):
    wave, rate = signal
    wave, n_bins = wave[:12000], bins_below(rate)
    alpha = (2 ** (1 / 6) - 1) / (2 ** (1 / 6) + 1)
    expected = direct(wave, rate, hop, n_bins=n_bins, gamma=gamma * alpha if gamma else 0.0)
    layer = make(rate, hop_length=hop, n_bins=n_bins, output="complex")
    # What the octaves' lower rates cut off: 3e-5 of the peak on noise, the same in both dtypes
    assert error(layer(torch.tensor(wave, dtype=torch.float32)), expected) <= 5e-5
    assert error(layer.double()(torch.tensor(wave)), expected) <= 5e-5


def librosas(function, wave, rate, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the signal is shorter than the longest filter
        return function(y=wave, sr=rate, **options)


@pytest.mark.parametrize("hop", [512, 441, 300, 160])
@pytest.mark.parametrize("make, function", [(CQT, librosa.cqt), (VQT, librosa.vqt)], ids=["CQT", "VQT"])
def test_librosa_mode(make, function, hop):
    rate = 22050 if hop != 160 else 16000
    wave = np.random.default_rng(0).uniform(-1, 1, 50001)
    expected = librosas(function, wave, rate, hop_length=hop)
    ours = make(rate, hop_length=hop, output="complex", mode="librosa")(torch.tensor(wave, dtype=torch.float32))
    edge = math.ceil(14 * 512 / hop)
    interior, everywhere = (2e-4, 2e-2) if make is CQT else (5e-4, 4e-2)
    assert error(ours, expected, edge) <= interior
    assert error(ours, expected) <= everywhere


def test_exact_mode_is_librosa_without_decimation_and_sparsity(signal):
    wave, rate = signal
    wave = wave[-1 - 511 * (len(wave) // 512) :]  # the last sample is a frame's centre
    n_bins = bins_below(rate / 1.5)  # librosa leaves out negative frequencies, which matter near the Nyquist frequency
    expected = librosas(librosa.cqt, wave, rate, hop_length=511, sparsity=0, n_bins=n_bins)
    ours = CQT(rate, hop_length=511, n_bins=n_bins, output="complex")(torch.tensor(wave))
    assert error(ours, expected) <= 1e-4
