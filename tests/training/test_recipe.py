import dataclasses
import subprocess
import sys

import pytest

from temporal.models import Mel
from temporal.training import Data, Recipe, find_recipe, recipes


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_named_recipe_survives_toml(name, tmp_path):
    recipe = find_recipe(name).override({"network.hidden": 7, "data.path": "some where", "optimizer.lr": 3e-4})
    recipe.to_toml(tmp_path / "recipe.toml")
    assert Recipe.from_toml(tmp_path / "recipe.toml") == recipe


def test_none_and_no_front_end_survive_toml(tmp_path):
    recipe = Recipe(name="spikes", frontend=None, data=Data(path=None))
    recipe.to_toml(tmp_path / "r.toml")
    assert Recipe.from_toml(tmp_path / "r.toml") == recipe


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "3", 3),
        ("network.hidden", "256", 256),
        ("optimizer.lr", "1e-3", 1e-3),
        ("frontend.fmax", "4000", 4000.0),
        ("frontend.fmax", "none", None),
        ("data.split", "speaker=anna", "speaker=anna"),
        ("network.surrogate", "sigmoid(4)", "sigmoid(4)"),
    ],
)
def test_text_is_read_as_the_fields_type(key, text, value):
    recipe = find_recipe("digits").override({key: text})
    for name in key.split("."):
        recipe = getattr(recipe, name)
    assert recipe == value and type(recipe) is type(value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.hiden", "3", "network.hidden"),
        ("hidden", "3", "network.hidden"),
        ("epoch", "3", "epochs"),
        ("epochs.x", "3", "epochs has no fields"),
        ("network", "3", "group"),
        ("epochs", "three", "'three' is not of type int"),
        ("epochs", "2.5", "not of type int"),
        ("epochs", "none", "none is not allowed"),
        ("epochs", True, "not of type int"),
        ("epochs", "0", "at least 1"),
        ("readout", "sum", "sum-softmax"),
        ("optimizer.lr", "nan", "not of type float"),
        ("data.validation", "1", "below 1"),
    ],
)
def test_a_wrong_option_says_what_is_right(key, value, message):
    with pytest.raises(ValueError, match=message):
        find_recipe("digits").override({key: value})


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        find_recipe("digit")
    with pytest.raises(FileNotFoundError, match="no such recipe file"):
        find_recipe("nowhere.toml")


def test_a_file_can_start_from_a_named_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "digits"\nepochs = 3\n[network]\nhidden = 64\n')
    recipe = find_recipe(str(file))
    digits = find_recipe("digits")
    assert recipe == dataclasses.replace(digits, epochs=3, network=dataclasses.replace(digits.network, hidden=64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3\n", "needs a name"),
        ('name = "x"\nepoch = 3\n', "did you mean epochs"),
        ('name = "x"\nepochs = "many"\n', "not of type int"),
        ('name = "x"\n[network]\nkind = "delayed-lif"\nhiden = 3\n', "network.hidden"),
        ('name = "x"\n[frontend]\nkind = "mell"\n', "did you mean 'mel'"),
        ('base = "digit"\n', "did you mean 'digits'"),
        ("name = \n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        find_recipe(str(file))
    assert str(file) in str(caught.value)


def test_a_python_file_can_hold_a_network_of_ones_own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import dataclass\nimport torch, temporal\nfrom temporal.training import Recipe\n"
        "@dataclass(frozen=True)\nclass Net:\n    width: int = 5\n"
        "    def build(self, inputs, classes):\n        return temporal.Sequential(torch.nn.Linear(inputs, classes))\n"
        'recipe = Recipe(name="own", network=Net())\n'
    )
    recipe = find_recipe(str(file)).override({"network.width": "6"})
    assert recipe.network.width == 6
    assert recipe.to_dict()["network"] == {"kind": "recipe_own.Net", "width": 6}
    file.write_text("recipe = 3\n")
    with pytest.raises(ValueError, match="defines no Recipe"):
        find_recipe(str(file))


def test_reading_a_recipe_loads_no_torch():
    code = "import sys, temporal.training as t; t.find_recipe('digits').to_dict(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_specified_front_end_is_what_it_says():
    front = Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=32).build()
    assert front.hop_length == 80 and front[0].sample_rate == 8000


def test_none_is_also_the_name_of_a_choice():
    """`--network.delays none` names a control; `--data.path none` leaves a value out."""
    changed = Recipe(name="x").override({"network.delays": "none", "network.tau_max": "none"})
    assert changed.network.delays == "none" and changed.network.tau_max is None
    with pytest.raises(ValueError, match="none is not allowed here"):
        Recipe(name="x").override({"epochs": "none"})
