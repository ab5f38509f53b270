"""What a file of spikes may be instead of whole and right: each fault is named, with the file and the recording."""

import gzip
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from temporal.datasets import SHD, EventsError
from temporal.datasets._events_file import EventsFile


def fault(path, index=None, match=""):
    """The message with which opening the file, reading a recording, and looking at all of them fail."""
    with pytest.raises(EventsError) as caught:
        data = SHD(path, "all")
        data[index]
    if index is not None:
        for look in (lambda: data.durations, lambda: data.events(index), lambda: data.__getitems__(range(len(data)))):
            with pytest.raises(EventsError, match=re.escape(str(caught.value))):
                look()
        data[index - 1]  # the others are as good as ever
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and match in said, said
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("missing", "name"), [("times", "spikes/times"), ("units", "spikes/units"), ("labels", "labels")]
)
def test_missing_groups(tmp_path, put, spikes, missing, name):
    said = fault(put(tmp_path / "a.h5", spikes(), **{missing: None}))
    assert said.startswith(f"has no {name}; an SHD file holds spikes/times, spikes/units and labels")


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pictures"] = np.zeros(3)
    assert fault(tmp_path / "a.h5").startswith("has no spikes/times and no spikes/units and no labels")


def test_arrays_of_unequal_lengths(tmp_path, put, spikes):
    data = spikes()
    said = fault(put(tmp_path / "a.h5", data, labels=data["labels"][:-1]))
    assert said.startswith("arrays of unequal lengths: spikes/times 8, spikes/units 8, labels 7, extra/speaker 8")


def test_a_recording_of_unequal_lengths(tmp_path, put, spikes):
    data = spikes()
    data["units"][5] = data["units"][5][:-2]
    n = len(data["times"][5])
    assert fault(put(tmp_path / "a.h5", data), 5) == f"recording 5 has {n} times and {n - 2} units"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-0.25, "time -0.25 s is negative; times are 0 to 60 s"),
        (float("nan"), "time nan s is not a finite number; times are 0 to 60 s"),
        (float("inf"), "time inf s is not a finite number; times are 0 to 60 s"),
        (1000.0, "time 1000 s is beyond the latest time allowed; times are 0 to 60 s"),
    ],
)
def test_times_that_are_none(tmp_path, put, spikes, value, said):
    data = spikes()
    data["times"][3][7] = value
    assert fault(put(tmp_path / "a.h5", data), 3) == f"recording 3, spike 7: {said}"


def test_the_latest_time_is_up_to_the_caller(tmp_path, put, spikes):
    data = spikes()
    data["times"][3][-1] = 100.0
    put(tmp_path / "a.h5", data)
    assert SHD(tmp_path / "a.h5", "all", latest=200.0).durations[3] == 10001
    with pytest.raises(EventsError, match=r"times are 0 to 0\.1 s"):
        SHD(tmp_path / "a.h5", "all", latest=0.1)[0]


def test_units_beyond(tmp_path, put, spikes):
    data = spikes()
    data["units"][2][0] = 700
    put(tmp_path / "a.h5", data)
    assert fault(tmp_path / "a.h5", 2) == "recording 2, spike 0: unit 700 is no unit; units are 0 to 699"
    assert SHD(tmp_path / "a.h5", "all", units=705)[2].spikes.shape[1] == 141


def test_labels_out_of_range(tmp_path, put, spikes):
    labels = np.arange(8) % 4
    labels[6] = 4
    said = fault(put(tmp_path / "a.h5", spikes(), labels=labels))
    assert said == "recording 6: label 4 is out of range; labels are 0 to 3, for which extra/keys has names"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels", np.array([0.5, 1.0]), "labels holds float64, shape (2,)"),
        ("labels", np.array([0, -1]), "recording 1: label -1 is out of range; labels are at least 0"),
        ("spikes/times", np.zeros((2, 3), int), "spikes/times holds int64; it must hold floats"),
        ("spikes/units", np.zeros((2, 3)), "spikes/units holds float64; it must hold whole numbers"),
    ],
)
def test_types(tmp_path, name, content, said):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for each, right in (("spikes/times", np.zeros((2, 3))), ("spikes/units", np.zeros((2, 3), int))):
            file[each] = content if each == name else right
        file["labels"] = content if name == "labels" else np.array([0, 1])
    assert said in fault(tmp_path / "a.h5")


