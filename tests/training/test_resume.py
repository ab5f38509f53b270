"""A run that is killed, anywhere, and resumed is the run that was never stopped; and what else may happen to its folder."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from temporal.training import Delays, Interrupted, Progress, Run, train
from temporal.training.run import alone, is_blank

pytestmark = pytest.mark.usefixtures("quick_writing")
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def short(small):
    """Two epochs of three steps each, with an average of the weights beside them; before the fifth synapses are pruned."""
    delays = Delays(prune=0.3, depth_penalty=0.1, spread_penalty=0.1)
    return dataclasses.replace(small, epochs=2, ema=0.9, delays=delays)


@pytest.fixture(scope="module")
def go(short, in_child):
    """Train it in a child, with a checkpoint after every step."""

    def train_in_child(folder, plan=None, resume=False, **more):
        more = {"device": "cpu", "checkpoint_every": 0, "resume": resume} | more
        return in_child(lambda: train(short, folder, **more), plan)

    return train_in_child


@pytest.fixture(scope="module")
def whole(go, quick_writing, tmp_path_factory):
    """The run that is never stopped."""
    folder = tmp_path_factory.mktemp("never-stopped") / "run"
    assert go(folder) == (0, "")
    return folder


def without_seconds(value):
    """Everything but how long it took."""
    if isinstance(value, dict):
        return {key: without_seconds(entry) for key, entry in value.items() if key != "seconds"}
    return [without_seconds(entry) for entry in value] if isinstance(value, list) else value


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


OWN = (
    ".lock",
    "sessions.json",
    "events.out.tfevents",
)  # of each process that trained; the last has its time in its name


def names(folder):
    return {next((own for own in OWN if file.name.startswith(own)), file.name) for file in folder.iterdir()}


def check_same(folder, whole):
    """The same files with the same bits: also the state of the optimiser and the schedules, and the pictures."""
    assert names(folder) == names(whole)
    for file in whole.iterdir():
        if file.suffix == ".pt":
            ours, theirs = (torch.load(path, weights_only=True) for path in (folder / file.name, file))
            assert equal(without_seconds(ours), without_seconds(theirs)), file.name
        elif file.name == "metrics.jsonl":
            assert without_seconds(Run(folder).metrics()) == without_seconds(Run(whole).metrics())
        elif not file.name.startswith(OWN):
            assert (folder / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    "place",
    [
        "write recipe.toml 1",  # before anything says what the run is
        "optimizer 2",  # within a step: the weights have moved, the schedules have not
        "write checkpoint.pt 6",  # within a checkpoint, the second
        "kept checkpoint.pt 3",  # between its two renamings
        "written model.safetensors 1",  # after the checkpoint of an epoch, before its weights and metrics
        "renamed result.json 1",  # between the result and the pictures
    ],
)
def test_killed_and_resumed_is_the_same_to_the_last_bit(go, whole, tmp_path, place):
    assert go(tmp_path / "run", f"kill {place}") == (KILLED, "")
    assert go(tmp_path / "run", resume=True) == (0, "")
    check_same(tmp_path / "run", whole)


@pytest.fixture(scope="module")
def places(go, quick_writing, tmp_path_factory):
    """Every place that a run passes, in order."""
    folder = tmp_path_factory.mktemp("traced")
    assert go(folder / "run", f"trace {folder / 'places'}")[0] == 0
    return (folder / "places").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(50))
def test_fifty_kills(go, whole, places, tmp_path, number):
    """Each at a place drawn by its number; most resumed runs are killed again, up to three times in all."""
    draw = random.Random(number)
    folder = tmp_path / "run"
    at = draw.randrange(len(places))
    assert go(folder, f"kill * {at + 1}") == (KILLED, "")
    for _ in range(draw.randrange(3)):
        if not folder.exists():
            break
        again = draw.randrange(1, max(2, len(places) - at))
        code, said = go(folder, f"kill * {again}", resume=True)
        assert (code, said) in ((KILLED, ""), (0, ""))
    assert go(folder, resume=folder.exists()) == (0, "")
    check_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_killed_from_outside_at_any_time(short, whole, go, tmp_path, number):
    """Not at a named place: after a time, wherever the process is then."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train(short, tmp_path / "run", device="cpu", checkpoint_every=0)
        os._exit(0)
    while not (tmp_path / "run").exists():
        time.sleep(0.001)
    time.sleep(random.Random(number).uniform(0, 0.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert go(tmp_path / "run", resume=True) == (0, "")
    check_same(tmp_path / "run", whole)


def test_checkpoints_are_written_by_time(short, go, tmp_path):
    """After every step, or not within an epoch at all: what a kill in the fifth step leaves."""
    for seconds, expected in ((0, (1, 1)), (3600.0, (1, 0))):
        folder = tmp_path / f"{seconds}"
        assert go(folder, "kill optimizer 5", checkpoint_every=seconds)[0] == KILLED
        position = torch.load(folder / "checkpoint.pt", weights_only=True)["position"]
        assert (position["epoch"], position["batch"]) == expected
    with pytest.raises(ValueError, match="checkpoint_every=-1; 0 or more seconds"):
        train(short, tmp_path / "other", checkpoint_every=-1)


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_the_checkpoint_before_takes_over(go, whole, tmp_path, short, damage):
    """A byte that changed within a tensor is seen as well: torch itself would load it without a word."""
    folder = tmp_path / "run"
    assert go(folder, "kill step 6")[0] == KILLED
    file = folder / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights = torch.load(file, weights_only=True)["model"]["network.0.weight"]
        content[content.index(weights.numpy().tobytes()) + 5] ^= 16
        file.write_bytes(content)
    else:
        file.unlink()
    said = []
    code, text = go(folder, resume=True, progress=Told(folder.parent / "said"))
    assert (code, text) == (0, "")
    said = (folder.parent / "said").read_text()
    assert "checkpoint.pt" in said and "continues from" in said and "previous_checkpoint.pt" in said
    if damage != "missing":
        (folder / "damaged_checkpoint.pt").unlink()
    check_same(folder, whole)


class Told(Progress):
    """Keeps what was said in a file, since a child's memory is its own."""

    def __init__(self, file):
        super().__init__(Progress.silent().console)
        self.file = file

    def say(self, text):
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def test_without_a_whole_checkpoint_nothing_is_trained_anew(go, tmp_path, short):
    """A finished epoch is not thrown away in silence: the error says what is there."""
    folder = tmp_path / "run"
    assert go(folder, "kill step 6")[0] == KILLED
    for name in ("checkpoint.pt", "previous_checkpoint.pt"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"previous_checkpoint.pt: not a readable checkpoint"):
        train(short, folder, resume=True)
    for name in ("checkpoint.pt", "previous_checkpoint.pt"):
        (folder / name).unlink()
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}
    with pytest.raises(ValueError, match=r"holds metrics.jsonl and model.safetensors, but no checkpoint.pt"):
        train(short, folder, resume=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"} == before


@pytest.mark.parametrize("plan", ["full write checkpoint.pt 6", "full written model.safetensors 1"])
def test_a_full_disk_for_a_while_changes_nothing(go, whole, tmp_path, plan):
    code, text = go(tmp_path / "run", plan, progress=Told(tmp_path / "said"))
    assert (code, text) == (0, "")
    file = plan.split()[2]
    assert f"{file}: cannot be written (No space left on device); the one before is kept, and training goes on" in (
        tmp_path / "said"
    ).read_text().replace(f"{tmp_path / 'run'}/", "")
    check_same(tmp_path / "run", whole)


def test_a_disk_that_stays_full_keeps_the_last_checkpoint(short, go, whole, tmp_path, in_child):
    """The system itself refuses here: no file may grow beyond 8 kB, a checkpoint has 26."""
    import resource

    folder = tmp_path / "run"
    assert go(folder, "kill step 3")[0] == KILLED
    before = (folder / "checkpoint.pt").read_bytes()

    def train_in_little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))
        train(short, folder, device="cpu", checkpoint_every=0, resume=True)

    code, text = in_child(train_in_little_room)
    assert code == 1 and "checkpoint.pt: cannot be written (File too large)" in text and "--resume --out" in text
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert not list(folder.glob(".checkpoint*"))
    assert go(folder, resume=True) == (0, "")
    check_same(folder, whole)


