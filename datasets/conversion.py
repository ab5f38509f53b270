"""A folder of recordings, heard by a cochlea in several processes, as one file of spikes in the layout of SHD."""

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ._events_file import Events
from ._events_writer import EventsWriter
from ._progress import Progress, bar
from ._splits import Splitter
from .audio import AudioError
from .folder import AudioFolder

__all__ = ["Conversion", "convert_folder"]

_SHORTEST = 1e-3  # seconds that a cochlea hears
_AHEAD = 4  # recordings under way or waiting to be written, a process: what bounds the memory
_worker: tuple[AudioFolder, Any] | None = None  # of a process of the pool: what it reads, and its cochlea


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        path: the file that was made.
        recordings, spikes: how many it holds; ``spikes`` counts those that this call made.
        resumed: recordings that an earlier call, which was stopped, had left.
        seconds: what this call took.
        sound: seconds of sound that it heard.
        messages: what a user should be told: recordings resampled, files skipped.
    """

    path: Path
    recordings: int
    spikes: int
    resumed: int
    seconds: float
    sound: float
    messages: list[str]

    def __str__(self) -> str:
        again = f", {self.resumed:,} of them before" if self.resumed else ""
        return (
            f"{self.path}: {self.recordings:,} recordings{again}; {self.spikes:,} spikes from {self.sound:.0f} s of sound "
            f"in {self.seconds:.0f} s, {self.sound / self.seconds:.1f} times as fast as it sounds"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self) | {"path": str(self.path)}


def convert_folder(
    folder: str | os.PathLike,
    path: str | os.PathLike,
    *,
    sample_rate: int = 16000,
    preset: Literal["lauscher", "article"] = "lauscher",
    membrane: Literal["travelling_wave", "gammatone"] = "travelling_wave",
    seed: int = 0,
    jobs: int | None = None,
    on_error: str = "raise",
    progress: bool | Progress = True,
) -> Conversion:
    """Convert a folder of recordings into a file of spikes, as SHD and SSC were made: for ``SHD(path)``, and other readers.

    Each recording is heard by ``temporal.frontends.Cochlea`` with 700 channels. The file keeps their names, labels and
    speakers, and their parts where the folder has some (split lists, or an index in the names: 0 to 4 test).

    Each recording's spikes depend on its samples and the seed alone, so the file is the same for any number of processes,
    and whether or not it was made in one go. Stopped by whatever, SIGKILL and a full disk included, the same call goes on
    where it was; until all is there, nothing has the file's name. Memory grows by the recordings' names alone, 1 kB each.

    Symbolic links are followed, also out of the folder, as by ``AudioFolder``; a broken one is an error that names it.

    Args:
        folder: as for ``AudioFolder``: class folders, or files named LABEL_SPEAKER_INDEX.wav.
        path: the file to make; it must not exist.
        sample_rate: at which recordings are heard, in Hz; others are resampled. SHD and SSC were heard at 48000; 16000
            takes a third of the time, and the channels that hear best above 8 kHz hear little.
        preset, membrane, seed: of the cochlea.
        jobs: processes; None: as many as there are processors for this one.
        on_error: "raise" on a recording that cannot be used, or "skip" it and count; that reads all of them once more.
        progress: called with (recordings done, in all); True: a bar on standard error where that is a terminal.
    Returns:
        What was done.
    Raises:
        FileNotFoundError: no such folder, or none for the file.
        FileExistsError: the file exists.
        AudioError: a recording that cannot be used; the message begins with its path. Those before it are kept.
        ValueError: a layout that is not known, arguments of the cochlea that it refuses, or part of another conversion
            is in the way.
        OSError: no room, or a process of the pool was killed. What was converted is kept.

    Example:
        >>> import pathlib, soundfile, tempfile
        >>> from temporal.datasets import SHD
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> (root / "words").mkdir()
        >>> for label, pitch in (("low", 0.2), ("high", 0.9)):
        ...     soundfile.write(root / "words" / f"{label}_ann_7.wav", np.sin(pitch * np.arange(800)), 16000)
        >>> convert_folder(root / "words", root / "words.h5", membrane="gammatone", jobs=1).recordings
        2
        >>> SHD(root / "words.h5", split="train", validation=0).keys
        ['high_ann_7.wav', 'low_ann_7.wav']
    """
    started = time.monotonic()
    settings = {"sample_rate": sample_rate, "preset": preset, "membrane": membrane, "seed": seed}
    jobs = _processors() if jobs is None else jobs
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"convert_folder: jobs={jobs!r} must be a whole number of at least 1")
    cochlea = _cochlea(settings)
    data = AudioFolder(folder, sample_rate, "all", on_error=on_error)
    _check_names(data)
    rows, messages = _long_enough(data, on_error)
    columns = list(zip(data.keys, data.targets, data.speakers, _splits(data), strict=True))
    about = [columns[row] for row in rows]
    plan = json.dumps(settings | {"recordings": hashlib.sha256(json.dumps(about).encode()).hexdigest()})
    with EventsWriter(path, data.labels, plan=plan, units=cochlea.channels) as writer:
        resumed, spikes = writer.done, 0
        rest = rows[resumed:]
        with bar("converting", progress) as report, _hearing(data, cochlea, settings, jobs, rest) as heard:
            report(resumed, len(rows))
            try:
                for (key, label, speaker, split), (times, units) in zip(about[resumed:], heard, strict=True):
                    writer.append(times, units, label=label, speaker=speaker, name=key, split=split)
                    spikes += len(times)
                    report(writer.done, len(rows))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(_kept("stopped", writer.done, len(rows))) from None
            except BrokenProcessPool:
                said = "a process of the pool ended, perhaps killed for want of memory (fewer jobs need less)"
                raise OSError(f"{path}: {_kept(said, writer.done, len(rows))}") from None
        writer.finish()
    samples = data.durations
    sound = sum(samples[row] for row in rest) / sample_rate
    seconds = time.monotonic() - started
    return Conversion(Path(path), len(rows), spikes, resumed, seconds, sound, data.messages + messages)


def _kept(what: str, done: int, total: int) -> str:
    return f"{what}; {done} of {total} recordings are kept, and the same command goes on from there"


def _cochlea(settings: dict[str, Any]) -> Any:
    from temporal.frontends import Cochlea

    return Cochlea(**settings)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_names(data: AudioFolder) -> None:
    for key in data.keys:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{data.root / key!r}: its name is no UTF-8, in which HDF5 keeps names; rename it"
            ) from None


def _long_enough(data: AudioFolder, on_error: str) -> tuple[list[int], list[str]]:
    """The recordings that can be heard, and what to tell of the others. Reads all headers: hours later would be late."""
    least = math.ceil(_SHORTEST * data.sample_rate)
    short = [row for row, samples in enumerate(data.durations) if samples < least]
    if not short:
        return list(range(len(data))), []
    said = f"shorter than {1000 * _SHORTEST:g} ms, {least} samples at {data.sample_rate} Hz, the least that a cochlea hears"
    first = data.root / data.keys[short[0]]
    if on_error != "skip":
        raise AudioError(f"{first}: is {said}; on_error='skip' leaves such files out and counts them")
    rows = sorted(set(range(len(data))) - set(short))
    targets = data.targets
    lost = {targets[row] for row in short} - {targets[row] for row in rows}
    if lost:
        raise AudioError(f"{first}: is {said}, and no other recording of {data.labels[lost.pop()]!r} is left")
    return rows, [f"{len(short)} recordings skipped, {said}; the first is {first}"]


def _splits(data: AudioFolder) -> list[str]:
    """Of each recording the part that the folder puts it in; "" where it has none. Who reads the file cuts what lacks."""
    splitter = Splitter("convert_folder", data.root, data._entries, by="auto", validation=0, test=0, seed=0)
    parts = splitter.parts()
    return [parts.get(key, "") for key in data.keys]


@contextmanager
def _hearing(
    data: AudioFolder, cochlea: Any, settings: dict[str, Any], jobs: int, rest: list[int]
) -> Iterator[Iterator[Events]]:
    """The spikes of the recordings ``rest``, in order, each as soon as it is asked for or before."""
    if jobs == 1 or len(rest) < 2:
        yield (_hear_one(data, cochlea, at) for at in rest)
        return
    # Not forked: torch's threads do not survive that. The arguments travel once a process, not with every recording.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(rest)), spawn, initializer=_begin, initargs=(data, settings))
    try:
        yield _in_order(pool, rest, _AHEAD * jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, rest: list[int], ahead: int) -> Iterator[Events]:
    waiting: deque[Future[Events]] = deque()
    for at in rest:
        waiting.append(pool.submit(_hear, at))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin(data: AudioFolder, settings: dict[str, Any]) -> None:
    """Begin a process of the pool."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that writes; it ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker = data, _cochlea(settings)


def _end_with_parent() -> None:
    """A parent that was killed ends nobody, and a pool's processes would wait for its next word for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _hear(at: int) -> Events:
    if _worker is None:
        raise RuntimeError("convert_folder: a process of the pool was asked before it began")
    return _hear_one(*_worker, at)


def _hear_one(data: AudioFolder, cochlea: Any, at: int) -> Events:
    times, units = cochlea.events(data[at].wave)
    return Events(times.numpy(), units.numpy().astype(np.uint16))
