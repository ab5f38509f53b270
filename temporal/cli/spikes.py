"""``temporal spikes``."""

from __future__ import annotations

import json as _json
import sys
from pathlib import Path
from typing import Literal

from ._app import Flag, command


@command
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


def _tenths(done: int, total: int) -> None:
    """Progress where there is no terminal for a bar: a line a tenth."""
    if done and done * 10 // total > (done - 1) * 10 // total:
        print(f"converting: {done} of {total}", file=sys.stderr, flush=True)
