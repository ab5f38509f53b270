"""Leaky integrate-and-fire with adaptation (ALIF, AdLIF) over time, as one operator; ``reference.py`` states it.

A backend is a module of this package with two functions, ``forward`` and ``backward``, of the signatures in
``reference.py``, and an entry in the list below.
"""

from torch import Tensor

from .._dispatch import Backends
from .._scan import NeuronOperator
from .reference import Knobs, State

__all__ = ["Knobs", "State", "adaptive"]


def _takes_anything(x: Tensor) -> None:
    return None


adaptive = NeuronOperator("adaptive", State, Knobs, Backends("adaptive", __name__, reference=_takes_anything))
