"""The embedded data set: spoken digits in German and English, synthesised on the user's own machine."""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._cache import cache_folder, make_folder
from ._espeak import Utterance, speak
from ._layout import LISTS
from ._microphone import record, trim
from ._progress import Progress, bar
from ._voices import variant_of
from .folder import AudioFolder

__all__ = ["SpokenDigits"]

_VERSION = 1  # of the recipe below: another recipe is another data set, in another folder
_RATE = 16000
_INDEX = "index.json"
_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
_ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp")

_REMEDY = "remove the folder, and it is made again"


class SpokenDigits(AudioFolder):
    """Spoken digits, 0 to 9 in English and German: 20 classes, made by espeak-ng on first use and kept.

    The classes of the Spiking Heidelberg Digits without a download: 3,000 recordings to train on, 400 to validate, 600
    to test, 33 minutes in all. Each has a voice setting of its own: variant, pitch (10 to 90 of 99), pitch range, rate
    (100 to 320 words a minute, log-uniform: words of 0.15 to 0.8 s) and, in English, one of four accents. The voices of
    the three parts come from different families of variants, the same families in both languages, so nobody who tests
    was heard in training or validation. ``speakers`` are the variants.

    So that it is not all too easy, half of the recordings stand in a simulated room (an exponential decay, 60 dB in 0.1
    to 0.4 s, 3 to 12 dB under the voice) and all in noise (between white and brown, 8 to 30 dB under the voice), at
    peaks from -20 to -3 dB of full scale, with margins of 20 to 100 ms. Nearest centroids on the mean log-mel spectrum
    get 22 % of the test part right, 41 % with the level removed, a small GRU after twelve epochs 96 %.

    The data set lies in ``$TEMPORAL_CACHE``, or ``~/.cache/temporal``, in the layout of ``AudioFolder``: 40 MB of FLAC
    files, 16 bit, 16 kHz, with split lists and ``index.json`` (counts, versions, checksum). It is made in 10 seconds in
    a folder beside that is renamed when complete. That needs ``pip install 'temporal[demo]'``; reading does not.

    Args:
        root: folder of the data set, made where it does not exist; None: one in the cache.
        sample_rate, split, on_error, cache: as in AudioFolder.
        takes: recordings of each class to train, to validate and to test on.
        progress: called with (recordings done, recordings in all); True: a bar on standard error where that is a
            terminal.
    Raises:
        ModuleNotFoundError: the data set has to be made and espeakng_loader is not installed.
        ValueError: takes out of range, or a folder that holds something else or is damaged.

    Example:
        >>> digits = SpokenDigits(split="test", takes=(2, 1, 1))  # doctest: +SKIP
        >>> len(digits), digits.labels[:3], digits.labels[10:13]  # doctest: +SKIP
        (20, ['zero', 'one', 'two'], ['null', 'eins', 'zwei'])
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        sample_rate: int = _RATE,
        split: str = "train",
        *,
        takes: tuple[int, int, int] = (150, 20, 30),
        on_error: str = "raise",
        cache: bool | int = False,
        progress: bool | Progress = True,
    ):
        if len(takes) != 3 or min(takes) < 1:
            raise ValueError(
                f"SpokenDigits: takes={takes} must be three numbers of at least 1: train, validation, test"
            )
        takes = (takes[0], takes[1], takes[2])  # a list, as configuration files have it, is as good
        name = f"spoken-digits-{_VERSION}-{'-'.join(map(str, takes))}"
        folder = cache_folder() / name if root is None else Path(root)
        if not folder.is_dir() or not any(folder.iterdir()):
            with bar("speaking digits (once)", progress) as report:
                make_folder(folder, lambda work: _make(work, takes, report))
        self.about: dict = _check(folder, takes)
        super().__init__(folder, sample_rate, split, by="lists", pattern="SPEAKER_INDEX", labels=_ENGLISH + _GERMAN,
                         on_error=on_error, cache=cache)  # fmt: skip

    def verify(self) -> None:
        """Read all files of the data set, every split, and compare with the checksum that was taken when it was made.

        Raises:
            ValueError: they differ.
        """
        if _checksum(self.root) != self.about["sha256"]:
            raise ValueError(f"{self.root}: the recordings are not those that were made; {_REMEDY}")


class _File(NamedTuple):
    """One recording to make."""

    split: str
    key: str
    utterance: Utterance


def _plan(takes: tuple[int, int, int]) -> list[_File]:
    """All recordings in the order in which they are spoken: voice by voice, since changing it takes time."""
    files, first = [], 0
    for split, count in zip(("train", "validation", "test"), takes, strict=True):
        for take in range(count):
            variant = variant_of(split, take)
            for word in _ENGLISH + _GERMAN:
                draw = _generator(word, split, take, "voice")
                language = _ACCENTS[draw.integers(len(_ACCENTS))] if word in _ENGLISH else "de"
                rate = round(100 * 3.2 ** draw.random())
                pitch, pitch_range = (int(draw.integers(10, 91)) for _ in range(2))
                utterance = Utterance(f"{language}+{variant}", rate, pitch, pitch_range, word)
                files.append(_File(split, f"{word}/{variant}_{first + take:03d}.flac", utterance))
        first += count
    return sorted(files, key=lambda file: (file.utterance.voice, file.key))


def _make(folder: Path, takes: tuple[int, int, int], report: Progress) -> None:
    import soundfile
    import soxr

    files = _plan(takes)
    for word in _ENGLISH + _GERMAN:
        (folder / word).mkdir()
    with speak([file.utterance for file in files]) as speech:
        for done, (file, samples) in enumerate(zip(files, speech, strict=True)):
            report(done, len(files))
            wave = soxr.resample(trim(samples, speech.sample_rate), speech.sample_rate, _RATE)
            wave = record(wave, _RATE, _generator(file.key, "room"))
            soundfile.write(folder / file.key, wave, _RATE, subtype="PCM_16")
    report(len(files), len(files))
    for split, name in LISTS.items():
        keys = sorted(file.key for file in files if file.split == split)
        (folder / name).write_text("\n".join(keys) + "\n", encoding="utf-8")
    index = {
        "name": "temporal spoken digits",
        "version": _VERSION,
        "takes": list(takes),
        "recordings": len(files),
        "bytes": sum((folder / file.key).stat().st_size for file in files),
        "sample_rate": _RATE,
        "espeak_ng": speech.version,
        "sha256": _checksum(folder),
    }
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _generator(*what: object) -> np.random.Generator:
    """Random numbers of one recording, from its name."""
    digest = hashlib.blake2b("/".join(map(str, (_VERSION, *what))).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _check(folder: Path, takes: tuple[int, int, int]) -> dict:
    """The index of a complete data set; sizes are compared, which takes milliseconds, contents in ``verify``."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        found = (index["name"], index["version"], tuple(index["takes"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"SpokenDigits: {folder} holds no complete data set of spoken digits; give a new folder as root, or, if it "
            f"was one: {_REMEDY}"
        ) from None
    if found != ("temporal spoken digits", _VERSION, tuple(takes)):
        raise ValueError(f"SpokenDigits: {folder} holds version {found[1]}, takes={found[2]}, not version {_VERSION}, "
                         f"takes={tuple(takes)}; give another folder as root")  # fmt: skip
    sizes = [file.stat().st_size for file in folder.glob("*/*.flac")]
    made, there = (index["recordings"], index["bytes"]), (len(sizes), sum(sizes))
    if made != there:
        raise ValueError(f"SpokenDigits: {folder} is damaged: of {made[0]} recordings, {made[1]} bytes, "
                         f"there are {there[0]}, {there[1]} bytes; {_REMEDY}")  # fmt: skip
    return index


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*.flac"), key=lambda f: f.relative_to(folder).as_posix()):
        digest.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()
