"""Which form computes delayed synapses: the rule, and the measurements that it is made of."""

from collections.abc import Callable

from . import frequency

__all__ = ["few_pay", "form", "form_on_gpu"]

# What a product and a sum cost relative to a live tap's, forward and backward, on one core of an EPYC with AVX-512 (5 to 6
# picoseconds each; 256 inputs and outputs, 100 steps of 64 samples, 25 lags): in the frequency domain, and in torch's direct
# convolution, which runs at the machine's peak. Transposing signals costs as much as some taps; making a share as many
# products, by torch's own operations, and a tenth of it where that is compiled.
_FREQUENCY, _DENSE, _TRANSPOSING, _SHARE = 1.1, 0.8, 1.5, 1000.0
_TILE, _LANES = 128, 16  # of the rows that live taps are added to
# A lag of an event, forward, where kernels come from the second-level cache, and backward; and what is spent without any.
_EVENT, _EVENT_BACK, _NO_EVENT = 1.2, 0.65, 0.9
_SMALL = 1 << 22  # products, below which the frequency domain's many small steps cost more than they save


def form(
    steps: int, batch: int, inputs: int, outputs: int, synapses: int, max_delay: int, live: int, compiled: bool
) -> str:
    """Returns "taps", "frequency" or "dense": the cheapest.

    Live taps cost in proportion to their number, which falls with sigma; the frequency domain about as much as three or four
    of them at the sizes of a training, whatever sigma is; the direct convolution as max_delay + 1 lags. With one live tap
    (rounded delays) it is never the frequency domain, whose sums round where those of the weights themselves can be exact:
    streams and event engines equal a trained network's spikes.

    Args:
        steps, batch, inputs, outputs, synapses: of the call; synapses of a pair of neurons.
        live: of max_delay + 1 lags, how many a synapse uses.
        compiled: whether the form of live taps is there for this device and dtype.
    """
    costs = _costs(steps, batch, inputs, outputs, synapses, max_delay, live, compiled)
    return min(costs, key=lambda name: costs[name])


def few_pay(
    steps: int,
    batch: int,
    inputs: int,
    outputs: int,
    synapses: int,
    max_delay: int,
    live: int,
    density: Callable[[], float],
    back: bool,
) -> bool:
    """Whether events, inputs that are not zero, are so few that they cost less than `form`'s choice.

    They take all lags, in steps with an event only. Not with one live tap, for whose sake see `form`, nor in small calls.

    Args:
        density: the part of the inputs that is not zero; asked only where it could decide.
        back: for the gradients of weights and delays, not for the currents.
    """
    if live == 1 or steps * batch * inputs * outputs * live <= _SMALL:
        return False
    pairs, lags = inputs * outputs, max_delay + 1
    without = pairs * (_NO_EVENT * steps * batch + 0.1 * _SHARE * synapses * lags)
    left = min(_costs(steps, batch, inputs, outputs, synapses, max_delay, live, True).values()) - without
    event = pairs * (_EVENT_BACK if back else _EVENT) * lags
    return left > 0 and density() * (steps + max_delay) * batch * event < left


def _costs(
    steps: int, batch: int, inputs: int, outputs: int, synapses: int, max_delay: int, live: int, compiled: bool
) -> dict[str, float]:
    pairs, lags = inputs * outputs, max_delay + 1
    if not steps * batch * pairs:
        return {"dense": 0.0}
    costs = {"dense": pairs * (_DENSE * steps * batch * lags + _SHARE * synapses * lags)}
    if compiled:
        lanes = min(batch, _LANES)
        elements = -(-batch // lanes) * -(-steps * lanes // _TILE) * _TILE
        costs["taps"] = pairs * (elements * (live * synapses + _TRANSPOSING) + _SHARE * synapses * live)
    if live > 1 and steps * batch * pairs * live > _SMALL:
        products = frequency.operations(steps, batch, inputs, outputs, max_delay) / 2
        costs["frequency"] = _FREQUENCY * products + 0.1 * _SHARE * pairs * synapses * lags
    return costs


# On a GPU, from its data sheet; nobody has measured it. A float32 multiply-add costs 1, one of the frequency domain's many
# small products 1.5, and an element from the first-level cache 4 (32 elements and 128 multiply-adds a clock): live taps load
# 8 + live - 1 of them for 8 steps.
_SMALL_PRODUCT, _LOAD, _STEPS, _MOST_LIVE = 1.5, 4.0, 8, 8


def form_on_gpu(steps: int, batch: int, inputs: int, outputs: int, synapses: int, max_delay: int, live: int) -> str:
    """`form` for float32 on a GPU: live taps up to a few, then the frequency domain, whose products stay float32.

    The direct convolution is cuDNN's, of TF32 where torch allows it (`torch.backends.cudnn.allow_tf32`); by this rule it is
    left the smallest calls.
    """
    rows, lags = steps * batch, max_delay + 1
    if not rows * inputs * outputs:
        return "dense"
    costs = {"dense": float(rows * lags)}
    if live <= _MOST_LIVE:
        costs["taps"] = rows * synapses * max(live, _LOAD * (_STEPS + live - 1) / _STEPS)
    if live > 1 and rows * inputs * outputs * live > _SMALL:
        products = frequency.operations(steps, batch, inputs, outputs, max_delay) / 2
        costs["frequency"] = _SMALL_PRODUCT * products / (inputs * outputs)
    return min(costs, key=lambda name: costs[name])
