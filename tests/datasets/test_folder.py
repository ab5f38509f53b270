"""Folders of recordings: the counts that the real sets have, splits that never leak, and errors that say what to do."""

import os
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from temporal.datasets import AudioError, AudioFolder, read_audio
from temporal.datasets._layout import Entry, natural
from temporal.datasets._splits import Splitter

PARTS = ("train", "validation", "test")


def parts(root, **arguments):
    return {split: AudioFolder(root, split=split, **arguments) for split in PARTS}


def write(path, samples=800, value=0.1, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, value), rate)


@pytest.fixture
def flat(tmp_path_factory):
    """Three digits, two speakers, ten recordings each; the value of the samples tells them apart."""
    root = tmp_path_factory.mktemp("flat")
    for digit in ("0", "2", "10"):
        for s, speaker in enumerate(("ann", "bob_lee")):
            for index in range(10):
                write(root / f"{digit}_{speaker}_{index}.wav", 100 + index, value=int(digit) / 20 + s / 100)
    return root


@pytest.fixture
def classes(tmp_path_factory):
    """Class folders with split lists; speakers a to f, two takes each, e validates and f tests."""
    root = tmp_path_factory.mktemp("classes")
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for label in ("zoom in", "نعم", "no"):
        for speaker in "abcdef":
            for take in range(2):
                write(root / label / f"{speaker}_nohash_{take}.wav")
                name = {"e": "validation_list.txt", "f": "testing_list.txt"}.get(speaker)
                lists.get(name, []).append(f"{label}/{speaker}_nohash_{take}.wav")
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    write(root / "_background_noise_" / "dishes.wav", 5000)
    return root


def test_fsdd_official(fsdd):
    data = parts(fsdd, validation=0.1)
    assert {split: len(d) for split, d in data.items()} == {"train": 2025, "validation": 225, "test": 250}
    assert data["train"].by == "official" and data["train"].labels == list("0123456789")
    assert all(int(key[:-4].split("_")[2]) < 5 for key in data["test"].keys)
    assert all(int(key[:-4].split("_")[2]) >= 5 for key in data["train"].keys + data["validation"].keys)
    assert len(AudioFolder(fsdd, validation=0)) == 2250 and len(AudioFolder(fsdd, split="all")) == 2500
    assert set(Counter(data["test"].targets).values()) == {25}
    assert set(data["test"].speakers) == {"george", "jackson", "lucas", "nicolas", "yweweler"}
    assert data["test"].messages == ["250 of 250 recordings resampled from 8000 Hz to 16000 Hz"]


def test_fsdd_speaker(fsdd):
    data = parts(fsdd, by="speaker=lucas")
    assert {split: len(d) for split, d in data.items()} == {"train": 1800, "validation": 200, "test": 500}
    assert set(data["test"].speakers) == {"lucas"}
    assert "lucas" not in set(data["train"].speakers) | set(data["validation"].speakers)


def test_fsdd_items(fsdd):
    data = AudioFolder(fsdd, 8000, split="test")
    item = data[31]
    assert item.key == sorted(data.keys)[31] and item.position == 31
    assert item.label == data.targets[31] == int(item.key[0]) and item.speaker == item.key.split("_")[1]
    samples, rate = soundfile.read(fsdd / item.key, dtype="float32")
    assert rate == 8000 and torch.equal(item.wave, torch.from_numpy(samples))
    assert data.durations[31] == len(samples) and data.messages == []


