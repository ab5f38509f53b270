"""From a network's output at every step to one row of logits."""

import torch
from torch import Tensor, nn

from ._protocol import check_lengths, valid_steps

__all__ = ["LastStep", "MaxOverTime", "MeanOverTime", "SumSoftmax"]


class SumSoftmax(nn.Module):
    """The sum over steps of the softmax over classes.

    logits = sum_t softmax(y[t])  over the valid steps t < lengths

    Every step casts one vote of weight 1, so silence at the end dilutes a decision but a single outlier cannot make it.

    Shape:
        y: [T, B, classes].  Returns (logits [B, classes], state [B, classes]): the logits after all steps so far, so the
        last chunk's equal the whole's. No step at all gives zeros.
    References:
        Hammouamri et al., "Learning delays in spiking neural networks using dilated convolutions with learnable
        spacings", 2023 (loss "sum").

    Example:
        >>> import torch
        >>> from temporal.layers import SumSoftmax
        >>> logits, state = SumSoftmax()(torch.zeros(10, 1, 4))
        >>> logits
        tensor([[2.5000, 2.5000, 2.5000, 2.5000]])
    """

    def forward(self, y: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check("SumSoftmax", y, state, lengths)
        votes = y.softmax(-1)
        if lengths is not None:
            votes = votes * valid_steps(lengths, y.shape[0]).unsqueeze(-1)
        logits = votes.sum(0)
        logits = logits if state is None else state + logits
        return logits, logits


class LastStep(nn.Module):
    """The output at the last valid step.

    logits = y[lengths - 1]

    Shape:
        y: [T, B, classes].  Returns (logits [B, classes], state [B, classes]). A sample without a step keeps its state
        (zeros at the start).

    Example:
        >>> import torch
        >>> from temporal.layers import LastStep
        >>> logits, _ = LastStep()(torch.arange(6.).view(3, 2, 1), lengths=torch.tensor([3, 1]))
        >>> logits
        tensor([[4.],
                [1.]])
    """

    def forward(self, y: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check("LastStep", y, state, lengths)
        before = y.new_zeros(y.shape[1:]) if state is None else state
        if y.shape[0] == 0:
            return before, before
        if lengths is None:
            return y[-1], y[-1]
        last = (lengths - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, y.shape[2])
        logits = torch.where((lengths > 0).unsqueeze(-1), y.gather(0, last)[0], before)
        return logits, logits


class MaxOverTime(nn.Module):
    """The largest output of each class over the valid steps.

    logits = max_t y[t]  over t < lengths

    Shape:
        y: [T, B, classes].  Returns (logits [B, classes], state [B, classes]). A sample without a step has -inf.

    Example:
        >>> import torch
        >>> from temporal.layers import MaxOverTime
        >>> MaxOverTime()(torch.tensor([[[1., 0.]], [[0., 3.]]]))[0]
        tensor([[1., 3.]])
    """

    def forward(self, y: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check("MaxOverTime", y, state, lengths)
        before = y.new_full(y.shape[1:], -torch.inf) if state is None else state
        if y.shape[0] == 0:
            return before, before
        if lengths is not None:
            y = y.masked_fill(~valid_steps(lengths, y.shape[0]).unsqueeze(-1), -torch.inf)
        logits = torch.maximum(before, y.amax(0))
        return logits, logits


class MeanOverTime(nn.Module):
    """The mean output of each class over the valid steps.

    logits = mean_t y[t]  over t < lengths

    Shape:
        y: [T, B, classes].  Returns (logits [B, classes], state), the state a tuple of the mean so far [B, classes] and of
        the steps that it was taken over [B]. A sample without a step has zeros.

    Example:
        >>> import torch
        >>> from temporal.layers import MeanOverTime
        >>> MeanOverTime()(torch.tensor([[[1., 0.]], [[0., 3.]]]))[0]
        tensor([[0.5000, 1.5000]])
    """

    def forward(
        self, y: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if state is not None and not (isinstance(state, tuple) and len(state) == 2):
            raise TypeError(f"MeanOverTime: state must be the pair of an earlier call, got {type(state).__name__}")
        _check("MeanOverTime", y, None if state is None else state[0], lengths)
        before, seen = (y.new_zeros(y.shape[1:]), y.new_zeros(y.shape[1])) if state is None else state
        if lengths is None:
            steps = torch.full_like(seen, y.shape[0])
        else:
            y, steps = y.where(valid_steps(lengths, y.shape[0]).unsqueeze(-1), 0.0), lengths.to(seen)
        total = seen + steps
        # By parts of the whole, not as a sum over all steps: a stream of hours keeps its digits.
        mean = (before * seen.unsqueeze(1) + y.sum(0)) / total.clamp(min=1).unsqueeze(1)
        return mean, (mean, total)


def _check(owner: str, y: Tensor, state: Tensor | None, lengths: Tensor | None) -> None:
    if y.ndim != 3:
        raise ValueError(f"{owner}: y has shape {tuple(y.shape)}; [T, B, classes] is right")
    if state is not None and state.shape != y.shape[1:]:
        raise ValueError(f"{owner}: state has shape {tuple(state.shape)}; {tuple(y.shape[1:])} is right for this y")
    check_lengths(owner, lengths, y.shape[1], y.shape[0], "steps")
