"""Events into steps: spike times and units in, counts [steps, channels] out; and the check that they are spikes at all."""

from typing import NamedTuple

import numpy as np

from .._dispatch import Backends

__all__ = ["PROBLEMS", "Span", "bin_events", "span"]

# What `span` found, by number; 0 is nothing.
PROBLEMS = {
    1: "is not a finite number",
    2: "is negative",
    3: "is beyond the latest time allowed",
    4: "is no unit",
}

# The compiled loops run anywhere that numba does, so nothing is ever refused.
_BACKENDS = Backends("binning", __name__, cpu=lambda: None, reference=lambda: None)


class Span(NamedTuple):
    """When a recording's first and last spike come, in seconds (0 without spikes), whether times ascend, and what is wrong.

    ``problem`` is a key of ``PROBLEMS`` or 0; ``where`` is the first spike that has it, else -1.
    """

    first: float
    last: float
    ascending: bool
    problem: int
    where: int


def span(times: np.ndarray, units: np.ndarray, units_in_all: int, latest: float) -> Span:
    """One pass over a recording: what it spans, and whether all its spikes are such.

    Args:
        times: [events] in seconds, any floating type.
        units: [events], any integer type, as many.
        units_in_all: units are 0 .. units_in_all - 1.
        latest: largest time that is allowed, in seconds.
    """
    found = _BACKENDS.choose().span(_doubles(times), units, units_in_all, latest)
    return Span(float(found[0]), float(found[1]), bool(found[2]), int(found[3]), int(found[4]))


def bin_events(
    times: np.ndarray, units: np.ndarray, out: np.ndarray, *, dt: float, start: float = 0.0, merge: int = 1
) -> None:
    """Add every spike to the step and the channel that it falls into.

    out[k, u // merge] += 1,  for the largest k with start + k * dt <= t, in float64

    Spikes before ``start`` or in a step that ``out`` does not have are left out, and so are channels that it lacks.

    Args:
        times: [events] in seconds, finite, any floating type and any order.
        units: [events], any integer type, as many, >= 0.
        out: [steps, channels] float32, contiguous in channels; it is added to.
        dt: length of a step, in seconds, > 0.
        start: when the first step begins, in seconds.
        merge: so many neighbouring units make a channel, >= 1.

    >>> out = np.zeros((3, 2), np.float32)
    >>> bin_events(np.array([0.0, 0.011, 0.012, 0.5]), np.array([3, 0, 1, 0]), out, dt=0.01, merge=2)
    >>> out
    array([[0., 1.],
           [2., 0.],
           [0., 0.]], dtype=float32)
    """
    _BACKENDS.choose().bin_events(_doubles(times), units, out, float(dt), float(start), int(merge))


def _doubles(times: np.ndarray) -> np.ndarray:
    """Times as float64: exact for all that files hold, float16 included, which compiled code does not know."""
    return np.ascontiguousarray(times, dtype=np.float64)
