"""The common part of front ends that look at one short-time spectrum after the other."""

import torch
from torch import Tensor

from ._arguments import positive_int, read_waveform
from ._constants import DerivedConstants
from ._framing import Framing, FramingState
from ._precision import full_precision
from ._stage import FrontEnd
from ._window import build_window, check_window

__all__ = ["SpectralFrontEnd", "spectral_power"]


class SpectralFrontEnd(DerivedConstants, FrontEnd):
    """Windows, their real FFT, and `_features` of the spectra, whole or streamed."""

    window: Tensor  # [n_fft], zero outside win_length

    def __init__(
        self,
        n_fft: int,
        win_length: int | None,
        hop_length: int | None,
        window: str | Tensor,
        center: bool,
        pad_mode: str,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.n_fft = positive_int(owner, "n_fft", n_fft, "samples")
        self.win_length = self.n_fft if win_length is None else positive_int(owner, "win_length", win_length, "samples")
        if self.win_length > self.n_fft:
            raise ValueError(
                f"{owner}: win_length={self.win_length} is longer than n_fft={self.n_fft}; give win_length <= n_fft"
            )
        if hop_length is None:
            hop_length = max(1, self.win_length // 4)
        self.hop_length = positive_int(owner, "hop_length", hop_length, "samples")
        self.center, self.pad_mode = bool(center), pad_mode
        self._framing = Framing(owner, self.n_fft, self.hop_length, self.center, pad_mode)
        self.latency = self._framing.latency
        self._window = check_window(owner, window, self.win_length)

    def _register_spectrum(self) -> None:
        """Build what the spectra need; a subclass calls it when its arguments are set."""
        self._register_constants("window")

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        return build_window(self._window, self.win_length, self.n_fft, device)

    def _features(self, spectra: Tensor) -> Tensor:
        """Complex spectra [..., frames, n_fft // 2 + 1] -> [..., bins, frames]."""
        raise NotImplementedError

    def frames(self, samples: int | Tensor) -> int | Tensor:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape.

        `1 + samples // hop_length` for an even `n_fft` with `center=True`; `1 + (samples - n_fft) // hop_length`, but
        at least 0, with `center=False`.
        """
        return self._framing.count(samples)

    def forward(self, wave: Tensor) -> Tensor:
        """[..., samples] -> [..., bins, frames]."""
        return self._transform(self._framing.whole(self._read(wave)))

    def stream(self, chunk: Tensor, state: FramingState | None = None) -> tuple[Tensor, FramingState]:
        """The frames that are complete now, and the end of the signal that later frames reach back to."""
        self._check_streams()
        windows, state = self._framing.stream(self._read(chunk), state)
        return self._transform(windows), state

    def flush(self, state: FramingState) -> tuple[Tensor, None]:
        """The last frames, whose windows reach beyond the end of the signal."""
        self._check_streams()
        windows, _ = self._framing.flush(state)
        return self._transform(windows), None

    def _read(self, wave: Tensor) -> Tensor:
        return read_waveform(self._framing.owner, wave)

    def _transform(self, windows: Tensor) -> Tensor:
        with full_precision(windows):
            return self._features(self._spectra(windows))

    def _spectra(self, windows: Tensor) -> Tensor:
        windowed = windows * self._constant("window", windows.dtype)
        if windowed.numel() == 0:  # MKL refuses an empty batch; this one has the shape, and a gradient
            bins = windowed[..., : self.n_fft // 2 + 1]
            return torch.complex(bins, bins)
        return torch.fft.rfft(windowed)


def spectral_power(spectra: Tensor, power: float) -> Tensor:
    """|spectra| ** power, with a finite gradient where the spectrum is 0."""
    if power == 2:
        return spectra.real.square() + spectra.imag.square()
    magnitude = spectra.abs()
    if power == 1:
        return magnitude
    silent = magnitude == 0  # x ** p with p < 1 has an infinite slope at 0
    return torch.where(silent, 1.0, magnitude).pow(power).masked_fill(silent, 0.0)
