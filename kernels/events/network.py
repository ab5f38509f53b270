"""What the event engine runs: a network as stages, each of synapses that make a current and the neurons it drives."""

from typing import Any, NamedTuple

import numpy as np

from .._scan import Family

__all__ = ["Cell", "Rows", "Stage", "Taps", "taps_of"]


class Rows(NamedTuple):
    """Synapses of which all that leave an input have its delay: an axonal delay, or none; one row of weights an event.

    weight: [inputs, outputs], float32, or int8 beside a stage's ``scale``.
    delay: of each input, in steps, int64.
    """

    weight: np.ndarray
    delay: np.ndarray


class Taps(NamedTuple):
    """Synapses with delays of their own. Those of input i are the entries first[i] .. first[i + 1] of the other arrays.

    first: [inputs + 1], int64.
    delay: [taps], in steps, int64.
    target: [taps], the output that a synapse leads to, int64.
    weight: [taps], as in ``Rows``.
    """

    first: np.ndarray
    delay: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Cell(NamedTuple):
    """The neurons of a stage: a family's equations with these knobs, each [outputs], float32, and how they fire.

    rest: of each part of the state at the beginning.
    emits_v: what leaves the stage is the membrane, not the spikes.
    """

    family: Family
    knobs: Any
    hard: bool
    strict: bool
    rest: tuple[float, ...]
    emits_v: bool


class Stage(NamedTuple):
    """One layer: synapses, and neurons or none.

    With events (i, value) at step t, where i is the input and value 1 for a spike, a stage computes

        y[t,o] = sum of w value over the events at t - d that synapses i -> o with delay d led from
        z[t,o] = scale[o] (y[t - late[o],o] + what ``back`` brings) + bias[o]
        s[t]   = cell(z[t])                          (no cell: z[t] itself)

    and what of s[t] is not zero are the events of the next stage. ``back`` are synapses from s to the stage's own current,
    with delays of at least one step, to which the dendritic delays add nothing.

    size: outputs.
    late: None, or dendritic delays [size] in steps, int64.
    bias, scale: None, or float32 [size].
    """

    inputs: int
    size: int
    forward: Rows | Taps
    back: Rows | Taps | None = None
    late: np.ndarray | None = None
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None
    cell: Cell | None = None

    @property
    def depth(self) -> int:
        """Steps for which what was sent may still be under way, up to a dendritic delay."""
        return max(_largest(self.forward), _largest(self.back) if self.late is None else 0)

    @property
    def late_depth(self) -> int:
        """Steps for which what comes to a dendritic delay, and with it what comes back, may still be under way."""
        return 0 if self.late is None else max(int(self.late.max(initial=0)), _largest(self.back))


def _largest(synapses: Rows | Taps | None) -> int:
    return 0 if synapses is None else int(synapses.delay.max(initial=0))


def taps_of(kernel: np.ndarray) -> Taps:
    """The synapses of a kernel over lags [outputs, inputs, lags], lag 0 first: its entries that are not zero.

    >>> kernel = np.zeros((2, 1, 3), np.float32)
    >>> kernel[0, 0, 2], kernel[1, 0, 0] = 0.5, -1.0
    >>> taps_of(kernel)._asdict()["delay"]
    array([2, 0])
    """
    by_input = np.ascontiguousarray(kernel.transpose(1, 0, 2))
    source, target, delay = np.nonzero(by_input)
    first = np.searchsorted(source, np.arange(len(by_input) + 1))
    return Taps(first.astype(np.int64), delay, target, by_input[source, target, delay].astype(np.float32, copy=False))
