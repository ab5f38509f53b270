"""A cochlea, from sound to the spikes of bushy cells, as the converter of SHD and SSC makes them.

``reference.py`` says how.
"""

from .._dispatch import Backends
from .ear import HIGHEST, PRESETS, Ear
from .linear import blocks
from .noise import TILE, Heard, keys, philox
from .reference import start

__all__ = ["BACKENDS", "HIGHEST", "PRESETS", "TILE", "Ear", "Heard", "blocks", "keys", "philox", "start"]


def _cpu_refuses(device, gradient):
    if device.type != "cpu":
        return f"needs a CPU tensor, the wave is on {device.type}"
    return "does not give gradients" if gradient else None


BACKENDS = Backends("cochlea", __name__, cpu=_cpu_refuses, reference=lambda device, gradient: None)
