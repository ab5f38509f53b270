"""The command ``temporal``: thin functions over the packages, loaded only when a command needs them."""

from __future__ import annotations

import json as _json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

import temporal

if TYPE_CHECKING:
    from temporal.training import Recipe

app = App(
    name="temporal",
    help="Train spiking networks with learned delays on recordings, evaluate them, and run them on a stream.",
    version=temporal.__version__,
    suppress_keyboard_interrupt=False,  # what was interrupted says how to go on
)

Folder = Annotated[Path | None, Parameter(accepts_keys=False)]
Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Flag = Annotated[bool, Parameter(negative="")]


@app.command
def train(
    recipe: str,
    /,
    *overrides: Overrides,
    data: Folder = None,
    split: str | None = None,
    out: Folder = None,
    epochs: int | None = None,
    seed: int | None = None,
    on_error: str | None = None,
    device: str = "auto",
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
    torchrun --nproc-per-node 2 -m temporal train digits

    Args:
        recipe: a name (see `temporal recipes`), or a .toml or .py file.
        data: a folder of recordings: class folders, or files named LABEL_SPEAKER_INDEX.wav; of a recipe for spikes, the
            folder of the published files, or one file in their layout.
        split: which recordings test: auto, official, lists, hash, speaker=NAME or random.
        out: the run folder; a new one in runs/ otherwise.
        epochs: passes over the training recordings.
        seed: of every random number.
        on_error: raise on a recording that cannot be read, or skip it and count.
        device: auto, cpu or cuda.
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

    run = run_training(chosen, out, resume=resume, device=device, progress=Progress())
    if not is_first():  # of several processes under torchrun
        return
    result = run.result() or {}
    if json:
        print(_json.dumps({"run": str(run.folder)} | result, ensure_ascii=False))
    else:
        print(f"accuracy: {100 * result['accuracy']:.2f} % ({result['correct']} of {result['total']})")


@app.command
def evaluate(
    run: Path, /, *, data: Folder = None, split: str | None = None, on_error: str | None = None, json: Flag = False
) -> None:
    """Evaluate a trained run as it is deployed: with whole-step delays, in float64.

    Examples:
    temporal evaluate runs/digits-20261124-101500
    temporal evaluate runs/digits-20261124-101500 --data recordings

    Args:
        run: a run folder.
        data: a folder or file of the recipe's kind: all its recordings, unless --split is given; the run's own test part
            otherwise.
        split: a split rule; only its test part.
        on_error: raise on a recording that cannot be read, or skip it and count.
        json: print the result as one JSON object, with one prediction a recording.
    """
    from temporal.training import Progress
    from temporal.training import evaluate as run_evaluation

    progress = Progress()
    with progress.evaluating() as done:
        result = run_evaluation(run, data, split, on_error=on_error, progress=done)
    for message in result.messages:
        progress.say(message)
    print(_json.dumps(result.to_dict(), ensure_ascii=False) if json else result)


@app.command
def stream(
    run: Path,
    /,
    *,
    input: Path,
    chunk: float = 0.02,
    window: float = 0.7,
    threshold: float = 0.9,
    refractory: float = 0.7,
    json: Flag = False,
) -> None:
    """Run a trained network over a recording of any length, chunk by chunk, and print what it hears.

    Prints a line an event as it comes, START END LABEL SCORE (times in seconds), and at the end `file: LABEL SCORE`:
    the decision over the whole file, equal to that of `temporal evaluate`.

    Args:
        run: a run folder.
        input: an audio file.
        chunk: length of a chunk, in seconds; the answers do not depend on it.
        window: seconds of output that an event looks back on.
        threshold: an event's score, the softmax of the readout over the window, must lie above it, 0..1. Lower hears
            more, and more that was not said.
        refractory: seconds of silence after an event; a word that fills the window for longer is told again.
        json: print one JSON object at the end instead.
    """
    from temporal.datasets import read_header
    from temporal.models import deploy, load
    from temporal.streaming import Event, stream_file

    model = deploy(load(run))
    events: list[dict[str, Any]] = []
    for heard in stream_file(model, input, chunk, window=window, threshold=threshold, refractory=refractory):
        if isinstance(heard, Event):
            events.append(heard._asdict())
            if not json:
                print(f"{heard.start:8.2f} {heard.end:8.2f}  {heard.label}  {heard.score:.3f}", flush=True)
        else:
            decision = heard  # always the last
    header = read_header(input)
    if header.sample_rate != model.sample_rate:
        print(f"{input}: resampled from {header.sample_rate:g} Hz to {model.sample_rate:g} Hz", file=sys.stderr)
    if header.channels > 1:
        print(f"{input}: {header.channels} channels averaged to one", file=sys.stderr)
    if json:
        print(_json.dumps({"events": events, **decision._asdict()}, ensure_ascii=False))
    else:
        print(f"file: {decision.label} {decision.score:.6f}")


@app.command
def spikes(
    audio_dir: Path,
    out: Path,
    /,
    *,
    sample_rate: int = 16000,
    preset: Literal["lauscher", "article"] = "lauscher",
    membrane: Literal["travelling_wave", "gammatone"] = "travelling_wave",
    seed: int = 0,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    json: Flag = False,
) -> None:
    """Convert a folder of recordings into a file of spikes in SHD's layout, through a cochlea: for `temporal train shd`.

    Labels, speakers, names and parts of the folder are kept. Stopped by whatever, the same command goes on where it was;
    until all is there, nothing has the file's name. The file does not depend on the number of processes.

    Examples:
    temporal spikes recordings recordings.h5
    temporal train shd --data recordings.h5

    Args:
        audio_dir: a folder of recordings: class folders, or files named LABEL_SPEAKER_INDEX.wav.
        out: the file to make.
        sample_rate: at which recordings are heard, in Hz; others are resampled. SHD and SSC were heard at 48000.
        preset: constants of the hair cells; article needs a sample rate of 36000 or more.
        membrane: travelling_wave, as SHD and SSC, or gammatone, which is lighter.
        seed: of the noise.
        jobs: processes; as many as there are processors otherwise.
        on_error: raise on a recording that cannot be used, or skip it and count.
        json: print the result as one JSON object.
    """
    from temporal.datasets import convert_folder

    done = convert_folder(
        audio_dir,
        out,
        sample_rate=sample_rate,
        preset=preset,
        membrane=membrane,
        seed=seed,
        jobs=jobs,
        on_error=on_error,
        progress=True if sys.stderr.isatty() else _tenths,
    )
    for message in done.messages:
        print(message, file=sys.stderr)
    print(_json.dumps(done.to_dict(), ensure_ascii=False) if json else done)


@app.command
def recipes(*, json: Flag = False) -> None:
    """List the recipes that have a name.

    Args:
        json: print them whole, as one JSON object.
    """
    from temporal.training import recipes as named

    if json:
        print(_json.dumps({name: recipe.to_dict() for name, (_, recipe) in named().items()}))
        return
    for name, (about, _) in named().items():
        print(f"{name:10} {about}")


@app.command
def bench(
    group: str | None = None,
    /,
    *,
    listed: Annotated[bool, Parameter(name="--list", negative="")] = False,
    quick: Flag = False,
    threads: int | None = None,
    out: Folder = None,
    json: Flag = False,
) -> None:
    """Measure speed beside the libraries that do the same, each exact before it is timed, and the machine's own limit.

    The tables go to standard error, and into RESULTS.md, GROUP.json and GROUP.png. The status is not 0 if a contender
    was not exact, or failed.

    Examples:
    temporal bench --list
    temporal bench lif

    Args:
        group: what to measure; every group otherwise.
        listed: list the groups.
        quick: tiny sizes and two rounds, to see that everything works; written only if --out is given.
        threads: that torch may use.
        out: the folder for the results; benchmarks/ in a checkout, else none.
        json: print the results as one JSON object.
    """
    from temporal import benchmarks

    known = benchmarks.list_groups()
    if listed:
        print(_json.dumps(known) if json else "\n".join(f"{name:10} {about}" for name, about in known.items()))
        return

    if out is None and not quick and Path("temporal/benchmarks/__init__.py").is_file():
        out = Path("benchmarks")
    results = []
    for name in [group] if group else known:
        results.append(benchmarks.run(name, quick=quick, threads=threads))
        benchmarks.show(results[-1])
        for file in benchmarks.write(results[-1], out) if out else []:
            print(f"written: {file}", file=sys.stderr)
    if json:
        print(_json.dumps({"groups": [result.to_dict() for result in results]}, ensure_ascii=False))
    if faults := [f"{result.group}: {fault}" for result in results for fault in result.faults]:
        raise ValueError("\n  ".join(["bench: not everything is right", *faults]))


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an expected failure is one or two lines on standard error, and a status that is not 0."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:  # an unknown command or option, a value of another type
        print(f"temporal: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        print(f"temporal: {stopped or 'stopped'}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"temporal: {error}", file=sys.stderr)
        sys.exit(1)


def _tenths(done: int, total: int) -> None:
    """Progress where there is no terminal for a bar: a line a tenth."""
    if done and done * 10 // total > (done - 1) * 10 // total:
        print(f"converting: {done} of {total}", file=sys.stderr, flush=True)


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

    if out is None:
        runs = sorted(Path("runs").glob(f"{recipe.name}-*"), key=lambda folder: folder.stat().st_mtime)
        open_runs = [folder for folder in runs if (folder / "recipe.toml").is_file() and Run(folder).result() is None]
        if not open_runs:
            raise FileNotFoundError(f"no unfinished run of {recipe.name!r} in runs/: name one with --out FOLDER")
        out = open_runs[-1]
    stored = Run.open(out).recipe()
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


if __name__ == "__main__":
    main()
