"""Folders that are made once and kept: complete, or not there."""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_STALE = 3600.0  # seconds after which an unfinished folder belongs to a run that was killed


def cache_folder() -> Path:
    """Where made and fetched data are kept: the folder named by TEMPORAL_CACHE, else ~/.cache/temporal."""
    named = os.environ.get("TEMPORAL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "temporal"


def make_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Call ``fill`` with a new folder beside ``folder`` and give that its name once all is well.

    Killed or failed on the way, nothing named ``folder`` is left. Of two processes at once both work, and the result of
    the first stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = f".{folder.name}.unfinished-"
    _sweep(folder.parent, unfinished)
    work = folder.parent / f"{unfinished}{secrets.token_hex(8)}"
    work.mkdir()
    try:
        fill(work)
        try:
            work.rename(folder)
        except OSError:
            if not (folder.is_dir() and any(folder.iterdir())):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    for left in parent.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another process was done with it just now
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
