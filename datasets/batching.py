"""From recordings to batches: padding, batches of similar length, and random numbers that a resumed run draws again."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from .folder import Recording

__all__ = ["Batch", "BucketSampler", "collate", "generator_for", "generators_for"]

_POOL = 8  # batches that are sorted together: see BucketSampler


class Batch(NamedTuple):
    """Recordings put together, each followed by zeros.

    Shape:
        wave: [B, samples] float32. lengths: [B] int64, in samples. labels: [B] int64. keys, speakers: B strings.
        indices: [B] int64, the recordings' positions in their data set.
    """

    wave: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    keys: list[str]
    speakers: list[str]
    indices: torch.Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch with wave, lengths and labels on ``device``; ``indices`` stay, they seed draws on the CPU."""
        wave, lengths, labels = (
            t.to(device, non_blocking=non_blocking) for t in (self.wave, self.lengths, self.labels)
        )
        return self._replace(wave=wave, lengths=lengths, labels=labels)


def collate(recordings: Sequence[Recording]) -> Batch:
    """Put recordings together into a batch, padded with zeros to the longest: the ``collate_fn`` of a data loader.

    Args:
        recordings: one at least, each wave [samples].
    Shape:
        Returns Batch(wave [B, samples], lengths [B], labels [B], keys, speakers, indices [B]).
    Raises:
        ValueError: no recording.

    Example:
        >>> batch = collate([Recording(torch.ones(2), 0, "a", "ann"), Recording(torch.ones(3), 1, "b", "bob")])
        >>> batch.wave
        tensor([[1., 1., 0.],
                [1., 1., 1.]])
        >>> batch.lengths
        tensor([2, 3])
    """
    if not recordings:
        raise ValueError("collate: recordings is empty; a batch holds one recording at least")
    waves, labels, keys, speakers, indices = zip(*recordings, strict=True)
    return Batch(
        wave=torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True),
        lengths=torch.tensor([len(wave) for wave in waves]),
        labels=torch.tensor(labels),
        keys=list(keys),
        speakers=list(speakers),
        indices=torch.tensor(indices),
    )


class BucketSampler(Sampler[list[int]]):
    """Batches of similar length, in an order that is a function of (seed, epoch) alone: a ``batch_sampler``.

    Every recording comes exactly once an epoch, over all ranks together. All ranks get the same number of batches,
    ceil(N / (batch_size * world_size)), and the sizes of all batches differ by one at most: no small rest at the end
    that would weigh as much as a full batch. Recordings are shuffled, sorted by length within pools of eight batches (a
    sort of everything would put the same recordings together in every epoch), cut into batches, and the batches
    shuffled. The batches that ranks work on at the same time have similar lengths too.

    ``len`` is the number of batches in a whole epoch, also where ``start`` skips some: that is how Lightning counts.

    Args:
        durations: length of each recording, in any unit, such as ``AudioFolder.durations``; equal ones are fine.
        batch_size: recordings in a batch of one rank, at most, >= 1. (One more where batch_size is 1 and world_size
            does not divide the number of recordings.)
        seed: of the order.
        epoch: the epoch to begin with; ``set_epoch`` moves on.
        start: batches of this epoch to leave out, for a run that is resumed within an epoch, 0 .. len.
        shuffle: False keeps the order of the data set and sorts nothing: for evaluation.
        rank, world_size: which share of how many, as in torch.distributed.
    Raises:
        ValueError: no recordings, fewer than ranks, or an argument out of its range.

    Example:
        >>> sampler = BucketSampler([30, 10, 20, 40, 50], batch_size=2)
        >>> len(sampler), sorted(index for batch in sampler for index in batch)
        (3, [0, 1, 2, 3, 4])
        >>> list(BucketSampler([30, 10, 20, 40, 50], batch_size=2, start=1)) == list(sampler)[1:]
        True
    """

    def __init__(
        self,
        durations: Sequence[int] | Sequence[float],
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ):
        self._durations = torch.as_tensor(durations, dtype=torch.float64)
        recordings = len(durations)
        if batch_size < 1:
            raise ValueError(f"BucketSampler: batch_size={batch_size} must be at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"BucketSampler: rank={rank} must be from 0 to world_size - 1 = {world_size - 1}")
        if recordings < world_size:
            raise ValueError(
                f"BucketSampler: {recordings} recordings cannot be shared by world_size={world_size} ranks"
            )
        self.seed, self.epoch, self.start, self.shuffle = seed, epoch, start, shuffle
        self.rank, self.world_size = rank, world_size
        rounds = -(-recordings // (batch_size * world_size))
        self._rounds = min(rounds, recordings // world_size)  # a round: one batch for each rank
        if not 0 <= start <= self._rounds:
            raise ValueError(f"BucketSampler: start={start} must be from 0 to the number of batches, {self._rounds}")

    def set_epoch(self, epoch: int) -> None:
        """Move to another epoch, from its first batch; the present epoch again changes nothing, ``start`` included."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self._rounds

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches()[self.start :])

    def _batches(self) -> list[list[int]]:
        """All batches of this rank in this epoch."""
        recordings = len(self._durations)
        # Cuts at multiples of N / batches: sizes differ by one at most.
        cuts = [recordings * n // (self._rounds * self.world_size) for n in range(self._rounds * self.world_size + 1)]
        if not self.shuffle:
            # A rank's batches lie side by side, so that the ranks' results joined in order are those of the data set.
            first = self.rank * self._rounds
            return [list(range(cuts[n], cuts[n + 1])) for n in range(first, first + self._rounds)]
        generator = generator_for(self.seed, self.epoch, -1)
        order = self._sorted_in_pools(torch.randperm(recordings, generator=generator), cuts)
        rounds = torch.randperm(self._rounds, generator=generator).tolist()
        mine = [n * self.world_size + self.rank for n in rounds]
        return [order[cuts[n] : cuts[n + 1]] for n in mine]

    def _sorted_in_pools(self, order: torch.Tensor, cuts: list[int]) -> list[int]:
        pool = _POOL * self.world_size
        edges = [*cuts[:-1:pool], cuts[-1]]
        parts = (order[a:b] for a, b in itertools.pairwise(edges))
        return torch.cat([part[self._durations[part].argsort(stable=True)] for part in parts]).tolist()


def generator_for(seed: int, epoch: int, index: int) -> torch.Generator:
    """A generator that draws the same for the same (seed, epoch, index), in every process and after every resume.

    Args:
        seed: of the run. epoch: counted from 0. index: of the recording in its data set, or of a step; any integers.

    Example:
        >>> a, b = (torch.rand(2, generator=generator_for(1, 0, 7)) for _ in range(2))
        >>> torch.equal(a, b)
        True
    """
    digest = hashlib.blake2b(f"{int(seed)}/{int(epoch)}/{int(index)}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def generators_for(seed: int, epoch: int, indices: torch.Tensor | Sequence[int]) -> list[torch.Generator]:
    """One ``generator_for`` each for the recordings of a batch: what ``temporal.datasets.augment`` draws from."""
    return [generator_for(seed, epoch, index) for index in torch.as_tensor(indices).tolist()]