def test_arabic_lists(arabic):
    data = parts(arabic)
    assert {split: len(d) for split, d in data.items()} == {"train": 3600, "validation": 720, "test": 1440}
    assert len(data["train"].labels) == 40 and "zoom in" in data["train"].labels
    speakers = {split: set(d.speakers) for split, d in data.items()}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 15, "validation": 3, "test": 6}
    assert len(set.union(*speakers.values())) == 24
    for d in data.values():
        assert set(Counter(d.targets).values()) == {len(d) // 40}
    assert set(data["validation"].durations) == {16000}
    wave = data["test"][data["test"].keys.index("zoom in/00000002_NO_03.flac")].wave
    assert wave.shape == (16000,) and wave.abs().max() > 0


def test_speech_commands_mini(speech_commands):
    data = parts(speech_commands)
    assert sum(map(len, data.values())) == len(AudioFolder(speech_commands, split="all")) == 300
    assert len(data["train"].labels) == 30
    speakers = [set(d.speakers) for d in data.values()]
    assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])
    # The release's lists name the whole release: what this cut lacks is counted and said.
    listed = sum(len((speech_commands / f"{n}_list.txt").read_text().split()) for n in ("validation", "testing"))
    assert len(data["test"].missing) == listed - len(data["test"]) - len(data["validation"])
    assert any("named in the split lists are not there" in said for said in data["train"].messages)
    assert len(set(data["train"].durations)) > 1  # uneven lengths


def test_parts_are_disjoint_and_complete(flat, classes):
    cases = [(flat, "official"), (flat, "random"), (flat, "speaker=ann"), (classes, "lists"), (classes, "random")]
    for root, by in cases:
        keys = [key for d in parts(root, by=by, validation=0.2, test=0.2).values() for key in d.keys]
        assert sorted(keys) == AudioFolder(root, split="all").keys and len(set(keys)) == len(keys), by


def entries(draw):
    counts = draw(st.lists(st.integers(4, 30), min_size=1, max_size=5))
    return [Entry(None, f"{c}/{n}.wav", str(c), f"s{n % 3}", n) for c, count in enumerate(counts) for n in range(count)]


@settings(derandomize=True, deadline=None)
@given(st.composite(entries)(), st.floats(0.01, 0.5), st.integers(0, 3), st.randoms(use_true_random=False))
def test_cuts_are_stratified_and_do_not_depend_on_order(tmp_path_factory, files, share, seed, order):
    root = tmp_path_factory.getbasetemp()
    shuffled = list(files)
    order.shuffle(shuffled)
    cut = {}
    for name, given_files in (("sorted", files), ("shuffled", shuffled)):
        splitter = Splitter("Test", root, given_files, by="random", validation=share, test=0.25, seed=seed)
        cut[name] = {split: {e.key for e in splitter.take(split)} for split in PARTS}
    assert cut["sorted"] == cut["shuffled"]
    assert sum(map(len, cut["sorted"].values())) == len(files)
    per_class = Counter(e.label for e in files)
    for label, count in per_class.items():
        tested = sum(key.startswith(f"{label}/") for key in cut["sorted"]["test"])
        validated = sum(key.startswith(f"{label}/") for key in cut["sorted"]["validation"])
        assert tested >= 1 and abs(tested - count / 4) <= 1
        assert validated >= 1 and abs(validated - share * (count - tested)) <= 1


def test_cut_depends_on_the_seed_and_a_count_is_met(flat):
    first, again, other = (AudioFolder(flat, split="validation", validation=9, seed=seed) for seed in (1, 1, 2))
    assert first.keys == again.keys != other.keys
    assert len(first) == len(other) == 9 and set(Counter(first.targets).values()) == {3}


def test_listing_order_does_not_matter(flat, monkeypatch):
    before = AudioFolder(flat, split="validation", validation=0.3).keys
    listing = type(flat).iterdir

    def scrambled(self):
        found = list(listing(self))
        random.Random(5).shuffle(found)
        return iter(found)

    monkeypatch.setattr(type(flat), "iterdir", scrambled)
    assert AudioFolder(flat, split="validation", validation=0.3).keys == before


def test_labels_are_naturally_sorted(flat):
    data = AudioFolder(flat, split="all")
    assert data.labels == ["0", "2", "10"]
    assert [data.labels[t] for t in data.targets] == [key.split("_")[0] for key in data.keys]
    assert sorted(["b10", "b9", "a", "9", "١٠", "b09"], key=natural)[:1] == ["9"]


def test_speakers_with_separators(flat):
    assert set(AudioFolder(flat, split="all").speakers) == {"ann", "bob_lee"}


