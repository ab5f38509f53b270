"""Leaky integrate-and-fire (LIF, IF, LI) over time; ``reference.py`` states the mathematics."""

from .._scan import NeuronOperator
from .reference import FAMILY, Knobs, LIFState

__all__ = ["Knobs", "LIFState", "lif"]

lif = NeuronOperator(FAMILY, __name__)
