"""What a model is made of, as plain data: it travels in recipes and beside the weights, and builds the layers.

A specification is a dataclass of numbers and names with a ``build`` method. This module imports no torch, so that a
command that only reads or prints a recipe starts at once; ``build`` imports what it needs.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .networks import GRU, DelayedLIF

if TYPE_CHECKING:
    from temporal.frontends import Chain
    from temporal.layers import Model

__all__ = ["Mel", "ModelSpec"]

READOUTS = {
    "sum-softmax": "SumSoftmax",
    "last-step": "LastStep",
    "max-over-time": "MaxOverTime",
    "mean-over-time": "MeanOverTime",
}


@dataclass(frozen=True, kw_only=True)
class Mel:
    """Front end of mel bands: their logarithm, each band normalised by constants fitted on the training recordings.

    Args:
        sample_rate: in Hz.
        n_fft, win_length, hop_length: of the short-time Fourier transform, in samples.
        n_mels: number of bands.
        fmin, fmax: of the bands, in Hz; ``fmax=None`` is half the sample rate.
        beyond_nyquist: let fmax lie above that, where all bands are 0, with a warning; see
            :class:`temporal.frontends.MelSpectrogram`, here and for the next three.
        scale: "slaney" or "htk".
        norm: "slaney", or "none": each band's peak is 1.
        pad_mode: "constant" or "reflect", which needs recordings of one length.
        level: "log", the natural logarithm, or "db".
        floor: power below which the level stays constant.
        normalize: False leaves the levels as they are.
    Raises:
        ValueError: by `build`, an unknown name, and what the front ends refuse.

    Example:
        >>> from temporal.models import Mel
        >>> Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80).build().frames(8000)
        101
    """

    kind: ClassVar[str] = "mel"
    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 40
    fmin: float = 50.0
    fmax: float | None = None
    beyond_nyquist: bool = False
    scale: str = "slaney"
    norm: str = "slaney"
    pad_mode: str = "constant"
    level: str = "log"
    floor: float = 1e-6
    normalize: bool = True

    def build(self) -> Chain:
        from temporal.frontends import AmplitudeToDB, Chain, Log, MelSpectrogram, Normalize

        known("frontend.level", self.level, ("log", "db"))
        mel = MelSpectrogram(
            self.sample_rate,
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=self.fmax,
            beyond_nyquist=self.beyond_nyquist,
            scale=self.scale,  # type: ignore[arg-type]
            norm=None if self.norm == "none" else self.norm,  # type: ignore[arg-type]
            pad_mode=self.pad_mode,  # type: ignore[arg-type]
        )
        level = Log(self.floor) if self.level == "log" else AmplitudeToDB(amin=self.floor)
        return Chain(mel, level, *([Normalize()] if self.normalize else []))

    @property
    def features(self) -> int:
        """Number of features a step."""
        return self.n_mels


FRONTENDS: dict[str, Any] = {Mel.kind: Mel}
NETWORKS: dict[str, Any] = {DelayedLIF.kind: DelayedLIF, GRU.kind: GRU}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything a :class:`temporal.Model` is built from, but its weights.

    Args:
        frontend: specification of the front end; ``None`` for input that is steps already.
        network: specification of the network, with ``build(inputs, classes)``.
        readout: "sum-softmax", "last-step", "max-over-time" or "mean-over-time".
        labels: the names of the classes.
        inputs: features a step; needed only without a front end.
        tail: zero steps appended to every recording.

    Example:
        >>> from temporal.models import DelayedLIF, Mel, ModelSpec
        >>> ModelSpec(frontend=Mel(), network=DelayedLIF(hidden=8), labels=("no", "yes")).build().labels
        ['no', 'yes']
    """

    frontend: Any
    network: Any
    labels: tuple[str, ...]
    readout: str = "sum-softmax"
    inputs: int | None = None
    tail: int = 0

    def build(self, network: Any = None) -> Model:
        """Build the model with fresh weights; ``network`` is put in the place of the specified one."""
        from temporal import layers

        readout = getattr(layers, READOUTS[known("readout", self.readout, READOUTS)])()
        frontend = None if self.frontend is None else self.frontend.build()
        if network is None and isinstance(self.network, dict):
            raise ValueError(
                f"network of kind {self.network.get('kind')!r}: known are {', '.join(sorted(NETWORKS))}; one of your own "
                "comes from a recipe that is a .py file, or is handed in"
            )
        if network is None:
            inputs = self.inputs if self.frontend is None else self.frontend.features
            if inputs is None:
                raise ValueError("ModelSpec: inputs, the number of features a step, is needed without a front end")
            network = self.network.build(inputs=inputs, classes=len(self.labels))
        return layers.Model(frontend, network, readout, labels=self.labels, tail=self.tail)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, names and lists, as they are stored beside the weights."""
        return {
            "frontend": part_to_dict(self.frontend),
            "network": part_to_dict(self.network),
            "labels": list(self.labels),
            "readout": self.readout,
            "inputs": self.inputs,
            "tail": self.tail,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ModelSpec:
        """The inverse of :meth:`to_dict`. A network that is not one of ours stays a dict with its ``kind``."""
        network = stored["network"]
        own = network.get("kind") in NETWORKS
        return cls(
            frontend=part_from_dict("front end", stored["frontend"], FRONTENDS),
            network=part_from_dict("network", network, NETWORKS) if own else network,
            labels=tuple(stored["labels"]),
            readout=stored["readout"],
            inputs=stored["inputs"],
            tail=stored["tail"],
        )


def part_to_dict(part: Any) -> dict[str, Any] | None:
    """A specification as a dict with its ``kind``; a class of the user's own is named by its full name."""
    if part is None:
        return None
    if isinstance(part, dict):
        return part
    kind = getattr(part, "kind", None) or f"{type(part).__module__}.{type(part).__qualname__}"
    return {"kind": kind} | (
        dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else {}
    )


def part_from_dict(what: str, stored: dict[str, Any] | None, kinds: dict[str, Any]) -> Any:
    """The specification that a dict with a ``kind`` describes."""
    if stored is None:
        return None
    kind = kinds[known(f"kind of {what}", stored.get("kind"), kinds)]
    fields = {field.name for field in dataclasses.fields(kind)}
    given = {key: value for key, value in stored.items() if key != "kind"}
    for key in given:
        known(f"{kind.kind} option", key, fields)
    return kind(**given)


def known(what: str, name: Any, names: Any) -> Any:
    """``name`` if it is one of ``names``; else an error that lists them, the nearest first."""
    if name in names:
        return name
    nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(f"unknown {what} {name!r}: {hint}known: {', '.join(sorted(names))}")