def test_other_patterns(tmp_path):
    for speaker in ("ann", "bob"):
        for label in ("yes", "no"):
            for n in range(6):
                write(tmp_path / f"{speaker}-{label}-x{n}.wav")
    data = AudioFolder(tmp_path, split="test", pattern="SPEAKER-LABEL-xINDEX.wav")
    assert len(data) == 20 and data.labels == ["no", "yes"] and set(data.speakers) == {"ann", "bob"}
    assert set(AudioFolder(tmp_path, split="test", pattern="ANY-LABEL-xINDEX").speakers) == {""}


def test_a_pattern_gives_speakers_inside_class_folders(tmp_path):
    for label in ("yes", "no"):
        for speaker in ("ann", "bob"):
            for n in range(6):
                write(tmp_path / label / f"{n} {speaker}.wav")
    assert set(AudioFolder(tmp_path, by="random").speakers) == {""}
    data = AudioFolder(tmp_path, split="test", by="speaker=bob", pattern="INDEX SPEAKER")
    assert len(data) == 12 and set(data.speakers) == {"bob"}


def test_class_folders_names_and_background_noise(classes):
    data = parts(classes)
    assert {split: len(d) for split, d in data.items()} == {"train": 24, "validation": 6, "test": 6}
    assert data["train"].labels == ["no", "zoom in", "نعم"]
    assert set(data["test"].speakers) == {"f"} and "zoom in/f_nohash_1.wav" in data["test"].keys
    assert not any("noise" in key for key in AudioFolder(classes, split="all").keys)


def test_lists_with_windows_line_ends_and_decomposed_letters(tmp_path):
    for n in range(4):
        write(tmp_path / "fünf" / f"{n}.wav")
    lines = ["\ufefffu\u0308nf\\1.wav", "", "./fünf/2.wav"]
    (tmp_path / "testing_list.txt").write_bytes("\r\n".join(lines).encode("utf-8"))
    assert AudioFolder(tmp_path, split="test").keys == ["fünf/1.wav", "fünf/2.wav"]


def test_a_missing_validation_list_means_a_cut(classes):
    (classes / "validation_list.txt").unlink()
    data = parts(classes, validation=0.2)
    assert {split: len(d) for split, d in data.items()} == {"train": 24, "validation": 6, "test": 6}


def test_symbolic_links_are_followed(flat, tmp_path_factory):
    root = tmp_path_factory.mktemp("links")
    (root / "yes").mkdir()
    (root / "yes" / "a.wav").symlink_to(flat / "0_ann_0.wav")
    (root / "no").symlink_to(flat, target_is_directory=True)
    data = AudioFolder(root, split="all")
    assert len(data) == 61 and data[-1].key == "yes/a.wav" and len(data[-1].wave) == 100
    (root / "yes" / "gone.wav").symlink_to(root / "nowhere.wav")
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        AudioFolder(root, split="all").durations  # noqa: B018


def test_hidden_and_other_files_are_left_out(flat):
    (flat / "._0_ann_0.wav").write_bytes(b"\0\5\26\7")
    (flat / "README.md").write_text("about")
    (flat / ".git").mkdir()
    assert len(AudioFolder(flat, split="all")) == 60


def test_durations_are_those_of_the_items(tmp_path):
    rng = random.Random(0)
    for n in range(30):
        write(tmp_path / "a" / f"{n}.wav", rng.randrange(20, 999), rate=rng.choice([8000, 11025, 16000, 44100]))
    data = AudioFolder(tmp_path, split="all")
    assert data.durations == [len(item.wave) for item in data]
    assert len(data.messages) == 3 and all("resampled from" in said for said in data.messages)


