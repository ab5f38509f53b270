"""InverseSTFT against librosa and torch, InverseMel against librosa's non-negative least squares, and round trips."""

import warnings

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import MFCC, STFT, Chain, GriffinLim, InverseMel, InverseSTFT, MelSpectrogram

# Relative to the peak: measured 5e-7 (rounding of an FFT, divided by a window sum) and 2e-14.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def spectra_of(wave, **sizes):
    """Of the wave, with other phases: no signal has exactly these."""
    spectra = librosa.stft(wave, dtype=np.complex128, **sizes)
    return spectra * np.exp(1j * np.random.default_rng(0).uniform(0, 0.5, spectra.shape))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_fft, win_length, hop_length", [(512, None, 128), (400, 320, 160), (513, 400, 100)])
@pytest.mark.parametrize("center", [True, False])
def test_librosa(signal, dtype, n_fft, win_length, hop_length, center):
    sizes = {"n_fft": n_fft, "win_length": win_length, "hop_length": hop_length, "center": center}
    spectra = spectra_of(signal[0], **sizes)
    inverse = InverseSTFT(**sizes).to(dtype)
    complex_dtype = torch.complex64 if dtype is torch.float32 else torch.complex128
    # At the ends the sum of windows is tiny, and rounding amplified in anybody's float32: differences count times the sum.
    sums = librosa.filters.window_sumsquare(
        window="hann",
        n_frames=spectra.shape[-1],
        hop_length=hop_length,
        win_length=win_length,
        n_fft=n_fft,
        dtype=float,
    )[n_fft // 2 if center else 0 :]
    for length in (None, len(signal[0]), 1000, len(signal[0]) + 300):
        theirs = librosa.istft(spectra, length=length, **sizes)
        ours = inverse(torch.tensor(spectra, dtype=complex_dtype), length=length)
        assert ours.shape == theirs.shape and ours.dtype == dtype
        assert length is not None or ours.shape[-1] == inverse.frames(spectra.shape[-1])
        weights = librosa.util.fix_length(sums, size=len(theirs)) / sums.max()
        allowed = TOLERANCE[dtype] * max(1e-6, np.abs(theirs * weights).max())
        if (
            n_fft == 513 and dtype == torch.float32
        ):  # 27 x 19: an FFT of such a size errs more, 1.04e-6 on one processor
            allowed *= 1.2
        assert np.abs((ours.numpy() - theirs) * weights).max() <= allowed


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman", "boxcar"])
@pytest.mark.parametrize("n_fft, win_length, hop_length", [(512, None, 128), (257, 200, 37), (16, 16, 4), (64, 50, 7)])
def test_round_trip(signal, window, n_fft, win_length, hop_length):
    for dtype, tolerance in TOLERANCE.items():
        wave = torch.tensor(signal[0], dtype=dtype)
        stft = STFT(n_fft, win_length=win_length, hop_length=hop_length, window=window, output="complex").to(dtype)
        back = InverseSTFT.of(stft).to(dtype)(stft(wave), length=len(wave))
        assert (back - wave).abs().max() <= tolerance * max(wave.abs().max(), 1e-300)


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("center", [True, False])
def test_few_frames(frames, center):
    sizes = {"n_fft": 64, "hop_length": 10, "center": center}
    spectra = torch.randn(2, 3, 33, frames, dtype=torch.complex128)
    theirs = librosa.istft(spectra.numpy(), window="hamming", **sizes)
    ours = InverseSTFT(window="hamming", **sizes).double()(spectra)
    assert ours.shape == theirs.shape
    if theirs.size:
        assert np.abs(ours.numpy() - theirs).max() <= 1e-12 * np.abs(theirs).max()


def test_torch_istft():
    spectra = torch.randn(3, 101, 40, dtype=torch.complex128)
    window = torch.rand(200, dtype=torch.float64) + 0.5
    theirs = torch.istft(spectra, 200, 50, window=window)
    torch.testing.assert_close(InverseSTFT(200, hop_length=50, window=window).double()(spectra), theirs)


@pytest.mark.parametrize("trainable", [(), ("window",)])
def test_gradcheck(trainable):
    inverse = InverseSTFT(8, hop_length=3, window="hamming", trainable=trainable).double()
    spectra = torch.randn(2, 5, 6, dtype=torch.complex128, requires_grad=True)
    torch.autograd.gradcheck(inverse, spectra)
    if trainable:
        run = lambda window: torch.func.functional_call(inverse, {"window": window}, (spectra.detach(),))  # noqa: E731
        torch.autograd.gradcheck(run, inverse.window)
        assert list(inverse.state_dict()) == ["window"]


def test_nothing():
    inverse = InverseSTFT(16)
    assert inverse(torch.zeros(0, 9, 5, dtype=torch.complex64)).shape == (0, 16)
    assert inverse(torch.zeros(2, 9, 0, dtype=torch.complex64)).shape == (2, 0)
    assert inverse.frames(0) == 0 and inverse.frames(torch.tensor([0, 1, 5])).tolist() == [0, 0, 16]


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: InverseSTFT(512, hop_length=512), ValueError, "hop_length=512 leaves gaps .* largest hop that works"),
        (lambda: InverseSTFT(64, win_length=32, hop_length=40), ValueError, "gaps between windows of win_length=32"),
        (lambda: InverseSTFT(16, window=torch.zeros(16)), ValueError, "no hop works"),
        (lambda: InverseSTFT(16, win_length=17), ValueError, "win_length=17 is longer than n_fft=16"),
        (lambda: InverseSTFT(16)(torch.zeros(9, 4)), TypeError, "float32; give complex numbers.*GriffinLim"),
        (lambda: InverseSTFT(16)(torch.zeros(8, 4) * 1j), ValueError, r"\[8, 4\]; give \[..., bins, frames\] with 9 bins"),
        (lambda: InverseSTFT(16, trainable="window"), TypeError, "trainable='window' is a string"),
        (lambda: InverseSTFT.of(torch.nn.ReLU()), TypeError, r"of\(\) was given a ReLU"),
        (
            lambda: InverseSTFT.of(STFT(64, freq_scale="log", sample_rate=8000, fmin=50, n_bins=8)),
            ValueError,
            "freq_scale='log': such bins have no inverse",
        ),
        (lambda: InverseSTFT(16).flush(None), ValueError, "flush needs the state"),
        (lambda: InverseMel.of(MFCC(8000, 4, n_fft=256, n_mels=8)), TypeError, r"of\(\) was given a MFCC"),
        (lambda: InverseMel(8000, 256, n_mels=8)(torch.zeros(9, 4)), ValueError, r"\[9, 4\] have 9 bands, not n_mels=8"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=f"Inverse(STFT|Mel): .*{message}"):
        make()


