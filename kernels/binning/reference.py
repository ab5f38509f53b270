"""What binning is, in plain numpy: one spike after the other where that is clearer than an expression."""

import numpy as np

__all__ = ["bin_events", "span"]


def span(times: np.ndarray, units: np.ndarray, units_in_all: int, latest: float) -> tuple:
    """first, last, ascending, problem, where."""
    finite = np.isfinite(times)
    tests = (~finite, finite & (times < 0), finite & (times > latest), (units < 0) | (units >= units_in_all))
    for where in np.flatnonzero(np.logical_or.reduce(tests))[:1]:
        problem = next(number for number, test in enumerate(tests, start=1) if test[where])
        return 0.0, 0.0, False, problem, where
    if not times.size:
        return 0.0, 0.0, True, 0, -1
    return times.min(), times.max(), bool((np.diff(times) >= 0).all()), 0, -1


def bin_events(times: np.ndarray, units: np.ndarray, out: np.ndarray, dt: float, start: float, merge: int) -> None:
    """Add the spikes to ``out``."""
    steps, channels = out.shape
    # Edges as products, the way numpy's linspace and arange make them: a quotient t / dt may round across one.
    edges = start + np.arange(steps + 1) * dt
    step = np.searchsorted(edges, times, side="right") - 1
    channel = units.astype(np.int64) // merge
    inside = (step >= 0) & (step < steps) & (channel < channels)
    np.add.at(out, (step[inside], channel[inside]), np.float32(1))
