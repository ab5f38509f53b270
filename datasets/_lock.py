"""One process at a time for a file that grows."""

from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ImportError:  # not a Unix: there a user has to see to it
    fcntl = None

__all__ = ["lock"]


def lock(file: IO[bytes]) -> bool:
    """Whether this open file is now this process's alone, until it is closed."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
