"""Where the delays of a network lie, before and after it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from temporal.delays import RecurrentDelays
from temporal.kernels.delayed import nearest

from .spikes import named
from .style import INK, LINES, TEXT, new_axes, plain, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DelayCounts", "count_delays", "delay_histograms"]


@dataclass(frozen=True)
class DelayCounts:
    """How many delays of a layer lie on each step.

    Args:
        name: of the layer: its class and its place in the network.
        counts: delays that are nearest to ``first``, ``first`` + 1, ... ``max_delay`` steps.
        learned: whether they learn.
        first: the shortest delay that they may have, in steps.
    """

    name: str
    counts: tuple[int, ...]
    learned: bool = True
    first: int = 0

    @property
    def steps(self) -> range:
        """The steps that are counted."""
        return range(self.first, self.first + len(self.counts))

    @property
    def total(self) -> int:
        """Number of delays."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """In steps."""
        return sum(step * count for step, count in zip(self.steps, self.counts, strict=True)) / max(1, self.total)


@torch.no_grad()
def count_delays(network: nn.Module) -> list[DelayCounts]:
    """Count the delays of every layer that has some, rounded to steps as they are deployed.

    Layers are recognised by ``delay``, a parameter, and ``max_delay``. Where axons and dendrites add up, and where synapses
    pick a copy of their axon, it is the delay of each synapse that counts. Those of pruned synapses do not.

    Args:
        network: any module.

    Example:
        >>> import torch
        >>> from temporal.analysis import count_delays
        >>> from temporal.delays import DelayedLinear
        >>> layer = DelayedLinear(2, 2, max_delay=3)
        >>> _ = layer.delay.data.copy_(torch.tensor([[0.2, 1.0], [0.9, 3.0]]))
        >>> count_delays(layer)[0].counts
        (1, 2, 0, 1)
    """
    found = []
    first_of = {id(m.delayed): m.min_delay for m in network.modules() if isinstance(m, RecurrentDelays)}
    for path, module in network.named_modules():
        delay, longest = getattr(module, "delay", None), getattr(module, "max_delay", None)
        if isinstance(delay, nn.Parameter) and isinstance(longest, int):
            steps = nearest(living_delays(module)).long().cpu()
            counts = tuple(torch.bincount(steps, minlength=longest + 1).tolist())
            first = first_of.get(id(module), 0)
            found.append(DelayCounts(named(path, module), counts, delay.requires_grad, first))
    return found


def delays_in(layer: Any) -> Tensor:
    """The delays of a layer, in steps within 0 .. max_delay; not finite ones count as 0."""
    delay = torch.nan_to_num(layer.delay.detach(), 0.0, 0.0, 0.0)
    kind = getattr(layer, "per", None)
    if kind == "additive":
        axons, dendrites = delay[: layer.in_features], delay[layer.in_features :]
        delay = dendrites.unsqueeze(1) + axons
    elif kind == "group":
        delay = delay.gather(0, layer.copies.long())
    return delay.clamp(0, layer.max_delay)


def living_delays(layer: Any) -> Tensor:
    """``delays_in`` of what was not pruned, flat."""
    delays, alive = delays_in(layer), getattr(layer, "alive", None)
    if alive is None:
        return delays.flatten()
    return delays[alive if delays.shape == alive.shape else layer.alive_delays()]


def delay_histograms(before: Sequence[DelayCounts] | None, after: Sequence[DelayCounts]) -> Figure:
    """How the delays of each layer are spread over the steps, before training and after it.

    Args:
        before: of the network as it was drawn; None if nobody knows.
        after: of the same layers, trained.
    Returns:
        A figure with a panel a layer: bars for what was learned, a line for what it began with, in % of the delays.
    Raises:
        ValueError: no layer, or other layers before than after.

    Example:
        >>> from temporal.analysis import DelayCounts, delay_histograms
        >>> before = [DelayCounts("DelayedLinear 0", (25, 25, 25, 25))]
        >>> figure = delay_histograms(before, [DelayCounts("DelayedLinear 0", (10, 60, 20, 10))])
        >>> figure.axes[0].get_xlabel()
        'delay (steps)'
    """
    if not after:
        raise ValueError("delay_histograms: no layer with delays")
    if before is not None and [(a.name, a.steps) for a in before] != [(a.name, a.steps) for a in after]:
        raise ValueError(
            f"delay_histograms: {', '.join(a.name for a in before) or 'nothing'} before, "
            f"{', '.join(a.name for a in after)} after: the same layers are right"
        )
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_axes(6.4, [1.5] * len(after), share_x=len({part.steps for part in after}) == 1)
    for number, (axes, part) in enumerate(zip(panels, after, strict=True)):
        styled(axes, y="delays (%)")
        steps, edges = np.asarray(part.steps), np.arange(len(part.counts) + 1) + (part.first - 0.5)
        what = "learned" if part.learned else "fixed"
        axes.bar(steps, _percent(part), width=0.86, color="#9ecae1", edgecolor=INK, linewidth=0.5, label=what)
        words = f"{part.name}: {part.total:,} delays, mean {part.mean:.1f} steps"
        if before is not None:
            style = {"color": LINES[1]["color"], "linestyle": "-", "linewidth": 1.6}
            axes.stairs(_percent(before[number]), edges, label="before training", **style)
            words += f" (before {before[number].mean:.1f})"
        axes.set_title(words, loc="left", pad=3, **plain())
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=13, integer=True, min_n_ticks=1))
        if number == 0:  # above the panel, where it hides no bar
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncol=2, frameon=False, fontsize=TEXT["tick"])
    panels[-1].set_xlabel("delay (steps)", fontsize=TEXT["label"], color=INK)
    return figure


def _percent(part: DelayCounts) -> np.ndarray:
    return 100 * np.asarray(part.counts) / max(1, part.total)
