"""Front ends: a waveform in, frames out, whole or as a stream.

Each is a plain `nn.Module`, `[..., samples] -> [..., bins, frames]`, with `.hop_length`, `.latency`,
`.frames(samples)`, `.stream(chunk, state)` and `.flush(state)`. `Chain` puts several together.
"""

from .auditory import Gammatonegram
from .chain import Chain
from .cochlea import Cochlea
from .constant_q import CQT, VQT
from .deltas import Deltas
from .encoders import Latency, LevelCrossing, Poisson
from .fourier import STFT
from .gabor import InvertibleCQT
from .learnable import LEAF, SincConv
from .levels import AmplitudeToDB, Log
from .mel import MelSpectrogram
from .mfcc import MFCC
from .normalize import Normalize
from .pcen import PCEN
from .resample import Resample

__all__ = [
    "CQT",
    "LEAF",
    "MFCC",
    "PCEN",
    "STFT",
    "VQT",
    "AmplitudeToDB",
    "Chain",
    "Cochlea",
    "Deltas",
    "Gammatonegram",
    "InvertibleCQT",
    "Latency",
    "LevelCrossing",
    "Log",
    "MelSpectrogram",
    "Normalize",
    "Poisson",
    "Resample",
    "SincConv",
]
