"""Writing a file of spikes in SHD's layout: recording by recording, flat in memory, and never half of it.

A run that is killed goes on where it was, so what has come is kept in a folder beside the file, ``.NAME.unfinished``: the
spikes one after the other in ``spikes.bin`` and one line a recording in ``index.jsonl``, written after its spikes. An HDF5
file would not do, since one that is killed while open for writing cannot be opened again. The end copies it all into HDF5,
which takes a fraction of the time of making spikes, and renames.
"""

import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from temporal._files import lock

from ._events_file import SPLIT_NUMBERS, Events

__all__ = ["EventsWriter", "write_events"]

_NUMBERS = {name: number for number, name in SPLIT_NUMBERS.items()}
# float32: float16, which SHD itself uses, moves spikes by up to 0.5 ms, and tonic's conversion to microseconds overflows.
_TIME, _UNIT = np.dtype("<f4"), np.dtype("<u2")


class EventsWriter:
    """Writes recordings, one after the other, into a file in the layout of SHD; resumed after a kill.

    ``done`` is how many recordings are there already, so a caller goes on with number ``done``. ``finish`` makes the file;
    before, nothing has its name. Leaving the ``with`` block without it keeps what was written for the next try.

    Any loader of SHD reads the file: ``spikes/times`` (float32, seconds), ``spikes/units`` (uint16), ``labels`` (uint8, or
    uint16 for more than 256 classes), ``extra/keys`` (the classes' names), ``extra/speaker`` (numbers). Beside them
    ``extra/speaker_names``, ``extra/names`` and, if any recording has a part, ``extra/split``.

    Args:
        path: the file to make; it must not exist.
        classes: names of the classes.
        plan: what all this is made from, as text: only a writer with the same plan and classes goes on with what is there.
        units: units are 0 .. units - 1, at most 65,536.
        resume: go on with what is there; False begins anew.
    Raises:
        FileExistsError: ``path`` exists.
        BlockingIOError: another process is writing this file.
        ValueError: what is there is of another plan.
        OSError: no room; what was written is kept.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "words.h5")
        >>> with EventsWriter(file, ["no", "yes"]) as writer:
        ...     writer.append(np.array([0.01, 0.02]), np.array([5, 699]), label=1, speaker="ann", name="yes/ann.wav")
        ...     writer.finish()
        >>> from temporal.datasets import SHD
        >>> SHD(file, split="all").events(0).units
        array([  5, 699], dtype=uint16)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        classes: Sequence[str],
        *,
        plan: str = "",
        units: int = 700,
        resume: bool = True,
    ):
        self.path, self.classes, self.units = Path(path), list(classes), units
        if not 1 <= units <= 1 << 16:
            raise ValueError(f"EventsWriter: units={units} must be from 1 to 65536")
        if self.path.exists():
            raise FileExistsError(f"{self.path}: exists already; remove it or choose another name")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path}: there is no folder {self.path.parent}")
        self._folder = self.path.with_name(f".{self.path.name}.unfinished")
        self._about = json.dumps({"classes": self.classes, "plan": plan, "units": units})
        self._spikes, self._index = self._begin(resume)
        self._recover()

    def append(
        self,
        times: np.ndarray,
        units: np.ndarray,
        *,
        label: int,
        speaker: str = "",
        name: str = "",
        split: str = "",
    ) -> None:
        """Add a recording.

        Args:
            times: [events] in seconds, finite, >= 0, ascending.
            units: [events], whole numbers, 0 .. units - 1.
            label: number of its class.
            speaker: who speaks; "" where unknown.
            name: the recording's own name.
            split: "train", "validation", "test"; "" where there are no parts, and "train" where others have some.
        Raises:
            ValueError: what is no recording; the message names it.
            OSError: no room; the recordings before are kept.
        """
        times, units = self._checked(np.asarray(times), np.asarray(units), label, split, name)
        content = times.tobytes() + units.tobytes()
        line = {"n": len(times), "crc": zlib.crc32(content), "label": int(label), "speaker": speaker, "name": name,
                "split": split}  # fmt: skip
        try:
            self._spikes.write(content)
            self._spikes.flush()
            self._index.write((json.dumps(line) + "\n").encode())
            self._index.flush()
        except OSError as error:
            raise self._not_written(error) from None
        self.done += 1

    def finish(self) -> None:
        """Make the file, and remove what was kept.

        Raises:
            ValueError: what was kept is damaged.
            OSError: no room; what was written is kept.
        """
        import h5py

        work = self._folder / "file.h5"
        try:
            with h5py.File(work, "w") as file:
                self._write_about(file)
                self._write_spikes(file)
            with open(work, "rb+") as written:
                os.fsync(written.fileno())
        except (OSError, RuntimeError) as error:  # what HDF5 raises for a full disk depends on where it was
            work.unlink(missing_ok=True)
            raise self._not_written(error) from None
        self.close()
        os.replace(work, self.path)
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of what was kept, to go on later."""
        for file in (self._spikes, self._index):
            with suppress(OSError):  # a full disk: what is missing at the end is seen when it is opened again
                file.close()

    def __enter__(self) -> "EventsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, resume: bool) -> tuple[IO[bytes], IO[bytes]]:
        try:
            self._folder.mkdir(exist_ok=True)
            index = open(self._folder / "index.jsonl", "a+b")  # noqa: SIM115 # it lives as long as the writer
            if not lock(index):
                index.close()
                raise BlockingIOError(f"{self._folder}: another process is writing this file; wait until it is done")
            about = self._folder / "about.json"
            if resume and about.exists() and about.read_text() != self._about:
                index.close()
                raise ValueError(f"{self._folder}: holds part of another conversion (other recordings, classes or "
                                 "settings); remove that folder, or choose another file")  # fmt: skip
            spikes = open(self._folder / "spikes.bin", "a+b")  # noqa: SIM115
            if not (resume and about.exists()):
                index.truncate(0)
                spikes.truncate(0)
                new = self._folder / "about.json.new"
                new.write_text(self._about)
                os.replace(new, about)
        except OSError as error:
            raise self._not_written(error) from None
        return spikes, index

    def _recover(self) -> None:
        """Keep the recordings that are whole: a kill may have left half of the last one."""
        size = self._spikes.seek(0, os.SEEK_END)
        self._index.seek(0)
        end = good = self.done = 0
        for line in self._index:
            try:
                count = int(json.loads(line)["n"])
            except (ValueError, KeyError, TypeError):
                break
            there = end + count * (_TIME.itemsize + _UNIT.itemsize)
            if not line.endswith(b"\n") or there > size:
                break
            end, good, self.done = there, good + len(line), self.done + 1
        self._index.truncate(good)
        self._spikes.truncate(end)

    def _lines(self) -> Iterator[dict[str, Any]]:
        self._index.seek(0)
        for line in self._index:
            yield json.loads(line)

    def _checked(
        self, times: np.ndarray, units: np.ndarray, label: int, split: str, name: str
    ) -> tuple[np.ndarray, np.ndarray]:
        where = f"EventsWriter: recording {self.done}" + (f" ({name})" if name else "")
        if times.ndim != 1 or times.shape != units.shape:
            raise ValueError(f"{where}: times {times.shape} and units {units.shape} must be [events], as many of each")
        if times.size and not (np.isfinite(times).all() and times.min() >= 0):
            raise ValueError(f"{where}: times must be finite and at least 0, in seconds")
        if (np.diff(times) < 0).any():
            raise ValueError(f"{where}: times must ascend; sort the spikes by time")
        if units.size and (units.dtype.kind not in "ui" or units.min() < 0 or units.max() >= self.units):
            raise ValueError(f"{where}: units must be whole numbers from 0 to {self.units - 1}")
        if not 0 <= label < len(self.classes):
            raise ValueError(f"{where}: label={label} must be from 0 to {len(self.classes) - 1}")
        if split and split not in _NUMBERS:
            raise ValueError(f"{where}: split={split!r} must be one of {', '.join(_NUMBERS)}, or empty")
        return times.astype(_TIME), units.astype(_UNIT)

    def _write_about(self, file: Any) -> None:
        import h5py

        columns: dict[str, list] = {"label": [], "speaker": [], "name": [], "split": []}
        for line in self._lines():
            for key, column in columns.items():
                column.append(sys.intern(line[key]) if key in ("speaker", "split") else line[key])
        text = h5py.string_dtype()
        names = sorted(set(columns["speaker"]))
        # Numbers where all are numbers, as in SHD; else their places in the list of names.
        whole = all(name.isdecimal() and len(name) < 5 and str(int(name)) == name for name in names)
        number = {name: int(name) if whole else place for place, name in enumerate(names)}
        kind = np.uint8 if len(self.classes) <= 256 else np.uint16
        file.create_dataset("labels", data=np.array(columns["label"], kind))
        file.create_dataset("extra/keys", data=np.array([name.encode() for name in self.classes]))
        file.create_dataset("extra/speaker", data=np.array([number[name] for name in columns["speaker"]], np.uint16))
        if not whole:
            file.create_dataset("extra/speaker_names", data=names, dtype=text)
        if any(columns["name"]):
            file.create_dataset("extra/names", data=columns["name"], dtype=text)
        if any(columns["split"]):
            parts = [_NUMBERS[name or "train"] for name in columns["split"]]
            file.create_dataset("extra/split", data=np.array(parts, np.uint8))

    def _write_spikes(self, file: Any) -> None:
        import h5py

        times = file.create_dataset("spikes/times", (self.done,), dtype=h5py.vlen_dtype(_TIME))
        units = file.create_dataset("spikes/units", (self.done,), dtype=h5py.vlen_dtype(_UNIT))
        self._spikes.seek(0)
        for index, line in enumerate(self._lines()):
            content = self._spikes.read(line["n"] * (_TIME.itemsize + _UNIT.itemsize))
            if zlib.crc32(content) != line["crc"]:
                raise ValueError(f"{self._folder}: recording {index} ({line['name']}) is damaged; remove that folder and "
                                 "convert again")  # fmt: skip
            times[index] = np.frombuffer(content, _TIME, line["n"])
            units[index] = np.frombuffer(content, _UNIT, line["n"], offset=line["n"] * _TIME.itemsize)

    def _not_written(self, error: Exception) -> OSError:
        if isinstance(error, BlockingIOError):
            return error
        told = re.search(
            "error message = '([^']*)'", str(error)
        )  # HDF5 wraps the system's word in three lines of its own
        reason = getattr(error, "strerror", None) or (told[1] if told else str(error))
        return OSError(f"{self.path}: cannot be written ({reason}); the recordings before are kept in {self._folder}: make "
                       "room there and try again, it goes on from there")  # fmt: skip