def test_a_duration_cuts_and_fills_up(tmp_path):
    for n, samples in enumerate((100, 800, 900)):
        write(tmp_path / "a" / f"{n}.wav", samples, rate=8000)
    data, whole = (AudioFolder(tmp_path, 8000, "all", duration=duration) for duration in (0.1, None))
    assert data.durations == [800] * 3 == [len(item.wave) for item in data]
    assert torch.equal(data[0].wave[:100], whole[0].wave) and not data[0].wave[100:].any()
    assert torch.equal(data[1].wave, whole[1].wave) and torch.equal(data[2].wave, whole[2].wave[:800])
    assert data.messages == ["1 of 3 recordings are longer than 0.1 s, and cut"] and whole.messages == []
    assert AudioFolder(tmp_path, 16000, "all", duration=0.1).durations == [1600] * 3
    for wrong in (0, -1.0, True, "1", float("nan"), float("inf"), 1e-5):
        with pytest.raises(ValueError, match=r"AudioFolder: duration=.* must be a number of seconds"):
            AudioFolder(tmp_path, 8000, "all", duration=wrong)


def test_stereo_is_said_once(tmp_path):
    for n in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "a" / f"{n}.wav", np.stack([np.ones(50), np.zeros(50)], 1), 16000, subtype="FLOAT")
    data = AudioFolder(tmp_path, split="all")
    assert data.messages == ["3 of 3 recordings: 2 channels averaged to one"]
    assert torch.equal(data[0].wave, torch.full((50,), 0.5))


def test_the_cache_gives_the_same_and_keeps_its_bound(flat, monkeypatch):
    plain, cached = AudioFolder(flat, split="all"), AudioFolder(flat, split="all", cache=4 * 1000)
    for _ in range(2):
        for a, b in zip(plain, cached, strict=True):
            assert torch.equal(a.wave, b.wave)
            b.wave.zero_()  # a caller's own copy
    assert 0 < sum(wave.numel() for wave in cached._cache.values()) <= 1000
    whole = AudioFolder(flat, split="all", cache=True)
    items = list(whole)
    monkeypatch.setattr("temporal.datasets.folder.read_audio", None)
    assert all(torch.equal(a.wave, b.wave) for a, b in zip(items, whole, strict=True))


def test_indexing(flat):
    data = AudioFolder(flat, split="all")
    assert data[-1].key == data[59].key == data[np.int64(59)].key and data[-1].position == 59
    for index in (60, -61):
        with pytest.raises(IndexError):
            data[index]
    with pytest.raises(TypeError):
        data["0"]


def test_pickles_and_workers(flat):
    data = AudioFolder(flat, split="all")
    copy = pickle.loads(pickle.dumps(data))
    assert copy.keys == data.keys and torch.equal(copy[7].wave, data[7].wave)
    loader = DataLoader(data, batch_size=None, num_workers=1)
    assert [item.key for item in loader] == data.keys


def test_an_error_survives_the_way_out_of_a_worker(flat):
    (flat / "0_ann_0.wav").write_bytes(b"")
    with pytest.raises(AudioError) as caught:
        AudioFolder(flat, split="all")[0]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert str(AudioError(str(caught.value))) == str(caught.value)  # how torch's loader makes it anew, traceback added


def spoil(root):
    """One bad file of each kind: header and content, all of the training part."""
    (root / "0_ann_5.wav").write_bytes(b"")
    whole = (root / "0_ann_6.wav").read_bytes()
    (root / "0_ann_6.wav").write_bytes(whole[:-9])
    soundfile.write(root / "2_ann_5.wav", np.array([0, np.nan]), 16000, subtype="FLOAT")
    (root / "noname.wav").write_bytes(whole)
    return {"0_ann_5.wav": "is empty", "0_ann_6.wav": "is cut off", "2_ann_5.wav": "NaN", "noname.wav": "does not fit"}


def test_bad_files_are_skipped_and_counted_on_request(flat):
    clean = AudioFolder(flat, validation=0)
    bad = spoil(flat)
    data = AudioFolder(flat, validation=0, on_error="skip")
    assert data.keys == [key for key in clean.keys if key not in bad]
    assert {path.name for path, _ in data.skipped} == set(bad)
    assert all(bad[path.name] in reason and str(flat) not in reason for path, reason in data.skipped)
    assert data.durations == [len(item.wave) for item in data]
    assert "4 skipped" in repr(data) and any("4 files skipped" in said for said in data.messages)


