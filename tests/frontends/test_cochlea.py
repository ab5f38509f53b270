"""The cochlea against the converter that made SHD and SSC, and against itself: streams, batches, lengths, bad input."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import Chain, Cochlea, Log
from temporal.kernels import use
from temporal.kernels.cochlea import blocks
from temporal.kernels.cochlea.transfer import LENGTH, velocity_response

FILES = ["3_jackson_7_16000_lauscher", "8_nicolas_21_16000_lauscher", "6_lucas_4_48000_article"]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPORAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=FILES)
def converted(request, lauscher):
    """What the converter gave for a recording, and the arguments that it was given."""
    given = dict(np.load(lauscher / f"{request.param}.npz"))
    return given, {"sample_rate": int(given["sample_rate"]), "preset": request.param.split("_")[-1]}


@pytest.fixture(scope="session")
def lauscher(fsdd):
    folder = fsdd.parent.parent / "lauscher_reference"
    if not folder.is_dir():
        pytest.skip(f"the converter's output is missing: {folder}")
    return folder


def voice(samples, *leading, seed=0):
    """Something like speech: noise of a falling spectrum above 60 Hz (at 16 kHz), in bursts."""
    if samples < 2 or 0 in leading:  # MKL has no FFT of nothing
        return torch.zeros(*leading, samples)
    spectrum = torch.fft.rfft(torch.randn(*leading, samples, generator=torch.Generator().manual_seed(seed)))
    frequency = torch.linspace(0, 8000, spectrum.shape[-1])
    noise = torch.fft.irfft(spectrum * (frequency > 60) / (1 + frequency / 300), n=samples)
    return noise * (1 + torch.sin(torch.arange(samples) / 500.0))


def assert_close_to_peak(ours, theirs, tolerance):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


class TestConverter:
    """1e-5 of the peak is the promise; measured: 4e-7 for the membrane, 2e-6 for the probability."""

    @pytest.mark.parametrize(
        "output, truth", [("membrane", "membrane_velocity"), ("probability", "firing_probability")]
    )
    def test_membrane_and_probability(self, converted, output, truth):
        given, arguments = converted
        ours = Cochlea(**arguments, output=output)(torch.from_numpy(given["audio"]))
        assert ours.shape == (700, given[truth].shape[1])
        assert_close_to_peak(ours[given["channels"]], torch.from_numpy(given[truth]), 1e-5)
        if output == "probability":  # of all channels
            assert_close_to_peak(ours.double().mean(1), torch.from_numpy(given["probability_mean"]).double(), 1e-5)
        else:
            assert_close_to_peak(ours.square().mean(1).sqrt(), torch.from_numpy(given["membrane_rms"]), 1e-5)

    def test_spikes(self, converted):
        """One draw of theirs against ten of ours, whose mean is good to 0.2 %: theirs alone scatters by 1 %."""
        given, arguments = converted
        cochlea, wave = Cochlea(**arguments), torch.from_numpy(given["audio"])
        draws = []
        for seed in range(10):
            cochlea.seed = seed
            draws.append(cochlea(wave).sum(1))
        mean = torch.stack(draws).mean(0).double()
        theirs = torch.from_numpy(np.bincount(given["spike_units"], minlength=700)).double()
        assert theirs.sum().item() == pytest.approx(mean.sum().item(), rel=0.03)
        groups, expected = theirs.reshape(-1, 25).sum(1), mean.reshape(-1, 25).sum(1)
        there = expected > 5
        chi = ((groups - expected) ** 2 / (1.1 * expected))[there].sum()  # our mean of ten scatters too
        assert chi < 27.9 / 14 * there.sum() + 10  # p < 0.001 at 28 groups is 56.9

    def test_intervals(self, converted):
        given, arguments = converted
        times, units = Cochlea(**arguments).events(torch.from_numpy(given["audio"]))
        assert times.dtype == torch.float64 and bool((times.diff() >= 0).all())
        order = np.lexsort((times.numpy(), units.numpy()))
        gaps = np.diff(times.numpy()[order])[np.diff(units.numpy()[order]) == 0]
        assert gaps.min() > 1e-3
        theirs = np.lexsort((given["spike_times"], given["spike_units"]))
        their_gaps = np.diff(given["spike_times"][theirs])[np.diff(given["spike_units"][theirs].astype(int)) == 0]
        for quantile in (0.25, 0.5, 0.75):  # a few thousand intervals each: 3 %
            assert np.quantile(gaps, quantile) == pytest.approx(np.quantile(their_gaps, quantile), rel=0.08)

    def test_any_length_and_sound(self):
        """The formula itself, with Hankel functions at this length's frequencies, on noise up to the Nyquist frequency."""
        for samples in (801, 3000):
            wave = torch.randn(samples, generator=torch.Generator().manual_seed(1))
            bins = samples // 2 + 1
            frequencies, places = np.linspace(1, 8000, bins), np.linspace(0, LENGTH, 30)
            response = velocity_response(2 * np.pi * frequencies[None], places[:, None])
            exact = np.fft.ifft(response * np.fft.fft(wave.double().numpy())[:bins]).real
            gain = 0.3 / wave.double().square().mean().sqrt().item()
            ours = Cochlea(16000, channels=30, output="membrane", ramp=0.0)(wave)
            assert_close_to_peak(ours.double(), torch.from_numpy(exact * gain), 3e-6)


class TestOverlapSave:
    def test_equals_the_endless_response(self):
        """Against one long FFT: what is cut off the responses and nothing else, 3e-4 where the sound is below 5 kHz."""
        wave = voice(9001)
        ours = Cochlea(16000, channels=36, output="membrane", circular=False, gain=2.0, ramp=0.0)(wave)
        length = 1 << 16
        places = np.linspace(0, LENGTH, 36)
        response = velocity_response(2 * np.pi * np.linspace(1, 8000, length // 2 + 1)[None], places[:, None])
        exact = np.fft.irfft(response * np.fft.rfft(wave.double().numpy(), n=length), n=length)[:, :9002:2] * 2
        assert_close_to_peak(ours.double(), torch.from_numpy(exact), 1e-3)

    def test_spikes_as_often_as_the_circle(self, converted):
        given, arguments = converted
        wave = torch.from_numpy(given["audio"])
        circle, line = (len(Cochlea(**arguments, circular=way).events(wave)[0]) for way in (True, False))
        assert line == pytest.approx(circle, rel=0.05)

    def test_long_recordings_are_lines(self):
        cochlea = Cochlea(11025, channels=3, output="membrane")
        wave = voice((1 << 18) + 1)
        line = Cochlea(11025, channels=3, output="membrane", circular=False)
        circle = Cochlea(11025, channels=3, output="membrane", circular=True)
        assert torch.equal(cochlea(wave), line(wave))
        assert torch.equal(cochlea(wave[:-1]), circle(wave[:-1]))


_PEAK = """
import resource, sys, torch
from temporal.frontends import Cochlea
cochlea = Cochlea(16000, membrane=sys.argv[1])
for seconds in (17, 17 * 8):
    wave = torch.sin(torch.arange(16000 * seconds) / 7.0)
    count = len(cochlea.events(wave)[0])
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("membrane", ["travelling_wave", "gammatone"])
def test_memory_does_not_grow_with_the_recording(membrane):
    """Beyond the recording itself, a few copies of it, and its events."""
    done = subprocess.run([sys.executable, "-c", _PEAK, membrane], capture_output=True, text=True, check=True)
    (few, short), (many, long) = (map(int, line.split()) for line in done.stdout.splitlines())
    own = 17 * 7 * 16000 * 4 * 6 + (many - few) * 10 * 6  # bytes: float64 squares for the level among the copies
    assert (long - short) * 1024 < own + (20 << 20)


STREAMS = {
    "travelling wave": {},
    "travelling wave, ramps": {"ramp": 0.03},
    "gammatone": {"membrane": "gammatone"},
    "gammatone, ramps": {"membrane": "gammatone", "ramp": 0.002},
    "article": {"sample_rate": 36000, "preset": "article"},
}


def streaming(name, **options):
    arguments = {"sample_rate": 16000, "channels": 20, "circular": False, "gain": 3.0, "ramp": 0.0} | STREAMS[name]
    return Cochlea(**arguments | options)


def streamed(cochlea, chunks):
    state, parts = None, []
    for chunk in chunks:
        frames, state = cochlea.stream(chunk, state)
        parts.append(frames)
    frames, state = cochlea.flush(state)
    assert state is None
    return torch.cat([*parts, frames], -1)


class TestStream:
    @settings(derandomize=True, deadline=None, max_examples=8)
    @given(
        cuts=st.lists(st.sampled_from([0, 1, 2, 63, 64, 65, 500]) | st.integers(0, 6000), min_size=1, max_size=7),
        leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
        output=st.sampled_from(["spikes", "probability", "membrane"]),
    )
    @pytest.mark.parametrize("name", STREAMS)
    def test_any_chunks_give_the_whole_bit_for_bit(self, name, cuts, leading, output):
        cochlea = streaming(name, output=output)
        wave = voice(sum(cuts), *leading)
        try:
            whole = cochlea(wave)
        except ValueError as refused:
            with pytest.raises(ValueError) as caught:
                streamed(cochlea, wave.split(cuts, -1))
            assert str(caught.value) == str(refused)
            return
        assert whole.shape == (*leading, 20, cochlea.frames(sum(cuts)))
        assert torch.equal(streamed(cochlea, wave.split(cuts, -1)), whole)

    @pytest.mark.parametrize("name", STREAMS)
    def test_frames_leave_when_latency_says(self, name):
        """Frame t when 2 t + latency samples have been read at the latest, and the first of a block exactly then."""
        cochlea = streaming(name, output="membrane")
        state, there, wave = None, 0, voice(3 * cochlea.latency)
        step = 32 if cochlea.membrane == "travelling_wave" else 1
        for read in range(step, min(len(wave), 2 * cochlea.latency + 200), step):
            frames, state = cochlea.stream(wave[read - step : read], state)
            if frames.shape[-1] and cochlea.membrane == "travelling_wave":
                assert frames.shape[-1] == blocks(cochlea.sample_rate).steps
                assert read - step < 2 * there + cochlea.latency <= read
            there += frames.shape[-1]
            due = max(0, (read - cochlea.latency) // 2 + 1)
            assert there == due if cochlea.membrane == "gammatone" else there >= due

    def test_what_a_state_holds(self):
        cochlea = streaming("travelling wave")
        _, state = cochlea.stream(voice(50_000))
        assert state.samples.untyped_storage().nbytes() < 4 * (cochlea.latency + 4000)
        kept = copy.deepcopy(state)
        first, second = cochlea.stream(voice(5000), state)[0], cochlea.stream(voice(5000), state)[0]
        assert torch.equal(first, second)
        assert torch.equal(kept.samples, state.samples) and torch.equal(kept.cells, state.cells)

    def test_in_a_chain(self):
        chain = Chain(streaming("gammatone", output="probability"), Log())
        wave = voice(1000)
        assert torch.equal(streamed(chain, wave.split(170)), chain(wave))
        assert chain.sample_rate == 16000 and chain.hop_length == 2

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"circular": None}, "circular=None wraps .* use circular=False"),
            ({"circular": True}, "circular=True wraps .* use circular=False"),
            ({"gain": None}, "gain=None needs the level of the whole recording; give a number"),
            ({"ramp": None}, "ramp=None fades over half .* ramp=0 for none"),
        ],
    )
    def test_what_cannot_stream_says_why(self, options, message):
        cochlea = streaming("travelling wave", **options)
        for call in (lambda: cochlea.stream(voice(100)), lambda: cochlea.flush(None)):
            with pytest.raises(ValueError, match=f"Cochlea: {message}"):
                call()

    def test_flush_before_stream_and_another_streams_chunk(self):
        cochlea = streaming("gammatone")
        with pytest.raises(ValueError, match="Cochlea: flush needs the state"):
            cochlea.flush(None)
        _, state = cochlea.stream(voice(100, 2))
        with pytest.raises(ValueError, match=r"Cochlea: a chunk .* does not continue a stream"):
            cochlea.stream(voice(100, 3), state)


KINDS = [{}, {"circular": False}, {"membrane": "gammatone"}]


@pytest.mark.parametrize("options", KINDS)
class TestNoise:
    def test_seeds(self, options):
        wave = voice(8000)
        one, same, other = (Cochlea(16000, channels=100, seed=seed, **options)(wave) for seed in (1, 1, 2))
        assert torch.equal(one, same) and one.sum() > 200
        assert not torch.equal(one, other) and one.sum().item() == pytest.approx(other.sum().item(), rel=0.15)

    def test_batches_and_threads(self, options):
        wave = voice(5000, 3)
        cochlea = Cochlea(16000, channels=100, **options)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = torch.stack([cochlea(recording) for recording in wave])
            torch.set_num_threads(3)
            assert torch.equal(cochlea(wave), alone)
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(cochlea(wave[:, None])[:, 0], alone)

    def test_recordings_that_differ_have_noise_of_their_own(self, options):
        """Two silent recordings but for one sample, inaudibly small, have independent spontaneous spikes after it."""
        wave = torch.zeros(2, 16000)
        wave[:, 0] = torch.tensor([1e-12, 2e-12])
        arguments = {"channels": 100, "gain": 1e-3, "ramp": 0.0} | options
        first, second = Cochlea(16000, **arguments)(wave)
        assert first.sum() > 200 and second.sum() > 200
        both = (first * second)[:, 64:].sum()
        by_chance = first.mean() * second.mean() * first[:, 64:].numel()
        assert both < by_chance + 5 * by_chance.sqrt()

    def test_lengths(self, options):
        wave = voice(6000, 4)
        lengths = torch.tensor([6000, 2501, 2501, 16])
        cochlea = Cochlea(16000, channels=70, **options)
        out = cochlea(wave, lengths)
        for recording, count, whole in zip(out, lengths.tolist(), wave, strict=True):
            steps = cochlea.frames(count)
            assert torch.equal(recording[:, :steps], cochlea(whole[:count]))
            assert not recording[:, steps:].any()
        assert torch.equal(cochlea.frames(lengths), torch.tensor([3001, 1251, 1251, 9]))
        assert cochlea.frames(0) == 0 and cochlea.frames(torch.tensor([0])).item() == 0


@pytest.mark.parametrize("options", KINDS)
def test_events_are_the_spikes(options):
    cochlea = Cochlea(16000, channels=130, output="membrane", **options)
    times, units = cochlea.events(voice(5001))
    cochlea.output = "spikes"
    steps, channels = cochlea(voice(5001)).T.nonzero().T
    assert torch.equal(times, steps.double() / 8000) and torch.equal(units.long(), channels)
    assert units.dtype == torch.int16


def test_silence_stays_silence_and_loudness_is_normalised():
    cochlea = Cochlea(16000, channels=10, output="membrane")
    assert not cochlea(torch.zeros(1000)).any()
    wave = voice(4000)
    assert_close_to_peak(cochlea(wave * 1e-3), cochlea(wave), 1e-6)
    assert 0 < len(Cochlea(16000).events(torch.zeros(8000))[0]) < 10_000  # spontaneous


def test_a_tone_is_heard_at_its_place():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)
    for options in KINDS:
        level = Cochlea(16000, output="membrane", **options)(tone).square().mean(1)
        # The travelling wave's envelope peaks a little basally of the place whose best frequency it is.
        assert abs(level.argmax().item() - 400) < 25


def test_gradients_through_membrane_and_probability():
    wave = voice(300).requires_grad_()
    for options in ({}, {"circular": False, "gain": 1.0, "ramp": 0.0}, {"membrane": "gammatone"}):
        for output in ("membrane", "probability"):
            cochlea = Cochlea(16000, channels=4, output=output, **options)
            out = cochlea(wave)
            direction = voice(300, seed=3)
            (grad,) = torch.autograd.grad(out.double().square().sum(), wave)
            with torch.no_grad():
                steps = [cochlea(wave + sign * 1e-2 * direction).double().square().sum() for sign in (1, -1)]
            slope = (steps[0] - steps[1]) / 2e-2
            # A difference of float32 results over 1 % of the signal.
            assert (grad.double() * direction).sum().item() == pytest.approx(slope.item(), rel=0.03)
            assert_close_to_peak(out.detach(), cochlea(wave.detach()), 1e-5)


def test_backends():
    wave = voice(500)
    cochlea = Cochlea(16000, channels=8, output="membrane")
    with use("reference"):
        slow = cochlea(wave)
    assert_close_to_peak(cochlea(wave), slow, 2e-6)
    with use("cuda"), pytest.raises(NotImplementedError, match="cochlea: backend 'cuda' does not have this operator"):
        cochlea(wave)
    with use("cpu"), pytest.raises(NotImplementedError, match="'cpu' does not give gradients; use: reference"):
        cochlea(wave.clone().requires_grad_())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", KINDS)
def test_cuda(options):
    wave = voice(1000, 2)
    for output, tolerance in (("membrane", 1e-5), ("probability", 1e-5)):
        cochlea = Cochlea(16000, channels=70, output=output, **options)
        assert_close_to_peak(cochlea(wave.cuda()).cpu(), cochlea(wave), tolerance)
    cochlea = Cochlea(16000, channels=70, gain=5.0, ramp=0.0, **options)
    ours, theirs = cochlea(wave.cuda()).cpu(), cochlea(wave)
    assert theirs.sum() > 50 and (ours != theirs).sum() <= 0.05 * theirs.sum()
    wave[1, 5] = torch.nan
    out = cochlea(wave.cuda()).cpu()
    assert out[1].isnan().all() and not out[0].isnan().any()


def test_pickles_and_copies_stay_small():
    cochlea, wave = Cochlea(16000, seed=5), voice(2000)
    expected = cochlea(wave)
    stored = pickle.dumps(cochlea)
    assert len(stored) < 100_000 and not cochlea.state_dict()
    assert torch.equal(pickle.loads(stored)(wave), expected) and torch.equal(copy.deepcopy(cochlea)(wave), expected)
    assert "channels=700" in repr(cochlea) and cochlea.half()(wave.half()).dtype == torch.float32


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"sample_rate": 16000, "preset": "article"},
            ValueError,
            r'preset="article" at sample_rate=16000 Hz: .* is unstable .*2\.24.*use 36000 Hz.* or preset="lauscher"',
        ),
        ({"sample_rate": 22050, "preset": "article"}, ValueError, ".* oscillates"),
        (
            {"sample_rate": 8000},
            ValueError,
            r'preset="lauscher" at sample_rate=8000 Hz: .*use 11025 Hz or more \(resample',
        ),
        ({"sample_rate": 0}, ValueError, "sample_rate=0 Hz must be greater than 0"),
        ({"sample_rate": 16000.5}, ValueError, "sample_rate=16000.5 Hz is not whole"),
        ({"sample_rate": 192000}, ValueError, "sample_rate=192000 Hz is above 96000 Hz"),
        ({"sample_rate": "16k"}, TypeError, "sample_rate='16k' is a str"),
        ({"channels": 0}, ValueError, "channels=0 channels is not positive"),
        ({"channels": 40000}, ValueError, "channels=40000 is more than 32768"),
        ({"preset": "paper"}, ValueError, "preset='paper' is unknown; there are 'lauscher', 'article'"),
        ({"membrane": "gammatones"}, ValueError, "membrane='gammatones' is unknown; did you mean 'gammatone'"),
        ({"output": "spike"}, ValueError, "output='spike' is unknown; did you mean 'spikes'"),
        ({"seed": 1.5}, TypeError, "seed=1.5 is not a whole number"),
        ({"membrane": "gammatone", "circular": True}, ValueError, ".* gammatone filters do not wrap around"),
        ({"gain": 0}, ValueError, "gain=0 must be greater than 0"),
        ({"gain": float("nan")}, ValueError, "gain=nan is not finite"),
        ({"ramp": -0.1}, ValueError, "ramp=-0.1 s is negative"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"Cochlea: {message}"):
        Cochlea(**{"sample_rate": 16000} | arguments)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize(
    "wave, error, message",
    [
        (torch.zeros(1000, dtype=torch.int16), TypeError, "int16; .*divide by 32768"),
        (torch.zeros(1000, dtype=torch.complex64), TypeError, "complex64; give real numbers"),
        (np.zeros(1000), TypeError, "ndarray; give a tensor"),
        (torch.tensor(1.0), ValueError, r"\[\]; give \[\.\.\., samples\]"),
        (torch.zeros(0), ValueError, r"the recording is empty; at 16000 Hz 16 \(1 ms\) are the least"),
        (torch.zeros(2, 15), ValueError, r"the recording has 15 samples; at 16000 Hz 16 \(1 ms\) are the least"),
        (torch.tensor([0.0] * 50 + [float("nan")]), ValueError, "the waveform holds NaN or infinite samples"),
        (torch.tensor([[0.0] * 50, [float("inf")] * 50]), ValueError, r"NaN or infinite samples \(recordings \[1\]"),
    ],
)
def test_bad_waveforms(options, wave, error, message):
    cochlea = Cochlea(16000, channels=4, **options)
    with pytest.raises(error, match=f"Cochlea: .*{message}"):
        cochlea(wave)
    if not isinstance(wave, torch.Tensor) or wave.dim() < 2:
        with pytest.raises(error, match=f"Cochlea: .*{message}"):
            cochlea.events(wave)


def test_bad_lengths_and_batches_of_events():
    cochlea, wave = Cochlea(16000, channels=4), voice(100, 2)
    for lengths in (torch.tensor([100]), torch.tensor([100.0, 50.0]), [100, 50]):
        with pytest.raises(ValueError, match=r"Cochlea: lengths came as .*; give integers of shape \[2\]"):
            cochlea(wave, lengths)
    with pytest.raises(ValueError, match="Cochlea: lengths reach 101, but there are 100 samples"):
        cochlea(wave, torch.tensor([101, 50]))
    with pytest.raises(ValueError, match="Cochlea: the recording has 3 samples"):
        cochlea(wave, torch.tensor([100, 3]))
    with pytest.raises(ValueError, match=r"Cochlea: events hears one recording at a time, .* this is \[2, 100\]"):
        cochlea.events(wave)
    assert cochlea(wave[:0]).shape == (0, 4, 51)
