"""What outlives the runs of a study: for each finished cell a small plain file, and the names of the recordings once.

``results/CELL.json`` holds the recipe with its hash, what the run said of each test recording, as the number of a class,
what it cost, and where it was trained; ``results/recordings_HASH.json`` the names, classes and speakers of these recordings,
which all cells that were tested on them share. Weights are not there: they are in the run folders.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from temporal.training import Recipe, Run
from temporal.training._fields import differences
from temporal.training.protocol import Heard, heard
from temporal.training.run import write_json

from .study import Cell, Study

__all__ = ["FOLDER", "CellResult", "found_in", "keep", "result_of", "take_over", "without_place"]

FOLDER = "results"
_FORMAT = 1
_WORD = " "  # between the predictions, which are one string: a list would be a line each

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished cell.

    Args:
        cell, arm, fold, seed: whose it is.
        recipe: with which it was trained, as plain tables.
        split, epochs: the rule that said which recordings test, and how long it was trained.
        classes: their names.
        files, speakers, targets, predictions: of each test recording its name, who speaks ("" where unknown), its class,
            and the class that was predicted.
        trained_speakers: whom it was trained on; ``None`` where nobody knows.
        parameters: that are learned; ``None`` where the model could not be read.
        activity: of the deployed network on some of the test recordings: "recordings" of "of", "seconds_per_step",
            "spikes" (``None`` without spiking neurons), "additions", "products", "depth" and "max_delay" in steps
            (``None`` without delays), "uncounted" layers; else "missing" says why there is none.
        delays: "before" and "after" training, each a list of tables "layer", "counts", "learned", "first"; empty where
            nobody noted them.
        last_epoch: its metrics.
        seconds, threads, device, versions: of its training.
    """

    cell: str
    arm: str
    fold: str
    seed: int
    recipe: dict[str, Any]
    split: str
    epochs: int
    classes: list[str]
    files: list[str]
    speakers: list[str]
    targets: list[int]
    predictions: list[int]
    trained_speakers: list[str] | None = None
    parameters: int | None = None
    activity: dict[str, Any] = field(default_factory=dict)
    delays: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    last_epoch: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    threads: int | None = None
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def right(self) -> dict[str, bool]:
        """Of each recording, by fold and name, whether it was recognised."""
        return {f"{self.fold}/{name}": right for name, right in zip(self.files, self._right, strict=True)}

    @property
    def correct(self) -> int:
        """Number of recordings that were recognised."""
        return sum(self._right)

    @property
    def total(self) -> int:
        """Number of recordings."""
        return len(self.files)

    @property
    def heard(self) -> Heard:
        """The recordings by whether their speakers were heard in training."""
        return heard(self.speakers, self._right, self.trained_speakers)

    @property
    def _right(self) -> list[bool]:
        return [true == said for true, said in zip(self.targets, self.predictions, strict=True)]


def result_of(folder: Path, cell: Cell) -> CellResult | None:
    """The result of a cell, from its file or else from its run; ``None`` before it is finished.

    Args:
        folder: of the study.
        cell: a cell of it.
    Raises:
        ValueError: a file that is damaged, was edited, or is of another recipe.
    """
    if _file(folder, cell).is_file():
        return _read(folder / FOLDER, cell)
    run = Run(folder / "runs" / cell.key)
    return _from_run(cell, run, measured=False) if run.has_result() else None


def keep(folder: Path, cell: Cell, run: Run) -> CellResult:
    """Write the result of a finished run, after measuring its network once, into the study's folder."""
    result = _from_run(cell, run, measured=True)
    _write(folder / FOLDER, result)
    return result


def found_in(source: Path, study: Study) -> list[CellResult]:
    """The results of a study's cells that lie elsewhere.

    Args:
        source: a folder of results, or of a study that has one.
        study: of which cells are looked for.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no result; a result that is damaged, or of another recipe.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder of results")
    inner = source / FOLDER if (source / FOLDER).is_dir() else source
    if not any(inner.glob("*.json")):
        raise ValueError(f"{source}: holds no results; {FOLDER}/ of a study's folder is right")
    return [_read(inner, cell) for cell in study.cells() if (inner / f"{cell.key}.json").is_file()]


def take_over(results: Sequence[CellResult], folder: Path) -> int:
    """Write results from elsewhere into a study's folder; returns how many it had not had."""
    new = [result for result in results if not (folder / FOLDER / f"{result.cell}.json").is_file()]
    for result in new:
        _write(folder / FOLDER, result)
    return len(new)


def _file(folder: Path, cell: Cell) -> Path:
    return folder / FOLDER / f"{cell.key}.json"


def _write(results: Path, result: CellResult) -> None:
    results.mkdir(parents=True, exist_ok=True)
    names = {name: getattr(result, name) for name in ("classes", "files", "speakers", "targets")}
    which = _digest(names)
    recordings = results / f"recordings_{which}.json"
    if not recordings.is_file():
        write_json(recordings, names | {"targets": _WORD.join(map(str, result.targets))})
    stored = {name: value for name, value in vars(result).items() if name not in names}
    stored["predictions"] = _WORD.join(map(str, result.predictions))
    about: dict[str, Any] = {
        "format": _FORMAT,
        "accuracy": result.correct / result.total,
        "correct": result.correct,
        "total": result.total,
    }
    about |= {"recipe_hash": _digest(result.recipe), "recordings": which}
    write_json(results / f"{result.cell}.json", about | stored)


