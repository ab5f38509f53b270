"""Processors and threads, memory, disks, and the allocator."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ._finding import Finding

__all__ = ["memory", "processors", "threads"]

_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
)  # fmt: skip
_BUSY = 0.5  # load average a processor, of others' work
_LITTLE_DISK, _LITTLE_MEMORY = 1 << 30, 1 << 30


def threads() -> Iterator[Finding]:
    """Processors that may be used, and what the libraries make of them."""
    usable, why = processors()
    yield Finding("processors", f"{usable:g} usable{why}; {os.cpu_count()} in the machine", data={"usable": usable})
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > _BUSY * usable
        yield Finding(
            "load", f"{load:.2f}", "note" if busy else "ok",
            "others work here too: times will be longer, and vary" if busy else "", {"load": load},
        )  # fmt: skip
    variables = {name: os.environ[name] for name in _THREADS if name in os.environ}
    told = ", ".join(f"{name}={value}" for name, value in variables.items()) or "none that sets threads"
    yield Finding("environment", told, data=variables)
    import torch

    count = torch.get_num_threads()
    many = count > max(1, usable)
    yield Finding(
        "torch", f"{count} threads, {torch.get_num_interop_threads()} between operators",
        "note" if many else "ok",
        f"more than processors, which slows all of them: OMP_NUM_THREADS={max(1, int(usable))}" if many else "",
        {"threads": count},
    )  # fmt: skip
    from temporal.kernels import _threads

    team = "torch's own OpenMP team" if _threads._OPENMP is not None else "Python's, since torch shares no OpenMP team"
    yield Finding(
        "kernels", f"as many as torch's; the threads are {team}", data={"openmp": _threads._OPENMP is not None}
    )


def processors() -> tuple[float, str]:
    """How many this process may use, and why not all of them: affinity, or the quota of a container."""
    count, why = float(os.cpu_count() or 1), ""
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < count:
        count, why = float(len(os.sched_getaffinity(0))), " (affinity)"
    if (quota := _quota()) and quota < count:
        count, why = quota, " (the container's quota)"
    return count, why


def _quota() -> float | None:
    """Processors that a cgroup allows, of either version."""
    if (limit := _words("/sys/fs/cgroup/cpu.max")) and limit[0] != "max":
        return int(limit[0]) / int(limit[1])
    time, period = (_words(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(time[0]) / int(period[0]) if time and period and int(time[0]) > 0 else None


def _words(file: str) -> list[str]:
    try:
        return Path(file).read_text().split()
    except OSError:
        return []


def memory() -> Iterator[Finding]:
    """Memory, room on the disks that are written to, and the allocator."""
    if told := _words("/proc/meminfo"):
        total, free = (int(told[told.index(f"{name}:") + 1]) << 10 for name in ("MemTotal", "MemAvailable"))
        limit = next((int(w[0]) for f in ("memory.max", "memory/memory.limit_in_bytes")
                      if (w := _words(f"/sys/fs/cgroup/{f}")) and w[0] != "max" and int(w[0]) < total), None)  # fmt: skip
        text = f"{size(free)} of {size(total)} free" + (f"; {size(limit)} allowed by the container" if limit else "")
        little = min(free, limit or free) < _LITTLE_MEMORY
        yield Finding("memory", text, "note" if little else "ok", data={"total": total, "free": free, "limit": limit})
    for name, folder in (("runs", Path.cwd()), ("temporary files", Path(tempfile.gettempdir())),
                         ("shared memory", Path("/dev/shm"))):  # fmt: skip
        if folder.is_dir():
            room = shutil.disk_usage(folder)
            little = room.free < (_LITTLE_DISK if name != "shared memory" else 64 << 20)
            hint = (
                "little room"
                if little and name != "shared memory"
                else "data loaders' workers need it"
                if little
                else ""
            )
            yield Finding(name, f"{size(room.free)} free in {folder}", "note" if little else "ok", hint,
                          {"folder": str(folder), "free": room.free})  # fmt: skip
    yield _allocator()


def _allocator() -> Finding:
    from temporal.benchmarks._machine import PINNED, RETURNING

    libc = " ".join(platform.libc_ver()) or "libc unknown"
    preload = os.environ.get("LD_PRELOAD", "")
    told = {name: os.environ[name] for name in PINNED | RETURNING if name in os.environ}
    settings = ", ".join(f"{name}={value}" for name, value in told.items()) or "as it comes"
    advice = (
        "large tensors come from fresh pages at every call, which may cost more than the arithmetic; `temporal bench` runs "
        f"with {' '.join(f'{name}={value}' for name, value in PINNED.items())}, and so may a training"
    )
    known = bool(preload) or bool(told) or not libc.startswith("glibc")
    text = f"{libc}, {settings}" + (f"; LD_PRELOAD={preload}" if preload else "")
    return Finding("allocator", text, "ok", "" if known else advice, {"libc": libc} | told)


def size(count: float) -> str:
    """Bytes in words.

    >>> size(1536), size(3 << 30)
    ('1.54 kB', '3.22 GB')
    """
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count:.0f} bytes"
