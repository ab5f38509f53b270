"""Speech from espeak-ng, synthesised in one child process.

A child, because espeak-ng keeps state from one word to the next: the same order in a fresh process gives the same
samples; and because the library (GPL-3.0-or-later) then never becomes a part of the user's program.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

_LONGEST_PATH = 140  # espeak-ng copies the path into 160 characters and adds names of its own


class Utterance(NamedTuple):
    """What to say, and how.

    Voice "LANGUAGE+VARIANT", rate in words a minute (80 .. 450), pitch and its range from 0 to 99.
    """

    voice: str
    rate: int
    pitch: int
    pitch_range: int
    text: str


class Speech:
    """Samples of utterances as they come, float32 in -1 .. 1, at ``sample_rate`` Hz, by espeak-ng ``version``."""

    def __init__(self, process: subprocess.Popen, stream: IO[bytes], errors: IO[bytes], count: int):
        self._process, self._stream, self._errors, self._count = process, stream, errors, count
        head = json.loads(self._whole(stream.readline(), 1))
        self.sample_rate: int = head["sample_rate"]
        self.version: str = head["version"]

    def __iter__(self) -> Iterator[np.ndarray]:
        for _ in range(self._count):
            (samples,) = struct.unpack("<I", self._whole(self._stream.read(4), 4))
            content = self._whole(self._stream.read(2 * samples), 2 * samples)
            yield np.frombuffer(content, "<i2").astype(np.float32) / 32768

    def _whole(self, content: bytes, size: int) -> bytes:
        if len(content) < size:
            code = self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"espeak-ng stopped with code {code}: {lines[-1] if lines else 'it said nothing'}")
        return content


@contextmanager
def speak(utterances: Sequence[Utterance]) -> Iterator[Speech]:
    """Say ``utterances`` in their order, in a child process that ends with the block.

    Raises:
        ModuleNotFoundError: espeakng_loader is not installed.
        ValueError: a voice whose variant does not exist (espeak-ng would say it in its plain voice).
        RuntimeError: espeak-ng refuses a voice or stops.
    """
    library, data = _installation()
    variants = set(os.listdir(data / "voices" / "!v"))
    for voice in sorted({u.voice for u in utterances}):
        variant = voice.partition("+")[2]
        if variant and variant not in variants:
            raise ValueError(f"espeak-ng: voice {voice!r} names no variant in {data / 'voices' / '!v'}")
    with tempfile.TemporaryFile() as errors, _short_path(data) as home:
        # -P: the folder of the script, which is this package's, stays out of the child's module path.
        command = [sys.executable, "-P", str(Path(__file__).with_name("_espeak_child.py"))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            orders, stream = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
            job = {"library": str(library), "data": str(home), "utterances": utterances}
            with suppress(BrokenPipeError), orders:  # a child that died at once: reading tells why
                orders.write(json.dumps(job).encode())
            with stream:
                yield Speech(process, stream, errors, len(utterances))
        finally:
            process.kill()
            process.wait()


def _installation() -> tuple[Path, Path]:
    try:
        import espeakng_loader
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the embedded digits are spoken by espeak-ng, which is not installed: pip install 'temporal[demo]' "
            "(espeakng-loader, GPL-3.0-or-later)",
            name="espeakng_loader",
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


@contextmanager
def _short_path(data: Path) -> Iterator[Path]:
    if len(os.fsencode(data)) <= _LONGEST_PATH:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, data.name)
        link.symlink_to(data, target_is_directory=True)
        yield link
