"""Training on spikes: the same loop as for sound, and what it guarantees."""

import dataclasses
import json

import h5py
import pytest
import torch
from safetensors.torch import load_file

import temporal
from temporal.cli import main
from temporal.datasets import SHD, AudioFolder, EventsError, convert_folder
from temporal.streaming import stream_file
from temporal.training import (
    Augment,
    Data,
    Interrupted,
    Recipe,
    Run,
    SpikeAugment,
    Spikes,
    evaluate,
    find_recipe,
    train,
)
from temporal.training._augment import SpikeAugmentation
from temporal.training.data import gather, open_part


def test_a_run_learns_and_leaves_everything(trained_on_spikes, spiking):
    """Three bands of units that hardly overlap: a network that learns has nearly all, guessing has 33 %."""
    assert trained_on_spikes.result()["accuracy"] >= 0.9
    assert trained_on_spikes.result()["total"] == 30
    assert {"recipe.toml", "result.json", "raster.png"} <= {path.name for path in trained_on_spikes.folder.iterdir()}
    assert trained_on_spikes.recipe() == spiking
    model = temporal.load(trained_on_spikes.folder)
    assert model.frontend is None and model.labels == ["low", "mid", "high"] and model.network[0].in_features == 20


@pytest.mark.parametrize("step", [1, 4, 9])
def test_stopped_and_resumed_is_the_same_to_the_last_bit(trained_on_spikes, spiking, tmp_path, stop_after, step):
    """With blends, jitter and everything else that is drawn; 24 training recordings: 3 steps an epoch."""
    with pytest.raises(Interrupted):
        train(spiking, tmp_path / "run", device="cpu", progress=stop_after(step))
    run = train(spiking, tmp_path / "run", resume=True, device="cpu")
    ours, theirs = load_file(run.weights_file), load_file(trained_on_spikes.weights_file)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.result()["predictions"] == trained_on_spikes.result()["predictions"]


def test_what_is_drawn_depends_on_seed_epoch_and_recording_alone(spiking):
    data = open_part(spiking, "train")
    vary = SpikeAugmentation(spiking.augment, data, seed=3)
    spikes, lengths, _ = vary.signals(gather(data, [4, 7, 9]), 5)
    alone, length, _ = vary.signals(gather(data, [7]), 5)
    assert length[0] == lengths[1] and torch.equal(alone[: length[0], 0], spikes[: length[0], 1])
    other, _, _ = vary.signals(gather(data, [7]), 6)
    assert alone.shape != other.shape or not torch.equal(alone, other)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SpikeAugment)])
def test_every_augmentation_does_something_alone(spiking, name):
    data = open_part(spiking, "train")
    value = {"blend": 1.0, "drop": 0.5, "shift": 0.05}.get(name, 3)
    batch = gather(data, list(range(8)))
    changed, lengths, _ = SpikeAugmentation(SpikeAugment(**{name: value}), data, seed=0).signals(batch, 0)
    assert changed.shape != batch.spikes.shape or not torch.equal(changed, batch.spikes)
    same, _, _ = SpikeAugmentation(SpikeAugment(), data, seed=0).signals(batch, 0)
    assert torch.equal(same, batch.spikes) and len(lengths) == 8


def test_binary_spikes_stay_binary(spiking):
    recipe = spiking.override({"spikes.binary": "true"})
    data = open_part(recipe, "train")
    spikes, _, _ = SpikeAugmentation(recipe.augment, data, seed=0).signals(gather(data, list(range(24))), 0)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_the_test_file_is_not_looked_at_while_training(published, spiking, tmp_path):
    """With spikes that cannot be, it is an error when it is evaluated on: after the last epoch, not before."""
    with h5py.File(published / "shd_test.h5", "r+") as file:
        for row in range(len(file["labels"])):
            file["spikes/units"][row] = [701] * len(file["spikes/units"][row])
    recipe = spiking.override({"data.path": str(published), "epochs": 2})
    with pytest.raises(EventsError, match=r"shd_test\.h5: recording 0, spike 0: unit 701"):
        train(recipe, tmp_path / "run", device="cpu")
    run = Run.open(tmp_path / "run")
    assert [row["epoch"] for row in run.metrics()] == [1, 2] and run.result() is None
    trained = set(json.loads(run.training_files.read_text()).values())
    held = set(SHD(published, "validation", validation=0.2).keys)
    assert len(trained) == 24 and len(held) == 6 and not trained & held
    assert all(int(name.rpartition("_")[2]) >= 5 for name in trained | held)


def test_voices_can_be_held_out_to_watch(published, spiking, tmp_path):
    recipe = spiking.override({"data.path": str(published), "data.validation": "speaker=bob", "epochs": 1})
    run = train(recipe, tmp_path / "run", device="cpu")
    assert all("_ann_" in name for name in json.loads(run.training_files.read_text()).values())
    assert "validation_accuracy" in run.metrics()[0] and Run.open(tmp_path / "run").recipe() == recipe


def test_leave_one_speaker_out(spikes, spiking, tmp_path):
    recipe = spiking.override({"data.split": "speaker=bob", "epochs": 1})
    result = train(recipe, tmp_path / "run", device="cpu").result()
    assert {row["speaker"] for row in result["predictions"]} == {"bob"} and result["split"] == "speaker=bob"