@pytest.mark.slow
def test_a_disk_that_is_full_indeed(short, go, whole, tmp_path):
    """A file system of its own with less room than a run needs, which is given more when the run has failed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if made.returncode:
        pytest.skip(f"a file system may not be mounted here: {made.stderr.decode().strip()}")
    try:
        code, text = go(disk / "run")
        assert code == 1 and "cannot be written (No space left on device)" in text
        if not (disk / "run" / "checkpoint.pt").exists():
            assert {"recipe.toml", ".lock"} <= {file.name for file in (disk / "run").iterdir()}
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert go(disk / "run", resume=True) == (0, "")
        check_same(disk / "run", whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_second_process_is_refused_until_the_first_has_died(short, tmp_path, in_child):
    folder = tmp_path / "run"
    folder.mkdir()
    short.to_toml(folder / "recipe.toml")
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        with alone(folder):
            os.write(says, b"holding")
            time.sleep(60)
        os._exit(0)
    try:
        assert os.read(hears, 100) == b"holding"
        with pytest.raises(
            BlockingIOError, match=f"run: process {child} on .* is training in this folder; wait for it"
        ):
            train(short, folder, resume=True, device="cpu")
        assert in_child(lambda: train(short, folder, resume=True))[1].startswith("BlockingIOError")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(hears), os.close(says)
    with alone(folder):
        pass  # the lock died with its owner


def test_two_that_begin_the_same_folder_at_once(short, tmp_path, monkeypatch):
    """The second one found no folder either, and comes to it when the first has written its recipe."""
    folder = tmp_path / "run"

    def faster(place):
        if place == "begin":
            folder.mkdir()
            short.to_toml(folder / "recipe.toml")

    monkeypatch.setattr("temporal.training._training.failpoint", faster)
    with pytest.raises(FileExistsError, match="exists already"):
        train(short, folder, device="cpu")


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / ".checkpoint.pt.12345").write_bytes(b"half of it")
    (tmp_path / ".hidden").write_bytes(b"somebody's")
    assert not is_blank(tmp_path)
    with alone(tmp_path):
        assert {file.name for file in tmp_path.iterdir()} == {".lock", ".hidden"}
    (tmp_path / ".hidden").unlink()
    assert is_blank(tmp_path)


def test_other_recordings_than_those_that_it_began_with_are_refused(short, tones, tmp_path, stop_after):
    """Also where the number is the same: the order and the normalisation would be another run's."""
    data = tmp_path / "data"
    data.mkdir()
    for file in tones.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    recipe = short.override({"data.path": str(data)})
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", device="cpu", progress=stop_after(2))
    name = next(iter(Run(tmp_path / "run").trained_on().values()))
    content = bytearray((data / name).read_bytes())
    content[-1] ^= 1
    (data / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=f"not those that it began with: 2 were added, removed or changed, such as {name}"
    ):
        train(recipe, tmp_path / "run", resume=True, device="cpu")


