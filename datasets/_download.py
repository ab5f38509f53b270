"""Fetching a file: resumed where it broke off, checked, and under its name only when it is whole."""

import errno
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from temporal._files import lock

from ._progress import Progress

__all__ = ["DownloadError", "checksum_of", "fetch"]

_PIECE = 1 << 20  # bytes that are read and reported at once
_TRIES = 4  # in a row that bring nothing
_WAIT = 0.5  # seconds after the first of them; doubled after each
_TIMEOUT = 30.0  # seconds without a byte
_BROKEN = (ConnectionError, TimeoutError, http.client.HTTPException)


class DownloadError(OSError):
    """A file that could not be fetched; the message says why, and where to put the file by hand."""


def fetch(urls: Sequence[str], target: Path, *, checksum: str | None, hand: str, report: Progress) -> None:
    """Fetch a file from the first of several addresses that has it.

    What has come lies in ``.NAME.partial`` beside the target and is continued (HTTP Range), also by a later call and from
    another address. A server that does not know Range sends everything again. Where there is no checksum, the length that
    the server states is all that is compared here, and the caller should open the file.

    Args:
        urls: the same file at each.
        target: where it goes; nothing has this name before the file is whole and checked.
        checksum: "md5:HEX" or "sha256:HEX" of the file, None where nobody has published one.
        hand: what to do by hand instead, for errors: ends a sentence.
        report: called with bytes done and bytes in all (0: not known).
    Raises:
        DownloadError: no address gives the file, or there is no room for it; what has come is kept, if it can be used.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    reasons = []
    with _alone(partial) as file:
        for url in urls:
            try:
                _fetch_from(url, file, report, certain=checksum is not None)
                _compare(file, checksum)
            except _Refused as refused:
                reasons.append(f"{urllib.parse.urlsplit(url).netloc} {refused}")
                continue
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise DownloadError(f"{target.name}: no room in {target.parent} ({error.strerror}); make room and try "
                                    "again, it goes on from there") from None  # fmt: skip
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, target)
            return
    if not partial.stat().st_size:
        partial.unlink()
    raise DownloadError(f"cannot fetch {target.name}: {'; '.join(reasons)}; {hand}")


def checksum_of(file: IO[bytes], kind: str) -> str:
    """The "KIND:HEX" of an open file's content."""
    digest = hashlib.new(kind, usedforsecurity=False)
    file.seek(0)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return f"{kind}:{digest.hexdigest()}"


class _Refused(Exception):
    """This address does not give the file."""


def _fetch_from(url: str, file: IO[bytes], report: Progress, *, certain: bool) -> None:
    """Go on until the file is as long as the server says it is; ``certain`` if a checksum will be compared besides."""
    fruitless, problem, total = 0, "", None
    while fruitless < _TRIES:
        if fruitless:
            time.sleep(_WAIT * 2 ** (fruitless - 1))
        have = file.seek(0, os.SEEK_END)
        try:
            with _opened(url, have) as response:
                total = _position(response, file)
                if total is not None and file.tell() == total:
                    return
                _copy(response, file, total, report)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing of the file lies beyond what has come: it is whole, or another file's
                if _promised(error.headers.get("Content-Range")) == have:
                    if certain or total in (None, have):
                        return
                    raise _Refused(f"says once that it has {total} bytes and once {have}") from None
                file.truncate(0)
            elif error.code < 500:
                raise _Refused(_said(error)) from None
            problem = _said(error)
        except urllib.error.URLError as error:
            raise _Refused(f"is not reachable ({_inner(error.reason)})") from None
        except _BROKEN as error:
            problem = f"breaks off ({_inner(error)})"
        else:
            size = file.tell()
            if total is None or size == total:
                return
            problem = f"breaks off at {size} of {total} bytes"
        fruitless = fruitless + 1 if file.seek(0, os.SEEK_END) <= have else 0
    raise _Refused(f"{problem}, {_TRIES} times running")


def _opened(url: str, have: int) -> http.client.HTTPResponse:
    headers = {
        "User-Agent": "temporal",
        "Accept-Encoding": "identity",
    }  # no compression: Range counts bytes of the file
    if have:
        headers["Range"] = f"bytes={have}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)


def _position(response: http.client.HTTPResponse, file: IO[bytes]) -> int | None:
    """Move to where the answer belongs in the file, and say how long the file will be, if the server knows."""
    if response.status == 206:
        stated = response.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated.strip())
        if match and int(match[1]) <= file.tell():
            file.seek(int(match[1]))
            file.truncate()
            return None if match[2] == "*" else int(match[2])
        file.truncate(0)  # asked for one part, was sent another: from the beginning
        raise ConnectionError(f"asked for the rest, sends {stated or 'something else'}")
    file.seek(0)
    file.truncate()
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _copy(response: http.client.HTTPResponse, file: IO[bytes], total: int | None, report: Progress) -> None:
    while piece := response.read(_PIECE):
        file.write(piece)
        report(file.tell(), total or 0)


def _compare(file: IO[bytes], checksum: str | None) -> None:
    file.flush()
    if checksum is None:
        return
    found = checksum_of(file, checksum.partition(":")[0])
    if found != checksum:
        size = file.seek(0, os.SEEK_END)
        file.truncate(0)
        raise _Refused(f"sends another file ({size} bytes, {found}, not {checksum})")


@contextmanager
def _alone(partial: Path) -> Iterator[IO[bytes]]:
    """The partial file, opened for writing by this process alone where the system has such locks."""
    with open(partial, "r+b" if partial.exists() else "w+b") as file:
        if not lock(file):
            name = partial.name[1:].removesuffix(".partial")
            raise DownloadError(f"{name}: another process is fetching it into {partial.parent}; wait for it")
        yield file


def _promised(content_range: str | None) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(match[1]) if match else None


def _said(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return "redirects in a circle" if "infinite loop" in str(error.reason) else f"redirects nowhere ({error.code})"
    return f"answers {error.code} {error.reason}"


def _inner(reason: object) -> str:
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
