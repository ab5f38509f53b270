"""A constant-Q transform that is inverted exactly: a non-stationary Gabor frame, whole or in slices."""

from .layer import InvertibleCQT

__all__ = ["InvertibleCQT"]
