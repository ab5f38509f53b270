"""Reading one recording: whole, finite, mono, at the rate that is asked for - or an error that names the file."""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Audio", "AudioError", "AudioHeader", "read_audio", "read_header"]

_UNKNOWN_LENGTH = 1 << 62  # libsndfile reports the largest int64 for a FLAC stream that does not say how long it is
_STREAMED_WAV = 0x7FFFF000  # what sox writes into a pipe for "unknown size"; ffmpeg writes 0xFFFFFFFF


class AudioError(ValueError):
    """A recording that cannot be used; the message begins with the file's path and says what to do."""


class AudioHeader(NamedTuple):
    """What a file says of itself: its length in samples per channel, its rate in Hz, its number of channels."""

    samples: int
    sample_rate: int
    channels: int

    def samples_at(self, sample_rate: int) -> int:
        """Length in samples after resampling to ``sample_rate``: samples * sample_rate / own rate, half rounded up."""
        return (2 * self.samples * sample_rate + self.sample_rate) // (2 * self.sample_rate)


class Audio(NamedTuple):
    """One recording: the waveform as it is used, and what the file held."""

    wave: torch.Tensor
    sample_rate: int
    header: AudioHeader

    @property
    def remarks(self) -> list[str]:
        """What was done to the samples, in words to show to a user; empty where nothing was."""
        said = []
        if self.header.channels > 1:
            said.append(f"{self.header.channels} channels averaged to one")
        if self.header.sample_rate != self.sample_rate:
            said.append(f"resampled from {self.header.sample_rate} Hz to {self.sample_rate} Hz")
        return said


def read_audio(path: str | os.PathLike, sample_rate: int | None = None) -> Audio:
    """Read a recording as mono float32, resampled to ``sample_rate``.

    Integer files are scaled to -1 .. 1; float files keep their values. Several channels are averaged. Another rate is
    reached by band-limited resampling (soxr, high quality) of the whole recording at once.

    Args:
        path: WAV (8, 16, 24, 32 bit, float) or FLAC; whatever else libsndfile reads works too.
        sample_rate: Hz, > 0; None keeps the file's own.
    Shape:
        Returns Audio(wave [samples] float32, sample_rate, header), samples = header.samples_at(sample_rate) >= 1.
    Raises:
        AudioError: missing, empty, not audio, cut off (fewer samples than its header promises), NaN or infinite
            samples. Nothing is returned half-read.
        ValueError: sample_rate is not a positive integer.

    Example:
        >>> import numpy as np, pathlib, soundfile, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "tone.wav")
        >>> soundfile.write(file, np.sin(np.arange(4000) / 9), 8000)
        >>> audio = read_audio(file, sample_rate=16000)
        >>> audio.wave.shape, audio.remarks
        (torch.Size([8000]), ['resampled from 8000 Hz to 16000 Hz'])
    """
    check_sample_rate("read_audio", sample_rate)
    header = read_header(path)
    samples = _decode(path, header)
    if not np.isfinite(samples).all():
        where = int(np.argwhere(~np.isfinite(samples))[0, 0])
        raise AudioError(f"{path}: sample {where} is NaN or infinite; repair the file or leave it out")
    wave = samples[:, 0] if header.channels == 1 else samples.mean(axis=1, dtype=np.float32)
    rate = header.sample_rate if sample_rate is None else sample_rate
    if rate != header.sample_rate:
        if header.samples_at(rate) < 1:
            raise AudioError(f"{path}: {header.samples} samples at {header.sample_rate} Hz are none at {rate} Hz")
        wave = _resample(wave, header, rate)
    return Audio(torch.from_numpy(np.ascontiguousarray(wave)), rate, header)


def read_header(path: str | os.PathLike) -> AudioHeader:
    """Length, rate and channels of a recording, without decoding it.

    Raises:
        AudioError: missing, empty, not audio, without samples, a WAV file that is shorter than its header promises, or
            a FLAC file that does not say how long it is (so nobody can tell whether it is whole).
    """
    import soundfile

    _check_file(path)
    try:
        info = soundfile.info(os.fspath(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise AudioError(f"{path}: not a recording that can be read; give WAV or FLAC ({_reason(error)})") from None
    _check_promise(path)
    header = AudioHeader(info.frames, info.samplerate, info.channels)
    if header.samples >= _UNKNOWN_LENGTH:
        raise AudioError(f"{path}: does not say how long it is, as if written to a pipe; encode it again into a file")
    if header.samples < 1:
        raise AudioError(f"{path}: holds no samples; record it again or remove it")
    return header


def check_sample_rate(owner: str, sample_rate: int | None) -> None:
    """Raise ValueError, naming ``owner``, unless ``sample_rate`` is None or a positive integer."""
    if sample_rate is not None and (not isinstance(sample_rate, int) or sample_rate < 1):
        raise ValueError(f"{owner}: sample_rate={sample_rate!r} must be a positive integer, in Hz")


def _check_file(path: str | os.PathLike) -> None:
    """Errors that libsndfile would only call a system error."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        link = f", it is a symbolic link to {os.readlink(os.fspath(path))}" if os.path.islink(path) else ""
        raise AudioError(f"{path}: no such file{link}") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror})") from None
    if os.path.isdir(path):
        raise AudioError(f"{path}: is a folder; give a WAV or FLAC file")
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); record it again or remove it")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: cannot be opened (no permission to read it)")


def _check_promise(path: str | os.PathLike) -> None:
    """Compare a WAV file's data size with what is there: libsndfile shortens such a file without a word."""
    with open(path, "rb") as file:
        riff = file.read(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            return
        end = os.fstat(file.fileno()).st_size
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data":
                there = end - file.tell()
                if there < size < _STREAMED_WAV:
                    raise AudioError(
                        f"{path}: is cut off: its header promises {size} bytes of sound, {there} are there; "
                        "copy it again or remove it"
                    )
                return
            file.seek(size + size % 2, os.SEEK_CUR)


def _decode(path: str | os.PathLike, header: AudioHeader) -> np.ndarray:
    """All samples, [samples, channels] float32."""
    import soundfile

    try:
        with soundfile.SoundFile(Path(path)) as file:
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: is damaged or cut off; copy it again or remove it ({_reason(error)})") from None
    if len(samples) != header.samples:
        raise AudioError(
            f"{path}: is cut off: its header promises {header.samples} samples, {len(samples)} are there; "
            "copy it again or remove it"
        )
    return samples


def _resample(wave: np.ndarray, header: AudioHeader, sample_rate: int) -> np.ndarray:
    import soxr

    wanted = header.samples_at(sample_rate)
    # soxr rounds the length in the same way; the cut and the zeros make it a promise that batches can be planned on.
    wave = soxr.resample(wave, header.sample_rate, sample_rate, quality="HQ")[:wanted]
    return np.pad(wave, (0, wanted - len(wave)))


def _reason(error: Exception) -> str:
    return str(error).rstrip(".").rpartition(": ")[2]
