"""The process that measures: reads what to do from standard input, writes the results to the file that it is given."""

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ._machine import describe
from ._measure import QUICK, Pace, measure, measure_memory
from ._run import group_module

__all__: list[str] = []

_BUSY = 0.5  # load average before anything is measured: somebody else's work, which halves what two threads get


def _work(request: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    if request["threads"] is not None:
        torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    console = Console(stderr=True, highlight=False)
    pace = QUICK if request["quick"] else Pace()
    machine = describe()
    if request["allocator"] == "pinned" and not request["quick"] and (load := machine["load_average"] or 0.0) > _BUSY:
        console.print(
            f"the machine is busy (load average {load}): these times will be too long, and spread", style="bold"
        )
    builders = group_module(request["group"]).cases(request["quick"])
    chosen = request["only"] or dict.fromkeys(range(len(builders)), ())
    results: list[Any] = []
    for index, names in chosen.items():
        case = builders[index]()
        console.print(f"{request['group']}: {case.name}, {case.shape} ({request['allocator']} allocator)", markup=False)
        if request["allocator"] == "returning":
            results += [measure_memory(case, name) for name in names]
        else:
            results.append(measure(case, allocator=request["allocator"], names=names, pace=pace))
    return machine, results


if __name__ == "__main__":
    try:
        answer = _work(pickle.load(sys.stdin.buffer))
    except KeyboardInterrupt:  # the process that started this one says it
        sys.exit(130)
    Path(sys.argv[1]).write_bytes(pickle.dumps(answer))
