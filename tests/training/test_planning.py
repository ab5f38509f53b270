"""What a plan says, against what a training then does."""

import dataclasses

import pytest
import torch

from temporal.training import find_recipe, plan, train


def test_a_plan_counts_what_training_does(small, tmp_path, trained):
    planned = plan(small, device="cpu")
    assert (planned.recordings, planned.validation, planned.test, planned.classes) == (24, 6, 30, 3)
    assert planned.steps_per_epoch == 3 and planned.steps == trained.metrics()[-1]["step"] == 24
    assert planned.parameters == sum(p.numel() for p in trained.model().parameters() if p.requires_grad)
    assert planned.state_bytes == 16 * planned.parameters
    assert planned.memory_bytes > 100e6 and planned.seconds_per_step > 0 and planned.seconds_per_reading > 0
    seconds = 24 * (planned.seconds_per_step + planned.seconds_per_reading)
    assert seconds <= 3600 * planned.hours < 2 * seconds + 1
    assert "3 steps with recordings of the training part" in str(planned) and "24 to train on, 6 to watch" in str(
        planned
    )


def test_a_plan_of_spikes(spiking):
    planned = plan(spiking, device="cpu")
    assert (planned.recordings, planned.validation, planned.test, planned.steps) == (24, 6, 30, 24)


def test_a_plan_changes_nothing(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plan(small, device="cpu")
    assert torch.equal(torch.rand(3), expected) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "changes", "counts"),
    [
        ("shd", {}, (7340, 816, 2264, 20)),
        ("ssc", {}, (75466, 9981, 20382, 35)),
        ("gsc", {}, (84843, 9981, 11005, 35)),
        ("gsc", {"data.words": 12}, (None, None, None, 12)),
        ("fsdd-cochlea", {}, (None, None, None, 10)),
        ("fsdd-mel", {}, (None, None, None, 10)),
        ("shd-published", {}, (8156, 0, 2264, 20)),
        ("ssc-published", {}, (75466, 9981, 20382, 35)),
        ("digits", {}, (3000, 400, 600, 20)),
        ("commands", {}, (None, None, None, 10)),
    ],
)
def test_without_recordings_they_are_drawn_and_that_is_said(name, changes, counts):
    recipe = find_recipe(name).override({"network.hidden": 4, "network.layers": 1, "batch_size": 4} | changes)
    planned = plan(recipe, device="cpu")
    assert (planned.recordings, planned.validation, planned.test, planned.classes) == counts
    assert (planned.steps is None) == (counts[0] is None) == (planned.hours is None)
    assert "drawn recordings" in planned.measured
    assert ("an unknown number" in str(planned)) == (counts[0] is None)


@pytest.mark.parametrize("words", [None, 12])
def test_the_published_recipe_for_sound(words):
    """Its front end warns of the bands that are empty, whatever is done with it."""
    recipe = find_recipe("gsc-published").override({"network.hidden": 4, "batch_size": 4, "data.words": words})
    with pytest.warns(UserWarning, match="53 of n_mels=140 bands are always 0"):
        planned = plan(recipe, device="cpu")
    assert (planned.recordings, planned.classes) == ((84843, 35) if words is None else (None, 12))
    with_two = recipe.override({"network.hidden": 512, "network.synapses": 2, "network.dropout": 0.25})
    assert with_two.network == find_recipe("ssc-published").override({"network.synapses": 2}).network


def test_a_plan_is_refused_where_training_would_be(small, tmp_path):
    bad = small.override({"data.path": str(tmp_path / "nowhere")})
    for refused in (plan, train):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            refused(bad, device="cpu")
    with pytest.raises(ValueError, match="tpu"):
        plan(dataclasses.replace(small, epochs=1), device="tpu")
