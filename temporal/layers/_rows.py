"""Which rows of a batch are here, where several processes share one: what a draw for the whole batch is cut to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["draw_for_rows", "rows_of_batch"]

# Of the process, not of the thread: layers that are computed again in a backward pass on a GPU run in another thread.
_here: tuple[list[int], int] | None = None


@contextlib.contextmanager
def rows_of_batch(rows: Sequence[int], total: int) -> Iterator[None]:
    """Say that batches hold these rows of a batch of ``total``, until the end of the block.

    Every process draws for the whole batch, from the same state of the generator, and keeps its own rows: so a row's
    random numbers do not depend on how many processes share the batch.

    Args:
        rows: positions in the whole batch, 0 .. total - 1, in the order in which they lie here.
        total: size of the whole batch.
    """
    global _here
    before, _here = _here, (list(rows), total)
    try:
        yield
    finally:
        _here = before


def draw_for_rows(x: Tensor, keep: float) -> Tensor:
    """Bernoulli draws [B, *features] for x [T, B, *features], 1 with probability ``keep``; [B] are a batch's rows here."""
    shape = x.shape[1:]
    if _here is None or len(_here[0]) != shape[0]:
        return torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(keep)
    rows, total = _here
    drawn = torch.empty((total, *shape[1:]), dtype=x.dtype, device=x.device).bernoulli_(keep)
    return drawn[torch.tensor(rows, dtype=torch.int64, device=x.device)]
