"""A stream's next frames in one compiled call: what `spectrogram` does, without the look-ups on the way there.

Microseconds of `MelSpectrogram.stream` with a logarithm: 40 bands, hop 160, two cores of an AMD EPYC:

    frames that a chunk completes     1     2     4     8    16    32
    n_fft 512, by `spectrogram`      31    31    36    37    36    41
               by a step             12    15    16    17    15     -
    n_fft 400, by `spectrogram`      31    30    35    36    35    40
               by a step             13    14    14    15    14     -
    n_fft 2048, by `spectrogram`     51    52    54    56    54   135
                by a step            19    34    35    39    32     -

So a step is taken wherever it can be: for one signal, and as many frames as lie side by side in the kernels' vectors.
More of them are shared among threads, and the look-ups are paid once for all.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .._dispatch import wanted
from .._memory import borrow, give_back
from ._vectors import LANES
from .cpu import kernel, shared_of

__all__ = ["Step"]


class Step:
    """What `temporal.kernels.bands.step_of` gives, and says."""

    def __init__(
        self,
        window: Tensor,
        bank: Tensor | None,
        spans: Tensor | None,
        hop_length: int,
        power: float,
        log: float | None,
    ):
        self._shared = shared_of(window, bank, spans, power, log)
        self._n_fft, self._hop, self._run = window.shape[0], hop_length, kernel("step")

    def __call__(self, kept: Tensor, chunk: Tensor, start: int) -> tuple[Tensor, Tensor, int] | None:
        if not (_plain(kept) and _plain(chunk)):
            return None
        leading: tuple[int, ...] = ()
        if not kept.dim() == chunk.dim() == 1:
            leading = chunk.shape[:-1]
            if kept.shape[:-1] != leading or math.prod(leading) != 1 or not leading:
                return None
        of_wave, rows, _, _, work = self._shared
        count, more = kept.shape[-1], chunk.shape[-1]
        samples = count + more
        frames = max(0, 1 + (samples - start - self._n_fft) // self._hop)
        # The samples are joined in memory that stays: no more of it than the kernel itself needs.
        if frames > LANES or samples > work or wanted() not in ("auto", "cpu"):
            return None
        after = start + frames * self._hop
        drop = min(after, samples)
        out, rest = np.empty((rows, frames), np.float32), np.empty(samples - drop, np.float32)
        array = borrow(samples + work)
        self._run(kept.data_ptr(), count, chunk.data_ptr(), more, start, self._hop, *of_wave, out, rest, array)
        give_back(array)
        given, last = torch.from_numpy(out), torch.from_numpy(rest)
        if leading:
            given, last = given.view(*leading, rows, frames), last.view(*leading, -1)
        return given, last, after - drop


def _plain(samples: Tensor) -> bool:
    """Whether a kernel can read them as they are, and nobody wants a gradient."""
    return (
        type(samples) is Tensor
        and samples.dtype is torch.float32
        and samples.is_cpu
        and samples.is_contiguous()
        and not samples.requires_grad
        and not samples.is_neg()
    )
