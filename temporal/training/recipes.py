"""The recipes that have a name."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import Any

from temporal.models.networks import DelayedLIF
from temporal.models.specs import Mel, known

from .recipe import Augment, Data, Delays, Optimizer, Recipe
from .spikes import SpikeAugment, Spikes

__all__ = ["find_recipe", "recipes"]


def recipes() -> dict[str, tuple[str, Recipe]]:
    """All named recipes: name -> (one line of what it is, the recipe)."""
    return _of_folders() | _of_published_sets() | _heard_in_two_ways() | _as_published()


def _of_folders() -> dict[str, tuple[str, Recipe]]:
    return {
        "digits": (
            "spoken digits: an embedded synthetic set (German and English, 20 classes), or --data FOLDER of recordings",
            Recipe(
                name="digits",
                data=Data(embedded="spoken-digits", validation=0.05),
                frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=40, fmin=50.0),
                network=DelayedLIF(hidden=128, layers=2, max_delay=24, dropout=0.1),
                tail=48,
                augment=Augment(
                    shift=0.1,
                    gain=6.0,
                    noise=10.0,
                    silence=0.1,
                    speed=0.1,
                    pitch=0.05,
                    band_mask=5,
                    time_mask=0,
                ),
                optimizer=Optimizer(lr=5e-3),
                epochs=40,
            ),
        ),
        "fsdd": (
            "digits from a folder of few speakers, for voices never heard: other rooms, microphones, tempi; needs --data",
            _digits_of_few(),
        ),
        "commands": (
            "spoken commands in folders with validation_list.txt and testing_list.txt, one second each; needs --data",
            _commands(
                "commands", DelayedLIF(hidden=256, max_delay=24, per="axon", synapses=4, dropout=0.25), epochs=130
            ),
        ),
        "commands-small": (
            "the same in a sixth of the time, with half as many neurons",
            _commands(
                "commands-small", DelayedLIF(hidden=128, max_delay=24, per="axon", synapses=4, dropout=0.1), epochs=60
            ),
        ),
    }


def _digits_of_few() -> Recipe:
    """Recordings of few speakers differ in room, microphone and level more than in voice: these are what is varied."""
    return Recipe(
        name="fsdd",
        data=Data(validation=0.05),
        frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=40, fmin=50.0),
        network=DelayedLIF(hidden=128, layers=2, max_delay=24, dropout=0.1),
        tail=48,
        augment=Augment(
            shift=0.1,
            gain=15.0,
            equalize=6.0,
            reverb=0.8,
            reverb_share=0.8,
            noise=10.0,
            speed=0.3,
            pitch=0.15,
            band_mask=5,
            time_mask=0,
        ),
        delays=_to_whole_steps(),
        optimizer=Optimizer(lr=5e-3),
        epochs=40,
    )


def _commands(name: str, network: DelayedLIF, epochs: int) -> Recipe:
    """Four synapses a pair that share four delays of their axon: richer than one with a delay of its own, and cheaper."""
    return Recipe(
        name=name,
        data=Data(split="lists"),
        frontend=Mel(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=50.0),
        network=network,
        tail=24,
        augment=Augment(shift=0.1, gain=6.0, silence=0.05, speed=0.2, pitch=0.12, band_mask=7, time_mask=14),
        delays=_to_whole_steps(),
        optimizer=Optimizer(lr=4e-3),
        epochs=epochs,
        ema=0.99,
    )


def _of_published_sets() -> dict[str, tuple[str, Recipe]]:
    return {
        "shd": (
            "Spiking Heidelberg Digits, or any file in their layout (temporal spikes makes one); needs --data",
            Recipe(
                name="shd",
                data=Data(kind="shd"),
                frontend=None,
                spikes=Spikes(preset="10ms"),
                network=DelayedLIF(hidden=256, layers=2, max_delay=24, tau=1.005, dropout=0.4),
                tail=36,
                augment=SpikeAugment(channel_shift=4, shift=0.05, time_mask=10, channel_mask=10),
                delays=_to_whole_steps(),
                optimizer=Optimizer(lr=5e-3, weight_decay=1e-5),
                epochs=60,
                batch_size=128,
                ema=0.99,
            ),
        ),
        "ssc": (
            "Spiking Speech Commands, 35 words, or any file in their layout; needs --data",
            Recipe(
                name="ssc",
                data=Data(kind="ssc"),
                frontend=None,
                # Steps of 4 ms: delays up to 300 ms, which learn at 1 ms; time constants of 15 and 20 ms; masks of 100 ms.
                spikes=Spikes(preset="10ms", dt=0.004),
                network=DelayedLIF(
                    hidden=512, layers=2, max_delay=75, per="axon", tau=3.75, readout_tau=5.0, dropout=0.25
                ),
                tail=112,
                augment=SpikeAugment(channel_shift=2, shift=0.05, time_mask=25, channel_mask=10),
                delays=_to_whole_steps(),
                optimizer=Optimizer(lr=5e-3, lr_delay=0.25, weight_decay=1e-5),
                epochs=40,
                batch_size=128,
                ema=0.999,
            ),
        ),
        "gsc": (
            "Google Speech Commands, all words or --data.words 12, from sound; needs --data",
            Recipe(
                name="gsc",
                data=Data(kind="speech-commands"),
                frontend=Mel(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=50.0),
                network=DelayedLIF(hidden=256, layers=2, max_delay=24, tau=1.5, dropout=0.25),
                tail=36,
                augment=Augment(shift=0.1, gain=6.0, background=0.0, speed=0.1, pitch=0.05, band_mask=7, time_mask=14),
                delays=_to_whole_steps(),
                optimizer=Optimizer(lr=5e-3, weight_decay=1e-5),
                epochs=40,
                batch_size=128,
                ema=0.999,
            ),
        ),
    }


def _to_whole_steps() -> Delays:
    """Sigma falls to where rounding changes 9 % of a current (44 % at 0.5), and the last tenth trains what will run."""
    return Delays(sigma_end=0.1, until=0.8, round_at=0.9)


def _heard_in_two_ways() -> dict[str, tuple[str, Recipe]]:
    """One network and budget behind two ears; what is varied is the same, on each one's own axis of pitch."""
    common: dict[str, Any] = {
        "network": DelayedLIF(hidden=128, layers=2, max_delay=24, dropout=0.2),
        "tail": 36,
        "delays": _to_whole_steps(),
        "optimizer": Optimizer(lr=5e-3),
        "epochs": 30,
        "batch_size": 64,
        "ema": 0.99,
    }
    return {
        "fsdd-cochlea": (
            "spoken digits as spikes: a folder of recordings, heard once by a cochlea, 140 channels; needs --data",
            Recipe(
                name="fsdd-cochlea",
                data=Data(kind="cochlea", validation=0.0),
                frontend=None,
                spikes=Spikes(preset="10ms"),
                augment=SpikeAugment(channel_shift=2, shift=0.05, time_mask=10, channel_mask=10),
                **common,
            ),
        ),
        "fsdd-mel": (
            "its twin: the same network, steps and training, behind 140 mel bands; needs --data",
            Recipe(
                name="fsdd-mel",
                data=Data(validation=0.0),
                # The window is 25 ms; the long transform puts a bin into each of the narrow bands.
                frontend=Mel(sample_rate=8000, n_fft=1024, win_length=200, hop_length=80, n_mels=140, fmin=50.0),
                augment=Augment(pitch=0.08, shift=0.05, time_mask=10, band_mask=10),
                **common,
            ),
        ),
    }


