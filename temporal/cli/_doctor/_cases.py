"""The process of the check: computes each case, and prints a line of JSON for it."""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from temporal.benchmarks import Case, Floor
from temporal.benchmarks._measure import CaseResult, Pace, measure, time_text
from temporal.benchmarks.groups._sounds import Shape, fft_floor, off, voices
from temporal.benchmarks.groups._work import TOLERANCE, Work, largest_error, outputs_of, product_floor
from temporal.benchmarks.groups.events import _network, _step_by_step
from temporal.delays import DelayedLinear
from temporal.frontends import MelSpectrogram
from temporal.kernels import use
from temporal.kernels.delayed._live import taps
from temporal.neurons import LIF
from temporal.streaming import Runner

from ._finding import Finding

__all__ = ["cases", "finding"]

_PACE = Pace(least=5, most=51, seconds=1.0)
_COPIED = 128 << 20  # bytes
_US = "temporal"


def cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    """Name and builder of each. Sizes are those of a small training: seconds in all."""
    yield "LIF, inference", partial(_neurons, False)
    yield "LIF, training", partial(_neurons, True)
    yield "DelayedLinear, training", _delays
    yield "MelSpectrogram", _mel
    yield "stream of steps", _steps
    if torch.cuda.is_available():
        yield "LIF on the GPU", partial(_neurons, True, "cuda")


def _case(call: Callable[[], Any], check: Callable[[Any], float], tolerance: float, items: int, **fields: Any) -> Case:
    return Case(name="", scope="", dtype="float32", contenders={_US: call}, baseline=_US, check=check, tolerance=tolerance,
                items=items, item="", **fields)  # fmt: skip


def _neurons(training: bool, device: str = "cpu") -> Case:
    layer = LIF(2.0)
    work = Work.draw(layer, (100, 32, 256), training)
    size = work.x.numel()
    if device != "cpu":
        work.x, work.weight = (part.detach().to(device) for part in (work.x, work.weight))
        work.x.requires_grad_(training)
    moved = size * (20 if training else 8)  # the unavoidable bytes, as in `temporal bench lif`
    return _case(
        partial(_finished, work, layer), lambda result: work.error([part.cpu() for part in result]), TOLERANCE, size,
        shape="100 steps of 32 x 256", bytes=moved, floor=_copy(moved) if device == "cpu" else None,
    )  # fmt: skip


def _copy(moved: int) -> Floor:
    """The time of so many bytes. Its buffers stay small beside a modest memory, and may fit into very large caches."""
    source, target = torch.zeros(_COPIED, dtype=torch.uint8), torch.zeros(_COPIED, dtype=torch.uint8)
    return Floor(f"copy of {_COPIED / 1e6:.3g} MB", lambda: target.copy_(source), 2 * _COPIED / moved)


def _finished(work: Work, layer: LIF) -> tuple[torch.Tensor, ...]:
    result = work.run(outputs_of(layer))
    if result[0].is_cuda:
        torch.cuda.synchronize()
    return result


def _delays() -> Case:
    steps, samples, units, sigma = 50, 16, 128, 0.5
    layer = DelayedLinear(units, units, 24)
    layer.set_sigma(sigma)
    x = (torch.rand(steps, samples, units) < 0.1).float().requires_grad_()
    pull = torch.randn(steps, samples, units)

    def trained(layer: DelayedLinear, x: torch.Tensor, pull: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, _ = layer(x)
        return y.detach(), *torch.autograd.grad(y, (x, layer.weight, layer.delay), pull)

    with use("reference"):
        wide = x.detach().double().requires_grad_()
        truth = [part.float() for part in trained(copy.deepcopy(layer).double(), wide, pull.double())]
    flops = 6 * steps * samples * units * units * taps(sigma, 24, "gaussian")
    # float32 sums of 128 inputs at 25 lags, over 800 steps for a weight, relative to the largest
    return _case(
        partial(trained, layer, x, pull), lambda result: largest_error(result, truth, 0), 2e-5, steps * samples * units,
        shape="50 steps of 16 x 128, 25 taps", flops=flops, floor=product_floor(steps * samples, units, flops),
    )  # fmt: skip


@torch.no_grad()
def _mel() -> Case:
    shape = Shape(4, 32_000, 16_000, 512, 160, 64)
    wave = voices(shape.batch, shape.samples, shape.rate)
    layer = MelSpectrogram(shape.rate, n_fft=shape.n_fft, hop_length=shape.hop, n_mels=shape.mels)
    with use("reference"):
        truth = copy.deepcopy(layer).double()(wave.double())
    return _case(
        partial(layer, wave), partial(off, truth), 1e-5, truth.numel(),
        shape="4 x 2 s at 16 kHz, 64 bands", bytes=wave.nbytes + truth.numel() * 4, floor=fft_floor(shape),
    )  # fmt: skip


@torch.no_grad()
def _steps() -> Case:
    """A network one step at a time, by events, against the same network on all steps at once."""
    network = _network((140, 128, 20))
    x = (torch.rand(200, 1, 140) < 0.05).float()
    truth = network(x)[0]
    # The readout's leak rounds; spikes are exact on these weights, which lie on a grid.
    return _case(
        partial(_step_by_step, Runner(network, "event"), x.numpy()), lambda y: (y - truth).abs().max().item(), 1e-5, 200,
        shape="200 steps, 140-128-20", bytes=x.nbytes,
    )  # fmt: skip


def finding(name: str, build: Callable[[], Case]) -> Finding:
    """Of one case; what it raises is one, too."""
    try:
        result = measure(build(), pace=_PACE)
    except Exception as error:
        return Finding(name, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", "problem")
    (row,) = result.rows
    if row.seconds is None:
        return Finding(name, f"{result.shape}: {row.status}: {row.message}", "problem", data=_data(result))
    exactness = "exact" if row.error == 0 else f"error {row.error:.0e} of {result.tolerance:.0e} allowed"
    text = f"{result.shape}: {exactness}; {time_text(row.seconds.median)}"
    if row.times_floor is not None:
        text += f", {row.times_floor:.1f} times the floor ({result.floor})"
    elif name == "stream of steps":
        text += f", {time_text(row.seconds.median / result.items)} a step"
    return Finding(name, text, data=_data(result))


def _data(result: CaseResult) -> dict[str, Any]:
    return {"floor_seconds": result.floor_seconds and result.floor_seconds.median, **asdict(result.rows[0])}


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, build in cases():
        sys.stdout.write(json.dumps(asdict(finding(name, build))) + "\n")
        sys.stdout.flush()
