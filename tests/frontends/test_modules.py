"""Front ends as modules: stored, moved, cast, copied, compiled."""

import copy
import pickle

import pytest
import torch

from temporal.frontends import (
    CQT,
    LEAF,
    MFCC,
    PCEN,
    STFT,
    VQT,
    AmplitudeToDB,
    Chain,
    Chroma,
    CombinedFrequencyPeriodicity,
    Deltas,
    FoldOctaves,
    GriffinLim,
    InverseMel,
    InverseSTFT,
    Log,
    MelSpectrogram,
    Normalize,
    Resample,
    RunningNormalize,
    SincConv,
    SpecAugment,
    UtteranceNormalize,
)


def mel(**options):
    return MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40, **options)


def chain():
    return Chain(mel(), Log(), Normalize(torch.linspace(-9, -3, 40), torch.linspace(1, 2, 40)))


LAYERS = {
    "STFT": lambda: STFT(256),
    "own window": lambda: STFT(256, window=torch.rand(256)),
    "mel": mel,
    "chain": chain,
    "mfcc": lambda: MFCC(16000, 13, n_fft=512, hop_length=160, n_mels=40, top_db=None),
    "deltas": lambda: Chain(mel(), Log(), Deltas(width=5)),
    "pcen": lambda: Chain(mel(), PCEN(16000, 160)),
    "trainable pcen": lambda: Chain(mel(), PCEN(16000, 160, size=40, trainable=("gain", "bias", "power", "smoothing"))),
    "decibels": lambda: Chain(mel(power=1.0), AmplitudeToDB("magnitude", top_db=80)),
    "cqt": lambda: CQT(16000, n_bins=60),
    "cqt by convolution": lambda: CQT(16000, n_bins=24, fmin=220.0, engine="conv"),
    "vqt, trainable": lambda: VQT(16000, hop_length=160, n_bins=60, trainable=("basis",)),
    "leaf": lambda: LEAF(16000, n_filters=8),
    "sinc": lambda: SincConv(16000, 8, 51, hop_length=10, trainable=("low",)),
    "resample": lambda: Chain(Resample(22050, 16000), mel()),
    "chroma": lambda: Chroma(16000, hop_length=300),
    "fold octaves": lambda: Chain(STFT(164), FoldOctaves(83)),
    "cfp": lambda: CombinedFrequencyPeriodicity(16000, win_length=1025),
    "inverse stft": lambda: Chain(Chain(STFT(256, output="complex"), InverseSTFT(256)), STFT(64)),
    "griffin-lim": lambda: Chain(STFT(64, output="power"), GriffinLim(64, 3, power=2.0, init="random")),
    "inverse mel": lambda: Chain(mel(), InverseMel(16000, 512, n_iter=5, n_mels=40)),
    "utterance": lambda: Chain(mel(), Log(), UtteranceNormalize(size=40, trainable=("gain", "offset"))),
    "running": lambda: Chain(mel(), Log(), RunningNormalize(20.0, size=40, trainable=("gain", "offset"))),
    "running, prior": lambda: Chain(mel(), Log(), RunningNormalize(20.0, mean=torch.full((40,), -5.0), std=2.0)),
    "spec augment": lambda: Chain(mel(), SpecAugment()).eval(),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
bare = pytest.mark.parametrize("make", [mel, lambda: STFT(256)], ids=["mel", "STFT"])


def dtypes(layer):
    return {buffer.dtype for buffer in layer.buffers() if buffer.is_floating_point()}


def test_window_and_filter_bank_are_not_stored():
    assert not mel().state_dict() and not STFT().state_dict()
    assert not list(mel().parameters())


@layers
def test_pickle_copy_and_state_dict(make):
    layer, wave = make(), torch.randn(2, 3000)
    expected = layer(wave)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(wave), expected)
    assert torch.equal(copy.deepcopy(layer)(wave), expected)
    if make is not LAYERS["own window"]:
        fresh = make()
        fresh.load_state_dict(layer.state_dict())
        assert torch.equal(fresh(wave), expected)
    assert "extra" not in repr(layer) and repr(layer)


