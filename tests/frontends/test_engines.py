"""The two engines give the same numbers, the rule picks one of them, and what is trained learns, is stored and moves."""

import pytest
import torch

from temporal.frontends import MFCC, STFT, Chain, Gammatonegram, Log, MelSpectrogram

# Of the peak: a product of n_fft terms rounds more than an FFT does (measured 1e-6, and 2e-15 in float64).
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
BANDS = {"n_fft": 256, "hop_length": 80}
MAKE = {
    "magnitude": lambda **o: STFT(200, hop_length=80, **o),
    "power, odd": lambda **o: STFT(199, hop_length=50, win_length=150, output="power", **o),
    "complex, reflect": lambda **o: STFT(128, output="complex", pad_mode="reflect", **o),
    "complex, not centred": lambda **o: STFT(128, output="complex", center=False, **o),
    "mel": lambda **o: MelSpectrogram(16000, n_mels=20, **BANDS, **o),
    "mel magnitude": lambda **o: MelSpectrogram(16000, n_mels=20, power=1.0, **BANDS, **o),
    "mfcc": lambda **o: MFCC(16000, 12, n_mels=20, top_db=40, **BANDS, **o),
    "gammatone": lambda **o: Gammatonegram(16000, n_bins=20, fmin=100, **BANDS, **o),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
ALL = ("window", "basis", "filter_bank")


def difference(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return float((ours - theirs).detach().abs().max() / theirs.abs().max().clamp_min(1e-30))


@every
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_both_engines_agree(signal, make, dtype):
    wave = torch.tensor(signal[0], dtype=dtype)[:8000].expand(2, 1, -1)
    fft, conv = make(engine="fft"), make(engine="conv")
    assert (fft.engine, conv.engine) == ("fft", "conv")
    expected = fft(wave)
    assert difference(conv(wave), expected) <= TOLERANCE[dtype]


@every
def test_gradients_of_both_engines_agree(make):
    wave = torch.randn(2, 1000, dtype=torch.float64, requires_grad=True)
    weight = None
    grads = []
    for engine in ("fft", "conv"):
        out = make(engine=engine)(wave)
        weight = torch.randn_like(out) if weight is None else weight
        grads.append(torch.autograd.grad((out * weight).abs().sum(), wave)[0])
    assert difference(*grads) <= 1e-10


@pytest.mark.parametrize(
    "n_fft, engine", [(16, "conv"), (31, "conv"), (64, "conv"), (128, "fft"), (131, "conv"), (512, "fft"), (509, "fft")]
)
def test_the_rule(n_fft, engine):
    assert STFT(n_fft).engine == engine
    assert STFT(n_fft, trainable=("basis",)).engine == "conv"
    assert STFT(n_fft, trainable=("window",)).engine == engine


@every
@pytest.mark.parametrize("engine", ["fft", "conv"])
@pytest.mark.parametrize("part", ALL)
def test_what_is_trained_starts_exact_learns_and_is_stored(make, engine, part):
    able = make()._learnable
    if part not in able:
        with pytest.raises(ValueError, match=rf"trainable='{part}' is unknown; .*there are 'window', 'basis'$"):
            make(trainable=(part,))
        return
    if engine == "fft" and part == "basis":
        with pytest.raises(ValueError, match="engine='fft' has the bins of the FFT and nothing to learn"):
            make(engine=engine, trainable=(part,))
        return
    layer, wave = make(engine=engine, trainable=(part,)), torch.randn(2, 1000)
    assert list(layer.state_dict()) == [part] == [name for name, _ in layer.named_parameters()]
    before = layer(wave)
    assert difference(before, make(engine="fft")(wave)) <= 1e-5
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    start = getattr(layer, part).detach().clone()
    (layer(wave).abs().mean() / before.abs().mean().detach()).backward()
    optimizer.step()
    assert not torch.equal(getattr(layer, part), start) and torch.isfinite(getattr(layer, part)).all()
    changed = layer(wave)
    assert not torch.equal(changed, before)
    fresh = make(engine=engine, trainable=(part,))
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(wave), changed)
    doubled = fresh.double()  # a trained number is kept, not built again
    assert torch.equal(getattr(doubled, part).float(), getattr(layer, part))


@pytest.mark.parametrize("trainable", [("window",), ("basis",), ("filter_bank",), ALL])
def test_gradcheck_of_what_is_trained(trainable):
    torch.set_default_dtype(torch.float64)
    try:
        layer = MelSpectrogram(1000, n_fft=16, hop_length=7, n_mels=3, trainable=trainable)
    finally:
        torch.set_default_dtype(torch.float32)
    names = [name for name, _ in layer.named_parameters()]
    wave = torch.randn(2, 30, dtype=torch.float64)

    def run(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (wave,))

    assert sorted(names) == sorted(trainable)
    torch.autograd.gradcheck(run, [getattr(layer, name).detach().clone().requires_grad_() for name in names])


@every
def test_the_convolution_is_finite_on_silence(make):
    wave = torch.zeros(2, 1000, requires_grad=True)
    layer = make(engine="conv", trainable=make()._learnable)
    out = layer(wave)
    (torch.view_as_real(out) if out.is_complex() else out).sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


@pytest.mark.parametrize("engine", ["fft", "conv"])
@pytest.mark.parametrize("shape", [(0, 1000), (2, 0, 1000), (2, 0)])
def test_nothing_gives_nothing(engine, shape):
    wave = torch.zeros(shape, requires_grad=True)
    for layer in (STFT(15, engine=engine), MelSpectrogram(1000, n_fft=31, n_mels=3, hop_length=5, engine=engine)):
        out = layer(wave)
        assert out.shape == (*shape[:-1], out.shape[-2], layer.frames(shape[-1]))
        out.sum().backward()


def test_a_string_is_no_collection_of_names():
    with pytest.raises(TypeError, match=r"STFT: trainable='window' is a string; give a tuple of names, \('window',\)"):
        STFT(16, trainable="window")


def test_an_unknown_engine():
    with pytest.raises(ValueError, match="STFT: engine='ftt' is unknown; did you mean 'fft'"):
        STFT(16, engine="ftt")


# A Log behind a layer that can do its work, and what may come between


@every
@pytest.mark.parametrize("engine", ["fft", "conv"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_log_that_is_absorbed_is_the_same(make, engine, dtype):
    layer, wave = make(engine=engine), torch.randn(2, 1500, dtype=dtype)
    absorbed = layer.absorbs(Log(1e-4))
    if isinstance(layer, MFCC) or layer(wave).is_complex():
        assert absorbed is None
        return
    assert absorbed == {"log": 1e-4}
    chain = Chain(layer, Log(1e-4))
    assert difference(chain(wave), Log(1e-4)(layer(wave))) <= {torch.float32: 1e-6, torch.float64: 1e-13}[dtype]
    silence = torch.zeros(2, 1500, dtype=dtype, requires_grad=True)
    chain(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


def test_only_a_plain_log_is_absorbed():
    class Tilted(Log):
        def forward(self, frames):
            return super().forward(frames) + 1

    seen = []
    watched = Log()
    watched.register_forward_hook(lambda *_: seen.append(1))
    mel, wave = MelSpectrogram(16000, n_mels=20, **BANDS), torch.randn(1000)
    torch.testing.assert_close(Chain(mel, Tilted())(wave), Chain(mel, Log())(wave) + 1)
    Chain(mel, watched)(wave)
    assert seen
    assert Chain(mel, Log(), Log(20.0))(wave).shape == mel(wave).shape
