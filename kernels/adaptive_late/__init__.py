"""Adaptation that acts one step later (AdLIF, forward Euler) over time; ``reference.py`` states the mathematics."""

from .._scan import NeuronOperator
from .reference import FAMILY, EulerState, Knobs

__all__ = ["EulerState", "Knobs", "adaptive_late"]

adaptive_late = NeuronOperator(FAMILY, __name__)
