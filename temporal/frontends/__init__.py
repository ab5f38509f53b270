"""Front ends: a waveform in, frames out, whole or as a stream.

Each is a plain `nn.Module`, `[..., samples] -> [..., bins, frames]`, with `.hop_length`, `.latency`,
`.frames(samples)`, `.stream(chunk, state)` and `.flush(state)`. `Chain` puts several together.
"""

from .auditory import Gammatonegram
from .chain import Chain
from .chroma import Chroma, FoldOctaves
from .cochlea import Cochlea
from .constant_q import CQT, VQT
from .deltas import Deltas
from .encoders import Latency, LevelCrossing, Poisson
from .fourier import STFT
from .gabor import InvertibleCQT
from .griffin_lim import GriffinLim
from .inverse import InverseMel, InverseSTFT
from .learnable import LEAF, SincConv
from .levels import AmplitudeToDB, Log
from .masking import SpecAugment
from .mel import MelSpectrogram
from .mfcc import MFCC
from .normalize import Normalize
from .pcen import PCEN
from .periodicity import CombinedFrequencyPeriodicity
from .resample import Resample
from .running import RunningNormalize
from .utterance import UtteranceNormalize

__all__ = [
    "CQT",
    "LEAF",
    "MFCC",
    "PCEN",
    "STFT",
    "VQT",
    "AmplitudeToDB",
    "Chain",
    "Chroma",
    "Cochlea",
    "CombinedFrequencyPeriodicity",
    "Deltas",
    "FoldOctaves",
    "Gammatonegram",
    "GriffinLim",
    "InverseMel",
    "InverseSTFT",
    "InvertibleCQT",
    "Latency",
    "LevelCrossing",
    "Log",
    "MelSpectrogram",
    "Normalize",
    "Poisson",
    "Resample",
    "RunningNormalize",
    "SincConv",
    "SpecAugment",
    "UtteranceNormalize",
]
