"""Resample: measured as a filter, against soxr, and as a stream."""

from fractions import Fraction

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import Chain, Log, MelSpectrogram, Resample

RATES = [(16000, 8000), (8000, 16000), (44100, 16000), (22050, 16000), (16000, 22050), (3, 7), (16000, 15999), (5, 5)]
rates = pytest.mark.parametrize("orig_rate, new_rate", RATES)
# Relative to the peak: sums of 200 to 600 terms, in another order for another number of blocks.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


def gain(resample, frequency):
    """|response| of a long complex sinusoid of `frequency` cycles per input sample, away from its ends."""
    time = torch.arange(4000, dtype=torch.float64)
    wave = torch.stack((torch.cos(2 * torch.pi * frequency * time), torch.sin(2 * torch.pi * frequency * time)))
    real, imag = resample(wave)
    out = torch.complex(real, imag)
    margin = out.shape[-1] // 4
    return out[margin:-margin]


@pytest.mark.parametrize("quality, passband, ripple, attenuation", [
    ("fast", 0.8, 2e-3, 79), ("high", 0.913, 2e-5, 119), ("best", 0.95, 4e-7, 154)
])  # fmt: skip
@pytest.mark.parametrize("orig_rate, new_rate", [(44100, 16000), (16000, 48000), (22050, 16000)])
def test_passband_and_stopband(quality, passband, ripple, attenuation, orig_rate, new_rate):
    """The filter as it is documented: dB of ripple up to the passband's edge, dB of attenuation from Nyquist on."""
    resample = Resample(orig_rate, new_rate, quality=quality).double()
    nyquist = min(orig_rate, new_rate) / 2 / orig_rate  # cycles per input sample
    for fraction in (0.0, 0.1, 0.37, 0.5, 0.8 * passband, passband):
        out = gain(resample, fraction * nyquist)
        time = torch.arange(len(out), dtype=torch.float64) * (orig_rate / new_rate)
        level = out * torch.exp(-2j * torch.pi * fraction * nyquist * time)
        assert (20 * torch.log10(level.abs())).abs().max() < ripple
        assert (level / level[0] - 1).abs().max() < 10 ** (ripple / 20) - 1 + 1e-9  # no images beside it
    for fraction in np.linspace(1.0, 0.5 / nyquist, 9)[: -1 if new_rate < orig_rate else 0]:
        assert 20 * torch.log10(gain(resample, fraction * nyquist).abs().max()) < -attenuation


