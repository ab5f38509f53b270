"""Which recordings of files of spikes train, validate and test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._events_file import EventsFile
from ._layout import Entry
from ._splits import SPLITS, Splitter

__all__ = ["Part", "choose"]

Rows = list[tuple[int, int]]  # (file, number in the file)

_RULES = "auto, official, random, speaker=NAME"


@dataclass
class Part:
    """The files, and how to cut them. ``files`` are by part, or one under "file"; ``remarks`` collects what to tell."""

    owner: str
    root: Path
    files: dict[str, EventsFile]
    validation: float | int | Sequence[str]
    test: float | int
    seed: int
    remarks: list[str] = field(default_factory=list)


def choose(part: Part, split: str, by: str) -> tuple[Rows, str]:
    """The recordings of ``split``, and the rule that chose them.

    Raises:
        ValueError: an unknown split, rule or speaker; a part without recordings, or a cut that a class does not survive.
    """
    if split not in SPLITS:
        raise ValueError(f"{part.owner}: split={split!r} is unknown; known: {', '.join(SPLITS)}")
    if by not in ("auto", "official", "random") and not by.startswith("speaker="):
        raise ValueError(f"{part.owner}: by={by!r} is unknown; known: {_RULES}")
    rule = "official" if by == "auto" else by
    if split == "all":
        return [(n, i) for n, file in enumerate(part.files.values()) for i in range(len(file))], rule
    names = list(part.files)
    if rule == "official" and "file" in part.files:
        chosen = _named(part, split)
        rows = [(0, index) for index in chosen]
    elif rule == "official" and split in part.files and not (split == "train" and "validation" not in part.files):
        rows = [(names.index(split), index) for index in range(len(part.files[split]))]
    else:
        first = "file" if "file" in part.files else "train"
        rows = [(names.index(first), index) for index in _cut(part, part.files[first], split, rule)]
    if not rows:
        raise ValueError(f"{part.owner}: split={split!r} by={rule!r} holds no recording of {part.root}")
    if split == "train":
        _check_classes(part, list(part.files.values())[rows[0][0]], [index for _, index in rows], rule)
    return rows, rule


def _check_classes(part: Part, file: EventsFile, rows: list[int], rule: str) -> None:
    """Nothing can be learnt of a class without a recording to train on, whatever held its recordings back."""
    lacking = sorted({file.classes[n] for n in set(file.labels.tolist()) - set(file.labels[rows].tolist())})
    if lacking:
        raise ValueError(
            f"{part.owner}: split='train' by={rule!r}: train holds no recording of {len(lacking)} of the classes: "
            f"{', '.join(lacking)}; choose another rule, or hold fewer recordings back"
        )


def _named(part: Part, split: str) -> list[int]:
    """The parts that a file names itself."""
    file = part.files["file"]
    if file.splits is None:
        raise ValueError(
            f"{part.owner}: {part.root} is one file and does not say which recordings test; give by='speaker=NAME', or "
            "by='random' for a seeded random split, or split='all'"
        )
    if split == "test" or "validation" in file.splits:
        return [index for index, name in enumerate(file.splits) if name == split]
    rest = [index for index, name in enumerate(file.splits) if name != "test"]
    return _validated(part, file, rest, split)


def _cut(part: Part, file: EventsFile, split: str, rule: str) -> list[int]:
    """One part of one file, by a rule that cuts."""
    everything = range(len(file))
    if rule == "official":
        return _validated(part, file, everything, split)
    by_speakers = not isinstance(part.validation, (int, float))
    splitter = _splitter(part, file, everything, by=rule, validation=0 if by_speakers else part.validation)  # type: ignore[arg-type]
    if by_speakers and split != "test":
        rest = [int(entry.key) for entry in splitter.take("train")]
        return _validated(part, file, rest, split)
    return _taken(part, splitter, split)


def _validated(part: Part, file: EventsFile, rest: Sequence[int], split: str) -> list[int]:
    """The training or the validation part of recordings none of which test."""
    if split == "validation" and part.validation == 0:
        raise ValueError(f"{part.owner}: validation=0 leaves no validation part")
    if isinstance(part.validation, (int, float)):
        return _taken(part, _splitter(part, file, rest, by="random", validation=part.validation, test=0), split)
    if isinstance(part.validation, str):
        raise ValueError(f"{part.owner}: validation={part.validation!r} must be a share, a number, or several speakers: "
                         f"({part.validation!r},)")  # fmt: skip
    held = {str(name) for name in part.validation}
    speakers = {file.speakers[index] for index in rest}
    unknown = sorted(held - speakers)
    if unknown:
        raise ValueError(f"{part.owner}: validation={part.validation!r}: no such speaker as {unknown[0]!r}; speakers: "
                         f"{', '.join(sorted(speakers - {''})) or 'unknown'}")  # fmt: skip
    return [index for index in rest if (file.speakers[index] in held) == (split == "validation")]


def _splitter(
    part: Part,
    file: EventsFile,
    indices: Sequence[int],
    *,
    by: str,
    validation: float | int,
    test: float | int | None = None,
) -> Splitter:
    entries = [Entry(file.path, str(i), file.classes[file.labels[i]], file.speakers[i]) for i in indices]
    test = part.test if test is None else test
    return Splitter(part.owner, part.root, entries, by=by, validation=validation, test=test, seed=part.seed)


def _taken(part: Part, splitter: Splitter, split: str) -> list[int]:
    taken = sorted(int(entry.key) for entry in splitter.take(split))
    part.remarks += splitter.remarks
    return taken
