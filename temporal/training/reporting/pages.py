"""The whole page, of one run or of several."""

from __future__ import annotations

import time

from temporal.analysis import Page, Picture, Section, Text

from .comparison import comparison_section
from .facts import RunFacts
from .sections import bytes_of, interval, run_sections

__all__ = ["page_of"]


def page_of(read: list[RunFacts]) -> Page:
    """What a reader sees, the figure that matters first."""
    return _page_of_one(read[0]) if len(read) == 1 else _page_of_several(read)


def _page_of_one(facts: RunFacts) -> Page:
    headline, subline = _headline(facts)
    return Page(
        title=facts.name if facts.name.startswith(facts.recipe.name) else f"{facts.recipe.name}: {facts.name}",
        headline=headline,
        subline=subline,
        figures=_figures(facts),
        blocks=_notices(facts),
        sections=run_sections(facts),
        footer=_footer(),
    )


def _page_of_several(read: list[RunFacts]) -> Page:
    _make_names_differ(read)
    best = max((facts for facts in read if facts.result is not None), key=_accuracy, default=None)
    headline = f"{100 * _accuracy(best):.2f} %" if best is not None else f"{len(read)} runs"
    subline = (
        f"is the best test accuracy of these {len(read)} runs, reached by {best.name}. The best of several is flattered: "
        "choose on recordings that are held out, and test the one that is chosen."
        if best is not None
        else "None of them has its test result yet."
    )
    parts = [comparison_section(read)]
    for number, facts in enumerate(read, 1):
        own = _headline(facts)
        inner = [_named(section, f"run_{number}_") for section in run_sections(facts)]
        blocks = [Text(f"{own[0]} {own[1]}"), *_notices(facts)]
        parts.append(Section(facts.name, blocks, inner))
    return Page(f"{len(read)} runs", headline, subline, sections=parts, footer=_footer())


def _headline(facts: RunFacts) -> tuple[str, str]:
    result, epochs = facts.result, facts.recipe.epochs
    if result is not None and result.total:
        right = f"{result.correct} of {result.total} test recordings"
        return (
            f"{100 * result.accuracy:.2f} %",
            f"accuracy, {right}; 95 % interval {interval(result.correct, result.total)}",
        )
    if not facts.rows:
        return "not trained yet", f"no epoch of {epochs} is finished"
    done = f"after {len(facts.rows)} of {epochs} epochs; there is no test result yet"
    held = facts.rows[-1].get("validation_accuracy")
    share, what = (facts.rows[-1]["train_accuracy"], "training") if held is None else (held, "held-out")
    return f"{100 * share:.1f} %", f"{what} accuracy {done}"


def _figures(facts: RunFacts) -> list[tuple[str, str]]:
    figures = []
    if facts.parameters is not None:
        figures.append((f"{facts.parameters:,}", "parameters that learn"))
    if facts.measured is not None:
        activity = facts.measured.activity
        if activity.layers:
            figures.append((f"{activity.spikes_per_recording:,.0f}", "spikes a recording"))
        if activity.synapses:
            additions, products = activity.additions_per_recording, activity.products_per_recording
            figures.append((f"{additions:,.0f}", "synaptic operations a recording (additions)"))
            if products:
                figures.append((f"{products:,.0f}", "products a recording, of the input layer's real numbers"))
            depth = f"{activity.buffer_depth} steps, {bytes_of(activity.buffer_bytes)}"
            figures.append((depth, "longest delay, and buffers of a signal"))
    if facts.rows:
        figures.append((f"{len(facts.rows)} of {facts.recipe.epochs}", "epochs"))
        figures.append((_duration(facts.seconds), "of training"))
    return figures


def _notices(facts: RunFacts) -> list[Text]:
    """What ails, and what is missing, where nobody overlooks it."""
    ill = [Text(f"{found['text'][0].upper()}{found['text'][1:]}.", "warning") for found, _ in facts.findings]
    return [*ill, *(Text(text, "note") for text in facts.missing)]


def _duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _accuracy(facts: RunFacts) -> float:
    return facts.result.accuracy if facts.result is not None and facts.result.total else 0.0


def _make_names_differ(read: list[RunFacts]) -> None:
    """Runs in folders of one name are told apart by the folder above."""
    for longer in (lambda path: f"{path.parent.name}/{path.name}", str):
        names = [facts.name for facts in read]
        for facts in read:
            if names.count(facts.name) > 1:
                facts.name = longer(facts.run.folder.resolve())


def _named(section: Section, prefix: str) -> Section:
    """The same section, whose pictures have a prefix."""
    blocks = [
        Picture(prefix + block.name, block.png, block.alt) if isinstance(block, Picture) else block
        for block in section.blocks
    ]
    return Section(section.title, blocks, [_named(inner, prefix) for inner in section.sections], section.folded)


def _footer() -> str:
    import temporal

    return f"Written by temporal {temporal.__version__}, {time.strftime('%Y-%m-%d %H:%M')}."
