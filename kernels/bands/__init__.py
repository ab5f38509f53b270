"""From spectra to spectrograms: powers, their sums in the bands of a filter bank and the logarithm, in one pass."""

import torch
from torch import Tensor

from . import reference

__all__ = ["bands", "magnitude", "spans", "spectrogram"]


def spans(bank: Tensor) -> Tensor:
    """Where the rows of a filter bank are not 0: the first bin and the one behind the last, at least one bin.

    It is made where the bank is, without waiting for the device, and kept beside it: a layer registers it as a second
    buffer, so that both move together.

    Args:
        bank: [bands, bins].
    Shape:
        Returns int32 [bands, 2].

    >>> import torch
    >>> spans(torch.tensor([[0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
    [[1, 3], [0, 1]]
    """
    there = (bank != 0).to(torch.int8)
    empty = there.amax(1) == 0
    first = there.argmax(1)
    stop = torch.where(empty, 1, bank.shape[1] - there.flip(1).argmax(1))
    return torch.stack((first, stop), 1).to(torch.int32)


def bands(
    spectra: Tensor, bank: Tensor, *, spans: Tensor | None = None, power: float = 2.0, log: float | None = None
) -> Tensor:
    """Powers of spectra summed in the bands of a filter bank.

    B[m, t] = sum_k bank[m, k] |X[t, k]| ** power,  or with `log` the natural logarithm of (that + log)

    The gradient is 0 where a spectrum is 0. Autocast is the caller's business: no sum here may be taken in half precision.

    Args:
        spectra: [..., frames, bins], complex64 or complex128.
        bank: [bands, bins], float32 or float64 as the spectra. Gradients flow to it, too.
        spans: what `spans(bank)` says, for a bank whose rows are mostly 0. Without it all bins are summed.
        power: exponent of the magnitude, > 0.
        log: offset within the logarithm, >= 0, or None for no logarithm.
    Shape:
        Returns [..., bands, frames].

    >>> import torch
    >>> bands(torch.tensor([[3 + 4j, 1j]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([[25.],
            [27.]])
    """
    return reference.bands(spectra, bank, power, log)


def magnitude(spectra: Tensor, *, power: float = 1.0, log: float | None = None) -> Tensor:
    """|X[t, k]| ** power at [k, t], with gradient 0 where X is 0; with `log` the natural logarithm of (that + log).

    Args:
        spectra: [..., frames, bins], complex64 or complex128.
        power: exponent of the magnitude, > 0.
        log: offset within the logarithm, >= 0, or None for no logarithm.
    Shape:
        Returns [..., bins, frames].

    >>> import torch
    >>> magnitude(torch.tensor([[3 + 4j, 1j]]))
    tensor([[5.],
            [1.]])
    """
    return reference.magnitude(spectra, power, log)


def spectrogram(
    wave: Tensor,
    window: Tensor,
    bank: Tensor | None,
    hop_length: int,
    *,
    spans: Tensor | None = None,
    left: int = 0,
    right: int = 0,
    power: float = 2.0,
    log: float | None = None,
) -> Tensor:
    """The whole way from a signal to its spectrogram: `bands(rfft(frame(wave)))`, or `magnitude` without a bank.

    Args:
        wave: [..., samples], float32 or float64.
        window: [n_fft], of the same dtype.
        bank: [bands, n_fft // 2 + 1], of the same dtype, or None for the bins themselves.
        hop_length: samples from one frame to the next, >= 1.
        spans, power, log: as for `bands`.
        left, right: as for `temporal.kernels.framing.frame`.
    Shape:
        Returns [..., bands or bins, frames].

    >>> import torch
    >>> spectrogram(torch.ones(2, 8), torch.ones(4), None, 2, left=2, right=2)[0]
    tensor([[ 4., 16., 16., 16.,  4.],
            [ 2.,  0.,  0.,  0.,  2.],
            [ 0.,  0.,  0.,  0.,  0.]])
    """
    return reference.spectrogram(wave, window, bank, hop_length, left, right, power, log)
