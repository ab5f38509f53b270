"""A report as one HTML file that needs no network: text, tables and pictures in, a page out."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["MADE_BY", "Page", "Picture", "Section", "Table", "Text", "render_page"]

MADE_BY = '<meta name="generator" content="temporal report">'  # how a file is known to be one of ours


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: shown as it is, never read as HTML.
        kind: "plain", "note" for what is missing, or "warning" for what ails.
    """

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        header: names of the columns.
        rows: texts, as many in each row as there are columns.
        caption: a line above it.
        numbers: columns after the first hold numbers, set to the right.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture.

    Args:
        name: of its file, without an ending.
        png: the file.
        alt: what it shows, for those who do not see it.
    """

    name: str
    png: bytes
    alt: str

    @property
    def source(self) -> str:
        """The picture as a link that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def width(self) -> int:
        """At which it is shown, in CSS pixels, of which an inch has 96; the pictures have 150."""
        return round(int.from_bytes(self.png[16:20]) * 96 / 150)


@dataclass(frozen=True)
class Section:
    """A part of a page with a title.

    Args:
        title: in the table of contents, too.
        blocks: texts, tables and pictures, in their order.
        sections: below it.
        folded: shown when it is asked for.
    """

    title: str
    blocks: Sequence[Text | Table | Picture] = ()
    sections: Sequence[Section] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page.

    Args:
        title: what it is about.
        headline: the figure that a reader wants first.
        subline: what that figure is.
        figures: (value, what it is) of the next few.
        blocks: below them, before the table of contents.
        sections: the rest.
        footer: the last line.
    """

    title: str
    headline: str
    subline: str
    figures: Sequence[tuple[str, str]] = ()
    blocks: Sequence[Text | Table | Picture] = ()
    sections: Sequence[Section] = field(default_factory=tuple)
    footer: str = ""

    def pictures(self) -> list[Picture]:
        """All of them, in their order."""
        inside = [block for section in _all(self.sections) for block in section.blocks]
        return [block for block in (*self.blocks, *inside) if isinstance(block, Picture)]


def render_page(page: Page) -> str:
    """The page as HTML: pictures and style inside, no script, nothing fetched; light or dark as the reader has it.

    Args:
        page: what it says. Texts may hold anything: they are shown, not read as HTML.

    Example:
        >>> from temporal.analysis import Page, Section, Text, render_page
        >>> html = render_page(Page("a <b> run", "97 %", "accuracy", sections=[Section("Result", [Text("good")])]))
        >>> "<title>a &lt;b&gt; run</title>" in html, '<a href="#result">Result</a>' in html
        (True, True)
    """
    anchors = _anchors(page)
    html = _template().render(
        page=page,
        made_by=MADE_BY,
        anchor_of=lambda section: anchors[id(section)],
        kind=lambda block: type(block).__name__,
    )
    return html.lstrip()


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _all(sections: Sequence[Section]) -> Iterator[Section]:
    for section in sections:
        yield section
        yield from _all(section.sections)


def _anchors(page: Page) -> dict[int, str]:
    """A name for each section that can stand in a link, no two alike."""
    anchors: dict[int, str] = {}
    for section in _all(page.sections):
        name = base = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
        number = 1
        while name in anchors.values():
            number += 1
            name = f"{base}-{number}"
        anchors[id(section)] = name
    return anchors
