"""Spiking neurons: layers called as ``y, state = layer(x, state)``, and the same as functions in ``functional``."""

from . import functional
from .adlif import AdLIF
from .alif import ALIF
from .cuba_lif import CubaLIF
from .integrate_and_fire import IF
from .li import LI
from .lif import LIF
from .parametric_lif import ParametricLIF
from .recurrent import Recurrent

__all__ = ["ALIF", "IF", "LI", "LIF", "AdLIF", "CubaLIF", "ParametricLIF", "Recurrent", "functional"]
