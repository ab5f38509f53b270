"""What a run was trained with: versions, device and threads, noted at every call that trains."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .run import Run, write_json

__all__ = ["note_session", "read_sessions"]

_PACKAGES = ("torch", "numpy", "numba", "lightning", "soundfile", "soxr", "h5py")  # that may change a result


def note_session(run: Run, device: Any, epoch: int) -> None:
    """Add a session to the run folder's ``sessions.json``.

    Args:
        run: the run.
        device: that it trains on.
        epoch: how many epochs were done before.
    """
    import torch

    import temporal

    versions = {"temporal": temporal.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    session = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "from_epoch": epoch + 1,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }
    write_json(run.sessions_file, [*read_sessions(run), session])


def read_sessions(run: Run) -> list[dict[str, Any]]:
    """The sessions of a run, oldest first; none where nothing readable says so."""
    try:
        stored = json.loads(run.sessions_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []
