"""A few frames of a stream in one compiled call: the numbers and the state of the ordinary way, or no such call."""

import copy
import pickle
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import STFT, Chain, Log, MelSpectrogram, _spectral, _step
from temporal.kernels import use

LAYERS = {
    "log mel": lambda: Chain(MelSpectrogram(8000, 256, hop_length=80, n_mels=20), Log(1e-6)),
    "mel of magnitudes": lambda: MelSpectrogram(8000, 256, hop_length=80, n_mels=20, power=1.0, center=False),
    "log mel, 200 samples": lambda: Chain(MelSpectrogram(8000, 200, hop_length=80, n_mels=20), Log(1e-6)),
    "power": lambda: STFT(128, win_length=100, hop_length=60, output="power"),
    "log magnitude": lambda: Chain(STFT(96, hop_length=31), Log(1e-3)),
    "gaps between windows": lambda: STFT(128, hop_length=300),
}


@pytest.fixture
def steps(monkeypatch):
    """How many calls of `stream` were steps, and how many were not."""
    counts = {True: 0, False: 0}

    def counted(*given, **absorbed):
        done = _step.step(*given, **absorbed)
        counts[done is not None] += 1
        return done

    monkeypatch.setattr(_spectral, "step", counted)
    return counts


def ordinary(monkeypatch):
    monkeypatch.setattr(_spectral, "step", lambda *given, **absorbed: None)


