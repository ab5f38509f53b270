"""The machine that measures: its caches, its page faults, its allocator, its versions, the speed of a plain copy."""

import contextlib
import ctypes
import datetime
import gc
import os
import platform
import re
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import temporal
from temporal.kernels import empty_cache

from ._case import Floor

__all__ = ["PINNED", "RETURNING", "copy_floor", "describe", "last_level_cache", "page_faults", "peak_memory"]

# glibc gives freed memory back to the kernel and fetches it again, page by page, unless told otherwise; that may cost
# more than the arithmetic. It ignores an mmap threshold above 32 MB, so mmap is turned off altogether.
PINNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}
# For peak memory the contrary: what is freed goes back at once, so that what is resident is what is in use. (Left alone,
# glibc raises the threshold with every large piece that is freed.)
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

_ASSUMED_CACHE = 32 << 20  # where the system does not say
_CACHES_PER_BUFFER = 4
_BUFFERS_IN_MEMORY = 16
_PEERS = (
    "torch", "numpy", "scipy", "numba", "triton", "spikingjelly", "snntorch", "dcls", "torchaudio", "librosa", "nnAudio",
    "nnAudio2", "soxr", "soundfile", "h5py",
)  # fmt: skip
_SETTINGS = ("MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "NUMBA_", "TEMPORAL_KERNELS", "LD_PRELOAD")

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]


def page_faults() -> int:
    """Pages that this process had mapped afresh so far; 0 on a system that does not count them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


def peak_memory(call: Callable[[], object]) -> int | None:
    """Bytes by which this process's resident memory exceeds, at its peak during a call, what it was before.

    None on a system that does not tell (all but Linux).
    """
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from what is resident now
        before = _peak()
    except (OSError, KeyError):
        return None
    call()
    return max(0, _peak() - before)


def _give_back() -> None:
    """Return to the system all memory that nothing uses, also small pieces amid others, which no threshold returns."""
    gc.collect()
    empty_cache()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _peak() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) << 10  # kB


def last_level_cache() -> int:
    """Bytes of the last-level caches of all processors that this process may use."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found: dict[tuple[int, str], int] = {}  # caches that processors share count once
    for cpu in usable:
        for index in Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*"):
            level, sharers, size = ((index / name).read_text().strip() for name in ("level", "shared_cpu_list", "size"))
            number, unit = re.fullmatch(r"(\d+)([KMG]?)", size).groups()  # type: ignore[union-attr]
            found[int(level), sharers] = int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last) or _ASSUMED_CACHE


def copy_floor(count: int, *, quick: bool = False) -> Floor:
    """The time of moving ``count`` bytes: a copy that reads half of them and writes the other half, by torch's threads.

    The buffers are at least four times the last-level caches, so that memory is measured and not a cache; where that would
    be more than a sixteenth of the memory each, they are that. They are made when the floor first runs, and the last pair is
    kept for the next floor.

    Args:
        count: bytes to move, reads and writes, >= 1.
        quick: copy no more than that, without measuring memory.

    >>> floor = copy_floor(1 << 20, quick=True)
    >>> floor.what, floor.share
    ('copy of 0.524 MB', 1.0)
    """
    least = min(_CACHES_PER_BUFFER * last_level_cache(), _memory() // _BUFFERS_IN_MEMORY)
    size = max(1, count // 2) if quick else max(count // 2, least)

    def copy() -> torch.Tensor:
        source, target = _buffers(size)
        return target.copy_(source)

    return Floor(f"copy of {size / 1e6:.3g} MB", copy, 2 * size / count)


@lru_cache(maxsize=1)
def _buffers(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)


def _memory() -> int:
    """Bytes of memory in this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return 8 << 30


def describe() -> dict[str, Any]:
    """What a time depends on besides the code: processor, threads, settings, versions, how busy the machine is."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "last_level_cache_bytes": last_level_cache(),
        "huge_pages": _chosen(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver()) or 'libc unknown'}",
        "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)},
        "versions": {"temporal": temporal.__version__, "python": platform.python_version()} | _versions(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", info.read_text()) if info.is_file() else None
    return match.group(1) if match else platform.processor() or platform.machine()


def _chosen(setting: Path) -> str | None:
    """The word in brackets: "always [madvise] never"."""
    match = re.search(r"\[(\w+)\]", setting.read_text()) if setting.is_file() else None
    return match.group(1) if match else None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
