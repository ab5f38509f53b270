"""What front ends refuse, and that they say class, argument, what came and what is right."""

import numpy as np
import pytest
import torch

from temporal.frontends import (
    CQT,
    LEAF,
    MFCC,
    STFT,
    VQT,
    AmplitudeToDB,
    Chroma,
    Cochlea,
    CombinedFrequencyPeriodicity,
    Gammatonegram,
    InvertibleCQT,
    Log,
    MelSpectrogram,
    Resample,
    SincConv,
)


def mel(**options):
    return MelSpectrogram(16000, **({"n_fft": 512, "n_mels": 40} | options))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: mel(fmax=9000),
            r"MelSpectrogram: fmax=9000 Hz is above the Nyquist frequency of sample_rate=16000 Hz \(8000 Hz\)",
        ),
        (lambda: mel(fmin=4000, fmax=4000), "MelSpectrogram: fmin=4000 Hz must lie between 0 and fmax=4000 Hz"),
        (lambda: mel(fmin=-1), "MelSpectrogram: fmin=-1 Hz must lie between 0 and fmax=8000 Hz"),
        (lambda: mel(fmin=8000), "fmin=8000 Hz must lie between 0 and fmax=8000 Hz"),
        (lambda: mel(fmax=float("nan")), "fmax=nan Hz is not finite"),
        (lambda: mel(hop_length=0), "MelSpectrogram: hop_length=0 samples is not positive"),
        (lambda: mel(n_mels=0), "n_mels=0 bands is not positive"),
        (lambda: mel(n_fft=0), "n_fft=0 samples is not positive"),
        (lambda: mel(win_length=0), "win_length=0 samples is not positive"),
        (lambda: mel(win_length=513), "MelSpectrogram: win_length=513 is longer than n_fft=512"),
        (lambda: mel(power=0), "power=0 must be greater than 0"),
        (lambda: mel(scale="slany"), "MelSpectrogram: scale='slany' is unknown; did you mean 'slaney'"),
        (lambda: mel(norm="area"), "norm='area' is unknown; give 'slaney', None, or a number"),
        (lambda: mel(norm=-1), "norm=-1 must be greater than 0"),
        (lambda: mel(window="hanning"), "MelSpectrogram: window='hanning' is unknown; did you mean 'hann'.*'boxcar'"),
        (lambda: mel(pad_mode="zeros"), "pad_mode='zeros' is unknown; there are 'constant', 'reflect'"),
        (lambda: MelSpectrogram(0), "sample_rate=0 Hz must be greater than 0"),
        (lambda: STFT(hop_length=-1), "STFT: hop_length=-1 samples is not positive"),
        (lambda: STFT(output="mag"), "STFT: output='mag' is unknown; did you mean"),
        (lambda: STFT(16, window=torch.ones(8)), r"window is a tensor of shape \[8\]; give \[win_length\] = \[16\]"),
        (lambda: STFT(2, window=torch.tensor([1.0, float("nan")])), "STFT: window .* not finite"),
        (lambda: STFT(2, window=torch.ones(2) * 1j), "STFT: window .* complex"),
        (lambda: Log(0), "Log: offset=0 must be greater than 0"),
        (lambda: AmplitudeToDB("amplitude"), "AmplitudeToDB: stype='amplitude' is unknown; did you mean 'magnitude'"),
        (lambda: AmplitudeToDB(top_db=-1), "AmplitudeToDB: top_db=-1 dB is negative"),
        (lambda: AmplitudeToDB(amin=0), "AmplitudeToDB: amin=0 must be greater than 0"),
        (lambda: AmplitudeToDB(ref=float("inf")), "AmplitudeToDB: ref=inf is not finite"),
    ],
)  # fmt: skip
def test_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: mel(hop_length=160.5), "MelSpectrogram: hop_length=160.5 is a float, not a whole number of samples"),
        (lambda: mel(n_mels=True), "n_mels=True is a bool"),
        (lambda: mel(fmin="0"), "fmin='0' is a str, not a number of Hz"),
        (lambda: MelSpectrogram(None), "sample_rate=None is a NoneType, not a number of Hz"),
        (lambda: Log(None), "Log: offset=None is a NoneType, not a number"),
    ],
)
def test_types(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_numpy_numbers_are_numbers():
    assert mel(n_fft=np.int64(512), fmin=np.float32(20)).frames(np.int64(16000)) == 32


@pytest.mark.parametrize("layer", [mel(), STFT(512)])
@pytest.mark.parametrize(
    "wave, error, message",
    [
        (torch.zeros(2, 1000, dtype=torch.int16), TypeError, r"int16; .*divide by 32768 \(wave\.float\(\) / 32768\)"),
        (torch.zeros(2, 1000, dtype=torch.int32), TypeError, "int32; .*divide by 2147483648"),
        (torch.zeros(2, 1000, dtype=torch.uint8), TypeError, r"uint8; .*\(wave\.float\(\) - 128\) / 128"),
        (torch.zeros(2, 1000, dtype=torch.bool), TypeError, r"bool; give floating point numbers"),
        (torch.zeros(2, 1000, dtype=torch.complex64), TypeError, "complex64; give real numbers"),
        (np.zeros(1000), TypeError, r"ndarray; give a tensor"),
        (torch.tensor(1.0), ValueError, r"\[\]; give \[\.\.\., samples\]"),
    ],
)
def test_waveforms(layer, wave, error, message):
    for call in (layer, layer.stream):
        with pytest.raises(error, match=f"{type(layer).__name__}: the waveform came as .*{message}"):
            call(wave)


@pytest.mark.parametrize("layer", [Log(), AmplitudeToDB()])
@pytest.mark.parametrize("frames", [torch.zeros(2, 3, dtype=torch.complex64), torch.zeros(2, 3, dtype=torch.int64)])
def test_frames(layer, frames):
    with pytest.raises(TypeError, match=f"{type(layer).__name__}: the frames came as"):
        layer(frames)


@pytest.mark.parametrize("layer", [mel(center=False), STFT(512, center=False)])
def test_a_signal_shorter_than_a_window_that_is_not_centred(layer):
    with pytest.raises(
        ValueError, match=rf"{type(layer).__name__}: n_fft=512 is longer than the signal \(511 samples\)"
    ):
        layer(torch.zeros(2, 511))
    assert layer(torch.zeros(2, 512)).shape[-1] == layer.frames(512) == 1
    assert layer.frames(511) == 0


@pytest.mark.parametrize("layer", [mel(pad_mode="reflect"), STFT(512, pad_mode="reflect")])
def test_a_signal_shorter_than_its_reflection(layer):
    name = type(layer).__name__
    with pytest.raises(
        ValueError, match=f"{name}: pad_mode='reflect' .* at least 257, not 256; use pad_mode='constant'"
    ):
        layer(torch.zeros(2, 256))
    assert torch.isfinite(layer(torch.zeros(2, 257))).all()


@pytest.mark.parametrize("layer", [STFT(16), Log()])
@pytest.mark.parametrize(
    "count, error",
    [(-1, ValueError), (1.5, TypeError), (True, TypeError), (torch.tensor([1.0]), TypeError), (None, TypeError)],
)
def test_frame_counts(layer, count, error):
    with pytest.raises(error, match=type(layer).__name__ + r": frames"):
        layer.frames(count)


# Every front end that reads a waveform.
WAVES = {
    "STFT": lambda **o: STFT(**({"n_fft": 512} | o)),
    "STFT by convolution": lambda **o: STFT(**({"n_fft": 512, "engine": "conv"} | o)),
    "mel": lambda **o: mel(**o),
    "MFCC": lambda **o: MFCC(16000, 13, **({"n_fft": 512, "n_mels": 40, "top_db": None} | o)),
    "gammatone": lambda **o: Gammatonegram(16000, **({"n_fft": 512, "n_bins": 32} | o)),
    "chroma": lambda **o: Chroma(16000, **({"n_fft": 512} | o)),
    "CFP": lambda **o: CombinedFrequencyPeriodicity(16000, **({"win_length": 1025} | o)),
    "CQT": lambda **o: CQT(16000, **({"n_bins": 60} | o)),
    "VQT": lambda **o: VQT(16000, **({"n_bins": 60} | o)),
    "LEAF": lambda **o: LEAF(16000, **({"n_filters": 8} | o)),
    "SincConv": lambda **o: SincConv(16000, 8, **({"hop_length": 10} | o)),
    "InvertibleCQT": lambda **o: InvertibleCQT(16000, **({"fmin": 110.0} | o)),
    "Cochlea": lambda **o: Cochlea(16000, **o),
    "Resample": lambda **o: Resample(16000, 8000, **o),
}
waves = pytest.mark.parametrize("name", WAVES)


@waves
def test_every_layer_says_how_to_give_samples(name):
    layer = WAVES[name]()
    for dtype, message in (
        (torch.int16, r"divide by 32768 \(wave\.float\(\) / 32768\)"),
        (torch.complex64, "real numbers"),
    ):
        with pytest.raises(TypeError, match=f"{type(layer).__name__}: the waveform came as .*{message}"):
            layer(torch.zeros(2, 3000, dtype=dtype))


@waves
def test_every_layer_takes_an_empty_batch(name):
    layer = WAVES[name]()
    out, one = layer(torch.zeros(0, 3, 3000)), layer(torch.zeros(3000))
    assert out.shape == (0, 3, *one.shape)


@waves
def test_every_layer_shows_nan_in_its_own_item_alone(name):
    layer, wave = WAVES[name](), torch.randn(2, 3000)
    wave[1, 1500] = float("nan")
    if name == "Cochlea":  # spikes cannot be NaN
        with pytest.raises(ValueError, match=r"NaN or infinite samples \(recordings \[1\]"):
            layer(wave)
        return
    out = layer(wave)
    out = torch.view_as_real(out) if out.is_complex() else out
    assert out[0].isfinite().all() and out[1].isnan().any()


@waves
def test_every_layer_refuses_a_hop_of_nothing(name):
    if name not in ("Resample", "Cochlea"):  # which have none to give
        with pytest.raises(ValueError, match=r"hop_length=0 samples is not positive"):
            WAVES[name](hop_length=0)


@pytest.mark.parametrize(
    "name, options",
    [
        *((name, {"fmax": 9000.0}) for name in ("mel", "MFCC", "gammatone", "LEAF", "SincConv", "InvertibleCQT")),
        *((name, {"fmin": 220.0, "n_bins": 84}) for name in ("CQT", "VQT")),
    ],
)
def test_every_layer_refuses_what_lies_above_nyquist(name, options):
    with pytest.raises(ValueError, match=r"above the Nyquist frequency of sample_rate=16000 Hz \(8000 Hz\)"):
        WAVES[name](**options)


@pytest.mark.parametrize("name", ["STFT", "STFT by convolution", "mel", "MFCC", "gammatone", "chroma", "SincConv"])
def test_every_layer_without_padding_needs_a_whole_window(name):
    with pytest.raises(ValueError, match=r"is longer than the signal \(100 samples\)"):
        WAVES[name](center=False)(torch.zeros(100))


@pytest.mark.parametrize("name", ["STFT", "STFT by convolution", "mel", "MFCC", "gammatone", "chroma", "CQT", "VQT"])
def test_every_layer_says_how_much_it_reflects(name):
    with pytest.raises(ValueError, match=r"pad_mode='reflect'.* at least \d+.*, not 100; use pad_mode='constant'"):
        WAVES[name](pad_mode="reflect")(torch.zeros(100))


@pytest.mark.parametrize("name", ["CQT", "VQT", "LEAF", "SincConv", "InvertibleCQT", "CFP", "mel"])
def test_filters_longer_than_the_signal_see_zeros_beyond_it(name):
    """As documented: the same as in the middle of silence."""
    layer, wave = WAVES[name](), torch.randn(300)
    out = layer(wave)
    assert (torch.view_as_real(out) if out.is_complex() else out).isfinite().all() and out.shape[-1] >= 1
