"""Dropout that means the same thing at every step."""

from torch import Tensor, nn

from ._rows import draw_for_rows

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Dropout with one mask over time: a unit is silent for a whole sample, not now and then.

    y[t, b, n] = x[t, b, n] * m[b, n] / (1 - p),  m ~ Bernoulli(1 - p) in training; y = x in evaluation.

    A fresh mask for every step would let a membrane average the noise away. The mask is drawn anew at each call, so in
    training give a sample whole, not in chunks. In a training that several processes share (``torchrun``), a sample's mask
    is the one that it would have in one process.

    Args:
        p: probability of silencing a unit, 0 <= p < 1.
    Shape:
        x: [T, B, *features].  Returns the same shape.
    Raises:
        ValueError: p outside [0, 1).
    References:
        Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.

    Example:
        >>> import torch, temporal
        >>> y = temporal.Dropout(0.5)(torch.ones(4, 1, 100))
        >>> bool((y == y[0]).all())
        True
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p={p} is not a probability below 1 (0 <= p < 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * draw_for_rows(x, 1 - self.p).div_(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
