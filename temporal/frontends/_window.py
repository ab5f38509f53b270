"""Windows by name, and a window's place within a longer FFT."""

import torch
from torch import Tensor

from ._arguments import choice, positive_int

__all__ = ["WINDOWS", "build_window", "check_sizes", "check_window"]

# Coefficients a_k of w[n] = sum_k (-1)^k a_k cos(2 pi k n / N): the periodic form, as spectral analysis needs it.
WINDOWS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
    "nuttall": (0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "flattop": (0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
    "boxcar": (1.0,),
}


def check_sizes(owner: str, n_fft: int, win_length: int | None, hop_length: int | None) -> tuple[int, int, int]:
    """n_fft, win_length (by default as long) and hop_length (by default a quarter of that), in samples."""
    n_fft = positive_int(owner, "n_fft", n_fft, "samples")
    win_length = n_fft if win_length is None else positive_int(owner, "win_length", win_length, "samples")
    if win_length > n_fft:
        raise ValueError(f"{owner}: win_length={win_length} is longer than n_fft={n_fft}; give win_length <= n_fft")
    hop_length = max(1, win_length // 4) if hop_length is None else hop_length
    return n_fft, win_length, positive_int(owner, "hop_length", hop_length, "samples")


def check_window(owner: str, window: str | Tensor, win_length: int) -> str | Tensor:
    """The window's name, or the user's own window in float64 and apart from the tensor that came."""
    if not isinstance(window, Tensor):
        return choice(owner, "window", window, WINDOWS)
    if window.shape != (win_length,):
        raise ValueError(
            f"{owner}: window is a tensor of shape {list(window.shape)}; give [win_length] = [{win_length}] values"
        )
    if window.is_complex() or not bool(torch.isfinite(window).all()):
        raise ValueError(f"{owner}: window is a tensor with values that are complex or not finite")
    return window.detach().to("cpu", torch.float64, copy=True)


def build_window(window: str | Tensor, win_length: int, n_fft: int, device: torch.device | None) -> Tensor:
    """The window in float64, with zeros on both sides up to `n_fft` (the odd one out on the right, as in librosa)."""
    if isinstance(window, Tensor):
        values = window.to(device or torch.get_default_device())
    elif win_length == 1:  # the formula gives 0 for one sample
        values = torch.ones(1, dtype=torch.float64, device=device)
    else:
        angle = torch.arange(win_length, dtype=torch.float64, device=device) * (2 * torch.pi / win_length)
        values = torch.zeros_like(angle)
        for k, coefficient in enumerate(WINDOWS[window]):
            values = values + (-1) ** k * coefficient * torch.cos(k * angle)
    left = (n_fft - win_length) // 2
    return torch.nn.functional.pad(values, (left, n_fft - win_length - left))
