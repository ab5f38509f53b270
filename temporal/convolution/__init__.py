"""Convolutions over time that see no future and go on from a state."""

from .causal import CausalConv1d

__all__ = ["CausalConv1d"]
