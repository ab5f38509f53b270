"""What a stream refuses, in words that say what to do; and other sample rates."""

import numpy as np
import pytest
import soxr
import torch
from torch import nn

import temporal
from temporal.layers import SumSoftmax
from temporal.streaming import Stream


@pytest.fixture
def stream(make_model):
    return Stream(make_model())


@pytest.mark.parametrize(
    "chunk, error, words",
    [
        (torch.zeros(5, dtype=torch.int16), TypeError, r"int16.*-1\.\.1 is right: chunk / 32768"),
        (np.zeros(5, "int16"), TypeError, r"int16.*chunk / 32768"),
        (np.zeros(5, "int32"), TypeError, r"chunk / 2147483648"),
        (np.zeros(5, "uint8"), TypeError, r"chunk / 128 - 1"),
        (torch.zeros(5, dtype=torch.complex64), TypeError, "real floating point"),
        (np.zeros(5, "complex64"), TypeError, "complex64"),
        (np.array(["a"]), TypeError, "float32 or float64"),
        ([0.0, 1.0], TypeError, "list.*NumPy array"),
        (torch.zeros(5, 2), ValueError, r"\[5, 2\]; mono .*chunk.mean\(1\)"),
        (torch.zeros(2, 5), ValueError, r"chunk.mean\(0\)"),
        (torch.zeros(1, 5), ValueError, r"chunk.reshape\(-1\)"),
        (torch.zeros(()), ValueError, "mono"),
    ],
)
def test_a_chunk_that_is_no_mono_float(stream, chunk, error, words):
    with pytest.raises(error, match=words):
        stream.push(chunk)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_sample_is_placed_in_time_and_nothing_is_taken(make_model, wave, bad):
    stream, reference = Stream(make_model()), Stream(make_model())
    for each in (stream, reference):
        each.push(wave[:200])
    chunk = wave[200:].clone()
    chunk[[100, 150]] = bad
    with pytest.raises(ValueError, match=r"NaN or infinite at 0\.375 s \(sample 100 "):  # (200 + 100) / 800
        stream.push(chunk)
    for each in (stream, reference):
        each.push(wave[200:])
        each.finish()
    assert stream.whole.tolist() == reference.whole.tolist()


def test_a_bad_step_is_placed_in_time(make_model):
    stream = Stream(make_model(frontend=False, sample_rate=100))
    stream.push(torch.zeros(7, 5))
    x = torch.zeros(9, 5)
    x[4, 2] = torch.nan
    with pytest.raises(ValueError, match=r"at 0\.11 s \(step 4 "):
        stream.push(x)


def test_steps_for_a_model_without_a_front_end(make_model):
    model = make_model(frontend=False)
    with pytest.raises(ValueError, match="steps per second: give it as sample_rate"):
        Stream(model)
    stream = Stream(model, sample_rate=100)
    with pytest.raises(ValueError, match=r"\[T, units\]"):
        stream.push(torch.zeros(5))
    with pytest.raises(TypeError, match="floating point is right"):
        stream.push(np.zeros((5, 5), "uint8"))
    stream.push(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"\[6\] came, this stream's have \[5\]"):
        stream.push(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="bin anew"):
        Stream(make_model(frontend=False, sample_rate=100), sample_rate=200)


def test_after_the_end(stream):
    stream.push(torch.zeros(100))
    stream.finish()
    for method, arguments in [
        ("push", [torch.zeros(1)]),
        ("finish", []),
        ("state_dict", []),
        ("load_state_dict", [{}]),
    ]:
        with pytest.raises(RuntimeError, match=f"Stream.{method}: this stream is finished; build a new Stream"):
            getattr(stream, method)(*arguments)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"window": 0.009}, r"window=0\.009 s must be at least one step of the network \(0\.01 s\)"),
        ({"window": float("nan")}, "window=nan"),
        ({"window": float("inf")}, "window=inf"),
        ({"threshold": 1.1}, r"threshold=1\.1 must be within 0\.\.1"),
        ({"threshold": -0.1}, r"within 0\.\.1"),
        ({"threshold": float("nan")}, r"within 0\.\.1"),
        ({"refractory": -0.1}, r"refractory=-0\.1 must be 0 or more"),
        ({"refractory": float("inf")}, "refractory=inf"),
        ({"sample_rate": 0}, "sample_rate=0 must be a positive"),
        ({"sample_rate": -8000}, "sample_rate=-8000"),
    ],
)
def test_settings_out_of_range(make_model, options, words):
    with pytest.raises(ValueError, match=words):
        Stream(make_model(), **options)


def test_settings_at_the_edge(make_model, wave):
    for options in ({"window": 0.01}, {"threshold": 0}, {"threshold": 1}, {"refractory": 0}):
        Stream(make_model(), **options).push(wave)
    assert Stream(make_model(), threshold=1).push(wave) == []  # nothing is above 1


