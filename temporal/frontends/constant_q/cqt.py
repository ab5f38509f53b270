"""The constant-Q transform."""

from collections.abc import Collection
from typing import Literal

from ._transform import ConstantQ

__all__ = ["CQT"]


class CQT(ConstantQ):
    """Constant-Q transform: bins even in pitch, each with a filter as long as its pitch needs.

    C[k, t] = sqrt(N_k) sum_n x[t * hop_length + n] h_k[-n]
    h_k[n] = w_k(n) exp(2 pi i f_k n / sample_rate) / |w_k|_norm,   n = floor(-N_k / 2) .. floor(N_k / 2) - 1
    f_k = fmin 2^((k + tuning) / bins_per_octave),   N_k = filter_scale / a * sample_rate / f_k
    a = (2^(2 / bins_per_octave) - 1) / (2^(2 / bins_per_octave) + 1)

    with a periodic window w_k and zeros beyond the signal's ends: a bin whose filter is longer than the signal is
    computed all the same, as in librosa, which warns. Frames are float32 (complex64), under autocast and for half
    precision input too; float64 input gives float64. Gradients are finite on silence. A sample that is NaN or infinite
    makes the frames that see it NaN, and in the "fft" engine all of the same signal; other items of the batch never.

    Args:
        sample_rate: of the signal, in Hz, > 0.
        hop_length: samples from one frame to the next, >= 1, any number.
        fmin: frequency of the first bin, in Hz, > 0; C1 by default.
        n_bins: number of bins, >= 1; the highest one's band must end below the Nyquist frequency.
        bins_per_octave: >= 1.
        filter_scale: length of the filters, > 0; below 1 they resolve time better and pitch less.
        norm: p of the p-norm that a filter is divided by, > 0, or None.
        window: "hann", "blackman", "blackmanharris" or "nuttall"; "hamming", "flattop" and "boxcar" do not end in 0, so
            the exact mode computes them by convolution.
        pad_mode: how the signal goes on beyond its ends: "constant" (zeros) or "reflect".
        scale: the factor sqrt(N_k), which gives all bins the same level on white noise; without it the factor is N_k.
        tuning: how much sharper all bins are, in bins.
        sparsity: the share of each filter's spectrum that librosa mode leaves out, 0 <= sparsity < 1.
        output: "magnitude" |C|, "power" |C|^2, "complex" C, or "phase", the angle of C in radians (0 where C is 0).
        mode: "exact" is the sum above. "librosa" has librosa's own approximations: its octaves each at half the rate of
            the one above, without negative frequencies and the weakest `sparsity` of the spectrum, and as long as its.
        trainable: names of what learns: ("basis",) makes the octaves' filters parameters `basis_0` (the highest
            octave), ..., each [bins, 2, samples], real and imaginary parts. Otherwise they are rebuilt, not stored.
        engine: "fft" computes low octaves at lower rates, within 1e-5 of the peak of "conv", a 1-D convolution with
            each filter at the full rate (measured: 7e-6 on noise, 3e-6 on chirps; 4e-5 for a lone click between two
            frames, whose peak is small); "auto" is "fft" where the window allows it. Trained filters belong to their
            engine.
        latency: "aligned": all bins of a frame have the frame's time. "per_octave": each octave is late by as many whole
            frames as it must wait longer than the fastest, `.delays`, so a frame leaves a stream with the newest value
            that each octave has. What the low octaves would still say after the last frame is not given: append
            silence to hear it.
    Attributes:
        frequencies: centre of each bin in Hz; lengths: N_k in samples; latencies: samples that each bin needs after a
            frame's time; delays: frames by which it is late. All [n_bins].
    Shape:
        wave: [..., samples], any leading dimensions, an empty batch included (it gives an empty output).
        Returns [..., n_bins, frames], `.frames(samples)` frames: 1 + samples // hop_length.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: a bin above the Nyquist frequency (the error names the highest that fits); an argument out of range;
            with "reflect" a signal shorter than what the lowest bin reflects; `.stream` in librosa mode with "reflect".
    References:
        Brown 1991, Calculation of a constant Q spectral transform. `librosa.cqt` 0.11: mode="exact" equals it at an odd
        hop (where it does not decimate) with sparsity=0 to 1e-4 of the peak, mode="librosa" equals it at its defaults to
        2e-4 away from the ends (14 hops of 512) and to 2e-2 at the ends, where its resampler rings.
    Example:
        >>> import torch, temporal
        >>> cqt = temporal.frontends.CQT(22050)
        >>> cqt(torch.randn(2, 22050)).shape, cqt.frames(22050)
        (torch.Size([2, 84, 44]), 44)
        >>> head, state = cqt.stream(torch.randn(2, 12000))
        >>> tail, _ = cqt.flush(state)
        >>> head.shape[-1] + tail.shape[-1] == cqt.frames(12000)
        True
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
