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
    # What the octaves' lower rates cut off, 1e-5 of the peak on noise, the same in both dtypes, and float32's own sums
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


@pytest.mark.parametrize("make", [CQT, VQT])
def test_the_two_engines(signal, make):
    wave, rate = signal
    wave, options = torch.tensor(wave), {"n_bins": bins_below(rate), "output": "complex"}
    expected = make(rate, engine="conv", **options)(wave)
    # The tails of the spectra of filters above the lower Nyquist frequency: 7e-6 of the peak on noise
    assert error(make(rate, engine="fft", **options)(wave), expected.numpy()) <= 1e-5
    assert error(make(rate, engine="conv", **options)(wave.float()), expected.numpy()) <= 2e-6


@pytest.mark.parametrize("make", [CQT, VQT])
def test_the_two_engines_on_a_click_between_two_frames(make):
    # The high filters are too short to hear it, and the ends of the low ones are what the lower rates round off.
    clicks = torch.eye(8000, dtype=torch.float64)[3584 : 3584 + 512 : 20]
    expected = make(22050, engine="conv", output="complex")(clicks)
    difference = (make(22050, engine="fft", output="complex")(clicks) - expected).abs().amax((1, 2))
    assert (difference / expected.abs().amax((1, 2))).max() <= 4e-5


