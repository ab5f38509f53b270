"""MelSpectrogram against librosa and torchaudio."""

import re
import warnings

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import MelSpectrogram
from temporal.frontends.mel import mel_filter_bank

# Relative to the peak. float32: measured 3e-7 (librosa's own float32 filter bank is 1e-7 off); float64: measured 1e-14.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
SPEECH = {"n_fft": 512, "hop_length": 160, "n_mels": 40}


def librosa_mel(
    wave, rate, *, scale="slaney", power=2.0, n_fft=2048, norm="slaney", n_mels=128, fmin=0.0, fmax=None, **rest
):
    """librosa's mel spectrogram in float64, from its filter bank and its STFT."""
    bank = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=scale == "htk", norm=norm, dtype=np.float64
    )
    rest = {"hop_length": 512} | rest
    return bank @ np.abs(librosa.stft(wave, n_fft=n_fft, dtype=np.complex128, **rest)) ** power


def difference(ours: torch.Tensor, theirs) -> float:
    assert ours.shape == theirs.shape
    ours, theirs = ours.double().numpy(), np.asarray(theirs)
    assert np.isfinite(ours).all()
    return np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1.0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [
        SPEECH,
        SPEECH | {"scale": "htk", "norm": None, "fmin": 50.0, "fmax": 3500.0},
        SPEECH | {"win_length": 400, "power": 1.0, "norm": 2},
        SPEECH | {"pad_mode": "reflect", "power": 1.5, "norm": float("inf")},
        SPEECH | {"center": False, "window": "hamming", "norm": 1, "scale": "htk"},
    ],
    ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items() if k not in SPEECH) or "plain",
)
def test_librosa(signal, dtype, options):
    wave, rate = signal
    ours = MelSpectrogram(rate, **options)(torch.tensor(wave, dtype=dtype))
    assert difference(ours, librosa_mel(wave, rate, **options)) <= TOLERANCE[dtype]


def test_defaults_are_librosas(signal):
    wave, rate = signal
    rate = 22050  # as if; at 8 kHz some of 128 bands are empty
    ours = MelSpectrogram(rate)(torch.tensor(wave, dtype=torch.float32))
    theirs = librosa.feature.melspectrogram(y=wave.astype(np.float32), sr=rate)
    assert difference(ours, theirs) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_torchaudio(signal, torchaudio, scale, norm, power):
    wave, rate = signal
    options = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "power": power}
    torch.set_default_dtype(torch.float64)  # torchaudio builds in the default dtype, and float32 puts it 4e-6 off
    try:
        theirs = torchaudio.transforms.MelSpectrogram(rate, f_min=30.0, mel_scale=scale, norm=norm, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    ours = MelSpectrogram(rate, fmin=30.0, scale=scale, norm=norm, pad_mode="reflect", **options)
    for dtype, tolerance in TOLERANCE.items():
        assert difference(ours(torch.tensor(wave, dtype=dtype)), theirs(torch.tensor(wave)).numpy()) <= tolerance


@pytest.mark.parametrize(
    "rate, n_fft, n_mels", [(22050, 2048, 128), (16000, 512, 40), (8000, 401, 20), (44100, 4096, 256)]
)
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None, 1, 2, float("inf")])
def test_filter_bank_is_librosas(rate, n_fft, n_mels, scale, norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty bands, on both sides
        theirs = librosa.filters.mel(
            sr=rate, n_fft=n_fft, n_mels=n_mels, htk=scale == "htk", norm=norm, dtype=np.float64
        )
    ours = mel_filter_bank(rate, n_fft, n_mels, 0.0, rate / 2, scale, norm)
    assert np.abs(ours.numpy() - theirs).max() / theirs.max() < 1e-12


def test_empty_bands_are_named_and_the_advice_helps():
    with pytest.warns(UserWarning, match="MelSpectrogram: .* of n_mels=140 bands are always 0") as caught:
        mel = MelSpectrogram(16000, n_fft=256, n_mels=140)
    message = str(caught[0].message)
    assert caught[0].filename == __file__
    zero = (mel(torch.rand(16000) - 0.5) == 0).all(-1).nonzero().flatten().tolist()
    named = re.search(r"into them: ([\d, -]+)\.", message)[1]
    spans = [part.split("-") for part in named.split(", ")]
    assert zero == [band for span in spans for band in range(int(span[0]), int(span[-1]) + 1)]
    assert re.search(rf"\b{len(zero)} of", message)
    enough = int(re.search(r"at least (\d+)", message)[1])
    MelSpectrogram(16000, n_fft=enough, n_mels=140)  # no warning, or the test fails


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0])
def test_gradients_on_silence_are_finite(power):
    wave = torch.zeros(2, 1000, requires_grad=True)
    MelSpectrogram(16000, power=power, **SPEECH)(wave).sum().backward()
    assert torch.isfinite(wave.grad).all()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_gradcheck(power):
    mel = MelSpectrogram(1000, n_fft=32, hop_length=7, n_mels=4, power=power).double()
    torch.autograd.gradcheck(mel, torch.randn(2, 40, dtype=torch.float64, requires_grad=True))


def test_batch_neighbours_do_not_matter():
    wave = torch.randn(3, 4000)
    mel = MelSpectrogram(16000, **SPEECH)
    alone = mel(wave[1])
    # matrix products round by the shape: 1e-6 of the peak
    assert difference(mel(wave)[1], alone) <= 1e-6
    assert difference(mel(torch.stack((wave[0] * 1e6, wave[1])))[1], alone) <= 1e-6


def test_an_empty_batch_gives_an_empty_output():
    assert MelSpectrogram(16000, **SPEECH)(torch.zeros(0, 1000)).shape == (0, 40, 7)
