"""SHD and SSC: parts that never leak, items equal to the file's own spikes, workers, and the network that takes them."""

import os
import pickle
from collections import Counter

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from temporal.datasets import SHD, SSC, Binning, BucketSampler, SpikeRecording, collate_spikes

PARTS = ("train", "validation", "test")


def parts(root, kind=SHD, **arguments):
    return {split: kind(root, split, **arguments) for split in PARTS}


@pytest.fixture
def ssc(tmp_path, put, spikes):
    for n, name in enumerate(("train", "valid", "test")):
        put(tmp_path / f"ssc_{name}.h5", spikes(12 + n, seed=n, speakers=str(n)))
    return tmp_path


def test_official_parts(shd):
    data = parts(shd, validation=0.2)
    assert {split: len(d) for split, d in data.items()} == {"train": 32, "validation": 8, "test": 12}
    assert data["test"].keys == [f"shd_test/{n}" for n in range(12)] and set(data["test"].speakers) == {"5", "6"}
    keys = [key for d in data.values() for key in d.keys]
    assert len(set(keys)) == 52 and sorted(keys) == sorted(SHD(shd, "all").keys)
    assert set(Counter(data["validation"].targets).values()) == {2}
    assert data["train"].labels == ["zero", "one", "two", "three"] and data["train"].by == "official"


def test_a_validation_part_does_not_depend_on_the_test_file(shd, put, spikes):
    before = SHD(shd, "validation").keys
    put(shd / "shd_test.h5", spikes(16, seed=9))
    assert SHD(shd, "validation").keys == before
    assert SHD(shd, "validation", seed=1).keys != before


def test_validation_on_speakers(shd):
    data = parts(shd, validation=("1", "4"))
    assert set(data["validation"].speakers) == {"1", "4"} and set(data["train"].speakers) == {"0", "2", "3"}
    assert len(data["test"]) == 12
    with pytest.raises(ValueError, match="no such speaker as '9'; speakers: 0, 1, 2, 3, 4"):
        SHD(shd, validation=("9",))
    with pytest.raises(ValueError, match="must be a share, a number, or several speakers"):
        SHD(shd, validation="4")


def test_a_class_or_every_voice_that_is_held_back_from_training_is_refused(tmp_path, put, spikes):
    """Whatever holds it back: voices to validate on, a voice to test on, or the parts that a file names itself."""
    one = spikes(12, speakers="012")
    one["speaker"] = np.where(one["labels"] == 3, 2, one["speaker"])  # only speaker 2 says "three"
    file = put(tmp_path / "one.h5", one)
    for arguments in ({"by": "speaker=2"}, {"by": "speaker=0", "validation": ("2",)}):
        with pytest.raises(
            ValueError, match="train holds no recording of 1 of the classes: three; choose another rule"
        ):
            SHD(file, "train", **{"validation": 0} | arguments)
    with pytest.raises(ValueError, match=r"split='train' .* holds no recording"):
        SHD(file, "train", "speaker=0", validation=("1", "2"))
    with h5py.File(file, "a") as opened:
        opened["extra/split"] = np.where(one["labels"] == 1, 2, 0)
    with pytest.raises(ValueError, match="train holds no recording of 1 of the classes: one"):
        SHD(file, "train", validation=0)
    assert len(SHD(file, "test")) == 3
    with pytest.raises(ValueError, match="no such speaker as '0'; speakers: 1, 2"):
        SHD(file, "train", "speaker=0", validation=("0",))


def test_leave_one_speaker_out(shd):
    tested = []
    for speaker in "01234":
        data = parts(shd, by=f"speaker={speaker}", validation=0.25)
        assert set(data["test"].speakers) == {speaker} and speaker not in data["train"].speakers
        assert speaker not in data["validation"].speakers
        assert sum(map(len, data.values())) == 40  # the official test part stays out of it
        tested += data["test"].keys
        both = parts(shd, by=f"speaker={speaker}", validation=["0" if speaker != "0" else "1"])
        assert len(set(both["validation"].speakers)) == 1 and both["test"].keys == data["test"].keys
    assert sorted(tested) == sorted(SHD(shd, "train", validation=0).keys)
    with pytest.raises(ValueError, match="SHD: by='speaker=7': no such speaker; speakers: 0, 1, 2, 3, 4"):
        SHD(shd, by="speaker=7")