def _read(results: Path, cell: Cell) -> CellResult:
    file = results / f"{cell.key}.json"
    stored = _json(file)
    try:
        if stored["format"] != _FORMAT:
            raise ValueError(f"{file}: of format {stored['format']}, this version of temporal reads {_FORMAT}")
        recordings = results / f"recordings_{stored['recordings']}.json"
        names = _json(recordings) if recordings.is_file() else None
        if names is None:
            raise ValueError(f"{file}: needs {recordings.name} beside it, which names the recordings")
        names["targets"] = [int(number) for number in names["targets"].split()]
        if _digest(stored["recipe"]) != stored["recipe_hash"] or _digest(names) != stored["recordings"]:
            raise ValueError(f"{file}: it, or {recordings.name}, is not as it was written")
        predictions = [int(number) for number in stored["predictions"].split()]
        fields = {item.name for item in dataclasses.fields(CellResult)}
        plain = {name: value for name, value in stored.items() if name in fields}
        result = CellResult(**(plain | names | {"predictions": predictions}))
        if len(result.predictions) != len(result.files):
            raise ValueError(f"{file}: {len(result.predictions)} predictions of {len(result.files)} recordings")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not a result of a study ({type(error).__name__}: {error})") from None
    _check_recipe(file, result, cell)
    return result


def _check_recipe(file: Path, result: CellResult, cell: Cell) -> None:
    """The recipe must be the cell's, but for the place of the recordings, which is another one on another machine."""
    try:
        theirs = without_place(result.recipe)
    except ValueError as error:
        raise ValueError(f"{file}: holds a recipe that this version of temporal does not know: {error}") from None
    changed = differences(theirs, without_place(cell.recipe.to_dict()))
    if changed:
        name, (there, here) = next(iter(changed.items()))
        raise ValueError(
            f"{file}: of another recipe: {name} is {there!r} there, not {here!r} ({len(changed)} differences); move it "
            "away, or choose another folder with --out"
        )


def without_place(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as this version writes it, without where its recordings lie."""
    whole = Recipe.from_dict(recipe).to_dict()
    return whole | {"data": {name: value for name, value in whole["data"].items() if name not in ("path", "download")}}


def _json(file: Path) -> dict[str, Any]:
    try:
        stored = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: not readable, perhaps cut off ({error})") from None
    if not isinstance(stored, dict):
        raise ValueError(f"{file}: not what temporal writes")
    return stored


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _from_run(cell: Cell, run: Run, *, measured: bool) -> CellResult:
    from temporal.training.health import read_health
    from temporal.training.sessions import read_sessions

    stored = run.result() or {}
    model = _tried(run.model)
    rows = stored["predictions"]
    classes = list(model.labels or []) if model is not None else []
    classes += sorted({row[name] for row in rows for name in ("label", "prediction")} - set(classes))
    number = {label: place for place, label in enumerate(classes)}
    metrics, sessions, health = _tried(run.metrics) or [], read_sessions(run), read_health(run)
    last = sessions[-1] if sessions else {}
    delays = [line.get("delays", []) for line in (health[:1] + health[-1:]) if len(health) > 1]
    return CellResult(
        cell=cell.key,
        arm=cell.arm,
        fold=cell.fold,
        seed=cell.seed,
        recipe=cell.recipe.to_dict(),
        split=stored.get("split", cell.recipe.data.split),
        epochs=stored.get("epochs", cell.recipe.epochs),
        classes=classes,
        files=[row["file"] for row in rows],
        speakers=[row.get("speaker", "") for row in rows],
        targets=[number[row["label"]] for row in rows],
        predictions=[number[row["prediction"]] for row in rows],
        trained_speakers=stored.get("trained_speakers"),
        parameters=None if model is None else sum(p.numel() for p in model.parameters() if p.requires_grad),
        activity=_activity(cell.recipe, model) if measured else {"missing": "not measured"},
        delays=dict(zip(("before", "after"), delays, strict=False)),
        last_epoch=metrics[-1] if metrics else {},
        seconds=round(sum(row.get("seconds", 0.0) for row in metrics), 1) if metrics else None,
        threads=last.get("threads"),
        device=last.get("device", ""),
        versions=last.get("versions", {}),
    )


def _activity(recipe: Recipe, model: Any) -> dict[str, Any]:
    """What a network does with some of its test recordings, which have been judged by now."""
    from temporal.analysis import count_delays
    from temporal.models import deploy
    from temporal.training.activity import activity_of
    from temporal.training.data import open_part, seconds_per_step

    if model is None:
        return {"missing": "the model could not be read"}
    try:
        test = open_part(recipe, "test", labels=model.labels)
        found = activity_of(deploy(model).cpu(), test)
    except (OSError, ValueError) as error:
        return {"missing": str(error)}
    delays = count_delays(model.network)
    return {
        "recordings": found.recordings,
        "of": len(test),
        "seconds_per_step": seconds_per_step(model, test),
        "spikes": found.spikes_per_recording if found.layers else None,
        "additions": found.additions_per_recording,
        "products": found.products_per_recording,
        "depth": found.buffer_depth if delays else None,
        "max_delay": max(part.steps[-1] for part in delays) if delays else None,
        "uncounted": list(found.unknown),
    }


def _tried(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError):
        return None
