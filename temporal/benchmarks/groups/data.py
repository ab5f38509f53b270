"""Data sets: batches a second from files of spikes and of audio, beside what a network consumes; and writing such files.

Recordings are drawn, as many spikes as SHD's have (8,000 in 0.8 s), and lie in a file that the page cache holds: what is
measured is the work of a loader, not the disk. Their times are half milliseconds, so that no way of binning has to round.

Bytes that cannot be avoided, for a recording of n spikes, S steps and C channels: read times and units from the file (6 n),
write counts (4 S C). The network is the published one for SHD (140-256-256-20, 25 taps a synapse); one training step of it
takes a batch, and a loader that is not slower, on a core of its own, never makes it wait.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from temporal.benchmarks import Case, copy_floor
from temporal.datasets import (
    SHD,
    AudioFolder,
    Binning,
    EventsWriter,
    SpeechCommands,
    collate,
    collate_spikes,
    convert_folder,
    write_events,
)
from temporal.frontends import Cochlea
from temporal.kernels import use
from temporal.kernels.binning import bin_events

__all__ = ["cases"]

UNITS, MERGE, DT, CLASSES = 700, 5, 0.010, 20
SPIKE_BYTES = 6  # float32 time, 16-bit unit
RATE = 16000
BINNING = Binning.named("10ms-first")  # as SpikingJelly counts, so that it can be compared
BASELINE = "h5py and numpy"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    work = _Files(recordings=512 if not quick else 8, batch=64 if not quick else 3, spikes=8000 if not quick else 50)
    return [partial(case, work, quick) for case in (_binning, _loading, _network, _audio, _writing, _conversion)]


class _Files:
    """Drawn recordings, and the files that hold them, made when first needed and removed with this object."""

    def __init__(self, recordings: int, batch: int, spikes: int):
        self.draw = np.random.default_rng(0)
        self.recordings, self.batch, self.spikes = recordings, batch, spikes
        self.folder = Path(tempfile.mkdtemp(prefix="temporal-bench-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.rows = self.draw.permutation(recordings)[:batch].tolist()

    def events(self) -> tuple[np.ndarray, np.ndarray]:
        """One recording. The first spike comes at 0.5 ms, others 0.2 ms past whole milliseconds from there on."""
        milliseconds = np.sort(self.draw.integers(0, 800, self.spikes)) + 0.7
        milliseconds[0] = 0.5
        return (milliseconds / 1000).astype(np.float32), self.draw.integers(0, UNITS, self.spikes).astype(np.uint16)

    @cached_property
    def path(self) -> Path:
        path = self.folder / "spikes.h5"
        labels = [n % CLASSES for n in range(self.recordings)]
        names = [str(n) for n in range(CLASSES)]
        write_events(path, (self.events() for _ in range(self.recordings)), labels=labels, classes=names)
        return path

    @cached_property
    def spikes_batch(self) -> Tensor:
        """The batch as it should be: [T, B, channels]."""
        data = SHD(self.path, "all", binning=BINNING)
        with use("reference"):
            return collate_spikes(data.__getitems__(self.rows)).spikes

    def error(self, spikes: Tensor) -> float:
        """Largest difference in a count."""
        if spikes.shape != self.spikes_batch.shape:
            return float("inf")
        return (spikes - self.spikes_batch).abs().max().item()


def _case(work: _Files, quick: bool, size: int, **fields: Any) -> Case:
    floor = copy_floor(size, quick=quick)
    return Case(dtype="float32", tolerance=0.0, bytes=size, floor=floor, **fields)  # counts and samples: exact


def _binning(work: _Files, quick: bool) -> Case:
    times, units = work.events()
    start, last = float(times[0]), float(times[-1])
    steps = int(BINNING.lengths(np.array([start]), np.array([last]))[0])
    channels = BINNING.channels(UNITS)
    edges = start + np.arange(steps + 1) * DT, np.arange(channels + 1) * MERGE

    def ours(backend: str) -> np.ndarray:
        out = np.zeros((steps, channels), np.float32)
        with use(backend):
            bin_events(times, units, out, dt=DT, start=start, merge=MERGE)
        return out

    truth = ours("reference")
    return _case(
        work,
        quick,
        SPIKE_BYTES * work.spikes + 4 * steps * channels,
        name="binning",
        scope="binning only, one recording in memory",
        shape=f"spikes={work.spikes} T={steps} channels={channels}",
        items=work.spikes,
        item="spike",
        contenders={
            "temporal cpu": partial(ours, "cpu"),
            "temporal reference": partial(ours, "reference"),
            "numpy histogram2d": lambda: np.histogram2d(times.astype(np.float64), units, edges)[0],
            "SpikingJelly": partial(_jelly, times, units) if find_spec("spikingjelly") else None,
        },
        baseline="numpy histogram2d",
        check=lambda result: float(np.abs(result - truth).max()) if result.shape == truth.shape else float("inf"),
    )


def _jelly(times: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Its frames of 10 ms, and the sum of five units that SNN-delays adds; it needs torchvision for this module."""
    from spikingjelly.datasets.shd import _integrate_events_by_fixed_duration

    frames = _integrate_events_by_fixed_duration({"t": times, "x": units}, 10, UNITS)
    return frames.reshape(len(frames), -1, MERGE).sum(2)


