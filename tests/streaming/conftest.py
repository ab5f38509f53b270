"""Small stand-ins that follow the protocol, so that streaming is tested apart from any real front end or neuron."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

import temporal
from temporal.layers import SumSoftmax

RATE, HOP, WIDTH, BINS = 800, 8, 20, 5  # 100 steps a second


class FrameState(NamedTuple):
    samples: torch.Tensor
    start: int  # where the next frame begins in them


class Frames(nn.Module):
    """Centred overlapping frames of 20 samples every 8, and the log of their energy in five bands."""

    sample_rate, hop_length, latency = RATE, HOP, WIDTH // 2
    center, pad_mode = True, "constant"

    def __init__(self):
        super().__init__()
        self.register_buffer("bands", torch.rand(WIDTH, BINS, generator=torch.Generator().manual_seed(5)))

    def frames(self, samples):
        return samples // HOP + 1

    def forward(self, wave):
        return self._of(nn.functional.pad(wave, (WIDTH // 2, WIDTH // 2)))

    def stream(self, chunk, state=None):
        if state is None:
            state = FrameState(chunk.new_zeros(*chunk.shape[:-1], WIDTH // 2), 0)
        samples = torch.cat([state.samples, chunk], -1)
        frames = self._of(samples[..., state.start :])
        start = state.start + frames.shape[-1] * HOP
        drop = max(0, start - HOP)  # more is kept than needed, so that `start` counts
        return frames, FrameState(samples[..., drop:], start - drop)

    def flush(self, state):
        frames, _ = self.stream(state.samples.new_zeros(*state.samples.shape[:-1], WIDTH // 2), state)
        return frames, None

    def _of(self, samples):
        if samples.shape[-1] < WIDTH:
            return samples.new_zeros(*samples.shape[:-1], BINS, 0)
        return torch.log(samples.unfold(-1, WIDTH, HOP).square() @ self.bands + 1e-2).transpose(-1, -2)


class Leaky(nn.Module):
    """v[t] = 0.9 v[t-1] + x[t], spikes where v > 0.5 (kept in v): a neuron without a reset."""

    def forward(self, x, state=None):
        v, out = x.new_zeros(x.shape[1:]) if state is None else state, []
        for step in x:
            v = 0.9 * v + step
            out.append((v > 0.5).to(x.dtype) + 0.1 * v)
        return (torch.stack(out) if out else x), v


class Delayed(nn.Module):
    """y[t] = x[t - 3]."""

    def forward(self, x, state=None):
        line = torch.cat([x.new_zeros(3, *x.shape[1:]) if state is None else state, x])
        return line[: x.shape[0]], line[x.shape[0] :]


def network(inputs, classes=4):
    torch.manual_seed(11)
    return temporal.Sequential(
        nn.Linear(inputs, 8),
        Leaky(),
        Delayed(),
        temporal.BatchNorm(8),
        nn.Dropout(0.5),
        nn.GRU(8, 8),
        nn.Linear(8, classes),
    )


LABELS = ["yes", "no", "up", "down"]


@pytest.fixture(scope="session")
def make_model():
    def make(readout=SumSoftmax, dtype=torch.float64, frontend=True, tail=7, sample_rate=None):
        first = Frames() if frontend else None
        net = network(BINS)
        with torch.no_grad():
            net[-1].weight.mul_(4)  # outputs that differ, so that something is heard
        model = temporal.Model(first, net, readout(), labels=LABELS, tail=tail, sample_rate=sample_rate)
        return model.to(dtype).train()  # in training mode: the stream has to leave it

    return make


@pytest.fixture(scope="session")
def wave():
    """Three seconds of noise whose loudness and colour change: several events."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(2403, dtype=torch.float64, generator=generator)
    envelope = torch.sin(torch.arange(2403) / 170.0).abs() ** 3
    return noise * envelope + 0.3 * torch.sin(torch.arange(2403) ** 1.3 / 9) * envelope.flip(0)
