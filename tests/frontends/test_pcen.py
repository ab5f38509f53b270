"""PCEN against librosa, a plain recursion, and finite differences."""

import librosa
import numpy as np
import pytest
import torch

from temporal.frontends import PCEN
from temporal.frontends.pcen import smooth

# Relative to the peak: measured 3e-7 and 5e-15.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
ALL = ("gain", "bias", "power", "smoothing")


def mel(signal, scale):
    wave, rate = signal
    return scale * librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=512, hop_length=160, n_mels=40)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "scale, options",
    [
        (2.0**31, {}),
        (1.0, {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant": 0.06, "eps": 1e-9}),
        (1e3, {"gain": 0.0, "power": 1.0, "time_constant": 5.0}),
        (2.0**31, {"bias": 0.0}),
        (2.0**31, {"power": 0.0}),
    ],
)
def test_librosa(signal, dtype, scale, options):
    rate, energy = signal[1], mel(signal, scale).astype(np.float32)
    with np.errstate(divide="ignore"):  # with bias=0 librosa takes the logarithm of silence
        theirs = librosa.pcen(energy.astype(np.float64), sr=rate, hop_length=160, **options)
    ours = PCEN(rate, 160, **options)(torch.tensor(energy, dtype=dtype)).numpy()
    assert np.isfinite(ours).all()
    assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max()


def test_from_the_first_frame(signal):
    energy = mel(signal, 2.0**31)
    coefficient = PCEN(signal[1], 160).smoothing
    theirs = librosa.pcen(energy, sr=signal[1], hop_length=160, zi=(1 - coefficient) * energy[:, :1])
    ours = PCEN(signal[1], 160, initial="first")(torch.tensor(energy)).numpy()
    assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("initial", [0.0, 37.5, "per bin"])
def test_librosas_initial_state(signal, initial):
    energy = mel(signal, 2.0**31)
    level = np.geomspace(1, 1e6, 40) if initial == "per bin" else np.full(40, initial)
    pcen = PCEN(signal[1], 160, initial=torch.tensor(level) if initial == "per bin" else initial).double()
    theirs = librosa.pcen(
        energy.astype(np.float64), sr=signal[1], hop_length=160, zi=((1 - pcen.smoothing) * level)[:, None]
    )
    ours = pcen(torch.tensor(energy).double()).numpy()
    # the levels given per bin are kept in float32
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()


def test_leafs_form(signal):
    """(E / (floor + M) ** alpha + delta) ** (1 / r) - delta ** (1 / r), M from the first frame, in plain numpy."""
    energy = mel(signal, 1.0).astype(np.float64)
    alpha, delta, root, s, floor = (np.linspace(a, b, 40)[:, None] for a, b in
                                    [(0.5, 1), (1, 3), (1, 4), (0.01, 0.5), (1e-12, 1e-12)])  # fmt: skip
    m = np.empty_like(energy)
    m[:, :1] = energy[:, :1]
    for t in range(1, energy.shape[1]):
        m[:, t : t + 1] = (1 - s) * m[:, t - 1 : t] + s * energy[:, t : t + 1]
    theirs = (energy / (floor + m) ** alpha + delta) ** (1 / root) - delta ** (1 / root)
    pcen = PCEN(signal[1], 160, smoothing=0.04, eps=1e-12, initial="first", size=40, trainable=ALL).double()
    assert torch.equal(pcen.smoothing, torch.full((40,), 0.04).double())
    with torch.no_grad():
        for name, value in {"gain": alpha, "bias": delta, "power": 1 / root, "smoothing": s}.items():
            getattr(pcen, name).copy_(torch.tensor(value[:, 0]))
    assert np.abs(pcen(torch.tensor(energy)).detach().numpy() - theirs).max() <= 1e-12 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("frames", [1, 2, 31, 32, 33, 64, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("bins", [1, 5])
def test_smoothing_is_the_recursion(frames, bins):
    x = torch.rand(3, 5, frames, dtype=torch.float64)
    s = torch.linspace(0, 1, bins, dtype=torch.float64)[:, None] if bins > 1 else torch.full((1, 1), 0.03).double()
    last = before = torch.rand(3, 5, 1, dtype=torch.float64)
    expected = []
    for t in range(frames):
        last = (1 - s) * last + s * x[..., t : t + 1]
        expected.append(last)
    torch.testing.assert_close(smooth(x, s, before), torch.cat(expected, -1), rtol=1e-13, atol=1e-15)


def test_learnable_starts_as_the_fixed_one_and_each_bin_learns_its_own():
    frames = torch.rand(2, 4, 50) * 100
    fixed, learnable = PCEN(16000, 160), PCEN(16000, 160, size=4, trainable=ALL)
    torch.testing.assert_close(learnable(frames), fixed(frames), rtol=1e-5, atol=1e-5)
    learnable(frames)[:, 2].sum().backward()
    for name in ALL:
        gradient = dict(learnable.named_parameters())[name].grad
        assert gradient.shape == (4,)
        assert gradient.nonzero().flatten().tolist() == [2]


def test_parameters_stay_in_their_range():
    pcen = PCEN(16000, 160, size=2, trainable=ALL)
    with torch.no_grad():
        for parameter in pcen.parameters():
            parameter.copy_(torch.tensor([-5.0, 5.0]))
    out = pcen(torch.rand(2, 30) * 100)
    assert torch.isfinite(out).all() and (out >= 0).all()


def test_gradcheck():
    pcen = PCEN(16000, 160, size=3, trainable=ALL).double()
    with torch.no_grad():
        pcen.gain.fill_(0.7)
        pcen.power.fill_(0.6)
    frames = (torch.rand(2, 3, 40, dtype=torch.float64) + 0.1).requires_grad_()

    def run(frames, *parameters):
        names = [name for name, _ in pcen.named_parameters()]
        return torch.func.functional_call(pcen, dict(zip(names, parameters, strict=True)), (frames,))

    torch.autograd.gradcheck(run, (frames, *pcen.parameters()))


def test_gradients_on_silence_are_finite():
    for pcen in (PCEN(16000, 160, size=3, trainable=ALL), PCEN(16000, bias=0), PCEN(16000, power=0)):
        silence = torch.zeros(2, 3, 40, requires_grad=True)
        pcen(silence).sum().backward()
        for tensor in (silence, *pcen.parameters()):
            assert torch.isfinite(tensor.grad).all()


def test_autocast():
    frames = torch.rand(2, 4, 50) * 100
    for pcen in (PCEN(16000, 160), PCEN(16000, 160, size=4, trainable=ALL)):
        with torch.autocast("cpu", torch.bfloat16):
            out = pcen(frames)
        assert torch.equal(out, pcen(frames))


def test_nothing():
    assert PCEN(16000)(torch.zeros(2, 3, 0)).shape == (2, 3, 0)
    assert PCEN(16000)(torch.zeros(0, 3, 40)).shape == (0, 3, 40)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: PCEN(16000, gain=1.5), ValueError, "gain=1.5 must lie between 0 and 1"),
        (lambda: PCEN(16000, power=2), ValueError, "power=2 must lie between 0 and 1"),
        (lambda: PCEN(16000, power=-0.1), ValueError, "power=-0.1 must lie between 0 and 1"),
        (lambda: PCEN(16000, bias=-1), ValueError, "bias=-1 is negative"),
        (lambda: PCEN(16000, smoothing=1.5), ValueError, "smoothing=1.5 must lie between 0 and 1"),
        (lambda: PCEN(16000, smoothing=0), ValueError, "smoothing=0 must be greater than 0"),
        (lambda: PCEN(16000, initial=-1.0), ValueError, "initial has values that are negative"),
        (lambda: PCEN(16000, initial=torch.ones(2, 2)), ValueError, r"initial came as \[2, 2\]"),
        (lambda: PCEN(16000, eps=0), ValueError, "eps=0 must be greater than 0"),
        (lambda: PCEN(16000, time_constant=0), ValueError, "time_constant=0 s must be greater than 0"),
        (lambda: PCEN(0), ValueError, "sample_rate=0 Hz must be greater than 0"),
        (lambda: PCEN(16000, 0), ValueError, "hop_length=0 samples is not positive"),
        (lambda: PCEN(16000, initial="zero"), ValueError, "initial='zero' is unknown"),
        (lambda: PCEN(16000, trainable=("gain",)), ValueError, "give size, the number of bins"),
        (lambda: PCEN(16000, size=3, trainable=("gains",)), ValueError, "'gains' is unknown; did you mean 'gain'"),
        (lambda: PCEN(16000, size=3, trainable="gain"), TypeError, "trainable='gain' is a string"),
        (lambda: PCEN(16000, size=3)(torch.zeros(4, 9)), ValueError, r"frames \[4, 9\] have 4 bins, not size=3"),
    ],
)  # fmt: skip
def test_bad_values(make, error, message):
    with pytest.raises(error, match=f"PCEN: .*{message}"):
        make()
