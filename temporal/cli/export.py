"""``temporal export``."""

from __future__ import annotations

import json as _json
from pathlib import Path

from ._app import Flag, Folder, command


@command
def export(run: Path, /, *, out: Folder = None, json: Flag = False) -> None:
    """Write a trained network's weights and whole-step delays into one file that any language reads, and what it costs.

    Batch normalisation is folded, delays are uint8 (uint16 where one is longer than 255 steps). The file is safetensors;
    what its tensors mean stands in its metadata.

    Examples:
        temporal export runs/digits-20261124-101500
        temporal export runs/digits-20261124-101500 --out digits.safetensors

    Args:
        run: a run folder, or a file of weights.
        out: the file; integers.safetensors in the run's folder otherwise.
        json: print what it costs as one JSON object.
    """
    from dataclasses import asdict

    from temporal.interop import save_integers
    from temporal.models import deploy, load

    model = deploy(load(run))
    file = out or (run if run.is_dir() else run.parent) / "integers.safetensors"
    about = {"labels": list(model.labels or ()), "sample_rate": model.sample_rate}
    cost = save_integers(model.network, file, about)
    print(_json.dumps({"file": str(file)} | asdict(cost)) if json else f"{file}\n{cost}")
