"""Activations of whole tensors on the CPU, in place or not, and their gradients; and how compiled loops are fetched."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .. import _memory
from .._compiled import announced, version
from .._memory import empty
from .._threads import share
from . import _loops, _step
from .reference import ACTIVATIONS

__all__ = ["KINDS", "activate", "differentiated", "flat", "kernel"]

KINDS = {name: number for number, name in enumerate(ACTIVATIONS)}
_GRAIN = 1 << 13  # numbers that pay for waking a thread (about 10 microseconds)
_NOTHING = np.zeros(0, np.float32)


def activate(z: Tensor, y: Tensor, kind: int) -> None:
    """Fills ``y``, which may be ``z``; both contiguous."""
    if kind:
        run, arguments = kernel("activate"), (flat(z), flat(y), kind)
        share(lambda first, stop: run(*arguments, first, stop), z.numel(), _GRAIN)


def differentiated(grad: Tensor, kept: Tensor, kind: int) -> Tensor:
    """The gradient before the activation; ``kept`` is what was before it, or behind it for "relu"."""
    out = empty(grad.shape, torch.float32)
    run, arguments = kernel("differentiate"), (flat(grad), flat(kept), flat(out), kind)
    share(lambda first, stop: run(*arguments, first, stop), out.numel(), _GRAIN)
    return out


@cache
def kernel(name: str) -> Callable:
    """A loop of ``_loops``, compiled when it is first called."""
    number = version(
        "temporal.kernels.dilated._vectors", "temporal.kernels.dilated._loops", "temporal.kernels._float32"
    )
    source = _step if name == "step" else _loops
    return announced(getattr(source, f"make_{name}")(number), f"convolutions, {name.replace('_', ' ')}")


def flat(tensor: Tensor | None) -> np.ndarray:
    """A flat array of a tensor's elements; an empty one for None."""
    return _NOTHING if tensor is None else _memory.flat(tensor)
