"""What a study is: its cells, its file, and what is wrong with one."""

import dataclasses
import json

import pytest

from temporal.studies import Study, find_study, studies
from temporal.training import find_recipe

FILE = """
name = "widths"
recipe = "digits"
seeds = [3, 4]
control = "narrow"

[set]
epochs = 2

[arms.narrow]
"network.hidden" = 16

[arms.gru]
network = { kind = "gru", hidden = 32 }

[folds.ann]
data = { split = "speaker=ann" }

[folds.bob]
"data.split" = "speaker=bob"
"""


def test_a_file_holds_a_study(tmp_path):
    (tmp_path / "x.toml").write_text(FILE)
    study = find_study(str(tmp_path / "x.toml"))
    cells = {cell.key: cell for cell in study.cells()}
    assert list(cells) == [
        f"{arm}_{fold}_seed{n}" for arm in ("narrow", "gru") for fold in ("ann", "bob") for n in (3, 4)
    ]
    gru = cells["gru_bob_seed4"].recipe
    assert (gru.network.kind, gru.network.hidden, gru.seed, gru.epochs) == ("gru", 32, 4, 2)
    assert gru.data.split == "speaker=bob"
    assert cells["narrow_ann_seed3"].recipe.network.hidden == 16
    assert study.reference == "narrow"


def test_a_recipes_file_lies_beside_the_studys(tmp_path, study):
    study.recipe.to_toml(tmp_path / "mine.toml")
    (tmp_path / "x.toml").write_text('recipe = "mine.toml"\n[arms.a]\n')
    found = find_study(str(tmp_path / "x.toml"))
    assert found.name == "x" and found.recipe == study.recipe and found.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[arms.narrow]", "[arm.narrow]"), "unknown field of a study 'arm': did you mean 'arms'"),
        (
            ("network.hidden", "network.hiden"),
            "arm 'narrow': unknown option 'network.hiden'; did you mean network.hidden",
        ),
        (('control = "narrow"', 'control = "wide"'), "unknown arm for the control 'wide'"),
        (("seeds = [3, 4]", "seeds = [3, 3]"), "each once"),
        (("seeds = [3, 4]", 'seeds = ["3"]'), "whole numbers"),
        (('recipe = "digits"', 'recipe = "digit"'), "did you mean 'digits'"),
        (('recipe = "digits"', ""), "needs recipe"),
        (("[folds.ann]", '[folds."../ann"]'), "names a folder"),
        (("epochs = 2", "epochs = 0"), "epochs=0"),
        (("[set]", "[set"), "not valid TOML"),
        (("[arms.gru]", "[[arms.gru]]"), r"arms: a table is right"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, change, said):
    (tmp_path / "x.toml").write_text(FILE.replace(*change))
    with pytest.raises(ValueError, match=said) as raised:
        find_study(str(tmp_path / "x.toml"))
    assert str(raised.value).startswith(str(tmp_path / "x.toml"))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such study file"):
        find_study(str(tmp_path / "x.toml"))
    with pytest.raises(ValueError, match="did you mean 'delays'"):
        find_study("delay")
    with pytest.raises(ValueError, match="arms is empty"):
        Study(name="a", recipe=find_study("delays").recipe, arms={})


def test_cells_of_one_name_are_refused(study):
    with pytest.raises(ValueError, match="two cells are called a_b_c_seed0"):
        dataclasses.replace(study, arms={"a": {}, "a_b": {}}, folds={"b_c": {}, "c": {}}, seeds=(0,))


@pytest.mark.parametrize("name", studies())
def test_named_studies_build(name):
    """Every arm's network can be built, and no two arms are the same."""
    found = studies()[name]
    arms = {cell.arm: cell.recipe for cell in found.cells()}
    for recipe in arms.values():
        recipe.network.build(inputs=6, classes=3)
    assert len({json.dumps(recipe.to_dict(), sort_keys=True) for recipe in arms.values()}) == len(found.arms)
    assert found.about


def test_the_study_of_ears_changes_the_ear_alone():
    """Its arms are the two recipes; network, schedule, optimiser and budget are one, and folds and paths reach both."""
    study = dataclasses.replace(
        find_study("cochlea"), folds={"ann": {"data.split": "speaker=ann"}, "all": {}}, seeds=(3,)
    )
    study = dataclasses.replace(study, recipe=study.recipe.override({"data.path": "recordings", "epochs": 7}))
    cells = {(cell.arm, cell.fold): cell.recipe for cell in study.cells()}
    assert study.reference == "mel" and find_study("cochlea").seeds == (0, 1, 2)
    for arm in ("mel", "cochlea"):
        named = find_recipe(f"fsdd-{arm}").override({"data.path": "recordings", "epochs": 7, "seed": 3})
        assert cells[arm, "all"] == named
        assert cells[arm, "ann"] == named.override({"data.split": "speaker=ann"})
    mel, cochlea = cells["mel", "all"], cells["cochlea", "all"]
    for part in ("network", "delays", "optimizer", "batch_size", "tail", "ema", "readout"):
        assert getattr(mel, part) == getattr(cochlea, part)
    assert mel.frontend.features == cochlea.spikes.binning().channels(700) == 140
    front = mel.frontend.build()  # every band exists, or this warns
    assert front.hop_length / front.sample_rate == cochlea.spikes.binning().dt
