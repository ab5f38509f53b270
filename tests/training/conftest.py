"""Small recordings that can be told apart in a second of training: three tones, two speakers."""

import numpy as np
import pytest
import soundfile

from temporal.models import DelayedLIF, Mel
from temporal.training import Augment, Data, Optimizer, Recipe, train

TONES = {"low": 300.0, "mid": 900.0, "high": 2500.0}
SPEAKERS = {"ann": 1.0, "bob": 1.15}


def tone(label: str, speaker: str, index: int, rate: int = 8000) -> np.ndarray:
    """A tone of 0.15 to 0.35 s in noise, a little off its pitch."""
    random = np.random.default_rng([sorted(TONES).index(label), sorted(SPEAKERS).index(speaker), index])
    time = np.arange(int(rate * random.uniform(0.15, 0.35))) / rate
    pitch = TONES[label] * SPEAKERS[speaker] * random.uniform(0.95, 1.05)
    return (0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * random.standard_normal(time.size)).astype(np.float32)


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """60 recordings, LABEL_SPEAKER_INDEX.wav: index 0 to 4 of each label and speaker test, the rest train."""
    root = tmp_path_factory.mktemp("tones")
    for label in TONES:
        for speaker in SPEAKERS:
            for index in range(10):
                soundfile.write(root / f"{label}_{speaker}_{index}.wav", tone(label, speaker, index), 8000)
    return root


@pytest.fixture(scope="session")
def small(tones):
    """A recipe that learns the tones in seconds."""
    return Recipe(
        name="tones",
        data=Data(path=str(tones), validation=0.2),
        frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=20),
        network=DelayedLIF(hidden=24, layers=1, max_delay=6, dropout=0.1),
        augment=Augment(shift=0.02, band_mask=2, time_mask=3),
        optimizer=Optimizer(lr=0.02),
        epochs=8,
        batch_size=8,
    )


@pytest.fixture(scope="session")
def trained(small, tmp_path_factory):
    """That recipe, trained; tests leave the run as it is."""
    return train(small, tmp_path_factory.mktemp("runs") / "whole", device="cpu")
