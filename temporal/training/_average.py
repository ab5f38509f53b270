"""The weights of a training averaged over its updates: what is validated, saved and tested, while they go on learning."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from temporal.delays import DelayedLinear

__all__ = ["Average"]

_STATISTICS = ("running_mean", "running_var")


class Average:
    """A second model beside the one that trains, whose weights are the exponential moving average of its weights.

    w' <- k w' + (1 - k) w  after update n = 0, 1, ...,  with k = min(decay, n / (n + 1))

    So it is the plain mean of all updates until these are 1 / (1 - decay), and the weights that were drawn have no part in
    it.

    Parameters are averaged, and so are the running statistics of batch normalisation, by the same rule: those of the latest
    weights do not fit the mean of many. The mean of what a layer gives is linear in its weights, so the average of such
    means is the mean under the average weights; of variances, and behind other layers, that is as near as the weights are
    to each other, without another pass over the recordings. All else is as in the model: the width of the delays, constants.

    Delays are averaged while they are fractions of a step. When they become whole steps, the average begins anew from that
    update: the mean of two whole steps is none, and weights for blurred delays are not those for whole ones.

    Not torch's ``AveragedModel``, which averages all buffers, the width of the delays too, or none.

    Args:
        model: of the training, freshly built; it is copied.
        decay: 0..1, below 1.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> average = Average(model, decay=0.9)
        >>> for weight in (1.0, 2.0, 6.0):
        ...     _ = model.weight.data.fill_(weight)
        ...     average.update(model)
        >>> round(average.model.weight.item(), 6)
        3.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.begin(model)

    def begin(self, model: nn.Module) -> None:
        """Forget everything, and copy a model as it is."""
        self.model: Any = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates, self.whole = 0, False
        parameters, buffers = (
            [name for name, _ in named] for named in (model.named_parameters(), model.named_buffers())
        )
        self._names = [*parameters, *buffers]  # each tensor once: two layers may share one
        self._averaged = {*parameters, *(name for name in buffers if name.rpartition(".")[2] in _STATISTICS)}
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, DelayedLinear)}
        self._delays = {f"{name}.delay" if name else "delay" for name in layers}

    @torch.no_grad()
    def update(self, model: nn.Module, whole: bool = False) -> None:
        """Take a model in as it is after an update of its weights.

        Args:
            model: of the training.
            whole: whether its delays are whole steps by now.
        """
        if whole and not self.whole:
            self.updates, self.whole = 0, True
        share = 1 - min(self.decay, self.updates / (self.updates + 1))
        # State dicts, because what they hold is in its range: a delay that the optimiser has pushed beyond is put back.
        mine, theirs = self.model.state_dict(), model.state_dict()
        kept = self._delays if self.whole else set()
        for name in self._names:
            if name not in mine:  # what is built anew is in no state dict
                continue
            if name in self._averaged and name not in kept:
                mine[name].lerp_(theirs[name], share)
            else:
                mine[name].copy_(theirs[name])
        self.updates += 1

    def to(self, device: torch.device) -> None:
        """Move to where the model is."""
        self.model.to(device)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"model": self.model.state_dict(), "updates": self.updates, "whole": self.whole}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.model.load_state_dict(stored["model"])
        self.updates, self.whole = int(stored["updates"]), bool(stored["whole"])
