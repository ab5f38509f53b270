"""A file of spikes in the layout of SHD and SSC: read lazily, opened once a process, every fault named with its place.

    spikes/times    [N] variable-length floats, seconds       labels          [N] whole numbers
    spikes/units    [N] variable-length whole numbers         extra/keys      names of the classes (optional)
                                                              extra/speaker   [N] numbers or names (optional)

``EventsWriter`` adds ``extra/names`` ([N], the recordings' own names), ``extra/speaker_names`` and ``extra/split`` ([N], 0
train, 1 validation, 2 test), which other readers pass over.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from temporal.kernels.binning import PROBLEMS, Span, span

__all__ = ["Events", "EventsError", "EventsFile"]

_CHUNK = 128  # recordings that are read together where all are read: some 5 MB of SSC
_NEEDED = ("spikes/times", "spikes/units", "labels")
_LAYOUT = "an SHD file holds spikes/times, spikes/units and labels, and may hold extra/keys and extra/speaker"
SPLIT_NUMBERS = {0: "train", 1: "validation", 2: "test"}


class EventsError(ValueError):
    """A file of spikes that cannot be used; the message begins with the file's path and says where the fault is."""


class Events(NamedTuple):
    """The spikes of one recording: times [events] in seconds, units [events], as they are stored."""

    times: np.ndarray
    units: np.ndarray


class EventsFile:
    """One file. What it says about its recordings is read at once, their spikes when asked for.

    Nothing is open in an object that was just made or unpickled: each process, and so each worker of a data loader, opens
    the file for itself when it first reads.

    Args:
        path: the file.
        units: units are 0 .. units - 1.
        latest: latest time that a spike may have, in seconds.
    Raises:
        EventsError: missing, no HDF5, cut off, held by a writer, without a group that is needed, arrays of unequal lengths,
            labels without a name.
    """

    def __init__(self, path: str | os.PathLike, units: int = 700, latest: float = 60.0):
        self.path, self.units, self.latest = Path(path), units, latest
        self._file: Any = None
        self._process = -1
        with _open(self.path) as file:
            self.labels = self._read_about(file)
            self.classes = self._read_classes(file)
            self.speakers = self._read_speakers(file)
            self.names = self._read_texts(file, "extra/names")
            split = file["extra/split"][:] if "extra/split" in file else None
        self.splits = None if split is None else [SPLIT_NUMBERS.get(int(number), "") for number in split]
        if self.splits is not None and len(self.splits) != len(self):
            raise EventsError(f"{self.path}: extra/split has {len(self.splits)} entries for {len(self)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int]) -> list[Events]:
        """The spikes of these recordings, checked, in the order asked for; together, which is faster than one by one.

        Raises:
            EventsError: a recording that cannot be read or holds what is no spike.
        """
        wanted = sorted(set(indices))
        if not wanted:
            return []
        times, units = self._datasets()
        try:
            found = self._take(times, units, wanted[0] if len(wanted) == 1 else wanted)
        except (OSError, RuntimeError):
            for index in wanted:  # which one is it?
                try:
                    self._take(times, units, index)
                except (OSError, RuntimeError) as error:
                    raise EventsError(f"{self.path}: recording {index} cannot be read, the file is damaged; copy or fetch "
                                      f"it again ({_short(error)})") from None  # fmt: skip
            raise
        events = dict(zip(wanted, found, strict=True))
        for index, one in events.items():
            self._check(index, one)
        return [events[index] for index in indices]

    def spans(self) -> Iterator[tuple[Span, int]]:
        """Of every recording in turn: when its first and last spike come, and how many there are. Checks the whole file."""
        for start in range(0, len(self), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(self)))
            times, units = self._datasets()
            try:
                found = self._take(times, units, slice(indices.start, indices.stop))
            except (OSError, RuntimeError):
                found = self.read(indices)  # says which one
            for index, one in zip(indices, found, strict=True):
                yield self._check(index, one), len(one.times)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": -1}

    def _take(self, times: Any, units: Any, what: Any) -> list[Events]:
        found = times[what], units[what]
        if isinstance(what, int):
            found = [found[0]], [found[1]]  # type: ignore[assignment]
        return [Events(t, u) for t, u in zip(*found, strict=True)]

    def _check(self, index: int, events: Events) -> Span:
        times, units = events
        if len(times) != len(units):
            raise EventsError(f"{self.path}: recording {index} has {len(times)} times and {len(units)} units")
        found = span(times, units, self.units, self.latest)
        if found.problem:
            value = f"unit {units[found.where]}" if found.problem == 4 else f"time {times[found.where]:g} s"
            right = f"units are 0 to {self.units - 1}" if found.problem == 4 else f"times are 0 to {self.latest:g} s"
            raise EventsError(f"{self.path}: recording {index}, spike {found.where}: {value} "
                              f"{PROBLEMS[found.problem]}; {right}")  # fmt: skip
        return found

    def _datasets(self) -> tuple[Any, Any]:
        if self._process != os.getpid():
            # After a fork the parent's handle is left alone: HDF5 must not use one file in two processes.
            self._file, self._process = _open(self.path), os.getpid()
            if len(self._file["labels"]) != len(self):
                raise EventsError(f"{self.path}: has changed since it was opened first; make the data set anew")
        return self._file["spikes/times"], self._file["spikes/units"]

    def _read_about(self, file: Any) -> np.ndarray:
        missing = [name for name in _NEEDED if name not in file]
        if missing:
            raise EventsError(f"{self.path}: has no {' and no '.join(missing)}; {_LAYOUT}")
        lengths = {name: len(file[name]) for name in (*_NEEDED, "extra/speaker", "extra/names") if name in file}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise EventsError(f"{self.path}: arrays of unequal lengths: {said}; each has one entry a recording")
        for name, kinds, right in (
            ("spikes/times", "f", "floats, in seconds"),
            ("spikes/units", "ui", "whole numbers"),
        ):
            inner = _element(file[name].dtype)
            if inner.kind not in kinds:
                raise EventsError(f"{self.path}: {name} holds {inner}; it must hold {right}")
        labels = file["labels"][:]
        if labels.dtype.kind not in "ui" or labels.ndim != 1:
            raise EventsError(f"{self.path}: labels holds {labels.dtype}, shape {labels.shape}; it must be whole numbers, "
                              "one a recording")  # fmt: skip
        return labels.astype(np.int64)

    def _read_classes(self, file: Any) -> list[str]:
        if "extra/keys" in file:
            names = [_text(name) for name in file["extra/keys"][:]]
            right = f"0 to {len(names) - 1}, for which extra/keys has names"
        else:
            names = [str(number) for number in range(int(self.labels.max(initial=-1)) + 1)]
            right = "at least 0"
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(names)))
        if wrong.size:
            raise EventsError(f"{self.path}: recording {wrong[0]}: label {self.labels[wrong[0]]} is out of range; labels "
                              f"are {right}")  # fmt: skip
        return names

    def _read_speakers(self, file: Any) -> list[str]:
        if "extra/speaker_names" not in file:
            return self._read_texts(file, "extra/speaker")
        names = [_text(name) for name in file["extra/speaker_names"][:]]
        numbers = file["extra/speaker"][:]
        if numbers.size and numbers.max() >= len(names):
            raise EventsError(f"{self.path}: extra/speaker names speaker {numbers.max()} of {len(names)}")
        return [names[number] for number in numbers]

    def _read_texts(self, file: Any, name: str) -> list[str]:
        return [_text(value) for value in file[name][:]] if name in file else [""] * len(self.labels)


