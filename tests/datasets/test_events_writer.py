"""Writing SHD's layout: what other libraries read from it, kills, full disks, and that nothing half-written has its name."""

import os
import pathlib
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import SHD, EventsWriter, write_events

NAMES = ["zero", "fünf", "نعم"]


def recordings(count, seed=0, most=50):
    rows = []
    for number in range(count):
        draw = np.random.default_rng([seed, number])
        events = draw.integers(0, most)
        rows.append((np.sort(draw.uniform(0, 1.4, events)), draw.integers(0, 700, events)))
    return rows


def fill(writer, rows, first=0):
    for n, (times, units) in enumerate(rows[first:], start=first):
        writer.append(times, units, label=n % 3, speaker=f"s{n % 4}", name=f"dir/rec {n}.wav")


def assert_holds(path, rows):
    data = SHD(path, "all")
    assert len(data) == len(rows) and data.keys == [f"dir/rec {n}.wav" for n in range(len(rows))]
    assert data.speakers == [f"s{n % 4}" for n in range(len(rows))]
    assert data.targets == [n % 3 for n in range(len(rows))] and data.labels == NAMES
    for n, (times, units) in enumerate(rows):
        np.testing.assert_array_equal(data.events(n).times, times.astype(np.float32))
        np.testing.assert_array_equal(data.events(n).units, units)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_arrays_are_those_of_shd(tmp_path):
    rows = recordings(9)
    with EventsWriter(tmp_path / "a.h5", NAMES) as writer:
        fill(writer, rows)
        writer.finish()
    assert_holds(tmp_path / "a.h5", rows)
    with h5py.File(tmp_path / "a.h5") as file:
        kinds = {name: file[name].dtype for name in ("labels", "extra/speaker")}
        assert kinds == {"labels": np.uint8, "extra/speaker": np.uint16}
        assert h5py.check_vlen_dtype(file["spikes/times"].dtype) == np.float32
        assert h5py.check_vlen_dtype(file["spikes/units"].dtype) == np.uint16
        assert [name.decode() for name in file["extra/keys"][:]] == NAMES
        assert file["extra/speaker"][:].tolist() == [n % 4 for n in range(9)]


def test_numbers_of_speakers_stay_numbers(tmp_path):
    rows = recordings(3)
    write_events(tmp_path / "a.h5", rows, labels=[0, 1, 2], classes=NAMES, speakers=["11", "4", "11"])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["extra/speaker"][:].tolist() == [11, 4, 11] and "extra/speaker_names" not in file
        assert "extra/names" not in file and "extra/split" not in file
    assert SHD(tmp_path / "a.h5", "all").speakers == ["11", "4", "11"]


def test_many_classes_and_parts(tmp_path):
    classes = [f"word {n}" for n in range(300)]
    splits = ["train", "", "test"]
    write_events(tmp_path / "a.h5", recordings(3), labels=[299, 0, 299], classes=classes, splits=splits)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["labels"].dtype == np.uint16 and file["extra/split"][:].tolist() == [0, 0, 2]
    assert SHD(tmp_path / "a.h5", "test").keys == ["a/2"]


def test_spikingjelly_reads_it(tmp_path):
    shd = pytest.importorskip("spikingjelly.datasets.shd", exc_type=ImportError)
    rows = [(t, u) for t, u in recordings(6, most=200) if len(t) > 20]
    write_events(tmp_path / "a.h5", rows, labels=[0] * len(rows), classes=["zero"])
    (tmp_path / "0").mkdir()
    with h5py.File(tmp_path / "a.h5") as file:
        for n in range(len(rows)):
            shd._integrate_events_file_to_frames_file_by_fixed_duration(file, n, str(tmp_path), 10, 700)
            frames = np.load(tmp_path / "0" / f"{n}.npz")["frames"]
            theirs = frames.reshape(len(frames), 140, 5).sum(2)
            ours = SHD(tmp_path / "a.h5", "all", binning="10ms-first")[n].spikes.numpy()
            # Its times are multiplied by 1000 in float32: a spike within a rounding of an edge falls on either side.
            assert abs(theirs.sum() - ours.sum()) == 0 and np.abs(theirs - ours[: len(theirs)]).sum() <= 2


def test_tonic_reads_it(tmp_path):
    """As tonic's HSD class does it (tonic is not installed here): microseconds, without an overflow."""
    rows = recordings(5, most=200)
    write_events(tmp_path / "a.h5", rows, labels=[0] * 5, classes=["zero"], speakers=["3"] * 5)
    with h5py.File(tmp_path / "a.h5") as file:
        for n, (times, units) in enumerate(rows):
            microseconds = (file["spikes/times"][n] * 1e6).astype(int)
            np.testing.assert_allclose(microseconds, times * 1e6, atol=1.1)
            np.testing.assert_array_equal(file["spikes/units"][n].astype(int), units)
            assert file["labels"][n].astype(int) == 0 and file["extra/speaker"][n] == 3


