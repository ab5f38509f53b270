"""Causal dilated convolutions, depthwise and dense, beside F.conv1d: forward, forward and backward, one step of a stream.

Ours take and give [T, B, C] and put the zeros before the first step in by themselves. The baseline is ``F.conv1d`` in the
layout it likes, [B, C, T], on an input that was padded beforehand, with nothing turned around; "between transposes" is what
stands for ours in a network with time first. Three taps to 1023, 1, 8 or 64 steps apart, with a bias; but for "gelu" there
is no activation. Backward is for input, weight and bias. A step of a stream is a call with one step, one sample and the
state of the call before; the peer carries its window along in the same way.

The truth is a product of spectra in float64. The floor is what takes longer here: the products that do not meet zeros
before the first step (twice more of them with backward), at the speed of oneDNN's own layout at its best, or the bytes of
inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temporal.benchmarks import Case, Floor, copy_floor
from temporal.convolution import CausalConv1d
from temporal.kernels import use

__all__ = ["cases"]

CONV1D, TURNED = "F.conv1d, padded before", "F.conv1d between transposes"
OURS, REFERENCE = "temporal CausalConv1d", "temporal reference"
TOLERANCE = 2e-5  # float32 sums of up to 65,000 products, relative to the largest
_FLOPS_A_BYTE = 12  # about: where flops take longer than bytes


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    taps, dilations = ((3, 9, 31, 127, 1023), (1, 8, 64)) if not quick else ((3, 40), (1, 2))
    builders: list[Callable[[], Case]] = []
    for depthwise in (True, False):
        for training in (False, True):
            for count in taps:
                for dilation in dilations:
                    if count * dilation < 1 << 14:  # the peer would read 65,000 zeros a channel
                        builders.append(partial(_case, depthwise, training, count, dilation, None, quick))
            builders.append(partial(_case, depthwise, training, taps[1], dilations[1], "gelu", quick))
    steps = ((3, 1), (31, 1), (31, 8), (127, 8)) if not quick else ((3, 2),)
    builders += [partial(_stream, depthwise, *sizes, quick) for depthwise in (True, False) for sizes in steps]
    return builders


def _layer(depthwise: bool, taps: int, dilation: int, activation: str | None, quick: bool) -> CausalConv1d:
    channels = (256 if depthwise else 64) if not quick else 20
    groups = channels if depthwise else 1
    return CausalConv1d(channels, channels, taps, dilation=dilation, groups=groups, activation=activation)


def _case(depthwise: bool, training: bool, taps: int, dilation: int, activation: str | None, quick: bool) -> Case:
    steps, samples = (1024, 8 if taps < 1000 else 2) if not quick else (20, 2)
    layer = _layer(depthwise, taps, dilation, activation, quick)
    channels = layer.in_channels
    x, grad = torch.randn(2, steps, samples, channels).unbind()
    truth = _run(lambda x, *of: _spectral(layer, x, *of), layer, x, grad, training, torch.float64)
    padded = F.pad(x.permute(1, 2, 0), ((taps - 1) * dilation, 0)).contiguous()
    turned = grad.permute(1, 2, 0).contiguous()
    ours = partial(_run, lambda x, *_: layer(x)[0], layer, x, grad, training)
    contenders: dict[str, Callable[[], Any] | None] = {
        OURS: ours,
        REFERENCE: partial(_with_reference, ours),
        CONV1D: lambda: _turned_back(_run(partial(_conv1d, layer), layer, padded, turned, training), steps),
        TURNED: partial(_run, partial(_conv1d_turned, layer), layer, x, grad, training),
    }
    met = sum(max(0, steps - k * dilation) for k in range(taps))
    flops = 2 * met * samples * channels * (1 if depthwise else channels) * (3 if training else 1)
    moved = (x.nbytes + layer.weight.nbytes) * (5 if training else 2)  # x, y; then x, y's gradient, x's gradient
    kind = "depthwise" if depthwise else "dense"
    return Case(
        name=f"{kind}{f' {activation}' if activation else ''} {'training' if training else 'inference'}",
        scope="layer only, forward and backward" if training else "layer only, forward",
        shape=f"T={steps} B={samples} C={channels} K={taps} dilation={dilation}",
        dtype="float32",
        items=steps * samples * channels,
        item="output",
        contenders=contenders,
        baseline=CONV1D,
        check=partial(_error, truth),
        tolerance=TOLERANCE,
        bytes=moved,
        flops=flops,
        floor=_flop_floor(flops, quick) if flops > _FLOPS_A_BYTE * moved else copy_floor(moved, quick=quick),
    )


def _stream(depthwise: bool, taps: int, dilation: int, quick: bool) -> Case:
    layer = _layer(depthwise, taps, dilation, None, quick)
    channels, steps, past = layer.in_channels, 64 if not quick else 4, (taps - 1) * dilation
    x = torch.randn(steps, 1, channels)
    truth = _run(lambda x, *of: _spectral(layer, x, *of), layer, x, x, False, torch.float64)
    bias: Any = layer.bias
    columns = x.permute(1, 2, 0).contiguous().unsqueeze(3).unbind(2)

    @torch.no_grad()
    def ours() -> tuple[Tensor]:
        outputs, state = [], None
        for step in x.split(1):
            y, state = layer(step, state)
            outputs.append(y)
        return (torch.cat(outputs),)

    @torch.no_grad()
    def peer() -> tuple[Tensor]:
        outputs, window = [], torch.zeros(1, channels, past + 1)
        for step in columns:
            window = torch.cat([window[..., 1:], step], 2)
            outputs.append(_conv1d(layer, window, layer.weight, bias))
        return (torch.cat(outputs, 2).permute(2, 0, 1),)

    touched = steps * (2 * layer.weight.nbytes + 4 * past * channels)
    return Case(
        name=f"{'depthwise' if depthwise else 'dense'} step",
        scope="one step a call, with the state",
        shape=f"T={steps} B=1 C={channels} K={taps} dilation={dilation}",
        dtype="float32",
        items=steps,
        item="step",
        contenders={OURS: ours, REFERENCE: partial(_with_reference, ours), CONV1D: peer},
        baseline=CONV1D,
        check=partial(_error, truth),
        tolerance=TOLERANCE,
        bytes=touched,
        floor=copy_floor(touched, quick=quick),
    )


def _run(
    call: Callable[..., Tensor], layer: CausalConv1d, x: Tensor, grad: Tensor, training: bool, dtype=torch.float32
) -> tuple[Tensor, ...]:
    """The output, and with ``training`` the gradients for input, weight and bias."""
    parameters: tuple[Any, ...] = (layer.weight, layer.bias)
    given = (x.to(dtype), *(p.to(dtype) for p in parameters))
    if not training:
        with torch.no_grad():
            return (call(*given),)
    if dtype == x.dtype:  # ours has its own parameters in hand
        given = (x.detach().requires_grad_(), *parameters)
    else:
        given = tuple(t.detach().requires_grad_() for t in given)
    y = call(*given)
    return y.detach(), *torch.autograd.grad(y, given, grad.to(dtype))


def _activated(layer: CausalConv1d, z: Tensor) -> Tensor:
    return F.gelu(z) if layer.activation == "gelu" else z


def _conv1d(layer: CausalConv1d, padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _activated(layer, F.conv1d(padded, weight, bias, dilation=layer.dilation, groups=layer.groups))


def _conv1d_turned(layer: CausalConv1d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    padded = F.pad(x.permute(1, 2, 0), ((layer.kernel_size - 1) * layer.dilation, 0))
    return _conv1d(layer, padded, weight, bias).permute(2, 0, 1).contiguous()


def _spectral(layer: CausalConv1d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution as a product of spectra."""
    steps, past = x.shape[0], (layer.kernel_size - 1) * layer.dilation
    taps = weight.new_zeros(past + 1, *weight.shape[:2])
    taps[:: layer.dilation] = weight.permute(2, 0, 1).flip(0)  # by their lag
    of_x, of_taps = (torch.fft.rfft(t, steps + past, dim=0) for t in (x, taps))
    if layer.groups > 1:
        product = of_x * of_taps[:, :, 0].unsqueeze(1)
    else:
        product = of_x @ of_taps.transpose(1, 2)
    return _activated(layer, torch.fft.irfft(product, steps + past, dim=0)[:steps] + bias)


def _turned_back(results: tuple[Tensor, ...], steps: int) -> tuple[Tensor, ...]:
    """As views, which cost nothing; without the gradient of the padding."""
    y, *grads = results
    return y.permute(2, 0, 1), *(g.permute(2, 0, 1)[-steps:] if k == 0 else g for k, g in enumerate(grads))


def _with_reference(call: Callable[[], Any]) -> Any:
    with use("reference"):
        return call()


def _error(truth: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> float:
    """The largest difference over the largest value, of the worst of the results."""
    pairs = zip(results, truth, strict=True)
    return max(float((ours.double() - true).abs().max() / true.abs().max()) for ours, true in pairs)


def _flop_floor(flops: int, quick: bool) -> Floor:
    """So many operations, by a convolution of 64 channels into 64 with 9 taps, 3 by 3, channels last."""
    side = 64 if not quick else 4
    image = torch.randn(1, 64, side + 2, side + 2).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    work = 2 * side * side * 64 * 64 * 9
    return Floor(f"{work / 1e6:.3g} Mflop of oneDNN", lambda: F.conv2d(image, weight), work / flops)
