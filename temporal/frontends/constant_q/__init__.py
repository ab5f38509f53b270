"""Constant-Q and variable-Q transforms: exact or librosa's, whole or streamed.

How they are computed. The filters of an octave need a sample rate of two to three times their highest frequency only.
So one long real FFT is taken of the whole signal, its lower part is transformed back for each low octave (`_spectrum.py`),
and the octave's frames are a matrix product of windows of that slower signal with short filters (`_product.py`). An
octave that would gain nothing stays at the full rate. Rates are whole numbers of samples a hop, so any hop length is
served (`_plan.py`), and filters are the defining curves, sampled at the rate (`_basis.py`).

How a stream gives the same. Between the two FFTs lies a low pass with the edge of an error function. Its impulse
response, a sinc under a bell, is negligible (1e-7) beyond a known distance, so the stream filters with that piece of it
(`_stream.py`) and agrees to 1e-7 with the long FFT, from which no constant depends on the signal's length.

What is lost. Beyond the lower Nyquist frequency the tail of a filter's spectrum: 1e-5 of the peak on white noise.
"""

from .cqt import CQT
from .vqt import VQT

__all__ = ["CQT", "VQT"]