def test_nothing_has_the_name_before_the_end(tmp_path):
    path = tmp_path / "a.h5"
    with EventsWriter(path, NAMES, plan="p") as writer:
        fill(writer, recordings(4))
    assert not path.exists()
    with EventsWriter(path, NAMES, plan="p") as writer:
        assert writer.done == 4
        writer.finish()
    assert_holds(path, recordings(4))
    with pytest.raises(FileExistsError, match="exists already"):
        EventsWriter(path, NAMES)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, 6))
def test_a_kill_at_any_byte(tmp_path_factory, spikes_cut, index_cut, first):
    """Whatever was written last is cut anywhere: the whole recordings before it stay, the rest is written again."""
    root = tmp_path_factory.mktemp("kill")
    rows = recordings(8, most=20)
    with EventsWriter(root / "a.h5", NAMES) as writer:
        fill(writer, rows[:first])
        folder = writer._folder
    for name, cut in (("spikes.bin", spikes_cut), ("index.jsonl", index_cut)):
        size = (folder / name).stat().st_size
        with open(folder / name, "r+b") as file:
            file.truncate(cut % (size + 1))
    with EventsWriter(root / "a.h5", NAMES) as writer:
        assert 0 <= writer.done <= first
        fill(writer, rows, writer.done)
        writer.finish()
    assert_holds(root / "a.h5", rows)


KILLED = """
import sys, numpy as np
from temporal.datasets import EventsWriter
rows = []
for number in range(1200):
    draw = np.random.default_rng([0, number])
    events = draw.integers(0, 50)
    rows.append((np.sort(draw.uniform(0, 1.4, events)), draw.integers(0, 700, events)))
with EventsWriter(sys.argv[1], ["zero", "fünf", "نعم"]) as writer:
    print(writer.done, flush=True)
    for n, (times, units) in enumerate(rows[writer.done:], start=writer.done):
        writer.append(times, units, label=n % 3, speaker=f"s{n % 4}", name=f"dir/rec {n}.wav")
        if n % 50 == 0:
            print(n, flush=True)
    writer.finish()
"""


def test_a_killed_process_goes_on(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.h5")]
    starts = []
    for stop in (200, 600, None):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            starts.append(int(process.stdout.readline()))
            for line in process.stdout:
                if stop is not None and int(line) >= stop:
                    process.send_signal(signal.SIGKILL)
                    break
        assert (tmp_path / "a.h5").exists() == (stop is None)
    assert starts[0] == 0 and 200 <= starts[1] < 1200 and 600 <= starts[2] < 1200
    assert_holds(tmp_path / "a.h5", recordings(1200))


FULL = """
import resource, sys, numpy as np
from temporal.datasets import EventsWriter
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
writer = EventsWriter(sys.argv[1], ["zero"], plan="full")
try:
    for n in range(writer.done, 200):
        writer.append(np.arange(100.0), np.arange(100), label=0, name=str(n))
    print("finishing")
    writer.finish()
except OSError as error:
    print(error)
"""


def test_a_full_disk(tmp_path):
    """A limit on the size of files stands in for a full disk, while recordings come and while the file is made."""
    path = tmp_path / "a.h5"
    said = {}
    for limit in (50_000, 125_000, 0):  # 200 recordings of 600 bytes, and as HDF5 more than that
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(path), str(limit)], capture_output=True, text=True, check=True
        )
        said[limit] = done.stdout.strip()
        assert path.exists() == (limit == 0)
        if limit:
            assert f"{path}: cannot be written" in said[limit] and "it goes on from there" in said[limit]
            assert sorted(p.name for p in (tmp_path / ".a.h5.unfinished").iterdir()) == [
                "about.json",
                "index.jsonl",
                "spikes.bin",
            ]
    assert "finishing" not in said[50_000] and said[125_000].startswith("finishing") and said[0] == "finishing"
    data = SHD(path, "all", latest=100)
    assert data.keys == [str(n) for n in range(200)] and (data.events(199).units == np.arange(100)).all()


