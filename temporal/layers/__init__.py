"""The small parts of every network: threading states, normalising, dropping out, reading out."""

from .dropout import Dropout
from .fold import fold
from .model import Model
from .norm import BatchNorm
from .readouts import LastStep, MaxOverTime, MeanOverTime, SumSoftmax
from .sequential import Sequential
from .steps import TimeDistributed, to_steps

__all__ = [
    "BatchNorm",
    "Dropout",
    "LastStep",
    "MaxOverTime",
    "MeanOverTime",
    "Model",
    "Sequential",
    "SumSoftmax",
    "TimeDistributed",
    "fold",
    "to_steps",
]