def test_models_that_cannot_stream(make_model):
    class Whole(nn.Module):
        sample_rate, hop_length, latency = 800, 8, 0

        def stream(self, chunk, state=None):
            raise TypeError("Whole: normalises by the whole recording; Running can stream")

        flush = stream

    def model(frontend, readout=None, labels=None):
        return temporal.Model(frontend, nn.Linear(5, 3), readout or SumSoftmax(), sample_rate=800, labels=labels)

    with pytest.raises(TypeError, match="Running can stream"):
        Stream(model(Whole()))
    with pytest.raises(TypeError, match="front end Linear cannot stream: it has no stream"):
        Stream(model(nn.Linear(1, 1)))
    with pytest.raises(TypeError, match="readout Linear takes no state"):
        Stream(model(None, nn.Linear(3, 3)))
    with pytest.raises(TypeError, match=r"Linear; a temporal\.Model is right"):
        Stream(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="2 labels for 3 classes"):
        Stream(model(make_model().frontend.float(), labels=["a", "b"]))
    rateless = make_model()
    rateless.sample_rate = None
    with pytest.raises(ValueError, match="sample rate of its recordings, in Hz: give it as sample_rate"):
        Stream(rateless)
    assert Stream(rateless, sample_rate=800).latency == pytest.approx(18 / 800)


def test_a_network_that_gives_nan_is_not_silence():
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, torch.nan)
    stream = Stream(temporal.Model(None, network, SumSoftmax(), sample_rate=100))
    with pytest.raises(FloatingPointError, match="NaN: look at the model's weights"):
        stream.push(torch.zeros(1, 2))


def test_the_state_of_another_stream_is_refused(make_model, wave):
    model = make_model()
    first = Stream(model)
    first.push(wave[:500])
    state = first.state_dict()
    for options in ({"window": 0.3}, {"threshold": 0.7}, {"refractory": 0.1}):
        (name,) = options
        with pytest.raises(ValueError, match=f"{name}.* in the state and .* here"):
            Stream(model, **options).load_state_dict(state)
    with pytest.raises(ValueError, match="no steps: it is no whole"):
        Stream(model).load_state_dict({k: v for k, v in state.items() if k != "steps"})

    other = make_model()
    other.network[5] = nn.GRU(8, 9).double()
    other.network[6] = nn.Linear(9, 4).double()
    second = Stream(other)
    second.push(wave[:300])
    before = second.state_dict()
    with pytest.raises(
        ValueError, match=r"network\.5 is .*\[1, 1, 8\], but this model's is .*\[1, 1, 9\].*another model"
    ):
        second.load_state_dict(state)
    torch.testing.assert_close(second.state_dict(), before, rtol=0, atol=0)  # unchanged
    with pytest.raises(ValueError, match=r"float64.*but this model's is .*float32"):
        Stream(make_model(dtype=torch.float32)).load_state_dict(state)


@pytest.mark.parametrize("rate", [1600, 700, 801])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_rate_is_resampled_on_the_fly(make_model, rate, dtype):
    model = make_model(dtype=dtype)
    recording = torch.sin(torch.arange(3 * rate, dtype=dtype) ** 1.2 / 20)
    streams = [Stream(model, sample_rate=rate) for _ in range(2)]
    events = [[], []]
    for stream, size, into in zip(streams, (3 * rate, 37), events, strict=True):
        for chunk in recording.split(size):
            into += stream.push(chunk)
        into += stream.finish()
    whole = torch.from_numpy(soxr.resample(recording.numpy(), rate, 800))
    with torch.no_grad():
        offline = model.eval()(whole[None])[0]
    tolerance = 1e-9 if dtype is torch.float64 else 1e-5
    for stream in streams:
        torch.testing.assert_close(stream.whole, offline, rtol=tolerance, atol=tolerance)
    assert [e[0:1] + e[2:] for e in events[0]] == [e[0:1] + e[2:] for e in events[1]]
    assert all(e.end <= 3 for e in events[0])


def test_a_resampling_stream_says_its_delay_and_keeps_its_state(make_model):
    stream = Stream(make_model(), sample_rate=1600)
    assert stream.latency > Stream(make_model()).latency
    came, waited = 0, round(stream.latency * 1600)
    while stream.scores["yes"] == 0.25:  # until the first step, which begins at 0 s
        stream.push(torch.zeros(16))
        came += 16
        assert came <= waited + 16
    for method, arguments in [("state_dict", []), ("load_state_dict", [{}])]:
        with pytest.raises(RuntimeError, match=f"Stream.{method}: .*1600 Hz.*resample before pushing"):
            getattr(stream, method)(*arguments)
