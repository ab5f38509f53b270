"""Where the published data sets are, what their files are called, and their checksums.

Checksums of the SHD and SSC archives are those of the authors' md5sums.txt as SpikingJelly and tonic carry them; those of
Speech Commands are as torchaudio carries them. None was computed here.
"""

import gzip
import os
import secrets
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ._cache import make_folder
from ._download import DownloadError, checksum_of, fetch
from ._events_file import EventsFile
from ._progress import Progress, bar

__all__ = ["SHD_FILES", "SPEECH_COMMANDS", "SSC_FILES", "Source", "fetch_all", "fetch_folder"]


@dataclass(frozen=True)
class Source:
    """One published file.

    Args:
        name: what it is called unpacked.
        packed: what is fetched.
        hosts: addresses of folders that hold it, the same file at each.
        checksum: of the packed file; None: nobody has published one, and lengths and opening it must do.
        page: for people: where the files are explained and linked.
    """

    name: str
    packed: str
    hosts: tuple[str, ...]
    checksum: str | None
    page: str

    @property
    def packed_names(self) -> tuple[str, ...]:
        """Packed forms in which the file may have been put there by hand."""
        return (self.packed, f"{self.name}.gz") if self.packed.endswith(".zip") else (self.packed,)


_HEIDELBERG = ("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/")
_HEIDELBERG_PAGE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"
_GOOGLE = ("https://storage.googleapis.com/download.tensorflow.org/data/", "http://download.tensorflow.org/data/")
_GOOGLE_PAGE = "https://www.tensorflow.org/datasets/catalog/speech_commands"


def _heidelberg(name: str, md5: str) -> Source:
    return Source(f"{name}.h5", f"{name}.h5.zip", _HEIDELBERG, f"md5:{md5}", _HEIDELBERG_PAGE)


def _google(version: str, sha256: str) -> Source:
    name = f"speech_commands_v{version}"
    return Source(name, f"{name}.tar.gz", _GOOGLE, f"sha256:{sha256}", _GOOGLE_PAGE)


SHD_FILES = {
    "train": _heidelberg("shd_train", "f3252aeb598ac776c1b526422d90eecb"),
    "test": _heidelberg("shd_test", "1503a5064faa34311c398fb0a1ed0a6f"),
}
SSC_FILES = {
    "train": _heidelberg("ssc_train", "d102be95e7144fcc0553d1f45ba94170"),
    "validation": _heidelberg("ssc_valid", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
    "test": _heidelberg("ssc_test", "a35ff1e9cffdd02a20eb850c17c37748"),
}
SPEECH_COMMANDS = {
    "0.01": _google("0.01", "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
    "0.02": _google("0.02", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"),
}


def fetch_all(sources: Iterable[Source], folder: Path, progress: bool | Progress) -> None:
    """Bring files to ``folder``, each unpacked, opened and given its name only then.

    Archives that were put there by hand are unpacked too, without a network.

    Raises:
        DownloadError: a file that cannot be had; the message says where to put it by hand.
    """
    for source in sources:
        _bring(source, folder, progress, partial(_unpack_file, folder / source.name))


def fetch_folder(source: Source, root: Path, progress: bool | Progress) -> None:
    """Bring a published folder to ``root``, through the archive that lies beside it meanwhile.

    Raises:
        DownloadError: as ``fetch_all``.
    """
    if root.is_dir() and any(root.iterdir()):
        return
    _bring(source, root.parent, progress, partial(_unpack_folder, root), f", or unpack it into {root}")


def _bring(
    source: Source, folder: Path, progress: bool | Progress, unpack: Callable[[Path], None], otherwise: str = ""
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    packed = next((folder / name for name in source.packed_names if (folder / name).exists()), folder / source.packed)
    urls = [host + source.packed for host in source.hosts]
    by_hand = packed.exists()
    if by_hand:
        _check_by_hand(source, packed)
    else:
        hand = f"fetch {urls[0]} in another way and put it into {folder}{otherwise}, then try again"
        with bar(f"fetching {source.packed}", progress) as report:
            fetch(urls, packed, checksum=source.checksum, hand=hand, report=report)
    try:
        unpack(packed)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, KeyError, ValueError) as error:
        if not by_hand:
            packed.unlink()
        raise DownloadError(f"{packed}: cannot be unpacked ({error}); fetch it again") from None
    if not by_hand:
        packed.unlink()


def _check_by_hand(source: Source, packed: Path) -> None:
    if source.checksum is None or packed.name != source.packed:
        return
    with open(packed, "rb") as file:
        found = checksum_of(file, source.checksum.partition(":")[0])
    if found != source.checksum:
        raise DownloadError(
            f"{packed}: is not the published file ({found}, not {source.checksum}); remove it and try again"
        )


def _unpack_file(target: Path, packed: Path) -> None:
    """Unpack the one file, look into it, and give it its name."""
    work = target.with_name(f".{target.name}.unpacking-{secrets.token_hex(4)}")
    try:
        if packed.suffix == ".gz":
            with gzip.open(packed) as source, open(work, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        else:
            with zipfile.ZipFile(packed) as archive:
                member = next((name for name in archive.namelist() if Path(name).name == target.name), target.name)
                with archive.open(member) as source, open(work, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        EventsFile(work)
        os.replace(work, target)
    finally:
        with suppress(FileNotFoundError):
            work.unlink()


def _unpack_folder(root: Path, packed: Path) -> None:
    def fill(work: Path) -> None:
        with tarfile.open(packed) as archive:
            archive.extractall(work, filter="data")  # refuses links and names that lead out of the folder

    if root.is_dir():
        root.rmdir()
    make_folder(root, fill)
