"""Folders of recordings as a cochlea hears them, converted once and kept: for who trains on them again and again."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from temporal._files import lock

from ._cache import cache_folder
from ._layout import LISTS, scan
from ._progress import Progress
from .conversion import convert_folder

__all__ = ["spikes_of_folder"]

_POLL = 0.2  # seconds


def spikes_of_folder(
    folder: str | os.PathLike,
    *,
    sample_rate: int = 16000,
    preset: Literal["lauscher", "article"] = "lauscher",
    membrane: Literal["travelling_wave", "gammatone"] = "travelling_wave",
    seed: int = 0,
    jobs: int | None = None,
    on_error: str = "raise",
    progress: bool | Progress = True,
) -> Path:
    """The file of spikes of a folder of recordings: made by ``convert_folder`` the first time, and kept in the cache.

    The cache is the folder named by TEMPORAL_CACHE, else ~/.cache/temporal. A file in it belongs to the recordings' names
    and contents, the split lists, the settings and this version: what changes in any of them is converted anew. Of
    several processes that ask at once, one converts and the others wait.

    Args:
        folder: of recordings, as for ``AudioFolder``.
        sample_rate, preset, membrane, seed, jobs, on_error, progress: as for ``convert_folder``.
    Returns:
        The file, in the layout of SHD, for ``SHD(path)``; it is shared, so leave it as it is.
    Raises:
        FileNotFoundError: no such folder.
        AudioError, ValueError, OSError: as by ``convert_folder``.

    Example:
        >>> from temporal.datasets import SHD
        >>> data = SHD(spikes_of_folder("recordings"), split="train")  # doctest: +SKIP
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"spikes_of_folder: {folder} is no folder of recordings")
    settings = {
        "sample_rate": sample_rate,
        "preset": preset,
        "membrane": membrane,
        "seed": seed,
        "on_error": on_error,
    }
    file = cache_folder() / "heard" / f"{root.resolve().name}-{_fingerprint(root, settings)}.h5"
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file.with_name(f".{file.name}.lock")):
        if not file.is_file():
            convert_folder(root, file, jobs=jobs, progress=progress, **settings)  # type: ignore[arg-type]
    return file


def _fingerprint(root: Path, settings: dict[str, str | int]) -> str:
    """Of all that the spikes and the parts depend on. Files are read whole: names and sizes of clips are often alike."""
    import temporal

    found = hashlib.blake2b(json.dumps(settings | {"temporal": temporal.__version__}).encode(), digest_size=10)
    paths = [entry.path for entry in scan(root, None).entries]
    for path in [*paths, *(root / name for name in LISTS.values())]:
        found.update(os.fsencode(path.relative_to(root)) + b"\0")
        if path.is_file():  # of a broken link the conversion says so
            found.update(hashlib.blake2b(path.read_bytes()).digest())
    return found.hexdigest()


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold a lock, once whoever has it lets go of it or dies."""
    with open(file, "a+b") as opened:
        while not lock(opened):
            time.sleep(_POLL)
        yield
