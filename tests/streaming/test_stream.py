"""A stream has the answers of the whole recording, however it is cut, stopped and continued."""

import io
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import temporal
from temporal.frontends import Chain, Log, MelSpectrogram, Resample
from temporal.layers import LastStep, MaxOverTime, MeanOverTime, SumSoftmax
from temporal.streaming import Event, Stream

SETTINGS = {"window": 0.5, "threshold": 0.4, "refractory": 0.2}
READOUTS = [SumSoftmax, LastStep, MaxOverTime, MeanOverTime]
thoroughly = settings(max_examples=25, deadline=None, derandomize=True)
cuts_of_2403 = st.lists(st.one_of(st.integers(0, 2403), st.sampled_from([0, 1, 2, 8, 2402, 2403])), max_size=12).map(
    sorted
)


def heard(stream, signal, cuts=()):
    events = []
    for a, b in itertools.pairwise([0, *cuts, len(signal)]):
        events += stream.push(signal[a:b])
    return events + stream.finish()


def same_events(got, expected, tolerance):
    assert [(e.label, e.start, e.end) for e in got] == [(e.label, e.start, e.end) for e in expected]
    assert [e.score for e in got] == pytest.approx([e.score for e in expected], abs=tolerance)


def brute_force(model, steps, window, threshold, refractory, duration, step=0.01):
    """The definition, spelled out over the whole signal: (label, end) of every event."""
    model = model.eval()
    y, _ = model.network(torch.cat([steps, steps.new_zeros(model.tail, *steps.shape[1:])]))
    events, last = [], -1e9
    for t in range(len(y)):
        scores = model.readout(y[max(0, t + 1 - window) : t + 1])[0].softmax(-1)[0]
        if scores.max() > threshold and t - last >= refractory:
            events.append((model.labels[int(scores.argmax())], pytest.approx(min((t + 1) * step, duration))))
            last = t
    return events


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(cuts=cuts_of_2403)
@thoroughly
def test_the_whole_is_the_offline_models(make_model, wave, readout, dtype, cuts):
    model = make_model(readout, dtype)
    stream = Stream(model, **SETTINGS)
    heard(stream, wave.to(dtype), cuts)
    with torch.no_grad():
        offline = model.eval()(wave.to(dtype)[None])[0]
    # sums in another order: a few hundred terms of size 1, times the rounding of the dtype
    tolerance = 1e-9 if dtype is torch.float64 else 1e-5
    assert stream.whole.shape == (4,) and stream.whole.dtype is dtype
    torch.testing.assert_close(stream.whole, offline, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("readout", READOUTS)
@given(cuts=cuts_of_2403)
@thoroughly
def test_events_do_not_depend_on_the_cuts(make_model, wave, readout, cuts):
    model = make_model(readout)
    at_once = heard(Stream(model, **SETTINGS), wave)
    assert len(at_once) >= 3  # or this would prove nothing
    same_events(heard(Stream(model, **SETTINGS), wave, cuts), at_once, 1e-9)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("window, threshold, refractory", [(0.5, 0.6, 0.2), (0.01, 0.3, 0.0), (9.0, 0.5, 0.7)])
def test_events_are_what_the_definition_says(make_model, wave, readout, window, threshold, refractory):
    model = make_model(readout)
    events = heard(Stream(model, None, window, threshold, refractory), wave, range(100, 2400, 100))
    steps = temporal.to_steps(model.frontend(wave[None]))
    expected = brute_force(model, steps, round(window * 100), threshold, max(1, round(refractory * 100)), 2403 / 800)
    assert expected and [(e.label, e.end) for e in events] == expected
    for event in events:
        assert threshold < event.score <= 1
        assert max(0, event.end - window - 0.011) <= event.start <= event.end


def test_a_file_longer_than_one_call_is_heard_alike(make_model, wave):
    """More than ten seconds in one push go through the network in several calls."""
    model, long = make_model(tail=0), wave.repeat(5)
    at_once, in_pieces = Stream(model, **SETTINGS), Stream(model, **SETTINGS)
    same_events(heard(at_once, long), heard(in_pieces, long, range(500, 12000, 500)), 1e-9)
    torch.testing.assert_close(at_once.whole, in_pieces.whole, rtol=1e-9, atol=1e-9)


@given(cut=st.integers(0, 2403), again=st.integers(0, 2403))
@thoroughly
def test_a_stream_continues_elsewhere(make_model, wave, cut, again):
    model = make_model()
    unbroken = Stream(model, **SETTINGS)
    expected = heard(unbroken, wave, sorted([cut, again]))

    events, stream = [], Stream(model, **SETTINGS)
    for a, b in itertools.pairwise([0, *sorted([cut, again]), len(wave)]):
        events += stream.push(wave[a:b])
        file = io.BytesIO()
        torch.save(stream.state_dict(), file)
        file.seek(0)
        stream.push(torch.ones(300))  # what the first stream does after the hand-over does not matter
        stream = Stream(make_model(), **SETTINGS)
        stream.push(torch.ones(77))  # nor what the second one heard before
        stream.load_state_dict(torch.load(file, weights_only=True))
    events += stream.finish()
    same_events(events, expected, 1e-12)
    torch.testing.assert_close(stream.whole, unbroken.whole, rtol=1e-12, atol=1e-12)


def test_every_entry_of_the_state_counts(make_model, wave):
    """Dropping any one of them is refused, or changes the answer: nothing in there is idle."""
    model = make_model()
    first = Stream(model, **SETTINGS)
    first.push(wave[:1000])
    full = first.state_dict()
    assert all(isinstance(value, torch.Tensor | int | float) for value in full.values())

    def answer(state):
        stream = Stream(model, **SETTINGS)
        stream.load_state_dict(state)
        events = stream.push(wave[1000:1001])
        scores = stream.scores
        return events + heard(stream, wave[1001:]), scores, stream.whole.tolist()

    expected = answer(full)
    for name in full:
        try:
            changed = answer({key: value for key, value in full.items() if key != name})
        except (ValueError, TypeError, AttributeError):
            continue
        assert changed != expected, f"{name} makes no difference"


def test_streams_of_one_model_do_not_interfere(make_model, wave):
    model = make_model()
    weights = [p.clone() for p in model.parameters()]
    alone = heard(Stream(model, **SETTINGS), wave, range(0, 2403, 50))
    first, second = Stream(model, **SETTINGS), Stream(model, **SETTINGS)
    events = []
    for chunk in wave.split(50):
        events += first.push(chunk)
        second.push(chunk.flip(0) * 2)
        model(torch.randn(2, 300, dtype=torch.float64)).sum().backward()  # and it is trained on meanwhile
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(0.1 * p.grad)
    same_events(events + first.finish(), alone, 1e-9)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert any((p != w).any() for p, w in zip(model.parameters(), weights, strict=True))


class Energy(nn.Module):
    """Two classes by hand: "sound" where a step is loud, "silence" elsewhere."""

    def forward(self, x):
        loud = x.mean(-1, keepdim=True)
        return torch.cat([loud, -loud], -1) * 5


def by_hand(**options):
    return temporal.Model(None, Energy(), SumSoftmax(), sample_rate=100, labels=["sound", "silence"], **options)


def loud_at(*spans, steps=600):
    x = torch.full((steps, 3), -1e-3)
    for a, b in spans:
        x[a:b] = 1
    return x


def test_the_refractory_time():
    stream = Stream(by_hand(), window=0.1, threshold=0.9, refractory=0.5)
    events = [e for e in heard(stream, loud_at((100, 400))) if e.label == "sound"]
    ends = [e.end for e in events]
    assert np.diff(ends) == pytest.approx(0.5) and len(ends) == 7
    fewer = Stream(by_hand(), window=0.1, threshold=0.9, refractory=10)
    assert len(heard(fewer, loud_at((100, 400)))) == 1


def test_a_word_has_its_beginning_and_end():
    stream = Stream(by_hand(), window=0.5, threshold=0.9, refractory=1)
    (event,) = heard(stream, loud_at((210, 250)))
    assert event.label == "sound"
    assert event.start == pytest.approx(2.1)  # the first loud step
    assert 2.1 < event.end < 2.3  # decided before the word is over
    assert event == Event(*event)


def test_silence_is_no_event():
    """Log energies of digital silence and of faint noise, and a network that says nothing without a sound."""
    stream = Stream(by_hand(), window=0.5, threshold=0.9)
    assert heard(stream, loud_at()) == []
    assert stream.whole.tolist() == pytest.approx([300, 300], abs=5)


def test_scores_and_latency(make_model, wave):
    stream = Stream(make_model())
    assert stream.labels == ["yes", "no", "up", "down"]
    assert stream.scores == dict.fromkeys(stream.labels, 0.25)
    assert stream.latency == pytest.approx((10 + 8) / 800)
    stream.push(wave[:9])  # a frame needs ten samples beyond its middle
    assert stream.scores == dict.fromkeys(stream.labels, 0.25)
    stream.push(wave[9:10])
    assert stream.scores["yes"] != 0.25
    stream.push(wave[10:])
    assert sum(stream.scores.values()) == pytest.approx(1)
    model = make_model().eval()
    steps = temporal.to_steps(model.frontend(wave[None]))[: (2403 - 10) // 8 + 1]
    scores = model.readout(model.network(steps)[0][-100:])[0].softmax(-1)[0]
    assert list(stream.scores.values()) == pytest.approx(scores.tolist())
    assert Stream(by_hand()).latency == pytest.approx(0.01)


def test_latency_is_the_signal_that_a_step_waits_for(make_model):
    """After s + latency samples, the step that begins at or next after s is there; for some s not one sample earlier."""
    stream = Stream(make_model())
    latency = round(stream.latency * 800)
    known = [0]  # steps after so many samples
    for _ in range(100):
        stream.push(torch.zeros(1))
        known.append(stream.state_dict()["steps"])
    steps_until = [-(-s // 8) + 1 for s in range(80)]
    assert all(known[s + latency] >= steps for s, steps in enumerate(steps_until))
    assert any(known[s + latency - 2] < steps for s, steps in enumerate(steps_until))


def test_nothing_pushed(make_model):
    model = make_model()
    stream = Stream(model)
    assert stream.finish() == []
    with torch.no_grad():
        torch.testing.assert_close(stream.whole, model.eval()(wave := torch.zeros(1, 0, dtype=torch.float64))[0])
    assert wave.numel() == 0
    steps = Stream(by_hand())
    assert steps.finish() == [] and steps.whole is None
    steps = Stream(by_hand())
    assert steps.push(torch.zeros(0, 3)) == [] and steps.finish() == []
    assert steps.whole.tolist() == [0, 0]


def test_without_labels_classes_are_numbered(wave):
    model = temporal.Model(None, nn.Linear(3, 2), SumSoftmax(), sample_rate=100)
    stream = Stream(model)
    assert stream.labels == [] and stream.scores == {}
    stream.push(torch.zeros(1, 3))
    assert stream.labels == ["0", "1"] and list(stream.scores) == ["0", "1"]


def test_numpy_any_float_and_a_buffer_that_is_reused(make_model, wave):
    model = make_model(dtype=torch.float32)
    reference = Stream(model)
    reference.push(wave.float())
    stream, buffer = Stream(model), np.zeros(100)
    for a in range(0, 2400, 100):
        buffer[:] = wave[a : a + 100].numpy()
        stream.push(buffer)
    tail = wave[2400:].numpy().astype(">f8")
    tail.flags.writeable = False
    stream.push(tail)
    stream.finish(), reference.finish()
    torch.testing.assert_close(stream.whole, reference.whole, rtol=1e-5, atol=1e-5)


def test_results_are_ordinary_tensors(make_model, wave):
    """Not inference tensors, which nobody could compute with any more."""
    stream = Stream(make_model())
    stream.push(wave)
    assert not any(v.is_inference() for v in stream.state_dict().values() if isinstance(v, torch.Tensor))
    stream.finish()
    assert not stream.whole.is_inference() and not stream.whole.requires_grad


@given(cuts=cuts_of_2403)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_steps_that_are_no_whole_number_of_samples(wave, cuts):
    """A front end that resamples by 160/147: its hop is 11025 / 100 samples, and 2,000 steps are still 20 s."""
    mel = MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=5)
    frontend = Chain(Resample(22050, 16000), mel, Log(1e-3))
    model = temporal.Model(frontend, nn.Linear(5, 2), SumSoftmax(), labels=["a", "b"]).double().eval()
    stream = Stream(model, **SETTINGS)
    assert frontend.hop_length == Fraction(441, 2) and stream._seconds(2000) == 20.0
    assert stream.latency == pytest.approx(float(frontend.latency) / 22050 + 0.01, abs=1e-12)
    head = next((cut for cut in cuts if cut), 1201)
    stream.push(wave[:head])
    second = Stream(model, **SETTINGS)
    second.load_state_dict(stream.state_dict())
    heard(second, wave[head:])
    with torch.no_grad():
        torch.testing.assert_close(second.whole, model(wave[None])[0], rtol=0, atol=1e-12)
