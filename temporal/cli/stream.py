"""``temporal stream``."""

from __future__ import annotations

import json as _json
import sys
from pathlib import Path
from typing import Any

from ._app import Flag, command


@command
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

    Examples:
        temporal stream runs/digits-20261124-101500 --input recording.wav
        temporal stream runs/digits-20261124-101500 --input recording.wav --threshold 0.6 --json

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
