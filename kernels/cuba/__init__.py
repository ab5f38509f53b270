"""Current-based leaky integrate-and-fire (CubaLIF) over time; ``reference.py`` states the mathematics."""

from .._scan import NeuronOperator
from .reference import FAMILY, CubaState, Knobs

__all__ = ["CubaState", "Knobs", "cuba"]

cuba = NeuronOperator(FAMILY, __name__)
