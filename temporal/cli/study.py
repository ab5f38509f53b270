"""``temporal study``."""

from __future__ import annotations

import dataclasses
import json as _json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ._app import Flag, Folder, Overrides, command
from .train import _pairs

if TYPE_CHECKING:
    from temporal.studies import Study
    from temporal.training import Recipe

StudyName = Literal["delays", "ingredients", "cochlea"] | str  # so that shells complete it


@command
def study(
    study: Annotated[StudyName, Parameter(show_choices=False)],
    /,
    *overrides: Overrides,
    recipe: str | None = None,
    data: Folder = None,
    split: str | None = None,
    folds: str | None = None,
    seeds: str | None = None,
    parameters: str | None = None,
    epochs: int | None = None,
    out: Folder = None,
    results: Folder = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    threads: int | None = None,
    retries: int = 2,
    device: str = "auto",
    dry_run: Flag = False,
    json: Flag = False,
) -> int:
    """Train a recipe in several variants and with several seeds, in parallel, and compare them in tables and pictures.

    Stopped by whatever, the same command goes on: finished runs are kept, begun ones continue. Any field of the recipe can
    be set for all variants: --network.hidden 256. The status is 1 if a run failed for good.

    Examples:
        temporal study delays --data recordings --seeds 0,1,2 --jobs 2
        temporal study delays --data recordings --folds speakers --seeds 0
        temporal study cochlea --data recordings
        temporal study delays --data recordings --recipe commands --parameters 100000 --network.max_delay 30
        temporal study mine.toml --out studies/mine --dry-run
        temporal study mine.toml --scheduler tcp://node17:8786

    Args:
        study: a name (delays, cochlea), or a .toml file; docs/studies.md says what it holds.
        recipe: start from this recipe instead of the study's.
        data: as of `temporal train`.
        split: which recordings test.
        folds: speakers: leave each speaker of the data out in turn.
        seeds: such as 0,1,2.
        parameters: how many numbers the arms learn that are made equally large, or an arm that learns so many.
        epochs: passes over the training recordings.
        out: the study's folder; studies/NAME otherwise.
        results: a folder of results from elsewhere, or a study's folder: cells found there count as finished.
        jobs: runs at once here; one a processor otherwise, fewer where memory is short.
        scheduler: address of a Dask scheduler, whose workers run instead.
        threads: of each run; the processors divided among the runs otherwise.
        retries: how often a run that fails is continued.
        device: auto, cpu or cuda.
        dry_run: print the runs, and train nothing.
        json: print the summary as one JSON object.
    """
    from temporal.studies import find_study, run_study

    chosen = find_study(study)
    changes: dict[str, Any] = _pairs(overrides)
    given = {"data.path": data and str(data.absolute()), "data.split": split, "epochs": epochs}
    changes |= {key: value for key, value in given.items() if value is not None}
    chosen = _asked(chosen, recipe, changes, seeds, folds, parameters)
    if dry_run:
        chosen = chosen.equalized()
        for arm in chosen.equal:
            print(f"{arm}: {chosen.arms[arm]['network.hidden']} hidden neurons a layer", file=sys.stderr)
        cells = {cell.key: cell.recipe.to_dict() for cell in chosen.cells()}
        print(_json.dumps({"study": chosen.name, "cells": cells}) if json else "\n".join(cells))
        return 0
    outcome = run_study(
        chosen,
        out,
        results=results,
        jobs=jobs,
        scheduler=scheduler,
        threads=threads,
        retries=retries,
        device=device,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(_json.dumps(outcome.summary.to_dict(), ensure_ascii=False) if json else outcome.summary)
    return 1 if outcome.failed else 0


def _asked(
    study: Study,
    recipe: str | None,
    changes: dict[str, Any],
    seeds: str | None,
    folds: str | None,
    parameters: str | None,
) -> Study:
    """A study with what the command line changes in it."""
    from temporal.training import find_recipe

    start = study.recipe if recipe is None else find_recipe(recipe)
    study = dataclasses.replace(study, recipe=start.override(changes))
    if seeds is not None:
        study = dataclasses.replace(study, seeds=_numbers(seeds))
    if parameters is not None:
        study = dataclasses.replace(study, parameters=int(parameters) if parameters.isdecimal() else parameters)
    return study if folds is None else _with_folds(study, folds)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--seeds {text}: whole numbers with commas between them are right, such as 0,1,2") from None


def _with_folds(study: Study, folds: str) -> Study:
    if folds != "speakers":
        raise ValueError(f"--folds {folds}: speakers is right; other folds are written into a study's file")
    speakers = _speakers(study.recipe)
    if len(speakers) < 2:
        raise ValueError(
            f"--folds speakers: {len(speakers)} speakers are known in these recordings; two at least are needed"
        )
    return dataclasses.replace(study, folds={name: {"data.split": f"speaker={name}"} for name in speakers})


def _speakers(recipe: Recipe) -> list[str]:
    """Who can be left out: of a folder of published files, only who is in the training file, which is what is cut."""
    from temporal.training.data import open_part

    part = "all"
    if recipe.spikes is not None and recipe.data.path is not None and Path(recipe.data.path).is_dir():
        recipe = recipe.override({"data.split": "official", "data.validation": 0.0})
        part = "train"
    return sorted(set(open_part(recipe, part).speakers) - {""})
