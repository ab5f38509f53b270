"""``temporal evaluate``."""

from __future__ import annotations

import json as _json
from pathlib import Path

from ._app import Flag, Folder, command


@command
def evaluate(
    run: Path,
    /,
    *,
    data: Folder = None,
    split: str | None = None,
    on_error: str | None = None,
    engines: int = 8,
    json: Flag = False,
) -> None:
    """Evaluate a trained run as it is deployed: whole-step delays, folded normalisation, in float64.

    Beside the accuracy it says how the figure came about, how speakers fare who were heard in training and who were not,
    and how far whole recordings, a stream and the event engine are apart.

    Examples:
        temporal evaluate runs/digits-20261124-101500
        temporal evaluate runs/digits-20261124-101500 --data recordings
        temporal evaluate runs/digits-20261124-101500 --engines 50

    Args:
        run: a run folder.
        data: a folder or file of the recipe's kind: all its recordings, unless --split is given; the run's own test part
            otherwise.
        split: a split rule; only its test part.
        on_error: raise on a recording that cannot be read, or skip it and count.
        engines: recordings that are run as a stream and through the event engine, too, to compare; 0: none.
        json: print the result as one JSON object, with one prediction a recording.
    """
    from temporal.training import Progress
    from temporal.training import evaluate as run_evaluation

    progress = Progress()
    with progress.evaluating() as done:
        result = run_evaluation(run, data, split, on_error=on_error, engines=engines, progress=done)
    for line in result.remarks:
        progress.say(line)
    print(_json.dumps(result.to_dict(), ensure_ascii=False) if json else result)
