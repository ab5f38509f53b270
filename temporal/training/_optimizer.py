"""What changes the weights, and how fast at each step: a function of the step alone, so a resumed run finds the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR

from temporal.delays import DelayedLinear, stop_at_walls
from temporal.layers import Model

from .recipe import Optimizer, Recipe

_RISE, _FALL = 25.0, 25.0 * 1e4  # one-cycle starts at lr / 25 and ends at a ten thousandth of that, as in torch


def optimizer_of(model: Model, recipe: Recipe) -> torch.optim.Optimizer:
    """Three groups: weights; biases and normalisation, which do not decay; delays, with their own rate.

    No momentum leads a delay out of its range.
    """
    delays = [
        layer.delay for layer in model.modules() if isinstance(layer, DelayedLinear) and layer.delay.requires_grad
    ]
    is_delay = {id(p) for p in delays}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in is_delay]
    settings = recipe.optimizer
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "lr": settings.lr, "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "lr": settings.lr, "weight_decay": 0.0},
        {"params": delays, "lr": settings.lr_delay, "weight_decay": 0.0, "delays": True},
    ]
    method = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.method]
    optimizer = method([group for group in groups if group["params"]])
    stop_at_walls(optimizer, model)
    return optimizer


def learning_rate_of(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> LambdaLR:
    """The schedule of all groups' rates.

    Args:
        optimizer: from :func:`optimizer_of`.
        recipe: whose optimizer settings say how they change.
        steps: updates an epoch.
    """
    settings = recipe.optimizer
    factors: list[Callable[[int], float]] = []
    for group in optimizer.param_groups:
        own = settings.delay_schedule if group.get("delays") else "same"
        kind = settings.schedule if own == "same" else own
        warmup = settings.warmup if own == "same" else 0.0
        factors.append(partial(_factor, kind, warmup, settings, recipe.epochs, steps))
    return LambdaLR(optimizer, factors)


def _factor(kind: str, warmup: float, settings: Optimizer, epochs: int, steps: int, step: int) -> float:
    """Part of the largest rate at a step, or at its epoch's start."""
    total, now = (epochs * steps, step) if settings.every == "step" else (epochs, step // steps)
    if kind == "constant":
        return 1.0
    if kind == "cosine":
        rise = warmup * total
        return (now + 1) / (rise + 1) if now < rise else _cosine(1.0, 0.0, (now - rise) / max(1.0, total - rise))
    top, end = warmup * total - 1, float(total - 1)
    if now <= top:
        return _cosine(1 / _RISE, 1.0, now / top) if top > 0 else 1.0
    return _cosine(1.0, 1 / _FALL, (now - top) / (end - top) if end > top else 1.0)


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(part, 1.0)))
