"""How the activity of a layer is shared among its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .activity import SATURATED, LayerActivity
from .style import INK, LINES, PALE, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["firing_rates"]


def firing_rates(layers: Sequence[LayerActivity], *, seconds_per_step: float | None = None) -> Figure:
    """The firing rate of every neuron, layer by layer, the busiest first; dead and saturated ones stand out.

    Args:
        layers: as :func:`measure_activity` gives them.
        seconds_per_step: > 0; gives the rates in spikes a second; None: in spikes a step.
    Returns:
        A figure with a panel a layer.
    Raises:
        ValueError: no layer, or seconds_per_step that is not positive.

    Example:
        >>> from temporal.analysis import LayerActivity, firing_rates
        >>> figure = firing_rates([LayerActivity("LIF 2", (40, 10, 0), 100)], seconds_per_step=0.01)
        >>> figure.axes[0].get_title(loc="left")
        'LIF 2: 3 neurons, mean 16.7 spikes/s, 1 dead, 0 saturated'
    """
    if not layers:
        raise ValueError("firing_rates: no spiking layer")
    if seconds_per_step is not None and not seconds_per_step > 0:
        raise ValueError(f"firing_rates: seconds_per_step={seconds_per_step} must be positive, or None")
    scale, unit = (1.0, "spikes/step") if seconds_per_step is None else (1 / seconds_per_step, "spikes/s")
    figure, panels = new_axes(6.4, [1.4] * len(layers), share_x=False)
    for axes, layer in zip(panels, layers, strict=True):
        styled(axes, y=unit)
        rates = scale * np.sort(layer.rates)[::-1]
        edges = np.arange(len(rates) + 1)
        axes.stairs(rates, edges, fill=True, color="#9ecae1")
        axes.stairs(rates, edges, color=LINES[0]["color"], linewidth=1.2)
        dead = layer.dead
        if dead:
            axes.axvspan(len(rates) - dead, len(rates), facecolor="#f2f2f2", edgecolor=PALE, hatch="////", linewidth=0)
        if layer.saturated:
            axes.axhline(scale * SATURATED, color=LINES[1]["color"], linestyle="--", linewidth=1.2)
        words = f"{layer.name}: {len(rates)} neurons, mean {scale * layer.rate:.3g} {unit}"
        axes.set_title(f"{words}, {dead} dead, {layer.saturated} saturated", loc="left", pad=3, **plain())
        axes.set_xlim(0, max(1, len(rates)))
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("neurons, the busiest first", fontsize=TEXT["label"], color=INK)
    return figure
