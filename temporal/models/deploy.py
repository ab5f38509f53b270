"""The model as it is deployed: integer delays, batch normalisation folded, nothing that trains."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from temporal.layers import Model

__all__ = ["deploy"]


def deploy(model: Model, dtype: torch.dtype | None = None) -> Model:
    """Return a copy of a model in the form in which it is evaluated and streamed.

    Delays are rounded to whole steps and batch normalisation is folded into the weights. Evaluation and streaming run
    in float64 by default: the sums of a matrix product depend on its shape, and in float32 a membrane on the threshold
    would flip between a batch and a stream once in some 10^6 steps; in float64 once in some 10^15.

    Args:
        model: a trained model; it stays as it is.
        dtype: of weights and computation; ``None`` is float64.
    Returns:
        The copy, in evaluation mode, without gradients.

    Example:
        >>> from temporal.models import DelayedLIF, Mel, ModelSpec, deploy
        >>> model = ModelSpec(frontend=Mel(), network=DelayedLIF(hidden=8), labels=("no", "yes")).build()
        >>> delays = deploy(model).network[0].delay
        >>> bool((delays == delays.round()).all())
        True
    """
    import torch

    from temporal.delays import DelayedLinear
    from temporal.layers import fold

    deployed = copy.deepcopy(model).eval()
    for layer in deployed.modules():
        if isinstance(layer, DelayedLinear):
            layer.round_()
    if isinstance(deployed.network, torch.nn.Sequential):
        deployed.network = fold(deployed.network)
    return deployed.to(dtype or torch.float64).requires_grad_(False)