def _as_published() -> dict[str, tuple[str, Recipe]]:
    """What SNN-delays trains: its hyper-parameters, and what differs, which is said in docs/recipes.md."""

    def spikes(kind: str) -> dict[str, Any]:
        data = Data(kind=kind, validation=0.0)
        return {"data": data, "frontend": None, "spikes": Spikes(preset="10ms"), "augment": SpikeAugment()}

    shd = DelayedLIF(hidden=256, layers=2, max_delay=24, tau=1.005, readout_tau=1.005, dropout=0.4)
    words = DelayedLIF(hidden=512, layers=3, max_delay=30, tau=1.5, readout_tau=1.5, dropout=0.25)
    sound = {
        "data": Data(kind="speech-commands", validation=0.0, duration=1.0),
        "frontend": Mel(
            sample_rate=8000,
            n_fft=256,
            win_length=256,
            hop_length=80,
            n_mels=140,
            fmin=50.0,
            fmax=14000.0,
            beyond_nyquist=True,
            scale="htk",
            norm="none",
            pad_mode="reflect",
            level="db",
            floor=1e-10,
            normalize=False,
        ),
        "augment": Augment(shift=0.0, band_mask=0, time_mask=0),
    }
    return {
        "shd-published": (
            "shd as SNN-delays trains it: 150 epochs, no augmentation, sigma to 0.5, rounded afterwards",
            _published("shd", shd, tail=36, epochs=150, batch_size=256, **spikes("shd")),
        ),
        "ssc-published": (
            "ssc as SNN-delays trains it: three hidden layers of 512, 60 epochs",
            _published("ssc", words, tail=60, epochs=60, batch_size=128, **spikes("ssc")),
        ),
        "gsc-published": (
            "gsc as SNN-delays trains it: the network of ssc-published on 140 mel bands in dB, 100 epochs",
            _published("gsc", words, tail=60, epochs=100, batch_size=128, **sound),
        ),
    }


def _published(name: str, network: DelayedLIF, **more: Any) -> Recipe:
    return Recipe(
        name=f"{name}-published",
        network=network,
        delays=Delays(
            sigma_start=network.max_delay / 2 + 0.27,
            sigma_end=0.5,
            until=more["epochs"] // 4 / more["epochs"],
            round_at=1.0,
            floor=0.27,
            every="epoch",
        ),
        optimizer=Optimizer(
            method="adam",
            lr=5e-3,
            lr_delay=0.1,
            weight_decay=1e-5,
            warmup=0.3,
            delay_schedule="cosine",
            every="epoch",
        ),
        **more,
    )


def find_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a ``.toml`` file, or from a ``.py`` file that defines ``recipe``.

    A ``.toml`` file that says ``base = "digits"`` holds only what it changes in that recipe.

    Args:
        name: a name of :func:`recipes`, or the path of a file.
    Raises:
        ValueError: no such recipe (the nearest names are given), or a file that defines none.
        FileNotFoundError: no such file.

    Example:
        >>> from temporal.training import find_recipe
        >>> find_recipe("digits").frontend.n_mels
        40
    """
    if name.endswith((".toml", ".py")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"{name}: no such recipe file")
        return Recipe.from_toml(name, base=find_recipe) if name.endswith(".toml") else _from_python(Path(name))
    return recipes()[known("recipe", name, recipes())][1]


def _from_python(file: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location(f"recipe_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a program may raise; which line of it did is what its author needs
        raise ValueError(f"{file}{_line_of(error, file)}: {type(error).__name__}: {error}") from error
    found = getattr(module, "recipe", None)
    if not isinstance(found, Recipe):
        raise ValueError(f"{file}: defines no Recipe called 'recipe'")
    return found


def _line_of(error: Exception, file: Path) -> str:
    """Which line of the file was run last when an error came up, as a message names it."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == file.resolve()
    ]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    return f", line {lines[-1]}" if lines else ""
