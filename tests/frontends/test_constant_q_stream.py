"""CQT and VQT chunk by chunk against the whole, with low rates in play, and at their edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import CQT, VQT

# Relative to the peak: the stream's piece of the low pass, 1e-7, and in float32 sums in another order
TOLERANCE = 1e-6
LOW = {"fmin": 20.0, "n_bins": 7, "bins_per_octave": 2, "filter_scale": 8.0}

LAYERS = {
    "hop 12": lambda: CQT(1000, hop_length=12, output="complex", **LOW),
    "hop 16": lambda: CQT(1000, hop_length=16, **LOW),
    "hop 35": lambda: CQT(1000, hop_length=35, **LOW),
    "vqt": lambda: VQT(1000, hop_length=12, gamma=1.0, output="complex", **LOW),
    "conv": lambda: CQT(1000, hop_length=12, engine="conv", **LOW),
    "reflect": lambda: CQT(1000, hop_length=12, pad_mode="reflect", **LOW),
    "librosa": lambda: CQT(1000, hop_length=16, mode="librosa", output="complex", **LOW),
    "per octave": lambda: CQT(1000, hop_length=12, latency="per_octave", output="complex", **LOW),
    "librosa per octave": lambda: CQT(1000, hop_length=16, mode="librosa", latency="per_octave", **LOW),
}


def streamed(layer, chunks):
    state, parts = None, []
    for chunk in chunks:
        frames, state = layer.stream(chunk, state)
        parts.append(frames)
    return torch.cat([*parts, layer.flush(state)[0]], -1)


def test_low_rates_are_in_play():
    for name, make in LAYERS.items():
        low = [octave.hop for octave in make()._octaves if octave.decimator]
        assert bool(low) == (name != "conv"), name


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    cuts=st.lists(st.sampled_from([0, 1, 1, 2, 12, 100]) | st.integers(0, 700), min_size=1, max_size=8),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@pytest.mark.parametrize("name", LAYERS)
def test_any_chunks_give_the_whole(name, cuts, leading, dtype):
    layer = LAYERS[name]().to(dtype)
    wave = torch.randn(*leading, sum(cuts), dtype=dtype, generator=torch.Generator().manual_seed(len(cuts)))
    try:
        whole = layer(wave)
    except ValueError as refused:  # shorter than its reflection: the stream must say the same
        with pytest.raises(ValueError) as caught:
            streamed(layer, wave.split(cuts, -1))
        assert str(caught.value) == str(refused)
        return
    ours = streamed(layer, wave.split(cuts, -1))
    assert ours.shape == whole.shape and ours.dtype == whole.dtype
    assert whole.shape[-1] == layer.frames(sum(cuts))
    if whole.numel():
        # Not of a recording's own peak: of what a sample of full scale gives, if the recording hardly has samples
        assert (ours - whole).abs().max() <= TOLERANCE * max(float(whole.abs().max()), 0.1)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "reflect"])
def test_frames_leave_when_latency_says(name):
    layer = LAYERS[name]()
    state, given_ = None, 0
    for seen, sample in enumerate(torch.randn(1500).split(1), start=1):
        frames, state = layer.stream(sample, state)
        given_ += frames.shape[-1]
        assert given_ == max(0, (seen - layer.latency) // layer.hop_length + 1)


@pytest.mark.parametrize("make", [CQT, VQT])
@pytest.mark.parametrize("latency", ["aligned", "per_octave"])
def test_real_speech(signal, make, latency):
    wave, rate = signal
    wave = torch.tensor(wave, dtype=torch.float32)
    layer = make(rate, n_bins=72, hop_length=256, latency=latency)
    whole = layer(wave)
    peak = make(rate, n_bins=72, hop_length=256)(wave).abs().max()  # a click at the end has left before late octaves
    assert (streamed(layer, wave.split(320)) - whole).abs().max() <= TOLERANCE * peak


def test_per_octave_is_the_aligned_transform_with_late_octaves():
    wave = torch.randn(2, 20000, dtype=torch.float64)
    late, aligned = CQT(16000, latency="per_octave"), CQT(16000)
    assert late.latency == late.latencies.min() < 150 < aligned.latency == aligned.latencies.max()
    assert torch.equal(aligned.latencies, late.latencies) and not aligned.delays.any()
    ours, theirs = late(wave), aligned(wave)
    for k, delay in enumerate(late.delays.tolist()):
        assert delay * 512 < late.latencies[k] - late.latency + 512
        kept = theirs.shape[-1] - delay
        torch.testing.assert_close(ours[:, k, delay:], theirs[:, k, :kept], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LAYERS)
def test_the_state_stays_small_and_holds_no_chunk_alive(name):
    layer = LAYERS[name]()
    sizes = []
    for samples in (5_000, 50_000):
        _, state = layer.stream(torch.randn(samples))
        tensors = [state.edge, *(t for octave in state.octaves for t in (octave.samples, octave.signal))]
        sizes.append(sum(t.untyped_storage().nbytes() for t in tensors))
    most = 4 * 5 * (layer._reach + 200) * len(layer._octaves)
    assert max(sizes) <= most and abs(sizes[0] - sizes[1]) <= 4 * 400


def test_the_callers_state_is_left_as_it_was():
    layer = LAYERS["hop 12"]()
    _, state = layer.stream(torch.randn(900))
    kept = [octave.signal.clone() for octave in state.octaves]
    chunk = torch.randn(500)
    assert torch.equal(layer.stream(chunk, state)[0], layer.stream(chunk, state)[0])
    layer.flush(state)
    assert all(torch.equal(a, b.signal) for a, b in zip(kept, state.octaves, strict=True))


def test_gradients_flow_through_a_stream():
    layer = LAYERS["hop 12"]().double()
    wave = torch.randn(900, dtype=torch.float64, requires_grad=True)
    (along,) = torch.autograd.grad(streamed(layer, wave.split(70)).abs().sum(), wave)
    (whole,) = torch.autograd.grad(layer(wave).abs().sum(), wave)
    torch.testing.assert_close(along, whole, rtol=1e-5, atol=1e-6)


def test_what_cannot_stream_says_so():
    layer = CQT(16000, mode="librosa", pad_mode="reflect")
    assert "pad_mode='constant'" in layer.stream_obstacle
    with pytest.raises(ValueError, match=r"CQT: mode='librosa' reflects .*use pad_mode='constant', or mode='exact'"):
        layer.stream(torch.zeros(100))
    with pytest.raises(ValueError, match="VQT: flush needs the state"):
        VQT(16000).flush(None)
    _, state = CQT(16000).stream(torch.zeros(2, 10))
    with pytest.raises(ValueError, match=r"CQT: a chunk .* does not continue a stream"):
        CQT(16000).stream(torch.zeros(3, 10), state)


def test_the_stream_compiles():
    torch.compiler.reset()
    layer = LAYERS["hop 12"]()
    compiled = torch.compile(layer.stream, fullgraph=True, backend="aot_eager")
    state, other = None, None
    for chunk in torch.randn(3, 2, 600):
        frames, state = compiled(chunk, state)
        expected, other = layer.stream(chunk, other)
        torch.testing.assert_close(frames, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(expected.abs().numpy()).all()


def test_long_filters_by_convolution():
    layer = CQT(22050, engine="conv")
    wave = torch.rand(24000, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = layer(wave)
    assert (streamed(layer, wave.split(5000)) - whole).abs().max() <= TOLERANCE * whole.max()
