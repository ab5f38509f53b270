"""SincConv against its formula, written out plainly in numpy; its engines, its stream, and that it learns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import SincConv

# Relative to the peak. float32: sums of 251 products (measured 8e-7); float64: measured 2e-15.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
ENGINES = ("fft", "conv")
engines = pytest.mark.parametrize("engine", ENGINES)


def start(rate, count):
    """Lower edges and widths in Hz, before the least values are added."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (30.0, rate / 2 - 100))
    edges = 700 * (10 ** (np.linspace(low, high, count + 1) / 2595) - 1)
    return edges[:-1], np.diff(edges)


def kernels(low, band, size, rate):
    """SincNet's formula, sample by sample, with Hamming's window."""
    half = size // 2
    rows = []
    for first, width in zip(low, band, strict=True):
        lower = 50 + abs(first)
        upper = min(max(lower + 50 + abs(width), 50), rate / 2)
        row = []
        for n in range(-half, half + 1):
            if n == 0:
                value = 2 * (upper - lower)
            else:
                value = (np.sin(2 * np.pi * upper * n / rate) - np.sin(2 * np.pi * lower * n / rate)) / (
                    np.pi * n / rate
                )
            row.append(value / (2 * (upper - lower)))
        rows.append(row)
    return np.array(rows) * np.hamming(size)


def assert_close(ours, theirs, tolerance, scale=0.0):
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(theirs.abs().max(), scale)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_kernels_and_edges_are_the_formulas(rate):
    low, band = start(rate, 80)
    for dtype, tolerance in ((torch.float32, 1e-7), (torch.float64, 1e-12)):  # one rounding of numbers up to 1
        fixed = SincConv(rate, trainable=()).to(dtype)
        assert np.abs(fixed._kernels(dtype).numpy() - kernels(low, band, 251, rate)).max() < tolerance
    # What learns is float32: the formula at the parameters' values, and at the exact start 251 / 2 of their roundings
    sinc = SincConv(rate)
    ours = sinc._kernels(torch.float32).detach().numpy()
    learned = [value.detach().double().numpy() * rate / (2 * np.pi) for value in (sinc.low, sinc.band)]
    assert np.abs(ours - kernels(*learned, 251, rate)).max() < 1e-6
    assert np.abs(ours - kernels(low, band, 251, rate)).max() < 1e-5
    edges = np.stack((50 + low, np.minimum(100 + low + band, rate / 2)), -1)
    assert_close(sinc.band_edges.double(), edges, 1e-6)


@engines
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("hop, center", [(1, True), (160, True), (7, False)])
def test_the_output_is_the_formula(signal, engine, dtype, hop, center):
    wave, rate = signal
    sinc = SincConv(rate, 6, 101, hop_length=hop, center=center, engine=engine, trainable=()).to(dtype)
    padded = np.pad(wave, 50) if center else wave
    expected = [np.correlate(padded, row, "valid")[::hop] for row in kernels(*start(rate, 6), 101, rate)]
    with torch.no_grad():
        out = sinc(torch.tensor(wave, dtype=dtype)).double()
    # a click that hardly a frame sees leaves the FFT's rounding, relative to the click
    assert_close(out, np.array(expected), TOLERANCE[dtype], np.abs(wave).max())


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    size=st.integers(0, 20), hop=st.integers(1, 90), samples=st.integers(41, 1500), center=st.booleans()
)  # fmt: skip
def test_both_engines_count_and_agree(size, hop, samples, center):
    options = {"n_filters": 3, "kernel_size": 2 * size + 1, "hop_length": hop, "center": center}
    wave = torch.randn(2, samples, dtype=torch.float64)
    fft, conv = (SincConv(8000, **options, engine=engine).double() for engine in ENGINES)
    out = conv(wave)
    assert conv.frames(samples) == out.shape[-1] == conv.frames(torch.tensor([samples])).item()
    assert_close(fft(wave), out.detach(), 1e-12)


@engines
def test_gradcheck(engine):
    sinc = SincConv(1000, 3, 9, hop_length=2, engine=engine, fmax=350.0).double()  # the last edge away from its bound
    wave = torch.randn(2, 21, dtype=torch.float64, requires_grad=True)

    def run(wave, low, band):
        return torch.func.functional_call(sinc, {"low": low, "band": band}, (wave,))

    torch.autograd.gradcheck(run, (wave, sinc.low, sinc.band))


