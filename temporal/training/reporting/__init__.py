"""A run, or several, as one HTML file that needs no network, with its pictures beside it."""

from .writing import report

__all__ = ["report"]
