"""Delayed synapses in training: one layer, and the published network for SHD, beside dcls and SpikingJelly.

Layer: 256 inputs and outputs, 25 taps, 100 steps of 64 samples, forward and backward with the gradients of input, weights
and delays, at the width that a training begins with (12) and ends with (0.5), and with rounded delays. The baseline is
``Dcls1d``; with axonal delays one whose positions are the same for all outputs, which is its way to have them; for additive
delays and groups, which it does not have, its synaptic time stands beside.

Network: 140-256-256-20 of delayed synapses, batch norm and LIF with tau = 1.005 steps, a leaky readout, the sum over time of
softmax as in the published code, no dropout; one step's loss and the gradients of all weights and delays. Its peer has the
layers of dcls, torch's batch norm and SpikingJelly's neurons. A membrane among millions may lie so near the threshold that
rounding decides its spike, in any of the contenders, and that changes a few elements of a gradient; hence the network's
error is that of whole tensors, a norm relative to the truth's, and its tolerance larger.

Flops: two a synapse, step, sample and lag that is live (0.000001 of the largest share and more), three times for forward and
backward. The frequency domain does with fewer than that at wide sigma, so it can be above the floor, which is the time of
the flops in products of large matrices by torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temporal.benchmarks import Case
from temporal.delays import DelayedLinear
from temporal.kernels import use
from temporal.kernels.delayed._live import taps
from temporal.layers import BatchNorm, Sequential
from temporal.neurons import LI, LIF

from ._work import jelly_lif, largest_error, product_floor, relative_norm

__all__ = ["cases"]

MAX_DELAY, TAU, ALPHA = 24, 1.005, 5.0
OURS, REFERENCE, DCLS, SPIKINGJELLY = "temporal", "temporal reference", "dcls Dcls1d", "dcls + SpikingJelly"
# Relative to the largest gradient: float32 sums of 256 inputs at 25 lags, over 6400 steps for a weight.
TOLERANCE = 2e-5
TOLERANCE_NETWORK = 5e-3


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    size = (100, 64, 256) if not quick else (6, 3, 8)
    widths = (12.0, 2.0, 0.5, 0.0)
    builders: list[Callable[[], Case]] = [partial(_layer, size, "synapse", sigma, quick) for sigma in widths]
    builders += [partial(_layer, size, per, 0.5, quick) for per in ("axon", "dendrite", "additive", "group")]
    steps, samples, *_ = size
    sizes = (140, 256, 256, 20) if not quick else (6, 8, 4)
    return builders + [partial(_network, steps, samples, sizes, sigma, quick) for sigma in (12.27, 0.5)]


# --- one layer ---


def _layer(size: tuple[int, int, int], per: str, sigma: float, quick: bool) -> Case:
    steps, samples, units = size
    layer = DelayedLinear(units, units, MAX_DELAY, per=per)
    with torch.no_grad():  # off the ends, where a gradient that leads outwards does not pass
        layer.delay.mul_(0.98).add_(0.01)
    layer.set_sigma(sigma)
    x = (torch.rand(size) < 0.1).float().requires_grad_()
    pull = torch.randn(steps, samples, units)
    exact = copy.deepcopy(layer).double()
    with use("reference"):
        truth = [part.float() for part in _results(exact, x.detach().double().requires_grad_(), pull.double())]
    contenders: dict[str, Callable[[], Any] | None] = {
        OURS: partial(_results, layer, x, pull),
        REFERENCE: partial(_with_reference, layer, x, pull),
        DCLS: partial(_dcls_results, _dcls(layer), layer, x, pull) if _peer(per, sigma) else None,
    }
    live = taps(sigma, MAX_DELAY, "gaussian") if per == "synapse" else layer.groups if per == "group" else 1
    products = steps * samples * units * units * live
    return Case(
        name=f"layer, {per}, sigma {sigma:g}",
        scope="synapses only, forward and backward",
        shape=f"T={steps} B={samples} I=O={units} taps={MAX_DELAY + 1}",
        dtype="float32",
        density=x.mean().item(),
        items=steps * samples * units,
        item="output-step",
        contenders=contenders,
        baseline=DCLS if contenders[DCLS] else REFERENCE,
        check=lambda results: largest_error(results, truth, 0),
        tolerance=TOLERANCE,
        flops=6 * products,
        floor=product_floor(steps * samples, units, 6 * products),
    )


def _peer(per: str, sigma: float) -> bool:
    """dcls has synapses, and axons by the same positions for all outputs; its gaussians are 0.27 wide and more."""
    return find_spec("DCLS") is not None and sigma >= 0.27 and per in ("synapse", "axon")


def _results(layer: DelayedLinear, x: Tensor, pull: Tensor) -> tuple[Tensor, ...]:
    y, _ = layer(x)
    leaves = (x, layer.weight, layer.delay) if layer.sigma else (x, layer.weight)  # whole delays do not learn
    return y.detach(), *torch.autograd.grad(y, leaves, pull)


def _with_reference(layer: DelayedLinear, x: Tensor, pull: Tensor) -> tuple[Tensor, ...]:
    with use("reference"):
        return _results(layer, x, pull)


def _dcls(layer: DelayedLinear) -> nn.Module:
    """With the same kernels: tap k = P + L // 2 is lag max_delay - k."""
    from DCLS.construct.modules import Dcls1d

    count = MAX_DELAY + 1
    peer = Dcls1d(layer.in_features, layer.out_features, 1, dilated_kernel_size=count, bias=False, version="gauss")
    with torch.no_grad():
        peer.weight.copy_(layer.weight.unsqueeze(-1))
        position = MAX_DELAY - count // 2 - layer.delay
        peer.P.copy_(position.expand_as(layer.weight).reshape(peer.P.shape))
        peer.SIG.fill_(float(layer.sigma) - 0.27)
    peer.SIG.requires_grad_(False)
    return peer


