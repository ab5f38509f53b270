"""MFCC against librosa and torchaudio."""

import librosa
import numpy as np
import pytest
import soundfile
import torch

from temporal.frontends import MFCC, MelSpectrogram

MEL = {"n_fft": 512, "hop_length": 160, "n_mels": 40}


def librosa_mfcc(wave, rate, n_mfcc, top_db, lifter, scale="slaney"):
    """librosa's MFCC in float64: its own mel spectrogram is float32 where no filter bank is given."""
    bank = librosa.filters.mel(sr=rate, n_fft=512, n_mels=40, htk=scale == "htk", dtype=np.float64)
    mel = bank @ np.abs(librosa.stft(wave, n_fft=512, hop_length=160, dtype=np.complex128)) ** 2
    return librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=top_db), n_mfcc=n_mfcc, lifter=lifter)


@pytest.mark.parametrize(
    "n_mfcc, top_db, lifter, scale", [(20, 80.0, 0, "slaney"), (40, None, 22, "slaney"), (13, 30.0, 7.5, "htk")]
)
def test_librosa(signal, n_mfcc, top_db, lifter, scale):
    wave, rate = signal
    mfcc = MFCC(rate, n_mfcc, top_db=top_db, lifter=lifter, scale=scale, **MEL)
    theirs = librosa_mfcc(wave, rate, n_mfcc, top_db, lifter, scale)
    ours = mfcc(torch.tensor(wave)).numpy()
    assert np.abs(ours - theirs).max() <= 1e-11 * np.abs(theirs).max()
    # float32: without top_db, bands at 1e-10 of the loudest are rounding, and their logarithm shows it
    if top_db is not None:
        ours = mfcc(torch.tensor(wave, dtype=torch.float32)).numpy()
        assert np.abs(ours - theirs).max() <= (2e-6 if top_db <= 30 else 2e-5) * np.abs(theirs).max()


@pytest.mark.parametrize("dct_norm", ["ortho", None])
@pytest.mark.parametrize("lifter", [0, 22])
def test_librosas_norms_of_the_cosine_transform(dct_norm, lifter):
    wave = torch.randn(4000, dtype=torch.float64)
    mfcc = MFCC(16000, 20, dct_norm=dct_norm, lifter=lifter, **MEL)
    power = MelSpectrogram(16000, **MEL)(wave).numpy()
    level = librosa.power_to_db(power, top_db=80)
    theirs = librosa.feature.mfcc(S=level, n_mfcc=20, norm=dct_norm, lifter=lifter)
    assert np.abs(mfcc(wave).numpy() - theirs).max() <= 1e-11 * np.abs(theirs).max()


def test_defaults_are_librosas(speech_commands):
    wave, _ = soundfile.read(sorted(speech_commands.rglob("*.wav"))[3], dtype="float32")  # as if at 22.05 kHz
    theirs = librosa.feature.mfcc(y=wave, sr=22050)
    ours = MFCC(22050)(torch.tensor(wave)).numpy()
    assert np.abs(ours - theirs).max() <= 2e-6 * np.abs(theirs).max()  # logarithms of float32 powers: measured 3e-7


def test_torchaudio(signal, torchaudio):
    wave, rate = signal
    torch.set_default_dtype(torch.float64)  # torchaudio builds in the default dtype
    try:
        melkwargs = MEL | {"mel_scale": "htk", "norm": None}
        theirs = torchaudio.transforms.MFCC(rate, n_mfcc=13, melkwargs=melkwargs)(torch.tensor(wave))
    finally:
        torch.set_default_dtype(torch.float32)
    ours = MFCC(rate, 13, scale="htk", norm=None, pad_mode="reflect", **MEL)(torch.tensor(wave))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_no_item_depends_on_its_batch():
    wave = torch.randn(3, 2, 4000)
    wave[2] *= 1e5
    mfcc = MFCC(16000, top_db=20, **MEL)
    whole = mfcc(wave)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(whole[i, j], mfcc(wave[i, j]), rtol=0, atol=1e-3)
    assert torch.equal(mfcc(wave.flip(0)), whole.flip(0))


def test_gradients():
    mfcc = MFCC(1000, 3, n_fft=32, hop_length=7, n_mels=4, lifter=2.0).double()
    torch.autograd.gradcheck(mfcc, torch.randn(2, 40, dtype=torch.float64, requires_grad=True))
    silence = torch.zeros(2, 4000, requires_grad=True)
    MFCC(16000, **MEL)(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_mfcc": 41}, "n_mfcc=41 is more than n_mels=40"),
        ({"n_mfcc": 0}, "n_mfcc=0 coefficients is not positive"),
        ({"top_db": -1}, "top_db=-1.0 .* must not be negative"),
        ({"lifter": -1}, "lifter=-1 must not be negative"),
        ({"dct_norm": "orto"}, "dct_norm='orto' is unknown; did you mean 'ortho'"),
        ({"trainable": ("cosines",)}, "trainable='cosines' is unknown"),
        ({"fmax": 9000}, "fmax=9000 Hz is above the Nyquist frequency"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ValueError, match=f"MFCC: .*{message}"):
        MFCC(16000, **(MEL | options))
