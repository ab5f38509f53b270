"""Signals that every front end is compared on: real speech, and the synthetic ones where mistakes show."""

import numpy as np
import pytest
import soundfile

# name -> which recording of which set; three voices, two sample rates, two file formats
SPEECH = {
    "digit": ("fsdd", "7_jackson_3.wav"),
    "arabic": ("arabic", None),
    "command": ("speech_commands", None),
}
SYNTHETIC = ["noise", "sweep", "first sample", "last sample", "silence"]


@pytest.fixture(params=[*SPEECH, *SYNTHETIC])
def signal(request):
    """(samples in float64, sample rate), samples exact in float32."""
    name = request.param
    if name in SPEECH:
        fixture, file = SPEECH[name]
        folder = request.getfixturevalue(fixture)
        path = folder / file if file else sorted(p for p in folder.rglob("*") if p.suffix in (".wav", ".flac"))[17]
        return soundfile.read(path)
    rate, samples = 16000, 16000
    time = np.arange(samples) / rate
    wave = {
        "noise": np.random.default_rng(0).uniform(-1, 1, samples),
        "sweep": np.sin(2 * np.pi * 20 * (400**time - 1) / np.log(400)),  # 20 Hz to 8 kHz
        "first sample": np.eye(1, samples, 0)[0],
        "last sample": np.eye(1, samples, samples - 1)[0],
        "silence": np.zeros(samples),
    }[name]
    return wave.astype(np.float32).astype(np.float64), rate