def _dcls_results(peer: Any, layer: DelayedLinear, x: Tensor, pull: Tensor) -> tuple[Tensor, ...]:
    y = _dcls_forward(peer, x)
    of_x, of_weight, of_position = torch.autograd.grad(y, (x, peer.weight, peer.P), pull)
    of_delay = -of_position.reshape(layer.weight.shape)
    return y.detach(), of_x, of_weight.squeeze(-1), of_delay.sum_to_size(layer.delay.shape).view_as(layer.delay)


def _dcls_forward(peer: Any, x: Tensor) -> Tensor:
    return peer(F.pad(x.permute(1, 2, 0), (MAX_DELAY, 0))).permute(2, 0, 1)


# --- the network ---


class _Peer(nn.Module):
    """The published network of other libraries' layers, with the same numbers as ours."""

    readout: Any
    synapses: Any
    neurons: Any

    def __init__(self, network: Sequential):
        super().__init__()
        layers: list[Any] = list(network)
        self.synapses = nn.ModuleList(_dcls(layer) for layer in network if isinstance(layer, DelayedLinear))
        self.norms = nn.ModuleList(nn.BatchNorm1d(layer.out_features) for layer in layers[:-2:3])
        self.neurons = nn.ModuleList(jelly_lif(TAU, ALPHA) for _ in self.norms)
        self.readout = jelly_lif(TAU, ALPHA)
        self.readout.v_threshold, self.readout.store_v_seq = 1e9, True

    def forward(self, x: Tensor) -> Tensor:
        for synapses, norm, neuron in zip(self.synapses, self.norms, self.neurons, strict=False):
            x = _dcls_forward(synapses, x)
            x = neuron(norm(x.permute(1, 2, 0)).permute(2, 0, 1).contiguous())
            neuron.reset()
        self.readout(_dcls_forward(self.synapses[-1], x).contiguous())
        membranes = self.readout.v_seq
        self.readout.reset()
        return membranes


def _network(steps: int, samples: int, sizes: Sequence[int], sigma: float, quick: bool) -> Case:
    network = _ours(sizes, sigma)
    x = (torch.rand(steps, samples, sizes[0]) < 0.1).float()
    labels = torch.randint(0, sizes[-1], (samples,))
    leaves: list[Any] = [
        part for layer in network if isinstance(layer, DelayedLinear) for part in (layer.weight, layer.delay)
    ]
    exact = copy.deepcopy(network).double()
    wide = [part for layer in exact if isinstance(layer, DelayedLinear) for part in (layer.weight, layer.delay)]
    with use("reference"):
        truth = [part.float() for part in _step(lambda x: exact(x)[0], wide, x.double(), labels)]
    contenders: dict[str, Callable[[], Any] | None] = {OURS: partial(_step, lambda x: network(x)[0], leaves, x, labels)}
    contenders[SPIKINGJELLY] = None
    if find_spec("DCLS") and find_spec("spikingjelly"):
        contenders[SPIKINGJELLY] = partial(_peer_step, _Peer(network), x, labels)
    live = taps(sigma, MAX_DELAY, "gaussian")
    products = sum(a * b for a, b in pairwise(sizes)) * live * steps * samples
    return Case(
        name=f"network, sigma {sigma:g}",
        scope="end to end, loss and gradients of a training step",
        shape=f"T={steps} B={samples} {'-'.join(map(str, sizes))} taps={MAX_DELAY + 1}",
        dtype="float32",
        density=x.mean().item(),
        items=steps * samples,
        item="step",
        contenders=contenders,
        baseline=SPIKINGJELLY if contenders[SPIKINGJELLY] else OURS,
        check=lambda results: relative_norm(results, truth),
        tolerance=TOLERANCE_NETWORK,
        flops=6 * products,
        floor=product_floor(steps * samples, sizes[1], 6 * products),
        memory=not quick,
    )


def _ours(sizes: Sequence[int], sigma: float) -> Sequential:
    layers: list[Any] = []
    for inputs, outputs in pairwise(sizes):
        layer = DelayedLinear(inputs, outputs, MAX_DELAY)
        with torch.no_grad():
            layer.delay.mul_(0.98).add_(0.01)
        layer.set_sigma(sigma)
        layers += [layer, BatchNorm(outputs), LIF(TAU, surrogate=f"atan({ALPHA})")]
    return Sequential(*layers[:-2], LI(TAU))


def _step(network: Callable[[Tensor], Tensor], leaves: Sequence[Tensor], x: Tensor, labels: Tensor):
    loss = F.cross_entropy(network(x).softmax(-1).sum(0), labels)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def _peer_step(peer: _Peer, x: Tensor, labels: Tensor):
    leaves = [part for layer in peer.synapses for part in (layer.weight, layer.P)]
    loss, *found = _step(peer, leaves, x, labels)
    turned = zip(found[::2], found[1::2], strict=True)
    return loss, *(part for w, p in turned for part in (w.squeeze(-1), -p.reshape(w.shape[:2])))
