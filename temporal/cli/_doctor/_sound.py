"""Whether sound files can be read, words spoken, and a microphone heard."""

import importlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

from ._finding import Finding

__all__ = ["sound"]


def sound() -> Iterator[Finding]:
    """Files, the embedded digits' voice, the microphone."""
    yield _files()
    yield _voice()
    yield _microphone()


def _files() -> Finding:
    """A few samples to FLAC and WAV and back: bit for bit."""
    import numpy as np
    import soundfile

    wave = (np.arange(-400, 400) * 40).astype(np.int16)
    version = getattr(soundfile, "__libsndfile_version__", "?")
    data = {"libsndfile": version, "formats": sorted(soundfile.available_formats())}
    for kind in ("WAV", "FLAC"):
        file = io.BytesIO()
        soundfile.write(file, wave, 8000, format=kind, subtype="PCM_16")
        file.seek(0)
        if not np.array_equal(soundfile.read(file, dtype="int16")[0], wave):
            return Finding("files", f"libsndfile {version} does not give {kind} back as it was", "problem", data=data)
    mp3 = "MP3 too" if "MP3" in data["formats"] else "no MP3: that takes libsndfile 1.1"
    return Finding("files", f"WAV and FLAC by libsndfile {version}; {mp3}", data=data)


def _voice() -> Finding:
    if importlib.util.find_spec("espeakng_loader") is None:
        text = "espeak-ng is not installed: no embedded digits (those already made can be read)"
        return Finding("voice", text, "note", "pip install 'temporal[demo]'")
    loader = importlib.import_module("espeakng_loader")
    missing = [path for path in (loader.get_library_path(), loader.get_data_path()) if not Path(path).exists()]
    if missing:
        return Finding(
            "voice", f"espeak-ng lacks {', '.join(map(str, missing))}", "problem", "install the extra demo again"
        )
    return Finding("voice", "espeak-ng, for the embedded digits")


def _microphone() -> Finding:
    if importlib.util.find_spec("sounddevice") is None:
        return Finding("microphone", "sounddevice is not installed", "note", "pip install 'temporal[mic]'")
    try:
        devices = importlib.import_module("sounddevice").query_devices()
    except Exception as error:  # no PortAudio, no sound system
        return Finding("microphone", f"sounddevice does not work here: {error}", "note", "install PortAudio")
    names = [device["name"] for device in devices if device["max_input_channels"] > 0]
    text = ", ".join(names) or "no input device"
    return Finding("microphone", text, "ok" if names else "note", data={"devices": names})
