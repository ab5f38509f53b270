"""What front ends accept, and how they say no: class, argument, what came, what is right."""

import difflib
import math
import operator
from collections.abc import Collection, Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_trainable",
    "choice",
    "positive_int",
    "read_frames",
    "read_spectra",
    "read_waveform",
    "real",
    "working_dtype",
]

_FULL_SCALE = {torch.int8: "128", torch.int16: "32768", torch.int32: "2147483648", torch.int64: "9223372036854775808"}


def positive_int(owner: str, name: str, value: Any, unit: str) -> int:
    """A whole number of at least 1, from an int or a numpy integer."""
    if isinstance(value, bool):
        raise TypeError(f"{owner}: {name}={value} is a bool, not a whole number of {unit}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{owner}: {name}={value!r} is a {type(value).__name__}, not a whole number of {unit}"
        ) from None
    if number < 1:
        raise ValueError(f"{owner}: {name}={number} {unit} is not positive; give 1 or more")
    return number


def real(owner: str, name: str, value: Any, *, above: float | None = None, unit: str = "") -> float:
    """A finite number, greater than `above` where that is given."""
    unit = unit and f" {unit}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}, not a number{unit and ' of' + unit}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{owner}: {name}={number}{unit} is not finite")
    if above is not None and number <= above:
        raise ValueError(f"{owner}: {name}={number:g}{unit} must be greater than {above:g}")
    return number


def choice(owner: str, name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of a few names; the error gives the nearest."""
    allowed = list(allowed)
    if value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"{owner}: {name}={value!r} is unknown; {hint}there are {', '.join(map(repr, allowed))}")


def check_trainable(owner: str, trainable: Any, learnable: Collection[str]) -> tuple[str, ...]:
    """Names of what learns, among those that can."""
    if isinstance(trainable, str):
        raise TypeError(f"{owner}: trainable={trainable!r} is a string; give a tuple of names, ({trainable!r},)")
    return tuple(choice(owner, "trainable", name, learnable) for name in trainable)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Spectra are float64 for float64 input and float32 for everything else, half precision included."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def read_waveform(owner: str, wave: Any) -> Tensor:
    """A waveform [..., samples] in the dtype that the layer computes in."""
    return _read(owner, wave, "waveform", ("samples",))


def read_frames(owner: str, frames: Any) -> Tensor:
    """Frames [..., bins, frames] in the dtype that the layer computes in."""
    return _read(owner, frames, "frames", ("bins", "frames"))


def read_spectra(owner: str, spectra: Any, bins: int) -> Tensor:
    """Complex spectra [..., bins, frames] in complex128, or complex64 for everything else."""
    if not isinstance(spectra, Tensor):
        raise TypeError(f"{owner}: the spectra came as {type(spectra).__name__}; give a complex tensor")
    if not spectra.is_complex():
        raise TypeError(
            f"{owner}: the spectra came as {_name(spectra)}; give complex numbers, as STFT(output='complex') does "
            "(GriffinLim finds the phases of magnitudes)"
        )
    if spectra.dim() < 2 or spectra.shape[-2] != bins:
        raise ValueError(
            f"{owner}: the spectra came as {list(spectra.shape)}; give [..., bins, frames] with {bins} bins"
        )
    return spectra if spectra.dtype is torch.complex128 else spectra.to(torch.complex64)


def _read(owner: str, value: Any, what: str, axes: tuple[str, ...]) -> Tensor:
    if isinstance(value, Tensor) and value.dtype is torch.float32 and value.dim() >= len(axes):
        return value  # at once, for streams
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner}: the {what} came as {type(value).__name__}; give a tensor (torch.as_tensor)")
    if value.is_complex():
        raise TypeError(
            f"{owner}: the {what} came as {_name(value)}; give real numbers, such as the real part or .abs()"
        )
    if not value.is_floating_point():
        raise TypeError(f"{owner}: the {what} came as {_name(value)}; give {_scaled(value.dtype, what)}")
    if value.dim() < len(axes):
        raise ValueError(f"{owner}: the {what} came as {list(value.shape)}; give [..., {', '.join(axes)}]")
    return value.to(working_dtype(value.dtype))


def _scaled(dtype: torch.dtype, what: str) -> str:
    if what == "waveform" and dtype in _FULL_SCALE:
        return (
            f"floating point samples in -1 .. 1: divide by {_FULL_SCALE[dtype]} (wave.float() / {_FULL_SCALE[dtype]})"
        )
    if what == "waveform" and dtype is torch.uint8:
        return "floating point samples in -1 .. 1: (wave.float() - 128) / 128"
    return "floating point numbers (.float())"


def _name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
