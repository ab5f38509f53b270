"""Two exact ways to a short-time spectrum, and the rule that picks one."""

import torch
from torch import Tensor
from torch.nn import functional

from temporal.kernels.framing import frame

from ._arguments import choice

__all__ = ["build_basis", "convolve", "pick_engine"]

_SMALL = 64
_ODD_SMALL = 256


def pick_engine(owner: str, engine: str, n_fft: int, *, needs_basis: bool) -> str:
    """ "fft" or "conv" for "auto".

    The convolution costs n_fft**2 multiplications a frame, in a matrix product that runs at full speed; the FFT far fewer,
    slowly, and slower still where n_fft has a large prime factor. Milliseconds for the magnitude of about 4,000 frames
    (n_fft of 64 and more: 16,000; one thread of a Xeon, torch 2.14):

        n_fft        16    31    32    64   128   256   257   509   512
        fft         1.4   2.8   2.8   1.9   1.9   1.9   7.9   4.9   1.5
        conv        0.3   0.4   0.6   1.4   1.8   3.0   4.1   4.5   4.4

    So: conv up to 64 samples, and up to 256 where a prime factor is above 13. A basis that learns, or whose bins are not
    the FFT's, has no FFT. On a GPU the same rule holds until somebody has measured another.
    """
    choice(owner, "engine", engine, ("auto", "fft", "conv"))
    if needs_basis:
        if engine == "fft":
            raise ValueError(
                f"{owner}: engine='fft' has the bins of the FFT and nothing to learn; use engine='conv' with freq_scale "
                "or a trainable basis"
            )
        return "conv"
    if engine != "auto":
        return engine
    return "conv" if n_fft <= _SMALL or (n_fft <= _ODD_SMALL and _largest_prime(n_fft) > 13) else "fft"


def build_basis(frequencies: Tensor, n_fft: int) -> Tensor:
    """Rows cos(2 pi f n), then rows -sin(2 pi f n), for frequencies in cycles a sample: [2 * bins, n_fft] in float64."""
    turns = frequencies[:, None] * torch.arange(n_fft, dtype=torch.float64, device=frequencies.device)
    angle = 2 * torch.pi * (turns - turns.round())  # small angles lose no digits
    return torch.cat((angle.cos(), -angle.sin()))


def convolve(samples: Tensor, kernels: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    """Complex spectra [..., frames, bins] of a signal [..., samples], continued by so many zeros on both sides."""
    if left or right:
        samples = functional.pad(samples, (left, right))
    *leading, length = samples.shape
    bins, n_fft = kernels.shape[0] // 2, kernels.shape[1]
    if length < n_fft or (not torch.compiler.is_exporting() and samples.numel() == 0):  # which convolutions refuse
        frames = max(0, 1 + (length - n_fft) // hop_length)
        nothing = samples[..., :1].sum(-1, keepdim=True)[..., None] * kernels.sum()  # with a gradient
        nothing = nothing.expand(*leading, max(frames, 1), bins)[..., :frames, :]
        return torch.complex(nothing, nothing)
    if torch.compiler.is_exporting():  # the same sums; conv1d itself would leave guards on the length in the graph
        windows = frame(samples, kernels.new_ones(n_fft), hop_length)
        return torch.complex(*(windows @ kernels.t()).split(bins, -1))
    parts = functional.conv1d(samples.reshape(-1, 1, length), kernels[:, None], stride=hop_length)
    spectra = torch.complex(*parts.split(bins, 1)).transpose(1, 2)
    return spectra.unflatten(0, leading) if leading else spectra[0]


def _largest_prime(number: int) -> int:
    factor, largest = 2, 1
    while factor * factor <= number:
        if number % factor == 0:
            largest, number = factor, number // factor
        else:
            factor += 1
    return max(largest, number)
