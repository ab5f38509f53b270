"""Which form computes delayed synapses: the rule, and the measurements that it is made of."""

from . import frequency

__all__ = ["form"]

# What a product and a sum cost in each form, relative to a live tap's, on two processors (AMD EPYC with 512-bit vectors,
# torch with MKL and oneDNN): the products of the frequency domain are small and go through memory; the direct convolution
# runs at the machine's peak.
_FREQUENCY, _DENSE = 1.9, 0.8
_SMALL = 1 << 22  # products of a call below which the frequency domain's many operations cost more than they save


def form(
    steps: int, batch: int, inputs: int, outputs: int, synapses: int, max_delay: int, live: int, compiled: bool
) -> str:
    """"taps", "frequency" or "dense": the cheapest way.

    With one live tap a synapse (rounded delays) it is never the frequency domain, whose sums round where those of the
    weights themselves are exact: streams and event engines equal a trained network's spikes.

    Args:
        live: of max_delay + 1 lags, how many a synapse uses.
        compiled: whether the form of live taps is there for this device and dtype.
    """
    pairs = steps * batch * inputs * outputs
    if not pairs:
        return "dense"
    # Rows of fewer samples than a vector still cost whole tiles of steps.
    costs = {"dense": _DENSE * pairs * (max_delay + 1)}
    if compiled:
        costs["taps"] = float(pairs * live * synapses)
    if live > 1 and pairs * live > _SMALL:
        costs["frequency"] = _FREQUENCY * frequency.operations(steps, batch, inputs, outputs, max_delay) / 2
    return min(costs, key=lambda name: costs[name])