def parts_of(state):
    """The framing's part of a chain's state, or of a layer's."""
    return state if hasattr(state, "samples") else state[0]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    cuts=st.lists(st.sampled_from([0, 1, 7, 80, 80, 80, 160, 400]) | st.integers(0, 3000), min_size=1, max_size=12),
    leading=st.sampled_from([(), (1,), (1, 1)]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("name", LAYERS)
def test_any_chunks_give_the_numbers_and_states_of_the_ordinary_way(name, cuts, leading, seed):
    layer, generator = LAYERS[name](), torch.Generator().manual_seed(seed)
    wave = torch.randn(*leading, sum(cuts), generator=generator)
    state = other = None
    for chunk in wave.split(cuts, -1):
        frames, state = layer.stream(chunk, state)
        with pytest.MonkeyPatch.context() as patch:
            ordinary(patch)
            expected, other = layer.stream(chunk, other)
        assert frames.shape == expected.shape and torch.equal(frames, expected)
        ours, theirs = parts_of(state), parts_of(other)
        assert torch.equal(ours.samples, theirs.samples) and ours[1:] == theirs[1:]


@pytest.mark.parametrize("name", LAYERS)
def test_a_stream_goes_on_either_way(name, steps, monkeypatch):
    """With the reference in between, with many frames at once, and back."""
    layer, wave = LAYERS[name](), torch.randn(9000)
    state, parts = None, []
    for number, chunk in enumerate(wave.split([400] * 6 + [6000] + [100] * 6)):
        with use("reference" if number in (2, 3) else "auto"):
            frames, state = layer.stream(chunk, state)
        parts.append(frames)
    parts.append(layer.flush(state)[0])
    assert steps[True] >= 8 and steps[False] >= 2
    ours, whole = torch.cat(parts, -1), layer(wave)
    assert ours.shape == whole.shape
    if "log" in name:  # the logarithm of a frame that all but vanishes enlarges what another FFT rounds
        ours, whole = ours.exp(), whole.exp()
    assert (ours - whole).abs().max() <= 1e-6 * whole.abs().max()


def test_a_tone_keeps_its_quiet_bins_to_the_bit(steps):
    """Where a bin holds little but roundings, its logarithm shows every one of them."""
    layer = Chain(MelSpectrogram(16000, 512, hop_length=160, n_mels=40, center=False), Log(1e-9))
    wave = torch.sin(torch.arange(8000) * 0.3)
    state, parts = None, []
    for chunk in wave.split(160):
        frames, state = layer.stream(chunk, state)
        parts.append(frames)
    assert steps == {True: 49, False: 0}  # the first chunk has no state and does not ask
    assert torch.equal(torch.cat(parts, -1), layer(wave))


def streams_by_steps(layer, counts, chunk=None, state=None):
    chunk = torch.randn(400) if chunk is None else chunk
    state = layer.stream(chunk)[1] if state is None else state
    before = counts[True]
    layer.stream(chunk, state)
    return counts[True] > before


def test_what_takes_the_ordinary_way(steps):
    mel = MelSpectrogram(8000, 256, hop_length=80, n_mels=20)
    assert streams_by_steps(mel, steps)
    assert streams_by_steps(mel, steps, torch.randn(1, 400))
    with torch.no_grad():
        assert streams_by_steps(mel, steps)
    with torch.inference_mode():
        assert streams_by_steps(mel, steps)
    with torch.autocast("cpu"):
        assert streams_by_steps(mel, steps)  # float32 all the same
    for chunk in (
        torch.randn(2, 400),
        torch.randn(0, 400),
        torch.randn(400, dtype=torch.float64),
        torch.randn(400, dtype=torch.bfloat16),
        torch.randn(400, requires_grad=True),
        torch.randn(800)[::2],
        torch.randn(3000),  # more frames than a step gives
    ):
        assert not streams_by_steps(mel, steps, chunk)
    for other in (
        MelSpectrogram(8000, 256, hop_length=80, n_mels=20, pad_mode="reflect"),
        MelSpectrogram(8000, 256, hop_length=80, n_mels=20, power=1.5),
        MelSpectrogram(8000, 256, hop_length=80, n_mels=20, trainable=("filter_bank",)),
        MelSpectrogram(8000, 255, hop_length=80, n_mels=20),
        MelSpectrogram(8000, 256, hop_length=80, n_mels=20, engine="conv"),
        STFT(256, hop_length=80, output="complex"),
        STFT(256, hop_length=80, output="phase"),
    ):
        assert not streams_by_steps(other, steps)
    with use("reference"):
        assert not streams_by_steps(mel, steps)
    assert streams_by_steps(mel.double(), steps, torch.randn(400, dtype=torch.float64)) is False
    assert streams_by_steps(mel.float(), steps)


def test_gradients_flow_as_before(steps):
    mel, wave = MelSpectrogram(8000, 256, hop_length=80, n_mels=20), torch.randn(800, requires_grad=True)
    head, state = mel.stream(wave[:400])
    tail, _ = mel.stream(wave[400:], state)
    (head.sum() + tail.sum()).backward()
    given = wave.grad.clone()
    wave.grad = None
    mel(wave)[:, : head.shape[-1] + tail.shape[-1]].sum().backward()
    torch.testing.assert_close(given, wave.grad)
    assert not steps[True]


def test_constants_that_change(steps):
    """In place, for other tensors, for others elsewhere, in a copy: a step has the layer's own numbers."""
    mel, chunk = MelSpectrogram(8000, 256, hop_length=80, n_mels=20, center=False), torch.randn(400)
    _, state = mel.stream(chunk)

    def same(layer):
        frames, _ = layer.stream(chunk, state)
        return torch.equal(frames, layer(torch.cat((state.samples, chunk))))

    assert same(mel)
    mel.window.mul_(2)
    assert same(mel)
    mel.filter_bank.copy_(torch.rand(20, 129))
    mel.spans.copy_(torch.tensor([0, 129], dtype=torch.int32).expand(20, 2))
    assert same(mel)
    mel.filter_bank = torch.rand(20, 129)
    assert same(mel)
    mel.window.data = torch.rand(256)
    assert same(mel)
    mel.power = 1.0
    assert same(mel)
    for other in (copy.deepcopy(mel), pickle.loads(pickle.dumps(mel))):
        other.window.mul_(3)
        assert same(other) and same(mel)
    assert steps[True] == 10 and not steps[False]


def test_steps_are_forgotten_with_their_layer():
    before = len(_step._made)
    mel = MelSpectrogram(8000, 256, hop_length=80, n_mels=20)
    mel.stream(torch.randn(400), mel.stream(torch.randn(400))[1])
    assert len(_step._made) == before + 1
    del mel
    assert len(_step._made) == before


def test_the_callers_tensors_are_left_alone_and_what_is_kept_is_small(steps):
    mel, chunk = MelSpectrogram(8000, 256, hop_length=80, n_mels=20), torch.randn(700)
    _, state = mel.stream(chunk)
    kept, again = state.samples.clone(), chunk.clone()
    first, after = mel.stream(chunk, state)
    second, other = mel.stream(chunk, state)
    assert steps[True] == 2
    assert torch.equal(first, second) and torch.equal(after.samples, other.samples)
    assert torch.equal(state.samples, kept) and torch.equal(chunk, again)
    assert after.samples.untyped_storage().nbytes() == 4 * after.samples.numel() <= 4 * 256
    chunk.zero_()
    assert torch.equal(after.samples, other.samples) and after.samples.any()


def test_streams_of_many_threads_at_once():
    mel, waves = MelSpectrogram(8000, 256, hop_length=80, n_mels=20), torch.randn(4, 16000)
    found = [None] * 4

    def run(number):
        state, parts = None, []
        for chunk in waves[number].split(80):
            frames, state = mel.stream(chunk, state)
            parts.append(frames)
        found[number] = torch.cat([*parts, mel.flush(state)[0]], -1)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number in range(4):
        torch.testing.assert_close(found[number], mel(waves[number]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "chunk", [torch.zeros(1, 400), torch.zeros(()), [0.0] * 400, torch.zeros(400, dtype=torch.int16)]
)
def test_a_chunk_that_does_not_go_on(chunk):
    """The errors are those of the ordinary way."""
    mel = MelSpectrogram(8000, 256, hop_length=80, n_mels=20)
    _, state = mel.stream(torch.randn(400))
    with pytest.raises((TypeError, ValueError), match="MelSpectrogram: "):
        mel.stream(chunk, state)
