"""CombinedFrequencyPeriodicity against nnAudio2, and where it does better."""

import numpy as np
import pytest
import torch

from temporal.frontends import CombinedFrequencyPeriodicity

SMALL = {"resolution": 20.0, "win_length": 31, "hop_length": 9, "fmin": 60.0, "fmax": 300.0, "bins_per_octave": 6}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:stft with return_complex=False")  # both in nnAudio2
def test_nnaudio(signal, monkeypatch, capsys):
    monkeypatch.setenv("NNAUDIO_DISABLE_CITATION_REMINDER", "1")
    cfp = pytest.importorskip(
        "nnAudio2.features.cfp", reason="nnAudio2 is not installed: its numbers were not compared"
    )
    wave, rate = signal
    if rate != 16000:
        wave, rate = np.repeat(wave, 2), 16000
    # In float64: where a spectrum is flat, as a click's, the cepstrum is rounding, which the powers blow up.
    wave = torch.tensor(wave[:16000])
    theirs = cfp.Combined_Frequency_Periodicity().double()(wave[None])
    layer = CombinedFrequencyPeriodicity(16000, mode="nnaudio", output="all").double()
    layer.window = layer.window.float().double()  # as it rounds it: where the spectrum is near 0 this is all there is
    ours = layer(wave)
    assert ours.shape[-1] == 1 + len(wave) // 320
    for part, other in zip(ours, theirs, strict=True):
        # It drops the first and last frame.
        assert (part[:, 1:-1] - other[0]).abs().max() <= 1e-4 * other.abs().max() + 1e-7


def test_a_direct_computation():
    """The definition with full, complex FFTs and no symmetry used."""
    wave = np.random.default_rng(0).standard_normal(400)
    layer = CombinedFrequencyPeriodicity(1000, **SMALL, output="all").double()
    out = layer(torch.tensor(wave)).numpy()
    window, points = layer.window.numpy(), 50
    frames = np.stack([np.pad(wave, 16)[t * 9 : t * 9 + 32] * window for t in range(out.shape[-1])])
    magnitude = np.abs(np.fft.fft(frames, points)) / np.linalg.norm(window)
    cut = np.ones(points), np.ones(points)
    cut[0][:3] = cut[0][-3:] = cut[1][:3] = cut[1][-3:] = 0  # 1000 / 300 quefrencies, 60 / 20 bins
    cepstrum = np.maximum(np.fft.fft(magnitude**0.24).real / points**0.5, 0) ** 0.6 * cut[0]
    spectrum = np.maximum(np.fft.fft(cepstrum).real / points**0.5, 0) * cut[1]
    on_pitch, on_period = layer.frequency_map.numpy(), layer.periodicity_map.numpy()
    parts = [data[:, : bank.shape[1]] @ bank.T for data, bank in
             ((magnitude, on_pitch), (spectrum, on_pitch), (cepstrum, on_period))]  # fmt: skip
    for ours, expected in zip(out, [parts[1] * parts[2], *parts], strict=True):
        np.testing.assert_allclose(ours, expected.T, atol=1e-12)


@pytest.mark.parametrize("pitch", [110.0, 160.0, 220.0, 331.0, 440.0])
def test_the_pitch_of_a_saw_is_the_peak(pitch):
    layer = CombinedFrequencyPeriodicity(16000)
    saw = (torch.arange(16000, dtype=torch.float64) * pitch / 16000) % 1 - 0.5
    peaks = layer.frequencies[layer(saw)[:, 10:40].argmax(0)]
    assert (torch.log2(peaks / pitch).abs() < 2 / 48).all()


def test_maps_cover_every_bin_of_pitch():
    exact, theirs = CombinedFrequencyPeriodicity(16000), CombinedFrequencyPeriodicity(16000, mode="nnaudio")
    for name in ("frequency_map", "periodicity_map"):
        assert (getattr(exact, name).amax(1) > 0).all() and not (getattr(theirs, name).amax(1) > 0).all()
    octave = 48  # 160 Hz, which is quefrency 100 and bin 80
    assert exact.periodicity_map[octave, 100] == 1 and theirs.periodicity_map[octave, 100] == 0
    torch.testing.assert_close(exact.frequencies[octave].item(), 160.0)


def test_outputs():
    wave = torch.randn(2, 500)
    parts = CombinedFrequencyPeriodicity(1000, **SMALL, output="all")(wave)
    for i, output in enumerate(("combined", "spectrum", "frequency", "periodicity")):
        assert torch.equal(CombinedFrequencyPeriodicity(1000, **SMALL, output=output)(wave), parts[:, i])
    assert torch.equal(parts[:, 0], parts[:, 2] * parts[:, 3])
    assert CombinedFrequencyPeriodicity(1000, **SMALL)(torch.zeros(0, 3, 100)).shape[:2] == (0, 3)


def test_gradients():
    layer = CombinedFrequencyPeriodicity(1000, **SMALL).double()
    wave = torch.randn(60, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, wave)
    silence = torch.zeros(60, requires_grad=True)
    out = layer(silence)
    out.sum().backward()
    assert not out.any() and torch.isfinite(silence.grad).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"resolution": 10}, "resolution=10 Hz gives 1600 points, less than win_length=2049; give at most 7.8"),
        ({"fmin": 0}, "fmin=0 Hz must be greater than 0"),
        ({"fmax": 9000}, "fmax=9000 Hz must lie between resolution=2 Hz and the Nyquist frequency"),
        ({"fmin": 990}, "fmin=990 Hz and fmax=1000 Hz must lie between"),
        ({"gamma": (0.2, 1)}, "has 2 exponents; give 3"),
        ({"gamma": (0.2, 1, 0)}, "gamma=0 must be greater than 0"),
        ({"output": "z"}, "output='z' is unknown"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=f"CombinedFrequencyPeriodicity: .*{message}"):
        CombinedFrequencyPeriodicity(16000, **options)


@pytest.mark.parametrize("name", ["window", "frequency_map", "periodicity_map"])
def test_what_is_trained_starts_exact_learns_and_is_stored(name):
    layer, plain = (
        CombinedFrequencyPeriodicity(1000, **SMALL, trainable=(name,)),
        CombinedFrequencyPeriodicity(1000, **SMALL),
    )
    wave = torch.randn(2, 200)
    assert list(layer.state_dict()) == [name] == [found for found, _ in layer.named_parameters()]
    before = layer(wave)
    torch.testing.assert_close(before, plain(wave))
    layer(torch.zeros(200)).sum().backward()  # silence
    assert torch.isfinite(getattr(layer, name).grad).all()
    (before.mean() / before.mean().detach()).backward()
    torch.optim.SGD(layer.parameters(), 1e-3).step()
    changed = layer(wave)
    assert not torch.equal(changed, before)
    fresh = CombinedFrequencyPeriodicity(1000, **SMALL, trainable=(name,))
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(wave), changed)


def test_gradcheck_of_what_is_trained():
    names = ("window", "frequency_map", "periodicity_map")
    layer = CombinedFrequencyPeriodicity(1000, **SMALL, trainable=names).double()
    wave = torch.randn(60, dtype=torch.float64)

    def run(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (wave,))

    values = [getattr(layer, name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, values, fast_mode=True)
