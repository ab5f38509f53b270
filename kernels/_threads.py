"""Threads for compiled kernels: Python threads that call code which has let go of the interpreter's lock.

numba's own pools do not mix with the rest of a program: the OpenMP layer kills a forked worker, the workqueue layer
aborts when two Python threads use it at once. Kernels here are compiled serial (``nogil``), and this module hands each
thread a range of independent neurons or samples; any number of threads and forked processes may call it.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

__all__ = ["share"]

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def share(task: Callable[[int, int], object], count: int, grain: int) -> None:
    """Call ``task(first, stop)`` on ranges that together cover ``count`` items, at least ``grain`` of them a thread.

    The number of threads is torch's (``torch.set_num_threads``), which is 1 in a data loader's worker. The calling
    thread takes a share too. An exception of any share is raised here, after all have ended.
    """
    if count < 2 * grain:  # a step of a stream must not wait for what follows
        task(0, count)
        return
    parts = max(1, min(torch.get_num_threads(), count // max(1, grain)))
    edges = [count * part // parts for part in range(parts + 1)]
    others: list[Future] = []
    if parts > 1:
        pool = _threads()
        others = [pool.submit(task, edges[part], edges[part + 1]) for part in range(1, parts)]
    try:
        task(0, edges[1])
    finally:
        for other in others:
            other.exception()  # waits
    for other in others:
        other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="temporal-kernels")
        return _pool


def _after_fork() -> None:
    """Threads do not survive a fork, and the lock may have been held: a child begins anew."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
