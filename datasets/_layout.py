"""What lies in a folder of recordings: class folders or telling file names, speakers, and split lists."""

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".wav", ".flac")
BACKGROUND = "_background_noise_"  # Speech Commands: long recordings to mix in, not a class
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
KNOWN = (
    "known layouts: class folders (LABEL/ANYTHING.wav or .flac), with or without validation_list.txt and "
    "testing_list.txt; or files named LABEL_SPEAKER_INDEX.wav; for other names give pattern="
)

_FIELDS = {"LABEL": ("label", ".+?"), "DIGIT": ("label", ".+?"), "SPEAKER": ("speaker", ".+?"),
           "INDEX": ("index", "[0-9]+"), "ANY": (None, ".+?")}  # fmt: skip
_FLAT = "LABEL_SPEAKER_INDEX"
# Names that need no pattern in class folders: Google's HASH_nohash_N and the Arabic set's SPEAKER_NO_TAKE.
_SPEAKER_FORMS = re.compile(r"(?P<speaker>.+)_(?:nohash|NO)_[0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: where it lies, its key (path relative to the root, "/" between) and what its name says."""

    path: Path
    key: str
    label: str
    speaker: str = ""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """All files of a folder, sorted by key, and those whose names do not fit the pattern."""

    entries: list[Entry]
    misfits: list[tuple[Path, str]]

    @property
    def labels(self) -> list[str]:
        return sorted({entry.label for entry in self.entries}, key=natural)


def natural(text: str) -> tuple:
    """Sort key under which 2 comes before 10."""
    return tuple((0, int(part), part) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text)), text


def scan(root: Path, pattern: str | None) -> Layout:
    """Find the recordings below ``root``; ValueError where it has no layout that is known."""
    flat, folders = _audio_files(root), _folders(root)
    by_name = pattern is not None and {"LABEL", "DIGIT"} & set(_fields(pattern))
    if by_name or (flat and not folders):
        return _named(root, flat, pattern)
    if flat:
        raise ValueError(
            f"{root}: holds class folders ({_some(f.name for f in folders)}) and recordings beside them "
            f"({_some(f.name for f in flat)}); move one kind away, or give pattern= to use the latter"
        )
    if not folders:
        raise ValueError(f"{root}: holds no WAV or FLAC file and no class folder; {KNOWN}")
    return _class_folders(root, folders, pattern)


def read_lists(root: Path, entries: list[Entry]) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """The split lists that lie in ``root``: per split the keys that exist, and those that do not."""
    keys = {entry.key for entry in entries}
    stems = {key.rpartition(".")[0]: key for key in keys}
    present, missing = {}, {}
    for split, name in LISTS.items():
        if not (root / name).is_file():
            continue
        try:
            lines = (root / name).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{root / name}: is not UTF-8 text ({error.reason})") from None
        listed = {_clean(line) for line in lines if line.strip()}
        present[split], missing[split] = listed & keys, sorted(listed - keys)
        for key in missing[split]:
            if twin := stems.get(key.rpartition(".")[0]):
                raise ValueError(f"{root / name}: names {key}, but the file is {twin}; correct the list")
        if listed and not present[split]:
            raise ValueError(f"{root / name}: names {len(listed)} files and none is there, the first is {min(listed)}")
    both = sorted(present.get("validation", set()) & present.get("test", set()))
    if both:
        raise ValueError(f"{root}: {both[0]} is in {LISTS['validation']} and in {LISTS['test']}; it can be in one")
    return present, missing


def _class_folders(root: Path, folders: list[Path], pattern: str | None) -> Layout:
    entries, misfits = [], []
    form = _SPEAKER_FORMS if pattern is None else _compile(pattern)
    for folder in folders:
        files = _audio_files(folder)
        if not files:
            raise ValueError(f"{folder}: a class folder without a WAV or FLAC file; fill it or remove it")
        for path in files:
            name = form.fullmatch(path.stem)
            if name is None and pattern is not None:
                misfits.append((path, f"the name does not fit pattern={pattern!r}"))
            else:
                entries.append(_entry(root, path, _nfc(folder.name), name))
    if len(folders) == 1 and all(re.fullmatch(r".+_.+_[0-9]+", entry.path.stem) for entry in entries):
        labels = {entry.path.stem.partition("_")[0] for entry in entries}
        if len(labels) > 1:
            raise ValueError(f"{root}: holds one class folder only; its files look like LABEL_SPEAKER_INDEX, so give "
                             f"{folders[0]} itself")  # fmt: skip
    return Layout(sorted(entries, key=lambda e: e.key), misfits)


def _named(root: Path, files: list[Path], pattern: str | None) -> Layout:
    form = _compile(pattern or _FLAT)
    entries, misfits = [], []
    for path in files:
        name = form.fullmatch(path.stem)
        if name is None:
            misfits.append((path, f"the name does not fit pattern={pattern or _FLAT!r}"))
        else:
            entries.append(_entry(root, path, _nfc(name["label"]), name))
    if not entries:
        if not files:
            raise ValueError(
                f"{root}: pattern={pattern!r} names the label, but no WAV or FLAC file lies in this folder"
            )
        raise ValueError(f"{root}: no file fits pattern={pattern or _FLAT!r}, the first is {files[0].name}; {KNOWN}")
    return Layout(sorted(entries, key=lambda e: e.key), misfits)


def _entry(root: Path, path: Path, label: str, name: re.Match | None) -> Entry:
    found = name.groupdict() if name else {}
    index = found.get("index")
    key = _nfc(path.relative_to(root).as_posix())
    return Entry(path, key, label, _nfc(found.get("speaker") or ""), None if index is None else int(index))


def _fields(pattern: str) -> list[str]:
    return [part for part in re.split(f"({'|'.join(_FIELDS)})", pattern) if part in _FIELDS]


def _compile(pattern: str) -> re.Pattern:
    """ "DIGIT_SPEAKER_INDEX" -> a regular expression with groups label, speaker and index."""
    stem = pattern.removesuffix(".wav").removesuffix(".flac")
    groups, regex, after_field = set(), "", False
    for part in filter(None, re.split(f"({'|'.join(_FIELDS)})", stem)):
        group, expression = _FIELDS.get(part, (None, re.escape(part)))
        if group in groups or (after_field and part in _FIELDS):
            raise ValueError(f"pattern={pattern!r}: {part} comes twice, or without a character that parts it")
        regex += f"(?P<{group}>{expression})" if group else f"(?:{expression})"
        groups.add(group)
        groups.discard(None)
        after_field = part in _FIELDS
    if not groups:
        raise ValueError(f"pattern={pattern!r}: names no field; fields are {', '.join(_FIELDS)}")
    return re.compile(regex)


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name != BACKGROUND and not p.name.startswith("."))


def _audio_files(folder: Path) -> list[Path]:
    # A broken link is neither file nor folder: it stays in, so that reading it names it. Names with a leading dot are
    # what macOS leaves beside real files.
    return sorted(
        p for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()
    )  # fmt: skip


def _clean(line: str) -> str:
    return _nfc(os.path.normpath(line.strip().replace("\\", "/")).replace(os.sep, "/"))


def _nfc(text: str) -> str:
    """One spelling of accented letters: macOS takes them apart."""
    return unicodedata.normalize("NFC", text)


def _some(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")
