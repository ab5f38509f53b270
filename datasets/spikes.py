"""The Spiking Heidelberg Digits and Spiking Speech Commands, and any file in their layout, as counts [steps, channels]."""

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ._event_splits import Part, choose
from ._events_file import Events, EventsFile
from ._progress import Progress
from ._sources import SHD_FILES, SSC_FILES, Source, fetch_all
from .binning import Binning

__all__ = ["SHD", "SSC", "SpikeBatch", "SpikeRecording", "collate_spikes"]

_CACHE_BYTES = 2 << 30


class SpikeRecording(NamedTuple):
    """One item of a data set of spikes.

    ``spikes`` is [steps, channels] float32, ``label`` the number of its class, ``key`` its file and number or its name,
    ``speaker`` who speaks ("" where unknown), ``position`` its place in the data set.
    """

    spikes: torch.Tensor
    label: int
    key: str
    speaker: str
    position: int = -1


class SpikeBatch(NamedTuple):
    """Recordings put together, time first, each followed by zeros: what ``temporal.Model(frontend=None)`` takes.

    Shape:
        spikes: [T, B, channels] float32. lengths: [B] int64, in steps. labels: [B] int64. keys, speakers: B strings.
        indices: [B] int64, the recordings' positions in their data set.
    """

    spikes: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    keys: list[str]
    speakers: list[str]
    indices: torch.Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SpikeBatch":
        """The batch with spikes, lengths and labels on ``device``; ``indices`` stay, they seed draws on the CPU."""
        spikes, lengths, labels = (
            t.to(device, non_blocking=non_blocking) for t in (self.spikes, self.lengths, self.labels)
        )
        return self._replace(spikes=spikes, lengths=lengths, labels=labels)


def collate_spikes(recordings: Sequence[SpikeRecording]) -> SpikeBatch:
    """Put recordings together into a batch, time first, padded with empty steps: the ``collate_fn`` of a data loader.

    Args:
        recordings: one at least, each spikes [steps, channels].
    Shape:
        Returns SpikeBatch(spikes [T, B, channels], lengths [B], labels [B], keys, speakers, indices [B]).
    Raises:
        ValueError: no recording.

    Example:
        >>> one, two = (SpikeRecording(torch.ones(steps, 3), 0, "key", "4") for steps in (2, 5))
        >>> batch = collate_spikes([one, two])
        >>> batch.spikes.shape, batch.lengths
        (torch.Size([5, 2, 3]), tensor([2, 5]))
    """
    if not recordings:
        raise ValueError("collate_spikes: recordings is empty; a batch holds one recording at least")
    spikes, labels, keys, speakers, indices = zip(*recordings, strict=True)
    return SpikeBatch(
        spikes=torch.nn.utils.rnn.pad_sequence(list(spikes)),
        lengths=torch.tensor([len(x) for x in spikes]),
        labels=torch.tensor(labels),
        keys=list(keys),
        speakers=list(speakers),
        indices=torch.tensor(indices),
    )


