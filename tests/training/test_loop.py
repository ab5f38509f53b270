import dataclasses
import json

import pytest
import soundfile
import torch
from safetensors.torch import load_file

import temporal
from temporal.training import Interrupted, Run, evaluate, train


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
    width: int = 12

    def build(self, inputs, classes):
        return temporal.Sequential(torch.nn.GRU(inputs, self.width), torch.nn.Linear(self.width, classes))


@dataclasses.dataclass(frozen=True)
class TwoDepths:
    def build(self, inputs, classes):
        delayed = temporal.delays.DelayedLinear
        return temporal.Sequential(delayed(inputs, 8, 3), temporal.neurons.LIF(), delayed(8, classes, 5))


def test_a_run_learns_and_leaves_everything(trained, small):
    """Three tones that differ by an octave and more: a network that learns has all or nearly all, guessing has 33 %."""
    assert trained.result()["accuracy"] >= 0.9
    assert trained.result()["total"] == 30
    names = {path.name for path in trained.folder.iterdir()}
    boards = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(boards) == 1
    assert names - boards == {
        "recipe.toml",
        "model.safetensors",
        "metrics.jsonl",
        "checkpoint.pt",
        "previous_checkpoint.pt",
        ".lock",
        "training_files.json",
        "result.json",
        "health.jsonl",
        "sessions.json",
        "learning_curve.png",
        "confusion_matrix.png",
        "raster.png",
    }
    assert trained.recipe() == small
    rows = trained.metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["rounded"] and not rows[0]["rounded"]
    assert rows[-1]["validation_accuracy"] > 0.8


def test_the_trained_model_has_whole_delays_and_its_labels(trained):
    model = temporal.load(trained.folder)
    assert model.labels == ["high", "low", "mid"] and model.sample_rate == 8000 and not model.training
    for layer in model.network:
        if isinstance(layer, temporal.delays.DelayedLinear):
            assert torch.equal(layer.delay, layer.delay.round()) and layer.sigma == 0


@pytest.mark.parametrize("step", [1, 3, 7, 11, 23])
def test_stopped_and_resumed_is_the_same_to_the_last_bit(trained, small, tmp_path, stop_after, step):
    """Anywhere: after the first step, inside an epoch, at the end of one (24 training recordings: 3 steps an epoch)."""
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(small, out, device="cpu", progress=stop_after(step))
    run = train(small, out, resume=True, device="cpu")
    ours, theirs = load_file(run.weights_file), load_file(trained.weights_file)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and ours.keys() == theirs.keys()

    def figures(rows):
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    assert figures(run.metrics()) == figures(trained.metrics())
    assert run.result()["predictions"] == trained.result()["predictions"]


def test_another_seed_is_another_run(trained, small, tmp_path):
    run = train(dataclasses.replace(small, seed=1, epochs=1), tmp_path / "run", device="cpu")
    assert run.metrics()[0]["train_loss"] != trained.metrics()[0]["train_loss"]


def test_resuming_a_finished_run_changes_nothing(trained, small):
    before = {path.name: path.read_bytes() for path in trained.folder.iterdir()}
    train(small, trained.folder, resume=True, device="cpu")
    assert {path.name: path.read_bytes() for path in trained.folder.iterdir()} == before


def test_a_run_folder_that_exists_is_left_alone(trained, small):
    with pytest.raises(FileExistsError, match="--resume"):
        train(small, trained.folder)


