"""A Stream whose network runs on events: the answers of the layers, however it is cut, stopped and continued."""

import io

import pytest
import torch
from torch import nn

import temporal
from temporal.delays import DelayedLinear
from temporal.layers import LastStep, SumSoftmax
from temporal.neurons import LI, LIF
from temporal.streaming import Stream

SETTINGS = {"sample_rate": 100, "window": 0.2, "threshold": 0.4, "refractory": 0.1}


def spiking(readout=SumSoftmax, tail=5):
    """On a grid, where sums are exact in any order; with batch normalisation that folds into a grid as well."""
    torch.manual_seed(0)
    network = temporal.Sequential(
        DelayedLinear(12, 30, 8).round_(), temporal.BatchNorm(30), LIF(), nn.Dropout(0.5),
        DelayedLinear(30, 3, 4, per="axon").round_(), LI(2.0),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (network[0], network[4]):
            layer.weight.copy_(((torch.rand_like(layer.weight) - 0.3) * 1024).round() / 1024)
        network[1].running_var.fill_(0.25 - network[1].eps)
        network[1].running_mean.fill_(0.125)
    return temporal.Model(None, network, readout(), labels=["a", "b", "c"], tail=tail).train()


def spikes(steps=150):
    x = torch.zeros(steps, 12)
    for begin, group in ((0, 0), (40, 4), (90, 8)):
        x[begin : begin + 40, group : group + 4] = (torch.rand(40, 4) < 0.5).float()
    return x


def heard(stream, x, cuts):
    events = [event for piece in x.split(cuts) for event in stream.push(piece)]
    return events + stream.finish()


@pytest.mark.parametrize("engine", ["event", "auto"])
@pytest.mark.parametrize("readout", [SumSoftmax, LastStep])
@pytest.mark.parametrize("cuts", [[150], [1] * 150, [0, 3, 100, 1, 46]], ids=len)
def test_the_whole_and_the_events_are_those_of_the_layers(engine, readout, cuts):
    model, x = spiking(readout), spikes()
    dense, stream = Stream(model, **SETTINGS), Stream(model, **SETTINGS, engine=engine)
    assert (dense.engine, stream.engine) == ("dense", "event")
    want, got = heard(dense, x, [150]), heard(stream, x, cuts)
    with torch.no_grad():
        offline = model.eval()(torch.cat([x, torch.zeros(0, 12)])[:, None])[0]
        y, _ = model.network(x[:, None])
    assert 0.02 < model.network[:3](x[:, None])[0].mean() < 0.9 and y.std() > 0.1
    assert want and [(e.label, e.start, e.end) for e in got] == [(e.label, e.start, e.end) for e in want]
    # Spikes are equal; votes of 150 steps are summed in another order.
    torch.testing.assert_close(stream.whole, offline, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stream.whole, dense.whole, rtol=1e-5, atol=1e-5)


def test_with_a_front_end_in_float32(make_model, wave):
    model = make_model(dtype=torch.float32)
    model.network = temporal.Sequential(nn.Linear(5, 8), LI(3.0), nn.Linear(8, 4))
    wave = wave.float()
    stream = Stream(model, engine="event")
    for chunk in wave.split(333):
        stream.push(chunk)
    stream.finish()
    with torch.no_grad():
        torch.testing.assert_close(stream.whole, model.eval()(wave[None])[0], rtol=1e-5, atol=1e-5)


def test_a_state_goes_through_a_file_and_to_the_same_engine_only():
    model, x = spiking(), spikes()
    first, other, dense = (Stream(model, **SETTINGS, engine=engine) for engine in ("event", "auto", "dense"))
    other.load_state_dict(first.state_dict())  # at rest
    first.push(x[:70])
    other.push(x[:20])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert first.push(x[70:]) == other.push(x[70:]) and first.finish() == other.finish()
    assert torch.equal(first.whole, other.whole)
    fresh = Stream(model, **SETTINGS, engine="event")
    dense.push(x[:70])
    for into, of in ((fresh, dense), (dense, Stream(model, **SETTINGS, engine="event"))):
        with pytest.raises(ValueError, match=r"Stream\.load_state_dict: the state is of the other engine"):
            into.load_state_dict(of.state_dict())
    assert heard(fresh, x, [150]) == heard(Stream(model, **SETTINGS), x, [150])  # unchanged
    narrow = spiking()
    narrow.network[0] = DelayedLinear(12, 30, 7).round_()
    state = Stream(model, **SETTINGS, engine="event")
    state.push(x[:30])
    with pytest.raises(ValueError, match=r"Stream\.load_state_dict: stage 0 does not fit"):
        Stream(narrow, **SETTINGS, engine="event").load_state_dict(state.state_dict())


def test_auto_takes_the_layers_where_the_engine_cannot():
    spread = spiking()
    spread.network[0] = DelayedLinear(12, 30, 8)
    with_gru = spiking()
    with_gru.network = temporal.Sequential(nn.GRU(12, 3))
    for model, error, words in (
        (spread, ValueError, r"Stream: layer 0, DelayedLinear, spreads its delays.*round_\(\)"),
        (with_gru, TypeError, "Stream: the event engine does not have GRU"),
    ):
        assert Stream(model, **SETTINGS, engine="auto").engine == "dense"
        with pytest.raises(error, match=words):
            Stream(model, **SETTINGS, engine="event")
    assert Stream(spiking().double(), **SETTINGS, engine="auto").engine == "dense"
    double = Stream(spiking().double(), **SETTINGS, engine="event")
    double.push(spikes())
    double.finish()
    assert double.whole.dtype == torch.float64
    with pytest.raises(ValueError, match="engine='fast' is unknown; known: 'auto', 'dense', 'event'"):
        Stream(spiking(), **SETTINGS, engine="fast")


def test_a_later_change_of_the_model_does_not_reach_it_and_the_model_stays_as_it_is():
    model, x = spiking(), spikes()
    stream, other = (Stream(model, **SETTINGS, engine="event") for _ in range(2))
    assert model.training and model.network[1].training
    heard(other, x, [150])
    with torch.no_grad():
        model.network[0].weight.zero_()
    heard(stream, x, [150])
    assert torch.equal(stream.whole, other.whole)
