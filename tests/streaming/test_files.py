"""A recording played to a model as it is deployed: mel bands, learned delays, spikes; in float64."""

import itertools

import numpy as np
import pytest
import soundfile
import torch

import temporal
from temporal.datasets import AudioError, read_audio
from temporal.models import DelayedLIF, Mel, ModelSpec, deploy
from temporal.streaming import Decision, Event, Stream, stream_file


@pytest.fixture(scope="module")
def model(fsdd):
    """Untrained, with firing hidden neurons: what is compared are two ways through it."""
    torch.manual_seed(4)
    mel = Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=20)
    network = DelayedLIF(hidden=24, layers=2, max_delay=9)
    model = ModelSpec(frontend=mel, network=network, labels=tuple("0123456789"), tail=5).build()
    recordings = sorted(fsdd.glob("*_0.wav"))[:20]
    model.frontend[2].fit([model.frontend[:2](read_audio(path, 8000).wave) for path in recordings])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("weight") and weight.ndim == 2:
                weight.mul_(3)
    return deploy(model)


@pytest.fixture(scope="module")
def recordings(fsdd):
    return sorted(fsdd.glob("*_jackson_7.wav"))


def test_the_decision_is_that_of_the_offline_model(model, recordings):
    decisions = set()
    for path, chunk in zip(recordings, itertools.cycle([0.02, 0.0011, 0.1, 60.0]), strict=False):
        *events, decision = stream_file(model, path, chunk)
        assert isinstance(decision, Decision) and all(isinstance(event, Event) for event in events)
        with torch.no_grad():
            scores = model(read_audio(path).wave[None].double())[0].softmax(0)
        assert decision.label == model.labels[int(scores.argmax())]
        assert decision.score == pytest.approx(float(scores.max()), abs=1e-9)
        decisions.add(decision.label)
    assert len(decisions) > 1 and len(recordings) == 10


def test_events_do_not_depend_on_the_chunk(model, tmp_path, recordings):
    path = tmp_path / "all.wav"
    soundfile.write(path, np.concatenate([soundfile.read(r)[0] for r in recordings]), 8000, subtype="FLOAT")
    options = {"window": 0.3, "threshold": 0.3, "refractory": 0.1}
    expected = list(stream_file(model, path, **options))
    assert len(expected) > 3
    for chunk in (0.0013, 0.5, 100):
        events = list(stream_file(model, path, chunk, **options))
        assert [e._replace(score=0) for e in events] == [e._replace(score=0) for e in expected]
        assert [e.score for e in events] == pytest.approx([e.score for e in expected], abs=1e-9)


def test_a_stream_of_real_parts_continues_elsewhere(model, recordings):
    wave = read_audio(recordings[3]).wave
    unbroken, first = Stream(model), Stream(model)
    unbroken.push(wave)
    unbroken.finish()
    for cut in (0, 1, 130, 1111, len(wave)):
        first = Stream(model)
        first.push(wave[:cut])
        second = Stream(model)
        second.load_state_dict(first.state_dict())
        second.push(wave[cut:])
        second.finish()
        torch.testing.assert_close(second.whole, unbroken.whole, rtol=1e-9, atol=1e-9)


def test_stereo_at_another_rate_is_mixed_and_resampled_whole(model, tmp_path, recordings):
    left, _ = soundfile.read(recordings[2])
    stereo = np.stack([np.repeat(left, 2), np.zeros(2 * len(left))], 1)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo, 16000)
    *_, decision = stream_file(model, path)
    with torch.no_grad():
        scores = model(read_audio(path, 8000).wave[None].double())[0].softmax(0)
    assert decision == (model.labels[int(scores.argmax())], pytest.approx(float(scores.max()), abs=1e-9))


def test_errors_come_at_once(model, tmp_path, recordings):
    with pytest.raises(AudioError, match=r"nothing\.wav: no such file"):
        stream_file(model, tmp_path / "nothing.wav")
    for chunk in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"stream_file: chunk={chunk} must be a positive number of seconds"):
            stream_file(model, recordings[0], chunk)
    with pytest.raises(ValueError, match="threshold=2"):
        stream_file(model, recordings[0], threshold=2)
    steps = temporal.Model(None, model.network, model.readout, sample_rate=100)
    with pytest.raises(ValueError, match="push its steps into a Stream"):
        stream_file(steps, recordings[0])