def test_evaluate_on_a_file_counts_what_was_trained_on(trained_on_spikes, spikes, published):
    own = evaluate(trained_on_spikes)
    assert own.to_dict()["predictions"] == trained_on_spikes.result()["predictions"]
    result = evaluate(trained_on_spikes, spikes)
    assert result.total == 60 and "24 of 60 recordings were trained on" in result.messages
    elsewhere = evaluate(trained_on_spikes, published / "shd_train.h5")
    assert "24 of 30 recordings were trained on" in elsewhere.messages


@pytest.fixture(scope="module")
def heard(spiking, tones, tmp_path_factory):
    """A recipe for a folder of sound that a cochlea hears first, in this process, into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPORAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("temporal.datasets.conversion._processors", lambda: 1)
        yield spiking.override({"data.kind": "cochlea", "data.path": str(tones)})


def test_a_folder_of_sound_is_heard_once_and_trained_on(heard, tones, tmp_path, monkeypatch):
    """Three tones at different places of the cochlea: a network that learns has nearly all, guessing has 33 %."""
    run = train(heard, tmp_path / "run", device="cpu")
    result = run.result()
    sound = AudioFolder(tones, 8000, "test")
    assert [row["file"] for row in result["predictions"]] == sound.keys and result["split"] == "official"
    assert result["accuracy"] >= 0.9

    def again(*_, **__):
        raise AssertionError("it is in the cache")

    monkeypatch.setattr("temporal.datasets.heard.convert_folder", again)
    assert evaluate(run).to_dict()["predictions"] == result["predictions"]
    everything = evaluate(run, tones)
    assert everything.total == 60 and "24 of 60 recordings were trained on" in everything.messages
    left_out = open_part(heard.override({"data.split": "speaker=bob"}), "test")
    assert left_out.keys == AudioFolder(tones, 8000, "test", "speaker=bob").keys


def test_what_a_folder_that_is_heard_cannot_have(heard, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder of recordings"):
        train(heard.override({"data.path": str(tmp_path / "nowhere")}), tmp_path / "run")
    with pytest.raises(ValueError, match=r"data\.download is of published files"):
        train(heard.override({"data.download": True}), tmp_path / "run")
    with pytest.raises(ValueError, match=r"is for sound; for spikes spikes\.duration"):
        heard.override({"data.duration": 1.0})
    with pytest.raises(ValueError, match="--data FOLDER"):
        train(find_recipe("fsdd-cochlea"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stream_of_sound_says_what_it_needs(trained_on_spikes, tmp_path, capsys):
    with pytest.raises(ValueError, match="was trained on steps, such as spikes, and has no front end"):
        stream_file(temporal.load(trained_on_spikes.folder), tmp_path / "any.wav")
    with pytest.raises(SystemExit):
        main(["stream", str(trained_on_spikes.folder), "--input", str(tmp_path / "any.wav")])
    said = capsys.readouterr().err
    assert "temporal spikes" in said and len(said.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontend": None, "spikes": Spikes()}, "SpikeAugment"),
        ({"spikes": Spikes(), "augment": SpikeAugment()}, "frontend=None is right"),
        ({"augment": SpikeAugment()}, "is for spikes"),
        ({"data": Data(kind="ssc")}, "spikes=Spikes"),
        ({"frontend": None, "spikes": Spikes(), "augment": SpikeAugment()}, "for spikes shd, ssc or cochlea is right"),
        ({"data": Data(kind="shdd")}, "did you mean 'shd'"),
        ({"data": Data(validation="speaker=ann")}, "of spikes"),
        ({"augment": Augment(background_share=2.0)}, r"background_share=2\.0"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(name="mixed", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spikes.preset": "11ms"}, "preset '11ms' is unknown"),
        ({"spikes.dt": -1.0}, "dt=-1.0"),
        ({"data.on_error": "skip"}, "on_error='skip'"),
        ({"data.split": "speaker=eve"}, "no such speaker"),
        ({"data.validation": "speaker=eve"}, "no such speaker"),
        ({"spikes.units": 100}, "units are 0 to 99"),
    ],
)
def test_what_a_file_cannot_give_leaves_no_run(spiking, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(spiking.override(changes), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_binning_of_a_recipe():
    assert Spikes(preset="4ms").binning().at_least == 250
    changed = Spikes(preset="10ms", dt=0.005, merge=10, binary=True, duration=1.0).binning()
    assert (changed.dt, changed.merge, changed.binary, changed.duration) == (0.005, 10, True, 1.0)


@pytest.mark.slow
def test_real_voices_through_the_cochlea_are_learnt(fsdd, tmp_path):
    """Three voices, ten digits: 240 recordings train, 60 of the official test part test. Guessing has 10 %.

    25 epochs give 71.7 % with seed 0 (one run).
    """
    (tmp_path / "voices").mkdir()
    for path in sorted(fsdd.glob("*.wav")):
        _, speaker, index = path.stem.split("_")
        if speaker in ("george", "jackson", "lucas") and int(index) in (0, 1, *range(5, 13)):
            (tmp_path / "voices" / path.name).symlink_to(path)
    convert_folder(tmp_path / "voices", tmp_path / "voices.h5", progress=False)
    recipe = find_recipe("shd").override({"data.path": str(tmp_path / "voices.h5"), "epochs": 25, "batch_size": 32})
    assert train(recipe, tmp_path / "run", device="cpu").result()["accuracy"] > 0.5
