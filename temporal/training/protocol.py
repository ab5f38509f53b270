"""What a reader must know of a figure before believing it: how it came about, and whose voices it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Heard", "heard", "protocol_of", "share"]

_WEIGHTS = {
    False: "the last epoch's weights",
    True: "the average of the weights as the last epoch left it",
    None: "the last epoch's weights, or their average where the recipe has one",
}


@dataclass(frozen=True)
class Heard:
    """Test recordings by whether their speakers were heard in training, each (how many are right, how many there are).

    Args:
        seen, unseen: of speakers that were heard in training, and of others.
        unknown: recordings of which nobody can say.
    """

    seen: tuple[int, int] = (0, 0)
    unseen: tuple[int, int] = (0, 0)
    unknown: tuple[int, int] = (0, 0)

    def __add__(self, other: Heard) -> Heard:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Heard(*((a[0] + b[0], a[1] + b[1]) for a, b in pairs))

    def __str__(self) -> str:
        if not (self.seen[1] or self.unseen[1]):
            return "speakers: unknown, so nobody can say how many of these voices were heard in training"
        groups = (("heard in training", self.seen), ("never heard", self.unseen), ("unknown", self.unknown))
        return "speakers: " + ", ".join(f"{name} {share(*group)}" for name, group in groups if group[1])

    def to_dict(self) -> dict[str, Any]:
        """Of each group that is there: accuracy, correct, total."""
        return {
            name: {"accuracy": right / total, "correct": right, "total": total}
            for name, (right, total) in vars(self).items()
            if total
        }


def heard(speakers: Sequence[str], right: Iterable[bool], trained: Sequence[str] | None) -> Heard:
    """Count recordings by whether their speakers were heard in training. Speakers are told apart by their names.

    Args:
        speakers: of each recording, "" where unknown.
        right: whether it was recognised.
        trained: speakers of the training recordings; ``None`` or none where nobody knows.

    Example:
        >>> from temporal.training.protocol import heard
        >>> print(heard(["ann", "ann", "bob"], [True, False, True], ["ann", "eve"]))
        speakers: heard in training 50.00 % (1 of 2), never heard 100.00 % (1 of 1)
    """
    counts = {"seen": [0, 0], "unseen": [0, 0], "unknown": [0, 0]}
    known = set(trained or ()) - {""}
    for who, good in zip(speakers, right, strict=True):
        group = counts["unknown" if not who or not known else "seen" if who in known else "unseen"]
        group[0] += bool(good)
        group[1] += 1
    return Heard(**{name: (good, total) for name, (good, total) in counts.items()})


def protocol_of(split: str, epochs: int, done: int | None = None, *, averaged: bool | None = False) -> str:
    """How a figure of a run came about, in one line.

    Args:
        split: which recordings were tested on, in words.
        epochs: of the recipe.
        done: how many of them are finished; ``None``: all.
        averaged: whether the weights are the moving average of the recipe's ``ema``; ``None``: of several runs, some are.

    Example:
        >>> from temporal.training.protocol import protocol_of
        >>> print(protocol_of("split “lists”", 30, 12))
        protocol: split “lists”; after 12 of 30 epochs, so this is no result yet; whole-step delays, folded normalisation
    """
    ended = (
        f"{epochs} epochs, fixed beforehand; {_WEIGHTS[averaged]}; held-out recordings chose nothing"
        if done is None or done >= epochs
        else f"after {done} of {epochs} epochs, so this is no result yet"
    )
    return f"protocol: {split}; {ended}; whole-step delays, folded normalisation"


def share(right: int, total: int) -> str:
    """A part of recordings as people read it."""
    return f"{100 * right / total:.2f} % ({right} of {total})"
