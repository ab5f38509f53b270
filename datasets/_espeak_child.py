"""Speaks through espeak-ng in a process of its own: a script that ``_espeak.py`` starts, not a module to import.

Standard library only, so that it starts at once. Reads one JSON object from standard input, {"library": path, "data":
path, "utterances": [[voice, rate, pitch, range, text], ...]}. Writes to standard output one line, the JSON object
{"sample_rate": Hz, "version": text}, then for each utterance, in the order asked for, the number of samples (4 bytes,
little-endian) and the samples (2 bytes each).
"""

import ctypes
import json
import os
import struct
import sys

SYNCHRONOUS, DONT_EXIT = 2, 0x8000  # samples to the callback before the call returns; errors come back as codes
RATE, PITCH, RANGE = 1, 3, 4
SEED = 1  # of the noise in breath and consonants, which would otherwise start from the time of day
POSITION_CHARACTER, CHARS_UTF8 = 1, 1

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesizer:
    """The C library, spoken to through ctypes."""

    def __init__(self, library: str, data: str):
        self.lib = ctypes.CDLL(library)
        self.lib.espeak_Info.restype = ctypes.c_char_p
        self.version = self.lib.espeak_Info(None).decode()
        self.sample_rate = self.lib.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng does not start with the data in {data}")
        self.chunks: list[bytes] = []
        self._callback = Callback(self._take)  # kept: the C library holds only its address
        self.lib.espeak_SetSynthCallback(self._callback)
        self.voice: str | None = None

    def say(self, voice: str, rate: int, pitch: int, pitch_range: int, text: str) -> bytes:
        """Samples of one utterance, 16 bit, mono."""
        self._set_voice(voice)
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._call(f"parameter {parameter}={value}", self.lib.espeak_SetParameter(parameter, value, 0))
        self.lib.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
        self.chunks.clear()
        content = text.encode() + b"\0"
        size = ctypes.c_size_t(len(content))
        self._call(repr(text), self.lib.espeak_Synth(content, size, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None))
        return b"".join(self.chunks)

    def _set_voice(self, voice: str) -> None:
        if voice != self.voice:
            self._call(f"voice {voice!r}", self.lib.espeak_SetVoiceByName(voice.encode()))
            self.voice = voice

    def _call(self, what: str, code: int) -> None:
        if code != 0:
            raise RuntimeError(f"espeak-ng refuses {what} with code {code}")

    def _take(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self.chunks.append(ctypes.string_at(samples, 2 * count))
        return 0


def main() -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever the library prints stays out of the samples
    job = json.load(sys.stdin)
    synthesizer = Synthesizer(job["library"], job["data"])
    head = {"sample_rate": synthesizer.sample_rate, "version": synthesizer.version}
    out.write(json.dumps(head).encode() + b"\n")
    for utterance in job["utterances"]:
        samples = synthesizer.say(*utterance)
        out.write(struct.pack("<I", len(samples) // 2) + samples)
    out.close()


if __name__ == "__main__":
    main()
