"""From sound to spikes in plain torch: the specification of every backend, and what runs on CUDA tensors and for gradients.

1. Membrane. Travelling wave: u = Re(IFFT_k(V X)) with the first k = n // 2 + 1 bins X of the FFT of n samples and V as in
   ``transfer.py``, so that there are k steps at half the sample rate (``circular``); or block by block (``linear``).
   Gammatone: four times y = x + a y[t-1] in a row, of which u[m] = gain Re(y[2 m]) (``gammatone``).
2. Hair cell (Meddis 1986, 1988), by Euler's steps: permeability k = g (u + A) / (u + A + B) where u + A > 0, else 0. Free
   transmitter q, in the cleft c, reprocessed w, each floored at 0, all three from the old values:

       q += y max(M - q, 0) - k q + x w,  c += k q - l c - r c,  w += r c - x w,  probability of release p = h c (the new c)

3. Fibres: 40 a channel, each of which releases with probability p unless it did so within the last millisecond. They
   are alike, so only their number counts: n ~ Binomial(those that may, p), by inversion of its distribution at a
   uniform number.
4. Bushy cell: synaptic current I = d I + n, membrane v = e v + s I, with decays d and e and strength s. At v >= 1 it
   fires, v is set to 0, and for a millisecond it ignores its current.

State: [recordings, rows, channels], in the rows that are named below.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .ear import FIBRES, Ear
from .linear import blocks, linear_response
from .noise import TILE, uniforms

__all__ = ["AVAILABLE", "RING", "circular", "gammatone", "linear", "rows", "start"]

# Rows of the state: hair cell, synaptic current, membrane, steps of silence left, fibres that may release; then the
# releases of the last millisecond, by step modulo its length; then, for gammatone filters, the real and imaginary
# parts of their stages.
Q, C, W, CURRENT, V, SILENT, AVAILABLE, RING = range(8)
STAGES = 4


def rows(ear: Ear) -> int:
    """How many rows the state has."""
    return RING + ear.refractory + (2 * STAGES if ear.membrane == "gammatone" else 0)


def start(ear: Ear, recordings: int, like: Tensor) -> Tensor:
    """The state of an ear at rest."""
    state = like.new_zeros((recordings, rows(ear), ear.channels))
    for row, value in zip((Q, C, W), ear.rest(), strict=True):
        state[:, row] = value
    state[:, AVAILABLE] = FIBRES
    return state


def circular(ear: Ear, wave: Tensor, keys: Tensor, output: str) -> Any:
    """Whole recordings [recordings, samples] as the converter hears them: [recordings, channels, samples // 2 + 1].

    ``output`` is "membrane", "probability", "spikes", or "events": a list of (steps, channels), sorted.
    """
    steps = wave.shape[1] // 2 + 1
    spectrum = torch.fft.fft(wave)[:, None, :steps]
    velocity = torch.fft.ifft(_sampled_response(ear, wave.shape[1], spectrum.dtype, wave.device) * spectrum).real
    return _cells(ear, velocity, keys, start(ear, len(wave), velocity), 0, output)[0]


def linear(ear: Ear, samples: Tensor, keys: Tensor, state: Tensor, first: int, output: str) -> tuple[Any, Tensor]:
    """One block: [recordings, size] samples -> ([recordings, channels, steps], state); ``first`` is its first step."""
    cut = blocks(ear.sample_rate)
    response = _block_response(ear, samples.dtype, samples.device)
    wave = torch.fft.irfft(response * torch.fft.rfft(samples)[:, None], n=cut.size)
    velocity = wave[..., cut.behind : cut.behind + cut.block : 2]
    return _cells(ear, velocity, keys, state, first, output)


def gammatone(ear: Ear, samples: Tensor, keys: Tensor, state: Tensor, first: int, output: str) -> tuple[Any, Tensor]:
    """Steps ``first`` .. from two samples each, the second of which is the step's own."""
    pole, gain = _filters(ear, samples.dtype, samples.device)
    at = RING + ear.refractory
    stages = list(torch.complex(state[:, at : at + STAGES], state[:, at + STAGES :]).unbind(1))
    velocity = []
    for t, sample in enumerate(samples.unbind(1)):
        below: Tensor = sample[:, None]
        for k in range(STAGES):
            below = stages[k] = below + pole * stages[k]
        if t % 2:
            velocity.append(gain * below.real)
    out, state = _cells(ear, torch.stack(velocity, -1), keys, state, first, output)
    kept = torch.stack([*(stage.real for stage in stages), *(stage.imag for stage in stages)], 1)
    return out, torch.cat((state[:, :at], kept), 1)


# What follows from an ear is kept on its device: a copy from the host would make both wait.


@lru_cache(maxsize=2)
def _sampled_response(ear: Ear, samples: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(ear.transfer(ear.frequencies(samples))).to(device, dtype)


@lru_cache(maxsize=2)
def _block_response(ear: Ear, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.complex(*torch.from_numpy(linear_response(ear)).to(device, dtype))


@lru_cache(maxsize=2)
def _filters(ear: Ear, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    pole, gain = map(torch.from_numpy, ear.gammatone)
    return pole.to(device, dtype.to_complex()), gain.to(device, dtype)


def _cells(ear: Ear, velocity: Tensor, keys: Tensor, state: Tensor, first: int, output: str) -> tuple[Any, Tensor]:
    """From the membrane's velocity [recordings, channels, steps] on."""
    if output == "membrane":
        return velocity, state
    values = list(state.unbind(1))
    steps = []
    for t, u in enumerate(velocity.unbind(-1)):
        p = hair_cell(ear, u, values)
        if output != "probability":
            step = first + t
            if t == 0 or step % 4 == 0:
                numbers = uniforms(keys[:, step // TILE - first // TILE], step // 4, ear.channels)
            p = bushy_cell(ear, p, numbers[:, step % 4], step, values)
        steps.append(p)
    out, after = torch.stack(steps, -1), torch.stack(values, 1)
    if output == "events":
        found = (recording.T.nonzero().T for recording in out)
        return [(when + first, where) for when, where in found], after
    return out, after


def hair_cell(ear: Ear, u: Tensor, values: list[Tensor]) -> Tensor:
    """The probability of a release in this step; the first three ``values`` become the new q, c and w."""
    n = ear.numbers
    q, c, w = values[:3]
    k = torch.where(u + n.A > 0, n.g * (u + n.A) / ((u + n.A) + n.B), 0.0)
    ejected, recovered, reprocessed = k * q, n.r * c, n.x * w
    values[Q] = (((q + n.y * (n.M - q).clamp_min(0)) - ejected) + reprocessed).clamp_min(0)
    values[C] = (((c + ejected) - n.l * c) - recovered).clamp_min(0)
    values[W] = ((w + recovered) - reprocessed).clamp_min(0)
    return n.h * values[C]


def bushy_cell(ear: Ear, p: Tensor, numbers: Tensor, step: int, values: list[Tensor]) -> Tensor:
    """The spikes, 0 or 1, of a step in which each fibre that may does release with probability p."""
    n = ear.numbers
    old = RING + step % ear.refractory
    able = values[AVAILABLE] + values[old]
    values[old] = released = binomial(able, p.detach(), numbers)
    values[AVAILABLE] = able - released
    values[CURRENT] = values[CURRENT] * n.synapse + released
    charged = values[V] * n.membrane + values[CURRENT] * n.strength
    fires = (charged >= 1) & (values[SILENT] == 0)
    values[V] = torch.where(fires | (values[SILENT] > 0), 0.0, charged)
    values[SILENT] = torch.where(fires, float(ear.refractory), (values[SILENT] - 1).clamp_min(0))
    return fires.to(p.dtype)


def binomial(trials: Tensor, p: Tensor, numbers: Tensor) -> Tensor:
    """How many of so many trials (up to 40) succeed: the first count whose cumulative probability is above the number."""
    p = p.clamp_max(1)
    rare = torch.where(p > 0.5, 1 - p, p)  # the rarer outcome is counted, so that its powers stay above 0
    index = torch.arange(FIBRES, dtype=p.dtype, device=p.device)
    growth = (rare / (1 - rare))[..., None] * ((trials[..., None] - index).clamp_min(0) / (index + 1))
    none = ((1 - rare) ** trials)[..., None]
    cumulative = torch.cat((none, none * growth.cumprod(-1)), -1).cumsum(-1)
    count = torch.minimum((numbers[..., None] >= cumulative).sum(-1).to(p.dtype), trials)
    return torch.where(p > 0.5, trials - count, count)