class SHD(Dataset[SpikeRecording]):
    """Spiking Heidelberg Digits: spoken digits in German and English as spikes of 700 cochlear channels, 20 classes.

    8,156 recordings to train and 2,264 to test on, of 12 speakers, two of whom are in the test part only. There is no
    official validation part, and one must be cut from the training part: published figures that chose the best epoch on
    the test part lie up to 2.7 points too high.

    Any other file in the same layout, such as ``temporal spikes`` writes, is read as well. Files may be larger than
    memory: spikes are read when asked for, by each worker from a file that it opened itself.

    How the parts are chosen (``by``), from a folder that holds the published files:

    - ``"official"``: the test file tests; the validation part is cut from the training file.
    - ``"speaker=NAME"``: of the training file, everything that NAME says tests, the rest trains: leave one speaker out.
    - ``"random"``: of the training file, a seeded share ``test`` of every class tests.
    - ``"auto"``: official. From a single file: the parts that it names itself (extra/split), if any.

    A validation part that is a share contains voices of the training part. To validate on new voices, as the test part
    does in part, give speakers instead: ``validation=("4", "10")``.

    Args:
        root: the folder with the published files, or one file.
        split: "train", "validation", "test" or "all" (everything, whatever ``by``).
        by: the rule, see above.
        binning: how spikes become steps: the name of a preset, or a ``Binning``.
        validation: share of the training part (0 to 1, exclusive), number of recordings, or names of speakers; 0: none.
        test: share or number, for by="random".
        seed: of the cuts.
        labels: names of the classes in order, where they must be those of an earlier training; the file may lack some of
            them, not hold others. None: as the file numbers them.
        units: how many units there are.
        latest: latest time that a spike may have, in seconds: what comes later is an error.
        cache: keep spikes in memory, up to 2 GiB (True) or this many bytes, in every worker anew.
        download: fetch the published files into ``root`` if they are not there.
        progress: of a download: called with (bytes done, bytes in all); True: a bar on standard error where that is a
            terminal.
    Shape:
        An item is SpikeRecording(spikes [steps, channels], label, key, speaker, position); steps differ from one to the
        next, as the binning says. Times need not ascend. A recording without spikes is one empty step.
    Raises:
        FileNotFoundError: the files are not there; it says where to get them and where to put them.
        EventsError: a file or a recording that cannot be used.
        ValueError: an unknown split, rule, speaker or preset; a part that lacks a class.
    References:
        Cramer, Stradmann, Schemmel and Zenke 2022, "The Heidelberg spiking data sets for the systematic evaluation of
        spiking neural networks".

    Example:
        >>> import pathlib, tempfile
        >>> from temporal.datasets import write_events
        >>> file = pathlib.Path(tempfile.mkdtemp(), "two.h5")
        >>> spikes = [(np.array([0.001, 0.024]), np.array([3, 699])), (np.array([0.011]), np.array([0]))]
        >>> write_events(file, spikes, labels=[1, 0], classes=["zero", "one"], speakers=["ann", "bob"])
        >>> data = SHD(file, split="all")
        >>> [x.spikes.shape for x in data], data.labels, data.speakers
        ([torch.Size([3, 140]), torch.Size([2, 140])], ['zero', 'one'], ['ann', 'bob'])
    """

    _files: ClassVar[dict[str, Source]] = SHD_FILES

    def __init__(
        self,
        root: str | os.PathLike,
        split: str = "train",
        by: str = "auto",
        *,
        binning: str | Binning = "10ms",
        validation: float | int | Sequence[str] = 0.1,
        test: float | int = 0.1,
        seed: int = 0,
        labels: Sequence[str] | None = None,
        units: int = 700,
        latest: float = 60.0,
        cache: bool | int = False,
        download: bool = False,
        progress: bool | Progress = True,
    ):
        owner = type(self).__name__
        self.root, self.split, self.units = Path(root), split, units
        self.binning = Binning.named(binning) if isinstance(binning, str) else binning
        if download and not self.root.is_file():
            lacking = [source for source in self._files.values() if _locate(self.root, source) is None]
            fetch_all(lacking, self.root, progress)
        self._opened = {
            part: EventsFile(path, units, latest) for part, path in _find(owner, self.root, self._files).items()
        }
        part = Part(owner, self.root, self._opened, validation=validation, test=test, seed=seed)
        rows, self.by = choose(part, split, by)
        self._remarks = part.remarks
        self._sources = list(self._opened.values())
        self._rows: list[tuple[int, int]] = rows  # (file, number in the file)
        self.labels: list[str] = self._sources[0].classes if labels is None else list(labels)
        self._numbers = [self._number_labels(file) for file in self._sources]
        self._cache: dict[int, Events] = {}
        self._room = _CACHE_BYTES if cache is True else int(cache)
        self._spans: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> SpikeRecording:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[SpikeRecording]:
        """Several items at once, which costs half as much an item: a data loader asks for a batch in this way."""
        places = [self._place(index) for index in indices]
        events = self._events(places)
        return [
            SpikeRecording(
                self.binning(*one, units_in_all=self.units), self._target(at), self._key(at), self._speaker(at), at
            )
            for at, one in zip(places, events, strict=True)
        ]

    @property
    def channels(self) -> int:
        """How many channels an item has."""
        return self.binning.channels(self.units)

    @property
    def keys(self) -> list[str]:
        """Of each recording: its name, or its file and its number in it."""
        return [self._key(at) for at in range(len(self))]

    @property
    def targets(self) -> list[int]:
        """Of each recording: the number of its label."""
        return [self._target(at) for at in range(len(self))]

    @property
    def speakers(self) -> list[str]:
        """Of each recording: who speaks, "" where the file does not tell."""
        return [self._speaker(at) for at in range(len(self))]

    @property
    def durations(self) -> list[int]:
        """Of each recording: its length in steps. Reads and checks all spikes once: 0.1 ms a recording."""
        spans = self._all_spans()
        return self.binning.lengths(spans[:, 0], spans[:, 1]).tolist()

    @property
    def messages(self) -> list[str]:
        """What a user should be told once: recordings without spikes, spikes that are left out, classes that lack."""
        spans = self._all_spans()
        said = []
        silent = int((spans[:, 2] == 0).sum())
        if silent:
            said.append(f"{silent} of {len(self)} recordings hold no spike: each is one empty step")
        limit = self.binning.limit
        late = int((spans[:, 1] - (spans[:, 0] if self.binning.start == "first" else 0) >= limit).sum())
        if late:
            said.append(f"{late} of {len(self)} recordings have spikes from {limit:g} s on, which are left out")
        return said + self._remarks

    def events(self, index: int) -> Events:
        """The spikes of a recording as they are stored, in order of their times."""
        (events,) = self._events([self._place(index)])
        order = np.argsort(events.times, kind="stable")
        return Events(events.times[order], events.units[order])

    def __repr__(self) -> str:
        speakers = len(set(self.speakers) - {""})
        return (
            f"{type(self).__name__}({str(self.root)!r}, split={self.split!r}, by={self.by!r}: {len(self)} recordings, "
            f"{len(self.labels)} labels, {speakers or 'unknown'} speakers, {self.channels} channels, {self.binning})"
        )

    def _place(self, index: int) -> int:
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{type(self).__name__}: index {at} is beyond {len(self)} recordings")
        return at % len(self)

    def _events(self, places: Sequence[int]) -> list[Events]:
        found = {at: self._cache[at] for at in places if at in self._cache}
        for number, file in enumerate(self._sources):
            mine = [at for at in places if at not in found and self._rows[at][0] == number]
            found.update(zip(mine, file.read([self._rows[at][1] for at in mine]), strict=True))
        for at in places:
            size = found[at].times.nbytes + found[at].units.nbytes
            if at not in self._cache and size <= self._room:
                self._room -= size
                self._cache[at] = found[at]
        return [found[at] for at in places]

    def _target(self, at: int) -> int:
        number, index = self._rows[at]
        return self._numbers[number][self._sources[number].labels[index]]

    def _key(self, at: int) -> str:
        number, index = self._rows[at]
        return key_of(self._sources[number], index)

    def _speaker(self, at: int) -> str:
        number, index = self._rows[at]
        return self._sources[number].speakers[index]

    def _all_spans(self) -> np.ndarray:
        """[N, 3]: first and last spike's time, number of spikes. Whole files are read, in order, which is fastest."""
        if self._spans is None:
            used = {number for number, _ in self._rows}
            spans = {
                number: np.array([(s.first, s.last, n) for s, n in file.spans()]).reshape(-1, 3)
                for number, file in enumerate(self._sources)
                if number in used
            }
            self._spans = np.array([spans[number][index] for number, index in self._rows]).reshape(-1, 3)
        return self._spans

    def _number_labels(self, file: EventsFile) -> list[int]:
        """The file's number of a class -> its number here."""
        owner = type(self).__name__
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"{owner}: labels={self.labels} names a class twice")
        place = {name: n for n, name in enumerate(self.labels)}
        held = set(np.unique(file.labels).tolist())
        unknown = [name for n, name in enumerate(file.classes) if n in held and name not in place]
        if unknown:
            raise ValueError(
                f"{owner}: {file.path} holds class {unknown[0]!r}, which is not among labels={self.labels}"
            )
        return [place.get(name, -1) for name in file.classes]


