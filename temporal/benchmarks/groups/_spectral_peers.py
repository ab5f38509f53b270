"""The libraries that front ends are measured beside, each set to the same definition: librosa's.

A function here builds a library's layers and returns what runs them on a tensor, or None where the library is not installed
or does not import (a release of torchaudio beside another release of torch, say). nnAudio prints, and warns; not here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._sounds import Bank, Shape

__all__ = ["NNAUDIO", "constant_q", "inverse", "mel", "mfcc", "peer", "quiet", "stft"]

NNAUDIO = ("nnAudio", "nnAudio2")  # 0.3, and the project that its authors refer to

Layer = Callable[[Tensor], Any]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a library prints and warns of while it is imported and built is nobody's business here."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def peer(name: str) -> Any:
    """A library's module, or None."""
    os.environ.setdefault("NNAUDIO_DISABLE_CITATION_REMINDER", "1")
    with quiet():
        try:
            return importlib.import_module(name)
        except Exception:  # not installed, or built for another torch
            return None


def _nnaudio(name: str, layer: str, /, *arguments: Any, **options: Any) -> Any:
    features = peer(f"{name}.features")
    if features is None:
        return None
    with quiet():
        return getattr(features, layer)(*arguments, **options)


def _each(names_and_layers: dict[str, Any]) -> dict[str, Callable[[Tensor], Any] | None]:
    return {name: layer and _without_gradients(layer) for name, layer in names_and_layers.items()}


def _without_gradients(layer: Layer) -> Layer:
    def run(x: Tensor) -> Any:
        with torch.set_grad_enabled(x.requires_grad):
            return layer(x)

    return run


def _librosa(function: Callable[[np.ndarray], Any]) -> Layer:
    def run(x: Tensor) -> Any:
        with warnings.catch_warnings():  # of signals that are shorter than a window, in tiny cases
            warnings.simplefilter("ignore")
            return function(x.numpy())

    return run


def stft(shape: Shape) -> dict[str, Layer | None]:
    """Magnitudes."""
    import librosa

    window = torch.hann_window(shape.n_fft)
    cut: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop}

    def plain(x: Tensor) -> Tensor:
        return torch.stft(x, **cut, window=window, pad_mode="constant", return_complex=True).abs()

    audio = peer("torchaudio.transforms")
    return {
        "torch.stft().abs()": plain,
        **_each(
            {
                "torchaudio": audio and audio.Spectrogram(**cut, power=1.0, pad_mode="constant"),
                "librosa": _librosa(lambda x: np.abs(librosa.stft(x, **cut))),
                **{
                    name: _nnaudio(name, "STFT", **cut, pad_mode="constant", output_format="Magnitude", verbose=False)
                    for name in NNAUDIO
                },
            }
        ),
    }


def _mel_options(shape: Shape) -> dict[str, dict[str, Any]]:
    cut: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop, "n_mels": shape.mels}
    return {
        "torchaudio": {**cut, "norm": "slaney", "mel_scale": "slaney", "pad_mode": "constant"},
        "librosa": {**cut, "sr": shape.rate},
        "nnAudio": {**cut, "sr": shape.rate, "pad_mode": "constant", "verbose": False},
    }


def mel(shape: Shape, *, gradients: bool = False) -> dict[str, Layer | None]:
    """Power in bands; with ``gradients`` only what has some."""
    import librosa

    options = _mel_options(shape)
    window = torch.hann_window(shape.n_fft)
    with quiet():
        bank = torch.from_numpy(librosa.filters.mel(sr=shape.rate, n_fft=shape.n_fft, n_mels=shape.mels))

    def plain(x: Tensor) -> Tensor:
        spectra = torch.stft(x, shape.n_fft, shape.hop, window=window, pad_mode="constant", return_complex=True)
        return bank @ (spectra.real.square() + spectra.imag.square())

    audio = peer("torchaudio.transforms")
    found: dict[str, Any] = {"torch.stft and a product": plain}
    with quiet():
        found["torchaudio"] = audio and audio.MelSpectrogram(shape.rate, **options["torchaudio"])
    if not gradients:
        found["librosa"] = _librosa(lambda x: librosa.feature.melspectrogram(y=x, **options["librosa"]))
    found |= {name: _nnaudio(name, "MelSpectrogram", **options["nnAudio"]) for name in NNAUDIO}
    return _each(found)


def mfcc(shape: Shape, coefficients: int) -> dict[str, Layer | None]:
    """With all levels kept (top_db=None): a limit below the peak is of the whole batch in torchaudio and librosa."""
    import librosa

    options = _mel_options(shape)
    audio = peer("torchaudio.transforms")
    theirs = None
    if audio is not None:
        with quiet():
            theirs = audio.MFCC(shape.rate, coefficients, melkwargs=options["torchaudio"])
        theirs.amplitude_to_DB.top_db = None

    def by_librosa(x: np.ndarray) -> Any:
        power = librosa.feature.melspectrogram(y=x, **options["librosa"])
        return librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=None), n_mfcc=coefficients)

    return _each(
        {
            "torchaudio": theirs,
            "librosa": _librosa(by_librosa),
            **{
                name: _nnaudio(name, "MFCC", n_mfcc=coefficients, top_db=None, **options["nnAudio"]) for name in NNAUDIO
            },
        }
    )


def inverse(shape: Shape) -> dict[str, Layer | None]:
    """Complex spectra to samples."""
    import librosa

    window = torch.hann_window(shape.n_fft)
    cut: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop}

    def nnaudio(name: str) -> Layer | None:
        layer = _nnaudio(name, "STFT", **cut, iSTFT=True, pad_mode="constant", verbose=False)
        return layer and (lambda x: layer.inverse(torch.view_as_real(x), onesided=True, length=shape.samples))

    audio = peer("torchaudio.transforms")
    theirs = audio and audio.InverseSpectrogram(**cut)
    return _each(
        {
            "torch.istft": lambda x: torch.istft(x, **cut, window=window, length=shape.samples),
            "torchaudio": theirs and (lambda x: theirs(x, shape.samples)),
            "librosa": _librosa(lambda x: librosa.istft(x, hop_length=shape.hop, length=shape.samples)),
            **{name: nnaudio(name) for name in NNAUDIO},
        }
    )


def constant_q(bank: Bank, *, gradients: bool = False) -> dict[str, Layer | None]:
    """Magnitudes; with a gamma, of a variable-Q transform."""
    import librosa

    sizes: dict[str, Any] = {"hop_length": bank.hop, "fmin": bank.fmin, "n_bins": bank.bins}
    sizes |= {"bins_per_octave": bank.per_octave, "sr": bank.rate}
    found: dict[str, Any] = {}
    if not gradients:
        more: dict[str, Any] = {"gamma": bank.gamma} if bank.gamma else {}
        transform = librosa.vqt if bank.gamma else librosa.cqt
        found["librosa"] = _librosa(lambda x: np.abs(transform(x, **sizes, **more)))
    for name in NNAUDIO:
        if bank.gamma:
            layers, more = ["VQT"], {"gamma": bank.gamma}
        else:
            layers, more = ["CQT1992v2", "CQT2010v2"], {}
        for layer in layers:
            built = _nnaudio(name, layer, **sizes, **more, pad_mode="constant", verbose=False)
            found[f"{name} {layer}"] = built
    return _each(found)
