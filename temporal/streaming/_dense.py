"""Where many inputs are active a matrix product is faster than events: the rule, and a stage's currents by a product."""

import numpy as np
import torch

from temporal.kernels.delayed import delayed_product
from temporal.kernels.events import Rows, Stage

__all__ = ["Product", "pays"]

# Nanoseconds, measured by `temporal bench events` on one core of an EPYC with AVX-512: an addition of the event engine, one
# after the other for synapses with delays of their own, side by side for rows; a multiplication with addition of a product,
# of at least so many rows.
_TAP, _ROW, _PRODUCT = 0.33, 0.04, 0.01
_ROWS = 64


def pays(stage: Stage, steps: int, batch: int, activity: float) -> bool:
    """Whether a product is the faster way to a stage's currents.

    Events cost an addition for every synapse of every active input; a product one for every pair and lag of every step, and
    of the steps behind the last that what was sent still reaches. So with 25 lags the break-even lies near 70 % of active
    inputs, without delays near 25 %; a single step never pays.

    Args:
        stage: what is computed.
        steps, batch: of the chunk.
        activity: share of its inputs that are not zero.
    """
    if steps * batch < _ROWS:
        return False
    forward = stage.forward
    depth = int(forward.delay.max()) if forward.delay.size else 0
    lags = 1 if isinstance(forward, Rows) else depth + 1
    events = activity * forward.weight.size * (_ROW if isinstance(forward, Rows) else _TAP)
    return stage.inputs * stage.size * lags * (steps + depth) / steps * _PRODUCT < events


class Product:
    """What a stage's forward synapses make of a chunk, as a matrix product, in units of the weights."""

    def __init__(self, stage: Stage):
        forward, size = stage.forward, stage.size
        self.depth = int(forward.delay.max()) if forward.delay.size else 0
        self._delay: np.ndarray | None = None
        if isinstance(forward, Rows):
            self._delay = forward.delay
            self._weight = torch.from_numpy(forward.weight.astype(np.float32))
        else:
            kernel = np.zeros((size, stage.inputs, self.depth + 1), np.float32)
            source = np.repeat(np.arange(stage.inputs), np.diff(forward.first))
            np.add.at(kernel, (forward.target, source, forward.delay), forward.weight)
            self._weight = torch.from_numpy(kernel)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: [T, B, inputs].  Returns [T + depth, B, size]: with what is still under way after the last step."""
        steps, batch, inputs = x.shape
        given = torch.from_numpy(x)
        with torch.inference_mode():
            if self._delay is None:
                history = torch.zeros(steps + 2 * self.depth, batch, inputs)
                history[self.depth : self.depth + steps] = given
                return delayed_product(history, self._weight).numpy()
            late = torch.zeros(steps + self.depth, batch, inputs) if self.depth else given
            for delay in np.unique(self._delay) if self.depth else ():
                axons = torch.from_numpy(np.flatnonzero(self._delay == delay))
                late[delay : delay + steps, :, axons] = given[:, :, axons]
            return (late @ self._weight).numpy()
