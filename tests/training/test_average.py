"""The average of the weights: what it is of what, that it changes no training, and that it survives a stop."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from temporal.delays import DelayedLinear, DelaySchedule
from temporal.layers import BatchNorm, Sequential
from temporal.training import Interrupted, Run, evaluate, plan, train
from temporal.training._average import Average


def network():
    return Sequential(DelayedLinear(3, 4, 5), BatchNorm(4), DelayedLinear(4, 2, 5, kernel="rounded"))


def moved(model, number):
    """The model as another update leaves it: delays beyond their range too."""
    draw = torch.Generator().manual_seed(number)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.ndim:
            tensor.data += torch.randn(tensor.shape, generator=draw)
    model[1].running_var.abs_()


def test_it_is_the_mean_at_first_and_decays_then():
    model = network()
    average = Average(model, decay=0.75)
    expected, seen = {}, {}
    for n in range(12):
        moved(model, n)
        average.update(model)
        seen = {name: value.clone() for name, value in model.state_dict().items()}
        keep = min(0.75, n / (n + 1))
        for name, value in seen.items():
            expected[name] = value if n == 0 else keep * expected[name] + (1 - keep) * value
        if n == 2:
            assert keep == 2 / 3
    ours = average.model.state_dict()
    for name in ("0.weight", "0.delay", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight"):
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-5, atol=1e-5)
        assert not torch.equal(ours[name], seen[name]), name
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())
    assert all(layer.delay.min() >= 0 and layer.delay.max() <= 5 for layer in (average.model[0], average.model[2]))


def test_the_width_is_the_present_one_and_whole_delays_are_taken_over():
    model, schedule = network(), DelaySchedule(end=0.2, until=0.5, round_at=0.75)
    average = Average(model, decay=0.9)
    for step in range(16):
        schedule.apply(model, step / 16)
        moved(model, step)
        average.update(model, schedule.rounded(step / 16))
        assert average.model[0].sigma == model[0].sigma == schedule.sigma(step / 16, 5)
        whole = step >= 12
        assert torch.equal(average.model[0].delay, average.model[0].delay.round()) == whole
        if whole:
            assert torch.equal(average.model[0].delay, model[0].delay)
        if step == 12:  # the average begins anew: weights for blurred delays are not those for whole ones
            assert torch.equal(average.model[0].weight, model[0].weight)
            first = model[0].weight.clone()
        if step == 13:
            torch.testing.assert_close(average.model[0].weight, (first + model[0].weight) / 2)


def test_a_state_dict_is_all_there_is():
    model = network()
    whole, halves = Average(model, decay=0.9), Average(model, decay=0.9)
    for n in range(8):
        moved(model, n)
        whole.update(model, n > 5)
        halves.update(model, n > 5)
        stored = halves.state_dict()
        halves = Average(network(), decay=0.9)
        halves.load_state_dict(stored)
    ours, theirs = halves.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_weight_that_two_layers_share_is_averaged_once():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    average = Average(model, decay=0.5)
    for value in (0.0, 4.0, 8.0):
        model[0].weight.data.fill_(value)
        average.update(model)
    assert average.model[1].weight.eq(5.0).all() and average.model[1].weight is average.model[0].weight


@pytest.fixture(scope="module")
def averaged(small, tmp_path_factory):
    """The small recipe with an average, trained; tests leave the run as it is."""
    return train(dataclasses.replace(small, ema=0.9), tmp_path_factory.mktemp("averages") / "whole", device="cpu")


def test_the_protocol_says_so(averaged, trained):
    assert "the average of the weights as the last epoch left it" in evaluate(averaged).protocol
    assert "; the last epoch's weights; " in evaluate(trained).protocol


def stored(run):
    return torch.load(run.checkpoint_file, weights_only=True)


def test_the_training_is_the_same_and_the_result_is_the_average(averaged, trained):
    with_it, without = stored(averaged), stored(trained)
    assert all(torch.equal(with_it["model"][name], without["model"][name]) for name in without["model"])
    assert [row["train_loss"] for row in averaged.metrics()] == [row["train_loss"] for row in trained.metrics()]
    assert averaged.metrics()[-1]["validation_loss"] != trained.metrics()[-1]["validation_loss"]
    assert "average" not in without
    weights = load_file(averaged.weights_file)
    assert all(torch.equal(weights[name], with_it["average"]["model"][name]) for name in weights)
    assert not torch.equal(weights["network.0.weight"], with_it["model"]["network.0.weight"])
    assert torch.equal(weights["network.0.delay"], with_it["model"]["network.0.delay"])
    assert weights["network.0.sigma"] == 0
    assert averaged.result()["accuracy"] >= 0.9
    assert evaluate(averaged).to_dict()["predictions"] == averaged.result()["predictions"]


@pytest.mark.parametrize("step", [1, 7, 12, 22, 23])
def test_stopped_and_resumed_is_the_same_to_the_last_bit(averaged, small, tmp_path, stop_after, step):
    """Within an epoch, at the end of one, and on either side of the update that rounds the delays (22 of 24)."""
    recipe = dataclasses.replace(small, ema=0.9)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", device="cpu", progress=stop_after(step))
    run = train(recipe, tmp_path / "run", resume=True, device="cpu")
    ours, theirs = stored(run), stored(averaged)
    for part in ("model", "average"):
        a, b = (s[part]["model"] if part == "average" else s[part] for s in (ours, theirs))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in b)
    assert ours["average"]["updates"] == theirs["average"]["updates"] == 2 and theirs["average"]["whole"]
    assert run.result()["predictions"] == averaged.result()["predictions"]
    assert [row["validation_loss"] for row in run.metrics()] == [row["validation_loss"] for row in averaged.metrics()]


def test_checkpoints_within_an_epoch_change_nothing(averaged, small, tmp_path):
    recipe = dataclasses.replace(small, ema=0.9)
    run = train(recipe, tmp_path / "run", device="cpu", checkpoint_every=0)
    assert run.weights_file.read_bytes() == averaged.weights_file.read_bytes()


def test_a_run_with_an_average_is_not_resumed_without(averaged, small):
    with pytest.raises(ValueError, match=r"ema \(there 0.9, here 0.0\)"):
        train(small, averaged.folder, resume=True)
    assert Run.open(averaged.folder).recipe().ema == 0.9


def test_a_plan_counts_it(small):
    with_it, without = (plan(dataclasses.replace(small, ema=ema), device="cpu") for ema in (0.9, 0.0))
    assert with_it.state_bytes - without.state_bytes == 4 * without.parameters


@pytest.mark.parametrize("ema", [-0.1, 1.0])
def test_a_decay_out_of_its_range(small, ema):
    with pytest.raises(ValueError, match=r"ema=.*; 0 or more, below 1 is right"):
        dataclasses.replace(small, ema=ema)
