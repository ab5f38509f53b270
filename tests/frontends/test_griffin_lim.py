"""Griffin-Lim beside librosa's, by how near the magnitudes of the result come."""

import librosa
import numpy as np
import pytest
import soundfile
import torch

from temporal.frontends import STFT, Chain, GriffinLim

SIZES = {"n_fft": 512, "hop_length": 128}


def chords(rate=16000):
    time = np.arange(rate) / rate
    partials = [(f * k, k) for f in (220, 277.2, 329.6) for k in (1, 2, 3, 4)]
    return sum(np.sin(2 * np.pi * f * time) * np.exp(-3 * (time % 0.5)) / k for f, k in partials)


def distance(wave, magnitude):
    """Spectral convergence."""
    again = np.abs(librosa.stft(np.asarray(wave, dtype=np.float64), **SIZES))
    return np.linalg.norm(again - magnitude) / np.linalg.norm(magnitude)


def melody(seed, rate=16000):
    """Decaying notes with partials that are a little too high."""
    time, draw = np.arange(rate) / rate, np.random.default_rng(seed)
    wave = np.zeros(rate)
    for note in range(4):
        pitch, since = 110 * 2 ** (draw.integers(0, 36) / 12), (time - note / 4).clip(0)
        for k in range(1, 9):
            if pitch * k < 7600:
                wave += np.sin(2 * np.pi * pitch * k * (1 + 3e-4 * k) * since) * np.exp(-4 * since) * (since > 0) / k
    return wave


def test_nearer_than_librosa_after_as_many_iterations(fsdd, arabic, speech_commands):
    """On average over recordings on which nothing was chosen, and on most of them; the description says by how much."""
    files = [fsdd / "0_lucas_4.wav", fsdd / "9_george_26.wav", *sorted(arabic.glob("*/*.flac"))[7::2500]]
    files += sorted(speech_commands.glob("*/*.wav"))[33::110]
    ours, theirs = [], []
    for wave in (melody(0), melody(1), *(soundfile.read(file)[0] for file in files)):
        wave = wave[: len(wave) // 128 * 128]
        magnitude = np.abs(librosa.stft(wave, **SIZES)).astype(np.float32)
        for seed in range(2):
            ours.append(distance(GriffinLim(**SIZES, seed=seed)(torch.tensor(magnitude)).numpy(), magnitude))
            theirs.append(
                distance(librosa.griffinlim(magnitude, n_iter=32, hop_length=128, random_state=seed), magnitude)
            )
    ours, theirs = np.array(ours), np.array(theirs)
    assert ours.mean() <= theirs.mean(), (ours.mean(), theirs.mean())
    assert (ours <= theirs).mean() >= 0.7, (ours, theirs)


def test_the_recurrence_is_librosas():
    """From the same first phases (0), the same signal."""
    wave = chords(4096)
    magnitude = np.abs(librosa.stft(wave, **SIZES))
    for momentum in (0.0, 0.99):
        theirs = librosa.griffinlim(magnitude, n_iter=5, hop_length=128, init=None, momentum=momentum, dtype=np.float64)
        ours = GriffinLim(**SIZES, n_iter=5, init="zeros", momentum=momentum).double()(torch.tensor(magnitude))
        assert np.abs(ours.numpy() - theirs).max() <= 1e-9 * np.abs(theirs).max()


@pytest.mark.parametrize("init", ["peaks", "random"])
def test_an_item_depends_on_its_seed_alone(init):
    magnitude = torch.rand(3, 2, 33, 20)
    layer = GriffinLim(64, 4, init=init)
    out = layer(magnitude)
    assert torch.equal(out, layer(magnitude))
    torch.testing.assert_close(layer(magnitude[2, 1]), out[2, 1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(GriffinLim(64, 4, init=init, seed=1)(magnitude), out, atol=1e-3)


def test_power_and_length():
    stft = STFT(64, hop_length=16, output="power")
    layer = GriffinLim.of(stft, n_iter=3)
    power = stft(torch.randn(2, 167))
    assert layer.power == 2
    torch.testing.assert_close(layer(power), GriffinLim(64, 3, hop_length=16)(power.sqrt()), rtol=1e-3, atol=1e-4)
    assert layer(power, length=167).shape == (2, 167) and layer.frames(power.shape[-1]) == 160
    with pytest.raises(ValueError, match="length=200 has 13 frames, not 11; give 160 to 175 samples"):
        layer(power, length=200)


def test_silence_and_gradients():
    layer = GriffinLim(16, 3).double()
    silence = torch.zeros(2, 9, 6, dtype=torch.float64, requires_grad=True)
    out = layer(silence)
    assert out.eq(0).all()
    out.sum().backward()
    assert silence.grad.isfinite().all()
    magnitude = (torch.rand(9, 6, dtype=torch.float64) + 0.5).requires_grad_()
    torch.autograd.gradcheck(GriffinLim(16, 2, init="random").double(), magnitude)
    assert layer(torch.zeros(0, 9, 6)).shape == (0, 20)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GriffinLim(64).stream(torch.zeros(33, 4)), "every phase depends .* STFT.output='complex'. and InverseSTFT"),
        (lambda: GriffinLim(64)(torch.zeros(40, 4)), "with 33 bins .*InverseMel"),
        (lambda: GriffinLim(64, momentum=-1), "momentum=-1 is negative"),
        (lambda: GriffinLim(64, init="noise"), "init='noise' is unknown"),
        (lambda: GriffinLim(64, hop_length=64), "leaves gaps"),
        (lambda: GriffinLim.of(STFT(64, pad_mode="reflect")), "pad_mode='reflect'"),
        (lambda: Chain(GriffinLim(64)).stream(torch.zeros(33, 4)), r"stage 0 \(GriffinLim\): every phase"),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_from_magnitudes_with_any_batch_and_length():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    stft = STFT(256, hop_length=64)
    layer = GriffinLim.of(stft, n_iter=4)
    batch, frames = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("frames", min=8, max=10000)
    program = torch.onnx.export(
        layer, (stft(torch.randn(2, 4096)),), dynamo=True, verbose=False, dynamic_shapes=({0: batch, 2: frames},)
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    magnitude = stft(torch.randn(3, 6000))
    (ours,) = session.run(None, {session.get_inputs()[0].name: magnitude.numpy()})
    expected = layer(magnitude)
    assert (torch.tensor(ours) - expected).abs().max() <= 1e-4 * expected.abs().max()  # roundings grow: measured 5e-6
