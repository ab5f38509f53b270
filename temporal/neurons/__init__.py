"""Spiking neurons: layers called as ``y, state = layer(x, state)``, and the same as functions in ``functional``."""

from . import functional
from .integrate_and_fire import IF
from .li import LI
from .lif import LIF

__all__ = ["IF", "LI", "LIF", "functional"]
