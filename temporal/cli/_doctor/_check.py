"""Some ten seconds of real work: a few operators against the truth, and beside what this machine can do at most.

A process of its own does it, with the allocator pinned as for `temporal bench`: what kills it is then a finding.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ._finding import Finding

__all__ = ["check"]

_PATIENCE = 600.0  # seconds: kernels may have to be compiled first, on a slow machine


def check() -> Iterator[Finding]:
    """One finding a case, computed elsewhere."""
    import temporal
    from temporal.benchmarks._machine import PINNED, RETURNING

    environment = {name: value for name, value in os.environ.items() if name not in PINNED | RETURNING} | PINNED
    root = str(Path(temporal.__path__[0]).parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", f"{__package__}._cases"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_PATIENCE, text=True)
    except subprocess.TimeoutExpired:
        yield Finding("process", f"not done in {_PATIENCE:g} s, and stopped", "problem")
        return
    yield from (Finding(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{"))
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        yield Finding("process", f"the process that computes ended with {how}: {last}", "problem")
