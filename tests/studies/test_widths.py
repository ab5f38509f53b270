"""Arms that learn equally many numbers, against counts done by hand."""

import dataclasses
import itertools

import pytest

from temporal.studies import Study, find_study


def learned(cell, inputs, classes):
    """How many numbers a cell's network learns, counted without building it."""
    net = cell.recipe.network
    sizes = [inputs, *[net.hidden] * net.layers, classes]
    pairs = list(itertools.pairwise(sizes))
    weights, norms = sum(a * b for a, b in pairs), 2 * net.hidden * net.layers
    if net.delays != "learned":
        return weights + norms
    return weights + norms + (weights if net.per == "synapse" else sum(a for a, _ in pairs))


@pytest.mark.parametrize("budget", ["synaptic", "none", 20_000])
def test_the_arms_of_delays_learn_equally_many(tones, budget):
    study = find_study("delays")
    recipe = tones.recipe.override({"network.hidden": 128, "network.layers": 2})
    study = dataclasses.replace(study, recipe=recipe, seeds=(0,), parameters=budget)
    before = {cell.arm: cell for cell in study.cells()}
    wanted = budget if isinstance(budget, int) else learned(before[budget], 20, 2)
    equal = study.equalized()
    after = {cell.arm: cell for cell in equal.cells()}
    assert equal.parameters == wanted
    for arm in ("none", "random", "axonal", "synaptic"):
        assert learned(after[arm], 20, 2) == pytest.approx(wanted, rel=0.01), arm
    widths = [after[arm].recipe.network.hidden for arm in ("none", "random", "axonal", "synaptic")]
    assert widths[0] == widths[1] > widths[2] > widths[3]
    assert isinstance(budget, int) or after[budget].recipe.network.hidden == 128
    assert after["gru"] == before["gru"]
    assert equal.equalized() == equal
    reach = {after[arm].recipe.network.max_delay for arm in ("random", "axonal", "synaptic")}
    assert reach == {4}


def test_the_nearest_width_is_taken(tones):
    study = dataclasses.replace(tones, equal=("none",), seeds=(0,))
    for budget in (60, 130, 131, 1000):
        chosen = dataclasses.replace(study, parameters=budget).equalized().arms["none"]["network.hidden"]
        assert chosen == min(range(1, 100), key=lambda hidden: abs(hidden * (20 + 2 + 2) - budget))


def test_without_equal_arms_no_recordings_are_needed(study):
    assert study.equalized() is study


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"equal": ("plane",)}, "arm in equal 'plane': did you mean 'plain'"),
        ({"equal": ("plain",), "parameters": "learnt"}, "did you mean 'learned'"),
        ({"equal": ("plain",), "parameters": 0}, "parameters=0; a number, 1 or more"),
        ({"equal": ("plain",), "parameters": 2.5}, "parameters=2.5"),
        ({"parameters": 100}, "needs equal"),
    ],
)
def test_a_budget_that_is_wrong(study, given, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(study, **given)


def test_what_cannot_be_solved_says_why(tones):
    with pytest.raises(ValueError, match="less than arm 'none' learns with one hidden neuron, 24"):
        dataclasses.replace(tones, equal=("none",), parameters=10).equalized()
    arms = {"own": {"network": {"kind": "mine.Net", "size": 3}}}
    with pytest.raises(ValueError, match="'own' is in equal, but its network has no number called hidden"):
        Study(name="own", recipe=tones.recipe, arms=arms, equal=("own",)).equalized()


def test_a_file_says_which_arms_are_equal(tmp_path):
    text = 'recipe = "digits"\nequal = ["a", "b"]\nparameters = 5000\n[arms.a]\n"network.delays" = "none"\n[arms.b]\n'
    (tmp_path / "x.toml").write_text(text)
    study = find_study(str(tmp_path / "x.toml"))
    assert study.equal == ("a", "b") and study.parameters == 5000
    (tmp_path / "x.toml").write_text(text.replace('["a", "b"]', '"a"'))
    with pytest.raises(ValueError, match="equal='a'; a list of arms is right"):
        find_study(str(tmp_path / "x.toml"))
