"""Constant-Q and variable-Q transforms."""

from .cqt import CQT
from .vqt import VQT

__all__ = ["CQT", "VQT"]
