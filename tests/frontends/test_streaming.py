"""A stream gives the frames of the whole: any chunks, any front end that streams."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import (
    CQT,
    LEAF,
    MFCC,
    PCEN,
    STFT,
    VQT,
    AmplitudeToDB,
    Chain,
    Chroma,
    CombinedFrequencyPeriodicity,
    Deltas,
    FoldOctaves,
    Gammatonegram,
    InverseMel,
    InverseSTFT,
    Log,
    MelSpectrogram,
    Normalize,
    Resample,
    RunningNormalize,
    SincConv,
    SpecAugment,
)

# Relative to the peak. The FFT of a window does not depend on the others; the product with the filter bank rounds by
# the number of frames at hand (measured 3e-7 and 6e-16).
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
# A convolution rounds by the number of frames, and logarithms of small differences show it: these take the FFT.
SMALL = {"n_fft": 16, "hop_length": 5, "engine": "fft"}
CONV = {"n_fft": 16, "hop_length": 5, "engine": "conv"}


def log_mel(**options):
    mel = MelSpectrogram(1000, n_fft=32, hop_length=10, n_mels=6, **options)
    return Chain(mel, Log(1e-3), Normalize(torch.arange(6.0), torch.arange(1.0, 7.0)))


class Rise(torch.nn.Module):
    """A stage of somebody else's with a look-ahead: the next frame minus this one, 0 at the end."""

    hop_length, latency, pad_mode = 1, 1, None

    def forward(self, frames):
        return torch.cat((frames, frames[..., -1:]), -1).diff(dim=-1)

    def frames(self, samples):
        return samples

    def stream(self, chunk, state=None):
        frames = chunk if state is None else torch.cat((state[0], chunk), -1)
        return frames.diff(dim=-1), (frames[..., -1:].clone(),)

    def flush(self, state):
        return torch.zeros_like(state[0]), None


FRONT_ENDS = {
    "magnitude": lambda: STFT(**SMALL),
    "complex": lambda: STFT(**SMALL, output="complex"),
    "odd n_fft": lambda: STFT(15, hop_length=4, win_length=9, output="power"),
    "gaps between windows": lambda: STFT(8, hop_length=21),
    "one sample": lambda: STFT(1, hop_length=1),
    "reflect": lambda: STFT(**SMALL, pad_mode="reflect"),
    "reflect, odd n_fft": lambda: STFT(15, hop_length=11, pad_mode="reflect"),
    "reflect, gaps": lambda: STFT(8, hop_length=21, pad_mode="reflect"),
    "not centred": lambda: STFT(**SMALL, center=False),
    "log mel": log_mel,
    "log mel, reflect": lambda: log_mel(pad_mode="reflect"),
    "decibels": lambda: Chain(STFT(**SMALL, output="power"), AmplitudeToDB(amin=1e-3)),
    "look-ahead of frames": lambda: Chain(STFT(**SMALL), Rise(), Log(20.0), Rise()),
    "mfcc": lambda: MFCC(1000, 4, n_fft=32, hop_length=10, n_mels=6, top_db=None, lifter=3.0),
    "deltas": lambda: Chain(STFT(**SMALL), Deltas(width=5)),
    "deltas, nearest": lambda: Chain(STFT(**SMALL), Log(0.1), Deltas(order=3, width=7, mode="nearest")),
    "deltas of deltas": lambda: Chain(STFT(**SMALL), Deltas(1, width=3), Deltas(1, width=3, mode="nearest")),
    "pcen": lambda: Chain(STFT(**SMALL, output="power"), PCEN(1000, 5, time_constant=0.1)),
    "pcen from the first frame": lambda: Chain(STFT(**SMALL, output="power"), PCEN(1000, 5, initial="first")),
    "chain in a chain": lambda: Chain(log_mel(), Chain(Log(20.0), Log(10.0))),
    "convolution": lambda: STFT(**CONV, output="complex"),
    "convolution, reflect": lambda: STFT(**CONV, pad_mode="reflect"),
    "mel bins": lambda: STFT(16, hop_length=5, sample_rate=1000, freq_scale="mel", n_bins=7, output="power"),
    "trained": lambda: MelSpectrogram(
        1000, n_fft=32, hop_length=10, n_mels=6, trainable=("window", "basis", "filter_bank")
    ),
    "gammatone": lambda: Gammatonegram(1000, n_fft=32, hop_length=10, n_bins=6, fmax=400.0),
    "cqt": lambda: CQT(1000, hop_length=5, fmin=100.0, n_bins=4, bins_per_octave=2),
    "vqt, per octave": lambda: VQT(1000, hop_length=5, fmin=100.0, n_bins=4, bins_per_octave=2, latency="per_octave"),
    "leaf": lambda: LEAF(1000, n_filters=3, kernel_size=9, hop_length=5, fmin=50.0, pcen=False),
    "sinc": lambda: SincConv(1000, 3, 9, hop_length=5),
    "resample": lambda: Resample(4, 5, quality="fast"),
    "resample to mel": lambda: Chain(Resample(2, 3, quality="fast"), log_mel()),
    "chroma": lambda: Chroma(1000, 16, hop_length=5),
    "fold octaves": lambda: Chain(STFT(22, hop_length=5), FoldOctaves(12)),
    "cfp": lambda: CombinedFrequencyPeriodicity(
        1000, resolution=20.0, win_length=31, hop_length=9, fmin=60.0, fmax=300.0, bins_per_octave=6
    ),
    "there and back": lambda: Chain(STFT(16, hop_length=5, output="complex"), InverseSTFT(16, hop_length=5)),
    "there and back, short window": lambda: Chain(
        STFT(15, win_length=9, hop_length=4, output="complex"), InverseSTFT(15, win_length=9, hop_length=4)
    ),
    "there and back, long hop": lambda: Chain(
        STFT(16, hop_length=11, window="hamming", output="complex"), InverseSTFT(16, hop_length=11, window="hamming")
    ),
    "inverse mel": lambda: Chain(
        MelSpectrogram(1000, n_fft=32, hop_length=10, n_mels=6), InverseMel(1000, 32, n_mels=6, n_iter=5)
    ),
    "running normalize": lambda: Chain(STFT(**SMALL), RunningNormalize(7.0)),
    "running normalize, prior": lambda: Chain(STFT(**SMALL), RunningNormalize(7.0, mean=1.0, std=2.0)),
    "spec augment": lambda: Chain(STFT(**SMALL), SpecAugment()).eval(),
}


