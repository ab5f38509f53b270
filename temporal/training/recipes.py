"""The recipes that have a name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from temporal.models.specs import DelayedLIF, Mel, known

from .recipe import Augment, Data, Optimizer, Recipe

__all__ = ["find_recipe", "recipes"]


def recipes() -> dict[str, tuple[str, Recipe]]:
    """All named recipes: name -> (one line of what it is, the recipe)."""
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
        "commands": (
            "spoken commands in folders with validation_list.txt and testing_list.txt, one second each; needs --data",
            Recipe(
                name="commands",
                data=Data(split="lists"),
                frontend=Mel(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=50.0),
                network=DelayedLIF(hidden=256, layers=2, max_delay=24, dropout=0.2),
                tail=24,
                augment=Augment(shift=0.1, gain=6.0, silence=0.1, speed=0.1, pitch=0.05, band_mask=7, time_mask=14),
            ),
        ),
    }


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
    spec.loader.exec_module(module)
    found = getattr(module, "recipe", None)
    if not isinstance(found, Recipe):
        raise ValueError(f"{file}: defines no Recipe called 'recipe'")
    return found
