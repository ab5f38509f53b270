"""How every picture looks: sizes, colours that survive a grey printer, labelled axes, and how it reaches the disk.

Nothing here touches pyplot or rcParams: a figure is made, styled and written without a word to the rest of the process.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from temporal._files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "IMAGE",
    "INK",
    "LINES",
    "PALE",
    "TEXT",
    "legend",
    "new_axes",
    "new_columns",
    "plain",
    "save",
    "styled",
]

DPI = 150
INK = "#222222"
PALE = "#b8b8b8"
TEXT = {"title": 10.0, "label": 9.0, "tick": 8.0, "small": 7.0}  # points
IMAGE = "cividis"  # its lightness rises evenly, for grey printers and for every kind of colour vision

# Blue, vermilion and green of Okabe and Ito. Lines differ in dashes and marks too, so they can be told apart in grey.
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "linestyle": "-", "marker": "o"},
    {"color": "#d55e00", "linestyle": "--", "marker": "s"},
    {"color": "#007a5a", "linestyle": ":", "marker": "^"},
)


def new_axes(width: float, heights: Sequence[float], *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of panels one above the other, in inches, drawn by Agg and laid out so that no label is cut."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights) + 0.6), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = {"height_ratios": list(heights)}
    axes = figure.subplots(len(heights), 1, sharex=share_x, squeeze=False, gridspec_kw=grid)[:, 0]
    return figure, list(axes)


def new_columns(width: float, columns: Sequence[Sequence[float]]) -> tuple[Figure, list[Axes]]:
    """A figure of columns, each of so many inches, with panels of these heights one above the other; their axes in order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = max(sum(heights) for heights in columns)
    figure = Figure(figsize=(width * len(columns), tall + 0.6), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes: list[Axes] = []
    for part, heights in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        short = tall - sum(heights)
        ratios = [*heights, short] if short > 0.01 else list(heights)
        panels = list(part.subplots(len(ratios), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0])
        for empty in panels[len(heights) :]:
            empty.set_axis_off()
        axes += panels[: len(heights)]
    return figure, axes


def styled(axes: Axes, *, x: str = "", y: str = "", grid: bool = True) -> Axes:
    """Labels in the common sizes, a light grid behind the data, and no frame on the sides that carry no ticks."""
    axes.set_xlabel(x, fontsize=TEXT["label"], color=INK)
    axes.set_ylabel(y, fontsize=TEXT["label"], color=INK)
    axes.tick_params(labelsize=TEXT["tick"], color=INK, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def legend(axes: Axes, **options: Any) -> None:
    """The names of the lines, on a ground that lets no line run through them."""
    axes.legend(fontsize=TEXT["tick"], framealpha=0.9, edgecolor="none", handlelength=3.2, **options)


def plain(size: str = "tick") -> dict[str, Any]:
    """Properties of a text that came from the user: shown as it is, not read as a formula between dollar signs."""
    return {"fontsize": TEXT[size], "color": INK, "parse_math": False}


def save(figure: Figure, path: str | os.PathLike, *, colors: int | None = None) -> None:
    """Write a figure as PNG, 150 dots an inch, in one step: a reader never sees half a picture.

    Args:
        figure: of one of the functions here, or any other of matplotlib's.
        path: of the file; it is replaced if it exists. A link is followed.
        colors: keep so many, 2 to 256, which makes a file of bars and text three times smaller. None keeps all.
    Raises:
        OSError: the folder is missing or cannot be written to.
        ValueError: there is something else than a file: a folder, or a device, which would be replaced, not written to.

    Example:
        >>> import pathlib, tempfile
        >>> from temporal.analysis import learning_curve, save
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> save(learning_curve([{"epoch": 1, "train_loss": 0.7, "train_accuracy": 0.5}]), folder / "curve.png")
        >>> [file.name for file in folder.iterdir()]
        ['curve.png']
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"save: {path} is not a file; give the path of a PNG file to write")

    def write(file: IO[bytes]) -> None:
        if colors is None:
            figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
            return
        from PIL import Image  # which matplotlib has written it with

        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight")
        with Image.open(drawn) as image:
            few = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
        few.save(file, format="PNG", optimize=True, dpi=(DPI, DPI))

    write_atomically(path, write)
