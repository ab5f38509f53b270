"""A folder of recordings as a data set: class folders with split lists, or file names that tell."""

import operator
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from ._layout import Entry, Layout, scan
from ._splits import Splitter
from .audio import AudioError, AudioHeader, check_sample_rate, read_audio, read_header

__all__ = ["AudioFolder", "Recording"]

_CACHE_BYTES = 2 << 30


class Recording(NamedTuple):
    """One item of a data set.

    ``wave`` is [samples] float32, ``label`` the number of its class, ``key`` its path below the root with "/" between,
    ``speaker`` who speaks ("" where unknown), ``position`` its place in the data set.
    """

    wave: torch.Tensor
    label: int
    key: str
    speaker: str
    position: int = -1


class AudioFolder(Dataset[Recording]):
    """Recordings of a folder, each with its label and speaker, cut into training, validation and test part.

    Layouts that are recognised by themselves:

    - class folders, ``LABEL/ANYTHING.wav`` (or ``.flac``), as in Speech Commands; ``_background_noise_`` is left out.
      Speakers come from names like ``SPEAKER_nohash_N`` and ``SPEAKER_NO_TAKE``.
    - files that lie flat, ``LABEL_SPEAKER_INDEX.wav``, as in the Free Spoken Digit Dataset.

    How the test part is chosen (``by``):

    - ``"lists"``: the files named in ``testing_list.txt``; ``validation_list.txt`` is the validation part.
    - ``"official"``: the lists where the layout has them, otherwise the recordings with index 0 to 4.
    - ``"hash"``: the rule of Speech Commands, from the name up to ``_nohash_``: a speaker stays in one part.
    - ``"speaker=NAME"``: everything that NAME says.
    - ``"random"``: a seeded share ``test`` of every class. Speakers then stand on both sides, so a figure taken on it
      says little about a new voice.
    - ``"auto"``: the lists where there are some, else the index rule where names have one, else an error.

    Unless a list names it, the validation part is cut from the training part, never from the test part: seeded, the
    same share of every class, drawn by file name, so that the order of a listing does not matter.

    Args:
        root: the folder. Symbolic links are followed, also out of it.
        sample_rate: Hz; recordings at other rates are resampled, and ``messages`` says so.
        split: "train", "validation", "test" or "all" (everything, whatever ``by``).
        by: the rule of the split, see above.
        pattern: how names are built, from LABEL (or DIGIT), SPEAKER, INDEX (digits) and ANY, with other characters
            between, such as "SPEAKER-LABEL-INDEX"; the label is the shortest that fits. Without LABEL it applies to the
            files of class folders. None: as above.
        labels: names of the classes in order, where they must be those of an earlier training; the folder may lack some
            of them, not hold others. None: the names found, naturally sorted (2 before 10).
        validation: share of the training part (0 to 1, exclusive) or number of recordings; 0 for none.
        test: the same, for by="random" and, as a share, "hash".
        seed: of the cuts.
        duration: seconds; every recording is cut, or filled up with silence, to so many. None: each is as long as it is.
        on_error: "raise": a bad recording raises when it is read. "skip": all are read once at the start, bad ones are
            left out and listed in ``skipped``.
        cache: keep decoded waveforms in memory, up to 2 GiB (True) or this many bytes: 64 kB a second at 16 kHz, and as
            much again in every data-loader worker.
    Shape:
        An item is Recording(wave [samples], label, key, speaker, position); samples differ from one to the next, unless
        `duration` says how many there are.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: no known layout, a class folder without files, names that do not fit, an unknown split, rule or
            speaker, a list that does not fit the files, a training part without any recording of a class.
        AudioError: a recording that cannot be read.

    Example:
        >>> import numpy as np, pathlib, soundfile, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for digit in range(2):
        ...     for index in range(10):
        ...         soundfile.write(root / f"{digit}_ann_{index}.wav", np.zeros(8000), 16000)
        >>> train = AudioFolder(root, 16000, split="train", validation=1 / 5)
        >>> train.labels, len(train), train[0].wave.shape, train[0].speaker
        (['0', '1'], 8, torch.Size([8000]), 'ann')
    """

    def __init__(
        self,
        root: str | os.PathLike,
        sample_rate: int = 16000,
        split: str = "train",
        by: str = "auto",
        *,
        pattern: str | None = None,
        labels: Sequence[str] | None = None,
        validation: float | int = 0.1,
        test: float | int = 0.1,
        seed: int = 0,
        duration: float | None = None,
        on_error: str = "raise",
        cache: bool | int = False,
    ):
        owner = type(self).__name__
        check_sample_rate(owner, sample_rate)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"{owner}: on_error={on_error!r} must be 'raise' or 'skip'")
        self._samples = _samples(owner, duration, sample_rate)
        self.root, self.sample_rate, self.split = Path(root), sample_rate, split
        self.skipped: list[tuple[Path, str]] = []
        self._cache: dict[int, torch.Tensor] = {}
        self._room = _CACHE_BYTES if cache is True else int(cache)
        layout = self._scan(pattern, on_error)
        splitter = Splitter(owner, self.root, layout.entries, by=by, validation=validation, test=test, seed=seed)
        self._entries = splitter.take(split)
        self.by, self.missing, self._remarks = splitter.by, splitter.missing, splitter.remarks
        self.labels: list[str] = layout.labels if labels is None else list(labels)
        self._number = self._number_labels(layout)
        self._headers: list[AudioHeader] | None = None
        if on_error == "skip":
            self._leave_out_bad_files()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Recording:
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{type(self).__name__}: index {at} is beyond {len(self)} recordings")
        at %= len(self)
        entry = self._entries[at]
        return Recording(self._of_duration(self._wave(at)), self._number[entry.label], entry.key, entry.speaker, at)

    @property
    def keys(self) -> list[str]:
        """Of each recording: its path below the root, with "/" between."""
        return [entry.key for entry in self._entries]

    @property
    def targets(self) -> list[int]:
        """Of each recording: the number of its label."""
        return [self._number[entry.label] for entry in self._entries]

    @property
    def speakers(self) -> list[str]:
        """Of each recording: who speaks, "" where the name does not tell."""
        return [entry.speaker for entry in self._entries]

    @property
    def durations(self) -> list[int]:
        """Of each recording: its length in samples at ``sample_rate``, read from the headers on first use."""
        if self._samples is not None:
            return [self._samples] * len(self)
        return [header.samples_at(self.sample_rate) for header in self._read_headers()]

    @property
    def messages(self) -> list[str]:
        """What a user should be told once: rates and channels that were converted, files skipped or missing.

        Read from the headers, once.
        """
        headers = self._read_headers()
        rates = Counter(h.sample_rate for h in headers if h.sample_rate != self.sample_rate)
        said = [f"{n} of {len(self)} recordings resampled from {rate} Hz to {self.sample_rate} Hz"
                for rate, n in sorted(rates.items())]  # fmt: skip
        channels = Counter(h.channels for h in headers if h.channels > 1)
        said += [f"{n} of {len(self)} recordings: {c} channels averaged to one" for c, n in sorted(channels.items())]
        if self._samples is not None:
            longer = sum(header.samples_at(self.sample_rate) > self._samples for header in headers)
            cut = f"{longer} of {len(self)} recordings are longer than {self._samples / self.sample_rate:g} s, and cut"
            said += [cut] if longer else []
        if self.skipped:
            path, reason = self.skipped[0]
            said.append(f"{len(self.skipped)} files skipped, the first is {path}: {reason}")
        return said + self._remarks

    def __repr__(self) -> str:
        speakers = len(set(self.speakers) - {""})
        return (
            f"{type(self).__name__}({str(self.root)!r}, split={self.split!r}, by={self.by!r}: {len(self)} recordings, "
            f"{len(self.labels)} labels, {speakers or 'unknown'} speakers, {self.sample_rate} Hz"
            + (f", {len(self.skipped)} skipped)" if self.skipped else ")")
        )

    def _scan(self, pattern: str | None, on_error: str) -> Layout:
        if not self.root.exists():
            raise FileNotFoundError(f"{type(self).__name__}: root={str(self.root)!r} does not exist")
        if not self.root.is_dir():
            raise ValueError(f"{type(self).__name__}: root={str(self.root)!r} is a file; give the folder of recordings")
        layout = scan(self.root, pattern)
        if layout.misfits and on_error == "raise":
            path, reason = layout.misfits[0]
            raise ValueError(f"{path}: {reason} ({len(layout.misfits)} such files); on_error='skip' leaves them out")
        self.skipped += layout.misfits
        return layout

    def _number_labels(self, layout: Layout) -> dict[str, int]:
        number = {label: n for n, label in enumerate(self.labels)}
        owner = type(self).__name__
        if len(number) < len(self.labels):
            raise ValueError(f"{owner}: labels={self.labels} names a class twice")
        unknown = [label for label in layout.labels if label not in number]
        if unknown:
            raise ValueError(
                f"{owner}: {self.root} holds class {unknown[0]!r}, which is not among labels={self.labels}"
            )
        return number

    def _wave(self, at: int) -> torch.Tensor:
        if at in self._cache:
            return self._cache[at].clone()
        try:
            wave = read_audio(self._entries[at].path, self.sample_rate).wave
        except AudioError as error:
            raise _with_hint(error) from None
        size = wave.numel() * wave.element_size()
        if size <= self._room:
            self._room -= size
            self._cache[at] = wave.clone()
        return wave

    def _of_duration(self, wave: torch.Tensor) -> torch.Tensor:
        more = 0 if self._samples is None else self._samples - len(wave)
        return torch.nn.functional.pad(wave, (0, more)) if more else wave  # a negative number cuts

    def _read_headers(self) -> list[AudioHeader]:
        if self._headers is None:
            try:
                self._headers = [read_header(entry.path) for entry in self._entries]
            except AudioError as error:
                raise _with_hint(error) from None
        return self._headers

    def _leave_out_bad_files(self) -> None:
        """Decode everything once: a NaN or a damaged block shows only then."""
        good: list[Entry] = []
        headers: list[AudioHeader] = []
        for entry in self._entries:
            try:
                headers.append(read_audio(entry.path, self.sample_rate).header)
                good.append(entry)
            except AudioError as error:
                self.skipped.append((entry.path, str(error).removeprefix(f"{entry.path}: ")))
        lost = {e.label for e in self._entries} - {e.label for e in good}
        if not good or (lost and self.split == "train"):
            path, reason = self.skipped[0]
            raise ValueError(
                f"{type(self).__name__}: split={self.split!r}: no good recording of class {', '.join(sorted(lost))} is "
                f"left; {len(self.skipped)} files are bad, the first is {path}: {reason}"
            )
        self._entries, self._headers = good, headers


def _samples(owner: str, duration: float | None, sample_rate: int) -> int | None:
    if duration is None:
        return None
    if (
        isinstance(duration, bool)
        or not isinstance(duration, (int, float))
        or not 1 <= duration * sample_rate < 1 << 40
    ):
        raise ValueError(f"{owner}: duration={duration!r} must be a number of seconds, of one sample at least, or None")
    return round(duration * sample_rate)


def _with_hint(error: AudioError) -> AudioError:
    return AudioError(f"{error}; on_error='skip' leaves such files out and counts them")
