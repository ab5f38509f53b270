"""Training a recipe: one loop, every random number drawn from (seed, step or epoch, recording).

Nothing in a run depends on what was drawn before, so a run that was killed anywhere and continued from a checkpoint, which
lies between two steps, gives the same bits as one that was not. Several processes share each batch of one: the first alone
writes and talks.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from ._fields import differences
from ._ranks import Ranks
from ._training import Interrupted, Training, taken
from .progress import Progress
from .recipe import Recipe
from .run import Run, alone, is_blank

__all__ = ["Interrupted", "train"]


def train(
    recipe: Recipe,
    out: str | os.PathLike | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    checkpoint_every: float = 300.0,
    progress: Progress | None = None,
) -> Run:
    """Train a recipe into a run folder, evaluate it once on its test part, and draw its pictures.

    In processes that ``torchrun`` started, each calls this with the same arguments and they train one run together, on the
    batches of one process.

    Args:
        recipe: what to train.
        out: the run folder; ``None`` is a new ``runs/NAME-DATE-TIME``.
        resume: continue the run in ``out``, which must have been started with this recipe. On a CPU it comes to the same
            bits as if it had never been stopped, wherever it was. A finished run stays as it is.
        device: "auto", "cpu" or "cuda".
        checkpoint_every: seconds, 0 or more, after which a checkpoint is written within an epoch; there is one after each
            epoch besides. Changes nothing in the result.
        progress: where progress is shown; ``None`` shows nothing.
    Returns:
        The run. ``run.result()`` is the test result, ``run.model()`` the trained model.
    Raises:
        FileExistsError: ``out`` exists and ``resume`` is not set.
        FileNotFoundError: nothing to resume, or no recordings there.
        BlockingIOError: another process trains in ``out``.
        ValueError: a run of another recipe or version, a damaged checkpoint; recordings that cannot be split or read, or
            that are not those with which the run began.
        OSError: the run cannot be written. A full disk ends a run only if it is still full after the last epoch.
        FloatingPointError: a loss that is not finite.
        Interrupted: Ctrl-C or SIGTERM; resume later.
    """
    if not checkpoint_every >= 0:
        raise ValueError(f"train: checkpoint_every={checkpoint_every}; 0 or more seconds is right")
    ranks = Ranks(device)
    progress = progress if progress is not None and ranks.first else Progress.silent()
    with ranks.failing_as_one({FloatingPointError: 1, Interrupted: 130}):
        run, finished = ranks.from_first(lambda: _asked(recipe, out, resume))
        if finished:
            progress.say(f"run folder: {run.folder}: finished already, nothing is left to train")
            return run
        with contextlib.ExitStack() as held:
            begun = ranks.first and resume and run.recipe_file.is_file()
            if begun:
                held.enter_context(alone(run.folder))
            training = Training(run, recipe, ranks, progress, checkpoint_every)
            if ranks.first:
                if not begun:
                    training.begin(held)
                progress.say(f"run folder: {run.folder}")
                training.settle()
            training.fit()
            training.finish()
    return run


def _asked(recipe: Recipe, out: str | os.PathLike | None, resume: bool) -> tuple[Run, bool]:
    """The run that is meant, and whether it has ended already."""
    run = _resumed(recipe, out) if resume else _fresh(recipe, out)
    return run, resume and run.is_finished()


def _fresh(recipe: Recipe, out: str | os.PathLike | None) -> Run:
    """The run to be made; its folder is made only when training can begin."""
    if out is None:
        folder = Path("runs") / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        while folder.exists():  # two within a second
            folder = folder.with_name(f"{folder.name}-again")
        return Run(folder)
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and is_blank(folder)):
        raise taken(folder)
    return Run(folder)


def _resumed(recipe: Recipe, out: str | os.PathLike | None) -> Run:
    """The run to be continued, which must be of the same recipe; one that was killed before it wrote that is begun anew."""
    if out is None:
        raise ValueError("train: resume=True needs out, the folder of the run to continue")
    if Path(out).is_dir() and is_blank(Path(out)):
        return Run(Path(out))
    run = Run.open(out)
    changed = differences(run.recipe().to_dict(), recipe.to_dict())
    if changed:
        list_of = ", ".join(f"{key} (there {theirs!r}, here {ours!r})" for key, (theirs, ours) in changed.items())
        raise ValueError(f"{out}: cannot be resumed, it is a run of another recipe: {list_of}")
    return run
