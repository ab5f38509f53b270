"""From a network's outputs to events: the readout over the last steps, a threshold, and where a class began."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._flat import Flat, flatten, rebuild

__all__ = ["Detector", "Found", "onset", "windowed_scores"]

_ENTRIES = 1 << 20  # numbers in one block of windows: bounds the memory when a long recording comes in one piece


class Found(NamedTuple):
    """An event in steps: it leads from the beginning of step ``first`` to the end of step ``last``, both counted from 0."""

    winner: int
    score: float
    first: int
    last: int


class Detector:
    """Watch the outputs of one network, [steps, classes] after [steps, classes].

    Args:
        readout: that of the model.
        window, refractory: steps, >= 1.
        threshold: 0 .. 1.
    Attributes:
        scores: [classes], of the latest step; None before the first.
    """

    def __init__(self, readout: nn.Module, window: int, threshold: float, refractory: int) -> None:
        self._readout, self._window, self._threshold, self._refractory = readout, window, threshold, refractory
        self.scores: Tensor | None = None
        self._recent: Tensor | None = None  # the last outputs, at most window - 1: what the next window still covers
        self._steps = 0  # seen so far
        self._ready = 0  # the first step that may be an event again

    def see(self, outputs: Tensor) -> list[Found]:
        """The events among these new steps."""
        new = outputs.shape[0]
        if new == 0:
            return []
        if self._recent is not None:
            outputs = torch.cat([self._recent, outputs])
        scores = windowed_scores(self._readout, outputs, new, self._window)
        best, winners = scores.max(1)
        if best.isnan().any():
            raise FloatingPointError("Stream: the network's output is NaN: look at the model's weights")
        found = []
        for i in (best > self._threshold).nonzero().flatten().tolist():
            step = self._steps + i
            if step < self._ready:
                continue
            self._ready = step + self._refractory
            end = outputs.shape[0] - new + i + 1
            first = step + 1 - onset(outputs[max(0, end - self._window) : end], int(winners[i]))
            found.append(Found(int(winners[i]), float(best[i]), first, step))
        self.scores = scores[-1]
        self._steps += new
        # A copy, because a view would keep all of a long chunk alive.
        self._recent = outputs[max(0, outputs.shape[0] - self._window + 1) :].clone()
        return found

    def state(self) -> Flat:
        """What another detector with the same settings needs to go on, flat."""
        flat: Flat = {"steps": self._steps, "ready": self._ready}
        return flat | flatten("recent", self._recent) | flatten("scores", self.scores)

    def load(self, flat: Mapping[str, Any], device: torch.device) -> None:
        """Take over the state that another detector gave."""
        self._recent = rebuild("recent", flat, None, same_shape=False, device=device)
        self.scores = rebuild("scores", flat, None, same_shape=False, device=device)
        self._steps, self._ready = int(flat["steps"]), int(flat["ready"])


def windowed_scores(readout: nn.Module, outputs: Tensor, new: int, window: int) -> Tensor:
    """The softmax of the readout over a window that ends at each new step.

    scores[i] = softmax(readout(outputs[max(0, e - window) : e]))  with  e = len(outputs) - new + i + 1

    The windows lie side by side as a batch, so one call of the readout serves many steps, whatever readout it is.

    Args:
        readout: a readout of :mod:`temporal.layers`, or another with its signature.
        outputs: the network's outputs [N, classes]: up to window - 1 old steps, then the new ones.
        new: how many of them are new, >= 1.
        window: steps, >= 1. Before so many have come, a window holds those that have.
    Shape:
        Returns [new, classes].
    """
    steps, classes = outputs.shape
    span = min(window, steps)
    offsets = torch.arange(span, device=outputs.device).unsqueeze(1)
    block = max(1, _ENTRIES // (span * classes))
    scores = []
    for begin in range(steps - new + 1, steps + 1, block):
        ends = torch.arange(begin, min(begin + block, steps + 1), device=outputs.device)
        starts = (ends - window).clamp(min=0)
        windows = outputs[(starts + offsets).clamp(max=steps - 1)]
        logits, _ = readout(windows, lengths=ends - starts if begin < span else None)
        scores.append(logits.softmax(-1))
    return torch.cat(scores)


def onset(outputs: Tensor, winner: int) -> int:
    """How many steps before the end a class began: Page's change point of its lead.

    The step from which lead[t] = vote[t, winner] - max_{c != winner} vote[t, c], summed up to the end, is largest, with
    vote = softmax(outputs) over classes; of equals the latest.

    Args:
        outputs: of the network in the deciding window [steps, classes].
        winner: the class that was decided for.
    Returns:
        Steps from there to the end, 1 to len(outputs).
    References:
        Page, "Continuous inspection schemes", Biometrika 1954.
    """
    votes = outputs.softmax(-1)
    rivals = votes.index_fill(1, torch.tensor([winner], device=votes.device), 0)
    lead = votes[:, winner] - rivals.amax(1)
    return int(lead.flip(0).cumsum(0).argmax()) + 1