def test_a_file_too_short_for_the_rate_is_skipped(flat):
    soundfile.write(flat / "0_ann_5.wav", np.ones(1), 48000)
    data = AudioFolder(flat, validation=0, on_error="skip")
    assert len(data) == 29 and data.skipped == [(flat / "0_ann_5.wav", "1 samples at 48000 Hz are none at 16000 Hz")]


def test_bad_files_raise_by_default(flat):
    spoil(flat)
    with pytest.raises(ValueError, match=r"noname\.wav: the name does not fit.*on_error='skip'"):
        AudioFolder(flat)
    (flat / "noname.wav").unlink()
    data = AudioFolder(flat, validation=0)
    for name in ("0_ann_5.wav", "0_ann_6.wav", "2_ann_5.wav"):
        with pytest.raises(AudioError, match=rf"{name}: .*on_error='skip'"):
            data[data.keys.index(name)]


def test_a_class_of_bad_files_only(flat):
    for file in flat.glob("2_*"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="no good recording of class 2 is left; 10 files are bad"):
        AudioFolder(flat, validation=0, on_error="skip")


def test_given_labels_number_the_classes(flat):
    data = AudioFolder(flat, split="all", labels=["10", "one more", "2", "0"])
    assert {data.labels[t] for t in data.targets} == {"0", "2", "10"} and data[0].label == 3
    with pytest.raises(ValueError, match="holds class '10', which is not among labels"):
        AudioFolder(flat, labels=["0", "2"])
    with pytest.raises(ValueError, match="names a class twice"):
        AudioFolder(flat, labels=["0", "2", "10", "2"])


def test_repr(flat):
    assert repr(AudioFolder(flat, validation=0)).endswith(
        "by='official': 30 recordings, 3 labels, 2 speakers, 16000 Hz)"
    )


WRONG = {
    "split": ({"split": "dev"}, "AudioFolder: split='dev' is unknown; known: train, validation, test, all"),
    "rule": (
        {"by": "fold"},
        "AudioFolder: by='fold' is unknown; known: auto, official, lists, hash, random, speaker=NAME",
    ),
    "speaker": ({"by": "speaker=eve"}, "no such speaker; speakers: ann, bob_lee"),
    "lists": ({"by": "lists"}, "has neither validation_list.txt nor testing_list.txt"),
    "on_error": ({"on_error": "ignore"}, "on_error='ignore' must be 'raise' or 'skip'"),
    "rate": ({"sample_rate": 0}, "AudioFolder: sample_rate=0 must be a positive integer"),
    "validation": ({"validation": 1.0}, "validation=1.0 must be a share"),
    "negative": ({"validation": -1}, "validation=-1 must be a share"),
    "test": ({"by": "random", "test": True}, "test=True must be a share"),
    "few": ({"validation": 2}, "validation=2 cannot be cut from 30 recordings of 3 classes"),
    "many": ({"validation": 30}, "validation=30 cannot be cut"),
    "none": ({"validation": 0, "split": "validation"}, "split='validation' by='official' holds no recording"),
    "pattern": ({"pattern": "SPEAKER.LABEL"}, "no file fits pattern='SPEAKER.LABEL', the first is 0_ann_0.wav"),
    "fields": ({"pattern": "LABEL_LABEL"}, "LABEL comes twice"),
    "unparted": ({"pattern": "LABELSPEAKER"}, "without a character that parts it"),
    "labels": ({"pattern": "LABEL_INDEX", "on_error": "skip"}, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(flat, name):
    arguments, message = WRONG[name]
    if message is None:
        data = AudioFolder(flat, split="all", **arguments)
        assert set(data.speakers) == {""}
        return
    with pytest.raises(ValueError) as caught:
        AudioFolder(flat, **arguments)
    assert message in str(caught.value)


def test_wrong_folders(tmp_path, flat, classes):
    with pytest.raises(FileNotFoundError, match=r"AudioFolder: root='.*nowhere' does not exist"):
        AudioFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"0_ann_0\.wav' is a file"):
        AudioFolder(flat / "0_ann_0.wav")
    write(classes / "0_ann_0.wav")
    with pytest.raises(ValueError, match=r"holds class folders \(no, zoom in, .*\) and recordings beside them"):
        AudioFolder(classes)


def test_folders_without_recordings(tmp_path):
    with pytest.raises(ValueError, match="holds no WAV or FLAC file and no class folder; known layouts"):
        AudioFolder(tmp_path)
    write(tmp_path / "yes" / "a.wav")
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="no: a class folder without a WAV or FLAC file"):
        AudioFolder(tmp_path, split="all")
    with pytest.raises(ValueError, match="no WAV or FLAC file lies in this folder"):
        AudioFolder(tmp_path, pattern="LABEL_INDEX")


