"""Networks on events: few spikes, delays in whole steps, one addition a synapse; inference on a CPU.

``network.py`` says what is run, ``reference.py`` how, one event after the other, and ``cpu.py`` compiles it.
"""

from collections.abc import Sequence
from typing import Any

from .._dispatch import Backends
from .network import Cell, Rows, Stage, Taps, taps_of

__all__ = ["Cell", "Rows", "Stage", "Taps", "engine", "taps_of"]

# Both take whatever a stage can say, but for stages of so many neurons that nothing else of this fits a cache either.
_BACKENDS = Backends("events", __name__, cpu=lambda: None, reference=lambda: None)


def engine(stages: Sequence[Stage], batch: int) -> Any:
    """An engine at rest for so many samples: see ``reference.Engine`` for what it does."""
    return _BACKENDS.choose().Engine(stages, batch)