@engines
@pytest.mark.parametrize("wave", [torch.zeros(2, 2000), torch.ones(2, 2000), torch.randn(2, 2000).sign()])
def test_gradients_are_finite_on_silence_and_on_clipping(engine, wave):
    sinc, wave = SincConv(16000, engine=engine), wave.clone().requires_grad_()
    with torch.no_grad():
        sinc.low[0], sinc.band[0], sinc.low[1] = 0.0, 0.0, 3.2  # no band at all beyond the Nyquist frequency
    sinc(wave).square().sum().backward()
    for tensor in (wave, sinc.low, sinc.band):
        assert torch.isfinite(tensor.grad).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.sampled_from([0, 1, 2, 40, 300]) | st.integers(0, 200), min_size=1, max_size=8),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    dtype=st.sampled_from(list(TOLERANCE)),
    hop=st.sampled_from([1, 10, 40]),
    center=st.booleans(),
)
def test_any_chunks_give_the_whole(cuts, leading, dtype, hop, center):
    sinc = SincConv(1000, 5, 25, hop_length=hop, center=center).to(dtype)
    wave = torch.randn(*leading, sum(cuts) + (0 if center else 25), dtype=dtype)
    state, parts, seen = None, [], 0
    for chunk in wave.split([*cuts, wave.shape[-1] - sum(cuts)], -1):
        frames, state = sinc.stream(chunk, state)
        parts.append(frames)
        seen += chunk.shape[-1]
        given = sum(part.shape[-1] for part in parts)
        assert given == max(0, (seen - sinc.latency) // hop + 1)
    frames, state = sinc.flush(state)
    assert state is None
    whole, out = sinc(wave), torch.cat([*parts, frames], -1)
    assert out.shape == whole.shape and out.dtype == whole.dtype
    if whole.numel():
        assert_close(out, whole.detach(), TOLERANCE[dtype])


def test_it_learns_what_to_listen_to():
    """Tones of 700 and of 760 Hz."""
    time = torch.arange(1600) / 8000
    labels = torch.arange(32) % 2
    wave = torch.sin(2 * torch.pi * (700 + 60 * labels[:, None]) * time + torch.rand(32, 1) * 6)
    sinc, head = SincConv(8000, 2, 101, hop_length=4, fmax=1500.0), torch.nn.Linear(2, 2)
    before = sinc.band_edges
    optimizer = torch.optim.Adam([*sinc.parameters(), *head.parameters()], 0.01)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(head(sinc(wave).square().mean(-1).add(1e-3).log()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert ((sinc.band_edges - before).abs() > 1).any()  # Hz


@pytest.mark.parametrize("names", [(), ("low",), ("low", "band")])
def test_what_learns_is_stored(names):
    sinc = SincConv(16000, trainable=names)
    assert set(sinc.state_dict()) == set(names)
    torch.testing.assert_close(sinc(torch.ones(800)), SincConv(16000)(torch.ones(800)))


def test_an_even_kernel_gets_one_more():
    assert SincConv(16000, kernel_size=250).kernel_size == 251
    assert SincConv(16000, kernel_size=1)(torch.ones(5)).shape == (80, 5)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: SincConv(16000, fmax=9000), ValueError, r"fmax=9000 Hz is above the Nyquist frequency .*\(8000 Hz\)"),
        (lambda: SincConv(16000, kernel_size=0), ValueError, "kernel_size=0 samples is not positive"),
        (lambda: SincConv(16000, hop_length=0), ValueError, "hop_length=0 samples is not positive"),
        (lambda: SincConv(16000, min_band=0), ValueError, "min_band=0 Hz must be greater than 0"),
        (lambda: SincConv(16000, engine="ftt"), ValueError, "engine='ftt' is unknown; did you mean 'fft'"),
        (lambda: SincConv(16000, trainable="low"), TypeError, r"trainable='low' is a string; .*\('low',\)"),
        (lambda: SincConv(16000, center=False)(torch.zeros(250)), ValueError, "=251 is longer than the signal"),
        (lambda: SincConv(16000)(torch.zeros(99, dtype=torch.int16)), TypeError, r"int16; .*divide by 32768"),
        (lambda: SincConv(16000).flush(None), ValueError, "flush needs the state that stream returned"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=f"SincConv: .*{message}"):
        make()


@engines
def test_nan_and_nothing(engine):
    sinc = SincConv(16000, engine=engine)
    wave = torch.zeros(2, 4000)
    wave[0, 2000] = float("nan")
    out = sinc(wave)
    assert out[0, :, 1875:2126].isnan().all() and not out[1].isnan().any()
    assert sinc(torch.zeros(0, 1000)).shape == (0, 80, 1000) and sinc(torch.zeros(3, 0)).shape == (3, 80, 0)
