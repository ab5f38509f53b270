"""The constant-Q transform."""

from collections.abc import Collection
from typing import Literal

from .transform import ConstantQ

__all__ = ["CQT"]


class CQT(ConstantQ):
    """Constant-Q transform: bins even in pitch, each with a filter as long as its pitch needs.

    C[k, t] = sqrt(N_k) sum_n x[t * hop_length + n] h_k[-n]

    Args:
        sample_rate: of the signal, in Hz, > 0.
    Example:
        >>> import torch, temporal
        >>> cqt = temporal.frontends.CQT(22050)
        >>> cqt(torch.randn(2, 22050)).shape, cqt.frames(22050)
        (torch.Size([2, 84, 44]), 44)
    """

    def __init__(
        self,
        sample_rate: float,
        *,
        hop_length: int = 512,
        fmin: float = 32.70319566257483,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        filter_scale: float = 1.0,
        norm: float | None = 1,
        window: str = "hann",
        pad_mode: Literal["constant", "reflect"] = "constant",
        scale: bool = True,
        tuning: float = 0.0,
        sparsity: float = 0.01,
        output: Literal["magnitude", "power", "complex", "phase"] = "magnitude",
        mode: Literal["exact", "librosa"] = "exact",
        trainable: Collection[str] = (),
        engine: Literal["auto", "fft", "conv"] = "auto",
        latency: Literal["aligned", "per_octave"] = "aligned",
    ) -> None:
        super().__init__(
            sample_rate, hop_length, fmin, n_bins, bins_per_octave, 0.0, filter_scale, norm, window, pad_mode, scale,
            tuning, sparsity, output, mode, trainable, engine, latency,
        )  # fmt: skip