BANKS = {
    "40": {"n_fft": 512, "n_mels": 40},
    "128": {"n_fft": 2048, "n_mels": 128},
    "htk": {"n_fft": 1024, "n_mels": 64, "scale": "htk", "norm": None},
}


@pytest.mark.parametrize("bank", ["40", "128"])
@pytest.mark.parametrize("changed", [False, True], ids=["real", "changed"])
def test_bands_are_met_as_well_as_by_librosa(signal, bank, changed):
    wave, rate = signal
    mel = MelSpectrogram(rate, hop_length=256, **BANKS[bank]).double()
    bands = mel(torch.tensor(wave[:8000]))
    if changed:  # bands that no spectrum has
        bands = bands * torch.exp(0.5 * torch.randn_like(bands))
    inverse = InverseMel.of(mel).double()
    spectra = inverse(bands)
    theirs = librosa.util.nnls(mel.filter_bank.numpy(), bands.numpy())
    residual = (mel.filter_bank @ spectra - bands).norm()
    assert (spectra >= 0).all() and spectra.isfinite().all()
    # 50 iterations leave 1e-3 of the norm that a solver without end would take away
    assert residual <= np.linalg.norm(mel.filter_bank.numpy() @ theirs - bands.numpy()) + 1e-3 * bands.norm()
    assert changed or residual <= 1e-3 * bands.norm()
    single = InverseMel.of(mel)(bands.float())
    assert (single - spectra).abs().max() <= 1e-4 * spectra.abs().max()


@pytest.mark.parametrize("bank", BANKS)
def test_from_mel_bands_to_audio_of_nearly_these_bands(speech_commands, bank):
    import soundfile

    wave, rate = soundfile.read(sorted(speech_commands.glob("*/*.wav"))[60])
    mel = MelSpectrogram(rate, hop_length=BANKS[bank]["n_fft"] // 4, **BANKS[bank])
    bands = mel(torch.tensor(wave, dtype=torch.float32))
    back = Chain(InverseMel.of(mel), GriffinLim(mel.n_fft, hop_length=mel.hop_length, power=2.0))
    again = mel(back(bands))
    frames = min(again.shape[-1], bands.shape[-1])
    # measured 0.07 to 0.17
    assert (again - bands)[..., :frames].norm() <= 0.2 * bands.norm()


def test_inverse_mel_by_frame_and_by_scale():
    inverse = InverseMel(8000, 256, n_mels=12).double()
    bands = torch.rand(3, 12, 9, dtype=torch.float64)
    torch.testing.assert_close(inverse(bands[1, :, 4:5]), inverse(bands)[1, :, 4:5])
    torch.testing.assert_close(inverse(bands * 1e-9) * 1e9, inverse(bands))
    assert inverse(torch.zeros(12, 3)).eq(0).all()
    torch.autograd.gradcheck(InverseMel(8000, 16, n_mels=3, n_iter=3).double(), (bands[0, :3, :2] + 1).requires_grad_())


def test_a_mel_scale_with_empty_bands_warns_and_stays_finite():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inverse = InverseMel(16000, 128, n_mels=60)
    assert any("always 0" in str(w.message) for w in caught)
    assert inverse(torch.rand(60, 4)).isfinite().all()
