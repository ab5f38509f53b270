"""Large results on the CPU in memory that was used before: new pages cost more time than the kernels that fill them.

A tensor of ``empty`` lends its memory; when the last tensor, view or graph that holds it is gone, the memory waits here
for the next of about its size. What waits and what is lent are together no more than was ever lent at once, and at most 1/16
of the machine's memory waits, so that nobody's peak grows by it; ``empty_cache`` gives it back.
"""

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["borrow", "empty", "empty_cache", "flat", "give_back", "workspace"]

_WORTH = 1 << 20  # bytes; below, the allocator keeps its pages itself
_SLACK = 1.25  # how much larger than needed a piece may be
_ALIGNMENT = 64  # bytes: a line of the cache, and the widest vector

_idle: deque[np.ndarray] = deque()  # longest unused first
_returned: deque[np.ndarray] = deque()  # filled by finalizers, which run at any moment, also while the lock is held
_lock = threading.Lock()
_work: deque[np.ndarray] = deque(maxlen=256)
_lent = _most = 0  # bytes, now and at most so far


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor on the CPU whose values are whatever was there."""
    size = math.prod(shape) * dtype.itemsize
    if size < _WORTH:
        return torch.empty(shape, dtype=dtype)
    piece = _taken(size)
    lent = piece[:size]  # lives as long as the tensor's storage
    weakref.finalize(lent, _returned.append, piece).atexit = False
    return torch.from_numpy(lent).view(dtype).view(*shape)


def empty_cache() -> None:
    """Give back to the system what memory for results waits to be used again, on the CPU.

    >>> from temporal.kernels import empty_cache
    >>> empty_cache()
    """
    global _most
    with _lock:
        _take_back()
        _idle.clear()
        _most = _lent
    _work.clear()


def flat(tensor: Tensor) -> np.ndarray:
    """The elements of a tensor on the CPU as one array, without a copy where they lie side by side."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy().reshape(-1)


class workspace:
    """Arrays of so many float32 to work in while the context is open; whatever was there is there.

    Not kept by threads: some live for one call only. A class, since contextlib's generators cost a step of a stream a
    twentieth of its time.
    """

    __slots__ = ("_array", "_sizes")

    def __init__(self, *sizes: int):
        self._sizes = sizes

    def __enter__(self) -> list[np.ndarray]:
        self._array = array = borrow(sum(self._sizes))
        parts, first = [], 0
        for size in self._sizes:
            parts.append(array[first : first + size])
            first += size
        return parts

    def __exit__(self, *exception: object) -> None:
        give_back(self._array)


def borrow(size: int) -> np.ndarray:
    """An array of at least so many float32 to work in, whatever was there; for ``give_back``, or lost."""
    try:
        array = _work.pop()  # the warmest
    except IndexError:
        return np.empty(size, np.float32)
    return array if array.size >= size else np.empty(size, np.float32)


def give_back(array: np.ndarray) -> None:
    """What was borrowed may be borrowed again."""
    _work.append(array)


def _taken(size: int) -> np.ndarray:
    global _lent, _most
    with _lock:
        _take_back()
        fitting = [piece for piece in _idle if size <= piece.nbytes <= size * _SLACK]
        best = min(fitting, key=lambda piece: piece.nbytes) if fitting else None
        if best is not None:
            _remove(best)
        _lent += size if best is None else best.nbytes
        _most = max(_most, _lent)
        room = min(_limit(), _most - _lent)
        while _idle and sum(piece.nbytes for piece in _idle) > room:
            _idle.popleft()
        if best is not None:
            return best
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size]


def _take_back() -> None:
    global _lent
    while _returned:
        piece = _returned.popleft()
        _lent -= piece.nbytes
        _idle.append(piece)


def _remove(piece: np.ndarray) -> None:
    for place, other in enumerate(_idle):
        if other is piece:
            del _idle[place]
            return


def _limit() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16
    except (AttributeError, ValueError, OSError):  # not on every system
        return 1 << 28


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
