"""Small files in the layout of SHD and SSC."""

import h5py
import numpy as np
import pytest

WORDS = ["zero", "one", "two", "three"]


def make_spikes(count=8, seed=0, classes=4, speakers=("0", "1"), most=200):
    """Recordings with everything that an SHD file says of them; the draws are those of the seed."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(20, most, count)
    return {
        "times": [np.sort(draw.uniform(0, 0.2 + 0.05 * (n % 7), size)) for n, size in enumerate(sizes)],
        "units": [draw.integers(0, 700, size) for size in sizes],
        "labels": np.arange(count) % classes,
        "speaker": np.array([int(speakers[(n // classes) % len(speakers)]) for n in range(count)]),
    }


def put_file(path, data, keys=WORDS, **changes):
    """Write a file as the published ones are: float16 times, 16-bit units. None leaves a part out."""
    data = data | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            if data[name] is not None:
                rows = file.create_dataset(f"spikes/{name}", (len(data[name]),), dtype=h5py.vlen_dtype(kind))
                for n, row in enumerate(data[name]):
                    rows[n] = np.asarray(row, kind)
        if data["labels"] is not None:
            file["labels"] = np.asarray(data["labels"]).astype(np.uint8)
        if keys is not None:
            file["extra/keys"] = np.array([key.encode() for key in keys])
        if data["speaker"] is not None:
            file["extra/speaker"] = np.asarray(data["speaker"], np.uint16)
    return path


@pytest.fixture
def spikes():
    """The function that draws recordings."""
    return make_spikes


@pytest.fixture
def put():
    """The function that writes a file."""
    return put_file


@pytest.fixture
def shd(tmp_path):
    """A folder as the published SHD: 40 recordings of speakers 0 to 4 to train, 12 of 5 and 6 to test on."""
    put_file(tmp_path / "shd_train.h5", make_spikes(40, seed=1, speakers="01234"))
    put_file(tmp_path / "shd_test.h5", make_spikes(12, seed=2, speakers="56"))
    return tmp_path
