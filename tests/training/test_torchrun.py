"""The command under torchrun itself, as a user starts it."""

import os
import signal
import subprocess
import sys

import pytest

from temporal.training import Run

pytestmark = pytest.mark.slow  # a minute: torchrun and each of its processes load torch


def start(recipe, out, *more):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "temporal", "train", str(recipe), "--out", str(out), "--device", "cpu", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_is_stopped_resumed_and_says_everything_once(small, tmp_path):
    small.override({"epochs": 40}).to_toml(tmp_path / "tones.toml")
    with start(tmp_path / "tones.toml", tmp_path / "run") as process:
        for line in process.stderr:
            if "epoch   2/40" in line:
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
    assert process.returncode != 0 and said.count("continue with --resume") == 1
    stopped = len(Run.open(tmp_path / "run").metrics())
    assert 2 <= stopped < 40

    with start(tmp_path / "tones.toml", tmp_path / "run", "--resume") as process:
        out, said = process.communicate()
    assert process.returncode == 0, said
    assert out.count("accuracy: ") == 1 and said.count("run folder: ") == 1 and "2 processes" in said
    assert "Warning" not in said
    rows = Run.open(tmp_path / "run").metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert Run.open(tmp_path / "run").result()["accuracy"] >= 0.9
