"""A folder of recordings as spikes in the cache: made once, again when anything changes, by one process at a time."""

import multiprocessing
import os
import shutil

import numpy as np
import pytest
import soundfile

from temporal.datasets import SHD, AudioError, AudioFolder, spikes_of_folder

RATE = 16000


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Two words, two speakers, indices 0, 4 and 5, of which the first two test; and a cache of its own."""
    monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "words"
    root.mkdir()
    names = [f"{label}_{who}_{index}" for label in ("no", "yes") for who in ("ann", "bob") for index in (0, 4, 5)]
    for place, name in enumerate(names):
        wave = 0.3 * np.sin(2 * np.pi * (300 + 200 * place) * np.arange(900) / RATE)
        soundfile.write(root / f"{name}.wav", wave, RATE)
    return root


def heard(folder, **changes):
    return spikes_of_folder(folder, **{"membrane": "gammatone", "jobs": 1, "progress": False} | changes)


def test_it_is_made_once_and_holds_what_the_folder_says(words):
    file = heard(words)
    made = file.stat().st_mtime_ns
    assert heard(words) == file and file.stat().st_mtime_ns == made
    for part in ("train", "test", "all"):
        spikes, sound = SHD(file, part, validation=0), AudioFolder(words, RATE, part, validation=0)
        assert spikes.keys == sound.keys and spikes.speakers == sound.speakers and spikes.targets == sound.targets


@pytest.mark.parametrize("change", ["content", "name", "list", "seed", "more"])
def test_what_changes_is_heard_anew(words, change):
    before = heard(words)
    settings = {"seed": 1} if change == "seed" else {}
    path = words / "no_ann_5.wav"
    if change == "content":  # of the same size, and of the same time
        told = path.stat()
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    elif change == "name":
        path.rename(words / "no_ann_6.wav")
    elif change == "list":
        (words / "testing_list.txt").write_text("no_ann_5.wav\nyes_bob_5.wav\n")
    elif change == "more":
        shutil.copy(path, words / "no_ann_7.wav")
    after = heard(words, **settings)
    assert after != before and before.exists()
    if change == "list":
        assert SHD(after, "test").keys == AudioFolder(words, RATE, "test").keys == ["no_ann_5.wav", "yes_bob_5.wav"]


def test_an_equal_folder_elsewhere_is_the_same(words, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copytree(words, tmp_path / "other" / "words")
    assert heard(tmp_path / "other" / "words") == heard(words)


def _ask(folder, told):
    told.put(str(heard(folder)))


def test_two_processes_that_ask_at_once_make_it_once(words):
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    children = [context.Process(target=_ask, args=(words, told)) for _ in range(2)]
    for child in children:
        child.start()
    files = {told.get(timeout=300) for _ in children}
    for child in children:
        child.join()
    assert files == {str(heard(words))} and len(list((words.parent / "cache" / "heard").glob("*.h5"))) == 1


def test_what_cannot_be_heard_is_named_and_leaves_nothing(words):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder of recordings"):
        heard(words / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no_ann_0\.wav is no folder"):
        heard(words / "no_ann_0.wav")
    (words / "no_ann_5.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"no_ann_5\.wav: is empty"):
        heard(words)
    assert not list((words.parent / "cache" / "heard").glob("*.h5"))
    assert len(SHD(heard(words, on_error="skip"), "all")) == 11
