"""Studies of real runs, on this machine and on two workers of Dask; some are killed on the way."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from temporal.studies import run_study
from temporal.training import Run

pytestmark = pytest.mark.slow  # a minute each: every run is a process that loads torch


def wait_for(condition, seconds=300.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def whole(study, outcome):
    assert not outcome.failed and outcome.summary.finished == 4
    for cell in study.cells():
        run = Run(outcome.folder / "runs" / cell.key)
        assert [row["epoch"] for row in run.metrics()] == list(range(1, 13))
        assert run.recipe().seed == cell.seed and run.is_finished()
    assert all(arm.mean > 0.8 for arm in outcome.summary.arms)
    assert outcome.summary.arms[1].parameters > outcome.summary.arms[0].parameters > 100


def trains_in(folder):
    """The process that holds a run folder."""
    return int((folder / ".lock").read_text().split()[1])


def is_alive(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_a_killed_run_is_continued_and_a_stopped_study_too(tones, tmp_path):
    out, said, stopped = tmp_path / "out", [], []

    def disturb():
        first = out / "runs" / "none_seed0"
        wait_for(lambda: len(Run(first).metrics()) >= 2)
        os.kill(trains_in(first), signal.SIGKILL)
        wait_for(lambda: any("none_seed0: killed by signal 9" in line for line in said))
        last = out / "runs" / "learned_seed1"
        wait_for(lambda: len(Run(last).metrics()) >= 2)
        stopped.append(trains_in(last))
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=disturb)
    helper.start()
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        run_study(tones, out, jobs=2, device="cpu", say=said.append)
    helper.join()
    assert not is_alive(stopped[0]), "a run that nobody watches"
    before = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}
    assert len(before) < 4
    outcome = run_study(tones, out, jobs=2, device="cpu")
    whole(tones, outcome)
    assert sorted(outcome.kept) == sorted(before)
    assert all((out / "runs" / key / "result.json").stat().st_mtime_ns == then for key, then in before.items())
    assert "continued" in (out / "logs" / "none_seed0.log").read_text()


def test_a_cluster_whose_worker_is_killed(tones, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    with contextlib.ExitStack() as held:
        settings = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        cluster = held.enter_context(distributed.LocalCluster(**settings))
        workers = [held.enter_context(_worker(cluster.scheduler_address)) for _ in range(2)]
        with distributed.Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        said = []

        def kill_one():
            wait_for(lambda: list((tmp_path / "out").glob("runs/*/metrics.jsonl")))
            os.killpg(workers[0].pid, signal.SIGKILL)

        helper = threading.Thread(target=kill_one)
        helper.start()
        outcome = run_study(tones, tmp_path / "out", scheduler=cluster.scheduler_address, device="cpu", say=said.append)
        helper.join()
    assert "2 workers" in " ".join(said)
    whole(tones, outcome)


@contextlib.contextmanager
def _worker(address):
    """A worker in a process group of its own, without a nanny that would bring it back."""
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--no-nanny",
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
