"""Log-mel frames of a live signal: what each library makes of the next 10 ms, called once for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from temporal.frontends import Chain, Log, MelSpectrogram

from ._sounds import off, voices
from ._spectral_peers import peer, quiet

__all__ = ["Live", "live"]

OFFSET = 1e-6  # before the logarithm


class Live:
    """A recording that comes in chunks, over and over; a call gives the next one to a stream and returns this object."""

    def __init__(self, chunks: list[Any], start: Callable[[], Callable[[Any], Any]], truth: Any, size: Any = None):
        self.chunks, self.start, self.truth, self.size = chunks, start, truth, size
        self.push, self.place = start(), 0

    @torch.inference_mode()
    def __call__(self) -> Live:
        self.push(self.chunks[self.place])
        self.place = (self.place + 1) % len(self.chunks)
        return self

    @torch.inference_mode()
    def error(self) -> float:
        """Of the frames of the recording, from a stream of its own; infinite if the state grew on the way."""
        push, frames, sizes = self.start(), [], []
        for chunk in self.chunks:
            frames.append(torch.as_tensor(push(chunk)))
            if self.size is not None:
                sizes.append(self.size(push))
        steady = sizes[4:]  # the first windows are not whole
        if len(set(steady)) > 1:
            return float("inf")
        given = torch.cat(frames, -1)
        return off(self.truth[..., : given.shape[-1]], given) if given.shape[-1] else float("inf")


class _Ours:
    """The public layers, as a user chains them."""

    def __init__(self, rate: int, n_fft: int, hop: int, bands: int):
        self.layer = Chain(MelSpectrogram(rate, n_fft, hop_length=hop, n_mels=bands, center=False), Log(OFFSET))
        self.state: Any = None

    def __call__(self, chunk: Tensor) -> Tensor:
        frames, self.state = self.layer.stream(chunk, self.state)
        return frames


class _Buffered:
    """A library that has no streams: the last n_fft samples, and the frame of them whenever they are new."""

    def __init__(self, n_fft: int, frame: Callable[[Any], Any], silence: Any, nothing: Any):
        self.n_fft, self.frame, self.samples, self.nothing = n_fft, frame, silence, nothing
        self.read = 0

    def __call__(self, chunk: Any) -> Any:
        join = torch.cat if torch.is_tensor(chunk) else np.concatenate
        self.samples = join((self.samples[len(chunk) :], chunk))
        self.read += len(chunk)
        return self.frame(self.samples) if self.read >= self.n_fft else self.nothing


def live(rate: int, *, n_fft: int, hop: int, bands: int, chunks: int) -> dict[str, Callable[[], Any] | None]:
    """The contenders. Frames begin at multiples of the hop, and leave when they are whole."""
    import librosa

    wave = voices(1, chunks * hop, rate)[0]
    options: dict[str, Any] = {"sr": rate, "n_fft": n_fft, "hop_length": hop, "n_mels": bands}

    def logarithms(samples: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():  # of a signal of one frame
            warnings.simplefilter("ignore")
            return np.log(librosa.feature.melspectrogram(y=samples, center=False, **options) + OFFSET)

    truth = torch.from_numpy(logarithms(wave.double().numpy()))
    # The first frame of a buffer ends with the chunk that fills it, and begins later where n_fft is no multiple of the hop.
    late = torch.from_numpy(logarithms(wave.double().numpy()[-n_fft % hop :]))
    with quiet():
        bank = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands))
    pieces, arrays = list(wave.split(hop)), list(wave.numpy().reshape(-1, hop))
    window = torch.hann_window(n_fft)

    def by_hand(samples: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(samples * window)
        return torch.log(bank @ (spectrum.real.square() + spectrum.imag.square()) + OFFSET)[:, None]

    def buffered(frame: Callable[[Any], Any]) -> Live:
        return Live(pieces, lambda: _Buffered(n_fft, frame, torch.zeros(n_fft), torch.zeros(bands, 0)), late)

    by_librosa = Live(
        arrays, lambda: _Buffered(n_fft, logarithms, np.zeros(n_fft, np.float32), np.zeros((bands, 0))), late
    )
    audio, nnaudio = peer("torchaudio.transforms"), peer("nnAudio.features")
    theirs = nn = None
    with quiet():
        if audio is not None:
            theirs = audio.MelSpectrogram(
                rate, n_fft, hop_length=hop, n_mels=bands, norm="slaney", mel_scale="slaney", center=False
            )
        if nnaudio is not None:
            nn = nnaudio.MelSpectrogram(**options, center=False, verbose=False)
    return {
        "temporal": Live(pieces, lambda: _Ours(rate, n_fft, hop, bands), truth, _held),
        "torch, by hand": buffered(by_hand),
        "torchaudio on a buffer": theirs and buffered(lambda samples: torch.log(theirs(samples) + OFFSET)),
        "nnAudio on a buffer": nn and buffered(lambda samples: torch.log(nn(samples)[0] + OFFSET)),
        "librosa on a buffer": by_librosa,
    }


def _held(stream: _Ours) -> int:
    """Bytes that the state keeps, rounded to what one chunk may change."""
    return sum(tensor.untyped_storage().nbytes() for tensor in _tensors(stream.state)) // 2048


def _tensors(state: Any) -> list[Tensor]:
    if torch.is_tensor(state):
        return [state]
    return [tensor for part in state for tensor in _tensors(part)] if isinstance(state, tuple) else []
