"""What every front end promises, asked of all of them: a new one joins with one line in FRONT_ENDS."""

import pathlib
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import soundfile
import torch
from torch import nn

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
    Gammatonegram,
    GriffinLim,
    InverseMel,
    InverseSTFT,
    InvertibleCQT,
    Log,
    MelSpectrogram,
    Normalize,
    Resample,
    RunningNormalize,
    SincConv,
    SpecAugment,
    UtteranceNormalize,
)

RATE = 8000
SIZES = {"n_fft": 256, "hop_length": 80}
BINS = {"hop_length": 128, "fmin": 110.0, "n_bins": 36}


@dataclass
class Known:
    """What is known of a front end, where it differs from most.

    ``stream`` is the largest difference of stream and whole, relative to the peak (None: it does not stream). ``onnx`` is
    that of onnxruntime, at another batch and length, or the reason why there is no such file. ``export`` is False where
    the length is not dynamic in torch.export. ``batch`` is the difference that neighbours may make: the rows of a matrix
    product are summed in an order that depends on how many there are. ``traced`` is that of an exported graph of other
    operators, where it is larger.
    """

    make: Any
    stream: float | None = 1e-6
    onnx: float | str = 1e-5
    export: bool = True
    batch: float = 1e-6
    traced: float = 0.0
    stored: tuple[str, ...] = ()  # in the state dict, at least; where there is none, it is empty
    lacking: dict[str, str] = field(default_factory=dict)


def mel(**options: Any) -> MelSpectrogram:
    return MelSpectrogram(RATE, **SIZES, n_mels=32, **options)


LENGTH = "the bands' filters depend on the length: an exported program has a fixed one"

FRONT_ENDS = {
    "STFT magnitude": Known(lambda: STFT(**SIZES)),
    "STFT power": Known(lambda: STFT(**SIZES, output="power")),
    "STFT complex": Known(lambda: STFT(**SIZES, output="complex"), onnx="ONNX has no complex numbers"),
    "STFT by convolution": Known(lambda: STFT(**SIZES, engine="conv")),
    "STFT, log2": Known(lambda: STFT(**SIZES, sample_rate=RATE, freq_scale="log2", fmin=110.0, n_bins=48)),
    "STFT, learned": Known(lambda: STFT(**SIZES, trainable=("window",)), stored=("window",)),
    "mel": Known(mel),
    "mel, reflected": Known(lambda: mel(pad_mode="reflect")),
    "mel, learned": Known(lambda: mel(trainable=("filter_bank",)), stored=("filter_bank",)),
    "log-mel": Known(lambda: Chain(mel(), Log(), Normalize(-5.0, 2.0)), stored=("2.mean", "2.std")),
    "mel in decibels": Known(lambda: Chain(mel(), AmplitudeToDB())),
    "MFCC": Known(lambda: MFCC(RATE, 13, **SIZES, n_mels=32, top_db=None)),
    "MFCC, top_db": Known(lambda: MFCC(RATE, 13, **SIZES, n_mels=32), stream=None),
    "deltas": Known(lambda: Chain(mel(), Log(), Deltas())),
    "PCEN": Known(lambda: Chain(mel(), PCEN(RATE, 80)), stream=2e-6),
    "gammatonegram": Known(lambda: Gammatonegram(RATE, **SIZES, n_bins=24)),
    "CQT": Known(lambda: CQT(RATE, **BINS), batch=2e-6),
    "CQT, librosa's": Known(lambda: CQT(RATE, **BINS, mode="librosa"), batch=2e-6),
    "VQT": Known(lambda: VQT(RATE, **BINS), batch=2e-6),
    "invertible CQT": Known(
        lambda: InvertibleCQT(RATE, fmin=110.0, output="magnitude"),
        stream=None,
        export=False,
        onnx=LENGTH,
    ),
    "invertible CQT, slices": Known(
        lambda: InvertibleCQT(RATE, fmin=110.0, slice_length=4096, output="magnitude"),
        onnx="spectra are scattered among the bands as complex numbers, of which ONNX has none",
    ),
    "LEAF": Known(lambda: LEAF(RATE, n_filters=16, kernel_size=101, hop_length=80), stored=("center",)),
    "SincConv": Known(lambda: SincConv(RATE, 16, 101, hop_length=20), stored=("low",)),
    # Each frame is divided by its own largest value, so that what the sums of a quiet frame err counts in full.
    "chroma": Known(lambda: Chroma(RATE, 512, hop_length=80), batch=2e-6, stream=2e-6),
    "chroma of CQT": Known(lambda: Chain(CQT(RATE, **BINS), FoldOctaves(36, fmin=110.0)), batch=2e-6, stream=2e-6),
    "CFP": Known(
        lambda: CombinedFrequencyPeriodicity(RATE, win_length=1025, hop_length=160, resolution=RATE / 2048),
        onnx=3e-5,  # measured 1.0e-5: powers of 0.24 of spectra that are nearly 0
    ),
    "resampled": Known(lambda: Resample(RATE, 6000)),
    "resampled mel": Known(
        lambda: Chain(Resample(RATE, 16000), MelSpectrogram(16000, 512, hop_length=160, n_mels=32)),
    ),
    "there and back": Known(
        lambda: Chain(STFT(**SIZES, output="complex"), InverseSTFT(**SIZES)),
    ),
    "Griffin-Lim": Known(
        lambda: Chain(STFT(**SIZES), GriffinLim(**SIZES, n_iter=4)),
        stream=None,
        batch=5e-5,  # measured 1.2e-5: a phase of next to nothing is any phase, and goes through the iterations
        onnx="from magnitudes, in test_griffin_lim.py: the exporter takes minutes",
        traced=1e-4,  # measured 3e-5: rounding grows with the iterations
    ),
    "inverse mel": Known(lambda: Chain(mel(), InverseMel(RATE, 256, n_mels=32, n_iter=10))),
    "per utterance": Known(lambda: Chain(mel(), Log(), UtteranceNormalize()), stream=None, batch=2e-6),
    "running": Known(  # measured 2e-5: the first variances are next to nothing, and frames are divided by their roots
        lambda: Chain(mel(), Log(), RunningNormalize(50.0)), batch=5e-5, traced=1e-4, onnx=1e-4
    ),
    "masking": Known(lambda: Chain(mel(), SpecAugment()).eval()),
}


