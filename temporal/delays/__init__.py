"""Layers whose synapses have learned delays, the schedule by which these become whole steps, and what else shapes them."""

from .conv import DelayedConv1d
from .linear import DelayedLinear
from .penalties import depth_penalty, spread_penalty
from .pruning import prune_delays
from .recurrent import RecurrentDelays
from .schedule import DelaySchedule
from .walls import stop_at_walls

__all__ = [
    "DelaySchedule",
    "DelayedConv1d",
    "DelayedLinear",
    "RecurrentDelays",
    "depth_penalty",
    "prune_delays",
    "spread_penalty",
    "stop_at_walls",
]
