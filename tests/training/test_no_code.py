"""Nothing that is read executes code: pickles that would, and names that point at it, in every file that there is."""

import hashlib
import io
import os
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch

import temporal
from temporal.datasets import SHD, SpokenDigits
from temporal.kernels.cochlea import _table
from temporal.training import Run, evaluate, find_recipe, train


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """What a bomb makes; it works, and nothing else has made it when the test ends."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Bomb(path)))
    path.rmdir()
    yield path
    assert not path.exists(), "code from a file was executed"


def torch_file(content, inside_zip=True):
    """What torch.save writes, of a pickle: the present form, or the one before."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=inside_zip)
    return file.getvalue()


def bombs(mark):
    bare = pickle.dumps(Bomb(mark), protocol=2)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:  # the first form that torch had
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(bare)
            archive.addfile(entry, io.BytesIO(bare))
    yield "a pickle", bare
    yield "in a checkpoint", torch_file({"format": 1, "model": {}, "more": Bomb(mark)})
    yield "in the form before", torch_file(Bomb(mark), inside_zip=False)
    yield "in a tar", tar.getvalue()
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:  # TorchScript brings code by design
        archive.writestr("archive/data.pkl", bare)
        archive.writestr("archive/constants.pkl", bare)
        archive.writestr("archive/version", "3\n")
    yield "as TorchScript", script.getvalue()


@pytest.fixture
def folder(trained, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    (folder / "result.json").unlink()
    (folder / "previous_checkpoint.pt").unlink()
    return folder


@pytest.mark.parametrize("number", range(5))
def test_a_checkpoint(folder, mark, small, number):
    what, content = list(bombs(mark))[number]
    (folder / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt: not a readable checkpoint"):
        train(small, folder, resume=True, device="cpu")
    assert what and not (folder / "result.json").exists()


@pytest.mark.parametrize("number", range(5))
def test_weights(folder, mark, number):
    content = list(bombs(mark))[number][1]
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors: not a readable safetensors file"):
        temporal.load(folder)


def test_names_in_weights_are_temporals_own(folder, mark):
    """A specification that names a function of Python's is a network that has to be handed in, whatever it is called."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    file = folder / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        about, tensors = opened.metadata()["temporal"], {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(
        tensors, file, {"temporal": about.replace('"delayed-lif"', f'"os.mkdir(\\"{mark}\\")"'.replace('"', '"', 1))}
    )
    with pytest.raises(ValueError, match="safetensors"):
        temporal.load(folder)
    save_file(tensors, file, {"temporal": about.replace("delayed-lif", "os.mkdir")})
    with pytest.raises(ValueError, match=r"'os.mkdir' is not one of temporal's"):
        temporal.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.kind", "os.mkdir", "network of kind 'os.mkdir': known are"),
        ("frontend.kind", "os.mkdir", "unknown kind of front end 'os.mkdir'"),
        ("network.surrogate", "__import__('os').mkdir('{mark}')", "surrogate"),
        ("network.surrogate", "atan(__import__('os').mkdir('{mark}'))", "surrogate"),
        ("data.split", "speaker=$(mkdir {mark})", "mkdir"),
        ("base", "{mark}.py", "no such recipe file"),
    ],
)
def test_a_recipe_in_toml(small, tones, tmp_path, mark, key, value, message):
    import tomli_w

    stored = small.to_dict()
    *above, last = key.split(".")
    (stored[above[0]] if above else stored)[last] = value.format(mark=mark)
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(stored))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(find_recipe(str(tmp_path / "recipe.toml")), tmp_path / "run", device="cpu")


def test_lists_of_numbers_in_a_run(folder, mark):
    """JSON has no code; a pickle in its place is an error that names the file."""
    bare = pickle.dumps(Bomb(mark))
    for name, read in (
        ("metrics.jsonl", lambda run: run.metrics()),
        ("result.json", lambda run: run.result()),
        ("training_files.json", evaluate),
    ):
        whole = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_bytes(bare + b"\n" + bare)
        with pytest.raises(ValueError, match=name):
            read(Run.open(folder))
        (folder / name).unlink() if whole is None else (folder / name).write_bytes(whole)


def test_caches(tmp_path, mark, monkeypatch):
    """The folder of the embedded digits, and a cochlea's table: an array of objects is a pickle."""
    monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path / "cache"))
    digits = tmp_path / "digits"
    digits.mkdir()
    (digits / "index.json").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match="digits"):
        SpokenDigits(digits)
    whole, arrays = _table.load.__wrapped__(3), io.BytesIO()
    np.savez(arrays, **{name: np.array([Bomb(mark)], dtype=object) for name in _table._NAMES})
    file = _table.table_file(3)
    file.write_bytes(hashlib.sha256(arrays.getvalue()).digest() + arrays.getvalue())  # the right sum over a bomb
    again = _table.load.__wrapped__(3)
    assert all(np.array_equal(getattr(again, name), getattr(whole, name)) for name in _table._NAMES)
    assert file.read_bytes()[32:] != arrays.getvalue()


def test_a_file_of_spikes(tmp_path, mark):
    file = tmp_path / "words.h5"
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match=r"words.h5"):
        SHD(file)
