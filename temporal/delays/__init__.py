"""Layers whose synapses have learned delays, and the schedule by which the delays become whole steps."""

from .conv import DelayedConv1d
from .linear import DelayedLinear
from .recurrent import RecurrentDelays
from .schedule import DelaySchedule

__all__ = ["DelaySchedule", "DelayedConv1d", "DelayedLinear", "RecurrentDelays"]
