"""A small study, and runs that cost nothing: what a training leaves, written by a child that trains nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from temporal.models import DelayedLIF, Mel
from temporal.studies import Study
from temporal.training import Data, Optimizer, Recipe

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


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """Two arms and two seeds of a recipe that learns to tell two tones apart; 0 to 4 of each speaker test."""
    root = tmp_path_factory.mktemp("tones")
    for label, pitch in (("low", 300.0), ("high", 2000.0)):
        for speaker in ("ann", "bob"):
            for index in range(10):
                draw = np.random.default_rng([int(pitch), len(speaker), ord(speaker[0]), index])
                wave = np.sin(2 * np.pi * pitch * np.arange(1600) / 8000) + 0.1 * draw.standard_normal(1600)
                soundfile.write(root / f"{label}_{speaker}_{index}.wav", 0.3 * wave, 8000)
    recipe = Recipe(
        name="tones",
        data=Data(path=str(root), validation=0.0),
        frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=20),
        network=DelayedLIF(hidden=16, layers=1, max_delay=4, dropout=0.0),
        optimizer=Optimizer(lr=0.02),
        epochs=12,
        batch_size=4,
    )
    arms = {"none": {"network.delays": "none"}, "learned": {}}
    return Study(name="tones", recipe=recipe, arms=arms, seeds=(0, 1))


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
    """result(folder, right, speakers, **more): what a finished run has said, recording by recording."""

    def write(folder, right, speakers=None, **more):
        folder.mkdir(parents=True, exist_ok=True)
        said = [{"file": f"r{n}", "label": "a", "prediction": "a" if ok else "b"} for n, ok in enumerate(right)]
        said = [row | {"speaker": who} for row, who in zip(said, speakers or [""] * len(said), strict=True)]
        total = {"accuracy": sum(right) / len(right), "correct": sum(right), "total": len(right)}
        (folder / "result.json").write_text(json.dumps(total | {"predictions": said} | more))

    return write
