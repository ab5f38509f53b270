"""``temporal report``."""

from __future__ import annotations

import json as _json
from pathlib import Path

from ._app import Flag, Folder, command


@command
def report(
    runs: list[Path],
    /,
    *,
    out: Folder = None,
    data: Folder = None,
    recording: list[str] | None = None,
    json: Flag = False,
) -> None:
    """Write a report of a run, or of several side by side: one HTML file that needs no network, pictures beside it.

    Curves, confusions, accuracy by class and speaker with confidence intervals, delays before and after, spikes of chosen
    recordings, firing rates, operations, buffers, configuration, versions, and what ailed the training. What `temporal
    evaluate` says of a run is printed, too.

    Examples:
        temporal report runs/digits-20261124-101500
        temporal report runs/a runs/b --out comparison.html
        temporal report runs/a --recording 7_anna_3.wav --recording 2_ben_0.wav

    Args:
        runs: run folders, finished or not.
        out: the file; report.html in the run folder otherwise, or, of several runs, here.
        data: where the recordings are now, if they have moved.
        recording: a test recording whose spikes are drawn, again for each; else the surest, the least sure, and the surest
            mistake.
        json: print the names of the files as one JSON object.
    """
    from temporal.training import Progress
    from temporal.training import report as write_report

    file = write_report(runs, out, data=data, recordings=recording or (), progress=Progress())
    pictures = file.with_name(f"{file.stem}_pictures")
    if json:
        names = sorted(str(path) for path in pictures.glob("*.png"))
        print(_json.dumps({"report": str(file), "pictures": names}, ensure_ascii=False))
    else:
        print(file)
