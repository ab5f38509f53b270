"""The equations of ``reference.py``, compiled by Triton."""

from .._scan.cuda import Fused
from .reference import FAMILY

__all__ = ["backward", "forward", "fused"]

fused = Fused(FAMILY)
forward, backward = fused.forward, fused.backward