def _loading(work: _Files, quick: bool) -> Case:
    steps, batch, channels = work.spikes_batch.shape
    data = SHD(work.path, "all", binning=BINNING)
    cached = SHD(work.path, "all", binning=BINNING, cache=True)
    return _case(
        work,
        quick,
        SPIKE_BYTES * work.spikes * batch + 4 * work.spikes_batch.numel(),
        name="SHD batches",
        scope="end to end, from the file to a batch",
        shape=f"T={steps} B={batch} channels={channels}",
        items=batch,
        item="recording",
        contenders={
            "temporal": lambda: collate_spikes(data.__getitems__(work.rows)).spikes,
            "temporal, one by one": lambda: collate_spikes([data[n] for n in work.rows]).spikes,
            "temporal, cache=True": lambda: collate_spikes(cached.__getitems__(work.rows)).spikes,
            BASELINE: partial(_by_hand, work, reopen=False),
            "the same, file opened for each": partial(_by_hand, work, reopen=True),
        },
        baseline=BASELINE,
        check=work.error,
    )


def _by_hand(work: _Files, *, reopen: bool) -> Tensor:
    """What scripts do: one recording after the other, numpy's digitize, a sparse tensor made dense, units summed."""
    import h5py

    rows, file = [], h5py.File(work.path)
    for n in work.rows:
        if reopen:
            file.close()
            file = h5py.File(work.path)
        times = file["spikes/times"][n].astype(np.float64)
        times -= times[0]
        step = torch.from_numpy(np.digitize(times, np.arange(1, 1 + int(times[-1] / DT)) * DT))
        unit = torch.from_numpy(file["spikes/units"][n].astype(np.int64))
        size = int(step[-1]) + 1, UNITS
        sparse = torch.sparse_coo_tensor(torch.stack([step, unit]), torch.ones(len(step)), size, check_invariants=False)
        rows.append(sparse.to_dense().unflatten(1, (-1, MERGE)).sum(2))
    file.close()
    return torch.nn.utils.rnn.pad_sequence(rows)


def _network(work: _Files, quick: bool) -> Case:
    from temporal.models import DelayedLIF

    x = work.spikes_batch
    steps, batch, channels = x.shape
    sizes = (channels, 256, 256, CLASSES) if not quick else (channels, 8, 8, CLASSES)
    taps = 25
    network = DelayedLIF(hidden=sizes[1], layers=2, max_delay=taps - 1).build(channels, CLASSES)
    labels = torch.arange(batch) % CLASSES

    def step() -> Tensor:
        network.zero_grad()
        y, _ = network(x)
        loss = torch.nn.functional.cross_entropy(y.softmax(2).sum(0), labels)
        loss.backward()
        return loss.detach()

    products = sum(a * b for a, b in pairwise(sizes)) * taps
    return Case(
        name="network",
        scope="what a network consumes: one training step, forward and backward",
        shape=f"T={steps} B={batch} {'-'.join(map(str, sizes))}, {taps} taps",
        dtype="float32",
        items=batch,
        item="recording",
        contenders={"temporal DelayedLIF, training": step},
        baseline="temporal DelayedLIF, training",
        check=lambda loss: (
            0.0 if torch.isfinite(loss) else float("nan")
        ),  # nothing to compare with: only that it computes
        tolerance=0.0,
        flops=3 * 2 * steps * batch * products,
    )


