"""Front ends outside of Python: torch.export and ONNX, with any batch and any length."""

import logging
import warnings

import pytest
import torch

from temporal.frontends import MFCC, STFT, Chain, Gammatonegram, Log, MelSpectrogram

SPEECH = {"n_fft": 512, "hop_length": 160}
LAYERS = {
    # of a power of two: onnxruntime's FFT of 400 samples is off by 2e-5, as STFT's description says
    "power": lambda: STFT(512, hop_length=160, output="power"),
    "magnitude": lambda: STFT(512, hop_length=160, win_length=400),
    "convolution": lambda: STFT(400, hop_length=160, engine="conv"),
    "log bins": lambda: STFT(400, hop_length=160, sample_rate=16000, freq_scale="log", n_bins=40),
    "mel": lambda: MelSpectrogram(16000, n_mels=40, **SPEECH),
    "mel by convolution": lambda: MelSpectrogram(16000, n_mels=40, engine="conv", **SPEECH),
    "trained": lambda: MelSpectrogram(16000, n_mels=40, trainable=("window", "basis", "filter_bank"), **SPEECH),
    "mfcc": lambda: MFCC(16000, 13, n_mels=40, **SPEECH),
    "log mel": lambda: Chain(MelSpectrogram(16000, n_mels=40, **SPEECH), Log()),
    "gammatone": lambda: Gammatonegram(16000, n_bins=32, **SPEECH),
}
BATCH, SAMPLES = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=1024, max=10**6)
DYNAMIC = ({0: BATCH, 1: SAMPLES},)
every = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


@every
def test_export_with_any_batch_and_length(make):
    layer = make()
    exported = torch.export.export(layer, (torch.randn(2, 3000),), dynamic_shapes=DYNAMIC).module()
    for shape in [(1, 1024), (3, 12345)]:
        wave = torch.randn(shape)
        expected = layer(wave)
        torch.testing.assert_close(exported(wave), expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


@every
def test_onnx_with_any_batch_and_length(make, tmp_path):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module)
    onnxruntime = pytest.importorskip("onnxruntime")
    layer, file = make().eval(), tmp_path / "layer.onnx"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own
            torch.onnx.export(layer, (torch.randn(2, 3000),), file, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    finally:
        logging.disable(logging.NOTSET)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for shape in [(1, 1024), (3, 12345)]:
        wave = torch.randn(shape)
        (ours,) = session.run(None, {name: wave.numpy()})
        expected = layer(wave).detach()
        assert ours.shape == expected.shape
        assert (torch.tensor(ours) - expected).abs().max() <= 1e-5 * expected.abs().max()