@rates
def test_band_limited_signals_keep_their_values_and_their_place(orig_rate, new_rate):
    """Output n is the signal at the time n / new_rate: no delay is left."""
    nyquist = min(1.0, new_rate / orig_rate) / 2

    def signal(time):  # in input samples
        return np.sin(2 * np.pi * 0.31 * nyquist * time + 1) + np.cos(2 * np.pi * 0.87 * nyquist * time)

    out = Resample(orig_rate, new_rate)(torch.tensor(signal(np.arange(3001.0))))
    expected = signal(np.arange(len(out)) * orig_rate / new_rate)
    inner = slice(len(out) // 4, -len(out) // 4)
    assert len(out) == -(-3001 * new_rate // orig_rate)
    assert np.abs(out.numpy() - expected)[inner].max() < 5e-6  # -119 dB


@pytest.mark.parametrize("orig_rate, new_rate", [(16000, 8000), (8000, 16000), (44100, 16000), (16000, 22050)])
def test_soxr(signal, orig_rate, new_rate):
    """soxr's HQ is another filter with the same band: equal where the signal lies in it, which speech mostly does."""
    wave, _ = signal
    if np.count_nonzero(wave) == 1:
        wave = np.roll(wave, len(wave) // 2 + 1)
    ours = Resample(orig_rate, new_rate)(torch.tensor(wave)).numpy()
    theirs = soxr.resample(wave, orig_rate, new_rate, quality="HQ")
    size = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1
    # Compared below both filters' transitions, which begin at 91 % of the lower Nyquist frequency.
    fade = np.hanning(size)  # soxr's ends are its own: a click there differs by 5 %
    spectrum, reference = np.fft.rfft((ours[:size] - theirs[:size]) * fade), np.fft.rfft(theirs[:size] * fade)
    keep = slice(0, int(0.85 * min(1.0, orig_rate / new_rate) * len(spectrum)))
    peak = np.abs(reference).max()
    assert (
        np.abs(spectrum[keep]).max() <= 1e-3 * peak + 1e-12
    )  # measured 6e-4: soxr falls by 0.005 dB where the ratio is not simple


@rates
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_direct_sum(orig_rate, new_rate, dtype):
    """Against the documented formula, output by output."""
    resample = Resample(orig_rate, new_rate)
    wave = torch.randn(200, dtype=torch.float64)
    half, step = resample.latency - 1, Fraction(orig_rate, new_rate)
    cutoff = 1.0 if step == 1 else 0.9565 * min(1.0, new_rate / orig_rate)
    expected = []
    for n in range(resample.frames(200)):
        taps = np.arange(int(n * step) - half + 1, int(n * step) + half + 1)
        distance = np.array([float(int(m) - n * step) for m in taps])
        kernel = np.sinc(cutoff * distance) * np.i0(
            0.1102 * (120 - 8.7) * np.sqrt(np.maximum(0, 1 - (distance / half) ** 2))
        )
        known = (taps >= 0) & (taps < 200)
        expected.append((kernel / kernel.sum())[known] @ wave.numpy()[taps[known]])
    out = resample(wave.to(dtype))
    assert out.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert np.abs(out.numpy() - expected).max() <= tolerance * np.abs(expected).max()


def test_equal_rates_change_nothing():
    wave = torch.randn(2, 3, 100)
    assert torch.equal(Resample(16000, 16000)(wave), wave)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    cuts=st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 16]) | st.integers(0, 300), min_size=1, max_size=9),
    ratio=st.sampled_from(RATES),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_any_chunks_give_the_whole(cuts, ratio, leading, dtype):
    resample = Resample(*ratio, quality="fast").to(dtype)
    wave = torch.randn(*leading, sum(cuts), dtype=dtype)
    whole = resample(wave)
    assert whole.shape[-1] == resample.frames(sum(cuts)) == resample.frames(torch.tensor(sum(cuts)))
    state, parts, seen = None, [], 0
    for chunk in wave.split(cuts, -1):
        out, state = resample.stream(chunk, state)
        parts.append(out)
        seen += out.shape[-1]
        assert seen == max(0, (state.read - resample.latency) // resample.hop_length + 1)
    parts.append(resample.flush(state)[0])
    streamed = torch.cat(parts, -1)
    assert streamed.shape == whole.shape and streamed.dtype == whole.dtype
    if whole.numel():
        assert (streamed - whole).abs().max() <= TOLERANCE[dtype] * whole.abs().max()


@pytest.mark.parametrize("orig_rate", [32000, 44100, 22050, 8000])
def test_a_chain_with_a_mel_spectrogram(orig_rate):
    chain = Chain(Resample(orig_rate, 16000), MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=20), Log())
    assert chain.hop_length == Fraction(160 * orig_rate, 16000) and chain.sample_rate == orig_rate
    assert isinstance(chain.hop_length, int) == (orig_rate != 22050)
    wave = torch.randn(2, 5000)
    whole = chain(wave)
    assert whole.shape[-1] == chain.frames(5000)
    torch.testing.assert_close(whole, chain[2](chain[1](chain[0](wave))))
    state, parts, seen, given = None, [], 0, 0
    for chunk in wave.split(37, -1):
        frames, state = chain.stream(chunk, state)
        parts.append(frames)
        seen, given = seen + chunk.shape[-1], given + frames.shape[-1]
        assert given == max(0, (seen - chain.latency) // chain.hop_length + 1)
    streamed = torch.cat([*parts, chain.flush(state)[0]], -1)
    assert streamed.shape == whole.shape
    assert (streamed - whole).abs().max() < 1e-4  # of a logarithm near its offset


def test_the_state_is_short_and_holds_no_chunk_alive():
    for ratio in RATES[:5]:
        resample = Resample(*ratio)
        _, state = resample.stream(torch.randn(50_000))
        assert state.samples.untyped_storage().nbytes() <= 4 * (3 * resample.latency + resample._inputs)


@rates
def test_gradients(orig_rate, new_rate):
    resample = Resample(orig_rate, new_rate, quality="fast").double()
    wave = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resample, wave)


