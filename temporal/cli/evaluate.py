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
    engines: int | None = None,
    json: Flag = False,
) -> None:
    """Evaluate a trained run as it is deployed: with whole-step delays, in float64.

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
        engines: run so many recordings as a stream and through the event engine, too, and say how far the answers differ.
        json: print the result as one JSON object, with one prediction a recording.
    """
    from temporal.training import Progress
    from temporal.training import evaluate as run_evaluation

    progress = Progress()
    with progress.evaluating() as done:
        result = run_evaluation(run, data, split, on_error=on_error, progress=done)
    for message in result.messages:
        progress.say(message)
    told = result.to_dict()
    if engines is not None:
        from temporal.training import engines_agree

        agreement = engines_agree(run, data, split, recordings=engines, on_error=on_error)
        told["engines"] = agreement.to_dict()
        progress.say(str(agreement))
    print(_json.dumps(told, ensure_ascii=False) if json else result)
