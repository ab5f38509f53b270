"""STFT against librosa, torch.stft and scipy, which know nothing of it."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from temporal.frontends import STFT
from temporal.frontends._window import WINDOWS, build_window

# Relative to the peak. float32: rounding of a sum of n_fft terms, measured 3e-7; float64: measured 5e-16.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Largest difference, relative to the peak of the other's numbers (or absolute where that is 0)."""
    assert ours.shape == theirs.shape
    ours = ours.numpy()
    assert np.isfinite(ours).all()
    return np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1.0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_fft, win_length, hop_length", [(512, None, 128), (400, 320, 160), (513, 400, 100)])
@pytest.mark.parametrize("center, pad_mode", [(True, "constant"), (True, "reflect"), (False, "constant")])
def test_librosa(signal, dtype, n_fft, win_length, hop_length, center, pad_mode):
    wave, _ = signal
    sizes = {"n_fft": n_fft, "win_length": win_length, "hop_length": hop_length, "center": center, "pad_mode": pad_mode}
    spectrum = STFT(**sizes, output="complex")(torch.tensor(wave, dtype=dtype))
    assert difference(spectrum, librosa.stft(wave, dtype=np.complex128, **sizes)) <= TOLERANCE[dtype]


def test_defaults_are_librosas(signal):
    wave, _ = signal
    assert difference(STFT()(torch.tensor(wave)), np.abs(librosa.stft(wave, dtype=np.complex128))) <= 1e-12


def test_hop_length_follows_the_window():
    assert STFT(512).hop_length == 128
    assert STFT(512, win_length=400).hop_length == 100
    assert STFT(2).hop_length == 1


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_torch_stft_with_any_leading_dimensions(dtype):
    wave = torch.randn(2, 3, 1000, dtype=dtype)
    window = torch.rand(80, dtype=dtype)
    stft = STFT(100, win_length=80, hop_length=30, window=window, pad_mode="reflect", output="complex")
    options = {
        "n_fft": 100,
        "win_length": 80,
        "hop_length": 30,
        "window": window,
        "pad_mode": "reflect",
        "return_complex": True,
    }
    theirs = torch.stft(wave.flatten(0, 1), **options).unflatten(0, (2, 3))
    assert difference(stft(wave), theirs.numpy()) <= TOLERANCE[dtype]
    assert difference(stft(wave[1, 2]), theirs[1, 2].numpy()) <= TOLERANCE[dtype]


@pytest.mark.parametrize("length", [1, 2, 16, 17, 400])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_scipys(name, length):
    ours = build_window(name, length, length, None)
    assert np.abs(ours.numpy() - scipy.signal.get_window(name, length)).max() < 1e-15


def test_a_window_given_as_tensor_is_kept_apart_and_in_full_precision():
    window = torch.rand(16, dtype=torch.float64)
    before = window.clone()
    stft = STFT(16, window=window)
    window.zero_()
    wave = torch.randn(100, dtype=torch.float64)
    assert torch.equal(stft(wave), STFT(16, window=before).double()(wave))
    assert stft(wave).max() > 0


def test_outputs_are_parts_of_the_complex_one(signal):
    wave = torch.tensor(signal[0])
    spectrum = STFT(256, output="complex")(wave)
    torch.testing.assert_close(STFT(256, output="magnitude")(wave), spectrum.abs(), rtol=1e-12, atol=0)
    torch.testing.assert_close(STFT(256, output="power")(wave), spectrum.abs() ** 2, rtol=1e-12, atol=0)
    assert torch.equal(STFT(256, output="phase")(wave), spectrum.angle())


@pytest.mark.parametrize("output", ["magnitude", "power", "complex", "phase"])
def test_gradients_on_silence_are_finite(output):
    wave = torch.zeros(2, 500, requires_grad=True)
    out = STFT(64, output=output)(wave)
    (torch.view_as_real(out) if output == "complex" else out).sum().backward()
    assert torch.isfinite(wave.grad).all()


@pytest.mark.parametrize("output", ["magnitude", "power", "complex"])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_gradcheck(output, pad_mode):
    wave = torch.randn(2, 21, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(STFT(8, hop_length=3, pad_mode=pad_mode, output=output).double(), wave)


def test_an_empty_batch_gives_an_empty_output_with_a_gradient():
    wave = torch.zeros(0, 2, 100, requires_grad=True)
    out = STFT(16)(wave)
    assert out.shape == (0, 2, 9, 26)
    out.sum().backward()
    assert wave.grad.shape == wave.shape


def test_no_samples_give_what_frames_says():
    assert STFT(16)(torch.zeros(3, 0)).shape == (3, 9, 1)
    assert STFT(15)(torch.zeros(3, 0)).shape == (3, 8, 0)


def test_nan_touches_only_the_frames_that_see_it():
    wave = torch.randn(1000)
    wave[500] = float("nan")
    bad = STFT(100, hop_length=50)(wave).isnan()
    assert bad.all(0).nonzero().flatten().tolist() == bad.any(0).nonzero().flatten().tolist() == [10, 11]