@bare
@pytest.mark.parametrize("detour", ["half", "bfloat16", "float"])
def test_casts_do_not_round_twice(make, detour):
    wave = torch.randn(2, 3000, dtype=torch.float64)
    layer = make()
    getattr(layer, detour)()
    assert dtypes(layer) == {torch.float32}
    layer.double()
    assert dtypes(layer) == {torch.float64}
    assert torch.equal(layer(wave), make().double()(wave))


@bare
def test_the_inputs_dtype_decides(make):
    wave = torch.randn(2, 3000, dtype=torch.float64)
    single, double = make(), make().double()
    assert torch.equal(single(wave), double(wave)) and single(wave).dtype == torch.float64
    torch.testing.assert_close(double(wave.float()), single(wave.float()), rtol=1e-5, atol=1e-5)
    assert double(wave.float()).dtype == torch.float32
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(single(wave.to(dtype)), single(wave.to(dtype).float()))
    assert single.window.dtype == torch.float32 and double.window.dtype == torch.float64


@layers
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_spectra_in_float32(make, dtype):
    layer, wave = make(), torch.randn(2, 3000)
    expected = layer(wave)
    with torch.autocast("cpu", dtype):
        out = layer(wave)
        streamed, _ = layer[0].stream(wave) if isinstance(layer, Chain) else layer.stream(wave)
    assert out.dtype == streamed.dtype == torch.float32
    assert torch.equal(out, expected)


@bare
def test_made_on_no_device_and_placed_later(make):
    wave = torch.randn(2, 3000)
    with torch.device("meta"):
        layer = make()
    assert layer(wave.to("meta")).shape == make()(wave).shape
    assert torch.equal(layer.to_empty(device="cpu")(wave), make()(wave))


@layers
def test_double_as_the_default_dtype(make):
    torch.set_default_dtype(torch.float64)
    try:
        assert dtypes(make()) == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


def assert_compiled_is_the_same(layer, backend):
    torch.compiler.reset()
    wave = torch.randn(2, 3000, requires_grad=True)
    expected, out = layer(wave), torch.compile(layer, fullgraph=True, backend=backend)(wave)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    (grad,) = torch.autograd.grad(expected.sum(), wave)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), wave)[0], grad, rtol=1e-3, atol=1e-4)


@layers
def test_the_whole_graph_is_captured(make):
    assert_compiled_is_the_same(make(), "aot_eager")


def test_a_compiled_stream_and_an_exported_front_end():
    torch.compiler.reset()
    layer = chain()
    compiled = torch.compile(layer.stream, fullgraph=True, backend="aot_eager")
    state, other = None, None
    for chunk in torch.randn(5, 2, 160):
        out, state = compiled(chunk, state)
        expected, other = layer.stream(chunk, other)
        assert torch.equal(out, expected)
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=600, max=10**6)
    exported = torch.export.export(layer, (torch.randn(2, 3000),), dynamic_shapes=({0: batch, 1: samples},))
    wave = torch.randn(5, 12345)
    # The exported form is torch's own FFT and logarithm: it rounds differently from the compiled one (measured 2e-6).
    torch.testing.assert_close(exported.module()(wave), layer(wave), rtol=1e-5, atol=1e-5)
    # The graph holds torch's FFT, the layer takes one pass of its own: float32 rounds apart (measured 1e-6 of values to 12).
    torch.testing.assert_close(exported.module()(wave), layer(wave), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
@layers
def test_compile(make):
    assert_compiled_is_the_same(make(), "inductor")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@layers
def test_cuda_without_a_synchronisation(make):
    layer, wave = make(), torch.randn(2, 3000)
    expected = layer(wave)
    layer, wave = layer.cuda(), wave.cuda()
    layer(wave)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = layer(wave)
        if layer.stream_obstacle is None:
            _, state = layer.stream(wave)
            layer.flush(state)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)
