"""Front ends whose filters learn: a bank of filters over the waveform itself, each with two numbers to learn."""

from .leaf import LEAF
from .sinc import SincConv

__all__ = ["LEAF", "SincConv"]
