"""The event engine compiled by numba: all stages in one call, threads over samples.

Weights are float32, or int8 where all stages' are; a synapse's place in its ring, delay * size + target, takes 2 bytes where
the largest ring allows it, else 4. The equations are those of the neurons' operators, compiled from the same functions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .._compiled import announced, version
from .._memory import empty
from .._threads import share
from . import _loops
from ._loops import FAMILIES, FIELDS, ROW, WORK, Field, Kind
from .network import Rows, Stage, Taps
from .reference import Parts

__all__ = ["Engine"]

_GRAIN = 200_000  # additions that pay for waking a thread (about 50 microseconds)
_KEPT = 1 << 20  # events: larger lists are not kept from call to call

_SOURCES = [
    "_scan._loops",
    "events._access",
    "_scan._rows",
    *(f"{name}.reference" for name in ("lif", "cuba", "adaptive", "adaptive_late")),
]
_first_unsound = _loops.first_unsound
_advance = announced(
    _loops.make_advance(version(*(f"temporal.kernels.{name}" for name in _SOURCES))), "the event engine"
)


class Engine:
    """``reference.Engine``, compiled.

    Raises:
        NotImplementedError: a stage of more neurons than the workspace holds.
    """

    def __init__(self, stages: Sequence[Stage], batch: int):
        self.stages, self.batch = tuple(stages), batch
        packed = _Packed(self.stages)
        self._table = packed.table
        self._rings = np.zeros((batch, packed.ring_size), np.float32)
        self._parts = np.zeros((batch, packed.state_size), np.float32)
        self._flat = (
            packed.table.reshape(-1), packed.weights, packed.places, packed.ints, packed.floats, self._rings.reshape(-1),
            packed.ring_size, self._parts.reshape(-1), packed.state_size,
        )  # fmt: skip
        self._now = np.zeros(len(self.stages), np.int64)  # steps taken by each
        self._scratch: list[tuple[np.ndarray, ...]] = []  # of threads that are not running
        self._widest = max(max(stage.inputs, stage.size) for stage in self.stages)
        self._work = len(packed.weights) // 16  # additions a step, where an event is one of 16
        self.clear()

    def state(self) -> list[Parts]:
        """``reference.Engine.state``."""
        states = []
        for number, stage in enumerate(self.stages):
            state = {"pending": self._under_way(number, Field.RING, Field.PERIOD)}
            if stage.late is not None:
                state["late"] = self._under_way(number, Field.LATE_RING, Field.LATE_PERIOD)
            if stage.cell is not None:
                names = stage.cell.family.state._fields  # type: ignore[attr-defined]
                state |= {name: part.copy() for name, part in zip(names, self._cell_parts(number), strict=True)}
            states.append(state)
        return states

    def clear(self) -> None:
        """``reference.Engine.clear``."""
        self._now[:] = 0
        self._rings[:] = 0
        for number, stage in enumerate(self.stages):
            if stage.cell is not None:
                for part, rest in zip(self._cell_parts(number), stage.cell.rest, strict=True):
                    part[:] = rest

    def load(self, states: Sequence[Parts]) -> None:
        """``reference.Engine.load``."""
        self._now[:] = 0
        self._rings[:] = 0
        for number, (stage, state) in enumerate(zip(self.stages, states, strict=True)):
            for name, ring in (("pending", Field.RING), ("late", Field.LATE_RING)):
                if name in state:
                    rows = state[name].transpose(1, 0, 2).reshape(self.batch, state[name].shape[0] * stage.size)
                    start = self._table[number, ring]
                    self._rings[:, start : start + rows.shape[1]] = rows
            if stage.cell is not None:
                names = stage.cell.family.state._fields  # type: ignore[attr-defined]
                for part, name in zip(self._cell_parts(number), names, strict=True):
                    part[:] = state[name]

    def advance(
        self, x: np.ndarray, begin: int = 0, end: int | None = None, currents: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``reference.Engine.advance``."""
        end = len(self.stages) if end is None else end
        steps, batch, inputs = x.shape
        if batch != self.batch or inputs not in (0, self.stages[begin].inputs):  # the loops check no index
            raise ValueError(
                f"events: x has shape {list(x.shape)}; [T, {self.batch}, {self.stages[begin].inputs}] is right"
            )
        out = empty((steps, self.batch, self.stages[end - 1].size), torch.float32).numpy()
        counts = np.zeros(self.batch * (end - begin), np.int64)
        room = steps * self._widest
        more, flat = 0, None
        if currents is not None:
            more, flat = len(currents), currents.reshape(-1)
        arguments = (
            x.reshape(-1), inputs, flat, more, out.reshape(-1), counts, self._now, *self._flat, steps, self.batch, begin,
            end,
        )  # fmt: skip

        def task(first: int, stop: int) -> None:
            try:
                scratch = self._scratch.pop()
            except IndexError:  # all are at work
                scratch = None
            if scratch is None or scratch[1].size < 2 * room or scratch[3].size < 2 * steps + 2:
                scratch = _scratch(room, steps)
            _advance(*arguments, *scratch, room, first, stop)
            if room <= _KEPT:
                self._scratch.append(scratch)

        share(task, self.batch, max(1, _GRAIN // max(1, steps * self._work)))
        self._now[begin:end] += steps
        return out, counts.reshape(self.batch, end - begin).sum(0)

    def first_unsound(self, x: np.ndarray) -> int:
        """``reference.Engine.first_unsound``."""
        return _first_unsound(x.reshape(-1).view(np.int32))

    def _cell_parts(self, number: int) -> list[np.ndarray]:
        """Views of the parts of a cell's state, each [B, size]."""
        stage = self.stages[number]
        start, size = self._table[number, Field.STATE], stage.size
        parts = 0 if stage.cell is None else len(stage.cell.rest)
        return [self._parts[:, start + k * size : start + (k + 1) * size] for k in range(parts)]

    def _under_way(self, number: int, ring: Field, period: Field) -> np.ndarray:
        """What arrives at the next steps [depth, B, size]."""
        size, rows = self.stages[number].size, int(self._table[number, period])
        start = self._table[number, ring]
        both = self._rings[:, start : start + 2 * rows * size].reshape(self.batch, 2, rows, size).sum(1)
        order = (self._now[number] + np.arange(rows - 1)) % rows
        return np.ascontiguousarray(both[:, order].transpose(1, 0, 2))


def _scratch(room: int, steps: int) -> tuple[np.ndarray, ...]:
    """Workspace, events and their values that come and go, and where each step's begin."""
    return (
        np.empty(WORK, np.float32), np.empty(2 * room, np.int32), np.empty(2 * room, np.float32),
        np.empty(2 * steps + 2, np.int64),
    )  # fmt: skip


class _Packed:
    """The stages' arrays, one after the other in one pool a kind, and the table of where each begins."""

    def __init__(self, stages: Sequence[Stage]):
        self._weights: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._ints: list[np.ndarray] = []
        self._floats: list[np.ndarray] = []
        self.ring_size = self.state_size = 0
        self.table = np.full((len(stages), FIELDS), -1, np.int64)
        largest = max((max(stage.depth, stage.late_depth) + 1) * stage.size for stage in stages)
        self._place_type = np.uint16 if largest <= 1 << 16 else np.uint32
        for row, stage in zip(self.table, stages, strict=True):
            self._add(row, stage)
        kinds = {part.dtype for part in self._weights}
        self.weights = np.concatenate(self._weights) if len(kinds) == 1 else self._only_one_kind(kinds)
        self.places = np.concatenate([np.zeros(0, self._place_type), *self._places])
        self.ints = np.concatenate([np.zeros(0, np.int64), *self._ints])
        self.floats = np.concatenate([np.zeros(0, np.float32), *self._floats])

    def _add(self, row: np.ndarray, stage: Stage) -> None:
        if stage.size > ROW - 16:
            raise NotImplementedError(
                f"events: backend 'cpu' takes stages of {ROW - 16} neurons, here are {stage.size}"
            )
        row[Field.INPUTS], row[Field.SIZE] = stage.inputs, stage.size
        row[Field.PERIOD], row[Field.RING] = stage.depth + 1, self._ring((stage.depth + 1) * stage.size)
        row[Field.LATE_PERIOD] = stage.late_depth + 1
        if stage.late is not None:
            places = stage.late * stage.size + np.arange(stage.size)
            row[Field.LATE] = _append(self._ints, places.astype(np.int64))
            row[Field.LATE_RING] = self._ring((stage.late_depth + 1) * stage.size)
        for field, values in ((Field.BIAS, stage.bias), (Field.SCALE, stage.scale)):
            if values is not None:
                row[field] = _append(self._floats, values.astype(np.float32))
        self._synapses(row[Field.FORWARD : Field.FORWARD + 4], stage.forward, stage.size)
        self._synapses(row[Field.BACK : Field.BACK + 4], stage.back, stage.size)
        if stage.cell is not None:
            cell = stage.cell
            row[Field.FAMILY] = FAMILIES.index(cell.family)
            row[Field.HARD], row[Field.STRICT], row[Field.EMITS_V] = cell.hard, cell.strict, cell.emits_v
            row[Field.KNOBS] = _append(self._floats, np.concatenate(cell.knobs).astype(np.float32))
            row[Field.STATE] = self.state_size
            self.state_size += len(cell.rest) * stage.size

    def _ring(self, half: int) -> int:
        start = self.ring_size
        self.ring_size += 2 * half
        return start

    def _synapses(self, columns: np.ndarray, synapses: Rows | Taps | None, size: int) -> None:
        if synapses is None:
            columns[0] = Kind.NONE
        elif isinstance(synapses, Rows):
            columns[:3] = (
                Kind.ROWS,
                _append(self._weights, synapses.weight.reshape(-1)),
                _append(self._ints, synapses.delay),
            )
        else:
            places = (synapses.delay * size + synapses.target).astype(self._place_type)
            weights, first = _append(self._weights, synapses.weight), _append(self._ints, synapses.first)
            columns[:] = Kind.TAPS, weights, first, _append(self._places, places)

    @staticmethod
    def _only_one_kind(kinds: Any) -> np.ndarray:
        raise TypeError(f"events: the weights of all stages must be of one kind, got {', '.join(map(str, kinds))}")


def _append(pool: list[np.ndarray], array: np.ndarray) -> int:
    """Where in the pool it begins."""
    start = sum(len(other) for other in pool)
    pool.append(np.ascontiguousarray(array))
    return start