def test_arrays_of_fixed_length_are_read_too(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spikes/times"] = np.array([[0.0, 0.011], [0.012, 0.013]], np.float32)
        file["spikes/units"] = np.array([[0, 5], [1, 2]], np.int64)
        file["labels"] = np.array([0, 1])
    assert [item.spikes.sum(1).tolist() for item in SHD(tmp_path / "a.h5", "all")] == [[1, 1], [0, 2]]


def test_a_truncated_file(tmp_path, put, spikes):
    file = put(tmp_path / "a.h5", spikes())
    content = file.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 100):
        file.write_bytes(content[:size])
        assert re.match("is (cut off|damaged); copy or fetch it again", fault(file))
    file.write_bytes(b"")
    assert fault(file) == "is empty (0 bytes); copy or fetch it again"
    file.write_bytes(content)
    assert len(SHD(file, "all")) == 8


def test_a_damaged_heap_names_the_recording(tmp_path, put, spikes):
    """The spikes lie in heaps behind the arrays; one whose head is gone takes its recordings with it, not the others."""
    file = put(tmp_path / "a.h5", spikes(64, most=2000))
    content = bytearray(file.read_bytes())
    heaps = [m.start() for m in re.finditer(b"GCOL", bytes(content))]
    assert len(heaps) > 3
    content[heaps[-1] : heaps[-1] + 4] = b"XXXX"
    file.write_bytes(content)
    data = SHD(file, "all")
    data[0]
    with pytest.raises(EventsError, match=r"a\.h5: recording \d+ cannot be read, the file is damaged"):
        data.durations  # noqa: B018
    with pytest.raises(EventsError, match=r"a\.h5: recording \d+ cannot be read, the file is damaged"):
        data.__getitems__(range(64))


def test_other_files(tmp_path, put, spikes, monkeypatch):
    (tmp_path / "text.h5").write_text("spikes " * 100)
    assert fault(tmp_path / "text.h5") == "is no HDF5 file"
    good = put(tmp_path / "a.h5", spikes())
    (tmp_path / "packed.h5").write_bytes(gzip.compress(good.read_bytes()))
    assert fault(tmp_path / "packed.h5") == "is packed; unpack it (gunzip) and give the .h5 file"
    with pytest.raises(EventsError, match="is a folder"):
        EventsFile(tmp_path)
    with pytest.raises(EventsError, match="no such file"):
        EventsFile(tmp_path / "none.h5")
    (tmp_path / "link.h5").symlink_to(tmp_path / "gone.h5")
    with pytest.raises(EventsError, match=r"no such file, it is a symbolic link to .*gone\.h5"):
        EventsFile(tmp_path / "link.h5")


def test_names_with_spaces_and_other_letters(tmp_path, put, spikes):
    folder = tmp_path / "zwei Wörter نعم"
    put(folder / "shd_train.h5", spikes(), keys=["null", "fünf", "نعم", "два слова"])
    put(folder / "shd_test.h5", spikes(), keys=["null", "fünf", "نعم", "два слова"])
    data = SHD(folder, "test")
    assert data.labels == ["null", "fünf", "نعم", "два слова"] and data[0].spikes.any()


def other_process(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_two_processes_read_at_once(tmp_path, put, spikes):
    file = put(tmp_path / "a.h5", spikes())
    data = SHD(file, "all")
    first = data[0].spikes.sum().item()
    code = "import sys; from temporal.datasets import SHD; print(SHD(sys.argv[1], 'all')[0].spikes.sum().item())"
    other = other_process(code, file)
    assert float(other.communicate(timeout=60)[0]) == first == data[0].spikes.sum().item()


def test_a_file_that_another_process_writes(tmp_path, put, spikes):
    file = put(tmp_path / "a.h5", spikes())
    code = "import sys, h5py; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read(); f.close()"
    other = other_process(code, file)
    assert other.stdout.readline() == "open\n"
    assert fault(file) == "is being written by another process; wait until that is done"
    other.communicate("", timeout=60)
    assert len(SHD(file, "all")) == 8


def test_a_file_that_changes_under_a_data_set(tmp_path, put, spikes):
    file = put(tmp_path / "a.h5", spikes())
    data = SHD(file, "all")
    put(file, spikes(6))
    with pytest.raises(EventsError, match="has changed since it was opened first"):
        data[0]