class SSC(SHD):
    """Spiking Speech Commands: Google's 35 words as spikes of 700 cochlear channels.

    75,466 recordings to train, 9,981 to validate and 20,382 to test on, in three files, whose speakers never meet. The
    files take 2.5 GB unpacked and are never read whole.

    Arguments, items and errors are those of ``SHD``; ``validation`` is not used with the official split.

    Example:
        >>> data = SSC("ssc", split="validation", binning="4ms")  # doctest: +SKIP
        >>> len(data), len(data.labels), data.channels  # doctest: +SKIP
        (9981, 35, 140)
    """

    _files: ClassVar[dict[str, Source]] = SSC_FILES


def key_of(file: EventsFile, index: int) -> str:
    """The recording's own name, or its file and its number in it."""
    return file.names[index] or f"{file.path.stem}/{index}"


def _find(owner: str, root: Path, files: dict[str, Source]) -> dict[str, Path]:
    """The published files in a folder, or the one file that was given."""
    if root.is_file():
        return {"file": root}
    found = {}
    for part, source in files.items():
        path = _locate(root, source)
        if path is None:
            packed = next((root / name for name in source.packed_names if (root / name).exists()), None)
            if packed is not None:
                raise FileNotFoundError(f"{owner}: {packed} is packed; unpack it where it lies, or give download=True")
            wanted = ", ".join(file.name for file in files.values())
            raise FileNotFoundError(
                f"{owner}: {root} holds no {source.name}; put the files {wanted} there (from {source.page}), or give "
                f"download=True, or give one file as root"
            )
        found[part] = path
    return found


def _locate(root: Path, source: Source) -> Path | None:
    """Where the file lies: in the folder, or where tonic and SpikingJelly put it below."""
    above = (root, root / source.name.partition("_")[0].upper(), root / "extract")
    paths = [folder / source.name for folder in above]
    return next((path for path in paths if path.exists() or path.is_symlink()), None)
