"""Powers and bands of spectra: against their definition, torch.stft, and their own gradients."""

import math

import pytest
import torch

from temporal.kernels.bands import bands, magnitude, spans, spectrogram


def bank_of(count, bins, dtype=torch.float32):
    """Overlapping triangles over the bins, the last band empty."""
    centres = torch.linspace(0, bins - 1, count, dtype=torch.float64)[:, None]
    width = 1.5 * bins / count
    bank = (1 - (torch.arange(bins) - centres).abs() / width).clamp_min(0)
    bank[-1] = 0
    return bank.to(dtype)


def truth(wave, window, bank, hop, left, right, power, log):
    """In float64, by torch.stft."""
    padded = torch.nn.functional.pad(wave.double(), (left, right))
    spectra = torch.stft(padded, len(window), hop, window=window.double(), center=False, return_complex=True)
    result = spectra.abs() ** power
    result = result if bank is None else bank.double() @ result
    return result if log is None else torch.log(result + log)


def error(ours, true):
    return float((ours.double() - true).abs().max() / true.abs().max())


def test_spans_hold_all_that_is_not_zero():
    bank = torch.tensor([[0, 1.0, 0, 2.0, 0], [0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0, 3.0]])
    assert spans(bank).tolist() == [[1, 4], [0, 1], [0, 1], [4, 5]]
    assert spans(bank).dtype == torch.int32


@pytest.mark.parametrize("banded", [False, True])
@pytest.mark.parametrize("log", [None, 1e-6])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bands(dtype, power, log, banded):
    spectra = torch.randn(2, 3, 37, 33, dtype=dtype.to_complex())
    bank = bank_of(7, 33, dtype)
    result = bands(spectra, bank, spans=spans(bank) if banded else None, power=power, log=log)
    true = bank.double() @ (spectra.to(torch.complex128).abs() ** power).transpose(-1, -2)
    true = true if log is None else torch.log(true + log)
    assert result.dtype == dtype and result.shape == (2, 3, 7, 37)
    # Sums of at most 33 terms and one logarithm, relative to the largest.
    assert error(result, true) < (1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_magnitude(power):
    spectra = torch.randn(2, 19, 9, dtype=torch.complex64)
    result = magnitude(spectra, power=power)
    assert result.shape == (2, 9, 19)
    assert error(result, (spectra.to(torch.complex128).abs() ** power).transpose(-1, -2)) < 3e-7


@pytest.mark.parametrize("log", [None, 1e-5])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("n_fft", [64, 60, 31, 512])
@pytest.mark.parametrize("banded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectrogram(dtype, banded, n_fft, power, log):
    wave = torch.randn(3, 1000, dtype=dtype)
    window = torch.hann_window(n_fft, dtype=torch.float64).to(dtype)
    bank = bank_of(9, n_fft // 2 + 1, dtype) if banded else None
    left, right = n_fft // 2, n_fft - n_fft // 2
    result = spectrogram(
        wave,
        window,
        bank,
        17,
        spans=None if bank is None else spans(bank),
        left=left,
        right=right,
        power=power,
        log=log,
    )
    true = truth(wave, window, bank, 17, left, right, power, log)
    assert result.shape == true.shape and result.dtype == dtype
    if log is not None:  # a relative error of the power is an absolute one of its logarithm; the floor keeps it small
        result, true = result.exp(), true.exp()
    assert error(result, true) < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_gradients_in_float64(power):
    wave = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    window = torch.rand(8, dtype=torch.float64, requires_grad=True)
    bank = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)

    def call(wave, window, bank):
        return spectrogram(wave, window, bank, 5, left=4, right=4, power=power, log=0.1)

    assert torch.autograd.gradcheck(call, (wave, window, bank))


@pytest.mark.parametrize("banded", [True, False])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("log", [None, 1e-6])
def test_silence_has_finite_gradients(log, power, banded):
    wave = torch.zeros(1, 256, requires_grad=True)
    bank = bank_of(5, 33) if banded else None
    result = spectrogram(wave, torch.hann_window(64), bank, 16, power=power, log=log)
    assert result.allclose(torch.tensor(0.0 if log is None else math.log(log)))
    result.sum().backward()
    assert torch.equal(wave.grad, torch.zeros_like(wave))


@pytest.mark.parametrize("shape", [(0, 300), (2, 0, 300), (2, 10)])
def test_nothing(shape):
    bank = bank_of(5, 33)
    frames = 1 + (300 - 64) // 16 if shape[-1] == 300 else 0
    for wave in (torch.zeros(shape), torch.zeros(shape, requires_grad=True)):
        result = spectrogram(wave, torch.hann_window(64), bank, 16, spans=spans(bank), log=1e-6)
        assert result.shape == (*shape[:-1], 5, frames)
    torch.autograd.backward(result, torch.ones_like(result))
    assert wave.grad.shape == shape and not wave.grad.any()


def test_nan_stays_where_it_is():
    wave = torch.randn(1000)
    wave[500] = torch.nan
    bank = bank_of(5, 33)
    result = spectrogram(wave, torch.hann_window(64), bank, 16, spans=spans(bank))
    sees = torch.isnan(torch.ones(5)[:, None] * wave.unfold(0, 64, 16).sum(1))
    assert torch.equal(torch.isnan(result), sees)