def _open(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        link = f", it is a symbolic link to {os.readlink(path)}" if path.is_symlink() else ""
        raise EventsError(f"{path}: no such file{link}") from None
    except IsADirectoryError:
        raise EventsError(f"{path}: is a folder; give a file of spikes") from None
    except PermissionError:
        raise EventsError(f"{path}: cannot be opened (no permission to read it)") from None
    except OSError as error:
        raise EventsError(f"{path}: {_reason(path, error)}") from None


def _reason(path: Path, error: OSError) -> str:
    said = str(error)
    if path.is_dir():
        return "is a folder; give a file of spikes"
    if isinstance(error, BlockingIOError) or "unable to lock" in said or "open for write" in said:
        return "is being written by another process; wait until that is done"
    with open(path, "rb") as file:
        head = file.read(8)
    if not head:
        return "is empty (0 bytes); copy or fetch it again"
    if head[:2] in (b"\x1f\x8b", b"PK"):
        tool = "unzip" if head[:2] == b"PK" else "gunzip"
        return f"is packed; unpack it ({tool}) and give the .h5 file"
    if head != b"\x89HDF\r\n\x1a\n":
        return "is no HDF5 file"
    kind = "is cut off" if "truncated" in said else "is damaged"
    return f"{kind}; copy or fetch it again ({_short(error)})"


def _element(dtype: np.dtype) -> np.dtype:
    """The type of what variable-length entries hold."""
    import h5py

    inner = h5py.check_vlen_dtype(dtype)
    return np.dtype(inner if inner is not None else dtype)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _short(error: Exception) -> str:
    return str(error).rpartition("(")[2].rstrip(")") or type(error).__name__
