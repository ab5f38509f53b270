"""The command, called as a user calls it: what it prints where, and what it says of mistakes."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from temporal.cli import main
from temporal.training import find_recipe


def run_command(*arguments):
    """The command in this process; its exit status."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture
def recipe_file(small, tmp_path):
    small.to_toml(tmp_path / "tones.toml")
    return tmp_path / "tones.toml"


def test_train_evaluate_and_stream_agree(recipe_file, tones, tmp_path, capsys):
    out = tmp_path / "run"
    changes = ("--optimizer.lr", "0.03", "--epochs", "2")
    assert run_command("train", recipe_file, "--out", out, "--device", "cpu", *changes) == 0
    said = capsys.readouterr()
    assert said.out.startswith("accuracy: ") and said.out.endswith(" of 30)\n")
    assert "epoch   2/2" in said.err and f"run folder: {out}" in said.err.replace("\n", "")
    assert "lr = 0.03" in (out / "recipe.toml").read_text()

    assert run_command("evaluate", out) == 0
    told = capsys.readouterr()
    assert told.out == said.out
    words = " ".join(told.err.split())
    assert "protocol: split “official”; 2 epochs, fixed beforehand; the last epoch's weights" in words
    assert "speakers: heard in training" in words and "dense, streamed and event-driven, 8 recordings" in words
    assert run_command("evaluate", out, "--engines", "0") == 0
    assert "event-driven" not in capsys.readouterr().err
    assert run_command("evaluate", out, "--engines", "-1") == 1
    assert "engines=-1; a number of recordings" in capsys.readouterr().err

    assert run_command("evaluate", out, "--data", tones, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocol"].startswith(f"protocol: all of {tones}; 2 epochs") and told["engines"]["recordings"] == 8
    assert told["speakers"]["seen"]["total"] == 60 and "unseen" not in told["speakers"]
    rows = {row["file"]: row for row in told["predictions"]}
    assert len(rows) == 60
    for name in ("low_ann_0.wav", "mid_bob_3.wav", "high_ann_7.wav"):
        assert run_command("stream", out, "--input", tones / name) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"file: {rows[name]['prediction']} {rows[name]['score']:.6f}"


@pytest.mark.parametrize("kind", ["sound", "spikes"])
def test_the_engines_of_a_run_agree(kind, request, capsys):
    run = request.getfixturevalue({"sound": "trained", "spikes": "trained_on_spikes"}[kind])
    main(["evaluate", str(getattr(run, "folder", run)), "--engines", "4", "--json"])
    printed = capsys.readouterr()
    engines = json.loads(printed.out)["engines"]
    assert engines["recordings"] == 4 and "on events" in printed.err
    assert engines["streamed"] < 1e-9 and engines["streamed_labels"] == 0
    assert engines["event"] < 0.2  # float32: a spike on the threshold may flip
    assert engines["streamed_logits"] < 1e-8 and engines["event"] <= engines["event_logits"]


def test_stream_gives_events_with_times(trained, tones, tmp_path, capsys):
    """A tone after a second of silence is heard where it is; in chunks of any length."""
    wave, rate = soundfile.read(tones / "mid_ann_1.wav")
    file = tmp_path / "long.wav"
    soundfile.write(file, np.concatenate([np.zeros(rate), np.tile(wave, 4), np.zeros(rate)]), rate)
    heard = []
    for chunk in ("0.02", "0.333"):
        assert run_command("stream", trained.folder, "--input", file, "--chunk", chunk, "--json") == 0
        heard.append(json.loads(capsys.readouterr().out))
    # The sums of a product are ordered by its shape, so scores may differ in their last digits (float64).
    scores = [[event.pop("score") for event in told["events"]] + [told.pop("score")] for told in heard]
    assert heard[0] == heard[1]
    assert scores[0] == pytest.approx(scores[1], rel=0, abs=1e-12)
    assert any(e["label"] == "mid" and 0.9 < e["end"] < 1 + 4 * len(wave) / rate + 1 for e in heard[0]["events"])


def test_stream_resamples_and_mixes_and_says_so(trained, tones, tmp_path, capsys):
    import soxr

    wave, rate = soundfile.read(tones / "mid_ann_1.wav")
    stereo = np.stack([soxr.resample(wave, rate, 16000)] * 2, axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, 16000)
    assert run_command("stream", trained.folder, "--input", tmp_path / "a.flac") == 0
    said = capsys.readouterr()
    assert "resampled from 16000 Hz to 8000 Hz" in said.err and "2 channels averaged to one" in said.err
    assert "file: mid" in said.out


def test_dry_run_prints_the_whole_recipe_and_trains_nothing(recipe_file, tmp_path, capsys):
    assert run_command("train", recipe_file, "--epochs", "3", "--out", tmp_path / "run", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "epochs = 3" in said and "# steps:      3 an epoch of 8 recordings each, 9 in 3 epochs" in said
    assert not (tmp_path / "run").exists()
    (tmp_path / "saved.toml").write_text(said)  # the plan is a comment in it
    assert find_recipe(str(tmp_path / "saved.toml")) == find_recipe(str(recipe_file)).override({"epochs": 3})

    assert run_command("train", recipe_file, "--dry-run", "--json") == 0
    stored = json.loads(capsys.readouterr().out)
    assert stored["epochs"] == 8 and stored["plan"]["steps"] == 24 and stored["plan"]["hours"] > 0


def test_recipes_are_listed(capsys):
    assert run_command("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("digits", "fsdd", "commands", "commands-small", "shd", "ssc", "gsc", "fsdd-cochlea", "fsdd-mel"),
        *("shd-published", "ssc-published", "gsc-published"),
    ]
    assert run_command("recipes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["digits"]["network"]["kind"] == "delayed-lif"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digit"], "did you mean 'digits'"),
        (["train", "nowhere.toml"], "no such recipe file"),
        (["train", "digits", "--network.hiden", "3"], "network.hidden"),
        (["train", "digits", "--epoch", "3"], "epochs"),
        (["train", "digits", "--epochs", "0"], "at least 1"),
        (["train", "digits", "--network.hidden"], "needs a value"),
        (["train", "digits", "stray"], "unexpected argument 'stray'"),
        (["train", "digits", "--data", "nowhere"], "nowhere"),
        (["train", "commands"], "--data FOLDER"),
        (["train", "shd"], "--data PATH, a folder with the published files or one file"),
        (["train", "shd", "--data", "nowhere"], "holds no shd_train.h5"),
        (["train", "shd", "--data", "nowhere", "--dry-run"], "holds no shd_train.h5"),
        (["train", "shd", "--spikes.preset", "11ms"], "--data PATH"),
        (["train", "shd", "--augment.drop", "2"], "augment.drop=2.0; 0..1 is right"),
        (["train", "gsc", "--data.kind", "shd"], "give frontend=None, spikes=Spikes()"),
        (["spikes", "nowhere", "x.h5"], "nowhere"),
        (["evaluate", "nowhere"], "no such run folder"),
        (["stream", "nowhere", "--input", "x.wav"], "no such run folder"),
        (["train", "digits", "--resume", "--out", "nowhere"], "no such run folder"),
    ],
)
def test_a_mistake_is_one_or_two_lines_and_status_1(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(*arguments) == 1
    said = capsys.readouterr()
    assert message in said.err and said.out == ""
    assert len(said.err.strip().splitlines()) <= 2
    assert not any(tmp_path.iterdir()), "a mistake must leave nothing behind"


def test_mistakes_with_a_run(trained, recipe_file, tones, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in [
        (["train", recipe_file, "--out", trained.folder], "exists already"),
        (["train", "digits", "--resume", "--out", trained.folder], "a run of recipe 'tones', not of 'digits'"),
        (["train", recipe_file, "--resume", "--out", trained.folder, "--epochs", "99"], "epochs is 8, not 99"),
        (["train", recipe_file, "--resume"], "no unfinished run"),
        (["evaluate", trained.folder, "--data", tmp_path / "nowhere"], "nowhere"),
        (["evaluate", trained.folder, "--data", tones, "--split", "speaker=eve"], "eve"),
        (["stream", trained.folder, "--input", tmp_path / "nowhere.wav"], "nowhere.wav"),
    ]:
        assert run_command(*arguments) == 1
        assert message in capsys.readouterr().err


def test_unknown_command_and_option_name_the_nearest(capsys):
    for arguments, message in [(["trian"], '"train"'), (["evaluate", "x", "--jsn"], "--json"), (["evaluate"], "RUN")]:
        assert run_command(*arguments) == 2
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) <= 2


def test_help_loads_no_torch():
    for command in (["--help"], ["train", "--help"], ["recipes"]):
        code = f"import sys; from temporal.cli import main\ntry: main({command!r})\nexcept SystemExit: pass\n"
        code += "assert 'torch' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_ctrl_c_stops_cleanly_and_resumes(recipe_file, tmp_path, trained, capsys):
    """In a process of its own, as on a terminal: SIGINT during training, then --resume; equal to the uninterrupted run."""
    import signal

    command = [sys.executable, "-m", "temporal", "train", str(recipe_file), "--out", str(tmp_path / "run")]
    with subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch   2/8" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "stopped in epoch" in rest and "--resume" in rest and "Traceback" not in rest
    assert run_command("train", recipe_file, "--out", tmp_path / "run", "--resume", "--device", "cpu") == 0
    ours = json.loads((tmp_path / "run" / "result.json").read_text())
    assert ours["predictions"] == trained.result()["predictions"]


def test_resume_without_a_folder_takes_the_newest_unfinished_run(
    recipe_file, small, trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.folder, "runs/tones-finished")
    for name in ("tones-older", "tones-newer"):
        (tmp_path / "runs" / name).mkdir()
        small.override({"epochs": 1}).to_toml(tmp_path / "runs" / name / "recipe.toml")
    os.utime("runs/tones-older", (1, 1))
    assert run_command("train", recipe_file, "--resume", "--device", "cpu") == 0
    assert "run folder: runs/tones-newer" in capsys.readouterr().err
    assert not (tmp_path / "runs/tones-older/result.json").exists()
