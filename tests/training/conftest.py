"""Small recordings that can be told apart in a second of training: three tones, or bands of spikes, two speakers."""

import operator
import os
import signal
import warnings

import matplotlib.text
import numpy as np
import pytest
import soundfile
import torch

from temporal.datasets import write_events
from temporal.models import DelayedLIF, Mel
from temporal.training import Augment, Data, Optimizer, Progress, Recipe, SpikeAugment, Spikes, train

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


WORDS = ("low", "mid", "high")


def spikes_of(word: str, speaker: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of 0.15 to 0.3 s in one of three bands of units, with some anywhere."""
    random = np.random.default_rng([WORDS.index(word), sorted(SPEAKERS).index(speaker), index])
    count = int(random.uniform(150, 300))
    times = np.sort(random.uniform(0, random.uniform(0.15, 0.3), count))
    band = 60 + 250 * WORDS.index(word) + random.normal(0, 25, count)
    units = np.where(random.random(count) < 0.2, random.integers(0, 700, count), band.clip(0, 699))
    return times, units.astype(np.int64)


def write_spikes(file, indices, splits=False):
    rows = [(word, speaker, index) for word in WORDS for speaker in SPEAKERS for index in indices]
    file.parent.mkdir(exist_ok=True)
    write_events(
        file,
        (spikes_of(*row) for row in rows),
        labels=[WORDS.index(word) for word, _, _ in rows],
        classes=WORDS,
        speakers=[speaker for _, speaker, _ in rows],
        names=[f"{word}_{speaker}_{index}" for word, speaker, index in rows],
        splits=["test" if index < 5 else "train" for _, _, index in rows] if splits else None,
    )


@pytest.fixture(scope="session")
def spikes(tmp_path_factory):
    """One file: 60 recordings, of which each word's and speaker's 0 to 4 test."""
    file = tmp_path_factory.mktemp("spikes") / "bands.h5"
    write_spikes(file, range(10), splits=True)
    return file


@pytest.fixture
def published(tmp_path):
    """The same as the published files are: a folder with one file to train and one to test on."""
    write_spikes(tmp_path / "shd" / "shd_train.h5", range(5, 10))
    write_spikes(tmp_path / "shd" / "shd_test.h5", range(5))
    return tmp_path / "shd"


@pytest.fixture(scope="session")
def spiking(spikes):
    """A recipe that learns them in seconds, with everything that can be varied."""
    return Recipe(
        name="bands",
        data=Data(path=str(spikes), kind="shd", validation=0.2),
        frontend=None,
        spikes=Spikes(preset="10ms", merge=35),
        network=DelayedLIF(hidden=24, layers=1, max_delay=6, dropout=0.1),
        augment=SpikeAugment(
            blend=0.5,
            drop=0.1,
            jitter=0.5,
            channel_jitter=0.3,
            channel_shift=1,
            shift=0.02,
            time_mask=3,
            channel_mask=2,
        ),
        optimizer=Optimizer(lr=0.02),
        epochs=8,
        batch_size=8,
    )


@pytest.fixture(scope="session")
def trained_on_spikes(spiking, tmp_path_factory):
    """That recipe, trained; tests leave the run as it is."""
    return train(spiking, tmp_path_factory.mktemp("spike-runs") / "whole", device="cpu")


class StopAfter(Progress):
    """Presses Ctrl-C during a given training step."""

    def __init__(self, step):
        super().__init__(Progress.silent().console)
        self.left = step

    def step(self, *args):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def stop_after():
    """A progress that interrupts: stop_after(step)."""
    return StopAfter


@pytest.fixture(scope="module")
def quick_writing():
    """Pictures that are not painted, files that the disk need not hold: nine tenths of the time of such a short run.

    A process that is killed leaves to the system what it wrote; waiting for the disk is for a power cut
    (tests/test_files.py).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda opened: None)
        texts = operator.methodcaller("findobj", matplotlib.text.Text)
        patch.setattr(
            "matplotlib.figure.Figure.savefig",
            lambda figure, file, **_: file.write("\n".join(text.get_text() for text in texts(figure)).encode()),
        )
        yield


def run_in_child(do, plan=None, limit=600):
    """Run ``do()`` in a forked process with one thread; returns (its exit code, or minus the signal; what it said).

    Forked, because a new process would spend seconds on importing torch; with one thread, because torch's others are not
    there after a fork. ``plan`` is what TEMPORAL_FAILPOINT says. Past ``limit`` seconds it is ended by SIGALRM.
    """
    hears, says = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads, from Python 3.12 on
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(hears)
            signal.alarm(limit)
            torch.set_num_threads(1)
            if plan is not None:
                os.environ["TEMPORAL_FAILPOINT"] = plan
            do()
            code = 0
        except BaseException as error:
            os.write(says, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    os.close(says)
    with open(hears, encoding="utf-8") as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


@pytest.fixture(scope="session")
def in_child(trained):
    """:func:`run_in_child`, in a process that has trained before: what that loads and compiles is there after a fork."""
    if not hasattr(os, "fork"):
        pytest.skip("a process is forked here, which this system cannot")
    return run_in_child
