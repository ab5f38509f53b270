"""Front ends beside torchaudio, librosa, nnAudio and nnAudio2: spectra, inverses, gradients, streams, nnAudio's own shape.

Everybody is set to librosa's definition (zeros beyond the ends), and is compared with librosa in float64, or with a direct
sum. Times are of one call on a batch in memory. The floor of short-time spectra is torch's real FFTs of the frames alone,
which a transform that never leaves the cache undercuts; of the rest, a copy of the bytes that are read and written.
Contenders that compute something else (nnAudio's constant- and variable-Q wavelets are of other lengths) are timed with
their error beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from temporal import frontends
from temporal.benchmarks import Case, copy_floor

from . import _spectral_peers as peers
from ._live import live
from ._sounds import CHECKED, Bank, Shape, direct_constant_q, fft_floor, gradient, mel_gradient, off, voices

__all__ = ["cases"]

MUSIC = Shape(16, 80_000, 22_050, 2048, 512, 128)
WORDS = Shape(64, 16_000, 16_000, 512, 160, 80)
TINY = (Shape(2, 3000, 22_050, 512, 256, 20), Shape(3, 1600, 16_000, 256, 80, 10))

# Of the largest value. Ours err by less than 1e-6; torchaudio and nnAudio round their filter banks, to 4e-6.
TOLERANCE = 1e-5
CONSTANT_Q = 5e-5  # of the direct sum: wavelets of 10,000 samples in float32, and what an exact decimation leaves
GRADIENT = 1e-3  # of a magnitude: its direction where it is nearly 0 is that of the roundings
ENERGY = 1e-5  # PCEN: a power of a quotient

MAPS = 1770  # clips in nnAudio's own comparison, 80,000 samples each at 44.1 kHz
MAPS_PART = 10  # we take every tenth, which is long enough to time

OTHER_Q = "wavelets with Q = 1 / (2^(1/b) - 1) and whole lengths, not those of librosa since 0.10"
DECIMATED = "decimates by soxr and leaves out small coefficients: librosa's default is not the direct sum"
OTHER_VQT = "wavelets of other lengths; at other sizes, four octaves from C3 for one, it is off by 0.99 of the peak"


def cases(quick: bool) -> list[Callable[[], Case]]:
    """The cases, each as a function that builds it; tiny with ``quick``."""
    shapes = TINY if quick else (MUSIC, WORDS)
    builders: list[Callable[[], Case]] = []
    spectra = [_stft, _mel, _mel_gradient, _mfcc, _pcen]
    if hasattr(frontends, "InverseSTFT"):
        spectra.insert(1, _inverse)
    for case in spectra:
        builders += [partial(case, shape, quick) for shape in shapes]
    for training in (False, True):
        builders += [partial(_constant_q, shape, quick, training) for shape in shapes]
    builders += [partial(_constant_q, shape, quick, False, gamma=20.0) for shape in shapes]
    builders += [partial(_invertible, shape, quick, back) for shape in shapes for back in (False, True)]
    builders += [partial(_leaf, shapes[-1], quick)]
    if hasattr(frontends, "GriffinLim"):
        builders += [partial(_griffin_lim, quick)]
    builders += [partial(_resample, quick), partial(_chroma, shapes[0], quick)]
    builders += [partial(_streaming, quick)]
    builders += [partial(_headline, what, quick) for what in ("STFT", "mel", "CQT")]
    return builders


def _case(sizes: Shape, quick: bool, result: Iterable[int], /, **fields: Any) -> Case:
    """Bytes: the waveform is read, the result is written."""
    moved = 4 * (sizes.batch * sizes.samples + math.prod(result))
    fields = {"tolerance": TOLERANCE, "floor": fields.pop("floor", None) or copy_floor(moved, quick=quick), **fields}
    contenders = fields["contenders"]
    baseline = next((name for name in fields.pop("beside") if contenders.get(name)), next(iter(contenders)))
    fields = {"items": sizes.batch * sizes.frames, "item": "frame", "shape": str(sizes), **fields}
    return Case(dtype="float32", bytes=moved, baseline=baseline, **fields)


def _wave(shape: Shape) -> Tensor:
    return voices(shape.batch, shape.samples, shape.rate)


def _on(layers: dict[str, Callable[[Tensor], Any] | None], x: Tensor) -> dict[str, Callable[[], Any] | None]:
    return {name: layer and partial(layer, x) for name, layer in layers.items()}


def _ours(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return torch.inference_mode()(partial(layer, x))


def _stft(shape: Shape, quick: bool) -> Case:
    import librosa

    x = _wave(shape)
    truth = np.abs(librosa.stft(x.double().numpy(), n_fft=shape.n_fft, hop_length=shape.hop))
    layer = frontends.STFT(shape.n_fft, hop_length=shape.hop)
    return _case(
        shape,
        quick,
        truth.shape,
        name="STFT magnitude",
        scope="forward",
        contenders={"temporal": _ours(layer, x), **_on(peers.stft(shape), x)},
        beside=["torch.stft().abs()"],
        check=partial(off, truth),
        floor=fft_floor(shape),
    )


def _inverse(shape: Shape, quick: bool) -> Case:
    x = _wave(shape)
    spectra = frontends.STFT(shape.n_fft, hop_length=shape.hop, output="complex")(x)
    layer = frontends.InverseSTFT(shape.n_fft, hop_length=shape.hop)
    return _case(
        shape,
        quick,
        spectra.shape,
        name="inverse STFT",
        scope="forward",
        contenders={
            "temporal": torch.inference_mode()(lambda: layer(spectra, length=shape.samples)),
            **_on(peers.inverse(shape), spectra),
        },
        beside=["torch.istft"],
        check=partial(off, x),
        floor=fft_floor(shape),
    )


def _mel(shape: Shape, quick: bool) -> Case:
    import librosa

    x = _wave(shape)
    sizes: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop, "n_mels": shape.mels}
    truth = librosa.feature.melspectrogram(y=x.double().numpy(), sr=shape.rate, **sizes)
    layer = frontends.MelSpectrogram(shape.rate, **sizes)
    return _case(
        shape,
        quick,
        truth.shape,
        name=f"mel, {shape.mels} bands",
        scope="forward",
        contenders={"temporal": _ours(layer, x), **_on(peers.mel(shape), x)},
        beside=["torchaudio"],
        check=partial(off, truth),
        floor=fft_floor(shape),
    )


def _mel_gradient(shape: Shape, quick: bool) -> Case:
    x = _wave(shape).requires_grad_()
    layer = frontends.MelSpectrogram(shape.rate, shape.n_fft, hop_length=shape.hop, n_mels=shape.mels)
    layers = {"temporal": layer, **peers.mel(shape, gradients=True)}
    return _case(
        shape,
        quick,
        (2, shape.batch, shape.mels, shape.frames),
        name=f"mel, {shape.mels} bands, training",
        scope="forward and backward to the waveform",
        contenders={name: run and partial(_trained, run, x) for name, run in layers.items()},
        beside=["torchaudio"],
        check=partial(off, mel_gradient(shape, _wave(shape))),
        floor=fft_floor(shape),
    )


def _trained(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return gradient(layer(x), x)


def _mfcc(shape: Shape, quick: bool) -> Case:
    import librosa

    x, count = _wave(shape), min(20, shape.mels)
    sizes: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop, "n_mels": shape.mels}
    power = librosa.feature.melspectrogram(y=x.double().numpy(), sr=shape.rate, **sizes)
    truth = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=None), n_mfcc=count)
    layer = frontends.MFCC(shape.rate, count, top_db=None, **sizes)
    return _case(
        shape,
        quick,
        truth.shape,
        name=f"MFCC, {count} of {shape.mels} bands",
        scope="forward, all levels kept (top_db=None)",
        contenders={"temporal": _ours(layer, x), **_on(peers.mfcc(shape, count), x)},
        beside=["torchaudio"],
        check=partial(off, truth),
        floor=fft_floor(shape),
    )


def _pcen(shape: Shape, quick: bool) -> Case:
    import librosa

    mel = frontends.MelSpectrogram(shape.rate, shape.n_fft, hop_length=shape.hop, n_mels=shape.mels)
    energy = mel(_wave(shape)) * 2.0**31
    sizes: dict[str, Any] = {"sr": shape.rate, "hop_length": shape.hop}
    truth = librosa.pcen(energy.double().numpy(), **sizes)
    return _case(
        shape,
        quick,
        energy.shape,
        name="PCEN",
        scope="forward, on mel bands in memory",
        shape=f"{shape.batch} x {shape.mels} bands x {shape.frames} frames",
        contenders={
            "temporal": _ours(frontends.PCEN(shape.rate, shape.hop), energy),
            "a loop over frames, torch": torch.inference_mode()(partial(_pcen_loop, energy, shape)),
            "librosa": lambda: librosa.pcen(energy.numpy(), **sizes),
        },
        beside=["librosa"],
        check=partial(off, truth),
        tolerance=ENERGY,
        floor=copy_floor(8 * energy.numel(), quick=quick),
    )


def _pcen_loop(energy: Tensor, shape: Shape) -> Tensor:
    """As it is written in many a script."""
    span = 0.4 * shape.rate / shape.hop
    smoothing = (math.sqrt(1 + 4 * span**2) - 1) / (2 * span**2)
    level, levels = torch.ones_like(energy[..., 0]), []
    for frame in energy.unbind(-1):
        level = (1 - smoothing) * level + smoothing * frame
        levels.append(level)
    return (energy / (torch.stack(levels, -1) + 1e-6) ** 0.98 + 2) ** 0.5 - 2**0.5


def _bank(shape: Shape, gamma: float, quick: bool) -> Bank:
    if quick:
        return Bank(shape.rate, fmin=400.0, bins=24, hop=256, gamma=gamma)
    return Bank(shape.rate, gamma=gamma)


def _bank_options(bank: Bank) -> dict[str, Any]:
    options: dict[str, Any] = {
        "hop_length": bank.hop,
        "fmin": bank.fmin,
        "n_bins": bank.bins,
        "bins_per_octave": bank.per_octave,
    }
    return options | ({"gamma": bank.gamma} if bank.gamma else {})


def _constant_q(shape: Shape, quick: bool, training: bool, gamma: float = 0.0) -> Case:
    bank, x = _bank(shape, gamma, quick), _wave(shape).requires_grad_(training)
    kind = frontends.VQT if gamma else frontends.CQT
    layers: dict[str, Any] = {"temporal": kind(bank.rate, **_bank_options(bank))}
    layers |= {'temporal mode="librosa"': kind(bank.rate, **_bank_options(bank), mode="librosa")}
    theirs = peers.constant_q(bank, gradients=training)
    excuse = OTHER_VQT if gamma else OTHER_Q
    layers |= theirs
    some = x.detach()[:CHECKED].clone().requires_grad_(training)
    truth = direct_constant_q(bank, some).abs()
    if training:
        truth = gradient(truth, some)
        contenders = {name: run and partial(_trained, run, x) for name, run in layers.items()}
    else:
        contenders = _on(layers, x)
    excused = {name: excuse for name in theirs if name.startswith("nnAudio")}
    excused |= {name: DECIMATED for name in layers if "librosa" in name}
    return _case(
        shape,
        quick,
        (shape.batch * (1 + training), bank.bins, 1 + shape.samples // bank.hop),
        name=("VQT" if gamma else "CQT") + (", training" if training else ""),
        scope="forward and backward to the waveform" if training else "forward",
        shape=f"{shape.batch} x {shape.samples:,} samples at {shape.rate / 1000:g} kHz, {bank.bins} bins, hop={bank.hop}"
        + (f", gamma={gamma:g} Hz" if gamma else ""),
        items=shape.batch * (1 + shape.samples // bank.hop),
        contenders=contenders,
        beside=["nnAudio CQT1992v2"] if training else ["librosa"],
        excused=excused,
        check=lambda out: off(truth, torch.as_tensor(out)[:CHECKED]),
        tolerance=GRADIENT if training else CONSTANT_Q,
    )


def _invertible(shape: Shape, quick: bool, back: bool) -> Case:
    """Beside the constant-Q transform that has no inverse; and no peer inverts one to more than 15 dB."""
    x = _wave(shape)
    fmin = 32.70319566257483 if not quick else 400.0
    layers = {
        f'temporal layout="{layout}"': frontends.InvertibleCQT(shape.rate, fmin=fmin, layout=layout)
        for layout in ("matrix", "octaves")
    }
    contenders: dict[str, Callable[[], Any]]
    if back:
        made = {name: layer(x) for name, layer in layers.items()}
        contenders = {
            name: torch.inference_mode()(partial(layer.inverse, made[name], shape.samples))
            for name, layer in layers.items()
        }
    else:
        # A result goes to the check with its layer, which inverts it.
        contenders = {name: partial(_with_layer, layer, x) for name, layer in layers.items()}
    return _case(
        shape,
        quick,
        (shape.batch, 3 * shape.samples),  # two real numbers for each of 1.4 coefficients a sample
        name="InvertibleCQT, " + ("inverse" if back else "forward"),
        scope="inverse" if back else "forward; the error is that of the signal that its inverse gives back",
        shape=f"{shape.batch} x {shape.samples:,} samples at {shape.rate / 1000:g} kHz, 12 bands an octave",
        items=shape.batch,
        item="recording",
        contenders=contenders,
        beside=['temporal layout="matrix"'],
        check=partial(off, x) if back else partial(_given_back, x),
    )


@torch.inference_mode()
def _with_layer(layer: nn.Module, x: Tensor) -> tuple[nn.Module, Any]:
    return layer, layer(x)


@torch.inference_mode()
def _given_back(x: Tensor, result: tuple[Any, Any]) -> float:
    layer, coefficients = result
    return off(x, layer.inverse(coefficients, x.shape[-1]))


def _leaf(shape: Shape, quick: bool) -> Case:
    """Energies alone, so that PCEN is not counted twice; a batch of 8, whose filtered signals take 41 MB."""
    shape = Shape(8 if not quick else 2, shape.samples, shape.rate, shape.n_fft, 160, 40 if not quick else 4)
    x = _wave(shape)
    layer = frontends.LEAF(shape.rate, n_filters=shape.mels, pcen=False)
    with torch.no_grad():
        truth = _leaf_by_hand(layer, x.double())
    return _case(
        shape,
        quick,
        truth.shape,
        name="LEAF, energies",
        scope="forward, Gabor filters and pooling",
        contenders={
            "temporal": _ours(layer, x),
            "its equations, conv1d": torch.inference_mode()(partial(_leaf_by_hand, layer, x)),
        },
        beside=["its equations, conv1d"],
        check=partial(off, truth),
        floor=None,
    )


def _leaf_by_hand(layer: Any, x: Tensor) -> Tensor:
    """As it is published: every filter at every sample, then the windows."""
    center, bandwidth, pooling = (
        getattr(layer, n).detach().to(x.dtype)[:, None] for n in ("center", "bandwidth", "pooling")
    )
    size = 401
    at = torch.arange(size, dtype=x.dtype) - size // 2
    envelope = torch.exp(-at.square() / (2 * bandwidth.square())) / (bandwidth * math.sqrt(2 * math.pi))
    filters = torch.cat([envelope * torch.cos(center * at), envelope * torch.sin(center * at)])[:, None]
    filtered = nn.functional.conv1d(x[:, None], filters, padding=size // 2).unflatten(1, (2, -1))
    windows = torch.exp(-at.square() / (2 * (pooling * (size // 2)).square()))[:, None]
    power = filtered.square().sum(1)
    pooled = nn.functional.conv1d(power, windows, stride=160, padding=size // 2, groups=len(windows))
    return pooled.clamp_min(1e-5)


def _griffin_lim(quick: bool) -> Case:
    """The error is the distance of the magnitudes after 32 rounds, on one signal; tests compare it over many."""
    import librosa

    shape = Shape(2, 40_000 if not quick else 4000, 22_050, 1024 if not quick else 256, 256 if not quick else 64, 1)
    x = _wave(shape)
    magnitude = frontends.STFT(shape.n_fft, hop_length=shape.hop)(x)
    cut: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop}
    measure = frontends.STFT(**cut).double()

    def distance(wave: Any) -> float:
        own = measure(torch.as_tensor(wave).double())
        return ((own - magnitude).norm() / magnitude.norm()).item()

    def by_librosa() -> np.ndarray:
        return librosa.griffinlim(magnitude.numpy(), length=shape.samples, random_state=0, **cut)

    audio = peers.peer("torchaudio.transforms")
    theirs = audio and audio.GriffinLim(**cut, power=1.0, length=shape.samples)
    layer = frontends.GriffinLim(**cut)
    return _case(
        shape,
        quick,
        x.shape,
        name="Griffin-Lim, 32 rounds",
        scope="end to end; the error is the distance of the magnitudes",
        items=shape.batch,
        item="recording",
        contenders={
            "temporal": torch.inference_mode()(lambda: layer(magnitude, length=shape.samples)),
            "torchaudio": theirs and torch.inference_mode()(partial(theirs, magnitude)),
            "librosa": by_librosa,
        },
        beside=["librosa"],
        check=distance,
        tolerance=1.25 * distance(by_librosa()),  # one signal: on some ours is nearer, on some librosa
        excused={"torchaudio": "its start is drawn anew in each call"} if theirs else {},
    )


def _resample(quick: bool) -> Case:
    """Of harmonics, which lie in everybody's pass band: 22.05 to 16 kHz. The truth is soxr's best filter."""
    import soxr

    shape = Shape(16 if not quick else 2, 80_000 if not quick else 4000, 22_050, 1, 1, 1)
    x = voices(shape.batch, shape.samples, shape.rate, noise=0.0)
    turned, plain = np.ascontiguousarray(x.numpy().T), x.numpy()
    truth = soxr.resample(turned.astype(np.float64), shape.rate, 16_000, "VHQ").T
    audio = peers.peer("torchaudio.transforms")
    wide: dict[str, Any] = {"lowpass_filter_width": 64, "rolloff": 0.95, "resampling_method": "sinc_interp_kaiser"}
    theirs = audio and audio.Resample(shape.rate, 16_000, **wide)
    middle = slice(
        truth.shape[-1] // 10, -truth.shape[-1] // 10
    )  # a harmonic that is cut off at the ends has all frequencies
    return _case(
        shape,
        quick,
        truth.shape,
        name="resampling",
        scope="forward; the error is that of the middle, away from the ends",
        shape=f"{shape.batch} x {shape.samples:,} samples at 22.05 kHz, to 16 kHz",
        items=shape.batch,
        item="recording",
        contenders={
            "temporal": _ours(frontends.Resample(shape.rate, 16_000), x),
            "torchaudio, 64 zeros": theirs and torch.inference_mode()(partial(theirs, x)),
            "soxr HQ": lambda: np.stack([soxr.resample(wave, shape.rate, 16_000) for wave in plain]),
        },
        beside=["soxr HQ"],
        check=lambda out: off(truth[:, middle].copy(), torch.as_tensor(out)[:, : truth.shape[-1]][:, middle]),
        tolerance=1e-4,
    )


def _chroma(shape: Shape, quick: bool) -> Case:
    import librosa

    x = _wave(shape)
    sizes: dict[str, Any] = {"n_fft": shape.n_fft, "hop_length": shape.hop}
    truth = librosa.feature.chroma_stft(y=x.double().numpy(), sr=shape.rate, tuning=0, **sizes)
    layer = frontends.Chroma(shape.rate, **sizes)
    return _case(
        shape,
        quick,
        truth.shape,
        name="chroma",
        scope="forward",
        contenders={
            "temporal": _ours(layer, x),
            "librosa": lambda: librosa.feature.chroma_stft(y=x.numpy(), sr=shape.rate, tuning=0, **sizes),
        },
        beside=["librosa"],
        check=partial(off, truth),
        floor=fft_floor(shape),
    )


def _streaming(quick: bool) -> Case:
    """A chunk of 10 ms a call, one frame each."""
    hop, contenders = 160, live(16_000, n_fft=512, hop=160, bands=40, chunks=20 if quick else 1000)
    return Case(
        name="streaming log-mel, batch 1",
        scope="one chunk of 10 ms, one frame; the whole stream is checked, and that its state does not grow",
        shape=f"n_fft=512 hop={hop} 40 bands at 16 kHz",
        dtype="float32",
        items=1,
        item="chunk",
        contenders=contenders,
        baseline="torch, by hand",
        check=lambda stream: stream.error(),
        tolerance=1e-5,  # of logarithms between -14 and 8
        bytes=4 * (512 + 40),
        flops=round(2.5 * 512 * math.log2(512)),
        each=True,
    )


def _headline(what: str, quick: bool) -> Case:
    """Batches of 59 (which divides 1,770), as nnAudio's own comparison had two of a thousand, on a GPU."""
    import librosa

    batch = 59 if not quick else 2
    count = MAPS // MAPS_PART // batch if not quick else 2
    shape = Shape(batch, 80_000 if not quick else 4000, 44_100, 2048, 512, 128)
    clips = [voices(batch, shape.samples, shape.rate)] * count  # the same again: what is measured does not look at it
    x = clips[0]
    bank = Bank(shape.rate, fmin=55.0 if not quick else 2000.0, bins=84 if not quick else 24, per_octave=24)
    fields: dict[str, Any] = {"check": None, "beside": ["librosa"]}
    layers: dict[str, Any]
    if what == "STFT":
        layers = {"temporal": frontends.STFT(shape.n_fft, hop_length=shape.hop), **peers.stft(shape)}
        fields["check"] = partial(_some, np.abs(librosa.stft(x[:CHECKED].double().numpy())))
    elif what == "mel":
        layers = {"temporal": frontends.MelSpectrogram(shape.rate), **peers.mel(shape)}
        truth = librosa.feature.melspectrogram(y=x[:CHECKED].double().numpy(), sr=shape.rate)
        fields["check"] = partial(_some, truth)
    else:
        theirs = peers.constant_q(bank)
        layers = {"temporal": frontends.CQT(bank.rate, **_bank_options(bank)), **theirs}
        fields["check"] = partial(_some, direct_constant_q(bank, x[:CHECKED]).abs())
        fields["excused"] = {name: DECIMATED if name == "librosa" else OTHER_Q for name in theirs}
        fields["tolerance"] = CONSTANT_Q
    bins = {"STFT": shape.n_fft // 2 + 1, "mel": shape.mels, "CQT": bank.bins}[what]
    whole = Shape(batch * count, shape.samples, shape.rate, shape.n_fft, shape.hop, shape.mels)
    return _case(
        whole,
        quick,
        (whole.batch, bins, whole.frames),
        name=f"nnAudio's own shape, {what}",
        scope=f"forward; {whole.batch} of its 1,770 clips, in batches of {batch}: ten times this is all of them",
        shape=f"{whole.batch} x {shape.samples:,} samples at 44.1 kHz",
        items=whole.batch,
        item="clip",
        contenders={name: run and partial(_batches, run, clips) for name, run in layers.items()},
        **fields,
    )


def _batches(layer: Callable[[Tensor], Any], clips: list[Tensor]) -> Any:
    with torch.inference_mode():
        for batch in clips:
            out = layer(batch)
        return out


def _some(truth: Any, out: Any) -> float:
    return off(truth, torch.as_tensor(out)[:CHECKED])
