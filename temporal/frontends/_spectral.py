"""The common part of front ends that look at one short-time spectrum after the other."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from temporal.kernels.framing import frame

from ._arguments import check_trainable, read_waveform
from ._constants import DerivedConstants
from ._engine import build_basis, convolve, pick_engine
from ._framing import Count, Framing, FramingState
from ._precision import full_precision
from ._stage import FrontEnd
from ._step import OnePass, step
from ._window import build_window, check_sizes, check_window

__all__ = ["SpectralFrontEnd"]


class SpectralFrontEnd(DerivedConstants, FrontEnd):
    """Windows, their spectra by one of two engines, and `_features` of the spectra, whole or streamed.

    A subclass whose bins are not the FFT's says `own_bins` and gives `_bin_frequencies`.
    """

    window: Tensor  # [n_fft], zero outside win_length
    # With engine="conv", [2 * bins, n_fft], rows of cosines, then of negative sines:
    basis: Tensor  # where it or the window learns
    kernels: Tensor  # times the window, where neither does
    _learnable: tuple[str, ...] = ("window", "basis")

    def __init__(
        self,
        n_fft: int,
        win_length: int | None,
        hop_length: int | None,
        window: str | Tensor,
        center: bool,
        pad_mode: str,
        engine: str = "auto",
        trainable: Collection[str] = (),
        *,
        own_bins: bool = False,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.n_fft, self.win_length, self.hop_length = check_sizes(owner, n_fft, win_length, hop_length)
        self.center, self.pad_mode = bool(center), pad_mode
        self._framing = Framing(owner, self.n_fft, self.hop_length, self.center, pad_mode)
        self.latency = self._framing.latency
        self._window = check_window(owner, window, self.win_length)
        self.trainable = check_trainable(owner, trainable, self._learnable)
        needs_basis = own_bins or "basis" in self.trainable
        self.engine = pick_engine(owner, engine, self.n_fft, needs_basis=needs_basis)

    def _register_spectrum(self) -> None:
        """Build what the spectra need; a subclass calls it when its arguments are set."""
        self._register_constants("window", trainable=self.trainable)
        if self.engine == "conv":
            learns = "window" in self.trainable or "basis" in self.trainable
            self._register_constants("basis" if learns else "kernels", trainable=self.trainable)

    def _bin_frequencies(self, device: torch.device | None) -> Tensor:
        """The bins' frequencies in cycles a sample, float64: those of the FFT."""
        return torch.arange(self.n_fft // 2 + 1, dtype=torch.float64, device=device) / self.n_fft

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        window = build_window(self._window, self.win_length, self.n_fft, device)
        if name == "window":
            return window
        basis = build_basis(self._bin_frequencies(device), self.n_fft)
        return basis if name == "basis" else basis * window

    def _features(self, spectra: Tensor) -> Tensor:
        """Complex spectra [..., frames, n_fft // 2 + 1] -> [..., bins, frames]."""
        raise NotImplementedError

    def _one_pass(self) -> OnePass | None:
        """What `spectrogram` needs where it does all of the layer's work; None where it does not."""
        return None

    def frames(self, samples: Count) -> Count:
        """The exact number of frames that so many samples give; an int, or an integer tensor of any shape.

        `1 + samples // hop_length` for an even `n_fft` with `center=True`; `1 + (samples - n_fft) // hop_length`, but
        at least 0, with `center=False`.
        """
        return self._framing.count(samples)

    def forward(self, wave: Tensor, **absorbed: Any) -> Tensor:
        """[..., samples] -> [..., bins, frames]. `absorbed` is for `Chain`: see `absorbs`."""
        return self._transform(*self._framing.whole(self._read(wave)), **absorbed)

    def stream(self, chunk: Tensor, state: FramingState | None = None, **absorbed: Any) -> tuple[Tensor, FramingState]:
        """The frames that are complete now, and the end of the signal that later frames reach back to."""
        if state is None:
            self._check_streams()
        elif (given := step(self, self._framing, chunk, state, **absorbed)) is not None:
            return given
        samples, state = self._framing.stream(self._read(chunk), state)
        return self._transform(samples, **absorbed), state

    def flush(self, state: FramingState, **absorbed: Any) -> tuple[Tensor, None]:
        """The last frames, whose windows reach beyond the end of the signal."""
        self._check_streams()
        return self._transform(self._framing.flush(state)[0], **absorbed), None

    def _read(self, wave: Tensor) -> Tensor:
        return read_waveform(self._framing.owner, wave)

    def _transform(self, samples: Tensor, left: int = 0, right: int = 0) -> Tensor:
        """What the windows give that lie in these samples, continued by so many zeros on both sides."""
        with full_precision(samples):
            return self._features(self._spectra(samples, left, right))

    def _spectra(self, samples: Tensor, left: int, right: int) -> Tensor:
        """Complex spectra [..., frames, bins]."""
        if self.engine == "conv":
            return convolve(samples, self._windowed_basis(samples.dtype), self.hop_length, left, right)
        frames = frame(samples, self._constant("window", samples.dtype), self.hop_length, left=left, right=right)
        if frames.numel() == 0:  # MKL refuses an empty batch; this one has the shape, and a gradient
            bins = frames[..., : self.n_fft // 2 + 1]
            return torch.complex(bins, bins)
        return torch.fft.rfft(frames)

    def _windowed_basis(self, dtype: torch.dtype) -> Tensor:
        if hasattr(self, "kernels"):
            return self._constant("kernels", dtype)
        return self._constant("basis", dtype) * self._constant("window", dtype)
