"""The variable-Q transform."""

from collections.abc import Collection
from typing import Literal

from ._transform import ConstantQ

__all__ = ["VQT"]


class VQT(ConstantQ):
    """Variable-Q transform: a `CQT` whose low filters are shorter, so that they resolve time better.

    C[k, t] as in `CQT` with N_k = filter_scale / a * sample_rate / (f_k + gamma / a)

    With gamma = 0 it is the constant-Q transform, and it goes there continuously. Short filters at low frequencies hear
    negative frequencies too: the exact mode counts them, as the sum says; librosa's product of spectra leaves them out.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        gamma: what is added to a constant relative bandwidth, in Hz, >= 0; None is 24.7 a / 0.108, the bandwidths of
            the ear (13.2 Hz with 12 bins an octave).
        hop_length, fmin, n_bins, bins_per_octave, filter_scale, norm, window, pad_mode, scale, tuning, sparsity, output,
            mode, trainable, engine, latency: as for `CQT`.
    Attributes:
        frequencies, lengths, latencies, delays: as for `CQT`.
    Shape:
        wave: [..., samples], any leading dimensions, an empty batch included (it gives an empty output).
        Returns [..., n_bins, frames], `.frames(samples)` frames.
    Raises:
        TypeError, ValueError: as `CQT`; and gamma < 0.
    References:
        Schörkhuber et al. 2014, A Matlab toolbox for efficient perfect reconstruction time-frequency transforms.
        `librosa.vqt` 0.11: mode="librosa" equals it at its defaults to 5e-4 away from the ends.
    Example:
        >>> import torch, temporal
        >>> vqt = temporal.frontends.VQT(22050, output="power")
        >>> vqt(torch.randn(2, 22050)).shape, vqt.latency < temporal.frontends.CQT(22050).latency
        (torch.Size([2, 84, 44]), True)
    """

    def __init__(
        self,
        sample_rate: float,
        *,
        hop_length: int = 512,
        fmin: float = 32.70319566257483,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        gamma: float | None = None,
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
            sample_rate, hop_length, fmin, n_bins, bins_per_octave, gamma, filter_scale, norm, window, pad_mode, scale,
            tuning, sparsity, output, mode, trainable, engine, latency,
        )  # fmt: skip
