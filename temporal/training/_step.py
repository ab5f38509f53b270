"""One training step, and what it needs: loss, augmentation, optimiser, schedules, seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from temporal.delays import DelayedLinear, DelaySchedule, depth_penalty, spread_penalty
from temporal.frontends import Normalize
from temporal.layers import Model
from temporal.models import ModelSpec

from ._augment import augmentation_of
from ._ranks import Share, whole_batch
from .data import AnyBatch, AnyData, channels_of
from .recipe import Recipe


def seed_of(seed: int, *what: str | int) -> int:
    """A seed that is a function of the run's seed and of what it is for, and alike for nothing else."""
    text = "/".join(str(part) for part in (seed, *what))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


def spec_of(recipe: Recipe, data: AnyData) -> ModelSpec:
    """The specification of a recipe's model for its recordings."""
    return ModelSpec(
        frontend=recipe.frontend,
        network=recipe.network,
        labels=tuple(data.labels),
        readout=recipe.readout,
        inputs=channels_of(data),
        tail=recipe.tail,
    )


class TrainingStep(nn.Module):
    """From a batch of recordings to the loss, with the augmentation of a recipe."""

    def __init__(self, model: Model, recipe: Recipe, data: AnyData) -> None:
        super().__init__()
        self.model = model
        self.augmentation: Any = augmentation_of(recipe, data)
        self.silence: float = getattr(recipe.augment, "silence", 0.0)
        self._penalties = ((recipe.delays.depth_penalty, depth_penalty), (recipe.delays.spread_penalty, spread_penalty))

    def forward(self, batch: AnyBatch, epoch: int, share: Share | None = None) -> tuple[Tensor, Tensor]:
        """(loss, number of recordings decided right).

        The loss is the mean over the whole batch, and what the recipe penalises in the delays. This process holds a share of
        the batch: the shares' losses add up to it.
        """
        share = share or whole_batch(len(batch.labels), self.silence)
        if not share.positions:
            return self._nothing(batch)
        signal, lengths, draws = self.augmentation.signals(batch, epoch, len(share.silent))
        x, steps = self.model.steps(signal, lengths)
        logits = self.model.decide(*self.augmentation.steps(x, cast(Tensor, steps), draws))
        spoken, silent = logits[: len(batch.labels)], logits[len(batch.labels) :]
        loss = cross_entropy(spoken, batch.labels, reduction="sum")
        if len(silent):
            # Noise belongs to no class: the divergence from all classes alike, 0 where they are.
            loss = loss - (silent.log_softmax(-1).mean(-1) + math.log(logits.shape[1])).sum()
        loss = loss / share.total
        for factor, penalty in self._penalties:
            if factor:
                loss = loss + factor * penalty(self.model) * (len(share.positions) / share.total)
        return loss, (spoken.argmax(-1) == batch.labels).sum()

    def _nothing(self, batch: AnyBatch) -> tuple[Tensor, Tensor]:
        """The same of no recording, for a process that the batch has none for; it takes part in what all do together.

        The front end is given a recording all the same, so that whatever it learns is part of the graph.
        """
        x, steps = self.model.steps(*batch[:2])
        logits = self.model.decide(x[:, :0], cast(Tensor, steps)[:0])
        return logits.sum(), batch.labels.new_zeros(())


def schedule_of(recipe: Recipe) -> DelaySchedule:
    """The schedule of sigma that a recipe describes.

    Raises:
        ValueError: parts of it that contradict each other.
    """
    delays = recipe.delays
    return DelaySchedule(
        start=delays.sigma_start, end=delays.sigma_end, until=delays.until, round_at=delays.round_at, floor=delays.floor
    )


def delay_schedule(recipe: Recipe, model: Model) -> DelaySchedule | None:
    """The same, for a network that has delays."""
    return schedule_of(recipe) if _delayed(model) else None


def delay_remarks(recipe: Recipe, model: Model, data: AnyData, steps: int) -> list[str]:
    """What delays and this training cannot do for each other: the end of their schedule, or delays that nothing hears.

    Args:
        recipe, model, data: of the training.
        steps: updates in all epochs.
    """
    layers, said = _delayed(model), []  # type: tuple[list[DelayedLinear], list[str]]
    if not layers:
        return []
    narrowed = any(layer.kernel != "rounded" and layer.max_delay for layer in layers)
    each, total = ("step", steps) if recipe.delays.every == "step" else ("epoch", recipe.epochs)
    last = (total - 1) / total  # of the training is done when its last update begins
    for name, when, what in (
        ("until", recipe.delays.until, "sigma does not get to its end"),
        ("round_at", recipe.delays.round_at, "delays are rounded after the training only"),
    ):
        if narrowed and last < when < 1:
            said.append(
                f"delays.{name}={when:g} lies after the last of {total} {each}s, so {what}: train longer, or begin earlier"
            )
    longest = max(data.durations)
    if model.frontend is not None:
        longest = int(model.frontend.frames(longest))
    longest += model.tail
    reach = max(layer.max_delay for layer in layers)
    if reach >= longest:
        said.append(
            f"no recording has more than {longest} steps, its tail included, and delays reach {reach}: what is sent with a "
            f"delay of {longest} or more never arrives; a smaller --network.max_delay, or a longer --tail"
        )
    return said


def pruning_step(recipe: Recipe, steps: int) -> int | None:
    """The step before which synapses are pruned, of as many; None where none are."""
    return math.ceil(recipe.delays.prune_at * steps) if recipe.delays.prune else None


def widest_delay(model: Model) -> float:
    """The largest sigma of a model's delays, in steps; 0 when all are whole steps."""
    return max(float(layer.sigma) for layer in _delayed(model))


def _delayed(model: Model) -> list[DelayedLinear]:
    return [layer for layer in model.modules() if isinstance(layer, DelayedLinear)]


def fit_normalisation(model: Model, recordings: Iterable[AnyBatch]) -> None:
    """Fit the front end's normalisation, if it has one, on batches of the training recordings as they are."""
    parts = [] if model.frontend is None else list(model.frontend.children())
    at = next((i for i, part in enumerate(parts) if isinstance(part, Normalize)), None)
    if at is None:
        return
    before = model.frontend[:at]
    parts[at].fit((before(wave), before.frames(lengths)) for wave, lengths, *_ in recordings)
