"""One cell of a study in a process of its own, begun or continued: what every engine calls, here or on another machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from temporal.training import Run

__all__ = ["ENDED_BY_US", "cores", "environment_of", "start", "train_cell"]

ENDED_BY_US = 130  # the status of a run that was stopped and can go on
_TAIL = 2000  # characters of a log in which its last line is looked for


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment_of(threads: int) -> dict[str, str]:
    """Of a process that uses so many threads, and trains alone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    # The child runs this very package, be it installed or a checkout.
    above = str(Path(__file__).resolve().parents[2])
    paths = [above, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return kept | limits | {"PYTHONPATH": os.pathsep.join(paths)}


def start(recipe: str, folder: str, log: str, threads: int, device: str) -> subprocess.Popen[bytes]:
    """Begin a run, or continue it, in a child whose words go to the end of a log."""
    run = Run(Path(folder))
    resume = ["--resume"] if run.recipe_file.is_file() else []
    command = [sys.executable, "-m", "temporal", "train", recipe, "--out", folder, "--device", device, *resume]
    with open(log, "ab") as words:
        words.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {'continued' if resume else 'begun'}\n".encode())
        words.flush()
        # A session of its own: of a terminal's Ctrl-C it hears from us alone, and only once.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment_of(threads),
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def train_cell(recipe: str, folder: str, log: str, threads: int | None, device: str) -> str:
    """Train one cell to its end; returns "" or, where it failed, its last words. What a worker of a cluster runs.

    Args:
        threads: of the run; ``None``: the processors here, shared by as many runs as this worker does at once.
    """
    here = threads or max(1, cores() // _runs_at_once())
    while True:
        process = start(recipe, folder, log, here, device)
        status = process.wait()
        if status == 0:
            return ""
        words = last_words(log)
        if "is training in this folder" not in words:
            return words or f"status {status}"
        time.sleep(1.0)  # of a worker that was killed: its run ends after the step under way


def last_words(log: str | Path) -> str:
    """The last line of a log, which says what went wrong."""
    try:
        lines = Path(log).read_bytes()[-_TAIL:].decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    said = [line for line in lines if line.strip() and not line.startswith("--- ")]
    return said[-1].removeprefix("temporal: ") if said else ""


def _runs_at_once() -> int:
    try:
        from distributed import get_worker

        return max(1, get_worker().state.nthreads)
    except (ImportError, ValueError):  # not on a worker
        return 1


def _end_with_parent() -> None:
    """Have the kernel tell this process to stop when the one that started it is gone, however that ended."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
