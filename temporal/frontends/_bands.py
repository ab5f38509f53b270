"""The common part of front ends that sum the power of short-time spectra in bands."""

import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from temporal.kernels.bands import bands, spectrogram
from temporal.kernels.bands import spans as bank_spans

from ._arguments import real
from ._precision import full_precision
from ._spectral import SpectralFrontEnd
from ._step import OnePass
from .levels import logarithm_of_powers

__all__ = ["FilterBankFrontEnd", "check_range", "ranges"]


class FilterBankFrontEnd(SpectralFrontEnd):
    """S[m, t] = sum_k F[m, k] |X[k, t]| ** power, for a filter bank F that a subclass names.

    A subclass calls `super().__init__` with what concerns the spectra, stores its own arguments, and ends with
    `_register_bank()`. It gives `_build_filter_bank`; `_finish` maps the band sums to what the layer returns, and
    `_advice` ends the warning about empty bands.
    """

    sample_rate: float
    filter_bank: Tensor  # [bands, n_fft // 2 + 1]
    spans: Tensor  # int32 [bands, 2]: where its rows are not 0
    power: float
    _bands_argument = "n_mels"  # how the number of bands is called
    _learnable = ("window", "basis", "filter_bank")

    def _set_sample_rate(self, sample_rate: float) -> None:
        rate = real(self._framing.owner, "sample_rate", sample_rate, above=0, unit="Hz")
        self.sample_rate = int(rate) if rate.is_integer() else rate  # readers and resamplers want whole numbers

    def _register_bank(self) -> None:
        """Build the window and the bank, once the arguments that they follow from are set."""
        self._register_spectrum()
        self._register_constants("filter_bank", trainable=self.trainable)
        if "filter_bank" not in self.trainable:
            self._register_constants("spans")
        self._warn_of_empty_bands()

    def _build_filter_bank(self, device: torch.device | None) -> Tensor:
        """[bands, n_fft // 2 + 1] in float64."""
        raise NotImplementedError

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        if name == "filter_bank":
            return self._build_filter_bank(device)
        if name == "spans":
            return bank_spans(self._build_filter_bank(device))
        return super()._build_constant(name, device)

    def absorbs(self, following: nn.Module) -> dict[str, Any] | None:
        """A `Log` behind it, if the layer gives the band sums themselves."""
        return logarithm_of_powers(following) if self._gives_sums else None

    def _transform(self, samples: Tensor, left: int = 0, right: int = 0, log: float | None = None) -> Tensor:
        bank = self._constant("filter_bank", samples.dtype)
        spans = self._buffers.get("spans")  # where the bank does not learn
        power = self.power
        with full_precision(samples):
            if self.engine == "fft":
                window, hop = self._constant("window", samples.dtype), self.hop_length
                sums = spectrogram(
                    samples, window, bank, hop, spans=spans, left=left, right=right, power=power, log=log
                )
            else:
                sums = bands(self._spectra(samples, left, right), bank, spans=spans, power=power, log=log)
            return sums if self._gives_sums else self._finish(sums)

    def _one_pass(self) -> OnePass | None:
        if self.engine != "fft" or self.trainable or not self._gives_sums:
            return None
        constants: Any = self._buffers  # a module's attributes take three times as long
        return constants["window"], constants["filter_bank"], constants["spans"], self.power

    @property
    def _gives_sums(self) -> bool:
        return type(self)._finish is FilterBankFrontEnd._finish

    def _finish(self, sums: Tensor) -> Tensor:
        """Band sums [..., bands, frames] -> what the layer returns."""
        return sums

    def _advice(self) -> str:
        """What to do about empty bands, to follow a full stop."""
        return "Use fewer bands, or a longer n_fft"

    def _beyond(self) -> str:
        """What to say of bands above the Nyquist frequency, as the beginning of a sentence; "" where none were asked for."""
        return ""

    def _warn_of_empty_bands(self) -> None:
        bank, beyond = self._build_filter_bank(torch.device("cpu")), self._beyond()
        empty = (bank == 0).all(1).nonzero().flatten().tolist()
        if empty:
            beyond += "; " if beyond else ""
            beyond += (
                f"{len(empty)} of {self._bands_argument}={len(bank)} bands are always 0, because "
                f"no bin of n_fft={self.n_fft} falls into them: {ranges(empty)}. {self._advice()}"
            )
        if beyond:
            warnings.warn(f"{self._framing.owner}: {beyond}", UserWarning, stacklevel=_users_level())


def check_range(
    owner: str, sample_rate: float, fmin: float, fmax: float | None, *, beyond_nyquist: bool = False
) -> tuple[float, float]:
    """(fmin, fmax) in Hz, with 0 <= fmin < fmax <= Nyquist, unless it may lie beyond; None is the Nyquist frequency."""
    nyquist = sample_rate / 2
    fmin = real(owner, "fmin", fmin, unit="Hz")
    fmax = nyquist if fmax is None else real(owner, "fmax", fmax, unit="Hz")
    if fmax > nyquist and not beyond_nyquist:
        raise ValueError(
            f"{owner}: fmax={fmax:g} Hz is above the Nyquist frequency of sample_rate={sample_rate:g} Hz "
            f"({nyquist:g} Hz)"
        )
    if not 0 <= fmin < fmax:
        raise ValueError(f"{owner}: fmin={fmin:g} Hz must lie between 0 and fmax={fmax:g} Hz, below it")
    return fmin, fmax


def ranges(numbers: list[int]) -> str:
    """[0, 2, 3, 4] -> "0, 2-4"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _users_level() -> int:
    """The stack level, for the caller's `warnings.warn`, of the first function outside this package."""
    package = __name__.rpartition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    return level