def test_a_refused_training_leaves_no_folder(small, tmp_path):
    bad = small.override({"data.path": str(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_says_what_helps(small, tmp_path):
    with pytest.raises(FloatingPointError, match=r"--optimizer\.lr"):
        train(small.override({"optimizer.lr": 1e30}), tmp_path / "run", device="cpu")


def test_a_run_of_another_recipe_is_not_resumed(trained, small):
    with pytest.raises(ValueError, match=r"network.hidden \(there 24, here 12\)"):
        train(small.override({"network.hidden": 12}), trained.folder, resume=True)


def test_a_checkpoint_of_another_network_is_refused(trained, small, tmp_path):
    train(small.override({"network.hidden": 12, "epochs": 1}), tmp_path / "other", device="cpu")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    small.to_toml(mixed / "recipe.toml")
    (mixed / "checkpoint.pt").write_bytes((tmp_path / "other" / "checkpoint.pt").read_bytes())
    with pytest.raises(
        ValueError, match=r"checkpoint.pt: a checkpoint of another recipe: .*hidden \(there 12, here 24\)"
    ):
        train(small, mixed, resume=True)
    stored = torch.load(mixed / "checkpoint.pt", weights_only=True)
    del stored["recipe"]  # as the first checkpoints were
    torch.save(stored, mixed / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint.pt: does not fit the recipe"):
        train(small, mixed, resume=True)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(trained, small, tmp_path, damage):
    broken = tmp_path / "broken"
    broken.mkdir()
    small.to_toml(broken / "recipe.toml")
    whole = trained.checkpoint_file.read_bytes()
    (broken / "checkpoint.pt").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(ValueError, match=r"checkpoint.pt: not a readable checkpoint"):
        train(small, broken, resume=True)


def test_without_validation_all_training_recordings_train(small, tmp_path):
    recipe = small.override({"data.validation": 0.0, "epochs": 1})
    run = train(recipe, tmp_path / "run", device="cpu")
    assert "validation_loss" not in run.metrics()[0]
    assert len(json.loads(run.training_files.read_text())) == 30


def test_evaluate_gives_the_runs_own_test_part(trained):
    result = evaluate(trained.folder)
    stored = trained.result()
    assert result.to_dict()["predictions"] == stored["predictions"]
    assert sum(map(sum, result.confusion)) == result.total == 30


def test_evaluate_counts_what_was_trained_on(trained, tones, small):
    result = evaluate(trained, tones)
    assert result.total == 60
    assert "24 of 60 recordings were trained on" in result.messages
    only_ann = evaluate(trained, tones, split="speaker=ann")
    assert only_ann.total == 30 and set(only_ann.speakers) == {"ann"}


def test_evaluate_resamples_and_says_so(trained, tones, tmp_path):
    import soxr

    for path in sorted(tones.glob("*_ann_[0-3].wav")):
        wave, rate = soundfile.read(path)
        soundfile.write(tmp_path / path.name, soxr.resample(wave, rate, 22050), 22050)
    result = evaluate(trained, tmp_path)
    assert any("12 recordings resampled from 22050 Hz to 8000 Hz" in text for text in result.messages)
    assert result.accuracy >= 0.9


def test_evaluate_refuses_a_class_that_the_run_does_not_know(trained, tones, tmp_path):
    soundfile.write(tmp_path / "other_ann_0.wav", *soundfile.read(next(tones.glob("low_*"))))
    with pytest.raises(ValueError, match="other"):
        evaluate(trained, tmp_path)


def test_a_run_folder_is_recognised(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_metrics_line_that_was_cut_is_left_out(trained, small, tmp_path):
    small.to_toml(tmp_path / "recipe.toml")
    text = trained.metrics_file.read_text()
    (tmp_path / "metrics.jsonl").write_text(text[:-20])
    assert len(Run.open(tmp_path).metrics()) == 7


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_there(small, tmp_path, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=device):
        train(small, tmp_path / "run", device=device)


def test_a_network_of_ones_own_trains_resumes_and_is_handed_in(small, tmp_path, stop_after):
    """A plain GRU: no delays, no spikes, a class that temporal does not know."""
    recipe = dataclasses.replace(small, network=OwnNetwork(), epochs=2)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", device="cpu", progress=stop_after(2))
    run = train(recipe, tmp_path / "run", resume=True, device="cpu")
    assert "sigma" not in run.metrics()[0]
    with pytest.raises(ValueError, match="OwnNetwork"):
        evaluate(run)
    again = evaluate(run, network=OwnNetwork().build(20, 3))
    assert again.to_dict()["predictions"] == run.result()["predictions"]


def test_a_spiking_layer_of_ones_own_keeps_its_delays(small, tmp_path):
    recipe = dataclasses.replace(small, network=TwoDepths(), epochs=1)
    run = train(recipe, tmp_path / "run", device="cpu")
    assert run.metrics()[0]["sigma"] > 0 and not run.metrics()[0]["rounded"]  # 3 steps: over before it rounds
