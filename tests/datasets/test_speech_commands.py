"""Speech Commands: the release's own lists against its hash rule, the twelve classes, silence that is always the same."""

import io
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from temporal.datasets import AudioFolder, BucketSampler, SpeechCommands, _sources, collate
from temporal.datasets._layout import Entry
from temporal.datasets._splits import Splitter
from temporal.datasets.speech_commands import _RELEASES, _TEN

PARTS = ("train", "validation", "test")
OTHERS = ("tree", "wow", "bed")


def write(path, wave, rate=16000, **form):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **form)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A small v0.02: the ten words and three others, 30 speakers each, background noise, no lists."""
    root = tmp_path_factory.mktemp("speech commands")
    for w, word in enumerate((*_TEN, *OTHERS)):
        for speaker in range(30):
            write(root / word / f"{speaker * 7919:08x}_nohash_0.wav", np.full(800 + w, 0.01 * w))
    draw = np.random.default_rng(0)
    for name, seconds in (("dishes", 3), ("pink noise", 5)):
        write(root / "_background_noise_" / f"{name}.wav", draw.normal(0, 0.1, 16000 * seconds).clip(-1, 1))
    (root / "_background_noise_" / "README.md").write_text("noise")
    return root


def parts(root, **arguments):
    return {split: SpeechCommands(root, split=split, **arguments) for split in PARTS}


def test_the_lists_of_the_release_follow_the_rule(speech_commands):
    """The lists name all 13,838 recordings of version 0.01 that validate or test; the names are enough."""
    keys = {
        part: (speech_commands / name).read_text().split()
        for part, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt"))
    }
    listed = {key for part in keys.values() for key in part}
    files = [path.relative_to(speech_commands).as_posix() for path in speech_commands.glob("*/*.wav")]
    everything = sorted(listed | set(files))
    entries = [Entry(Path(key), key, key.partition("/")[0]) for key in everything]
    splitter = Splitter("Test", speech_commands, entries, by="hash", validation=0.1, test=0.1, seed=0)
    for part in ("validation", "test"):
        assert [entry.key for entry in splitter.take(part)] == sorted(keys[part])
    assert len(listed) > 13_000 and {e.key for e in splitter.take("train")} == set(files) - listed


def test_the_mini_release(speech_commands):
    data = parts(speech_commands, words=30)
    assert data["train"].by == "lists" and len(data["train"].labels) == 30
    plain = {split: AudioFolder(speech_commands, split=split) for split in PARTS}
    for split in PARTS:
        assert data[split].keys == plain[split].keys and data[split].targets == plain[split].targets
        assert torch.equal(data[split][0].wave, plain[split][0].wave)
    by_hash = parts(speech_commands, by="hash")
    assert {split: d.keys for split, d in by_hash.items()} == {split: d.keys for split, d in data.items()}
    with pytest.raises(
        ValueError, match=r"words=35, but .* lacks backward, follow, forward, learn, visual; words=None"
    ):
        SpeechCommands(speech_commands, words=35)


def test_twelve_classes_of_real_recordings(speech_commands):
    data = parts(speech_commands, words=12, silence_from="zeros")
    for split, part in data.items():
        count = Counter(part.labels[target] for target in part.targets)
        words = sum(count[word] for word in _TEN)
        assert count["_silence_"] == count["_unknown_"] == -(-words // 10), split
        assert all(part[at].label == target for at, target in enumerate(part.targets))
    assert data["train"].labels == ["_silence_", "_unknown_", *_TEN]


def test_arabic_words_through_the_same_loader(arabic):
    data = parts(arabic)
    assert {split: len(d) for split, d in data.items()} == {"train": 3600, "validation": 720, "test": 1440}
    assert data["test"].by == "lists" and data["test"][0].wave.shape == (16000,) and len(data["test"].labels) == 40


def test_without_lists_the_hash_rules(release):
    data = parts(release)
    assert data["train"].by == "hash"
    speakers = {split: set(part.speakers) for split, part in data.items()}
    assert not speakers["train"] & (speakers["validation"] | speakers["test"])
    assert sum(map(len, data.values())) == 13 * 30
    more = SpeechCommands(release, split="test", test=0.4)
    assert set(data["test"].keys) < set(more.keys)  # a larger share keeps what was there
    with pytest.raises(ValueError, match="by='hash' takes validation=20 as a share"):
        SpeechCommands(release, validation=20)


def test_silence_and_unknown(release):
    data = parts(release, words=12)
    for split, part in data.items():
        words = [at for at, key in enumerate(part.keys) if key.partition("/")[0] in _TEN]
        unknown = [at for at, key in enumerate(part.keys) if key.partition("/")[0] in OTHERS]
        silence = [at for at, key in enumerate(part.keys) if key.startswith(f"_silence_/{split}/")]
        assert len(unknown) == len(silence) == -(-len(words) // 10) > 0
        assert len(words) + len(unknown) + len(silence) == len(part)
        assert {part.targets[at] for at in silence} == {0} and {part.targets[at] for at in unknown} == {1}
        assert part.durations == [len(item.wave) for item in part]
        for at in silence:
            assert part[at].wave.shape == (16000,) and part[at].speaker == ""
            assert torch.equal(part[at].wave, part[at].wave) and part[at].wave.abs().max() > 0
        everything = {key for key in SpeechCommands(release, split=split).keys if key.partition("/")[0] in OTHERS}
        assert {part.keys[at] for at in unknown} <= everything
    waves = [data["train"][at].wave for at, target in enumerate(data["train"].targets) if target == 0]
    levels = torch.stack([wave.std() for wave in waves])
    assert len({wave.sum().item() for wave in waves}) == len(waves) and levels.min() < 0.4 * levels.max() <= 0.04 * 1.05


def test_silence_and_unknown_repeat_and_vary_with_the_seed(release):
    first, again, other = (SpeechCommands(release, words=12, seed=seed) for seed in (0, 0, 1))
    assert first.keys == again.keys and all(torch.equal(a.wave, b.wave) for a, b in zip(first, again, strict=True))
    assert {k for k in first.keys if "silence" not in k} != {k for k in other.keys if "silence" not in k}
    assert not torch.equal(first[-1].wave, other[-1].wave)
    copy = pickle.loads(pickle.dumps(first))
    assert torch.equal(copy[-1].wave, first[-1].wave)


def test_shares(release):
    none = SpeechCommands(release, words=12, silence=0, unknown=0)
    assert set(none.targets) == set(range(2, 12))
    much = SpeechCommands(release, split="test", words=("yes", "no"), silence=1.0, unknown=20.0)
    count = Counter(much.labels[target] for target in much.targets)
    assert much.labels == ["_silence_", "_unknown_", "yes", "no"]
    assert count["_silence_"] == count["yes"] + count["no"]
    assert any("recordings of other words are all there are" in said for said in much.messages)


def test_silence_needs_noise(release, tmp_path):
    root = tmp_path / "quiet"
    shutil.copytree(release, root, ignore=shutil.ignore_patterns("_background_noise_"))
    with pytest.raises(ValueError, match="has no _background_noise_ folder with recordings to make silence from"):
        SpeechCommands(root, words=12)
    zeros = SpeechCommands(root, words=12, silence_from="zeros")
    assert not zeros[-1].wave.any() and zeros.targets[-1] == 0 and zeros.background == []
    assert len(SpeechCommands(root, words=12, silence=0)) > 0


def test_background(release):
    waves = SpeechCommands(release, 8000).background
    assert [len(wave) for wave in waves] == [24000, 40000]


def test_bad_files_are_skipped_in_the_task_too(release, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(release, root)
    data = SpeechCommands(root, words=12)
    word = next(key for key in data.keys if key.startswith("yes/"))
    (root / word).write_bytes(b"RIFF")
    skipping = SpeechCommands(root, words=12, on_error="skip")
    assert word not in skipping.keys and len(skipping.skipped) == 1
    assert skipping.durations == [len(item.wave) for item in skipping]


def test_a_loader(release):
    data = SpeechCommands(release, words=12, split="test")
    sampler = BucketSampler(data.durations, 8)
    batches = list(DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=1))
    assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(len(data)))
    for batch in batches:
        for b, at in enumerate(batch.indices.tolist()):
            assert torch.equal(batch.wave[b, : batch.lengths[b]], data[at].wave)


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 0), ("DOUBLE", 2**-24)]
)
def test_every_kind_of_wav(tmp_path, subtype, error):
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, 500).astype(np.float32)
    for take in range(20):
        write(tmp_path / "zwei Wörter" / f"نعم {take}_nohash_0.wav", wave, subtype=subtype)
        write(tmp_path / "да" / f"{take}_nohash_0.wav", wave[:1], subtype=subtype)  # shorter than any frame
    data = SpeechCommands(tmp_path, split="all")
    assert data.labels == ["zwei Wörter", "да"] and data.speakers[0].startswith("نعم ")
    np.testing.assert_allclose(data[0].wave.numpy(), wave, rtol=0, atol=error)
    assert data[-1].wave.shape == (1,) and data.durations[-1] == 1


def test_torchaudio_folders_and_links_out_of_the_folder(release, tmp_path):
    (tmp_path / "SpeechCommands").mkdir()
    (tmp_path / "SpeechCommands" / "speech_commands_v0.02").symlink_to(release, target_is_directory=True)
    data = SpeechCommands(tmp_path, split="test")
    assert data.keys == SpeechCommands(release, split="test").keys and len(data[0].wave)


def test_a_download(release, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(release, ".")
    (tmp_path / "speech_commands_v0.02.tar.gz").write_bytes(buffer.getvalue())
    source = _sources.SPEECH_COMMANDS["0.02"]
    with pytest.raises(FileNotFoundError, match=r"unpack speech_commands_v0\.02\.tar\.gz there \(from https://storage"):
        SpeechCommands(tmp_path / "words")
    with pytest.raises(OSError, match="is not the published file"):
        SpeechCommands(tmp_path / "words", download=True)
    unchecked = _sources.Source(source.name, source.packed, source.hosts, None, source.page)
    monkeypatch.setitem(_sources.SPEECH_COMMANDS, "0.02", unchecked)
    data = SpeechCommands(tmp_path / "words", split="all", download=True)
    assert len(data) == 13 * 30 and len(data.background) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"words": 20}, "words=20 must be 12, 30, 35, several words, or None"),
        ({"words": "yes"}, "words='yes' must be 12, 30, 35, several words, or None"),
        ({"words": ()}, "words=() must be one word at least, each once"),
        ({"words": ("yes", "yes")}, "words=('yes', 'yes') must be one word at least, each once"),
        ({"words": ("yes", "ja")}, "words=('yes', 'ja'), but {root} lacks ja; words=None takes every folder"),
        ({"silence": -1.0}, "silence=-1.0 must be at least 0"),
        ({"silence_from": "nothing"}, "silence_from='nothing' must be 'noise' or 'zeros'"),
        ({"split": "testing"}, "split='testing' is unknown"),
    ],
)
def test_wrong_arguments(release, arguments, message):
    with pytest.raises(ValueError) as caught:
        SpeechCommands(release, **arguments)
    assert f"SpeechCommands: {message.format(root=release)}" in str(caught.value)


def test_the_words_of_the_releases():
    assert {words: len(names) for words, names in _RELEASES.items()} == {30: 30, 35: 35} and set(_TEN) < _RELEASES[30]
