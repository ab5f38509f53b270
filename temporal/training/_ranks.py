"""The processes that train one run together, as ``torchrun`` started them; one alone is the first of one.

A batch is that of one process, whatever their number: each takes every so many-th recording of it. So the same recipe gives
the same weights, up to the order of sums, and a run may be resumed with another number of processes.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Ranks", "Share", "World", "accelerator_of", "is_first", "whole_batch", "world_of"]

# Between two moments at which all meet lies at most the reading of all training recordings, or the last evaluation.
_PATIENCE = datetime.timedelta(hours=2)
_TIME_TO_SPEAK = 2.0  # seconds


class World(NamedTuple):
    """Which process of how many this is, on all machines and on this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def world_of(environment: Mapping[str, str]) -> World:
    """What ``torchrun`` says in a process's environment; a process that it did not start is alone.

    Raises:
        ValueError: variables that contradict each other.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if any(name not in environment for name in (*names, "MASTER_ADDR", "MASTER_PORT")):
        return World()
    try:
        world = World(*(int(environment[name]) for name in names))
    except ValueError:
        given = ", ".join(f"{name}={environment[name]}" for name in names)
        raise ValueError(f"{given}: whole numbers are right, as torchrun sets them") from None
    if not (0 <= world.local_rank < world.local_size and 0 <= world.rank < world.size >= world.local_size):
        raise ValueError(
            f"RANK={world.rank} of WORLD_SIZE={world.size}, LOCAL_RANK={world.local_rank} of "
            f"LOCAL_WORLD_SIZE={world.local_size}: a rank must lie below its size"
        )
    if world.size % world.local_size:
        raise ValueError(
            f"{world.size} processes, {world.local_size} of them here: every machine must have as many "
            "(torchrun --nproc-per-node)"
        )
    return world


def is_first() -> bool:
    """Whether this process is the one that writes and talks."""
    return world_of(os.environ).rank == 0


class Share(NamedTuple):
    """What one process has of a batch.

    Args:
        positions: of its recordings in the batch, in order.
        total: recordings of the batch.
        silent: positions of those of its recordings that a recording of noise alone is made beside.
        all_silent: recordings of noise alone in the batch.
    """

    positions: list[int]
    total: int
    silent: list[int]
    all_silent: int

    @property
    def rows(self) -> tuple[list[int], int]:
        """Where everything that it has lies in the batch with its noise, and how large that is."""
        return self.positions + [self.total + at for at in self.silent], self.total + self.all_silent


def whole_batch(total: int, silence: float = 0.0) -> Share:
    """The share of a process that is alone; ``silence`` is the part of a batch that is added as noise alone."""
    return _share(total, silence, 0, 1)


def _share(total: int, silence: float, rank: int, ranks: int) -> Share:
    positions, all_silent = list(range(rank, total, ranks)), round(silence * total)
    return Share(positions, total, [at for at in positions if at < all_silent], all_silent)


class Ranks:
    """The processes of a training, and what they do together.

    Args:
        device: "auto", "cpu" or "cuda"; see :func:`temporal.training.train`.
    Raises:
        ValueError: fewer GPUs here than processes, or an environment that is none of ``torchrun``.
    """

    def __init__(self, device: str) -> None:
        self.world = world_of(os.environ)
        self.rank, self.size = self.world.rank, self.world.size
        self.first = self.rank == 0
        self.fabric: Any = _alone(device) if self.size == 1 else _together(device, self.world)

    def setup(self, step: Any, optimizer: Any) -> Any:
        """(step, optimizer) on their device; after a backward pass gradients are the means over all processes."""
        if self.size > 1:
            import torch

            # DDP is told to expect parameters without a gradient, and warns as long as it finds none.
            step.register_parameter("without_gradient", torch.nn.Parameter(torch.zeros(1)))
        return self.fabric.setup(step, optimizer)

    def share(self, rows: Sequence[int], silence: float = 0.0) -> tuple[list[int], Share]:
        """Of a batch, what this process has: (its recordings, their share)."""
        share = _share(len(rows), silence, self.rank, self.size)
        return [rows[at] for at in share.positions], share

    def add(self, values: Sequence[float]) -> list[float]:
        """Each of these numbers, summed over all processes, in float64."""
        if self.size == 1:
            return list(values)
        import torch

        # Not gathered as they are: one small sum a step is what a training can afford.
        total = torch.tensor(values, dtype=torch.float64, device=self.fabric.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of their ranks, at all of them."""
        if self.size == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gives at the first process, at all of them; what it raises, the first alone raises."""
        made = [make() if self.first else None]
        if self.size > 1:
            import torch

            torch.distributed.broadcast_object_list(made, src=0)
        return made[0]

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Around what any process might refuse: the first does it before the others, so an error is said once."""
        if not self.first:
            self.meet()
        yield
        if self.first:
            self.meet()

    @contextlib.contextmanager
    def failing_as_one(self, shared: Mapping[type[BaseException], int]) -> Iterator[None]:
        """Around a training: what all processes raise is said by the first alone, what one raises ends all.

        Args:
            shared: what is raised at all of them or at none, and the status with which the others end then.
        """
        try:
            yield
        except tuple(shared) as error:
            if self.first:
                raise
            # torchrun ends all processes as soon as one has failed, so the first is given time to speak.
            time.sleep(_TIME_TO_SPEAK)
            raise SystemExit(shared[type(error)]) from None
        except RuntimeError as error:
            if self._is_lost(error):
                raise ConnectionError(f"process {self.rank}: another process of this training has stopped") from None
            raise

    def _is_lost(self, error: RuntimeError) -> bool:
        """Whether an error means that another process is gone."""
        if self.size == 1:
            return False
        import torch

        signs = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")
        return isinstance(error, torch.distributed.DistError) or any(sign in str(error).lower() for sign in signs)


def accelerator_of(device: str) -> str:
    """The name of a device, if it is one that is there."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r}: auto, cpu or cuda is right")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': torch sees no GPU here; use --device cpu, or auto")
    return device


def _alone(device: str) -> Any:
    from lightning.fabric import Fabric

    return Fabric(accelerator=accelerator_of(device), devices=1)


def _together(device: str, world: World) -> Any:
    import torch
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import TorchElasticEnvironment
    from lightning.fabric.strategies import DDPStrategy

    accelerator = accelerator_of(device)
    gpus = torch.cuda.device_count()
    if accelerator == "cuda" and gpus < world.local_size:
        raise ValueError(
            f"{world.local_size} processes here, but {gpus} GPUs: torchrun --nproc-per-node {gpus} is right"
        )
    if accelerator == "auto":  # a GPU for each process, or none for any: all must choose alike
        accelerator = "cuda" if gpus >= world.local_size else "cpu"
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if accelerator == "cuda" else "gloo", timeout=_PATIENCE)
        atexit.register(_end)
    fabric = Fabric(
        accelerator=accelerator,
        devices=world.local_size,
        num_nodes=world.size // world.local_size,
        strategy=DDPStrategy(cluster_environment=TorchElasticEnvironment(), **_ddp_settings()),
    )
    fabric.launch()
    return fabric


def _ddp_settings() -> dict[str, Any]:
    from torch.nn.parallel import DistributedDataParallel

    # Delays that have been rounded learn no more: they have no gradient then, as in one process, and stay as they are.
    # Buffers are equal in any case, since running statistics are those of all processes.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # since torch 2.13
    return {"find_unused_parameters": True, buffers: False}


def _end() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
