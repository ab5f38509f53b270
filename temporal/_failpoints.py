"""Named places at which a test ends this process or fills its disk: what a crash leaves behind is tried, not imagined.

The environment variable TEMPORAL_FAILPOINT says what happens; where it is not set, nothing does:

- ``kill NAME COUNT``: SIGKILL when the place is reached for that time, counted from 1;
- ``full NAME COUNT``: the disk is full then (``OSError``, ENOSPC), or, as ``COUNT+``, then and from then on;
- ``trace FILE``: a line with its name for every place that is reached.

NAME may be ``*``: every place counts.
"""

import errno
import os
from collections import Counter

__all__ = ["failpoint"]

VARIABLE = "TEMPORAL_FAILPOINT"
_SIGKILL = 9  # a name that the module signal lacks on Windows
_reached: Counter[str] = Counter()  # of each plan, how many times it could have acted


def failpoint(name: str) -> None:
    """Say that a place is reached."""
    plan = os.environ.get(VARIABLE)
    if plan is not None:
        _act(plan, name)


def _act(plan: str, name: str) -> None:
    action, _, rest = plan.partition(" ")
    if action == "trace":
        with open(rest, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        return
    wanted, _, count = rest.rpartition(" ")
    if wanted not in (name, "*"):
        return
    _reached[plan] += 1
    first = int(count.removesuffix("+"))
    if _reached[plan] == first or (count.endswith("+") and _reached[plan] > first):
        if action == "kill":
            os.kill(os.getpid(), _SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
