"""The same octaves chunk by chunk: the decimator as a filter in time, and the windows that are due."""

from typing import NamedTuple

import torch
from torch import Tensor

from ._plan import Decimator, Octave

__all__ = ["ConstantQState", "OctaveState", "advance", "begin", "filled", "filtered", "low_pass", "reaches"]


class OctaveState(NamedTuple):
    """What an octave carries from one chunk to the next."""

    samples: Tensor  # [..., k] at the full rate: what the decimator has not used up
    signal: Tensor  # [..., j] at the octave's rate, as much of it as later windows need
    start: int  # where the next window begins, from signal[..., 0] on
    begun: int  # samples of the octave's signal that have been computed


class ConstantQState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    octaves: tuple[OctaveState, ...]
    edge: Tensor  # [..., k]: the signal's first samples, then its last, as many as a reflection needs
    read: int  # samples of the signal so far
    given: int  # frames so far


def low_pass(decimator: Decimator, device: torch.device | None) -> Tensor:
    """[b, window]: weights that make b samples of the lower rate from a window that hops by a samples.

    The window begins `support` samples before the first of the b. Sums are times the number of samples that one of the
    lower rate stands for, as in `_spectrum.py`.
    """
    a, b = decimator.period
    window = torch.arange(2 * decimator.support + a, dtype=torch.float64, device=device) - decimator.support
    time = window - torch.arange(b, dtype=torch.float64, device=device)[:, None] * (a / b)
    ideal = 2 * decimator.centre * torch.sinc(2 * decimator.centre * time)
    return a / b * ideal * torch.exp(-2 * (torch.pi * decimator.deviation * time) ** 2)


def filtered(padded: Tensor, decimator: Decimator, weights: Tensor) -> Tensor:
    """What `decimate` of `_spectrum.py` gives, as a convolution: [..., hops * hop] -> [..., hops * kept]."""
    a, _ = decimator.period
    samples = torch.nn.functional.pad(padded, (decimator.support, decimator.support))
    blocks = torch.nn.functional.conv1d(samples.reshape(-1, 1, samples.shape[-1]), weights[:, None], stride=a)
    return blocks.transpose(-1, -2).reshape(*padded.shape[:-1], -1)


def begin(octave: Octave, cut: bool, like: Tensor) -> OctaveState:
    """Before the first sample: zeros as far as the first window reaches. `cut`: the octave's signal begins at time 0."""
    left = octave.reach_left
    zeros = like.new_zeros((*like.shape[:-1], 0))
    if octave.decimator is None or cut:
        support = octave.decimator.support if octave.decimator else 0
        return OctaveState(_more(zeros, support), _more(zeros, left), 0, 0)
    a, b = octave.decimator.period
    blocks = -(-left // b)
    return OctaveState(_more(zeros, a * blocks + octave.decimator.support), zeros, b * blocks - left, 0)


def filled(state: OctaveState, before: Tensor) -> OctaveState:
    """The state before the first sample with the signal's continuation to the left in place of zeros."""
    samples, signal = state.samples.shape[-1], state.signal.shape[-1]
    last = before.shape[-1]
    return state._replace(samples=before[..., last - samples :], signal=before[..., last - signal :])


def reaches(octave: Octave, cut: bool) -> int:
    """Samples of the full rate that an octave needs on either side of the signal."""
    state = begin(octave, cut, torch.zeros(0, device="cpu"))
    before = state.samples.shape[-1] if octave.decimator else state.signal.shape[-1]
    return max(before, octave.latency)


def advance(
    octave: Octave, weights: Tensor | None, state: OctaveState, chunk: Tensor, due: int, end: int | None = None
) -> tuple[Tensor, OctaveState]:
    """The next `due` windows [..., due, size] after a chunk of the signal.

    `end`: the octave's signal has so many samples, and zeros after them.
    """
    samples = torch.cat((state.samples, chunk), -1)
    if octave.decimator is None or weights is None:
        new, samples = samples, samples[..., :0].clone()
    else:
        a, _ = octave.decimator.period
        blocks = cut_windows(samples, weights.shape[-1], a)
        new = (blocks @ weights.t()).flatten(-2)
        samples = samples[..., blocks.shape[-2] * a :].clone()
    if end is not None:
        missing = end - state.begun
        new = new[..., : max(0, missing)]
        needed = state.start + (due - 1) * octave.hop + octave.size - state.signal.shape[-1]
        new = _more(new, max(0, needed - new.shape[-1]))
    signal = torch.cat((state.signal, new), -1)
    windows = cut_windows(signal[..., state.start :], octave.size, octave.hop)[..., :due, :]
    start = state.start + due * octave.hop
    drop = min(start, signal.shape[-1])
    # A copy, because a view would keep the whole chunk alive.
    after = OctaveState(samples, signal[..., drop:].clone(), start - drop, state.begun + new.shape[-1])
    return windows, after


def cut_windows(samples: Tensor, size: int, hop: int) -> Tensor:
    """[..., windows, size], a view; as many whole windows as there are."""
    if samples.shape[-1] < size:
        return samples.new_zeros((*samples.shape[:-1], 0, size))
    return samples.unfold(-1, size, hop)


def _more(samples: Tensor, zeros: int) -> Tensor:
    return torch.nn.functional.pad(samples, (0, zeros))
