"""A small study, and runs that cost nothing: what a training leaves, written by a child that trains nothing."""

import json
import subprocess
import sys

import pytest

from temporal.models import DelayedLIF
from temporal.studies import Study
from temporal.training import Recipe

# Recordings "r0" .. "r9" of one class, so many of them right; a run that is told to fail does so as many times.
CHILD = """
import json, os, pathlib, signal, sys, time
folder, right, failures, how, seconds = pathlib.Path(sys.argv[1]), *sys.argv[2:]
folder.mkdir(parents=True, exist_ok=True)
tries = folder / "tries"
tries.write_text(str(int(tries.read_text()) + 1 if tries.exists() else 1))
time.sleep(float(seconds))
if int(tries.read_text()) <= int(failures):
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("temporal: out of luck", file=sys.stderr)
    sys.exit(1)
said = [{"file": f"r{n}", "label": "a", "prediction": "a" if n < int(right) else "b"} for n in range(10)]
total = {"accuracy": int(right) / 10, "correct": int(right), "total": 10}
(folder / "result.json").write_text(json.dumps(total | {"predictions": said}))
"""


@pytest.fixture
def study():
    recipe = Recipe(name="small", network=DelayedLIF(hidden=8, layers=1, max_delay=3), epochs=1)
    arms = {"plain": {"network.delays": "none"}, "learned": {}}
    return Study(name="two", recipe=recipe, arms=arms, seeds=(0, 1))


@pytest.fixture
def pretend(monkeypatch):
    """pretend(right, failures, how, seconds): runs of a study are made up; the first three by the cell's name."""

    def set_up(right=lambda key: 5, failures=lambda key: 0, how="status", seconds=0.0):
        started = []

        def start(recipe, folder, log, threads, device):
            key = folder.rsplit("/", 1)[1]
            started.append((key, threads))
            arguments = [folder, right(key), failures(key), how, seconds]
            with open(log, "ab") as words:
                return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stdout=words, stderr=words)

        monkeypatch.setattr("temporal.studies.running.start", start)
        return started

    return set_up


@pytest.fixture
def result():
    """result(folder, right): what a finished run has said, recording by recording."""

    def write(folder, right):
        folder.mkdir(parents=True, exist_ok=True)
        said = [{"file": f"r{n}", "label": "a", "prediction": "a" if ok else "b"} for n, ok in enumerate(right)]
        total = {"accuracy": sum(right) / len(right), "correct": sum(right), "total": len(right)}
        (folder / "result.json").write_text(json.dumps(total | {"predictions": said}))

    return write
