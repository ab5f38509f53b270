"""Where many inputs are active a matrix product is faster than events: the rule, and a stage's currents by a product."""

import numpy as np
import torch

from temporal.kernels.delayed import delayed_product
from temporal.kernels.events import Rows, Stage

__all__ = ["Product", "pays", "rows_pay"]

# Nanoseconds on one core of an EPYC with AVX-512, measured with 256 inputs and outputs, 3200 steps of samples: an event; its
# additions, one after the other where synapses have delays of their own, else side by side; a multiplication with addition
# of a convolution, of a plain product, and of one whose inputs are shifted first, by axonal delays.
_EVENT, _TAP, _ROW = 4.0, 0.31, 0.045
_CONVOLUTION, _PLAIN, _SHIFTED = 0.0086, 0.019, 0.045
_STEPS = 64  # of all samples together, below which a product is slower a step


def pays(stage: Stage, steps: int, batch: int, activity: float) -> bool:
    """Whether a product is the faster way to a stage's currents.

    Events cost an addition for every synapse of every active input; a product one for every pair and lag of every step, and
    of the steps behind the last that what was sent still reaches. With 256 inputs and outputs and chunks of 100 steps the
    break-even lies near 80 % of active inputs with 25 lags, 90 % with axonal delays, 33 % without; a single step never pays.

    Args:
        stage: what is computed.
        steps, batch: of the chunk.
        activity: share of its inputs that are not zero.
    """
    if steps * batch < _STEPS:
        return False
    forward, depth = stage.forward, _depth(stage)
    if isinstance(forward, Rows):
        addition, lags, product = _ROW, 1, _SHIFTED if depth else _PLAIN
    else:
        addition, lags, product = _TAP, depth + 1, _CONVOLUTION
    events = activity * (stage.inputs * _EVENT + forward.weight.size * addition)
    return stage.inputs * stage.size * lags * (steps + depth) / steps * product < events


def rows_pay(left: int, synapses: int) -> bool:
    """Whether rows of all weights are faster than the weights that are left, each at a place of its own: above 15 %."""
    return left * _TAP >= synapses * _ROW


def _depth(stage: Stage) -> int:
    return int(stage.forward.delay.max(initial=0))


class Product:
    """What a stage's forward synapses make of a chunk, as a matrix product, in units of the weights."""

    def __init__(self, stage: Stage):
        forward, size = stage.forward, stage.size
        self.depth = _depth(stage)
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
