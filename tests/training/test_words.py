"""Speech Commands through a recipe: all words, the task of twelve, and recorded noise."""

import json

import numpy as np
import pytest
import soundfile
import torch

from temporal.datasets import Equalize, Gain, generators_for
from temporal.models import DelayedLIF, Mel
from temporal.training import Augment, Data, Progress, Recipe, evaluate, find_recipe, train
from temporal.training._augment import SoundAugmentation, augmentation_of
from temporal.training.data import gather, open_part

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE = 16000


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Twelve words of ten recordings each, take 0 to test and 1 to validate, and a folder of noise."""
    root, draw = tmp_path_factory.mktemp("words") / "words", np.random.default_rng(0)
    lists = {"testing_list.txt": [], "validation_list.txt": []}
    for number, word in enumerate((*TEN, "tree", "wow")):
        (root / word).mkdir(parents=True)
        for take in range(10):
            time = np.arange(1600) / RATE
            wave = 0.2 * np.sin(2 * np.pi * 200 * (number + 1) * time) + 0.01 * draw.standard_normal(1600)
            name = f"{word}/{take:08x}_nohash_0.wav"
            soundfile.write(root / name, wave, RATE)
            for part, taken in (("testing_list.txt", 0), ("validation_list.txt", 1)):
                if take == taken:
                    lists[part].append(name)
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "tap.wav", 0.1 * draw.standard_normal(3 * RATE), RATE)
    return root


@pytest.fixture
def recipe(words):
    return Recipe(
        name="words",
        data=Data(path=str(words), kind="speech-commands"),
        frontend=Mel(sample_rate=RATE, n_mels=20),
        network=DelayedLIF(hidden=16, layers=1, max_delay=4),
        augment=Augment(shift=0.0, background=0.0, background_share=1.0),
        epochs=1,
        batch_size=16,
    )


def test_all_words(recipe, tmp_path):
    run = train(recipe, tmp_path / "run", device="cpu")
    assert run.result()["total"] == 12 and run.result()["split"] == "lists"
    assert len(json.loads(run.training_files.read_text())) == 96


def test_twelve_classes_train_and_evaluate_again(recipe, tmp_path):
    run = train(recipe.override({"data.words": 12}), tmp_path / "run", device="cpu")
    result = evaluate(run)
    assert result.labels == ["_silence_", "_unknown_", *TEN]
    assert result.to_dict()["predictions"] == run.result()["predictions"]
    assert sorted(result.targets) == [0, 1, *range(2, 12)]  # a tenth of ten words, of either
    trained = set(json.loads(run.training_files.read_text()).values())  # silence is no file
    assert len(trained) == 88 and not any("_silence_" in name for name in trained)


def test_recorded_noise_lies_at_the_stated_ratio(recipe):
    data = open_part(recipe, "train")
    batch = gather(data, [3])
    vary = augmentation_of(recipe, data)
    assert isinstance(vary, SoundAugmentation)
    wave, _, _ = vary.signals(batch, 0)
    noise = (wave[:, :1600] - batch.wave).square().mean().sqrt()
    ratio = 20 * torch.log10(batch.wave.square().mean().sqrt() / noise)
    assert 0 <= ratio <= 20


def test_another_microphone_is_heard_before_noise_is_added(recipe):
    """The recording of the right length, with other levels over frequencies; no draw is taken where nothing is asked for."""
    quiet = recipe.override({"augment.background_share": 0.0})
    data = open_part(quiet, "train")
    batch = gather(data, [3])
    wave, lengths, _ = augmentation_of(quiet, data).signals(batch, 0)
    heard, same, _ = augmentation_of(quiet.override({"augment.equalize": 12.0}), data).signals(batch, 0)
    assert torch.equal(wave, batch.wave) and torch.equal(lengths, same)
    draws = generators_for(quiet.seed, 0, batch.indices)
    Gain(0.0)(batch.wave, draws)  # is drawn first
    assert torch.equal(heard, Equalize(12.0, 16000)(batch.wave, batch.lengths, draws))
    assert not torch.equal(heard, wave)


def test_without_a_folder_of_noise_none_is_mixed_in_and_that_is_said(recipe, words, tmp_path, capsys):
    for word in ("yes", "no"):
        (tmp_path / "two" / word).mkdir(parents=True)
        for path in (words / word).iterdir():
            (tmp_path / "two" / word / path.name).write_bytes(path.read_bytes())
    two = recipe.override({"data.path": str(tmp_path / "two"), "data.split": "random"})
    train(two, tmp_path / "run", device="cpu", progress=Progress())
    assert "no folder of recorded noise beside them" in capsys.readouterr().err


def test_more_words_than_there_are(recipe, tmp_path):
    with pytest.raises(ValueError, match="words=35"):
        train(recipe.override({"data.words": 35}), tmp_path / "run")
    with pytest.raises(ValueError, match="kind speech-commands"):
        train(recipe.override({"data.words": 12, "data.kind": "folder"}), tmp_path / "run")


def test_real_words(recipe, speech_commands, tmp_path):
    """Speech Commands mini: lists that name far more files than there are, five words that no recording tests."""
    run = train(recipe.override({"data.path": str(speech_commands)}), tmp_path / "run", device="cpu")
    assert run.result()["total"] == 51 and len(run.model().labels) == 30


def test_a_duration_makes_all_recordings_alike(recipe, words, tmp_path):
    """As the published front end needs, which reflects at the ends; without one, unequal lengths would be refused."""
    long = recipe.override({"data.duration": 0.15, "frontend.pad_mode": "reflect", "data.words": 12})
    data = open_part(long, "train")
    assert set(data.durations) == {2400} and gather(data, [0, 5]).wave.shape == (2, 2400)
    silence = data.targets.index(data.labels.index("_silence_"))
    assert data[silence].wave.shape == (2400,)
    run = train(long, tmp_path / "run", device="cpu")
    assert evaluate(run, words).total == 120 and run.recipe().data.duration == 0.15
    with pytest.raises(ValueError, match="embedded digits keep their lengths"):
        open_part(find_recipe("digits").override({"data.duration": 1.0}), "train")