def of(test: str, names: Any = FRONT_ENDS) -> Any:
    """Front ends as parameters of a test; those that lack it are expected to fail, strictly."""
    marks = {name: FRONT_ENDS[name].lacking.get(test) for name in names}
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(n, marks=[pytest.mark.xfail(reason=why, strict=True)] if why else [])
            for n, why in marks.items()
        ],
    )


every = of("")


@pytest.fixture(scope="module")
def speech(fsdd) -> torch.Tensor:
    """A spoken digit, 8 kHz, 0.43 s."""
    return torch.tensor(soundfile.read(fsdd / "7_jackson_3.wav", dtype="float32")[0])


def hard() -> dict[str, torch.Tensor]:
    """Signals that show mistakes."""
    time = torch.arange(4000) / RATE
    draw = torch.Generator().manual_seed(0)
    return {
        "chirp": torch.sin(2 * torch.pi * (20 * time + 3900 * time**2)),
        "first sample": torch.eye(1, 4000)[0],
        "last sample": torch.eye(1, 4000).flip(-1)[0],
        "silence": torch.zeros(4000),
        "full scale": torch.rand(4000, generator=draw).mul(2).sub(1).sign(),
    }


def close(out: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Relative to the peak."""
    assert out.shape == expected.shape and out.dtype == expected.dtype
    assert (out - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-30)


@every
def test_one_signal_is_as_good_in_any_company(name, speech):
    """Leading dimensions are batches, and neighbours do not matter, not even one that is NaN."""
    known = FRONT_ENDS[name]
    layer = known.make()
    alone = layer(speech)
    assert alone.shape[-1] == layer.frames(len(speech)) and torch.isfinite(alone.abs()).all()
    noise = torch.randn(2, 3, len(speech), generator=torch.Generator().manual_seed(1))
    noise[1, 1], noise[1, 2] = speech, float("nan")
    together = layer(noise)
    assert together.shape == (2, 3, *alone.shape)
    close(together[1, 1], alone, known.batch)
    assert layer(speech[None, None]).shape == (1, 1, *alone.shape)
    assert layer(noise[:0]).shape == (0, 3, *alone.shape)
    assert torch.isnan(together[1, 2].abs()).any()


@every
@pytest.mark.parametrize("sound", hard())
def test_hard_signals_give_finite_frames_and_finite_gradients(name, sound):
    layer, wave = FRONT_ENDS[name].make(), hard()[sound].requires_grad_()
    out = layer(wave)
    assert torch.isfinite(torch.view_as_real(out) if out.is_complex() else out).all()
    (grad,) = torch.autograd.grad(out.abs().sum(), wave)
    assert torch.isfinite(grad).all()


@every
def test_float64_stays_and_half_precision_is_left(name, speech):
    known = FRONT_ENDS[name]
    layer, double = known.make(), known.make().double()
    single = layer(speech)
    out = double(speech.double())
    assert single.dtype in (torch.float32, torch.complex64) and out.dtype in (torch.float64, torch.complex128)
    assert (single - out).abs().max() <= 2e-5 * out.abs().max()  # logarithms of small bands, most
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(layer(speech.to(dtype)), layer(speech.to(dtype).float()))
        with torch.autocast("cpu", dtype):
            close(layer(speech).to(single.dtype), single, 1e-6)


@every
def test_nothing_is_printed_and_little_is_stored(name, speech, capfd):
    known = FRONT_ENDS[name]
    layer = known.make()
    layer(speech).abs().sum()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    stored = layer.state_dict()
    assert (not stored) == (not known.stored) and set(known.stored) <= set(stored)
    learned = {key for key, _ in layer.named_parameters()}
    assert learned <= set(stored)


@of("stream", [name for name, known in FRONT_ENDS.items() if known.stream is not None])
@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_speech_in_random_chunks(name, speech, seed):
    """0 and 1 samples included."""
    known = FRONT_ENDS[name]
    layer, wave = known.make(), torch.stack([speech, speech.flip(-1)])
    assert layer.stream_obstacle is None
    draw = torch.Generator().manual_seed(seed)
    state, parts, place = None, [], 0
    while place < len(speech):
        size = int([0, 1, 7, 80, 333, 1500][int(torch.randint(0, 6, (), generator=draw))])
        frames, state = layer.stream(wave[:, place : place + size], state)
        parts.append(frames)
        place += size
    last, _ = layer.flush(state)
    close(torch.cat([*parts, last], -1), layer(wave), known.stream)


def test_what_does_not_stream_says_what_does():
    for known in FRONT_ENDS.values():
        layer = known.make()
        if known.stream is None:
            with pytest.raises(ValueError, match=layer.stream_obstacle.split("(")[0][:40]):
                layer.stream(torch.zeros(100))


@of("export")
def test_export_with_a_batch_and_a_length_of_any_size(name, speech):
    known = FRONT_ENDS[name]
    layer = known.make().eval()
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=2800, max=10**6)
    example = torch.stack([speech[:3000], speech[-3000:]])
    if not known.export:
        torch.export.export(layer, (example,))
        return
    exported = torch.export.export(layer, (example,), dynamic_shapes=({0: batch, 1: samples},))
    wave = torch.stack([speech, speech.flip(-1), speech.roll(1000)])
    close(exported.module()(wave), layer(wave), max(known.batch, known.traced))


@pytest.mark.slow
@of("onnx")
@pytest.mark.filterwarnings("ignore")
def test_onnx_with_a_batch_and_a_length_of_any_size(name, speech, tmp_path: pathlib.Path):
    """In onnxruntime, against the layer; FRONT_ENDS holds the error, or why there is none."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    known = FRONT_ENDS[name]
    layer = known.make().eval()
    if isinstance(known.onnx, str):
        pytest.skip(known.onnx)
    found = onnx_error(layer, speech, tmp_path / "layer.onnx", runtime)
    assert found <= known.onnx, found


def onnx_error(layer: nn.Module, speech: torch.Tensor, path: pathlib.Path, runtime: Any) -> float:
    """Of the peak, at another batch and length than the file was made with."""
    example = torch.stack([speech[:3000], speech[-3000:]])
    dims = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("samples", min=2800, max=10**6)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            layer, (example,), path, dynamo=True, dynamic_shapes=(dims,), verbose=False, external_data=False
        )
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wave = torch.stack([speech, speech.flip(-1), speech.roll(1000)])
    (out,) = session.run(None, {session.get_inputs()[0].name: wave.numpy()})
    expected = layer(wave)
    assert out.shape == tuple(expected.shape)
    return ((torch.from_numpy(out) - expected).abs().max() / expected.abs().max()).item()
