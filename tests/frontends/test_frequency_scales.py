"""STFT at frequencies of one's own: against the sum that defines it, in float64, and where each scale puts its bins."""

import numpy as np
import pytest
import torch

from temporal.frontends import STFT
from temporal.frontends.mel import mel_frequencies

RATE = 8000
SCALES = {
    "linear": {"freq_scale": "linear", "fmin": 300, "fmax": 3400, "n_bins": 9},
    "log": {"freq_scale": "log", "fmin": 100, "fmax": 4000, "n_bins": 12},
    "log2": {"freq_scale": "log2", "fmin": 55, "fmax": 1000, "bins_per_octave": 6},
    "mel": {"freq_scale": "mel", "fmin": 0, "fmax": 4000, "n_bins": 10},
    "one": {"freq_scale": "log", "fmin": 440, "n_bins": 1},
}
# Of the peak: products of n_fft terms.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def direct_sum(wave, frequencies, n_fft, hop_length):
    """X[j, t] = sum_n w[n] x[t hop + n - n_fft // 2] exp(-2 pi i f_j n / rate)."""
    padded = np.pad(wave, n_fft // 2)
    n = np.arange(n_fft)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / n_fft)
    frames = np.stack([padded[s : s + n_fft] for s in range(0, len(padded) - n_fft + 1, hop_length)])
    return np.exp(-2j * np.pi * np.outer(frequencies, n) / RATE) @ (frames * window).T


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_the_direct_sum(signal, scale, dtype):
    wave = signal[0][:4000]
    stft = STFT(256, hop_length=100, sample_rate=RATE, output="complex", **scale)
    theirs = direct_sum(wave, stft.frequencies.numpy(), 256, 100)
    ours = stft(torch.tensor(wave, dtype=dtype)).numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * (np.abs(theirs).max() or 1)


def test_where_the_bins_are():
    at = {name: STFT(256, sample_rate=RATE, **scale).frequencies.numpy() for name, scale in SCALES.items()}
    np.testing.assert_allclose(at["linear"], np.linspace(300, 3400, 9))
    np.testing.assert_allclose(at["log"], np.geomspace(100, 4000, 12))
    np.testing.assert_allclose(at["log2"], 55 * 2 ** (np.arange(26) / 6))  # the 26th lies at 988 Hz, the next at 1109
    np.testing.assert_allclose(at["mel"], mel_frequencies(10, 0, 4000).numpy())
    np.testing.assert_allclose(at["one"], [440])
    np.testing.assert_allclose(STFT(256, sample_rate=RATE).frequencies, np.fft.rfftfreq(256, 1 / RATE))


@pytest.mark.parametrize("scale", ["linear", "mel"])
def test_by_default_there_are_as_many_bins_as_the_fft_has(scale):
    stft = STFT(100, sample_rate=RATE, freq_scale=scale)
    assert stft(torch.randn(500)).shape[0] == stft.n_bins == 51
    if scale == "linear":  # and they are the same
        wave = torch.randn(500, dtype=torch.float64)
        torch.testing.assert_close(stft(wave), STFT(100, engine="fft")(wave), rtol=0, atol=1e-11)


def test_a_tone_on_a_bin_has_the_windows_sum():
    stft = STFT(512, sample_rate=RATE, freq_scale="log2", fmin=110, fmax=3520, bins_per_octave=1)
    time = torch.arange(4000, dtype=torch.float64) / RATE
    for k in range(6):
        level = stft(torch.cos(2 * torch.pi * 110 * 2**k * time))[:, 10]
        assert abs(float(level[k]) - 512 / 4) < 1 and int(level.argmax()) == k


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_bins": 10}, "n_bins=10 is for other bins than the FFT's; give freq_scale, too"),
        ({"fmax": 100}, "fmax=100 is for other bins than the FFT's"),
        ({"freq_scale": "log"}, "freq_scale='log' places bins in Hz; give sample_rate, too"),
        ({"freq_scale": "log3", "sample_rate": RATE}, "freq_scale='log3' is unknown; did you mean"),
        ({"freq_scale": "log", "sample_rate": RATE, "fmin": 0}, "fmin=0 Hz must be greater than 0"),
        ({"freq_scale": "mel", "sample_rate": RATE, "fmax": 4001}, "fmax=4001 Hz is above the Nyquist frequency"),
        ({"freq_scale": "linear", "sample_rate": RATE, "n_bins": 0}, "n_bins=0 bins is not positive"),
        (
            {"freq_scale": "log2", "sample_rate": RATE, "fmin": 1000, "n_bins": 40},
            r"n_bins=40 end at .* above the Nyquist frequency of sample_rate=8000 Hz \(4000 Hz\); give at most 25",
        ),
        ({"freq_scale": "mel", "sample_rate": RATE, "engine": "fft"}, "engine='fft' has the bins of the FFT"),
        ({"sample_rate": 0}, "sample_rate=0 Hz must be greater than 0"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ValueError, match=f"STFT: {message}"):
        STFT(64, **options)


def test_frequencies_need_a_sample_rate():
    with pytest.raises(ValueError, match="STFT: frequencies in Hz need sample_rate"):
        _ = STFT(64).frequencies
