"""One recording on its way through a network: frames, spikes, decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import IMAGE, INK, LINES, PALE, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["raster"]

_NAMED = len(LINES)  # classes whose line is coloured and named


def raster(
    spikes: Sequence[tuple[str, Any]],
    features: Any,
    readout: Any,
    labels: Sequence[str] | None = None,
    *,
    seconds_per_step: float,
    title: str = "",
    frequencies: Sequence[float] | None = None,
    source: str = "front end",
) -> Figure:
    """The frames of one recording, the spikes of every layer, and the readout, above one time axis.

    Args:
        spikes: (name, spikes) of each layer, as :func:`record_spikes` gives them.
        features: what the network was given.
        readout: what the network gave. The three classes with the largest share in the sum over steps of the softmax
            are drawn in colour and named.
        labels: the names of the classes; None numbers them.
        seconds_per_step: > 0.
        title: of the whole figure.
        frequencies: of the bins, in Hz, rising; they are then on the axis.
        source: what the features come from; if not from a "front end", they are called channels, not bins.
    Shape:
        spikes: [T, neurons] each, anything but 0 counts as a spike.  features: [bins, T].  readout: [T, classes].
    Raises:
        ValueError: shapes that do not fit, or seconds_per_step that is not positive.

    Example:
        >>> import torch
        >>> from temporal.analysis import raster
        >>> spikes = [("LIF 2", (torch.rand(50, 32) < 0.1).float())]
        >>> figure = raster(spikes, torch.rand(40, 50), torch.rand(50, 3), ["a", "b", "c"], seconds_per_step=0.01)
        >>> len(figure.axes)
        3
    """
    if not seconds_per_step > 0:
        raise ValueError(f"raster: seconds_per_step={seconds_per_step} must be positive")
    frames, outputs = _matrix("features", features, "[bins, T]"), _matrix("readout", readout, "[T, classes]")
    trains = [(name, _matrix(f"spikes of {name}", train, "[T, neurons]")) for name, train in spikes]
    names = [str(c) for c in range(outputs.shape[1])] if labels is None else [str(label) for label in labels]
    if len(names) != outputs.shape[1]:
        raise ValueError(f"raster: {len(names)} labels for {outputs.shape[1]} classes")
    steps = max(frames.shape[1], len(outputs), *(len(train) for _, train in trains), 1)

    figure, panels = new_axes(7.6, [1.6, *[1.4] * len(trains), 1.8])
    if frequencies is not None and len(frequencies) != len(frames):
        raise ValueError(f"raster: {len(frequencies)} frequencies for {len(frames)} bins")
    _draw_frames(panels[0], frames, seconds_per_step, frequencies, source)
    for axes, (name, train) in zip(panels[1:-1], trains, strict=True):
        _draw_spikes(axes, name, train, seconds_per_step)
    _draw_readout(panels[-1], outputs, names, seconds_per_step)
    panels[-1].set_xlim(0, steps * seconds_per_step)
    if title:
        figure.suptitle(title, **plain("title"))
    return figure


def _matrix(name: str, values: Any, shape: str) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != 2:
        raise ValueError(f"raster: {name} has shape {array.shape}; {shape} is right")
    return array


def _draw_frames(axes: Axes, frames: np.ndarray, step: float, frequencies: Sequence[float] | None, source: str) -> None:
    bins, steps = frames.shape
    unit = "bin" if source == "front end" else "channel"
    styled(axes, y=unit if frequencies is None else "frequency (kHz)", grid=False)
    if frequencies is not None and bins > 1:
        places = sorted({round(k * (bins - 1) / 4) for k in range(5)})
        axes.set_yticks(places, [f"{frequencies[place] / 1000:.2g}" for place in places])
    _say(axes, source, f"{bins} {unit}s")
    if frames.size:
        extent = (0, steps * step, -0.5, bins - 0.5)
        axes.imshow(frames, origin="lower", aspect="auto", extent=extent, cmap=IMAGE, interpolation="none")


def _draw_spikes(axes: Axes, name: str, train: np.ndarray, step: float) -> None:
    neurons = train.shape[1]
    styled(axes, y="neuron", grid=False)
    fired = train != 0
    when, who = np.nonzero(fired)
    if len(when) == 0:
        axes.text(0.5, 0.5, "no spikes", transform=axes.transAxes, ha="center", va="center", fontsize=TEXT["label"])
    height = 1.4 * 72 / max(neurons, 1)  # points of a row
    axes.scatter((when + 0.5) * step, who, marker="|", s=max(height, 1.6) ** 2, linewidths=0.8, color=INK)
    axes.set_ylim(-0.5, max(neurons, 1) - 0.5)
    rate = fired.sum() / max(1, fired.size) / step
    silent = 100 * (~fired.any(0)).mean() if neurons else 100.0
    _say(axes, name, f"{neurons} neurons, {rate:.1f} spikes/s each, {silent:.0f} % silent")


def _draw_readout(axes: Axes, outputs: np.ndarray, names: Sequence[str], step: float) -> None:
    steps, classes = outputs.shape
    styled(axes, x="time (s)", y="output")
    time = (np.arange(steps) + 0.5) * step
    votes = np.exp(outputs - outputs.max(1, keepdims=True))
    order = np.argsort(-(votes / votes.sum(1, keepdims=True)).sum(0), kind="stable")
    for c in order[_NAMED:]:
        axes.plot(time, outputs[:, c], color=PALE, linewidth=0.7)
    for c, style in reversed(list(zip(order, LINES, strict=False))):
        axes.plot(time, outputs[:, c], label=names[c], linewidth=1.5, **(style | {"marker": ""}))
    others = f", {classes - _NAMED} others pale" if classes > _NAMED else ""
    _say(axes, "readout", f"{classes} classes{others}")
    handles, texts = axes.get_legend_handles_labels()
    if steps:
        legend = axes.legend(handles[::-1], texts[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        for text in legend.get_texts():
            text.set(**plain())


def _say(axes: Axes, name: str, more: str) -> None:
    axes.set_title(f"{name}: {more}", loc="left", pad=3, **plain())
