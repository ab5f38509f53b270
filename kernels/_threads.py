"""Threads for compiled kernels, which run serial and without the interpreter's lock on ranges of neurons or samples.

The threads are those of torch's own OpenMP team, where torch was built with GNU's or Intel's: its workers wait for their
next task in a busy loop of some milliseconds, so any other thread would have to fight them for the processors. Elsewhere,
and in a forked process, where the team has not survived, they are Python's.

numba's own pools do not mix with the rest of a program: the OpenMP layer kills a forked worker, the workqueue layer aborts
when two Python threads use it at once. This module may be used by any number of threads and forked processes.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

__all__ = ["share"]

Part = Callable[[int], None]  # does the part of this number
Team = Callable[[Part, int], None]  # has so many parts done

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_forked = False


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
    problems: list[BaseException] = []

    def run(part: int) -> None:
        try:
            task(edges[part], edges[part + 1])
        except BaseException as problem:  # of another thread: it is raised in this one
            problems.append(problem)

    if parts == 1:
        run(0)
    else:
        (_python_threads if _forked or _OPENMP is None else _OPENMP)(run, parts)
    if problems:
        raise problems[0]


def _python_threads(run: Part, parts: int) -> None:
    pool = _python_pool()
    others: list[Future] = [pool.submit(run, part) for part in range(1, parts)]
    run(0)
    for other in others:
        other.result()


def _python_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="temporal-kernels")
        return _pool


def _torchs_team() -> Team | None:
    """The OpenMP team that torch's library uses, by the names that GNU's compiler calls it by."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    try:
        openmp = ctypes.CDLL(str(library))
        parallel, number, size = openmp.GOMP_parallel, openmp.omp_get_thread_num, openmp.omp_get_num_threads
    except (OSError, AttributeError):
        return None
    parallel.restype, parallel.argtypes = None, [callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]

    def team(run: Part, parts: int) -> None:
        def member(_: object) -> None:
            # Inside another team this one may have fewer threads than parts.
            for part in range(number(), parts, size()):
                run(part)

        # All of torch's threads, though not all may have a part: another number would end some and start them again later.
        parallel(callback(member), None, max(parts, torch.get_num_threads()), 0)

    return team


def _after_fork() -> None:
    """Threads do not survive a fork, and the lock may have been held: a child begins anew."""
    global _pool, _lock, _forked
    _pool, _lock, _forked = None, threading.Lock(), True


_OPENMP = _torchs_team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