def test_reflection_is_that_of_the_signal():
    wave = torch.randn(2, 9000, dtype=torch.float64)
    layer = CQT(8000, fmin=65.4, n_bins=60, hop_length=100, pad_mode="reflect", output="complex")
    reach = 20 * 100 + 1900
    longer = torch.cat((wave[:, 1 : reach + 1].flip(-1), wave, wave[:, -reach - 1 : -1].flip(-1)), -1)
    plain = CQT(8000, fmin=65.4, n_bins=60, hop_length=100, output="complex")
    assert error(layer(wave), plain(longer)[..., reach // 100 : reach // 100 + 91].numpy()) <= 1e-6


def test_librosa_mode_reflects_as_librosa():
    wave = np.random.default_rng(0).uniform(-1, 1, 40000)
    expected = librosas(librosa.cqt, wave, 22050, pad_mode="reflect")
    ours = CQT(22050, output="complex", mode="librosa", pad_mode="reflect")(torch.tensor(wave))
    assert error(ours, expected, 14) <= 2e-4 and error(ours, expected) <= 2e-2


@pytest.mark.parametrize(
    "options",
    [
        {"scale": False},
        {"norm": 2},
        {"norm": None},
        {"norm": np.inf},
        {"tuning": 0.3},
        {"filter_scale": 0.5},
        {"window": "blackmanharris"},
        {"bins_per_octave": 24, "n_bins": 100},
        {"n_bins": 1, "fmin": 440.0},
        {"sparsity": 0.0},
        {"fmin": 100.0, "n_bins": 30},
    ],
    ids=str,
)
def test_arguments_are_librosas(options):
    wave = np.random.default_rng(1).uniform(-1, 1, 40000)
    expected = librosas(librosa.cqt, wave, 22050, **options)
    ours = CQT(22050, output="complex", mode="librosa", **options)(torch.tensor(wave))
    assert error(ours, expected, 14 * options.get("bins_per_octave", 12) // 12) <= 2e-4


def test_frames_and_lengths_are_librosas():
    layer = VQT(44100)
    np.testing.assert_allclose(layer.frequencies, librosa.cqt_frequencies(84, fmin=librosa.note_to_hz("C1")), rtol=1e-9)
    alpha = librosa.filters._relative_bandwidth(freqs=layer.frequencies.numpy())
    lengths, _ = librosa.filters.wavelet_lengths(freqs=layer.frequencies.numpy(), sr=44100, gamma=None, alpha=alpha)
    np.testing.assert_allclose(layer.lengths, lengths, rtol=1e-9)
    for samples in (100_000, 99_839, 99_840, 511):  # librosa decimates first here, and rounds the length up
        wave = np.zeros(samples)
        frames = librosas(librosa.cqt, wave, 44100).shape[-1]
        assert CQT(44100, mode="librosa").frames(samples) == frames
        assert CQT(44100).frames(samples) == 1 + samples // 512
    assert CQT(44100).frames(torch.tensor([511, 512])).tolist() == [1, 2]


def test_vqt_goes_to_cqt():
    wave = torch.randn(30000, dtype=torch.float64)
    still = CQT(22050, output="complex")(wave)
    assert torch.equal(VQT(22050, gamma=0, output="complex")(wave), still)
    # In proportion to gamma (measured 0.18 gamma / Hz), as long as no filter's length passes a whole number of samples:
    # from 1e-3 on some do, and each is a step of one sample in 185 or more.
    for gamma, tolerance in ((1e-9, 1e-9), (1e-6, 1e-6), (1e-4, 1e-4), (1e-3, 1e-2)):
        assert error(VQT(22050, gamma=gamma, output="complex")(wave), still.numpy()) <= tolerance


def test_outputs():
    wave = torch.randn(2, 3, 5000, dtype=torch.float64)
    values = CQT(16000, output="complex")(wave)
    torch.testing.assert_close(CQT(16000)(wave), values.abs())
    torch.testing.assert_close(CQT(16000, output="power")(wave), values.abs().square())
    torch.testing.assert_close(CQT(16000, output="phase")(wave), values.angle())


SMALL = {"hop_length": 12, "fmin": 20.0, "n_bins": 4, "bins_per_octave": 2, "filter_scale": 4.0}


@pytest.mark.parametrize("output", ["magnitude", "power", "complex"])
@pytest.mark.parametrize("options", [{}, {"engine": "conv"}, {"mode": "librosa"}], ids=str)
def test_gradcheck(output, options):
    layer = CQT(500, output=output, trainable=("basis",), **SMALL, **options).double()
    wave = torch.randn(2, 60, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(layer, wave)

    def of_basis(*values):
        names = [f"basis_{i}" for i in range(len(values))]
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (wave.detach(),))

    torch.autograd.gradcheck(of_basis, tuple(layer.parameters()), fast_mode=True)


def test_second_derivatives():
    wave = torch.randn(60, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(CQT(500, output="power", **SMALL).double(), wave, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("output", ["magnitude", "power"])
def test_the_same_with_and_without_a_gradient(output, dtype):
    """Each has a last pass of its own; what the first call kept serves the second one's graph, and that graph's gradient."""
    cqt = CQT(8000, hop_length=128, n_bins=60, output=output).to(dtype)
    wave = torch.randn(2, 5000, dtype=dtype)
    with torch.inference_mode():
        plain = cqt(wave)
    wave.requires_grad_()
    result = cqt(wave)
    assert plain.shape == result.shape and plain.dtype == result.dtype == dtype
    assert (plain - result).abs().max() <= (5e-7 if dtype == torch.float32 else 1e-15) * result.abs().max()
    (slope,) = torch.autograd.grad(result.square().sum(), wave, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), wave)
    assert curve.isfinite().all() and curve.any()


def test_gradients_for_each_item_and_each_set_of_filters_by_torch_func():
    layer, waves = CQT(500, trainable=("basis",), **SMALL).double(), torch.randn(3, 2, 60, dtype=torch.float64)
    assert [octave.hop for octave in layer._octaves] != [12, 12]  # a lower rate is in play
    each = torch.func.vmap(torch.func.grad(lambda wave: layer(wave).sum()), in_dims=1)(waves.movedim(0, 1))
    waves.requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad(layer(waves).sum(), waves)[0])
    several = {name: torch.stack((value, 2 * value)) for name, value in layer.named_parameters()}
    out = torch.func.vmap(lambda values: torch.func.functional_call(layer, values, (waves,)))(several)
    torch.testing.assert_close(out, torch.stack((layer(waves), 2 * layer(waves))))


@pytest.mark.parametrize("output", ["magnitude", "power", "complex", "phase"])
@pytest.mark.parametrize("engine", ["fft", "conv"])
def test_gradients_on_silence_are_finite(output, engine):
    wave = torch.zeros(2, 2000, requires_grad=True)
    out = CQT(8000, n_bins=60, output=output, engine=engine)(wave)
    (torch.view_as_real(out) if output == "complex" else out).sum().backward()
    assert torch.isfinite(wave.grad).all()


def test_a_trained_basis_is_a_parameter_and_is_stored():
    layer, wave = CQT(16000, trainable=("basis",), output="complex"), torch.randn(8000)
    assert sorted(layer.state_dict()) == [f"basis_{i}" for i in range(7)]
    assert torch.equal(layer(wave), CQT(16000, output="complex")(wave))
    before = layer(wave).detach()
    layer(wave).abs().square().mean().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert not torch.equal(layer(wave), before)
    fresh = CQT(16000, trainable=("basis",), output="complex")
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(wave), layer(wave))
    assert not CQT(16000).state_dict() and not list(CQT(16000).parameters())


def test_empty_batches_and_no_samples():
    wave = torch.zeros(0, 2, 3000, requires_grad=True)
    out = CQT(16000)(wave)
    assert out.shape == (0, 2, 84, 6)
    out.sum().backward()
    assert wave.grad.shape == wave.shape
    assert torch.equal(CQT(16000)(torch.zeros(3, 0)), torch.zeros(3, 84, 1))
    assert CQT(16000, engine="conv")(torch.zeros(0, 3000)).shape == (0, 84, 6)


def test_nan_stays_in_its_item_and_in_conv_in_its_frames():
    wave = torch.randn(2, 20000)
    wave[0, 10000] = float("nan")
    out = CQT(16000)(wave)
    assert out[0, :48].isnan().all() and torch.isfinite(out[1]).all()
    seen = CQT(16000, engine="conv")(wave)[0].isnan()
    assert seen[:, 10000 // 512 + 1].sum() and not seen[-1, :15].any() and not seen[:, 30:].any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CQT(8000), r"CQT: n_bins=84 reaches 3951.07 Hz, .*Nyquist .*sample_rate=8000 Hz \(4000 Hz\).*n_bins <= 83"),
        (lambda: CQT(8000, fmin=3990), "CQT: fmin=3990 Hz is too close to the Nyquist frequency"),
        (lambda: VQT(8000, gamma=-1), "VQT: gamma=-1 Hz is negative"),
        (lambda: CQT(8000, hop_length=0), "CQT: hop_length=0 samples is not positive"),
        (lambda: CQT(8000, fmin=0), "CQT: fmin=0 Hz must be greater than 0"),
        (lambda: CQT(8000, n_bins=0), "n_bins=0 bins is not positive"),
        (lambda: CQT(8000, bins_per_octave=0), "bins_per_octave=0 bins is not positive"),
        (lambda: CQT(8000, filter_scale=0), "filter_scale=0 must be greater than 0"),
        (lambda: CQT(16000, sparsity=1), "sparsity=1 must lie between 0 and 1"),
        (lambda: CQT(16000, window="boxcar", engine="fft"), "window='boxcar' does not end in 0.*use engine='conv'"),
        (lambda: CQT(16000, mode="librosa", engine="conv"), "with mode='librosa' use engine='fft'"),
        (lambda: CQT(16000, output="mag"), "output='mag' is unknown; did you mean"),
        (lambda: CQT(16000, trainable=("bases",)), "trainable='bases' is unknown; did you mean 'basis'"),
        (lambda: CQT(16000, latency="per_octave", pad_mode="reflect"), "latency='per_octave' .*use pad_mode='constant'"),
        (lambda: CQT(16000, pad_mode="reflect")(torch.zeros(100)), "pad_mode='reflect' reflects .* not 100; use pad_mode"),
    ],
)  # fmt: skip
def test_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_types():
    with pytest.raises(TypeError, match=r"CQT: trainable='basis' is a string; give a tuple of names, \('basis',\)"):
        CQT(16000, trainable="basis")
    with pytest.raises(TypeError, match=r"CQT: the waveform came as int16; .*divide by 32768"):
        CQT(16000)(torch.zeros(1000, dtype=torch.int16))
    with pytest.raises(TypeError, match="CQT: the waveform came as complex64; give real numbers"):
        CQT(16000)(torch.zeros(1000, dtype=torch.complex64))


@pytest.mark.parametrize("options", [{}, {"engine": "conv"}, {"mode": "librosa"}, {"pad_mode": "reflect"}], ids=str)
def test_exported_with_dynamic_batch_and_length(options):
    layer = CQT(8000, hop_length=160, fmin=110.0, n_bins=48, **options)
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=3000, max=10**6)
    exported = torch.export.export(layer, (torch.randn(2, 4000),), dynamic_shapes=({0: batch, 1: samples},))
    wave = torch.randn(3, 9431)
    assert error(exported.module()(wave), layer(wave).numpy()) <= 1e-6


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = CQT(8000, hop_length=160, fmin=110.0, n_bins=36, output="power")
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=600, max=10**6)
    program = torch.onnx.export(
        layer, (torch.randn(2, 4000),), dynamo=True, verbose=False, dynamic_shapes=({0: batch, 1: samples},)
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    wave = torch.randn(3, 9431)
    (ours,) = session.run(None, {session.get_inputs()[0].name: wave.numpy()})
    assert error(torch.tensor(ours), layer(wave).numpy()) <= 1e-5