def test_neither_lists_nor_indices(tmp_path):
    for label in ("yes", "no"):
        for n in range(5):
            write(tmp_path / label / f"take{n}.wav")
    assert len(AudioFolder(tmp_path, split="all")) == 10
    with pytest.raises(ValueError, match=r"neither split lists .* by='random' for a seeded random split"):
        AudioFolder(tmp_path)
    with pytest.raises(ValueError, match="by='official' needs split lists or names with an INDEX"):
        AudioFolder(tmp_path, by="official")
    with pytest.raises(ValueError, match="the file names give no speaker"):
        AudioFolder(tmp_path, by="speaker=ann")


def test_the_folder_above_a_flat_one(flat, tmp_path_factory):
    root = tmp_path_factory.mktemp("above")
    (root / "recordings").symlink_to(flat, target_is_directory=True)
    with pytest.raises(ValueError, match=rf"so give {root / 'recordings'} itself"):
        AudioFolder(root)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("testing_list.txt", ["no/x.wav", "no/y.wav"], "names 2 files and none is there, the first is no/x.wav"),
        ("testing_list.txt", ["no/f_nohash_0.flac"], "names no/f_nohash_0.flac, but the file is no/f_nohash_0.wav"),
        ("testing_list.txt", ["no/e_nohash_0.wav"], "is in validation_list.txt and in testing_list.txt"),
        ("testing_list.txt", [], "split='test' by='lists' holds no recording"),
    ],
)
def test_lists_that_do_not_fit(classes, name, lines, message):
    (classes / name).write_text("\n".join(lines))
    with pytest.raises(ValueError) as caught:
        AudioFolder(classes, split="test")
    assert message in str(caught.value)


def test_a_list_that_is_not_text(classes):
    (classes / "testing_list.txt").write_bytes(b"no/\xff\xfe.wav")
    with pytest.raises(ValueError, match=r"testing_list\.txt: is not UTF-8 text"):
        AudioFolder(classes)


def test_missing_files_of_a_list_are_counted(classes):
    with open(classes / "testing_list.txt", "a") as file:
        file.write("no/gone_nohash_0.wav\n")
    data = AudioFolder(classes, split="test")
    assert data.missing == ["no/gone_nohash_0.wav"] and len(data) == 6
    assert data.messages == ["1 files named in the split lists are not there (no/gone_nohash_0.wav, ...)"]


def test_a_class_that_a_part_lacks(classes):
    for file in (classes / "no").glob("f_*"):
        os.remove(file)
    assert any(
        "test holds no recording of 1 of the classes: no" in m for m in AudioFolder(classes, split="test").messages
    )
    for file in (classes / "no").glob("[a-d]_*"):
        os.remove(file)
    with pytest.raises(ValueError, match="train holds no recording of 1 of the classes: no"):
        AudioFolder(classes)


def test_official_rule_needs_every_class_on_both_sides(flat):
    for file in flat.glob("2_*_[0-4].wav"):
        file.unlink()
    with pytest.raises(ValueError, match="test holds no recording of 1 of the classes: 2"):
        AudioFolder(flat, split="test")
    for file in flat.glob("0_*_[5-9].wav"):
        file.unlink()
    with pytest.raises(ValueError, match="train holds no recording of 1 of the classes: 0"):
        AudioFolder(flat, validation=0)


def test_waves_equal_read_audio(flat):
    data = AudioFolder(flat, 8000, split="all")
    assert torch.equal(data[3].wave, read_audio(flat / data.keys[3], 8000).wave)
