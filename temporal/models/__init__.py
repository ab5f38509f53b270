"""Named networks put together from the layers, the file a trained one lives in, and the form it is deployed in."""

from .checkpoint import load, read_spec, save
from .deploy import deploy
from .networks import GRU, DelayedLIF
from .specs import Mel, ModelSpec

__all__ = ["GRU", "DelayedLIF", "Mel", "ModelSpec", "deploy", "load", "read_spec", "save"]
