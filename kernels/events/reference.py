"""The event engine, one event after the other: the specification of the compiled one.

Of each stage it holds what is under way, ``pending[k, b, o]``: the sum of what will have arrived k + 1 steps from now.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .network import Cell, Rows, Stage, Taps

__all__ = ["Engine"]

Parts = dict[str, np.ndarray]  # of a stage's state, by name


class Engine:
    """Runs stages on events, step by step, from rest.

    Args:
        stages: of the network.
        batch: samples.
    """

    def __init__(self, stages: Sequence[Stage], batch: int):
        self.stages, self.batch = tuple(stages), batch
        self._states = [_rest(stage, batch) for stage in self.stages]

    def state(self) -> list[Parts]:
        """Of each stage ``pending`` [depth, B, size] and ``late`` [late_depth, B, size], in units of the weights, and the
        parts of its cell, by their names, [B, size]; all float32 and independent of the engine."""
        return [{name: part.copy() for name, part in state.items()} for state in self._states]

    def clear(self) -> None:
        """Back to rest."""
        self._states = [_rest(stage, self.batch) for stage in self.stages]

    def load(self, states: Sequence[Parts]) -> None:
        """Take over what ``state`` gave."""
        self._states = [{name: part.copy() for name, part in state.items()} for state in states]

    def advance(
        self, x: np.ndarray, begin: int = 0, end: int | None = None, currents: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take stages begin .. end through the steps of x.

        Args:
            x: what comes to the first of them [T, B, inputs], float32; what is zero is no event.
            begin, end: a range of the stages, all by default.
            currents: [T + depth, B, size] or of fewer steps, but T, float32: what else comes to y of the first of them, in
                units of the weights, at these steps and, from T on, at those to come.
        Returns:
            What the last of them emits, [T, B, size], float32; how many events came to each, [end - begin], int64.
        """
        counts = []
        for number in range(begin, len(self.stages) if end is None else end):
            counts.append(np.count_nonzero(x))
            more = currents if number == begin else None
            x = _through(self.stages[number], self._states[number], x, more)
        return x, np.array(counts, np.int64)

    def first_unsound(self, x: np.ndarray) -> int:
        """The flat place of the first NaN or infinity, or -1."""
        places = np.flatnonzero(~np.isfinite(x))
        return int(places[0]) if len(places) else -1


def _rest(stage: Stage, batch: int) -> Parts:
    shape = (batch, stage.size)
    state = {"pending": np.zeros((stage.depth, *shape), np.float32)}
    if stage.late is not None:
        state["late"] = np.zeros((stage.late_depth, *shape), np.float32)
    if stage.cell is not None:
        names = stage.cell.family.state._fields  # type: ignore[attr-defined]
        state |= {name: np.full(shape, rest, np.float32) for name, rest in zip(names, stage.cell.rest, strict=True)}
    return state


def _through(stage: Stage, state: Parts, x: np.ndarray, currents: np.ndarray | None) -> np.ndarray:
    y = np.zeros((len(x), x.shape[1], stage.size), np.float32)
    row = np.zeros((1, *y.shape[1:]), np.float32)
    under_way = np.concatenate([state["pending"], row])  # row k: k steps from now
    arriving = np.concatenate([state["late"], row]) if stage.late is not None else None
    for t in range(len(x)):
        _send(under_way, stage.forward, x[t])
        current = under_way[0].copy()
        if currents is not None:
            current += currents[t]
        if stage.late is not None and arriving is not None:
            for o, delay in enumerate(stage.late):
                arriving[delay, :, o] += current[:, o]
            current = arriving[0].copy()
        if stage.scale is not None:
            current *= stage.scale
        if stage.bias is not None:
            current += stage.bias
        y[t] = current if stage.cell is None else _fire(stage.cell, state, current)
        if stage.back is not None:
            _send(under_way if arriving is None else arriving, stage.back, y[t])
        if arriving is not None:
            arriving = np.concatenate([arriving[1:], row])
        under_way = np.concatenate([under_way[1:], row])
    if currents is not None:
        rest = currents[len(x) :]
        under_way[: len(rest)] += rest
    state["pending"] = under_way[:-1]
    if arriving is not None:
        state["late"] = arriving[:-1]
    return y


def _send(under_way: np.ndarray, synapses: Rows | Taps, values: np.ndarray) -> None:
    """Every event reaches its synapses' targets when their delays have passed. values: [B, inputs]."""
    for b, i in zip(*np.nonzero(values), strict=True):
        if isinstance(synapses, Rows):
            under_way[synapses.delay[i], b] += synapses.weight[i] * values[b, i]
        else:
            for k in range(synapses.first[i], synapses.first[i + 1]):
                under_way[synapses.delay[k], b, synapses.target[k]] += synapses.weight[k] * values[b, i]


def _fire(cell: Cell, state: Parts, current: np.ndarray) -> np.ndarray:
    """One step of the neurons, by their family's equations; the state is replaced."""
    family = cell.family
    names = family.state._fields  # type: ignore[attr-defined]
    knobs = family.knobs(*map(_tensor, cell.knobs))
    before = family.state(*(_tensor(state[name]) for name in names))
    trace = family.charge(knobs, before, _tensor(current))
    distance = family.distance(knobs, trace)
    fired = distance > 0 if cell.strict else distance >= 0
    after = family.settle(knobs, before, trace, fired, cell.hard)
    state |= {name: part.numpy() for name, part in zip(names, after, strict=True)}
    return (after[0] if cell.emits_v else fired.to(torch.float32)).numpy()


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))
