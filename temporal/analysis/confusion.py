"""Which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import INK, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix"]

_MOST_NUMBERED = 20  # classes; beyond, numbers in the cells would be too small to read
_NAMED = 6  # confusions that are named instead


def confusion_matrix(matrix: Any, labels: Sequence[str]) -> Figure:
    """Counts of predicted classes for each true class, shaded by their share of the row, with each row's recall.

    recall[c] = matrix[c, c] / sum_p matrix[c, p]

    Args:
        matrix: counts >= 0, whole numbers (array, tensor or nested lists).
        labels: the names of the classes.
    Shape:
        matrix: [true class, predicted class].
    Returns:
        A figure that grows with the number of classes. Up to 20 classes the cells hold their counts; with more, the most
        frequent confusions are named below. Its title states the accuracy and the counts behind it.
    Raises:
        ValueError: no square of counts, or another number of labels.

    Example:
        >>> from temporal.analysis import confusion_matrix
        >>> figure = confusion_matrix([[48, 2], [5, 45]], ["no", "yes"])
        >>> figure.axes[0].get_title()
        'accuracy 93.00 % (93 of 100)'
    """
    from matplotlib.colors import PowerNorm

    counts = _checked(matrix, labels)
    classes = len(labels)
    totals = counts.sum(1)
    share = counts / np.maximum(totals, 1)[:, None]
    cell = min(0.42, max(0.2, 8 / classes)) if classes <= _MOST_NUMBERED else 0.22
    side = max(2.4, cell * classes)
    figure, (axes,) = new_axes(side + 2.8, [side + 0.4])
    shade = PowerNorm(0.5, 0, 1)  # one recording of fifty in a cell has to show
    image = axes.imshow(share, cmap="Blues", norm=shade, interpolation="none")
    styled(axes, x="predicted class", y="true class", grid=False)
    right, total = int(counts.trace()), int(totals.sum())
    figures = f"accuracy {100 * right / total:.2f} % ({right} of {total})" if total else "no recordings"
    axes.set_title(figures, fontsize=TEXT["title"], color=INK)
    _name_classes(axes, labels)
    _state_recall(axes, counts, totals)
    if classes <= _MOST_NUMBERED:
        _number_cells(axes, counts, shade(share))
    else:
        _name_confusions(figure, counts, labels)
    bar = figure.colorbar(
        image, ax=axes, shrink=min(1.0, 2.4 / side), pad=0.02, aspect=18, ticks=[0, 0.05, 0.2, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0", "5", "20", "50", "100"], fontsize=TEXT["tick"], color=INK)
    bar.ax.minorticks_off()
    bar.set_label("share of the true class (%)", fontsize=TEXT["tick"], color=INK)
    return figure


def _checked(matrix: Any, labels: Sequence[str]) -> np.ndarray:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] == 0:
        raise ValueError(f"confusion_matrix: matrix has shape {counts.shape}; [classes, classes] is right")
    if len(labels) != len(counts):
        raise ValueError(f"confusion_matrix: {len(labels)} labels for {len(counts)} classes")
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.round(counts)).all()):
        raise ValueError("confusion_matrix: matrix must hold counts, whole numbers from 0 on (not shares)")
    return counts.astype(np.int64)


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    places = range(len(labels))
    size = "tick" if len(labels) <= _MOST_NUMBERED else "small"
    text = plain(size)
    if max(len(str(label)) for label in labels) > 3:
        text |= {"rotation": 90, "va": "center", "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, [str(label) for label in labels], **text)
    axes.set_yticks(places, [str(label) for label in labels], **plain(size))
    # A hair-line between the cells leads the eye from a cell to its two names.
    edges = np.arange(-0.5, len(labels))
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(True, which="minor", color="#d0d0d0", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _state_recall(axes: Axes, counts: np.ndarray, totals: np.ndarray) -> None:
    words = [
        f"{f'{100 * hit / total:.1f}':\u2007>5} %  ({hit} of {total})" if total else "\u2007\u2007\u2007–  (0)"
        for hit, total in zip(np.diag(counts), totals, strict=True)
    ]
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(words)), words, **plain("tick" if len(words) <= _MOST_NUMBERED else "small"))
    axes.annotate("recall", (1, 1), (6, 5), "axes fraction", "offset points", fontsize=TEXT["label"], color=INK)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    for row in np.flatnonzero(totals == 0):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="#f2f2f2", edgecolor="#c8c8c8", hatch="////", linewidth=0)


def _number_cells(axes: Axes, counts: np.ndarray, darkness: np.ndarray) -> None:
    for true, predicted in np.argwhere(counts > 0):
        ink = "white" if darkness[true, predicted] > 0.55 else INK
        number = str(counts[true, predicted])
        size = TEXT["tick"] if len(number) < 4 else TEXT["small"] - max(0, len(number) - 4)
        axes.text(predicted, true, number, ha="center", va="center", fontsize=size, color=ink)


def _name_confusions(figure: Figure, counts: np.ndarray, labels: Sequence[str]) -> None:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_NAMED]
    pairs = [divmod(int(place), len(labels)) for place in order if wrong.flat[place] > 0]
    if pairs:
        words = ", ".join(f"{labels[a]} as {labels[b]} ({wrong[a, b]})" for a, b in pairs)
        figure.supxlabel(f"most often confused: {words}", **plain())
