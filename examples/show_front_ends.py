"""Every front end's picture of a spoken word and of plucked strings.

python examples/show_front_ends.py FOLDER --word RECORDING.wav

Without a recording, the word is two synthetic vowels. The strings are synthesised too: a scale of broken chords, then a
chord. Each picture has the word on the left and the strings on the right, on axes of seconds and Hz.
"""

import argparse
import math
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from temporal.analysis import save
from temporal.analysis.style import IMAGE, INK, TEXT, styled
from temporal.datasets import read_audio
from temporal.frontends import (
    CQT,
    LEAF,
    MFCC,
    PCEN,
    STFT,
    VQT,
    AmplitudeToDB,
    Chain,
    Chroma,
    Cochlea,
    CombinedFrequencyPeriodicity,
    Deltas,
    FoldOctaves,
    Gammatonegram,
    GriffinLim,
    InverseMel,
    InvertibleCQT,
    Latency,
    LevelCrossing,
    Log,
    MelSpectrogram,
    Normalize,
    Poisson,
    Resample,
    RunningNormalize,
    SincConv,
    SpecAugment,
    UtteranceNormalize,
)

RATE = 16000
MARKS = [50, 100, 200, 500, 1000, 2000, 4000, 8000]  # Hz
SHORT = {"n_fft": 512, "hop_length": 160}
CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def pluck(frequency: float, seconds: float) -> Tensor:
    """A string by Karplus and Strong: a burst of noise that goes round a loop, averaged a little in each round."""
    period = round(RATE / frequency - 0.5)  # the average is half a sample late
    draw = np.random.default_rng(round(frequency))
    burst = draw.uniform(-1, 1, period)
    rounds = [burst - burst.mean()]
    for _ in range(math.ceil(seconds * RATE / period)):
        last = rounds[-1]
        rounds.append(0.996 * 0.5 * (last + np.roll(last, 1)))
    return torch.from_numpy(np.concatenate(rounds)[: round(seconds * RATE)]).float()


def strings() -> Tensor:
    """A, C sharp and E over two octaves, one after the other; then all at once."""
    notes = [110 * 2 ** (step / 12) for step in (0, 4, 7, 12, 16, 19, 24)]
    wave = torch.zeros(round(2.4 * RATE))
    for number, note in enumerate(notes):
        for start, seconds in ((0.2 * number, 0.6), (1.5, 0.9)):
            sound, first = pluck(note, seconds), round(start * RATE)
            wave[first : first + len(sound)] += sound[: len(wave) - first]
    return 0.9 * wave / wave.abs().max()


