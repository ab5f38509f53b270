"""A run, or several, as one HTML file that needs no network, with its pictures beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from temporal._files import write_atomically
from temporal.analysis import Page, render_page
from temporal.analysis.page import MADE_BY

from ..progress import Progress
from .facts import RunFacts, read_run
from .measured import measure
from .pages import page_of
from .sections import MADE_BY as PICTURE_MADE_BY

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
        for line in facts.told:
            progress.say(line if len(read) == 1 else f"{facts.name}: {line}")
    _write(page_of(read), file)
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


def _write(page: Page, file: Path) -> None:
    beside = file.with_name(f"{file.stem}_pictures")
    beside.mkdir(parents=True, exist_ok=True)
    pictures = {beside / f"{picture.name}.png": picture.png for picture in page.pictures()}
    for place, content in pictures.items():
        write_atomically(place, partial(_put, content=content))
    for old in set(beside.glob("*.png")) - set(pictures):  # of an earlier report that showed more
        if PICTURE_MADE_BY.encode() in old.read_bytes()[:300]:
            old.unlink()
    write_atomically(file, partial(_put, content=render_page(page).encode()))


def _put(opened: IO[bytes], content: bytes) -> None:
    opened.write(content)
