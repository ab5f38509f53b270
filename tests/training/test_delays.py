"""What a recipe may ask of its delays beside their width: pruning, and penalties; and how the optimiser treats them."""

import dataclasses

import pytest
import torch

import temporal
from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays, depth_penalty, spread_penalty
from temporal.interop import hardware_cost
from temporal.models import deploy
from temporal.neurons import LIF
from temporal.training import Delays, Recipe, evaluate, train
from temporal.training._optimizer import optimizer_of


def test_delays_of_every_layer_are_in_their_own_group(small):
    network = torch.nn.ModuleList([
        DelayedLinear(3, 4, 5, per="axon"), DelayedConv1d(1, 2, 3, 5), RecurrentDelays(LIF(2.0), 4, 6),
        DelayedLinear(3, 4, 5, learn_delays=False), torch.nn.Linear(4, 2),
    ])  # fmt: skip
    optimizer = optimizer_of(network, small)
    learned = [network[0].delay, network[1].delayed.delay, network[2].delayed.delay]
    (group,) = (group for group in optimizer.param_groups if group.get("delays"))
    assert group["lr"] == small.optimizer.lr_delay and [id(p) for p in group["params"]] == [id(p) for p in learned]
    for delay in learned:
        delay.data.zero_()
    for p in network.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    optimizer.step()
    assert all(optimizer.state[delay]["exp_avg"].count_nonzero() == 0 for delay in learned)  # they are on a wall


def test_a_pruned_run_is_loaded_and_evaluated_with_what_is_left(small, tmp_path):
    recipe = dataclasses.replace(small, epochs=3, delays=Delays(prune=0.75, prune_at=0.5))
    run = train(recipe, tmp_path / "run", device="cpu")
    model = temporal.load(run.folder)
    layers = [layer for layer in model.modules() if isinstance(layer, DelayedLinear)]
    synapses = sum(layer.weight.numel() for layer in layers)
    left = synapses - round(0.75 * synapses)
    assert sum(int(layer.alive.sum()) for layer in layers) == left
    assert hardware_cost(deploy(model).network).synapses == left
    assert evaluate(run).to_dict()["predictions"] == run.result()["predictions"]
    dense = train(dataclasses.replace(recipe, delays=Delays()), tmp_path / "dense", device="cpu")
    pruned, whole = (torch.load(r.checkpoint_file, weights_only=True)["rows"] for r in (run, dense))
    assert pruned[0]["train_loss"] == whole[0]["train_loss"]  # until then nothing is different
    assert pruned[2]["train_loss"] != whole[2]["train_loss"]


def test_an_average_begins_anew_where_synapses_are_pruned(small, tmp_path):
    recipe = dataclasses.replace(small, epochs=3, ema=0.9, delays=Delays(prune=0.75, prune_at=0.5))
    run = train(recipe, tmp_path / "run", device="cpu")
    stored = torch.load(run.checkpoint_file, weights_only=True)
    layers = [layer for layer in temporal.load(run.folder).modules() if isinstance(layer, DelayedLinear)]
    synapses = sum(layer.weight.numel() for layer in layers)
    assert sum(int(layer.weight.count_nonzero()) for layer in layers) == synapses - round(0.75 * synapses)
    assert any("alive" in name for name in stored["average"]["model"])


@pytest.mark.parametrize("name, penalty", [("depth_penalty", depth_penalty), ("spread_penalty", spread_penalty)])
def test_a_penalty_in_the_recipe_shapes_the_delays(small, tmp_path, name, penalty):
    """Of a whole training, rounding and all: shallower, or more even, than without."""
    values = []
    for factor in (0.0, 30.0):
        recipe = dataclasses.replace(small, delays=Delays(**{name: factor}))
        model = temporal.load(train(recipe, tmp_path / str(factor), device="cpu").folder)
        values.append(penalty(model).item())
    assert values[1] < 0.7 * values[0]


@pytest.mark.parametrize(
    "field, value",
    [("prune", 1.0), ("prune", -0.1), ("prune_at", 1.0), ("depth_penalty", -1.0), ("spread_penalty", -1.0)],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"delays.{field}={value}"):
        Recipe(name="mine", delays=Delays(**{field: value}))


def test_after_a_training_no_momentum_leads_out_of_the_range(trained):
    stored = torch.load(trained.checkpoint_file, weights_only=True)
    delays = [value for name, value in stored["model"].items() if name.endswith(".delay")]
    (group,) = (group for group in stored["optimizer"]["param_groups"] if group.get("delays"))
    on_walls = 0
    for delay, number in zip(delays, group["params"], strict=True):
        moment, low, high = stored["optimizer"]["state"][number]["exp_avg"], delay <= 0, delay >= 6
        assert not ((low & (moment > 0)) | (high & (moment < 0))).any()
        on_walls += int((low | high).sum())
    assert on_walls
