"""A stream's few next frames in one compiled call, where a layer's whole work is one pass over the signal.

Taken for one signal in float32 on the CPU, where nobody wants a gradient and nothing is reflected, and for as many frames as
`kernels/bands/_step.py` measured to pay. The first chunk and everything else go the ordinary way. The state is the same, and
so are the numbers, to the last bit, so that a stream may change between the two at any chunk.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from temporal.kernels.bands import step_of

from ._framing import Framing, FramingState

__all__ = ["OnePass", "step"]

OnePass = tuple[Tensor, Tensor | None, Tensor | None, float]  # window, bank, its spans, power: of `spectrogram`

# Beside the layers, not in them, so that nobody copies or pickles it: by layer, then by power and logarithm.
_made: WeakKeyDictionary[nn.Module, dict[Any, tuple]] = WeakKeyDictionary()


def step(
    layer: Any, framing: Framing, chunk: Tensor, state: FramingState, log: float | None = None
) -> tuple[Tensor, FramingState] | None:
    """What `stream` gives, or None: the ordinary way must be taken."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or framing.pad_mode == "reflect":
        return None
    one_pass = layer._one_pass()
    if one_pass is None:
        return None
    run = _run(layer, one_pass, framing.hop_length, log)
    given = None if run is None else run(state.samples, chunk, state.start)
    if given is None:
        return None
    frames, samples, start = given
    return frames, FramingState(samples, start, state.read + chunk.shape[-1])


def _run(layer: nn.Module, one_pass: OnePass, hop_length: int, log: float | None) -> Callable | None:
    """Made once, and again where a constant is another tensor, or its numbers lie elsewhere."""
    window, bank, spans, power = one_pass
    places = window.data_ptr(), bank is not None and bank.data_ptr(), spans is not None and spans.data_ptr()
    made = _made.get(layer)
    if made is None:
        made = _made[layer] = {}
    kept = made.get((power, log))
    if kept is None or kept[0] is not window or kept[1] is not bank or kept[2] is not spans or kept[3] != places:
        run = step_of(window, bank, hop_length, spans=spans, power=power, log=log)
        kept = made[power, log] = (window, bank, spans, places, run)
    return kept[4]
