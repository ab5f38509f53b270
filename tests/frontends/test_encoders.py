"""Encoders against loops written from their definitions, snnTorch, and statistics; streams against the whole."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import Chain, Latency, LevelCrossing, Log, MelSpectrogram, Poisson


def crossings(signal, threshold):
    """Send on delta, one value after the other."""
    up, down, level = [], [], 0
    for value in signal:
        place, before = (value - signal[0]) / threshold, level
        while place >= level + 1:
            level += 1
        while place <= level - 1:
            level -= 1
        up.append(max(level - before, 0))
        down.append(max(before - level, 0))
    return torch.tensor([up, down], dtype=torch.float64)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(frames=st.integers(1, 70), seed=st.integers(0, 99), scale=st.sampled_from([0.3, 1.0, 4.0]))
def test_level_crossing_is_send_on_delta(frames, seed, scale):
    signal = torch.randn(2, 3, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale
    out = LevelCrossing(0.5)(signal)
    assert out.shape == (2, 6, frames)
    for i in range(2):
        for j in range(3):
            assert torch.equal(out[i, [j, 3 + j]], crossings(signal[i, j].tolist(), 0.5))
    followed = signal[..., :1] + 0.5 * (out[:, :3] - out[:, 3:]).cumsum(-1)
    assert (followed - signal).abs().max() < 0.5


def test_level_crossing_of_a_constant_and_of_a_tremble():
    assert not LevelCrossing(1.0)(torch.full((1, 9), 7.3)).any()
    assert LevelCrossing(1.0)(torch.tensor([[0.0, 1.0, 0.9, 1.1, 0.5, 1.4]])).sum() == 1


@pytest.mark.parametrize("tau, floor", [(5.0, 0.01), (2.0, 0.2), (None, 0.05)])
def test_log_latency_is_snntorchs(tau, floor):
    spikegen = pytest.importorskip("snntorch.spikegen")
    x = torch.rand(3, 50, generator=torch.Generator().manual_seed(1))
    times, silent = spikegen.latency_code(x, num_steps=20, threshold=floor, tau=tau or 4.0)
    theirs = (times.round().clamp_max(19)[..., None] == torch.arange(20)) & ~silent[..., None]  # it refuses later ones
    assert torch.equal(Latency(20, scale="log", tau=tau, floor=floor)(x.unsqueeze(-1)), theirs.float())


def test_linear_latency():
    x = torch.tensor([[1.0, 0.9, 0.5, 0.1, 1e-9, 0.0, -1.0, 2.0]])
    out = Latency(11)(x).unflatten(-1, (8, 11))[0]
    assert out.sum(-1).tolist() == [1, 1, 1, 1, 1, 0, 0, 1]
    assert out.argmax(-1).tolist() == [0, 1, 5, 9, 10, 0, 0, 0]
    assert Latency(11, floor=0.3)(x).sum() == 4


def test_latency_counts_frames():
    latency = Latency(4)
    assert latency.frames(3) == 12 and latency.hop_length == Fraction(1, 4)
    chain = Chain(MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40), Log(), latency)
    wave = torch.randn(2, 1600)
    assert chain.hop_length == 40 and chain.frames(1600) == 44 == chain(wave).shape[-1]


def test_poisson_rates():
    x = torch.tensor([-1.0, 0.0, 0.1, 0.5, 1.0, 50.0])[:, None].expand(6, 40_000)
    rates = Poisson(100.0, 1000.0)(x).mean(1)
    expected = torch.tensor([0.0, 0.0, 0.01, 0.05, 0.1, 1.0])
    assert ((rates - expected).abs() <= 4 * (expected * (1 - expected) / 40_000).sqrt()).all()


def test_poisson_noise():
    x = torch.rand(3, 5, 200, generator=torch.Generator().manual_seed(0))
    poisson = Poisson(400.0, 1000.0, seed=7)
    out = poisson(x)
    assert torch.equal(poisson(x), out) and torch.equal(poisson(x[1]), out[1])  # neighbours do not matter
    assert not torch.equal(Poisson(400.0, 1000.0, seed=-8)(x), out)
    gaps = poisson(torch.full((100, 3000), 0.25)).flatten().nonzero().flatten().diff().double()
    assert gaps.mean().item() == pytest.approx(10, rel=0.03)
    assert gaps.var().item() == pytest.approx(90, rel=0.06)  # geometric: independent of each other
    # Another recording has noise of its own.
    other = poisson(x + 1e-6)
    together = (out * other).mean()
    assert together.item() == pytest.approx((0.4**2 * (x**2).mean()).item(), rel=0.2)


ENCODERS = {
    "level crossing": lambda: LevelCrossing(0.3),
    "latency": lambda: Latency(3),
    "poisson": lambda: Poisson(300.0, 1000.0),
}


@settings(derandomize=True, deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 20), min_size=1, max_size=6), leading=st.sampled_from([(), (2,), (0,)]))
@pytest.mark.parametrize("name", ENCODERS)
def test_a_stream_gives_the_whole(name, cuts, leading):
    encoder = ENCODERS[name]()
    frames = torch.rand(*leading, 4, sum(cuts), generator=torch.Generator().manual_seed(3))
    whole = encoder(frames)
    assert whole.shape[-1] == encoder.frames(sum(cuts))
    state, parts = None, []
    for chunk in frames.split(cuts, -1):
        out, state = encoder.stream(chunk, state)
        parts.append(out)
    last, state = encoder.flush(state)
    assert state is None
    assert torch.equal(torch.cat([*parts, last], -1), whole)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: LevelCrossing(0), ValueError, "LevelCrossing: threshold=0 must be greater than 0"),
        (lambda: Latency(0), ValueError, "Latency: steps=0 steps is not positive"),
        (lambda: Latency(5, scale="lin"), ValueError, "Latency: scale='lin' is unknown"),
        (
            lambda: Latency(5, floor=1.0),
            ValueError,
            'Latency: floor=1 with scale="linear" must be 0 or more and below 1',
        ),
        (lambda: Latency(5, scale="log", floor=0), ValueError, 'floor=0 with scale="log" must be above 0 and below 1'),
        (lambda: Latency(5, tau=0), ValueError, "Latency: tau=0 steps must be greater than 0"),
        (lambda: Poisson(-1, 100), ValueError, "Poisson: rate=-1 Hz must be greater than 0"),
        (lambda: Poisson(1, 0), ValueError, "Poisson: frame_rate=0 Hz must be greater than 0"),
        (lambda: Poisson(1, 100, seed=0.5), TypeError, "Poisson: seed=0.5 is not a whole number"),
        (lambda: Poisson(1, 100)(torch.zeros(2, 3, dtype=torch.long)), TypeError, "Poisson: the frames came as int64"),
        (lambda: LevelCrossing(1)(torch.zeros(3)), ValueError, "LevelCrossing: the frames came as"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