def test_ssc_parts(ssc):
    data = parts(ssc, SSC)
    assert {split: len(d) for split, d in data.items()} == {"train": 12, "validation": 13, "test": 14}
    assert data["validation"].keys[0] == "ssc_valid/0" and len(SSC(ssc, "all")) == 39


def test_one_file(shd):
    file = shd / "shd_train.h5"
    assert len(SHD(file, "all")) == 40
    with pytest.raises(ValueError, match="is one file and does not say which recordings test; give by='speaker=NAME'"):
        SHD(file)
    data = parts(file, by="random", test=0.2, validation=0.25)
    assert {split: len(d) for split, d in data.items()} == {"train": 24, "validation": 8, "test": 8}
    assert len({key for d in data.values() for key in d.keys}) == 40


@pytest.mark.parametrize("numbers", [{"validation": 1, "test": 2}, {"test": 2}])
def test_a_file_that_names_its_parts(tmp_path, numbers, put, spikes):
    split = [[*numbers.values(), 0, 0, 0, 0][n // 4 % 5] for n in range(48)]
    file = put(tmp_path / "own.h5", spikes(48))
    with h5py.File(file, "a") as opened:
        opened["extra/split"] = np.array(split, np.uint8)
    data = parts(file, validation=0.2)
    assert data["test"].keys == [f"own/{n}" for n in range(48) if split[n] == 2]
    if "validation" in numbers:
        assert data["validation"].keys == [f"own/{n}" for n in range(48) if split[n] == 1]
    assert len({key for d in data.values() for key in d.keys}) == 48


@pytest.mark.parametrize("folder", ["", "SHD", "extract"])
def test_where_other_libraries_put_the_files(shd, tmp_path_factory, folder):
    root = tmp_path_factory.mktemp("other")
    (root / folder).mkdir(exist_ok=True)
    for name in ("shd_train.h5", "shd_test.h5"):
        (root / folder / name).symlink_to(shd / name)
    assert len(SHD(root, "test")) == 12 == len(SHD(root, "test", download=True))  # nothing to fetch


def test_items_are_the_files_spikes(shd):
    data = SHD(shd, "test", binning=Binning(0.01))
    with h5py.File(shd / "shd_test.h5") as file:
        for n, item in enumerate(data):
            times = file["spikes/times"][n].astype(float)
            truth = np.zeros((item.spikes.shape[0], 700))
            for t, u in zip(times, file["spikes/units"][n], strict=True):
                k = max(k for k in range(200) if k * 0.01 <= t)
                truth[k, u] += 1
            assert torch.equal(item.spikes, torch.from_numpy(truth).float())
            assert (item.label, item.position) == (n % 4, n) and item.speaker == data.speakers[n]
            assert item.spikes.dtype == torch.float32 and len(item.spikes) == data.durations[n]


def test_unsorted_times_are_binned_alike_and_events_come_sorted(tmp_path, put, spikes):
    data = spikes(4)
    put(tmp_path / "sorted.h5", data)
    order = [np.random.default_rng(n).permutation(len(t)) for n, t in enumerate(data["times"])]
    mixed = {name: [row[o] for row, o in zip(data[name], order, strict=True)] for name in ("times", "units")}
    put(tmp_path / "mixed.h5", data, **mixed)
    ours, truth = (SHD(tmp_path / f"{name}.h5", "all") for name in ("mixed", "sorted"))
    assert ours.durations == truth.durations
    for n in range(4):
        assert torch.equal(ours[n].spikes, truth[n].spikes)
        events = ours.events(n)
        assert (np.diff(events.times) >= 0).all()
        assert sorted(zip(*events, strict=True)) == sorted(zip(*truth.events(n), strict=True))


def test_a_recording_without_spikes_is_one_step_and_said(tmp_path, put, spikes):
    data = spikes(4)
    data["times"][2], data["units"][2] = [], []
    data["times"][3], data["units"][3] = [0.002], [699]  # shorter than a step
    silent = SHD(put(tmp_path / "a.h5", data), "all")
    assert silent[2].spikes.shape == (1, 140) and not silent[2].spikes.any()
    assert silent[3].spikes.shape == (1, 140) and silent[3].spikes[0, 139] == 1
    assert silent.durations[2:] == [1, 1]
    assert silent.messages == ["1 of 4 recordings hold no spike: each is one empty step"]
    assert len(silent.events(2).times) == 0


def test_what_the_binning_leaves_out_is_said(shd):
    data = SHD(shd, "test", binning=Binning(0.01, duration=0.3))
    late = sum(int(data.events(n).times[-1] >= 0.3) for n in range(12))
    assert 0 < late < 12 and data.messages == [f"{late} of 12 recordings have spikes from 0.3 s on, which are left out"]
    assert max(data.durations) == 30 == max(len(item.spikes) for item in data)


def test_labels_of_an_earlier_training(shd):
    data = SHD(shd, "test", labels=["three", "more", "two", "one", "zero"])
    assert data.targets == [[4, 3, 2, 0][n % 4] for n in range(12)] == [item.label for item in data]
    with pytest.raises(ValueError, match="holds class 'three', which is not among labels"):
        SHD(shd, "test", labels=["zero", "one", "two"])
    with pytest.raises(ValueError, match="names a class twice"):
        SHD(shd, "test", labels=["zero", "zero", "one", "two", "three"])


def test_without_names_and_speakers(tmp_path, put, spikes):
    data = SHD(put(tmp_path / "bare.h5", spikes(8), keys=None, speaker=None), "all")
    assert data.labels == ["0", "1", "2", "3"] and set(data.speakers) == {""}
    assert "unknown speakers" in repr(data)


def test_several_at_once_are_the_same(shd):
    data = SHD(shd, "all")
    wanted = [51, 3, 3, -1, 40, 0]
    for one, again in zip(data.__getitems__(wanted), [data[n] for n in wanted], strict=True):
        assert torch.equal(one.spikes, again.spikes) and one[1:] == again[1:]
    assert data.__getitems__([]) == []
    for bad in (52, -53):
        with pytest.raises(IndexError, match=f"index {bad} is beyond 52 recordings"):
            data[bad]


def test_the_cache_gives_the_same_and_keeps_its_bound(shd, monkeypatch):
    plain, cached, little = SHD(shd, "all"), SHD(shd, "all", cache=True), SHD(shd, "all", cache=2000)
    for data in (cached, little):
        for n in range(52):
            assert torch.equal(data[n].spikes, plain[n].spikes)
    held = sum(events.times.nbytes + events.units.nbytes for events in little._cache.values())
    assert 0 < held <= 2000 and len(cached._cache) == 52
    cached[0].spikes.fill_(9)  # an item is the caller's own
    for file in cached._sources:
        monkeypatch.setattr(file, "read", lambda indices: [] if not indices else pytest.fail("it reads the file again"))
    assert torch.equal(cached[0].spikes, plain[0].spikes)


def whose(recordings):
    """The processes that opened the files which a worker's recordings came from, and the worker itself."""
    data = torch.utils.data.get_worker_info().dataset
    return collate_spikes(recordings), os.getpid(), {file._process for file in data._sources if file._file is not None}


def test_a_forked_worker_leaves_its_parents_file_alone(shd):
    data = SHD(shd, "test")
    data[0]
    for _, worker, opened in DataLoader(data, 4, collate_fn=whose, num_workers=2, multiprocessing_context="fork"):
        assert opened == {worker} and worker != os.getpid()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_open_the_file_for_themselves(shd, context):
    data = SHD(shd, "all")
    data[0]  # opened here: a forked worker must not go on with this handle
    sampler = BucketSampler(data.durations, 8, seed=3)
    loader = DataLoader(
        data, batch_sampler=sampler, collate_fn=collate_spikes, num_workers=2, multiprocessing_context=context
    )
    batches = list(loader)
    assert [batch.indices.tolist() for batch in batches] == list(sampler)
    for batch in batches:
        for b, (at, length) in enumerate(zip(batch.indices.tolist(), batch.lengths.tolist(), strict=True)):
            item = data[at]
            assert length == len(item.spikes) and batch.labels[b] == item.label and batch.keys[b] == item.key
            assert torch.equal(batch.spikes[:length, b], item.spikes) and not batch.spikes[length:, b].any()


def test_pickles_closed(shd):
    data = SHD(shd, "test")
    data[0]
    again = pickle.loads(pickle.dumps(data))
    assert again._sources[1]._file is None and torch.equal(again[5].spikes, data[5].spikes)


def test_the_file_is_opened_once(shd, monkeypatch):
    data = SHD(shd, "test")
    opened = []
    real = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *a, **k: opened.append(a) or real(*a, **k))
    for n in range(12):
        data[n]
    assert len(opened) == 1


def test_collate():
    with pytest.raises(ValueError, match="collate_spikes: recordings is empty"):
        collate_spikes([])
    batch = collate_spikes([SpikeRecording(torch.ones(n, 5), n, f"k{n}", "", n) for n in (3, 1)])
    assert batch.spikes.shape == (3, 2, 5) and batch.spikes.sum((0, 2)).tolist() == [15, 5]
    assert batch.lengths.tolist() == batch.labels.tolist() == batch.indices.tolist() == [3, 1]
    moved = batch.to("meta")
    assert moved.spikes.device.type == moved.lengths.device.type == "meta" and moved.indices.device.type == "cpu"


def test_a_network_takes_a_batch_and_padding_does_not_matter(shd):
    from temporal import Model, Sequential
    from temporal.layers import SumSoftmax
    from temporal.neurons import LI, LIF

    data = SHD(shd, "test")
    network = Sequential(torch.nn.Linear(data.channels, 16), LIF(2.0), torch.nn.Linear(16, 4), LI(2.0))
    model = Model(None, network, SumSoftmax()).eval()
    together = collate_spikes([data[n] for n in range(12)])
    logits = model(together.spikes, together.lengths)
    for n in range(12):
        alone = collate_spikes([data[n]])
        # Matrix products of other shapes round differently; no membrane here lies that near its threshold.
        torch.testing.assert_close(model(alone.spikes, alone.lengths)[0], logits[n], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "SHD: split='valid' is unknown; known: train, validation, test, all"),
        ({"by": "lists"}, "SHD: by='lists' is unknown; known: auto, official, random, speaker=NAME"),
        ({"binning": "20ms"}, "Binning: preset '20ms' is unknown"),
        ({"validation": 1.5}, "SHD: validation=1.5 must be a share"),
        ({"split": "validation", "validation": 0}, "SHD: validation=0 leaves no validation part"),
        ({"split": "train", "validation": 38}, "validation=38 cannot be cut from 40 recordings"),
    ],
)
def test_wrong_arguments(shd, arguments, message):
    with pytest.raises(ValueError) as caught:
        SHD(shd, **arguments)
    assert message in str(caught.value)


def test_missing_files_say_where_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        SHD(tmp_path)
    assert str(caught.value) == (
        f"SHD: {tmp_path} holds no shd_train.h5; put the files shd_train.h5, shd_test.h5 there (from "
        "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/), or give download=True, or give one file as root"
    )
    (tmp_path / "ssc_train.h5.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"ssc_train\.h5\.gz is packed; unpack it"):
        SSC(tmp_path)
