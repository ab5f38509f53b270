"""From a synthesised word to what a microphone in a room might take: margins, echoes, noise, level."""

import numpy as np

_LONGEST = 1.25  # seconds; voices with an echo ring on


def trim(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """From the first to the last sample above 2 % of the peak, at most ``_LONGEST`` seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=0))
    if not len(loud):
        raise RuntimeError("espeak-ng spoke a word without a sound")
    return samples[loud[0] : loud[-1] + 1][: int(_LONGEST * sample_rate)]


def record(voice: np.ndarray, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """The voice as a microphone might take it: margins, a room, noise, level."""
    before, after = draw.integers(round(0.02 * sample_rate), round(0.1 * sample_rate), 2)
    wave = np.pad(voice.astype(np.float64), (before, after))
    power = float(np.mean(voice.astype(np.float64) ** 2))
    if draw.random() < 0.5:
        wave += _reverberation(wave, power, sample_rate, draw)
    noise = _noise(len(wave), sample_rate, draw)
    wave += noise * np.sqrt(power * 10 ** (-draw.uniform(8, 30) / 10) / np.mean(noise**2))
    return wave / np.abs(wave).max() * 10 ** (draw.uniform(-20, -3) / 20)


def _reverberation(wave: np.ndarray, power: float, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """Echoes only: noise that decays by 60 dB in ``decay`` seconds, as a linear filter."""
    decay, under = draw.uniform(0.1, 0.4), draw.uniform(3, 12)
    time = np.arange(round(decay * sample_rate)) / sample_rate
    response = draw.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    size = 1 << (len(wave) + len(response)).bit_length()
    echoes = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
    return echoes * np.sqrt(power * 10 ** (-under / 10) / np.mean(echoes**2))


def _noise(samples: int, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls with frequency as f^-slope, slope 0 (white) to 2 (brown), from 50 Hz on."""
    size = 1 << samples.bit_length()  # a prime number of samples takes ten times as long
    spectrum = np.fft.rfft(draw.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 50.0)
    return np.fft.irfft(spectrum * frequency ** (-draw.uniform(0, 2) / 2), size)[:samples]
