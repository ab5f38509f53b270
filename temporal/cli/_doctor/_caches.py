"""What is kept between runs: where, how large, and what of it nobody will read again."""

import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import temporal

from ._finding import Finding
from ._machine import size

__all__ = ["caches"]

_STALE = 3600.0  # seconds: unfinished work that old belongs to a process that was killed (as in temporal.datasets)


def caches() -> Iterator[Finding]:
    """Data that were made or fetched, compiled kernels of numba, of Triton, and of torch.compile."""
    yield _data()
    yield _compiled()
    home = Path.home()
    triton = Path(os.environ.get("TRITON_CACHE_DIR") or home / ".triton" / "cache")
    yield _folder("Triton", triton, "TRITON_CACHE_DIR")
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with suppress(KeyError, OSError):  # a user without a name
        inductor = Path(named or Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}")
        yield _folder("torch.compile", inductor, "TORCHINDUCTOR_CACHE_DIR")


def _data() -> Finding:
    named = os.environ.get("TEMPORAL_CACHE")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "temporal"
    parent = next((above for above in (folder, *folder.parents) if above.exists()), folder)
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        hint = "name a folder that can be written to in TEMPORAL_CACHE; until then data are made anew, or fail"
        what = "is no folder" if not parent.is_dir() else "cannot be written to"
        return Finding("data", f"{folder}: {what}", "problem", hint, {"folder": str(folder)})
    if not folder.exists():
        return Finding("data", f"{folder}: not there yet; made when needed", data={"folder": str(folder), "bytes": 0})
    left = [path for path in folder.rglob(".*.unfinished-*") if _age(path) > _STALE]
    old = [path for path in (folder / "cochlea").glob("transfer-*.bin") if not _is_current_table(path)]
    count = _bytes(folder)
    data = {"folder": str(folder), "bytes": count, "stale": [str(path) for path in left + old]}
    text = f"{folder}: {size(count)}"
    if left or old:
        gone = sum(_bytes(path) for path in left + old)
        hint = f"may be removed: {', '.join(map(str, left + old))}"
        return Finding("data", f"{text}, {size(gone)} of it stale", "note", hint, data)
    return Finding("data", text, data=data)


def _is_current_table(file: Path) -> bool:
    try:
        from temporal.kernels.cochlea._table import table_file
    except ImportError:  # without torch nobody can tell
        return True
    channels = file.name.split("-")[1]
    return channels.isdigit() and file.name == table_file(int(channels)).name


def _compiled() -> Finding:
    """numba keeps its machine code beside the sources, or where it is told, or where it can."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    sources = [file for root in ("", "kernels", "datasets") for file in _python(Path(temporal.__path__[0], root))]
    folders = [Path(named)] if named else sorted({file.parent / "__pycache__" for file in sources})
    files = [path for folder in folders for path in folder.rglob("*.nb[ic]")]
    written = {file.stem: file.stat().st_mtime for file in sources}
    stale = [path for path in files if path.suffix == ".nbi" and not named and _outdated(path, written)]
    count = sum(map(_bytes, files))
    data = {"folder": named or temporal.__path__[0], "files": len(files), "bytes": count, "stale": len(stale)}
    where = named or "__pycache__ beside the kernels"
    if not os.access(named or temporal.__path__[0], os.W_OK):
        hint = "kernels are compiled anew in every process, or in numba's own folder: set NUMBA_CACHE_DIR to keep them"
        return Finding("numba", f"{where}: cannot be written to", "note", hint, data)
    if not files:
        hint = "the first call of each kernel takes seconds"
        return Finding("numba", f"{where}: nothing compiled yet", "note", hint, data)
    text = f"{where}: {len(files)} files, {size(count)}"
    if stale:
        return Finding("numba", f"{text}; {len(stale)} older than their sources", "note", "replaced when called", data)
    return Finding("numba", text, data=data)


def _python(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(root, name) for name in files if name.endswith(".py"))


def _outdated(index: Path, written: dict[str, float]) -> bool:
    """numba's files are called MODULE.FUNCTION-LINE.pyXY.nbi."""
    return index.stat().st_mtime < written.get(index.name.split(".")[0], float("inf"))


def _folder(name: str, folder: Path, variable: str) -> Finding:
    count = _bytes(folder)
    text = f"{folder}: {size(count)}" if folder.exists() else f"{folder}: not there yet"
    return Finding(name, text, data={"folder": str(folder), "bytes": count, "variable": variable})


def _bytes(path: Path) -> int:
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with suppress(OSError):  # gone meanwhile
            total += file.stat().st_size if file.is_file() else 0
    return total


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
