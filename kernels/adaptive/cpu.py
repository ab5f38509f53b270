"""The equations of ``reference.py``, compiled by numba."""

from .._scan.cpu import Compiled
from .reference import FAMILY

__all__ = ["backward", "forward"]

_COMPILED = Compiled(FAMILY)
forward, backward = _COMPILED.forward, _COMPILED.backward
