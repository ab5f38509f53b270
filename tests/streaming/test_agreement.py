"""Whole, stream and events say the same; and where one of them errs, it is seen."""

import math

import pytest
import torch

import temporal
import temporal.frontends
from temporal.delays import DelayedLinear
from temporal.layers import LastStep, Model, SumSoftmax
from temporal.models import GRU, DelayedLIF, Mel, ModelSpec
from temporal.neurons import LI, LIF
from temporal.streaming import Stream, compare_engines
from temporal.streaming.agreement import _Way


def spiking_model(frontend=True):
    torch.manual_seed(0)
    network = DelayedLIF(hidden=12, layers=2, max_delay=6)
    spec = ModelSpec(
        frontend=Mel(n_mels=8) if frontend else None, network=network, labels=("a", "b", "c"), inputs=8, tail=6
    )
    model = spec.build()
    if frontend:
        model.frontend[-1].fit([(torch.randn(2, 8, 50), torch.tensor([50, 50]))])
    for layer in model.network:
        if isinstance(layer, temporal.BatchNorm):
            layer.weight.data.fill_(2.0)  # so that they fire
    return model


def test_three_ways_agree():
    waves = [0.1 * torch.randn(n) for n in (4000, 1601, 9000)]
    agreement = compare_engines(spiking_model(), waves, chunk=331)
    assert agreement.recordings == 3 and agreement.no_events == agreement.no_stream == ""
    assert agreement.streamed < 1e-9 and agreement.streamed_labels == 0
    assert agreement.event < 0.05 and agreement.event_labels == 0
    assert "3 recordings" in str(agreement) and agreement.to_dict()["recordings"] == 3


def test_differences_of_logits_and_of_scores():
    """Of two classes, a logit that is 0.1 off moves the scores by what its softmax says."""
    way = _Way()
    way.run = lambda signal: torch.tensor([1.1, 0.0])
    way.compare(torch.tensor([1.0, 0.0]), torch.zeros(1))
    assert way.logit == pytest.approx(0.1) and way.other == 0
    assert way.score == pytest.approx(1 / (1 + math.exp(-1.1)) - 1 / (1 + math.exp(-1.0)), rel=1e-4)


def test_without_a_front_end():
    steps = [(torch.rand(40, 8) < 0.3).float() for _ in range(4)]
    agreement = compare_engines(spiking_model(frontend=False), steps, chunk=7, steps_per_second=100.0)
    assert agreement.streamed < 1e-9 and agreement.event < 0.05


def test_a_network_without_events_says_so():
    model = ModelSpec(frontend=None, network=GRU(hidden=6, layers=1), labels=("a", "b"), inputs=4).build()
    agreement = compare_engines(model, [torch.rand(20, 4)], steps_per_second=100.0)
    assert agreement.event is None and "GRU" in agreement.no_events and "no event engine" in str(agreement)
    assert agreement.streamed < 1e-9


def test_a_front_end_without_a_stream_says_so():
    whole = temporal.frontends.Chain(
        temporal.frontends.MelSpectrogram(16000, n_mels=4), temporal.frontends.UtteranceNormalize()
    )
    network = temporal.Sequential(torch.nn.Linear(4, 2), LI(2.0))
    agreement = compare_engines(Model(whole, network, SumSoftmax(), labels=["a", "b"]), [torch.randn(8000)])
    assert agreement.streamed is None and "no stream" in str(agreement) and agreement.event < 1e-4


def test_a_stream_that_errs_is_seen(monkeypatch):
    """A stream that loses the state between its chunks."""
    push = Stream.push

    def forgetful(self, chunk):
        self._run._network = None
        return push(self, chunk)

    torch.manual_seed(1)
    layers = [DelayedLinear(4, 8, 6).round_(), LIF(2.0), DelayedLinear(8, 2, 6).round_(), LI(4.0)]
    model = Model(None, temporal.Sequential(*layers), LastStep(), labels=["a", "b"])
    steps = [(torch.rand(60, 4) < 0.4).float() for _ in range(3)]
    assert compare_engines(model, steps, chunk=9, steps_per_second=100.0).streamed < 1e-9
    monkeypatch.setattr(Stream, "push", forgetful)
    assert compare_engines(model, steps, chunk=9, steps_per_second=100.0).streamed > 1e-4


def test_nothing_to_run():
    model = Model(None, temporal.Sequential(torch.nn.Linear(2, 2)), SumSoftmax(), labels=["a", "b"])
    with pytest.raises(ValueError, match="no recording to run"):
        compare_engines(model, [], steps_per_second=100.0)
