"""Google's Speech Commands: all words, or the task of twelve classes with silence and unknown words."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ._layout import BACKGROUND, LISTS, Entry, Layout
from ._progress import Progress
from ._sources import SPEECH_COMMANDS, fetch_folder
from .audio import AudioHeader, read_audio
from .background import excerpt
from .folder import AudioFolder

__all__ = ["SpeechCommands"]

SILENCE, UNKNOWN = "_silence_", "_unknown_"
_TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_THIRTY = frozenset((
    *_TEN, "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "bed", "bird", "cat", "dog",
    "happy", "house", "marvin", "sheila", "tree", "wow",
))  # fmt: skip
_RELEASES = {30: _THIRTY, 35: _THIRTY | {"backward", "follow", "forward", "learn", "visual"}}
_VERSIONS = {30: "0.01", 35: "0.02"}


class SpeechCommands(AudioFolder):
    """Speech Commands: words of one second at most, 16 kHz, in class folders with split lists.

    Version 0.02 has 35 words and 105,829 recordings (84,843 to train, 9,981 to validate, 11,005 to test), version 0.01 has
    30 and 64,727. Any folder in this layout will do, such as Arabic Speech Commands; recordings keep their lengths.

    ``words=12`` is the task of ten words, ``_unknown_`` and ``_silence_``, built as TensorFlow's speech_commands example
    builds it: in each part, one recording of another word for every ten of the ten words (``unknown``), and as many of
    silence (``silence``), both rounded up. Two things differ, so that a run can be repeated: the unknown words are chosen by
    a seeded hash of their names, not by the order of a shuffle, and each clip of silence is what it is in every epoch: one
    second from a random place of one of the recordings in ``_background_noise_``, at a volume from 0 to 1. That example
    tests on digital silence, ``silence_from="zeros"``, which is too easy to say much. The release's own test archive for
    this task (4,890 recordings) is another choice of unknown words and silence: give that folder itself, with split="all".

    Arguments that are not listed are those of ``AudioFolder``.

    Args:
        root: the folder of the words, or one above it, where torchaudio puts it.
        sample_rate: Hz; 16000 keeps the recordings as they are.
        split: "train", "validation", "test" or "all".
        by: "lists", "hash" (the rule by which the lists were made: for a folder without them), or as in AudioFolder;
            "auto": the lists where they are, else the hash.
        words: 35 or 30: all words of version 0.02 or 0.01, and it is an error if one lacks; 12: the task above; a sequence
            of words: that task with these words; None: every folder is a class.
        silence, unknown: recordings of these classes for each of the words', >= 0.
        silence_from: "noise" or "zeros".
        download: fetch version 0.02 (2.4 GB; words=30: version 0.01, 1.5 GB) into ``root`` if nothing is there.
        progress: of a download, as in ``SHD``.
    Raises:
        FileNotFoundError: no such folder; it says where to get it.
        ValueError: words that are not there, no background noise to make silence from; and as AudioFolder.
    References:
        Warden 2018, "Speech Commands: a dataset for limited-vocabulary speech recognition".

    Example:
        >>> import pathlib, soundfile, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for word in ("yes", "no", "tree", "wow"):
        ...     (root / word).mkdir()
        ...     for take in range(20):
        ...         soundfile.write(root / word / f"{take:08x}_nohash_0.wav", np.zeros(16000), 16000)
        >>> data = SpeechCommands(root, split="all", words=("yes", "no"), silence_from="zeros")
        >>> data.labels, len(data), data.targets.count(0), data.targets.count(1)
        (['_silence_', '_unknown_', 'yes', 'no'], 48, 4, 4)
    """

    def __init__(
        self,
        root: str | os.PathLike,
        sample_rate: int = 16000,
        split: str = "train",
        by: str = "auto",
        *,
        words: int | Sequence[str] | None = None,
        silence: float = 0.1,
        unknown: float = 0.1,
        silence_from: str = "noise",
        labels: Sequence[str] | None = None,
        validation: float | int = 0.1,
        test: float | int = 0.1,
        seed: int = 0,
        duration: float | None = None,
        on_error: str = "raise",
        cache: bool | int = False,
        download: bool = False,
        progress: bool | Progress = True,
    ):
        self._task = _task(words)
        self._words, self._seed, self._silence_from = words, seed, silence_from
        self._noise: dict[Path, torch.Tensor] = {}
        if silence_from not in ("noise", "zeros"):
            raise ValueError(f"SpeechCommands: silence_from={silence_from!r} must be 'noise' or 'zeros'")
        for name, share in (("silence", silence), ("unknown", unknown)):
            if not 0 <= share < math.inf:
                raise ValueError(f"SpeechCommands: {name}={share} must be at least 0")
        source = SPEECH_COMMANDS[_VERSIONS.get(words if isinstance(words, int) else 35, "0.02")]
        if download:
            fetch_folder(source, Path(root), progress)
        folder = _inner(Path(root))
        if not folder.exists():
            raise FileNotFoundError(f"SpeechCommands: root={str(root)!r} does not exist; unpack {source.packed} there (from "
                                    f"{source.hosts[0]}{source.packed}), or give download=True")  # fmt: skip
        if by == "auto" and not any((folder / name).is_file() for name in LISTS.values()):
            by = "hash"
        if self._task and labels is None:
            labels = [SILENCE, UNKNOWN, *self._task]
        super().__init__(folder, sample_rate, split, by, labels=labels, validation=validation, test=test, seed=seed,
                         duration=duration, on_error=on_error, cache=cache)  # fmt: skip
        if self._task:
            self._keep_unknown(unknown)
            self._add_silence(silence)

    @property
    def background(self) -> list[torch.Tensor]:
        """The recordings of ``_background_noise_``, each [samples] at ``sample_rate``: what ``BackgroundNoise`` mixes in."""
        return [self._read_noise(path) for path in self._noise_files()]

    def _scan(self, pattern: str | None, on_error: str) -> Layout:
        layout = super()._scan(pattern, on_error)
        wanted = set(self._task) if self._task else _RELEASES.get(self._words, frozenset())  # type: ignore[arg-type]
        missing = sorted(wanted - set(layout.labels))
        surplus = [] if self._task or not wanted else sorted(set(layout.labels) - wanted)
        if missing or surplus:
            said = f"lacks {', '.join(missing)}" if missing else f"also holds {', '.join(surplus)}"
            raise ValueError(
                f"SpeechCommands: words={self._words!r}, but {self.root} {said}; words=None takes every folder"
            )
        if not self._task:
            return layout
        return Layout([e if e.label in wanted else _relabelled(e, UNKNOWN) for e in layout.entries], layout.misfits)

    def _keep_unknown(self, share: float) -> None:
        words = sum(entry.label in self._task for entry in self._entries)
        others = sorted(
            (e.key for e in self._entries if e.label == UNKNOWN), key=lambda key: self._draw("unknown", key)
        )
        kept = set(others[: math.ceil(share * words)])
        if len(kept) < math.ceil(share * words):
            self._remarks.append(
                f"{len(kept)} recordings of other words are all there are, not {share:g} for each word's"
            )
        places = [at for at, e in enumerate(self._entries) if e.label != UNKNOWN or e.key in kept]
        if self._headers is not None:
            self._headers = [self._headers[at] for at in places]
        self._entries = [self._entries[at] for at in places]

    def _add_silence(self, share: float) -> None:
        words = sum(entry.label in self._task for entry in self._entries)
        count = math.ceil(share * words)
        files = self._noise_files() if self._silence_from == "noise" and count else [Path(SILENCE)]
        if not files:
            raise ValueError(f"SpeechCommands: {self.root} has no {BACKGROUND} folder with recordings to make silence from; "
                             "copy it there, or give silence_from='zeros' or silence=0")  # fmt: skip
        for number in range(count):
            key = f"{SILENCE}/{self.split}/{number:05d}"
            path = files[self._draw("file", key) % len(files)]
            self._entries.append(Entry(path, key, SILENCE))
        if self._headers is not None:
            self._headers += [self._silence_header()] * count

    def _wave(self, at: int) -> torch.Tensor:
        entry = self._entries[at]
        if entry.label != SILENCE or not self._task:
            return super()._wave(at)
        if self._silence_from == "zeros":
            return torch.zeros(self.sample_rate)
        noise = self._read_noise(entry.path)
        draw = np.random.default_rng(self._draw("excerpt", entry.key))
        return excerpt(noise, self.sample_rate, draw.random()) * draw.random()

    def _read_headers(self) -> list[AudioHeader]:
        if self._headers is None:
            everything = self._entries
            spoken = [entry for entry in everything if not self._task or entry.label != SILENCE]
            self._entries = spoken  # the others are not files
            try:
                headers = list(super()._read_headers())
            finally:
                self._entries = everything
            self._headers = headers + [self._silence_header()] * (len(everything) - len(spoken))
        return self._headers

    def _silence_header(self) -> AudioHeader:
        return AudioHeader(self.sample_rate, self.sample_rate, 1)

    def _noise_files(self) -> list[Path]:
        folder = self.root / BACKGROUND
        return sorted(p for p in folder.glob("*.wav") if not p.name.startswith(".")) if folder.is_dir() else []

    def _read_noise(self, path: Path) -> torch.Tensor:
        if path not in self._noise:
            self._noise[path] = read_audio(path, self.sample_rate).wave
        return self._noise[path]

    def _draw(self, what: str, key: str) -> int:
        digest = hashlib.blake2b(f"{what}/{self._seed}/{key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")


def _task(words: int | Sequence[str] | None) -> tuple[str, ...]:
    """The words of a task with silence and unknown words; none where every folder is a class."""
    if isinstance(words, str) or (isinstance(words, int) and words not in (12, *_RELEASES)):
        raise ValueError(f"SpeechCommands: words={words!r} must be 12, 30, 35, several words, or None")
    if words == 12:
        return _TEN
    if words is None or isinstance(words, int):
        return ()
    chosen = tuple(words)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"SpeechCommands: words={words!r} must be one word at least, each once")
    return chosen


def _inner(root: Path) -> Path:
    """The folder of the words, where torchaudio's way of unpacking put it below ``root``."""
    for above in (root, root / "SpeechCommands"):
        for source in SPEECH_COMMANDS.values():
            if (above / source.name).is_dir():
                return above / source.name
    return root


def _relabelled(entry: Entry, label: str) -> Entry:
    return Entry(entry.path, entry.key, label, entry.speaker, entry.index)
