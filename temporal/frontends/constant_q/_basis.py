"""The filters of a constant-Q transform, in float64.

Filter k is a windowed exponential of N_k samples, n = floor(-N_k / 2) .. floor(N_k / 2) - 1:

    h_k[n] = w(n) exp(2 pi i f_k n / sample_rate),  divided by its p-norm

and a frame is the inner product with it reversed in time, h_k[-n], as librosa's product of spectra has it. The window
is periodic, so that direction matters by half a sample.
"""

import math

import torch
from torch import Tensor

from .._window import WINDOWS, build_window
from ._bins import Bins
from ._plan import Octave

__all__ = ["exact_basis", "librosa_basis"]


def exact_basis(
    bins: Bins,
    octave: Octave,
    hop_length: int,
    window: str,
    norm: float | None,
    scale: bool,
    device: torch.device | None,
) -> Tensor:
    """[bins of the octave, 2, size]: real and imaginary parts, the filters as continuous curves at the octave's rate.

    The windows vanish at their ends with their slopes, so a sum at the lower rate is the sum at the full rate.
    """
    step = hop_length / octave.hop
    time = -step * torch.arange(-octave.left, octave.size - octave.left, dtype=torch.float64, device=device)
    rows = []
    for k in octave.bins:
        length = bins.lengths[k]
        first, samples = math.floor(-length / 2), math.floor(length / 2) - math.floor(-length / 2)
        size = _norm(build_window(window, samples, samples, device), norm)
        inside = (time >= first) & (time < first + samples)
        curve = torch.where(inside, _curve(window, (time - first) / samples), 0.0) if samples > 1 else inside.double()
        rows.append(_turn(curve * (_factor(length, scale) / size), bins.frequencies[k] / bins.sample_rate * time))
    return torch.stack(rows)


def librosa_basis(
    bins: Bins,
    octave: Octave,
    hop_length: int,
    window: str,
    norm: float | None,
    scale: bool,
    sparsity: float,
    device: torch.device | None,
) -> Tensor:
    """[bins of the octave, 2, size]: filters made at the octave's rate, without the weakest bins of their spectra.

    `sparsity` is the share of the sum of magnitudes that is dropped, and all negative frequencies are.
    """
    step, size = hop_length / octave.hop, octave.size
    rows = []
    for k in octave.bins:
        length = bins.lengths[k] / step
        first, stop = math.floor(-length / 2), math.floor(length / 2)
        time = torch.arange(first, stop, dtype=torch.float64, device=device)
        values = build_window(window, stop - first, stop - first, device)
        real, imaginary = _turn(values / _norm(values, norm), bins.frequencies[k] * step / bins.sample_rate * time)
        spectrum = torch.fft.fft(
            torch.nn.functional.pad(torch.complex(real, imaginary), (size // 2 + first, size // 2 - stop))
        )
        kernel = torch.fft.fft(_sparse(spectrum[: size // 2 + 1], sparsity), n=size) / size
        kernel = kernel * (_factor(bins.lengths[k], scale) / step)
        rows.append(torch.stack((kernel.real, kernel.imag)))
    return torch.stack(rows)


def _factor(length: float, scale: bool) -> float:
    return math.sqrt(length) if scale else length


def _norm(window: Tensor, norm: float | None) -> Tensor | float:
    return 1.0 if norm is None else torch.linalg.vector_norm(window, norm)


def _curve(window: str, position: Tensor) -> Tensor:
    """The window's formula at positions 0 .. 1."""
    angle = 2 * torch.pi * position
    values = torch.zeros_like(angle)
    for k, coefficient in enumerate(WINDOWS[window]):
        values = values + (-1) ** k * coefficient * torch.cos(k * angle)
    return values


def _turn(values: Tensor, cycles: Tensor) -> Tensor:
    angle = 2 * torch.pi * cycles
    return torch.stack((values * torch.cos(angle), values * torch.sin(angle)))


def _sparse(spectrum: Tensor, share: float) -> Tensor:
    """Without its smallest values: as many as sum up to less than `share` of all."""
    magnitude = spectrum.abs()
    ascending = magnitude.sort().values
    dropped = (ascending.cumsum(0) / ascending.sum() < share).sum()
    return torch.where(magnitude >= ascending.gather(0, dropped.reshape(1)), spectrum, 0.0)
