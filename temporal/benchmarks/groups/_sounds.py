"""What front ends are given to do in a benchmark, and the truth about it, in float64 and without a front end.

Short-time spectra are librosa's. A constant-Q transform is the direct sum: every wavelet at full length and full rate times
every stretch of the signal, which no library computes, because it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from temporal.benchmarks import Floor

__all__ = ["CHECKED", "Bank", "Shape", "direct_constant_q", "fft_floor", "gradient", "mel_gradient", "off", "voices"]

CHECKED = 2  # items of a batch that are compared with a truth that takes long; items do not depend on each other


@dataclass(frozen=True)
class Shape:
    """A batch of recordings, and the frames that are made of it."""

    batch: int
    samples: int
    rate: int
    n_fft: int
    hop: int
    mels: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.samples:,} samples at {self.rate / 1000:g} kHz, n_fft={self.n_fft} hop={self.hop}"

    @property
    def frames(self) -> int:
        """Of one recording, centred."""
        return 1 + self.samples // self.hop


def voices(batch: int, samples: int, rate: int, *, noise: float = 0.05) -> Tensor:
    """Gliding harmonics that swell and fade, in noise, within -1 .. 1: [batch, samples]."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    draw = torch.Generator().manual_seed(0)
    pitch = 80 * 2 ** (3 * torch.rand(batch, 1, generator=draw, dtype=torch.float64))
    phase = 2 * torch.pi * pitch * (time + 0.02 * torch.sin(2 * torch.pi * 3 * time))
    wave = torch.zeros(batch, samples, dtype=torch.float64)
    for number in range(1, 9):
        wave += torch.sin(number * phase) / number
    wave *= 0.2 * (1.2 + torch.sin(2 * torch.pi * 2 * time))
    return (wave + noise * torch.randn(batch, samples, generator=draw, dtype=torch.float64)).clamp(-1, 1).float()


def off(truth: Tensor | np.ndarray, out: Any) -> float:
    """Largest difference, of the truth's largest value; infinite where the shapes differ."""
    truth, out = torch.as_tensor(truth), torch.as_tensor(out)
    if out.shape != truth.shape:
        return float("inf")
    return ((out.to(truth.dtype) - truth).abs().max() / truth.abs().max()).item()


def fft_floor(shape: Shape) -> Floor:
    """The real FFTs of the frames alone, which lie windowed in memory."""
    frames = torch.randn(shape.batch, shape.frames, shape.n_fft)
    return Floor(
        f"torch's real FFTs of {shape.n_fft} points, {shape.batch * shape.frames:,} frames",
        lambda: torch.fft.rfft(frames),
    )


def gradient(out: Tensor, wave: Tensor) -> Tensor:
    """Of a weighted sum of the frames, for the waveform; the weights are the same for everybody."""
    weight = torch.linspace(0.5, 1.5, out.shape[-1]) * torch.linspace(1.5, 0.5, out.shape[-2])[:, None]
    return torch.autograd.grad((out * weight.to(out.dtype)).sum(), wave)[0]


def mel_gradient(shape: Shape, wave: Tensor) -> Tensor:
    """The same for a mel spectrogram in float64, of torch.stft and librosa's filter bank."""
    import librosa

    wave = wave.double().requires_grad_()
    bank = librosa.filters.mel(sr=shape.rate, n_fft=shape.n_fft, n_mels=shape.mels, dtype=np.float64)
    window = torch.hann_window(shape.n_fft, dtype=torch.float64)
    spectra = torch.stft(
        wave, shape.n_fft, shape.hop, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return gradient(torch.from_numpy(bank) @ (spectra.real.square() + spectra.imag.square()), wave)


@dataclass(frozen=True)
class Bank:
    """The bins of a constant-Q transform, or with a gamma (Hz) of a variable-Q transform."""

    rate: int
    fmin: float = 32.703195662574764  # C1, as librosa has it
    bins: int = 84
    per_octave: int = 12
    hop: int = 512
    gamma: float = 0.0

    @property
    def frequencies(self) -> np.ndarray:
        """In Hz."""
        return self.fmin * 2 ** (np.arange(self.bins) / self.per_octave)

    @property
    def lengths(self) -> np.ndarray:
        """Of the wavelets, in samples, not whole: Q r / (f + gamma / alpha), with Q = 1 / alpha."""
        ratio = 2 ** (2 / self.per_octave)
        alpha = (ratio - 1) / (ratio + 1)
        return self.rate / alpha / (self.frequencies + self.gamma / alpha)

    def wavelets(self) -> Tensor:
        """[bins, longest], centred on the same sample, with a sum of magnitudes of 1, in complex128."""
        size = int(2 ** np.ceil(np.log2(self.lengths.max())))
        rows = np.zeros((self.bins, size), dtype=np.complex128)
        for row, frequency, length in zip(rows, self.frequencies, self.lengths, strict=True):
            at = np.arange(np.floor(-length / 2), np.floor(length / 2))
            hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(at)) / len(at))
            wave = hann * np.exp(2j * np.pi * frequency / self.rate * at)
            # An inner product without a conjugate reads the wavelet backwards.
            row[size // 2 + at.astype(int)] = wave / np.abs(wave).sum()
        return torch.from_numpy(np.roll(rows[:, ::-1], 1, axis=1).copy())


def direct_constant_q(bank: Bank, wave: Tensor) -> Tensor:
    """The complex transform of [batch, samples], in complex128, [batch, bins, frames]; differentiable."""
    wavelets = bank.wavelets()
    size = wavelets.shape[-1]
    padded = torch.nn.functional.pad(wave.double(), (size // 2, size // 2))
    frames = padded.unfold(-1, size, bank.hop)[..., : 1 + wave.shape[-1] // bank.hop, :]
    scale = torch.from_numpy(np.sqrt(bank.lengths))
    real, imag = frames @ wavelets.real.t(), frames @ wavelets.imag.t()
    return (torch.complex(real, imag) * scale).transpose(-1, -2)
