"""A folder of recordings as a file of spikes: equal to the cochlea's own, whatever the processes, kills and full disks."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import soundfile

from temporal.cli import main
from temporal.datasets import SHD, AudioError, AudioFolder, convert_folder
from temporal.frontends import Cochlea

RATE = 16000


def sound(number, seconds=0.06, rate=RATE):
    draw = np.random.default_rng(number)
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (300 + 250 * number) * time) + 0.01 * draw.standard_normal(time.size)).astype("f4")


@pytest.fixture
def words(tmp_path):
    """Two words, two speakers, indices 0, 4, 5 and 6: the first two test."""
    root = tmp_path / "words"
    root.mkdir()
    for place, (label, speaker, index) in enumerate(
        (label, speaker, index) for label in ("no", "yes") for speaker in ("ann", "bob") for index in (0, 4, 5, 6)
    ):
        soundfile.write(root / f"{label}_{speaker}_{index}.wav", sound(place, 0.05 + 0.002 * place), RATE)
    return root


def convert(folder, path, **changes):
    return convert_folder(folder, path, **{"membrane": "gammatone", "jobs": 1, "progress": False} | changes)


def test_spikes_are_those_of_the_cochlea_and_all_else_is_the_folders(words, tmp_path):
    done = convert(words, tmp_path / "w.h5", seed=3, membrane="travelling_wave")
    data, folder = SHD(tmp_path / "w.h5", split="all"), AudioFolder(words, RATE, "all")
    cochlea = Cochlea(RATE, seed=3)
    assert data.keys == folder.keys and data.speakers == folder.speakers and data.labels == folder.labels
    assert data.targets == folder.targets
    for at in range(len(data)):
        times, units = cochlea.events(folder[at].wave)
        np.testing.assert_array_equal(data.events(at).units, units)
        np.testing.assert_allclose(data.events(at).times, times, atol=1e-7)  # float32 of times under 0.1 s
    assert done.recordings == 16 and done.resumed == 0
    assert done.spikes == sum(len(data.events(at).times) for at in range(16))
    assert SHD(tmp_path / "w.h5", split="test").keys == AudioFolder(words, RATE, "test").keys
    with h5py.File(tmp_path / "w.h5") as file:
        assert {"labels", "extra/speaker", "extra/keys", "spikes/times", "spikes/units"} <= set(_names(file))


def _names(file):
    found = []
    file.visit(found.append)
    return found


def test_split_lists_are_kept(tmp_path):
    root = tmp_path / "lists"
    for label in ("left", "right"):
        (root / label).mkdir(parents=True)
        for take in range(4):
            soundfile.write(root / label / f"{take:08x}_nohash_0.wav", sound(take), RATE)
    (root / "validation_list.txt").write_text("left/00000001_nohash_0.wav\nright/00000001_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("left/00000002_nohash_0.wav\nright/00000002_nohash_0.wav\n")
    convert(root, tmp_path / "l.h5")
    for part in ("train", "validation", "test"):
        assert SHD(tmp_path / "l.h5", split=part).keys == AudioFolder(root, RATE, part).keys


def test_words_of_which_none_tests_are_converted_all_the_same(words, tmp_path):
    for path in words.glob("yes_*_[04].wav"):
        path.unlink()
    assert convert(words, tmp_path / "w.h5").recordings == 12
    assert set(SHD(tmp_path / "w.h5", split="test").targets) == {0}


def test_a_folder_without_parts_gives_a_file_without(tmp_path):
    root = tmp_path / "plain"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        soundfile.write(root / label / "one.wav", sound(1), RATE)
    convert(root, tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        assert "extra/split" not in file
    assert len(SHD(tmp_path / "p.h5", split="all")) == 2


def test_any_number_of_processes_gives_the_same_file(words, tmp_path):
    convert(words, tmp_path / "1.h5")
    seen = []
    convert(words, tmp_path / "2.h5", jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    assert seen == [(done, 16) for done in range(17)]


@pytest.mark.parametrize("stop", [1, 7, 16])
def test_stopped_anywhere_it_goes_on_to_the_same_file(words, tmp_path, stop):
    def interrupt(done, total):
        if done == stop:
            raise KeyboardInterrupt

    convert(words, tmp_path / "whole.h5")
    with pytest.raises(KeyboardInterrupt, match=f"{stop} of 16 recordings are kept"):
        convert(words, tmp_path / "part.h5", progress=interrupt)
    assert not (tmp_path / "part.h5").exists()
    assert convert(words, tmp_path / "part.h5").resumed == stop
    assert (tmp_path / "part.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


COMMAND = "import sys; from temporal.cli import main; main(sys.argv[1:])"


def test_killed_it_leaves_no_process_and_goes_on(words, tmp_path):
    """SIGKILL, to the command alone: its processes must notice, and the same command ends what was begun."""
    for copy in range(4):
        for path in list(words.glob("*_[0-9].wav")):
            shutil.copy(path, words / f"{path.stem}{copy}.wav")
    out, index = tmp_path / "k.h5", tmp_path / ".k.h5.unfinished" / "index.jsonl"
    command = [sys.executable, "-c", COMMAND, "spikes", str(words), str(out), "--jobs", "2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not (index.exists() and index.read_bytes().count(b"\n") >= 2):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        children = _children(process.pid)
        process.send_signal(signal.SIGKILL)
    assert children and not out.exists()
    until = time.monotonic() + 30
    while any(_runs(child) for child in children):
        assert time.monotonic() < until, "a process outlived the command"
        time.sleep(0.05)
    done = convert(words, out, membrane="travelling_wave")
    assert 2 <= done.resumed < 80 and done.recordings == 80
    whole = convert(words, tmp_path / "whole.h5", membrane="travelling_wave")
    assert whole.recordings == 80 and out.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def _children(pid):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


def _runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_that_is_killed_is_said_and_nothing_is_lost(words, tmp_path):
    for copy in range(4):
        for path in list(words.glob("*_[0-9].wav")):
            shutil.copy(path, words / f"{path.stem}{copy}.wav")

    def kill(done, total):
        if done == 2:
            for child in _children(os.getpid()):
                if "spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(child, signal.SIGKILL)

    with pytest.raises(OSError, match=r"k\.h5: a process of the pool ended.*of 80 recordings are kept"):
        convert(words, tmp_path / "k.h5", jobs=2, progress=kill)
    assert convert(words, tmp_path / "k.h5").resumed >= 2


def test_other_settings_or_recordings_do_not_go_on(words, tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(words, tmp_path / "w.h5", progress=interrupt)
    with pytest.raises(ValueError, match="another conversion"):
        convert(words, tmp_path / "w.h5", seed=1)
    (words / "no_ann_0.wav").unlink()
    with pytest.raises(ValueError, match="another conversion"):
        convert(words, tmp_path / "w.h5")


def test_a_damaged_recording_is_named_and_those_before_it_are_kept(words, tmp_path):
    bad = words / "no_bob_5.wav"
    good = bad.read_bytes()
    soundfile.write(bad, np.array([0.1, np.nan] * 400), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"no_bob_5\.wav: sample 1 is NaN"):
        convert(words, tmp_path / "w.h5")
    bad.write_bytes(good)
    assert convert(words, tmp_path / "w.h5").resumed == 6


@pytest.mark.parametrize("content", [b"", b"RIFF and so on", None])
def test_what_a_header_tells_is_refused_before_anything_is_converted(words, tmp_path, content):
    bad = words / "yes_ann_5.wav"
    bad.write_bytes(bad.read_bytes()[:400] if content is None else content)
    with pytest.raises(AudioError, match=r"yes_ann_5\.wav: "):
        convert(words, tmp_path / "w.h5", progress=lambda done, total: pytest.fail("it began"))
    assert [path.name for path in tmp_path.iterdir()] == ["words"]
    done = convert(words, tmp_path / "w.h5", on_error="skip")
    assert done.recordings == 15 and any("1 files skipped" in text for text in done.messages)


def test_a_recording_under_a_millisecond_is_named_or_skipped(words, tmp_path):
    soundfile.write(words / "yes_bob_6.wav", np.zeros(15), RATE)
    with pytest.raises(AudioError, match=r"yes_bob_6\.wav: is shorter than 1 ms"):
        convert(words, tmp_path / "w.h5")
    done = convert(words, tmp_path / "w.h5", on_error="skip")
    assert done.recordings == 15 and any("1 recordings skipped" in text for text in done.messages)
    assert "yes_bob_6.wav" not in SHD(tmp_path / "w.h5", split="all").keys


def test_links_are_followed_and_broken_ones_named(words, tmp_path):
    outside = tmp_path / "elsewhere.wav"
    shutil.move(words / "no_ann_5.wav", outside)
    (words / "no_ann_5.wav").symlink_to(outside)
    assert convert(words, tmp_path / "w.h5").recordings == 16
    outside.unlink()
    with pytest.raises(AudioError, match=r"no_ann_5\.wav: no such file, it is a symbolic link to .*elsewhere"):
        convert(words, tmp_path / "x.h5")


def test_spaces_and_other_letters_in_names(tmp_path):
    root = tmp_path / "zwei Wörter"
    for label in ("نعم", "zoom in"):
        (root / label).mkdir(parents=True)
        for take in range(2):
            soundfile.write(root / label / f"Ännchen_NO_0{take}.wav", sound(take), RATE)
    convert(root, tmp_path / "mit Leerzeichen.h5")
    data = SHD(tmp_path / "mit Leerzeichen.h5", split="all")
    assert set(data.labels) == {"نعم", "zoom in"} and set(data.speakers) == {"Ännchen"}
    assert "نعم/Ännchen_NO_00.wav" in data.keys


def test_a_name_that_is_no_text_is_refused(words, tmp_path):
    bad = os.fsencode(words) + b"/no_\xff_7.wav"
    shutil.copy(words / "no_ann_5.wav", os.fsdecode(bad))
    with pytest.raises(ValueError, match="UTF-8"):
        convert(words, tmp_path / "w.h5")


LIMITED = """
import resource, signal, sys
from temporal.datasets import convert_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import temporal.frontends
temporal.frontends.Cochlea(16000, membrane="gammatone")
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    convert_folder(sys.argv[1], sys.argv[2], membrane="gammatone", jobs=1, progress=False)
except OSError as error:
    print(error)
