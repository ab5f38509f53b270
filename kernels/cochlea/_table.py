"""The transfer table of a number of channels: computed once, kept on disk for all processes, never half-written.

One file a number of channels, in the folder ``cochlea`` of TEMPORAL_CACHE, else of ~/.cache/temporal. It begins with the
SHA-256 of the rest; a file that fails it, or that other equations made, is computed anew and replaced. Processes write under
names of their own and rename: who reads meanwhile sees the old file, the new one, or none.
"""

import hashlib
import io
import logging
import os
import secrets
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import transfer
from .transfer import Transfer

__all__ = ["load", "table_file"]

_NAMES = tuple(field.name for field in fields(Transfer))
_DIGEST = 32  # bytes of a SHA-256


@lru_cache(maxsize=8)
def load(channels: int) -> Transfer:
    """The table, from memory, from disk, or from the equations."""
    file = table_file(channels)
    table = _read(file)
    if table is None:
        table = Transfer.computed(channels)
        _write(file, table)
    return table


def table_file(channels: int) -> Path:
    """Where the table lies; its name changes with the equations' source."""
    named = os.environ.get("TEMPORAL_CACHE")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "temporal"
    source = Path(transfer.__file__)
    version = hashlib.sha256(source.read_bytes() if source.is_file() else b"").hexdigest()[:16]
    return folder / "cochlea" / f"transfer-{channels}-{version}.bin"


def _read(file: Path) -> Transfer | None:
    try:
        content = memoryview(file.read_bytes())
    except OSError:
        return None
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    try:
        with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as arrays:
            return Transfer(*(arrays[name] for name in _NAMES))
    except (ValueError, KeyError):  # whole, but not written here: objects, which are refused, or other arrays
        return None


def _write(file: Path, table: Transfer) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: getattr(table, name) for name in _NAMES})
    payload = buffer.getbuffer()
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as out:
            out.write(hashlib.sha256(payload).digest())
            out.write(payload)
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, file)
    except OSError as problem:  # a full or read-only disk costs the next process two seconds, not this one its work
        logging.getLogger("temporal").warning("temporal: the cochlea's table is not kept: %s", problem)
    finally:
        with suppress(OSError):  # it has its name by now, or was never there
            unfinished.unlink()
