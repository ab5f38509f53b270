"""A trained model in one file: weights and the specification that rebuilds it, nothing that runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from temporal._files import write_atomically

from .specs import NETWORKS, ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from temporal.layers import Model

__all__ = ["load", "save"]

FORMAT = 1
WEIGHTS = "model.safetensors"


def save(model: Model, spec: ModelSpec, file: str | os.PathLike) -> None:
    """Write a model's weights (safetensors) with its specification; the file appears whole or not at all.

    Args:
        model: the model, built from ``spec``.
        spec: stored as JSON in the file's metadata.
        file: path to write.
    Raises:
        OSError: it cannot be written; what was there is kept.
    """
    from safetensors.torch import save as packed

    import temporal

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    about = {"format": FORMAT, "temporal": temporal.__version__, "model": spec.to_dict()}
    content = packed(tensors, metadata={"temporal": json.dumps(about)})
    write_atomically(Path(file), lambda opened: opened.write(content))


def load(source: str | os.PathLike, network: nn.Module | None = None) -> Model:
    """Load a trained model from a run folder or a ``.safetensors`` file, in evaluation mode.

    Holds weights and the names of temporal's own classes, nothing else: no code from the file is executed.

    Args:
        source: a run folder (its ``model.safetensors``) or such a file.
        network: the network, for a run that was trained with a class of the user's own; it is given the weights.
    Raises:
        FileNotFoundError: no such folder or file, or a run that has not finished its first epoch.
        ValueError: a truncated or foreign file, a network that needs to be handed in, weights that do not fit.

    Example:
        >>> import tempfile, temporal
        >>> from temporal.models import DelayedLIF, Mel, ModelSpec, save
        >>> spec = ModelSpec(frontend=Mel(), network=DelayedLIF(hidden=8), labels=("no", "yes"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(spec.build(), spec, f"{folder}/model.safetensors")
        ...     temporal.load(folder).labels
        ['no', 'yes']
    """
    from temporal.delays import DelayedLinear

    file = _find(Path(source))
    spec, tensors = _read(file)
    if network is None and isinstance(spec.network, dict):
        raise ValueError(
            f"{file}: its network {spec.network['kind']!r} is not one of temporal's ({', '.join(sorted(NETWORKS))}): "
            "build it and hand it in, temporal.load(run, network=...)"
        )
    model = spec.build(network)
    masks = {f"{name}.alive" for name, layer in model.named_modules() if isinstance(layer, DelayedLinear)}
    expected, found = set(model.state_dict()) | (masks & tensors.keys()), set(tensors)  # of layers that were pruned
    if expected != found:
        raise ValueError(f"{file}: weights do not fit the network: {_difference(expected, found)}")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:  # torch lists the shapes, one a line
        raise ValueError(f"{file}: weights do not fit the network: {str(error).splitlines()[-1].strip()}") from None
    return model.eval()


def read_spec(source: str | os.PathLike) -> ModelSpec:
    """The specification stored in a run folder or file."""
    return _read(_find(Path(source)))[0]


def _find(source: Path) -> Path:
    file = source / WEIGHTS if source.is_dir() else source
    if not file.exists():
        if not source.exists():
            raise FileNotFoundError(f"{source}: no such run folder or file")
        raise FileNotFoundError(f"{source}: holds no {WEIGHTS}: is it a run folder, and has its first epoch ended?")
    return file


def _read(file: Path) -> tuple[ModelSpec, dict]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {}).get("temporal", "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not a readable safetensors file, perhaps truncated ({error})") from None
    if not isinstance(about, dict):
        raise ValueError(f"{file}: a safetensors file, but not one that temporal wrote (it lacks the specification)")
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{file}: written in format {about.get('format')} by temporal {about.get('temporal')}; this version reads "
            f"format {FORMAT}"
        )
    try:
        return ModelSpec.from_dict(about["model"]), tensors
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: its specification is not one that this version knows ({error})") from None


def _difference(expected: set[str], found: set[str]) -> str:
    parts = []
    if expected - found:
        parts.append("missing " + ", ".join(sorted(expected - found)[:4]))
    if found - expected:
        parts.append("not of this network " + ", ".join(sorted(found - expected)[:4]))
    return "; ".join(parts)
