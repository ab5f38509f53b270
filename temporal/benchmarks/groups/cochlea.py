"""The cochlea: sound to release probabilities of 700 places, and to spikes, on the backends that can.

An item is a millisecond of sound: 1e5 ns an item are ten times faster than real time. The converter that made SHD and
SSC is not among the contenders: it needs 170 ms for one.

What a travelling wave cannot do without, for a sound of k steps and each place: an inverse real FFT of k points (2.5 k
log2 k flops), and the product with the response before it (3 k). Hair cell: 19 flops a step. Gammatone filters: 50 in
place of FFT and product. Drawing the fibres' releases and the bushy cell: 60 more where there are spikes. The floor is
the FFTs alone, by torch, at the nearest length that it is fast at; or, for gammatone filters, a copy of the
probabilities that must be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from temporal.benchmarks import Case, Floor, copy_floor
from temporal.frontends import Cochlea
from temporal.kernels import use

__all__ = ["cases"]

# Of the peak, for a probability: what the layer promises of the converter's numbers.
TOLERANCE = 1e-5
# Spikes are a draw; both backends draw with the same numbers, but a probability that differs in its last bit may turn
# a draw, and what follows it: relative to all.
SPIKES = 0.02
HAIR_CELL, CELLS, FILTERS = 19, 60, 50  # flops a step and place


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    channels = 700 if not quick else 20
    ears = (
        ("travelling wave", 16_000, {"circular": True}),
        ("travelling wave", 48_000, {"circular": True, "preset": "article"}),
        ("overlap-save", 16_000, {"circular": False}),
        ("overlap-save", 48_000, {"circular": False, "preset": "article"}),
        ("gammatone", 16_000, {"membrane": "gammatone"}),
    )
    return [
        partial(_case, name, rate, 0.03 if quick else 16_000 / rate, channels, output, options, quick)
        for name, rate, options in ears
        for output in ("probability", "spikes")
    ]


def _case(name: str, rate: int, seconds: float, channels: int, output: Any, options: dict, quick: bool) -> Case:
    ear = Cochlea(rate, channels=channels, output=output, **options)
    wave = _voice(int(rate * seconds))
    with use("reference"):
        truth = ear(wave)
    steps = truth.shape[-1]
    flops = _flops(steps, ear.membrane, output) * channels
    written = 4 * truth.numel()
    floor = copy_floor(2 * written, quick=quick) if ear.membrane == "gammatone" else _transforms(steps, channels)
    contenders: dict[str, Callable[[], Tensor] | None] = {"temporal cpu": partial(_with, "cpu", ear, wave)}
    if quick or (output == "probability" and rate == 16_000):  # a loop over steps in Python: seconds
        contenders["temporal reference"] = partial(_with, "reference", ear, wave)
    return Case(
        name=f"{name}, {output}",
        scope="end to end, one recording",
        shape=f"{seconds:.3g} s at {rate} Hz, C={channels}",
        dtype="float32",
        density=truth.mean().item() if output == "spikes" else None,
        items=round(1000 * seconds),
        item="ms of sound",
        contenders=contenders,
        baseline=next(reversed(contenders)),
        check=partial(_turned if output == "spikes" else _off, truth),
        tolerance=SPIKES if output == "spikes" else TOLERANCE,
        bytes=4 * wave.numel() + written,
        flops=flops,
        floor=floor,
    )


def _with(backend: str, ear: Cochlea, wave: Tensor) -> Tensor:
    with use(backend):
        return ear(wave)


def _off(truth: Tensor, out: Tensor) -> float:
    """Largest difference, of the peak."""
    return ((out - truth).abs().max() / truth.abs().max()).item()


def _turned(truth: Tensor, out: Tensor) -> float:
    """Spikes that only one of two has, of all."""
    return ((out != truth).sum() / truth.sum().clamp_min(1)).item()


def _flops(steps: int, membrane: str, output: str) -> int:
    """For one place."""
    moving = FILTERS if membrane == "gammatone" else 2.5 * math.log2(steps) + 3
    return round(steps * (moving + HAIR_CELL + (CELLS if output == "spikes" else 0)))


def _transforms(steps: int, channels: int) -> Floor:
    """Inverse real FFTs, 64 places at a time, of about as many points."""
    points = 1000 * max(1, round(steps / 1000))
    spectra = torch.randn(min(64, channels), points // 2 + 1, dtype=torch.complex64)
    what = f"inverse FFTs of {points} points, {len(spectra)} of {channels} places"
    return Floor(what, lambda: torch.fft.irfft(spectra, n=points), len(spectra) * points / (channels * steps))


def _voice(samples: int) -> Tensor:
    """Noise of a falling spectrum, in bursts."""
    spectrum = torch.fft.rfft(torch.randn(samples))
    frequency = torch.linspace(0, 8000, len(spectrum))
    noise = torch.fft.irfft(spectrum * (frequency > 60) / (1 + frequency / 300), n=samples)
    return noise * (1 + torch.sin(torch.arange(samples) / 500.0))