def test_sigterm_ends_a_run_as_ctrl_c_does(short, go, whole, tmp_path, in_child):
    """What a cluster sends before it kills."""

    class Preempted(Progress):
        def __init__(self):
            super().__init__(Progress.silent().console)

        def step(self, epoch, batch, *figures):
            if batch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    code, text = in_child(lambda: train(short, tmp_path / "run", device="cpu", progress=Preempted()))
    assert code == 1 and text.startswith("Interrupted: stopped in epoch 1 of 2; continue with --resume")
    assert go(tmp_path / "run", resume=True) == (0, "")
    for name in ("model.safetensors", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_the_same_seed_gives_the_same_bits(go, whole, tmp_path):
    assert go(tmp_path / "run") == (0, "")
    check_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_new_processes(short, tmp_path):
    """Whatever Python's hashes, the folder, and the name of the run are."""
    short.to_toml(tmp_path / "recipe.toml")
    for number in ("1", "2"):
        place = tmp_path / f"from-{number}"
        place.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": number, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "temporal", "train", str(tmp_path / "recipe.toml"), "--device", "cpu"]
        subprocess.run(
            [*command, "--out", f"run-{number}"], cwd=place, env=environment, check=True, capture_output=True
        )
    check_same(tmp_path / "from-1" / "run-1", tmp_path / "from-2" / "run-2")


def test_a_finished_run_is_shown_and_left_alone(whole, short, tmp_path):
    """Its recordings may be gone, and its folder need not be writable."""
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in whole.iterdir()}
    said = Told(tmp_path / "said")
    run = train(short, whole, resume=True, progress=said)
    assert run.result() == json.loads((whole / "result.json").read_text())
    assert "finished already" in said.file.read_text()
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in whole.iterdir()} == before
