"""Bands of spectra on a GPU: power, sums and logarithm in one Triton kernel, which reads a spectrum from memory once.

A program is one band of FRAMES frames and reads the bins of that band only; neighbouring bands overlap, and their programs
run next to each other, so that the second reading comes from a cache. Real and imaginary parts are read as they lie, side
by side. Nothing waits for the GPU: where a band begins and ends is read there. Backward is a matrix product and an
element-wise one, which torch has.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import Launch, announce

__all__ = ["bands", "bands_backward", "plan"]

_FRAMES, _BINS = 32, 8


@triton.jit
def bands_kernel(
    spectra, bank, spans, out, frames, bins, bands, offset,
    POWER: tl.constexpr, LOGGED: tl.constexpr, FRAMES: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    """FRAMES frames of one band."""
    program = tl.program_id(0).to(tl.int64)
    band, block = program % bands, program // bands
    blocks = tl.cdiv(frames, FRAMES)
    item = block // blocks
    t = (block % blocks) * FRAMES + tl.arange(0, FRAMES)
    first, stop = tl.load(spans + 2 * band), tl.load(spans + 2 * band + 1)
    rows = spectra + ((item * frames + t) * bins * 2)[:, None]
    halves, places = tl.arange(0, 2 * BINS), tl.arange(0, BINS)
    total = tl.zeros([FRAMES], tl.float32)
    for k in range(first, stop, BINS):
        parts = 2 * k + halves
        x = tl.load(rows + parts[None, :], mask=(t < frames)[:, None] & (parts < 2 * stop)[None, :], other=0.0)
        power = tl.sum(tl.reshape(x * x, [FRAMES, BINS, 2]), 2)
        if POWER == 1:
            power = tl.sqrt(power)
        weights = tl.load(bank + band * bins + k + places, mask=k + places < stop, other=0.0)
        total += tl.sum(power * weights[None, :], 1)
    if LOGGED:
        total = tl.log(total + offset)
    tl.store(out + (item * bands + band) * frames + t, total, mask=t < frames)


announce("the spectrograms'", bands_kernel)


def bands(spectra: Tensor, bank: Tensor, spans: Tensor, power: float, log: float | None) -> Tensor:
    """``reference.bands``."""
    out, launch = plan(spectra, bank, spans, power, log)
    if launch is not None:
        launch.run(spectra.device)
    return out


def bands_backward(
    grad: Tensor, spectra: Tensor, bank: Tensor, spans: Tensor, power: float, log: float | None
) -> Tensor:
    """The gradient for the spectra."""
    if log is not None:
        grad = grad / (bands(spectra, bank, spans, power, None) + log)
    of_powers = grad.transpose(-1, -2) @ bank
    return (2 * of_powers if power == 2 else of_powers) * (spectra if power == 2 else torch.sgn(spectra))


def plan(spectra: Tensor, bank: Tensor, spans: Tensor, power: float, log: float | None) -> tuple[Tensor, Launch | None]:
    """The result, still empty, and the call that fills it, if there is anything to do."""
    *leading, frames, bins = spectra.shape
    out = bank.new_empty((*leading, bank.shape[0], frames))
    if not out.numel():
        return out, None
    arguments: dict[str, Any] = {
        "spectra": torch.view_as_real(spectra.contiguous()),
        "bank": bank.contiguous(),
        "spans": spans.contiguous(),
        "out": out,
        "frames": frames,
        "bins": bins,
        "bands": bank.shape[0],
        "offset": 0.0 if log is None else float(log),
    }
    constants = {"POWER": int(power), "LOGGED": log is not None, "FRAMES": _FRAMES, "BINS": _BINS}
    programs = out.numel() // frames * triton.cdiv(frames, _FRAMES)
    return out, Launch(bands_kernel, programs, arguments, constants)
