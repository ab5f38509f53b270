"""temporal: signals that live in time.

Audio front ends turn a waveform into frames, spiking layers with learned delays turn frames into a decision, and the
same network runs on a live stream, chunk by chunk, with the same answer.

Importing this package loads nothing: each part loads when it is first used, torch included.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

__version__ = "0.1.0"

if _TYPE_CHECKING:
    from . import (
        analysis,
        benchmarks,
        convolution,
        datasets,
        delays,
        frontends,
        kernels,
        layers,
        models,
        neurons,
        streaming,
        studies,
        training,
    )
    from .layers import BatchNorm, Dropout, Model, Sequential, TimeDistributed, to_steps
    from .models import load

_PACKAGES = (
    "analysis", "benchmarks", "convolution", "datasets", "delays", "frontends", "kernels", "layers", "models", "neurons",
    "streaming", "studies", "training",
)  # fmt: skip
_HOME = {
    "BatchNorm": "layers",
    "Dropout": "layers",
    "Model": "layers",
    "Sequential": "layers",
    "TimeDistributed": "layers",
    "to_steps": "layers",
    "load": "models",
}

__all__ = [
    "BatchNorm", "Dropout", "Model", "Sequential", "TimeDistributed",
    "analysis", "benchmarks", "convolution", "datasets", "delays", "frontends", "kernels", "layers", "load", "models",
    "neurons", "streaming", "studies", "to_steps", "training",
]  # fmt: skip


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(_import_module(f".{_HOME[name]}", __name__), name)
    elif name in _PACKAGES:
        value = _import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'temporal' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