def vowels() -> Tensor:
    """A voice of 120 Hz that says "a", then "i": harmonics through two resonances each."""
    time, harmonics = torch.arange(RATE // 4) / RATE, torch.arange(1, 33)[:, None] * 120.0
    parts = []
    for formants in ((750, 1200), (280, 2300)):
        level = sum(1 / (1 + ((harmonics - formant) / 90) ** 2) for formant in formants) + 0.01
        parts.append((level * torch.sin(2 * torch.pi * harmonics * time)).sum(0) * torch.hann_window(len(time)).sqrt())
    wave = torch.cat(parts)
    return 0.9 * wave / wave.abs().max()


@dataclass
class Shown:
    """A front end, and how its rows are labelled.

    ``hz`` holds the frequency of each row where rows have one, ``names`` its name, or ``rows`` says what they are.
    ``range`` is that of the colours below the brightest: in decibels where ``levels`` says that the frames are powers or
    magnitudes.
    """

    title: str
    layer: nn.Module
    hz: Tensor | None = None
    names: tuple[str, ...] = ()
    rows: str = "frequency (Hz)"
    levels: int = 0  # 10 for powers, 20 for magnitudes, 0 for what is shown as it is
    range: float = 60.0
    value: str = "value"
    first: int = 0  # number of the lowest row
    gain: float = 1.0  # of the waveform, for layers whose numbers depend on it


def mel_hz(layer: nn.Module) -> Tensor:
    """Centre of each band."""
    bins = torch.linspace(0, RATE / 2, layer.filter_bank.shape[-1])
    return (layer.filter_bank * bins).sum(-1) / layer.filter_bank.sum(-1)


def front_ends() -> dict[str, Shown]:
    """File name to what is shown."""
    mel = MelSpectrogram(RATE, **SHORT, n_mels=64)
    bands = mel_hz(mel)
    gammatone = Gammatonegram(RATE, **SHORT, n_bins=64, fmin=50.0)
    log2 = STFT(**SHORT, sample_rate=RATE, freq_scale="log2", fmin=55.0, n_bins=84)
    # A to A: seven octaves from 55 Hz leave a little room below the Nyquist frequency.
    bins = {"hop_length": 160, "fmin": 55.0, "n_bins": 84}
    cqt, vqt = CQT(RATE, **bins), VQT(RATE, **bins)
    gabor = Chain(InvertibleCQT(RATE, fmin=55.0, output="magnitude"), Few(8, nn.MaxPool1d(8)))
    leaf, sinc = LEAF(RATE), SincConv(RATE, 64, hop_length=20)
    return {
        "stft": Shown("STFT", STFT(**SHORT), torch.linspace(0, RATE / 2, 257), levels=20, range=70),
        "stft_log2": Shown('STFT, freq_scale="log2"', log2, log2.frequencies, levels=20, range=50),
        "mel": Shown("MelSpectrogram", mel, bands, levels=10),
        "mfcc": Shown("MFCC", Chain(MFCC(RATE, 20, **SHORT, n_mels=64), Rows(1)), rows="coefficient", first=1),
        "deltas": Shown(
            "Deltas of log-mel: 64 bands, their slopes, their curvatures",
            Chain(mel, Log(), Deltas(), Rows(blocks=3)),
            rows="row",
            value="deviations",
        ),
        "gammatonegram": Shown("Gammatonegram", gammatone, mel_hz(gammatone), levels=10),
        "pcen": Shown("PCEN of mel", Chain(mel, PCEN(RATE, 160)), bands, gain=2.0**15),
        "cqt": Shown("CQT", cqt, cqt.frequencies, levels=20, range=50),
        "vqt": Shown("VQT", vqt, vqt.frequencies, levels=20, range=50),
        "invertible_cqt": Shown("InvertibleCQT", gabor, gabor[0].frequencies, levels=20, range=60),
        "leaf": Shown("LEAF, before it has learned", leaf, leaf_hz(leaf)),
        "sinc_conv": Shown(
            "SincConv, before it has learned", Chain(sinc, Few(8, nn.AvgPool1d(8))), sinc_hz(sinc), levels=20
        ),
        **of_pitch(),
        **of_frames(mel, bands),
        **of_sound(mel),
        **of_spikes(mel, bands),
    }


def of_pitch() -> dict[str, Shown]:
    """Pitch classes and pitches."""
    fold = FoldOctaves(84, fmin=55.0)
    folded = Chain(CQT(RATE, hop_length=160, fmin=55.0, n_bins=84), fold)
    periodicity = CombinedFrequencyPeriodicity(RATE, hop_length=160)
    classes = {"names": CLASSES, "rows": "pitch class", "value": "of the frame's largest"}
    return {
        "chroma": Shown("Chroma", Chroma(RATE, hop_length=160), **classes),
        "fold_octaves": Shown("FoldOctaves of CQT", folded, **classes),
        "cfp": Shown(
            "CombinedFrequencyPeriodicity", periodicity, periodicity.frequencies, rows="pitch (Hz)", levels=10, range=30
        ),
    }


def of_frames(mel: MelSpectrogram, bands: Tensor) -> dict[str, Shown]:
    """What makes other frames of log-mel frames."""
    level = Chain(mel, Log())
    covered = Chain(
        mel, AmplitudeToDB(), SpecAugment(2, 12, 2, 30, fill="mean", generator=torch.Generator().manual_seed(1))
    )
    return {
        "utterance_normalize": Shown(
            "UtteranceNormalize of log-mel", Chain(level, UtteranceNormalize()), bands, value="deviations"
        ),
        "running_normalize": Shown(
            "RunningNormalize of log-mel, 100 frames", Chain(level, RunningNormalize(100)), bands, value="deviations"
        ),
        "spec_augment": Shown("SpecAugment of mel in decibels", covered, bands, value="dB"),
    }


def of_sound(mel: MelSpectrogram) -> dict[str, Shown]:
    """What gives sound, seen through a transform."""
    look, hertz = STFT(**SHORT), torch.linspace(0, RATE / 2, 257)
    inverse = InverseMel.of(mel)
    back = Chain(mel, inverse, GriffinLim(**SHORT, power=inverse.power), look)
    half = Chain(Resample(RATE, RATE // 2), STFT(256, hop_length=80))
    return {
        "inverse_mel": Shown("InverseMel of MelSpectrogram", Chain(mel, inverse), hertz, levels=10, range=70),
        "griffin_lim": Shown("STFT of the sound by InverseMel and GriffinLim", back, hertz, levels=20, range=70),
        "resample": Shown("STFT of Resample to 8 kHz", half, torch.linspace(0, RATE / 4, 129), levels=20, range=70),
    }


def of_spikes(mel: MelSpectrogram, bands: Tensor) -> dict[str, Shown]:
    """Events, counted in frames of 10 ms where they come faster."""
    unit = Chain(mel, Log(), Normalize(-8.0, 12.0))  # about 0 .. 1
    cochlea = Cochlea(RATE, channels=128, seed=0)
    crossed = Chain(mel, AmplitudeToDB(), LevelCrossing(3.0))
    return {
        "cochlea": Shown(
            "Cochlea: spikes in 10 ms", Chain(cochlea, Count(80)), rows="channel, from the base", value="spikes"
        ),
        "level_crossing": Shown(
            "LevelCrossing of mel: 64 bands upwards, 64 downwards", crossed, rows="row", value="levels of 3 dB"
        ),
        "latency": Shown(
            "Latency of log-mel: one spike a frame and band, in 8 steps", Chain(unit, Latency(8)), bands, value="spike"
        ),
        "poisson": Shown("Poisson of log-mel", Chain(unit, Poisson(60.0, 100.0)), bands, value="spike"),
    }


class Count(nn.Module):
    """How many spikes fall into each span of steps."""

    latency = 0

    def __init__(self, steps: int):
        super().__init__()
        self.hop_length = steps

    def forward(self, spikes: Tensor) -> Tensor:
        return (
            nn.functional.avg_pool1d(spikes, self.hop_length, ceil_mode=True, count_include_pad=False) * self.hop_length
        )


class Few(nn.Module):
    """One frame of several, by a function of the frames between; a plain module can be a stage of a chain."""

    latency = 0

    def __init__(self, frames: int, pool: nn.Module):
        super().__init__()
        self.hop_length, self.pool = frames, pool

    def forward(self, frames: Tensor) -> Tensor:
        return self.pool(frames.square()).sqrt()


class Rows(nn.Module):
    """Some rows alone; or, with blocks, each block of rows divided by its deviation, to be seen beside the others."""

    hop_length, latency = 1, 0

    def __init__(self, first: int = 0, blocks: int = 0):
        super().__init__()
        self.first, self.blocks = first, blocks

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[self.first :]
        if not self.blocks:
            return frames
        blocks = frames.unflatten(0, (self.blocks, -1))
        level = blocks[:1] - blocks[:1].mean()
        blocks = torch.cat([level, blocks[1:]])
        return (blocks / blocks.std((-2, -1), keepdim=True)).flatten(0, 1)


def leaf_hz(layer: LEAF) -> Tensor:
    """Centres, from radians a sample."""
    return layer.center.detach() * RATE / (2 * torch.pi)


def sinc_hz(layer: SincConv) -> Tensor:
    """Middles of the bands."""
    low, high = layer.band_edges.detach().unbind(-1)
    return (low + high) / 2


def picture(shown: Shown, sounds: dict[str, Tensor]) -> Figure:
    """One panel a sound, as wide as it is long, with colours that mean the same in both."""
    figure = Figure(figsize=(7.5, 2.8), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    widths = [max(len(wave), RATE * 0.8) for wave in sounds.values()]
    panels = figure.subplots(1, len(sounds), gridspec_kw={"width_ratios": widths}, squeeze=False, sharey=True)[0]
    with torch.no_grad():
        frames = [shown.layer(wave * shown.gain).float() for wave in sounds.values()]
    if shown.levels:
        frames = [shown.levels * torch.log10((part / part.max()).clamp_min(1e-12)) for part in frames]
        limits = (-shown.range, 0.0)
    else:
        limits = tuple(np.quantile(torch.cat(frames, -1).numpy(), [0.01, 0.99]).tolist())
    figure.suptitle(shown.title, x=0.01, ha="left", fontsize=TEXT["title"], color=INK)
    for axes, part, (name, wave) in zip(panels, frames, sounds.items(), strict=True):
        image = draw(axes, shown, part, limits)
        styled(axes, x="time (s)", y=shown.rows if axes is panels[0] else "", grid=False)
        axes.set_xlim(0, len(wave) / RATE)
        axes.set_title(name, loc="left", fontsize=TEXT["label"], color=INK)
    bar = figure.colorbar(image, ax=list(panels), pad=0.01, aspect=30)
    bar.ax.tick_params(labelsize=TEXT["small"], color=INK, labelcolor=INK)
    bar.outline.set_visible(False)
    bar.set_label("dB of the peak" if shown.levels else shown.value, fontsize=TEXT["tick"], color=INK)
    return figure


def draw(axes: Any, shown: Shown, frames: Tensor, limits: tuple[float, ...]) -> Any:
    """Rows of equal height, frame t at its own time; the rows' frequencies, where they have some, on the axis."""
    count, hop = len(frames), shown.layer.hop_length / RATE
    image = axes.imshow(
        frames,
        origin="lower",
        aspect="auto",
        extent=(-hop / 2, (frames.shape[-1] - 0.5) * hop, shown.first - 0.5, shown.first + count - 0.5),
        cmap=colormaps[IMAGE].resampled(32),
        interpolation="nearest",
        vmin=limits[0],
        vmax=limits[1],
    )
    if shown.names:
        axes.set_yticks(range(count), shown.names)
    if shown.hz is not None:
        hz = shown.hz.numpy().astype(float)
        marks = [mark for mark in MARKS if hz[0] <= mark <= hz[-1] * 1.03]
        places = np.interp(marks, hz, np.arange(count))
        kept = [0]  # marks that stand clear of those below
        for number in range(1, len(marks)):
            if places[number] - places[kept[-1]] >= 0.07 * count:
                kept.append(number)
        axes.set_yticks([places[number] for number in kept], [f"{marks[number]:,}" for number in kept])
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="the folder to write PNG files into; made if it is missing")
    parser.add_argument("--word", help="a recording of a word, of any format and rate")
    arguments = parser.parse_args()
    word = read_audio(arguments.word, sample_rate=RATE).wave if arguments.word else vowels()
    sounds = {"a word": word, "plucked strings": strings()}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, shown in front_ends().items():
        save(picture(shown, sounds), arguments.folder / f"{name}.png")
    print(f"{arguments.folder}: {', '.join(front_ends())}")


if __name__ == "__main__":
    main()
