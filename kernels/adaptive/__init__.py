"""Leaky integrate-and-fire with adaptation (ALIF, AdLIF) over time; ``reference.py`` states the mathematics."""

from .._scan import NeuronOperator
from .reference import FAMILY, AdaptiveState, Knobs

__all__ = ["AdaptiveState", "Knobs", "adaptive"]

adaptive = NeuronOperator(FAMILY, __name__)
