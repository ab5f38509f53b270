"""Waveform to coefficients and back, with given tables: real FFT, windows, one small FFT for each band."""

import torch
from torch import Tensor

from ._bands import Tables

__all__ = ["analyse", "synthesise"]


def analyse(wave: Tensor, tables: Tables) -> list[Tensor]:
    """[..., at most tables.samples] -> the groups' coefficients, complex [..., bands, frames]."""
    wave = torch.nn.functional.pad(wave, (0, tables.samples - wave.shape[-1]))
    spectrum = torch.fft.rfft(wave)
    runs = torch.cat([spectrum[..., first:stop] for first, stop in tables.runs], -1) * tables.analysis
    sizes = [bands * frames for bands, frames in tables.shapes]
    if torch.onnx.is_in_onnx_export():
        parts = _gathered(runs, tables.place, sizes)
    else:
        spectra = runs.new_zeros((*runs.shape[:-1], sum(sizes)))
        parts = spectra.scatter_(-1, tables.place.expand(runs.shape), runs).split(sizes, -1)
    return [
        torch.fft.ifft(part.unflatten(-1, shape), norm="forward")
        for part, shape in zip(parts, tables.shapes, strict=True)
    ]


def synthesise(coefficients: list[Tensor], tables: Tables) -> Tensor:
    """The groups' coefficients, complex [..., bands, frames] -> [..., tables.samples]."""
    spectra = torch.cat([torch.fft.fft(part).flatten(-2) for part in coefficients], -1)
    runs = spectra.gather(-1, tables.place.expand(*spectra.shape[:-1], -1)) * tables.synthesis
    bins = tables.samples // 2 + 1
    (first, stop), (other_first, other_stop) = tables.runs
    even, odd = runs.split([stop - first, other_stop - other_first], -1)
    pad = torch.nn.functional.pad
    spectrum = pad(even, (first, bins - stop)) + pad(odd, (other_first, bins - other_stop))
    return torch.fft.irfft(spectrum, n=tables.samples)


def _gathered(runs: Tensor, place: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Bin j at place[j] and 0 elsewhere, in parts of these sizes: ONNX can neither scatter nor split complex numbers."""
    bins = runs.shape[-1]
    source = torch.full((sum(sizes),), bins, device=place.device)
    source = source.scatter(0, place, torch.arange(bins, device=place.device))
    spectra = torch.nn.functional.pad(torch.view_as_real(runs), (0, 0, 0, 1)).index_select(-2, source)
    return tuple(torch.complex(part[..., 0], part[..., 1]) for part in spectra.split(sizes, -2))
