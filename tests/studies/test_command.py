"""``temporal study``, called as a user calls it; what would be trained is only listed."""

import json

import numpy as np
import pytest

from temporal.cli import main
from temporal.datasets import write_events


def run_command(*arguments):
    """The command in this process; its exit status."""
    try:
        return main([str(argument) for argument in arguments]) or 0
    except SystemExit as stop:
        return stop.code or 0


@pytest.fixture
def delays(tones):
    """``temporal study delays`` on two tones, listed."""

    def run(*more):
        return run_command("study", "delays", "--data", tones.recipe.data.path, "--dry-run", *more)

    return run


def test_the_runs_and_the_widths_are_listed(delays, capsys):
    assert delays("--seeds", "0,3") == 0
    said = capsys.readouterr()
    arms = ("none", "random", "axonal", "synaptic", "gru")
    assert said.out.split() == [f"{arm}_seed{seed}" for arm in arms for seed in (0, 3)]
    widths = dict(line.split(":") for line in said.err.strip().splitlines())
    assert list(widths) == ["none", "random", "axonal", "synaptic"]
    assert widths["synaptic"] == " 128 hidden neurons a layer"


def test_options_change_every_arm(delays, capsys):
    assert delays("--recipe", "commands", "--data.split", "official", "--network.max_delay", "30", "--epochs", "3",
                  "--parameters", "9000", "--seeds", "0", "--json") == 0  # fmt: skip
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {cell["epochs"] for cell in cells.values()} == {3} and {cell["name"] for cell in cells.values()} == {
        "commands"
    }
    assert cells["axonal_seed0"]["network"]["max_delay"] == 30
    hidden = cells["none_seed0"]["network"]["hidden"]
    assert hidden * (40 + hidden + 2 + 4) == pytest.approx(9000, rel=0.01)
    assert cells["gru_seed0"]["network"] == {"kind": "gru", "hidden": 256, "layers": 2, "dropout": 0.3}


def test_each_speaker_is_a_fold(delays, capsys):
    assert delays("--folds", "speakers", "--seeds", "0", "--json") == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert len(cells) == 10 and cells["gru_bob_seed0"]["data"]["split"] == "speaker=bob"


def test_of_published_files_only_who_can_be_left_out_is(tmp_path, capsys):
    """The test file has a speaker whom the training file, which is cut, does not have."""
    for part, speakers in (("train", ["4", "5"]), ("test", ["4", "11"])):
        events = [(np.array([0.01, 0.02]), np.array([3, 600]))] * 12
        labels, who = [0, 1] * 6, [name for name in speakers for _ in range(6)]
        write_events(tmp_path / f"shd_{part}.h5", events, labels=labels, classes=["a", "b"], speakers=who)
    command = ("study", "delays", "--recipe", "shd", "--data", tmp_path, "--folds", "speakers", "--seeds", "0")
    assert run_command(*command, "--dry-run") == 0
    keys = capsys.readouterr().out.split()
    assert [key for key in keys if key.startswith("none")] == ["none_4_seed0", "none_5_seed0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "days"], "speakers is right"),
        (["--seeds", "0,x"], "whole numbers with commas"),
        (["--parameters", "10"], "less than arm"),
        (["--parameters", "synapic"], "did you mean 'synaptic'"),
        (["--network.hiden", "3"], "did you mean network.hidden"),
    ],
)
def test_mistakes_are_said(delays, capsys, arguments, said):
    assert delays(*arguments) == 1
    assert said in capsys.readouterr().err


def test_results_that_are_not_there(tones, tmp_path, capsys):
    command = [
        "study",
        "delays",
        "--data",
        tones.recipe.data.path,
        "--out",
        tmp_path / "out",
        "--results",
        tmp_path / "no",
    ]
    assert run_command(*command) == 1
    assert "no such folder of results" in capsys.readouterr().err and not (tmp_path / "out").exists()
