"""What is exported is what runs: the same outputs from the file alone, with whole delays and nothing of torch's layers."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from temporal.analysis import measure_activity
from temporal.delays import DelayedLinear, RecurrentDelays
from temporal.interop import hardware_cost, integer_delays, save_integers
from temporal.layers import Sequential
from temporal.models import DelayedLIF, Mel, ModelSpec, deploy, save
from temporal.neurons import LIF


def run_from_arrays(x, weight, delay, per, copies=None, bias=None):
    """Step by step in NumPy, from the equation in the docstring."""
    out, inputs = weight.shape[:2]
    steps = {
        "synapse": lambda: delay,
        "axon": lambda: np.broadcast_to(delay, weight.shape),
        "dendrite": lambda: np.broadcast_to(delay[:, None], weight.shape),
        "additive": lambda: delay[inputs:, None] + delay[None, :inputs],
        "group": lambda: np.take_along_axis(delay, copies.astype(int), 0),
    }[per]()
    weight, steps = (a.reshape(out, inputs, -1) for a in (weight, steps.astype(int)))
    y = np.zeros((*x.shape[:2], out))
    for t in range(len(x)):
        for lag in range(min(t, steps.max()) + 1):
            y[t] += x[t - lag] @ (weight * (steps == lag)).sum(2).T
    return y if bias is None else y + bias


@pytest.mark.parametrize("synapses", [1, 2])
@pytest.mark.parametrize("per", ["synapse", "axon", "dendrite", "additive", "group"])
def test_a_reader_of_the_file_gets_the_same_current(tmp_path, per, synapses):
    if synapses > 1 and per in ("additive", "group"):
        pytest.skip("these have one synapse a pair")
    torch.manual_seed(0)
    layer = DelayedLinear(5, 4, 9, per=per, synapses=synapses, bias=True)
    save_integers(layer, tmp_path / "layer.safetensors")
    with safe_open(tmp_path / "layer.safetensors", "numpy") as file:
        tensors = {name.partition(".")[2]: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["temporal"])["layers"]["DelayedLinear"]
    assert tensors["delay"].dtype == np.uint8 and about["longest"] <= 9 and about["bits"] <= 4
    x = np.random.default_rng(0).integers(0, 2, (20, 3, 5)).astype(float)
    expected = layer.round_()(torch.tensor(x, dtype=torch.float32))[0].detach().numpy()
    found = run_from_arrays(x, tensors["weight"], tensors["delay"], per, tensors.get("copies"), tensors["bias"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_long_delays_take_two_bytes_and_recurrent_ones_count_from_now():
    layer = DelayedLinear(3, 3, 400)
    layer.delay.data.fill_(300.0)
    assert integer_delays(layer)[0].delay.dtype == torch.uint16
    recurrent = RecurrentDelays(LIF(2.0), 3, 12, min_delay=4).round_()
    recurrent.delayed.delay.data.copy_(torch.tensor([[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]))
    exported = integer_delays(recurrent)[0]
    assert exported.name == "delayed" and torch.equal(exported.delay, recurrent.delays().to(torch.uint8))
    assert exported.longest == 12


def test_costs_are_counted():
    """By hand: 4 x 2 synapses, three of them dead, and with them an input; the longest live delay 5 of 7; 3 bits hold 7."""
    layer = DelayedLinear(4, 2, 7).round_()
    with torch.no_grad():
        layer.delay.copy_(torch.tensor([[0.0, 1, 2, 7], [5, 4, 3, 6]]))
        layer.weight.copy_(torch.tensor([[1.0, 1, 1, 0], [1, 0, 1, 0]]))
    cost = hardware_cost(layer, real_inputs=False)
    assert (cost.synapses, cost.weight_bits, cost.delay_bits) == (5, 160, 15)
    assert (cost.buffer_depth, cost.buffer_bits) == (5, 15)
    assert hardware_cost(layer).buffer_bits == 480
    x = torch.zeros(10, 2, 4)
    x[3, 0, 0] = x[4, 1, 3] = x[5, 1, 2] = 1.0  # reach 2, 0 and 2 synapses
    measured = hardware_cost(layer, measure_activity(Sequential(layer), x), seconds=0.5)
    assert measured.operations_per_second == 8


def test_a_deployed_model_from_the_command(tmp_path, capsys):
    from temporal.cli import main

    spec = ModelSpec(frontend=Mel(n_mels=10), network=DelayedLIF(hidden=6, layers=1, max_delay=5), labels=("no", "yes"))
    model = spec.build()
    model.frontend[-1].fit([(torch.randn(2, 10, 9), torch.tensor([9, 9]))])
    save(model, spec, tmp_path / "model.safetensors")
    main(["export", str(tmp_path / "model.safetensors"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["synapses"] == 6 * 10 + 2 * 6 and said["buffer_depth"] <= 5
    with safe_open(said["file"], "pt") as file:
        names = set(file.keys())
        about = json.loads(file.metadata()["temporal"])
        delay = file.get_tensor("0.delay")
    assert about["labels"] == ["no", "yes"] and about["sample_rate"] == 16000
    assert names >= {"0.weight", "0.delay", "0.bias"}  # the bias is what the batch norm left
    assert torch.equal(delay.float(), deploy(model).network[0].delay.float())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: save_integers(torch.nn.Linear(2, 2), "x"), "no layer with delays"),
        (lambda: hardware_cost(DelayedLinear(2, 2, 3), seconds=1.0), "belong together"),
        (lambda: integer_delays(broken()), "layer DelayedLinear has weights or delays that are not finite"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def broken():
    layer = DelayedLinear(2, 2, 3)
    layer.delay.data[0, 0] = torch.nan
    return layer