def streamed(front_end, chunks):
    state, parts = None, []
    for chunk in chunks:
        frames, state = front_end.stream(chunk, state)
        parts.append(frames)
    frames, state = front_end.flush(state)
    assert state is None
    return torch.cat([*parts, frames], -1)


def assert_equal_to_peak(ours, theirs, tolerance):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    if theirs.numel():
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 7, 16, 40]) | st.integers(0, 90), min_size=1, max_size=9),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_any_chunks_give_the_whole(name, cuts, leading, dtype, seed):
    front_end = FRONT_ENDS[name]().to(dtype)
    samples = sum(cuts)
    wave = torch.randn(*leading, samples, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    try:
        whole = front_end(wave)
    except ValueError as refused:  # shorter than a window, or than its reflection: the stream must say the same
        with pytest.raises(ValueError) as caught:
            streamed(front_end, wave.split(cuts, -1))
        assert str(caught.value) == str(refused)
        return
    assert whole.shape[-1] == front_end.frames(samples)
    # Powers of 0.24 of spectra that are nearly 0 enlarge what their sums err.
    looser = 10 if name == "cfp" else 1
    assert_equal_to_peak(streamed(front_end, wave.split(cuts, -1)), whole, looser * TOLERANCE[dtype])


# Samples before anything leaves, where that is more than the latency: n_fft // 2 + 1 to reflect the beginning, and the
# fifth frame for deltas of five.
FIRST = {
    "reflect": 9,
    "convolution, reflect": 9,
    "reflect, odd n_fft": 8,
    "reflect, gaps": 5,
    "log mel, reflect": 17,
    "deltas": 4 * 5 + 8,
}


# Samples that leave at once, because a frame completes them: they leave when latency says, or up to so many earlier.
BURSTS = {"there and back": 5, "there and back, short window": 4, "there and back, long hop": 11}


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_frames_leave_when_latency_says(name):
    front_end = FRONT_ENDS[name]()
    state, given, seen = None, 0, 0
    first = FIRST.get(name, 0)
    for sample in torch.randn(200).split(1):
        frames, state = front_end.stream(sample, state)
        seen, given = seen + 1, given + frames.shape[-1]
        due = max(0, (seen - front_end.latency) // front_end.hop_length + 1)
        early = given - (due if seen >= first else 0)
        assert 0 <= early < BURSTS.get(name, 1)


def test_a_stream_of_real_speech(signal):
    wave, rate = signal
    wave = torch.tensor(wave, dtype=torch.float32)
    front_end = Chain(MelSpectrogram(rate, n_fft=512, hop_length=160, n_mels=40), Log(), Normalize(-5.0, 2.0))
    for size in (160, 320):  # one frame and two frames at a time
        assert_equal_to_peak(streamed(front_end, wave.split(size)), front_end(wave), 1e-6)


def test_the_callers_state_and_chunks_are_left_as_they_were():
    stft = STFT(**SMALL)
    chunk = torch.randn(2, 50)
    _, state = stft.stream(chunk)
    kept, again = state.samples.clone(), chunk.clone()
    first, after = stft.stream(chunk, state)
    second, other = stft.stream(chunk, state)
    assert torch.equal(first, second) and torch.equal(after.samples, other.samples)
    assert torch.equal(state.samples, kept) and torch.equal(chunk, again)
    stft.flush(state)
    assert torch.equal(state.samples, kept)


def test_two_streams_in_turn_do_not_mix():
    front_end = log_mel()
    waves = torch.randn(2, 300)
    states, parts = [None, None], [[], []]
    for chunk in range(0, 300, 30):
        for i in range(2):
            frames, states[i] = front_end.stream(waves[i, chunk : chunk + 30], states[i])
            parts[i].append(frames)
    for i in range(2):
        out = torch.cat([*parts[i], front_end.flush(states[i])[0]], -1)
        assert_equal_to_peak(out, front_end(waves[i]), 1e-6)


def tensors_of(state):
    if isinstance(state, torch.Tensor):
        return [state]
    return [tensor for part in state for tensor in tensors_of(part)] if isinstance(state, tuple) else []


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_state_stays_small_and_holds_no_chunk_alive(name):
    front_end = FRONT_ENDS[name]()
    _, state = front_end.stream(torch.randn(20_000))
    assert tensors_of(state)
    for tensor in tensors_of(state):
        assert tensor.untyped_storage().nbytes() <= 4 * 100


def test_gradients_flow_through_a_stream():
    stft = STFT(**SMALL)
    wave = torch.randn(60, requires_grad=True)
    streamed(stft, wave.split(7)).sum().backward()
    along = wave.grad.clone()
    wave.grad = None
    stft(wave).sum().backward()
    torch.testing.assert_close(along, wave.grad)


@pytest.mark.parametrize(
    "front_end, message",
    [
        (AmplitudeToDB(top_db=80), r"AmplitudeToDB: top_db=80 .*use top_db=None"),
        (Chain(STFT(16), AmplitudeToDB(top_db=80)), r"Chain: stage 1 \(AmplitudeToDB\): top_db=80 .*use top_db=None"),
        (MFCC(1000, 4, n_fft=64, n_mels=6), r"MFCC: top_db=80 .*use top_db=None"),
        (Chain(STFT(16), torch.nn.Dropout(), Log()), r"Chain: stage 1 \(Dropout\) has no \.stream"),
        (
            Chain(Chain(STFT(16), AmplitudeToDB(top_db=1))),
            r"stage 0 \(Chain\): stage 1 \(AmplitudeToDB\): .*top_db=None",
        ),
    ],
)
def test_what_cannot_stream_names_the_variant_that_can(front_end, message):
    chunk = torch.zeros(9, 9)
    with pytest.raises(ValueError, match=message):
        front_end.stream(chunk)
    with pytest.raises(ValueError, match=message):
        front_end.flush(None)


@pytest.mark.parametrize("front_end", [STFT(16), Log(), Chain(STFT(16))])
def test_flush_before_stream(front_end):
    with pytest.raises(ValueError, match=f"{type(front_end).__name__}: flush needs the state that stream returned"):
        front_end.flush(None)


@pytest.mark.parametrize("chunk", [torch.zeros(3, 8), torch.zeros(8), torch.zeros(2, 8, dtype=torch.float64)])
def test_a_chunk_of_another_stream(chunk):
    _, state = STFT(16).stream(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="does not continue a stream"):
        STFT(16).stream(chunk, state)