def test_compiled_exported_cast_and_under_autocast():
    torch.compiler.reset()
    resample, wave = Resample(22050, 16000), torch.randn(2, 3000)
    expected = resample(wave)
    assert torch.equal(torch.compile(resample, fullgraph=True, backend="aot_eager")(wave), expected)
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=1000, max=10**6)
    exported = torch.export.export(
        resample, (wave,), dynamic_shapes=({0: batch, 1: samples},), prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    longer = torch.randn(5, 12345)
    torch.testing.assert_close(exported(longer), resample(longer))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample(wave), expected)
    assert not resample.state_dict() and resample.half().filters.dtype == torch.float32
    assert torch.equal(resample.double()(wave.double()), Resample(22050, 16000).double()(wave.double()))


def test_nan_touches_only_what_sees_it():
    wave = torch.randn(4000)
    wave[2000] = float("nan")
    bad = Resample(16000, 8000)(wave).isnan().nonzero().flatten()
    assert 0 < len(bad) < 300 and (bad - 1000).abs().max() < 150


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((0, 8000), ValueError, "orig_rate=0 Hz is not positive"),
        ((16000, 8000.5), TypeError, "new_rate=8000.5 is a float, not a whole number of Hz"),
        ((16000, 100003), ValueError, "orig_rate=16000 Hz and new_rate=100003 Hz reduce to 16000/100003.*such as"),
    ],
)
def test_bad_rates(arguments, error, message):
    with pytest.raises(error, match=f"Resample: {message}"):
        Resample(*arguments)


def test_bad_input():
    resample = Resample(16000, 8000)
    with pytest.raises(ValueError, match="quality='hq' is unknown"):
        Resample(16000, 8000, quality="hq")
    with pytest.raises(TypeError, match=r"int16; .*divide by 32768"):
        resample(torch.zeros(5, dtype=torch.int16))
    with pytest.raises(ValueError, match="flush needs the state"):
        resample.flush(None)
    _, state = resample.stream(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="does not continue a stream"):
        resample.stream(torch.zeros(5), state)


def test_filters_that_learn():
    plain, resample = Resample(3, 2), Resample(3, 2, trainable=("filters",))
    wave = torch.randn(2, 100)
    assert list(resample.state_dict()) == ["filters"] == [name for name, _ in resample.named_parameters()]
    torch.testing.assert_close(
        resample(wave), plain(wave), rtol=0, atol=1e-6
    )  # torch may sum in another order to learn
    target = 0.5 * plain(wave)  # a quieter resampler
    optimizer = torch.optim.SGD(resample.parameters(), 0.3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append((resample(wave) - target).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]
    fresh = Resample(3, 2, trainable=("filters",))
    fresh.load_state_dict(resample.state_dict())
    head, state = fresh.stream(wave[:, :57])
    rest, state = fresh.stream(wave[:, 57:], state)
    streamed = torch.cat((head, rest, fresh.flush(state)[0]), -1)
    torch.testing.assert_close(streamed, resample(wave), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="Resample: trainable='filter' is unknown; did you mean 'filters'"):
        Resample(3, 2, trainable=("filter",))


def test_gradcheck_of_filters():
    resample, wave = (
        Resample(2, 1, quality="fast", trainable=("filters",)).double(),
        torch.randn(60, dtype=torch.float64),
    )

    def run(filters):
        return torch.func.functional_call(resample, {"filters": filters}, (wave,))

    assert torch.autograd.gradcheck(run, resample.filters.detach().clone().requires_grad_(), fast_mode=True)