def _audio(work: _Files, quick: bool) -> Case:
    import soundfile

    root = work.folder / "words"
    samples = RATE if not quick else 100
    for n in range(work.batch):
        (root / f"word{n % 2}").mkdir(parents=True, exist_ok=True)
        wave = (work.draw.normal(0, 3000, samples)).clip(-32768, 32767).astype(np.int16)
        soundfile.write(root / f"word{n % 2}" / f"{n:08x}_nohash_0.wav", wave, RATE, subtype="PCM_16")
    data = SpeechCommands(root, RATE, split="all")
    folder = AudioFolder(root, RATE, "all")
    files, rows = [root / key for key in data.keys], [folder.keys.index(key) for key in data.keys]

    def plain() -> Tensor:
        return torch.stack([torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files])

    truth = plain()
    return _case(
        work,
        quick,
        truth.numel() * (2 + 4),
        name="Speech Commands batches",
        scope="end to end, from WAV files to a batch; checked for cut files and NaN",
        shape=f"B={len(files)} samples={samples}",
        items=len(files),
        item="recording",
        contenders={
            "temporal SpeechCommands": lambda: collate([data[n] for n in range(len(data))]).wave,
            "temporal AudioFolder": lambda: collate([folder[n] for n in rows]).wave,
            "soundfile": plain,
        },
        baseline="soundfile",
        check=lambda wave: (wave - truth).abs().max().item() if wave.shape == truth.shape else float("inf"),
    )


def _writing(work: _Files, quick: bool) -> Case:
    """A file of SHD's layout: times 100,000 for a corpus, since no recording costs more than the one before."""
    import h5py

    recordings = [work.events() for _ in range(work.batch)]
    target = work.folder / "written.h5"

    def ours() -> Path:
        target.unlink(missing_ok=True)
        with EventsWriter(target, ["word"], resume=False) as writer:
            for times, units in recordings:
                writer.append(times, units, label=0)
            writer.finish()
        return target

    def plain() -> Path:
        target.unlink(missing_ok=True)
        with h5py.File(target, "w") as file:
            kinds = {"times": np.float32, "units": np.uint16}
            rows = {name: file.create_dataset(f"spikes/{name}", (len(recordings),), dtype=h5py.vlen_dtype(kind))
                    for name, kind in kinds.items()}  # fmt: skip
            for n, (times, units) in enumerate(recordings):
                rows["times"][n], rows["units"][n] = times, units
            file["labels"] = np.zeros(len(recordings), np.uint8)
        return target

    def error(path: Path) -> float:
        data = SHD(path, "all")
        same = (
            np.array_equal(a, b) for n, one in enumerate(recordings) for a, b in zip(data.events(n), one, strict=True)
        )
        return 0.0 if len(data) == len(recordings) and all(same) else float("inf")

    return _case(
        work,
        quick,
        2 * SPIKE_BYTES * work.spikes * work.batch,
        name="writing",
        scope="end to end, spikes in memory to a file on the disk; ours survives a kill at any time",
        shape=f"recordings={work.batch} spikes={work.spikes}",
        items=work.batch,
        item="recording",
        contenders={"temporal EventsWriter": ours, "h5py": plain},
        baseline="h5py",
        check=error,
    )


def _conversion(work: _Files, quick: bool) -> Case:
    """``temporal spikes``: 100,000 times the time of one recording is that of a corpus; tests hold the memory flat."""
    import soundfile

    root, target = work.folder / "sounds", work.folder / "heard.h5"
    samples = RATE // 2 if not quick else RATE // 50
    (root / "word").mkdir(parents=True)
    for n in range(work.batch):
        wave = work.draw.normal(0, 3000, samples).clip(-32768, 32767).astype(np.int16)
        soundfile.write(root / "word" / f"{n:03d}.wav", wave, RATE, subtype="PCM_16")
    first = Cochlea(RATE, seed=0).events(AudioFolder(root, RATE, "all")[0].wave)
    steps, units = np.rint(first[0].numpy() * RATE / 2), first[1].numpy()

    def convert(jobs: int) -> Path:
        target.unlink(missing_ok=True)
        return convert_folder(root, target, jobs=jobs, progress=False).path

    def error(path: Path) -> float:
        """All are there, and the first is as the cochlea hears it alone, in steps of 1/8000 s."""
        data = SHD(path, "all")
        times, heard = data.events(0)
        same = np.array_equal(heard, units) and np.array_equal(np.rint(times * (RATE / 2)), steps)
        return 0.0 if len(data) == work.batch and same else float("inf")

    return _case(
        work,
        quick,
        work.batch * samples * 2,
        name="conversion",
        scope="end to end, from WAV files through the cochlea to a file of spikes; processes are started anew in each call",
        shape=f"recordings={work.batch} samples={samples}",
        items=work.batch,
        item="recording",
        contenders={
            f"temporal spikes, {n} process{'es' * (n > 1)}": partial(convert, n) for n in ((1,) if quick else (1, 2))
        },
        baseline="temporal spikes, 1 process",
        check=error,
    )