def write_events(
    path: str | os.PathLike,
    recordings: Iterable[Events | tuple[np.ndarray, np.ndarray]],
    *,
    labels: Sequence[int],
    classes: Sequence[str],
    speakers: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    units: int = 700,
) -> None:
    """Write recordings into a file in the layout of SHD: whole, or not at all.

    Args:
        path: the file to make; it must not exist.
        recordings: (times in seconds, units) of each, as they come: they need not fit into memory together.
        labels: numbers of their classes, one a recording.
        classes: names of the classes.
        speakers, names, splits: of each recording; None: unknown, none.
        units: how many units there are.
    Raises:
        FileExistsError: ``path`` exists.
        ValueError: what is no recording, or another number of recordings than of labels.
        OSError: no room.

    Example: see ``SHD``; ``EventsWriter`` is the form that is resumed after a kill.
    """
    blank = [""] * len(labels)
    with EventsWriter(path, classes, units=units, resume=False) as writer:
        try:
            rows = zip(labels, speakers or blank, names or blank, splits or blank, strict=True)
            for (times, unit), (label, speaker, name, split) in zip(_each(recordings), rows, strict=True):
                writer.append(times, unit, label=label, speaker=speaker, name=name, split=split)
            writer.finish()
        finally:
            writer.close()
            shutil.rmtree(writer._folder, ignore_errors=True)


def _each(recordings: Iterable[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for times, units in recordings:
        yield np.asarray(times), np.asarray(units)
