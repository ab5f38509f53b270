"""Several runs side by side: their figures, and only those settings that differ."""

from __future__ import annotations

from typing import Any

from temporal.analysis import Section, Table, Text, compare_curves

from .._fields import flat
from ..protocol import share
from .facts import RunFacts
from .sections import bytes_of, interval, picture

__all__ = ["comparison_section", "differing_settings"]

_ABSENT = "–"


def comparison_section(read: list[RunFacts]) -> Section:
    """A column a run."""
    header = ["", *(facts.name for facts in read)]
    rows = [[name, *map(value, read)] for name, value in _FIGURES]
    blocks: list[Any] = [Table(header, rows, "Figures")]
    settings = differing_settings(read)
    if settings:
        rows = [[name, *values] for name, values in settings.items()]
        blocks.append(Table(header, rows, "Settings that differ; all others are the same"))
    else:
        blocks.append(Text("All settings are the same."))
    if any(facts.rows for facts in read):
        drawn = compare_curves({facts.name: facts.rows for facts in read})
        blocks.append(picture("comparison", drawn, "Training loss and held-out accuracy of all runs over their epochs"))
    return Section("Comparison", blocks)


def differing_settings(read: list[RunFacts]) -> dict[str, list[str]]:
    """The dotted names of a recipe's fields that are not the same in all runs, with their values."""
    tables = [flat(facts.recipe.to_dict()) for facts in read]
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns = {name: [table.get(name) for table in tables] for name in names}
    return {
        name: [_ABSENT if value is None else str(value) for value in values]
        for name, values in columns.items()
        if any(value != values[0] for value in values)
    }


def _accuracy(facts: RunFacts) -> str:
    result = facts.result
    return f"{100 * result.accuracy:.2f} %" if result is not None and result.total else _ABSENT


def _interval(facts: RunFacts) -> str:
    result = facts.result
    return interval(result.correct, result.total) if result is not None and result.total else _ABSENT


def _tested(facts: RunFacts) -> str:
    return _ABSENT if facts.result is None else f"{facts.result.total}, {facts.about.get('split', _ABSENT)}"


def _heard(group: str) -> Any:
    def of(facts: RunFacts) -> str:
        right, total = (0, 0) if facts.result is None else getattr(facts.result.heard, group)
        return share(right, total) if total else _ABSENT

    return of


def _held_out(facts: RunFacts) -> str:
    share = facts.rows[-1].get("validation_accuracy") if facts.rows else None
    return _ABSENT if share is None else f"{100 * share:.1f} %"


def _measured(form: str, name: str) -> Any:
    def of(facts: RunFacts) -> str:
        return _ABSENT if facts.measured is None else form.format(getattr(facts.measured.activity, name))

    return of


_FIGURES: list[tuple[str, Any]] = [
    ("test accuracy", _accuracy),
    ("95 % interval", _interval),
    ("speakers heard in training", _heard("seen")),
    ("speakers never heard", _heard("unseen")),
    ("test recordings, split", _tested),
    ("held-out accuracy, last epoch", _held_out),
    ("epochs", lambda facts: f"{len(facts.rows)} of {facts.recipe.epochs}"),
    ("parameters that learn", lambda facts: _ABSENT if facts.parameters is None else f"{facts.parameters:,}"),
    ("spikes a recording", _measured("{:,.0f}", "spikes_per_recording")),
    ("additions a recording", _measured("{:,.0f}", "additions_per_recording")),
    ("products a recording", _measured("{:,.0f}", "products_per_recording")),
    ("longest delay (steps)", _measured("{}", "buffer_depth")),
    ("buffers", lambda facts: _ABSENT if facts.measured is None else bytes_of(facts.measured.activity.buffer_bytes)),
    ("seconds of training", lambda facts: f"{facts.seconds:,.0f}"),
    ("findings", lambda facts: ", ".join(dict.fromkeys(found["kind"] for found, _ in facts.findings)) or "none"),
]
