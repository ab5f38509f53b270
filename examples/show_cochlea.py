"""What a cochlea makes of clicks, a tone, a chirp and a word, beside the mel spectrogram of the same sounds.

python examples/show_cochlea.py cochlea.png --word RECORDING.wav

Without a recording, the word is two synthetic vowels. Upper row: the mel spectrogram. Middle: the probability that a
hair cell releases transmitter, place by place; places are named by the frequency that they hear best. Lower: the bushy
cells' spikes.
"""

import argparse
import math

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from temporal.analysis import save
from temporal.datasets import read_audio
from temporal.frontends import AmplitudeToDB, Chain, Cochlea, MelSpectrogram
from temporal.kernels.cochlea import Ear

RATE = 16000
FREQUENCIES = [100, 200, 500, 1000, 2000, 4000]  # Hz
NOTE = {
    "fontsize": 8,
    "color": "#0072b2",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
}
MEL = Chain(
    MelSpectrogram(RATE, n_fft=512, hop_length=80, n_mels=64, fmin=60.0, scale="htk"), AmplitudeToDB(top_db=60.0)
)


def clicks() -> Tensor:
    """Five, 40 ms apart."""
    wave = torch.zeros(RATE // 4)
    wave[400::800] = 1.0
    return wave


def tone() -> Tensor:
    """1 kHz, faded in and out over 10 ms."""
    time = torch.arange(RATE // 4) / RATE
    fade = ((0.1 - (time - 0.125).abs()) / 0.01).clamp(0, 1)
    return torch.sin(2 * torch.pi * 1000 * time) * fade


def chirp() -> Tensor:
    """From 80 Hz to 6 kHz in half a second, even on a logarithmic scale."""
    time, growth = torch.arange(RATE // 2) / RATE, math.log(6000 / 80) / 0.5
    return torch.sin(2 * torch.pi * 80 / growth * torch.expm1(growth * time))


def vowels() -> Tensor:
    """A voice of 120 Hz that says "a", then "i": harmonics through two resonances each."""
    time, harmonics = torch.arange(RATE // 4) / RATE, torch.arange(1, 33)[:, None] * 120.0
    parts = []
    for formants in ((750, 1200), (280, 2300)):
        level = sum(1 / (1 + ((harmonics - formant) / 90) ** 2) for formant in formants) + 0.01
        parts.append((level * torch.sin(2 * torch.pi * harmonics * time)).sum(0) * torch.hann_window(len(time)).sqrt())
    return torch.cat(parts)


def picture(sounds: dict[str, Tensor]) -> Figure:
    """One column a sound, as wide as it is long."""
    figure = Figure(figsize=(13, 8.4), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    widths = [max(len(wave), RATE // 3) for wave in sounds.values()]
    rows = figure.subplots(3, len(sounds), sharex="col", gridspec_kw={"width_ratios": widths}, squeeze=False)
    # A ramp of 5 ms: with the converter's own, half of the recording each, a tone would be a swelling.
    ear = {"ramp": 0.005}
    for column, (name, wave) in enumerate(sounds.items()):
        seconds = len(wave) / RATE
        mel, release, spikes = (axes[column] for axes in rows)
        mel.set_title(name, fontsize=10)
        mel.imshow(MEL(wave), origin="lower", aspect="auto", extent=(0, seconds, 0, 64), cmap="magma")
        probability = Cochlea(RATE, output="probability", **ear)(wave)
        probability = torch.nn.functional.avg_pool1d(probability, 8)  # 1 ms: a picture has no more dots
        options = {"cmap": "magma", "vmin": 0.006, "vmax": 0.03, "interpolation_stage": "data"}
        release.imshow(probability, aspect="auto", extent=(0, seconds, 700, 0), **options)
        times, units = Cochlea(RATE, **ear).events(wave)
        spikes.plot(times, units, linestyle="none", marker=",", color="#222222")
        spikes.set(xlim=(0, seconds), ylim=(700, 0), xlabel="time (s)")
        count = f"{len(times):,} spikes"
        spikes.text(0.99, 0.02, count, transform=spikes.transAxes, ha="right", **NOTE)
    label(rows)
    figure.supxlabel(
        "As in the converter that made SHD and SSC, responses come before their cause, most at the apex (below), and a "
        "recording's beginning wraps around into its end.",
        fontsize=8,
    )
    return figure


def label(rows: np.ndarray) -> None:
    """Frequencies along the left edge: of the mel bands, and of the places that hear them best."""
    best = Ear(RATE, 700, "lauscher", "travelling_wave").transfer.best
    edges = 2595 * np.log10(1 + np.array([60, RATE / 2, *FREQUENCIES]) / 700)
    bands = 64 * (edges[2:] - edges[0]) / (edges[1] - edges[0])
    places = [int(np.abs(best - frequency).argmin()) for frequency in FREQUENCIES]
    names = [f"{frequency:,} Hz" for frequency in FREQUENCIES]
    for axes, ticks, title in zip(
        rows, (bands, places, places), ("mel spectrogram", "release probability", "spikes of bushy cells"), strict=True
    ):
        for panel in axes:
            panel.set_yticks(ticks, [])
            panel.tick_params(labelsize=8)
        axes[0].set_yticks(ticks, names)
        axes[0].set_ylabel(title, fontsize=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="the PNG file to write")
    parser.add_argument("--word", help="a recording of a word, of any format and rate")
    arguments = parser.parse_args()
    word = read_audio(arguments.word, sample_rate=RATE).wave if arguments.word else vowels()
    sounds = {"clicks": clicks(), "tone, 1 kHz": tone(), "chirp, 80 Hz to 6 kHz": chirp(), "a word": word}
    save(picture(sounds), arguments.picture)
    print(f"{arguments.picture}: {', '.join(sounds)}")


if __name__ == "__main__":
    main()
