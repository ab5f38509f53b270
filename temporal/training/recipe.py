"""A recipe: everything that a training run is, as plain data.

A recipe is changed from Python (``dataclasses.replace`` or :meth:`Recipe.override`), from a TOML file, and from the command
line, and is written into the run folder. This module imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporal._files import write_atomically
from temporal.models.networks import DelayedLIF
from temporal.models.specs import FRONTENDS, NETWORKS, READOUTS, Mel, known, part_to_dict

from ._fields import flat, override, plain
from .spikes import SpikeAugment, Spikes

__all__ = ["Augment", "Data", "Delays", "Optimizer", "Recipe"]

_WITHIN = "a part of the training, above 0 and at most 1,"
_SCHEDULES, _EVERY = ("one-cycle", "cosine", "constant"), ("step", "epoch")
_SOUND, _SPIKES = ("folder", "speech-commands"), ("shd", "ssc", "cochlea")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the recordings come from, and how they are split.

    Args:
        path: a folder of recordings, or a file of spikes; ``None`` is the recipe's embedded data set, if it has one.
        kind: what is there: "folder" (of any recordings), "speech-commands", "shd" or "ssc" (the published files, or one
            file in their layout), or "cochlea": a folder of any recordings that are to be spikes, which a cochlea makes of
            them once and the cache keeps; see :func:`temporal.datasets.spikes_of_folder`.
        embedded: name of the embedded data set: "spoken-digits" or ``None``.
        split: the rule that says which recordings test: "auto", "official", "lists", "hash", "speaker=NAME" or "random".
        validation: part of the training recordings that is held out to watch a run, 0..1, unless the data set has such a
            part; of spikes also "speaker=NAME,NAME": what these say. Nothing is chosen on it.
        on_error: "raise" on a recording that cannot be read, or "skip" it and count.
        words: of Speech Commands: 35, 30, 12 (ten words, silence, and unknown words), or ``None``: every folder.
        silence_from: of the 12 words: what silence is made from, "noise" or "zeros".
        download: fetch the published files into ``path`` if they are not there.
        duration: of sound: every recording is cut, or filled up with silence, to so many seconds; ``None``: each is as long
            as it is. A stream hears recordings as they are.
    """

    path: str | None = None
    kind: str = "folder"
    embedded: str | None = None
    split: str = "auto"
    validation: float | str = 0.1
    on_error: str = "raise"
    words: int | None = None
    silence_from: str = "noise"
    download: bool = False
    duration: float | None = None


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is varied in a training recording, drawn from (seed, epoch, recording).

    Args:
        shift: largest shift in time to either side, in seconds.
        gain: largest change of level to either side, in dB.
        equalize: the same at single frequencies, in dB: another microphone; see :class:`temporal.datasets.Equalize`.
        reverb: longest reverberation time of a room, in seconds; see :class:`temporal.datasets.Reverb`.
        reverb_share: part of the recordings that are in a room, 0..1.
        lead: longest silence put before a recording on top of that, in seconds, so that a word is known in a stream.
        noise: signal to noise at the loudest noise that is added, in dB; the softest is 50 dB softer.
        background: the same for recorded noise, the softest 20 dB softer, where the data set has a folder of it.
        background_share: part of the recordings that get any of that, 0..1.
        silence: recordings of noise alone, as a part of a batch, of which the right answer is no class at all: all
            classes alike. It keeps a stream silent where nobody speaks.
        speed: largest change of tempo, as a part: 0.1 is 10 % faster or slower.
        pitch: largest stretch of the spectrum over the bands, as a part.
        band_mask: widest run of neighbouring bands that is masked, in bands.
        time_mask: longest run of frames that is masked, in frames.
    """

    shift: float = 0.1
    lead: float = 0.0
    gain: float = 0.0
    equalize: float = 0.0
    reverb: float = 0.0
    reverb_share: float = 0.5
    noise: float | None = None
    background: float | None = None
    background_share: float = 0.8
    silence: float = 0.0
    speed: float = 0.0
    pitch: float = 0.0
    band_mask: int = 7
    time_mask: int = 10


@dataclass(frozen=True, kw_only=True)
class Delays:
    """How delays learn: their kernels narrow (:class:`temporal.delays.DelaySchedule`), synapses go, the loss may shape them.

    Args:
        sigma_start: their standard deviation at first, in steps; ``None`` is half of the longest delay.
        sigma_end: the same when the narrowing ends.
        until: the part of training, 0..1, after which sigma stays at its end.
        round_at: the part of training after which delays are whole steps and only weights learn; 1: never in training.
        floor: what does not shrink of sigma, in steps, below sigma_end; 0.27 in the published networks.
        every: sigma changes with each "step" or "epoch".
        prune: share of the synapses with delays that is taken out, the weakest of the whole network, in [0, 1); 0: none.
            See :func:`temporal.delays.prune_delays`.
        prune_at: the part of training, in [0, 1), after which that happens, at once.
        depth_penalty: what :func:`temporal.delays.depth_penalty` is multiplied by in the loss, >= 0: short delays.
        spread_penalty: the same of :func:`temporal.delays.spread_penalty`: delays spread over their range.
    """

    sigma_start: float | None = None
    sigma_end: float = 0.3
    until: float = 0.6
    round_at: float = 0.9
    floor: float = 0.0
    every: str = "step"
    prune: float = 0.0
    prune_at: float = 0.6
    depth_penalty: float = 0.0
    spread_penalty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam, one rate for weights and one for delays, and how they change.

    Args:
        method: "adamw", or "adam", where the decay is part of the gradient.
        lr: largest learning rate of weights.
        lr_delay: largest learning rate of delays, in steps per update.
        weight_decay: decay of weights; delays and normalisation have none.
        warmup: the part of training, 0..1, in which the rate rises.
        schedule: of the rates: "one-cycle" (a twenty-fifth, up to the largest, down to nothing), "cosine" (up in a line,
            down as a cosine) or "constant".
        delay_schedule: of the delays' rate: "same", or one of these, without a rise.
        every: the rates change with each "step" or "epoch".
    """

    method: str = "adamw"

    lr: float = 2e-3
    lr_delay: float = 0.1
    weight_decay: float = 1e-4
    warmup: float = 0.1
    schedule: str = "one-cycle"
    delay_schedule: str = "same"
    every: str = "step"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: data, front end, network, schedule, optimiser.

    Args:
        name: what the run is called.
        data, delays, optimizer: see their classes.
        augment: an :class:`Augment` for sound, a :class:`SpikeAugment` for spikes.
        frontend, network: specifications of :mod:`temporal.models`; ``network`` may be a dataclass of one's own with
            ``build(inputs, classes)``.
        spikes: how recordings that are spikes become steps; the front end is ``None`` then. ``None`` for sound.
        readout: "sum-softmax", "last-step", "max-over-time" or "mean-over-time".
        tail: zero steps appended to every recording.
        epochs: passes over the training recordings, fixed beforehand: the last epoch's model is the result.
        batch_size: recordings an update.
        ema: decay an update, 0..1, of an exponential moving average of the weights, which is what is validated, saved and
            tested while the weights themselves train on: 0.99 averages some 100 updates, 0 none.
        seed: of every random number in the run.
    Raises:
        ValueError: a number outside its range, an unknown name, parts that do not go together.

    Example:
        >>> from temporal.training import Recipe
        >>> recipe = Recipe(name="mine", epochs=5)
        >>> recipe.override({"network.hidden": "64", "optimizer.lr": "1e-3"}).network.hidden
        64
    """

    name: str
    data: Data = field(default_factory=Data)
    frontend: Any = field(default_factory=Mel)
    spikes: Spikes | None = None
    network: Any = field(default_factory=DelayedLIF)
    readout: str = "sum-softmax"
    tail: int = 0
    augment: Augment | SpikeAugment = field(default_factory=Augment)
    delays: Delays = field(default_factory=Delays)
    optimizer: Optimizer = field(default_factory=Optimizer)
    epochs: int = 30
    batch_size: int = 64
    ema: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        known("readout", self.readout, READOUTS)
        known("on_error", self.data.on_error, ("raise", "skip"))
        known("optimizer.method", self.optimizer.method, ("adamw", "adam"))
        known("optimizer.schedule", self.optimizer.schedule, _SCHEDULES)
        known("optimizer.delay_schedule", self.optimizer.delay_schedule, ("same", *_SCHEDULES))
        known("optimizer.every", self.optimizer.every, _EVERY)
        known("delays.every", self.delays.every, _EVERY)
        known("kind of data", self.data.kind, (*_SOUND, *_SPIKES))
        self._check_kinds()
        sound = self.augment if isinstance(self.augment, Augment) else Augment()
        delays, wide, length = self.delays, self.delays.sigma_start, self.data.duration
        for name, value, good, right in (
            ("epochs", self.epochs, self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size, self.batch_size >= 2, "at least 2"),
            ("ema", self.ema, 0 <= self.ema < 1, "0 or more, below 1"),
            ("seed", self.seed, 0 <= self.seed < 2**31, "0 to 2^31 - 1"),
            ("tail", self.tail, self.tail >= 0, "0 or more steps"),
            ("data.validation", self.data.validation, *_validation(self.data)),
            ("data.duration", length, length is None or 0 < length < math.inf, "more than 0 seconds"),
            ("delays.sigma_start", wide, wide is None or wide > 0, "above 0 steps"),
            ("delays.sigma_end", delays.sigma_end, delays.sigma_end > 0, "above 0 steps (rounding follows by itself)"),
            ("delays.until", delays.until, 0 < delays.until <= 1, _WITHIN),
            ("delays.round_at", delays.round_at, 0 < delays.round_at <= 1, _WITHIN),
            ("delays.floor", delays.floor, delays.floor >= 0, "0 or more steps"),
            ("delays.prune", self.delays.prune, 0 <= self.delays.prune < 1, "0 or more, below 1"),
            ("delays.prune_at", self.delays.prune_at, 0 <= self.delays.prune_at < 1, "0 or more, below 1"),
            ("delays.depth_penalty", self.delays.depth_penalty, self.delays.depth_penalty >= 0, "0 or more"),
            ("delays.spread_penalty", self.delays.spread_penalty, self.delays.spread_penalty >= 0, "0 or more"),
            ("optimizer.lr", self.optimizer.lr, self.optimizer.lr > 0, "above 0"),
            ("optimizer.lr_delay", self.optimizer.lr_delay, self.optimizer.lr_delay >= 0, "0 or more"),
            ("optimizer.weight_decay", self.optimizer.weight_decay, self.optimizer.weight_decay >= 0, "0 or more"),
            ("optimizer.warmup", self.optimizer.warmup, 0 < self.optimizer.warmup < 1, "above 0, below 1"),
            ("augment.shift", sound.shift, sound.shift >= 0, "0 or more seconds"),
            ("augment.gain", sound.gain, sound.gain >= 0, "0 or more dB"),
            ("augment.equalize", sound.equalize, 0 <= sound.equalize < math.inf, "0 or more dB"),
            ("augment.reverb", sound.reverb, sound.reverb == 0 or 0.1 < sound.reverb < math.inf, "0, or above 0.1 s"),
            ("augment.reverb_share", sound.reverb_share, 0 <= sound.reverb_share <= 1, "0..1"),
            ("augment.lead", sound.lead, sound.lead >= 0, "0 or more seconds"),
            ("augment.silence", sound.silence, 0 <= sound.silence <= 1, "0..1"),
            ("augment.background_share", sound.background_share, 0 <= sound.background_share <= 1, "0..1"),
            ("augment.speed", sound.speed, sound.speed >= 0, "0 or more"),
            ("augment.pitch", sound.pitch, sound.pitch >= 0, "0 or more"),
            ("augment.band_mask", sound.band_mask, sound.band_mask >= 0, "0 or more bands"),
            ("augment.time_mask", sound.time_mask, sound.time_mask >= 0, "0 or more frames"),
        ):
            if not good:
                raise ValueError(f"Recipe: {name}={value}; {right} is right")

    def _check_kinds(self) -> None:
        """Front end, spikes, augmentation and data set belong to one of two kinds of recordings."""
        if self.spikes is None:
            if isinstance(self.augment, SpikeAugment):
                raise ValueError(
                    "Recipe: augment=SpikeAugment(...) is for spikes; give spikes=Spikes(), or Augment(...)"
                )
            if self.data.kind in _SPIKES:
                raise ValueError(
                    f"Recipe: data.kind={self.data.kind!r} holds spikes; give frontend=None, spikes=Spikes()"
                )
            return
        if self.frontend is not None:
            raise ValueError("Recipe: spikes are steps already; frontend=None is right beside spikes=Spikes(...)")
        if not isinstance(self.augment, SpikeAugment):
            raise ValueError("Recipe: augment=Augment(...) is for sound; SpikeAugment(...) is right for spikes")
        if self.data.duration is not None:
            raise ValueError(
                "Recipe: data.duration is for sound; for spikes spikes.duration cuts, and a binning fills up"
            )
        if self.data.kind not in _SPIKES:
            right = f"{', '.join(_SPIKES[:-1])} or {_SPIKES[-1]}"
            raise ValueError(f"Recipe: data.kind={self.data.kind!r} holds sound; for spikes {right} is right")

    def override(self, changes: dict[str, Any]) -> Recipe:
        """A copy with some fields changed; keys are dotted, values are of the field's type or text that reads as it.

        Raises:
            ValueError: an unknown key (the nearest is named), or a value of another type.
        """
        return override(self, changes)

    def with_network_of(self, recipe: Recipe) -> Recipe:
        """A copy whose network, where it is of a class that only a file of the user's knows, is an object of that class.

        A recipe that was read from TOML holds such a network as a dict.

        Args:
            recipe: has a network of that class; the fields of ``self`` are kept.
        """
        theirs = part_to_dict(recipe.network) or {}
        if not isinstance(self.network, dict) or theirs.get("kind") != self.network.get("kind"):
            return self
        fields = {key: value for key, value in flat(self.network).items() if key != "kind"}
        return dataclasses.replace(self, network=override(recipe.network, fields))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, names and tables; fields that are ``None`` are left out, as TOML has no such value."""
        parts = {"frontend": part_to_dict(self.frontend) or {"kind": "none"}, "network": part_to_dict(self.network)}
        return plain(self) | plain(parts)

    @classmethod
    def from_dict(cls, stored: dict[str, Any], start: Recipe | None = None) -> Recipe:
        """The inverse of :meth:`to_dict`; fields that are absent are those of ``start``, or have their defaults.

        A network that is not one of ours stays a dict.
        """
        stored = {key: dict(value) if isinstance(value, dict) else value for key, value in stored.items()}
        _check_tables(stored)
        if start is None:
            if "name" not in stored:
                raise ValueError('a recipe needs a name, or base = "NAME" of the recipe that it changes')
            start = cls(name=str(stored["name"]))
        kind = stored.get("frontend", {}).pop("kind", None)
        if kind is not None:
            known("kind of front end", kind, [*FRONTENDS, "none"])
            start = dataclasses.replace(start, frontend=None if kind == "none" else FRONTENDS[kind]())
        if "spikes" in stored and start.spikes is None:
            data = dataclasses.replace(start.data, kind=stored.get("data", {}).get("kind", "shd"))
            start = dataclasses.replace(start, frontend=None, data=data, spikes=Spikes(), augment=SpikeAugment())
        kind = stored.get("network", {}).get("kind")
        if kind in NETWORKS:
            del stored["network"]["kind"]
            start = dataclasses.replace(start, network=NETWORKS[kind]())
        elif kind is not None:
            start = dataclasses.replace(start, network=stored.pop("network"))
        return override(start, flat(stored))

    @classmethod
    def from_toml(cls, file: str | os.PathLike, base: Callable[[str], Recipe] | None = None) -> Recipe:
        """Read a recipe from a TOML file, in the form of :meth:`from_dict`.

        Args:
            file: the file.
            base: finds the recipe that ``base = "NAME"`` in the file starts from; see :func:`find_recipe`.
        Raises:
            FileNotFoundError: no such file.
            ValueError: broken TOML, unknown fields (the nearest are named), values of another type.
        """
        import tomllib

        try:
            stored = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            start = base(str(stored.pop("base"))) if base is not None and "base" in stored else None
            return cls.from_dict(stored, start)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{file}: not valid TOML: {error}") from None
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def to_toml(self, file: str | os.PathLike) -> None:
        """Write the recipe as TOML; :meth:`from_toml` reads the same recipe back. The file appears whole or not at all."""
        import tomli_w

        content = tomli_w.dumps(self.to_dict()).encode()
        write_atomically(Path(file), lambda opened: opened.write(content))


def _check_tables(stored: dict[str, Any]) -> None:
    """The parts of a recipe are tables, and say by name of which kind they are."""
    for name in ("data", "frontend", "spikes", "network", "augment", "delays", "optimizer"):
        part = stored.get(name, {})
        if not isinstance(part, dict):
            raise ValueError(f"{name} = {part!r}: a table is right, [{name}] with its options below")
        if not isinstance(part.get("kind", ""), str):
            raise ValueError(f"{name}.kind = {part['kind']!r}: a name is right")


def _validation(data: Data) -> tuple[bool, str]:
    """Whether data.validation can be used, and what is right."""
    if not isinstance(data.validation, str):
        return 0 <= data.validation < 1, "0 or more, below 1"
    good = data.kind in _SPIKES and bool(data.validation.removeprefix("speaker=").strip(" ,"))
    return good and data.validation.startswith("speaker="), 'a part, or, of spikes, "speaker=NAME,NAME"'
