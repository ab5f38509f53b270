"""The compiled loops of ``cpu.py``: serial, over ranges of rows, without the interpreter's lock.

A row is one neuron's signal of up to 16 samples, step after step, so that a delay is a shift by a whole number of elements.
"""

# numba gives a function that it compiles its context: mypy does not see it.
# mypy: disable-error-code="call-arg"

from typing import Any

import numba

from ._tiles import GROUP, TILE, add_shifted, dot_shifted

__all__ = ["make_correlate", "make_gather"]

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}


def make_gather(version: int):
    """With the number of the sources that it is made of, for numba's cache."""

    @numba.njit(**_options)
    def gather(out, source, weights, places, lots, rows, length, source_size, entries, block, first, stop):
        """out[lot, row] += sum over the row's entries of weight * (source[lot], from the entry's place on).

        A block of entries at a time, whose part of the source stays in the first-level cache while every row uses it.
        """
        version  # noqa: B018
        for lot in range(lots):
            here = source[lot * source_size : (lot + 1) * source_size]
            for n in range(0, length, TILE):
                moved = here[n:]
                for entry in range(0, entries, block):
                    count = min(block, entries - entry)
                    for row in range(first, stop):
                        add_shifted(
                            out, (lot * rows + row) * length + n, moved, weights, places, row * entries + entry, count
                        )

    return gather


def make_correlate(version: int):
    """With the number of the sources that it is made of, for numba's cache."""

    @numba.njit(**_options)
    def correlate(sums, grads, source, places, lots, rows, length, source_size, entries, block, piece, first, stop):
        """sums[row, entry] += grads[lot, row] . (source[lot], from the entry's place on), over all lots.

        A block of entries and a piece of the row at a time: what they read stays in the first-level cache. Entries and
        blocks are whole multiples of GROUP.
        """
        version  # noqa: B018
        for lot in range(lots):
            here = source[lot * source_size : (lot + 1) * source_size]
            for n in range(0, length, piece):
                vectors = min(piece, length - n) // 16
                for entry in range(0, entries, block):
                    for row in range(first, stop):
                        start = row * entries
                        for k in range(start + entry, start + min(entry + block, entries), GROUP):
                            dot_shifted(sums, k, grads, (lot * rows + row) * length + n, here, places, n, vectors)

    return correlate