"""


def test_a_full_disk(words, tmp_path):
    """A limit on the size of files stands in for it, as in the tests of the writer; once there is room, it goes on."""
    command = [sys.executable, "-c", LIMITED, str(words), str(tmp_path / "w.h5")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "w.h5: cannot be written" in said.stdout and "goes on from there" in said.stdout, said.stderr
    assert not (tmp_path / "w.h5").exists()
    assert convert(words, tmp_path / "w.h5").resumed > 0
    convert(words, tmp_path / "whole.h5")
    assert (tmp_path / "w.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_the_command_says_what_it_did(words, tmp_path, capsys):
    out = tmp_path / "w.h5"
    main(["spikes", str(words), str(out), "--membrane", "gammatone", "--jobs", "1", "--seed", "3", "--json"])
    said = capsys.readouterr()
    assert "converting: 16 of 16" in said.err
    result = json.loads(said.out)
    assert result["path"] == str(out) and result["recordings"] == 16 and result["spikes"] > 0 and result["resumed"] == 0
    convert(words, tmp_path / "same.h5", seed=3)
    assert out.read_bytes() == (tmp_path / "same.h5").read_bytes()

    with pytest.raises(SystemExit) as stopped:
        main(["spikes", str(words), str(out)])
    assert stopped.value.code == 1 and "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, "jobs=0 must be a whole number of at least 1"),
        ({"preset": "article"}, "36000 Hz or more"),
        ({"sample_rate": 8000}, "11025"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
    ],
)
def test_arguments_that_cannot_be(words, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        convert(words, tmp_path / "w.h5", **{"membrane": "travelling_wave"} | changes)
    assert [path.name for path in tmp_path.iterdir()] == ["words"]


def test_a_file_that_exists_is_left_alone(words, tmp_path):
    (tmp_path / "w.h5").write_text("mine")
    with pytest.raises(FileExistsError, match=r"w\.h5"):
        convert(words, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_text() == "mine"
