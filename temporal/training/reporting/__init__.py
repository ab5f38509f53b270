"""A run, or several, as one HTML file that needs no network, with its pictures beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from temporal._files import write_atomically
from temporal.analysis import Page, Picture, Section, Text, render_page
from temporal.analysis.page import MADE_BY

from ..progress import Progress
from .comparison import comparison_section
from .facts import RunFacts, read_run
from .measured import measure
from .sections import MADE_BY as PICTURE_MADE_BY
from .sections import bytes_of, interval, run_sections

if TYPE_CHECKING:
    from torch import nn

__all__ = ["report"]


def report(
    runs: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    data: str | os.PathLike | None = None,
    recordings: Sequence[str] = (),
    network: nn.Module | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a report of one run, or of several side by side.

    One HTML file with everything inside: it opens without a network, and runs no script. Its pictures lie beside it as PNG
    files, too, in a folder of its name. A run that has not ended, or whose recordings are gone, is reported as far as it is
    known, and the report says what is missing. The test part is measured only of runs that have their result.

    Args:
        runs: a run folder, or several.
        out: the file; None: ``report.html`` in the run folder, or, of several runs, in the present folder.
        data: where the recordings are now; None: where the run had them.
        recordings: names of test recordings whose spikes are drawn; none: the surest, the least sure, the surest mistake.
        network: for runs with a network class of the user's own; see :func:`temporal.load`.
        progress: where progress is shown; None shows nothing.
    Returns:
        The file.
    Raises:
        FileNotFoundError: no such run; no recordings in ``data``.
        FileExistsError: ``out`` exists and is no report.
        ValueError: no run, a recipe that cannot be read, a recording that is not there.

    Example:
        >>> import tempfile, temporal
        >>> from pathlib import Path
        >>> from temporal.training import Recipe, report
        >>> folder = Path(tempfile.mkdtemp())
        >>> Recipe(name="mine").to_toml(folder / "recipe.toml")  # a run that has only begun
        >>> file = report(folder)
        >>> file.name, "No epoch is finished" in file.read_text()
        ('report.html', True)
    """
    folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    if not folders:
        raise ValueError("report: no run; at least one run folder is right")
    progress = progress or Progress.silent()
    file = Path(out) if out is not None else (Path(folders[0]) if len(folders) == 1 else Path()) / "report.html"
    read = [read_run(folder, network) for folder in folders]
    _check_target(file)
    for facts in read:
        _measure(facts, data, recordings, progress)
    page = _page_of_one(read[0]) if len(read) == 1 else _page_of_several(read)
    _write(page, file)
    return file


def _check_target(file: Path) -> None:
    if file.is_dir():
        raise FileExistsError(f"{file}: is a folder; give the name of a file to write, such as {file / 'report.html'}")
    if file.exists():
        with open(file, "rb") as opened:
            if MADE_BY.encode() not in opened.read(1000):
                raise FileExistsError(f"{file}: exists and is no report of temporal; choose another name")


def _measure(facts: RunFacts, data: str | os.PathLike | None, recordings: Sequence[str], progress: Progress) -> None:
    """Add what the recordings show; if they are gone, a word on it."""
    if facts.model is None:
        facts.missing.append("Without the model, nothing could be measured on recordings.")
        return
    try:
        with progress.evaluating() as done:
            facts.measured = measure(
                facts.recipe, facts.model, facts.result, data=data, recordings=recordings, progress=done
            )
    except (OSError, ValueError) as error:
        if data is not None or recordings:  # asked for
            raise
        gone = "so there are no spikes, firing rates and operations of recordings, and no comparison with a stream"
        facts.missing.append(f"The recordings cannot be read ({error}), {gone}; say where they are with --data.")


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
        figures.append((duration(facts.seconds), "of training"))
    return figures


def _notices(facts: RunFacts) -> list[Text]:
    """What ails, and what is missing, where nobody overlooks it."""
    ill = [Text(f"{found['text'][0].upper()}{found['text'][1:]}.", "warning") for found, _ in facts.findings]
    return [*ill, *(Text(text, "note") for text in facts.missing)]


def duration(seconds: float) -> str:
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


def _write(page: Page, file: Path) -> None:
    beside = file.with_name(f"{file.stem}_pictures")
    beside.mkdir(parents=True, exist_ok=True)
    pictures = {beside / f"{picture.name}.png": picture.png for picture in page.pictures()}
    for place, content in pictures.items():
        write_atomically(place, lambda opened, content=content: opened.write(content))
    for old in set(beside.glob("*.png")) - set(pictures):  # of an earlier report that showed more
        if PICTURE_MADE_BY.encode() in old.read_bytes()[:300]:
            old.unlink()
    html = render_page(page).encode()
    write_atomically(file, lambda opened: opened.write(html))
