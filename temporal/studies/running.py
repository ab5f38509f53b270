"""Running a study: its cells in child processes of this machine, or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporal.training import Recipe, Run
from temporal.training._fields import differences
from temporal.training.protocol import share
from temporal.training.run import alone, write_json

from ._cell import cores, last_words, start, train_cell
from .pictures import draw
from .results import FOLDER, found_in, keep, result_of, take_over, without_place
from .study import Cell, Study
from .summary import Summary, summarize, write_summary

__all__ = ["Outcome", "run_study"]

_JOB_BYTES = (
    1.5e9  # of memory that a run is reckoned to need: libraries and recordings of the size of Speech Commands' words
)
_POLL = 0.1  # seconds
_FILE = "study.json"


@dataclass
class _Tally:
    trained: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass
class Outcome(_Tally):
    """What became of a study.

    Args:
        folder: of the study.
        summary: its table.
        trained: names of the cells that this call trained.
        kept: of those that were there already.
        failed: of those that failed, with their last words.
        retries: how often one was begun again after a failure.
    """

    folder: Path = field(kw_only=True)
    summary: Summary = field(kw_only=True)


def run_study(
    study: Study,
    out: str | os.PathLike | None = None,
    *,
    results: str | os.PathLike | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    threads: int | None = None,
    retries: int = 2,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train every cell of a study that is not trained yet, and write one table.

    Stopped by whatever, the same call goes on: finished runs are kept, begun ones continue. A run that fails, or whose
    process is killed, is continued ``retries`` times; the others go on meanwhile. The folder holds ``runs/CELL``, ordinary
    run folders, ``logs/CELL.log``, ``recipes/CELL.toml``, and the tables as ``summary.md``, ``.json`` and ``.csv``, with
    pictures. ``results/`` holds what is needed of finished cells, without their weights: a folder with nothing else in it
    is continued, too, and so is one on another machine, where the recordings lie elsewhere.

    Args:
        study: what to run.
        out: its folder; ``None``: ``studies/NAME``.
        results: a folder of results from elsewhere, or a study's folder that has one: cells found there count as finished.
        jobs: runs at once on this machine; ``None``: one a processor, fewer where memory is short.
        scheduler: address of a Dask scheduler, "tcp://HOST:8786", whose workers see ``out`` and the recordings under the
            same paths; instead of ``jobs``. Needs the extra ``cluster``.
        threads: of each run; ``None``: the processors divided among the runs.
        retries: after failures, for each cell, 0 or more.
        device: as for :func:`temporal.training.train`.
        say: called with a line about each run.
    Raises:
        ValueError: ``out`` holds another study, or ``results`` other recipes; arguments out of their range; both ``jobs``
            and ``scheduler``.
        FileNotFoundError: no folder ``results``.
        BlockingIOError: another process runs a study in ``out``.
        ImportError: a scheduler without the extra.
        KeyboardInterrupt: Ctrl-C; the runs under way have written checkpoints.
    """
    for name, value, least in (("jobs", jobs, 1), ("threads", threads, 1), ("retries", retries, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"study: {name}={value!r}; a whole number, {least} or more, is right")
    if jobs is not None and scheduler is not None:
        raise ValueError(
            "study: jobs are processes of this machine, a scheduler has workers of its own: give one of them"
        )
    folder = Path("studies") / study.name if out is None else Path(out)
    study = study.equalized()
    found = [] if results is None else found_in(Path(results), study)
    _prepare(study, folder)
    with alone(folder):
        tally = _Tally()
        if results is not None:
            say(f"{take_over(found, folder)} results taken over from {results}")
        work = _work(study, folder, tally)
        done = len(tally.kept)
        say(f"study folder: {folder}: {done + len(work)} runs, {done} of them finished before")
        try:
            if scheduler is None:
                at_once = min(jobs or _jobs(), max(1, len(work)))
                _Local(work, at_once, threads or max(1, cores() // at_once), retries, device, say, tally).run()
            else:
                _on_cluster(work, scheduler, threads, retries, device, say, tally)
        finally:
            summary = summarize(study, folder, tally.failed)
            write_summary(summary, folder, draw(study, folder))
    return Outcome(**vars(tally), folder=folder, summary=summary)


@dataclass
class _Job:
    """A cell that has to be trained, the folder of its study, and where its files lie."""

    study: Path
    cell: Cell
    recipe: Path
    run: Run
    log: Path
    tries: int = 0

    @property
    def paths(self) -> tuple[str, str, str]:
        return str(self.recipe), str(self.run.folder), str(self.log)


def _prepare(study: Study, folder: Path) -> None:
    """Make the folder, or see that it is this study's."""
    import json

    stored = folder / _FILE
    if not stored.is_file():
        if folder.exists() and any(folder.iterdir()) and not (folder / FOLDER).is_dir():
            raise ValueError(f"{folder}: exists already and holds no study; choose another folder with --out")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(stored, study.to_dict())
        return
    try:
        before = json.loads(stored.read_bytes())
    except ValueError as error:
        raise ValueError(f"{stored}: not readable, perhaps cut off ({error})") from None
    # More arms, folds and seeds may be added; what is there must be what it was.
    now = study.to_dict()
    cells = {key: _comparable(recipe, key, folder) for key, recipe in before["cells"].items() if key in now["cells"]}
    changed = differences(cells, {key: _comparable(now["cells"][key], key, folder) for key in cells})
    if changed:
        name, (there, here) = next(iter(changed.items()))
        raise ValueError(
            f"{folder}: holds another study of this name: {name} is {there!r} there, not {here!r} "
            f"({len(changed)} differences); choose another folder with --out"
        )
    write_json(stored, now)


def _comparable(recipe: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """A recipe as this version writes it; where its recordings lie no longer matters to a cell that is finished."""
    is_finished = (folder / FOLDER / f"{key}.json").is_file()
    return without_place(recipe) if is_finished else Recipe.from_dict(recipe).to_dict()


def _work(study: Study, folder: Path, tally: _Tally) -> list[_Job]:
    for name in ("recipes", "runs", "logs"):
        (folder / name).mkdir(exist_ok=True)
    work = []
    for cell in study.cells():
        run = Run((folder / "runs" / cell.key).absolute())
        if (folder / FOLDER / f"{cell.key}.json").is_file():
            result_of(folder, cell)  # a damaged one, or one of another recipe, is refused now
            tally.kept.append(cell.key)
            continue
        if run.is_finished():
            keep(folder, cell, run)
            tally.kept.append(cell.key)
            continue
        if isinstance(cell.recipe.network, dict) or not hasattr(type(cell.recipe.network), "kind"):
            raise ValueError(
                f"cell {cell.key}: its network is of a class of your own, which a process of its own cannot know from a "
                "recipe's file; train it with temporal train, one run at a time"
            )
        recipe = (folder / "recipes" / f"{cell.key}.toml").absolute()
        cell.recipe.to_toml(recipe)
        work.append(_Job(folder, cell, recipe, run, (folder / "logs" / f"{cell.key}.log").absolute()))
    return work


def _jobs() -> int:
    """Runs at once that this machine has processors and memory for."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return cores()
    return max(1, min(cores(), int(free / _JOB_BYTES)))


class _Local:
    """Child processes, so many at once."""

    def __init__(
        self,
        work: list[_Job],
        jobs: int,
        threads: int,
        retries: int,
        device: str,
        say: Callable[[str], None],
        tally: _Tally,
    ) -> None:
        self.waiting, self.total, self.jobs, self.threads = list(work), len(work), jobs, threads
        self.retries, self.device, self.say, self.tally = retries, device, say, tally
        self.running: dict[subprocess.Popen[bytes], _Job] = {}
        self.stopping = False

    def run(self) -> None:
        if self.waiting:
            self.say(f"{min(self.jobs, self.total)} at once, {self.threads} threads each")
        with self._stop_on_signal():
            while self.running or (self.waiting and not self.stopping):
                while self.waiting and len(self.running) < self.jobs and not self.stopping:
                    job = self.waiting.pop(0)
                    job.tries += 1
                    self.running[start(*job.paths, self.threads, self.device)] = job
                for process in [process for process in self.running if process.poll() is not None]:
                    self._ended(self.running.pop(process), process.returncode)
                time.sleep(_POLL)
        if self.stopping:
            raise KeyboardInterrupt(
                f"stopped; the same command continues, {len(self.tally.trained) + len(self.tally.kept)} runs are done"
            )

    def _ended(self, job: _Job, status: int) -> None:
        if self.stopping and status != 0:
            return
        words = "" if status == 0 else f"killed by signal {-status}" if status < 0 else last_words(job.log)
        _settle(job, words, self.retries, self.waiting, self.say, self.tally)

    @contextlib.contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM reach the runs once: each ends its step and writes a checkpoint. A second one kills them."""

        def stop(number: int, frame: Any) -> None:
            for process in self.running:
                process.send_signal(signal.SIGKILL if self.stopping else signal.SIGINT)
            self.stopping = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for process in self.running:  # an error of ours
                process.kill()


def _settle(
    job: _Job, words: str, retries: int, waiting: list[_Job], say: Callable[[str], None], tally: _Tally
) -> None:
    """Note what became of a run: done, to be tried again, or failed."""
    key = job.cell.key
    if not words and job.run.has_result():
        result = keep(job.study, job.cell, job.run)
        tally.trained.append(key)
        say(f"{key}: {share(result.correct, result.total)}")
    elif job.tries <= retries:
        tally.retries += 1
        waiting.append(job)
        say(f"{key}: {words}; it is begun again, time {job.tries} of {retries}")
    else:
        tally.failed[key] = words or "it ended without a result"
        say(f"{key}: failed: {tally.failed[key]} (see {job.log})")


def _on_cluster(
    work: list[_Job],
    address: str,
    threads: int | None,
    retries: int,
    device: str,
    say: Callable[[str], None],
    tally: _Tally,
) -> None:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ImportError("study: --scheduler needs Dask: pip install 'temporal[cluster]'") from None

    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(f"study: no Dask scheduler answers at {address} ({error})") from None
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        say(f"{len(workers)} workers at {address}" + ("" if workers else ": waiting for the first"))

        def submit(job: _Job) -> Any:
            job.tries += 1
            # A worker that is lost is Dask's to replace: it gives the run to another one, which continues it.
            return client.submit(train_cell, *job.paths, threads, device, key=f"{job.cell.key}-{job.tries}", pure=False)

        owners = {submit(job): job for job in work}
        ended = as_completed(owners, loop=client.loop, raise_errors=False)
        for future in ended:
            job, again = owners[future], []  # type: tuple[_Job, list[_Job]]
            words = future.result() if future.status == "finished" else str(future.exception()).splitlines()[0]
            _settle(job, words, retries, again, say, tally)
            for job in again:
                new = submit(job)
                owners[new] = job
                ended.add(new)