def test_no_room_from_the_first_byte(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    writer = EventsWriter(tmp_path / "a.h5", NAMES)
    writer._spikes.close()
    writer._spikes = open("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); the recordings before are kept"):
        fill(writer, recordings(2))
    writer.close()
    assert not (tmp_path / "a.h5").exists()


def test_another_plan_does_not_go_on(tmp_path):
    with EventsWriter(tmp_path / "a.h5", NAMES, plan="one") as writer:
        fill(writer, recordings(2))
    for classes, plan in ((NAMES, "two"), (["zero"], "one")):
        with pytest.raises(ValueError, match=r"\.a\.h5\.unfinished: holds part of another conversion"):
            EventsWriter(tmp_path / "a.h5", classes, plan=plan)
    with EventsWriter(tmp_path / "a.h5", NAMES, plan="two", resume=False) as writer:
        assert writer.done == 0


def test_two_at_once(tmp_path):
    with (
        EventsWriter(tmp_path / "a.h5", NAMES) as writer,
        pytest.raises(BlockingIOError, match="another process is writing this file"),
    ):
        EventsWriter(tmp_path / "a.h5", NAMES)
    writer.close()


def test_damage_of_what_was_kept_is_seen(tmp_path):
    with EventsWriter(tmp_path / "a.h5", NAMES) as writer:
        fill(writer, recordings(4))
    with open(tmp_path / ".a.h5.unfinished" / "spikes.bin", "r+b") as file:
        file.seek(10)
        file.write(b"\xff\xff")
    with (
        EventsWriter(tmp_path / "a.h5", NAMES) as writer,
        pytest.raises(ValueError, match=r"recording \d \(dir/rec \d.wav\) is damaged; remove that folder"),
    ):
        writer.finish()
    assert not (tmp_path / "a.h5").exists()


def test_memory_is_flat(tmp_path):
    """Many times as many recordings take no more memory, to write or to read, but for what is said of each."""
    code = """
import resource, sys, numpy as np
from temporal.datasets import SHD, write_events
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = int(sys.argv[2])
row = np.arange(5000) / 5000, np.arange(5000) % 700
write_events(sys.argv[1], (row for _ in range(count)), labels=[0] * count, classes=["zero"])
written = most()
data = SHD(sys.argv[1], "all")
steps = sum(len(item.spikes) for item in data), sum(data.durations)
print(written, most(), *steps)
"""
    found = []
    for count in (130, 1000):  # 4 and 30 MB
        command = [sys.executable, "-c", code, str(tmp_path / f"{count}.h5"), str(count)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        found.append([int(word) for word in said])
        assert found[-1][2] == found[-1][3] == 100 * count
    assert (tmp_path / "1000.h5").stat().st_size > 29e6
    assert found[1][0] - found[0][0] < 10_000 and found[1][1] - found[0][1] < 10_000  # kB


@pytest.mark.parametrize(
    ("times", "units", "more", "said"),
    [
        ([0.1, 0.2], [1], {}, "times (2,) and units (1,) must be [events]"),
        ([[0.1]], [[1]], {}, "times (1, 1) and units (1, 1)"),
        ([0.1, -0.2], [1, 1], {}, "times must be finite and at least 0"),
        ([0.1, float("nan")], [1, 1], {}, "times must be finite"),
        ([0.2, 0.1], [1, 1], {}, "times must ascend"),
        ([0.1, 0.2], [1, 700], {}, "units must be whole numbers from 0 to 699"),
        ([0.1, 0.2], [1, -1], {}, "units must be whole numbers from 0 to 699"),
        ([0.1, 0.2], [1.0, 2.0], {}, "units must be whole numbers"),
        ([0.1], [1], {"label": 3}, "label=3 must be from 0 to 2"),
        ([0.1], [1], {"split": "valid"}, "split='valid' must be one of train, validation, test"),
    ],
)
def test_what_is_no_recording(tmp_path, times, units, more, said):
    with EventsWriter(tmp_path / "a.h5", NAMES) as writer:
        fill(writer, recordings(1))
        with pytest.raises(ValueError) as caught:
            writer.append(np.array(times), np.array(units), **{"label": 0, "name": "x.wav"} | more)
        assert str(caught.value).startswith("EventsWriter: recording 1 (x.wav): ") and said in str(caught.value)
        fill(writer, recordings(3), 1)
        writer.finish()
    assert_holds(tmp_path / "a.h5", recordings(3))


def test_write_events_leaves_nothing_behind(tmp_path):
    for labels in ([0], [0, 1, 2]):
        with pytest.raises(ValueError):
            write_events(tmp_path / "a.h5", recordings(2), labels=labels, classes=NAMES)
        assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_events(tmp_path / "none" / "a.h5", [], labels=[], classes=NAMES)
    with pytest.raises(ValueError, match="units=0 must be from 1 to 65536"):
        write_events(tmp_path / "a.h5", [], labels=[], classes=NAMES, units=0)
    write_events(pathlib.Path(tmp_path / "none.h5"), [], labels=[], classes=NAMES)
    assert len(h5py.File(tmp_path / "none.h5")["labels"]) == 0
