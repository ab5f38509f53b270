"""``temporal train`` and ``temporal recipes``."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ._app import Flag, Folder, Overrides, RecipeName, command

if TYPE_CHECKING:
    from temporal.training import Recipe


@command
def train(
    recipe: Annotated[RecipeName, Parameter(show_choices=False)],
    /,
    *overrides: Overrides,
    data: Folder = None,
    split: str | None = None,
    out: Folder = None,
    epochs: int | None = None,
    seed: int | None = None,
    on_error: str | None = None,
    device: str = "auto",
    checkpoint_every: float = 300.0,
    resume: Flag = False,
    dry_run: Flag = False,
    json: Flag = False,
) -> None:
    """Train a recipe into a run folder, and evaluate it once on its test part.

    Any field of the recipe can be set: --network.hidden 256 --optimizer.lr 1e-3 (see --dry-run for all of them).

    Examples:
        temporal train digits
        temporal train digits --data recordings --split speaker=anna
        temporal train shd --data shd --dry-run
        temporal train digits --resume --out runs/digits-20261124-101500
        torchrun --standalone --nproc-per-node 2 -m temporal train digits

    Args:
        recipe: a name (see `temporal recipes`), or a .toml or .py file.
        data: a folder of recordings: class folders, or files named LABEL_SPEAKER_INDEX.wav; of a recipe for spikes, the
            folder of the published files, or one file in their layout, or with --data.kind cochlea a folder of recordings.
        split: which recordings test: auto, official, lists, hash, speaker=NAME or random.
        out: the run folder; a new one in runs/ otherwise.
        epochs: passes over the training recordings.
        seed: of every random number.
        on_error: raise on a recording that cannot be read, or skip it and count.
        device: auto, cpu or cuda.
        checkpoint_every: seconds after which a checkpoint is written within an epoch; each epoch ends with one besides.
        resume: continue the run in --out, or the newest unfinished run of this recipe.
        dry_run: print the recipe and the plan (steps, parameters, memory, hours from measured steps), and train nothing.
        json: print the result as one JSON object.
    """
    from temporal.training import find_recipe

    changes: dict[str, Any] = _pairs(overrides)
    given = {"data.path": data and str(data), "data.split": split, "data.on_error": on_error}
    changes |= {key: value for key, value in (given | {"epochs": epochs, "seed": seed}).items() if value is not None}
    chosen = find_recipe(recipe)
    if resume:
        out, chosen = _to_resume(chosen, out, changes)
    else:
        chosen = chosen.override(changes)
    from temporal.training._ranks import is_first

    if dry_run:
        return _show_plan(chosen, device, json) if is_first() else None

    from temporal.training import Progress
    from temporal.training import train as run_training

    run = run_training(
        chosen, out, resume=resume, device=device, checkpoint_every=checkpoint_every, progress=Progress()
    )
    if not is_first():  # of several processes under torchrun
        return
    result = run.result() or {}
    if json:
        print(_json.dumps({"run": str(run.folder)} | result, ensure_ascii=False))
    else:
        print(f"accuracy: {100 * result['accuracy']:.2f} % ({result['correct']} of {result['total']})")


@command
def recipes(*, json: Flag = False) -> None:
    """List the recipes that have a name.

    Examples:
        temporal recipes
        temporal recipes --json

    Args:
        json: print them whole, as one JSON object.
    """
    from temporal.training import recipes as named

    if json:
        print(_json.dumps({name: recipe.to_dict() for name, (_, recipe) in named().items()}))
        return
    for name, (about, _) in named().items():
        print(f"{name:14} {about}")


def _pairs(tokens: tuple[str, ...]) -> dict[str, str]:
    """("--a.b", "1", "--c=2") -> {"a.b": "1", "c": "2"}."""
    changes, rest = {}, list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            raise ValueError(f"unexpected argument {token!r}: options look like --network.hidden 256")
        name, equals, value = token[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"option --{name} needs a value, or does not exist (see temporal train --help)")
            value = rest.pop(0)
        changes[name.replace("-", "_")] = value
    return changes


def _to_resume(recipe: Recipe, out: Path | None, changes: dict[str, Any]) -> tuple[Path, Recipe]:
    """The run to continue and its own recipe, which must be the one asked for."""
    from temporal.training import Run
    from temporal.training.run import is_blank

    if out is None:
        runs = sorted(Path("runs").glob(f"{recipe.name}-*"), key=lambda folder: folder.stat().st_mtime)
        open_runs = [folder for folder in runs if Run(folder).recipe_file.is_file() and not Run(folder).has_result()]
        if not open_runs:
            raise FileNotFoundError(f"no unfinished run of {recipe.name!r} in runs/: name one with --out FOLDER")
        out = open_runs[-1]
    if out.is_dir() and is_blank(out):  # killed before it wrote what it is
        return out, recipe.override(changes)
    stored = Run.open(out).recipe().with_network_of(recipe)
    if stored.name != recipe.name:
        raise ValueError(f"{out}: a run of recipe {stored.name!r}, not of {recipe.name!r}")
    asked = stored.override(changes)
    if asked != stored:
        from temporal.training._fields import differences

        changed = differences(stored.to_dict(), asked.to_dict())
        what = ", ".join(f"{key} is {was}, not {new}" for key, (was, new) in changed.items())
        raise ValueError(f"{out}: a run cannot change while it is resumed: {what}")
    return out, stored


def _show_plan(recipe: Recipe, device: str, json: bool) -> None:
    """The recipe, and what it will take; as text it is a recipe file, in which the latter are comments."""
    from temporal.training import plan

    planned = plan(recipe, device=device)
    if json:
        print(_json.dumps(recipe.to_dict() | {"plan": planned.to_dict()}))
        return
    import tomli_w

    print(tomli_w.dumps(recipe.to_dict()))
    print("\n".join(f"# {line}" for line in str(planned).splitlines()))
