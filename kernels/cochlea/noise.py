"""Random numbers that depend on what is heard, on the channel and on the step, and on nothing else.

The counter-based generator Philox4x32-10 (Salmon et al. 2011) turns (step // 4, channel) and a key of 64 bits into the
uniform numbers of four steps. Every 32 steps have a key of their own: a checksum of the seed and of all samples before the
first of them. So two recordings that differ have different noise as soon as they do, and a recording's noise depends
neither on its neighbours in the batch, nor on zeros after its end, nor on chunks, threads or backends.

The checksum is sum_i bits(x_i) weight_i modulo 2^64, with the samples' float32 bits and odd pseudo-random weights, and is
scrambled by SplitMix64's finalizer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TILE", "Heard", "keys", "philox", "uniforms"]

TILE = 32  # steps that share a key
_SAMPLES = 2 * TILE
_GOLDEN = 0x9E3779B97F4A7C15
_LOW = 0xFFFFFFFF


class Heard(NamedTuple):
    """What the keys to come depend on."""

    checksum: Tensor  # [recordings], int64
    samples: int  # so many; a multiple of those of a tile


def keys(wave: Tensor, seed: int, heard: Heard | None = None) -> tuple[Tensor, Heard]:
    """The keys of tiles: [recordings, samples] float32 -> [recordings, samples // 64 + 1] int64, one for each 64 begun.

    ``heard`` is what the call before returned, and then this one continues it; it covers whole tiles.
    """
    recordings, samples = wave.shape
    if heard is None:
        heard = Heard(torch.zeros(recordings, dtype=torch.int64, device=wave.device), 0)
    tiles = samples // _SAMPLES
    whole = wave[:, : tiles * _SAMPLES].float().contiguous() + 0.0  # -0.0 is 0.0
    bits = whole.view(torch.int32).long() & _LOW
    index = torch.arange(heard.samples, heard.samples + tiles * _SAMPLES, device=wave.device)
    weights = _scrambled(index * _signed(_GOLDEN)) | 1
    sums = (bits * weights).unflatten(1, (tiles, _SAMPLES)).sum(2)
    sums = torch.cat((heard.checksum[:, None], sums), 1).cumsum(1)
    start = _scrambled(torch.full((), _signed(seed + _GOLDEN), device=wave.device))
    return _scrambled(sums + start), Heard(sums[:, -1], heard.samples + tiles * _SAMPLES)


def uniforms(key: Tensor, group: int, channels: int) -> Tensor:
    """[recordings] keys -> [recordings, 4, channels], in [0, 1): the numbers of steps 4 group .. 4 group + 3."""
    key = key[:, None]
    zero = torch.zeros_like(key)
    return torch.stack(philox(key, zero + group, zero + torch.arange(channels, device=key.device), zero), 1)


def philox(key: Tensor, first: Tensor, second: Tensor, third: Tensor) -> list[Tensor]:
    """Four uniform numbers, multiples of 2^-24 in [0, 1), for each key of 64 bits and counter of three times 32 (int64s)."""
    k0, k1 = key & _LOW, _shifted(key, 32)
    words = [first & _LOW, second & _LOW, third & _LOW, torch.zeros_like(first)]
    for _ in range(10):
        a, b = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
        words = [_shifted(b, 32) ^ words[1] ^ k0, b & _LOW, _shifted(a, 32) ^ words[3] ^ k1, a & _LOW]
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return [(word >> 8).float() * 2.0**-24 for word in torch.broadcast_tensors(*words)]


def _scrambled(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """To the right, as if without a sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
