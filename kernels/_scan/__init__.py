"""One machine for all neurons: a family says what happens at one step, the scan takes it over time, forward and backward.

``family.py`` says what a family is. ``reference.py`` runs its equations in plain torch, ``cpu.py`` compiles the very same
functions with numba and ``cuda.py`` with Triton, and ``operator.py`` makes a ``torch.library`` operator of them.
"""

from .family import Family, Feedback, Rule
from .operator import NeuronOperator, steps_per_checkpoint

__all__ = ["Family", "Feedback", "NeuronOperator", "Rule", "steps_per_checkpoint"]
