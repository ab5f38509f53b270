"""Files that are there whole or not at all, and one process at a time for those that grow."""

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ._failpoints import failpoint

fcntl: Any
try:
    import fcntl
except ImportError:  # not a Unix: there a user has to see to it
    fcntl = None

__all__ = ["leftovers", "lock", "write_atomically"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a network's file system that was mounted without them


def write_atomically(file: Path, write: Callable[[IO[bytes]], Any], *, keep: Path | None = None) -> None:
    """Let ``write`` fill a file that takes the place of ``file`` in one step, when all of it is on disk.

    Killed at any moment, or out of room, there is the file before or the file after, never a part of one.

    Args:
        file: what to write; what is there is replaced.
        write: called with the open file.
        keep: the name under which the file before stays. A process that is killed between the two renamings leaves that
            one alone.
    Raises:
        OSError: it cannot be written; the message begins with the file, ``errno`` says why, and the file before is kept.
        ValueError: there is something else than a file: a folder, or a device, which would be replaced, not written to.
    """
    if file.exists() and not file.is_file():
        raise ValueError(f"{file}: is not a file, and cannot be replaced by one")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with io.BufferedWriter(_Watched(temporary, file.name)) as opened:
            write(opened)
            opened.flush()
            failpoint(f"written {file.name}")
            os.fsync(opened.fileno())
        if keep is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(file, keep)
                failpoint(f"kept {file.name}")
        os.replace(temporary, file)
        failpoint(f"renamed {file.name}")
        _sync(file.parent)
    except OSError as error:
        told = type(error)(f"{file}: cannot be written ({error.strerror or error})")
        told.errno = error.errno
        raise told from None
    finally:
        with contextlib.suppress(OSError):  # the one above says more
            temporary.unlink(missing_ok=True)


def leftovers(folder: Path) -> Iterator[Path]:
    """What processes that were killed while they wrote atomically have left in a folder."""
    for path in folder.glob(".*.*"):
        if path.name.rpartition(".")[2].isdecimal():
            yield path


def lock(file: IO[bytes]) -> bool:
    """Whether this open file is now this process's alone, until it is closed or the process ends, however it ends.

    True also where the system or the file system knows no locks: there a user has to see to it.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


class _Watched(io.FileIO):
    """A new file, of which every write may be the last one."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, "w")
        self._place = f"write {name}"

    def write(self, data: Any) -> int:
        failpoint(self._place)
        return super().write(data)


def _sync(folder: Path) -> None:
    """Put the folder's list of names on disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
