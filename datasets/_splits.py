"""Who trains, who validates, who tests: the split rules of a folder of recordings."""

import hashlib
import re
from pathlib import Path

from ._layout import LISTS, Entry, read_lists

SPLITS = ("train", "validation", "test", "all")
RULES = "auto, official, lists, hash, random, speaker=NAME"
OFFICIAL_TEST = range(5)  # the Free Spoken Digit Dataset's rule: recordings 0 to 4 of every digit and speaker

_HASHES = 1 << 27  # values of Speech Commands' hash


class Splitter:
    """Cuts the entries of one folder.

    ``owner`` names the class in errors, ``remarks`` collects what a user should know, ``missing`` is what the lists
    name in vain.
    """

    def __init__(
        self,
        owner: str,
        root: Path,
        entries: list[Entry],
        *,
        by: str,
        validation: float | int,
        test: float | int,
        seed: int,
    ):
        self.owner, self.root, self.entries, self.seed = owner, root, entries, seed
        self.validation, self.test = _share(owner, "validation", validation), _share(owner, "test", test)
        self.remarks: list[str] = []
        self.missing: list[str] = []
        self.by = self._resolve(by)

    def take(self, split: str) -> list[Entry]:
        """The entries of ``split``, sorted by key."""
        if split not in SPLITS:
            raise ValueError(f"{self.owner}: split={split!r} is unknown; known: {', '.join(SPLITS)}")
        if split == "all":
            return self.entries
        test, validation = self._rule()
        rest = [e for e in self.entries if e.key not in test]
        if split == "test":
            chosen = [e for e in self.entries if e.key in test]
        else:
            if validation is None:
                validation = self._cut(rest, "validation", self.validation)
            chosen = [e for e in rest if (e.key in validation) == (split == "validation")]
        self._check_classes(split, chosen)
        return chosen

    def parts(self) -> dict[str, str]:
        """The part of each key, as far as the folder itself says: by lists or by index. Nothing is cut or checked."""
        if self.by not in ("lists", "official"):
            return {}
        test, validation = self._rule()
        part = {entry.key: "train" for entry in self.entries}
        return part | dict.fromkeys(validation or (), "validation") | dict.fromkeys(test, "test")

    def _resolve(self, by: str) -> str:
        if by == "auto":
            if self._has_lists():
                return "lists"
            return "official" if self._has_indices() else "auto"
        if by == "official":
            return "lists" if self._has_lists() and not self._has_indices() else "official"
        if by in ("lists", "hash", "random") or by.startswith("speaker="):
            return by
        raise ValueError(f"{self.owner}: by={by!r} is unknown; known: {RULES}")

    def _rule(self) -> tuple[set[str], set[str] | None]:
        """Keys that test, and keys that validate (None: cut them from the rest)."""
        if self.by == "lists":
            return self._by_lists()
        if self.by == "official":
            return self._by_index(), None
        if self.by == "hash":
            return self._by_hash()
        if self.by == "random":
            return self._cut(self.entries, "test", self.test), None
        if self.by.startswith("speaker="):
            return self._by_speaker(self.by.removeprefix("speaker=")), None
        raise ValueError(
            f"{self.owner}: {self.root} has neither split lists ({', '.join(LISTS.values())}) nor names of the form "
            "LABEL_SPEAKER_INDEX; give by='speaker=NAME', or by='random' for a seeded random split"
        )

    def _by_lists(self) -> tuple[set[str], set[str] | None]:
        present, missing = read_lists(self.root, self.entries)
        if not present:
            raise ValueError(
                f"{self.owner}: by='lists', but {self.root} has neither {' nor '.join(LISTS.values())}; "
                "by='random' makes a seeded random split"
            )
        self.missing = sorted(key for keys in missing.values() for key in keys)
        if self.missing:
            self.remarks.append(
                f"{len(self.missing)} files named in the split lists are not there ({self.missing[0]}, ...)"
            )
        return present.get("test", set()), present.get("validation")

    def _by_hash(self) -> tuple[set[str], set[str]]:
        """The rule of Speech Commands: a speaker's place depends on the name alone, and stays when recordings are added."""
        for name, value in (("validation", self.validation), ("test", self.test)):
            if isinstance(value, int) and value:
                raise ValueError(f"{self.owner}: by='hash' takes {name}={value} as a share, from 0 to 1")
        parts: dict[str, set[str]] = {"validation": set(), "test": set(), "train": set()}
        for entry in self.entries:
            # The name as far as _nohash_, as a percentage that is uniform over names.
            name = re.sub(r"_nohash_.*$", "", entry.path.name)
            place = (
                int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16) % _HASHES * 100 / (_HASHES - 1)
            )
            validation, test = 100 * self.validation, 100 * self.test
            part = "validation" if place < validation else "test" if place < validation + test else "train"
            parts[part].add(entry.key)
        return parts["test"], parts["validation"]

    def _by_index(self) -> set[str]:
        if not self._has_indices():
            raise ValueError(
                f"{self.owner}: by='official' needs split lists or names with an INDEX, as in LABEL_SPEAKER_INDEX, and "
                f"{self.root} has neither; give pattern=, by='speaker=NAME' or by='random'"
            )
        return {e.key for e in self.entries if e.index in OFFICIAL_TEST}

    def _by_speaker(self, name: str) -> set[str]:
        speakers = sorted({e.speaker for e in self.entries} - {""})
        if not speakers:
            raise ValueError(
                f"{self.owner}: by={self.by!r}, but the file names give no speaker; give pattern= with SPEAKER"
            )
        if name not in speakers:
            raise ValueError(f"{self.owner}: by={self.by!r}: no such speaker; speakers: {', '.join(speakers)}")
        return {e.key for e in self.entries if e.speaker == name}

    def _cut(self, entries: list[Entry], what: str, share: float | int) -> set[str]:
        """A seeded part of every class. The draw depends on name and seed alone, not on the order of a listing."""
        groups: dict[str, list[str]] = {}
        for entry in entries:
            groups.setdefault(entry.label, []).append(entry.key)
        cut: set[str] = set()
        for label, count in self._counts(groups, what, share).items():
            cut.update(sorted(groups[label], key=lambda key: _hash(f"{what}/{self.seed}/{key}"))[:count])
        return cut

    def _counts(self, groups: dict[str, list[str]], what: str, share: float | int) -> dict[str, int]:
        """How many recordings of each class to cut; a class that takes part gives one at least and keeps one."""
        if share == 0:
            return {}
        total = sum(map(len, groups.values()))
        fraction = share if isinstance(share, float) else share / total
        exact = {label: fraction * len(keys) for label, keys in groups.items()}
        counts = {label: max(1, int(count)) for label, count in exact.items()}
        wanted = round(fraction * total)
        by_remainder = sorted(groups, key=lambda label: (-(exact[label] % 1), label))
        for label in by_remainder:
            if sum(counts.values()) < wanted and counts[label] <= exact[label]:
                counts[label] += 1
        for label, count in counts.items():
            if count >= len(groups[label]) or (isinstance(share, int) and share < len(groups)):
                raise ValueError(
                    f"{self.owner}: {what}={share} cannot be cut from {total} recordings of {len(groups)} classes so "
                    f"that each class keeps some on both sides (class {label!r} has {len(groups[label])})"
                )
        return counts

    def _check_classes(self, split: str, chosen: list[Entry]) -> None:
        if not chosen:
            raise ValueError(f"{self.owner}: split={split!r} by={self.by!r} holds no recording of {self.root}")
        lacking = sorted({e.label for e in self.entries} - {e.label for e in chosen})
        if not lacking:
            return
        said = f"{split} holds no recording of {len(lacking)} of the classes: {', '.join(lacking)}"
        # Lists and speakers are as their maker left them, and a part to test on may lack a word; nothing can be learnt
        # from no recording, though, and a split that is cut here is whole.
        if split == "train" or not (self.by in ("lists", "hash") or self.by.startswith("speaker=")):
            raise ValueError(
                f"{self.owner}: split={split!r} by={self.by!r}: {said}; choose another rule, or add recordings"
            )
        self.remarks.append(said)

    def _has_lists(self) -> bool:
        return any((self.root / name).is_file() for name in LISTS.values())

    def _has_indices(self) -> bool:
        return all(e.index is not None for e in self.entries)


def _share(owner: str, name: str, value: float | int) -> float | int:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if whole or (isinstance(value, float) and 0 <= value < 1):
        return value
    raise ValueError(
        f"{owner}: {name}={value!r} must be a share of at least 0 and under 1, or a whole number of recordings"
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
