"""LEAF against its formulas, written out plainly in numpy; its engines, its stream, and that it learns."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import LEAF, PCEN
from temporal.frontends.learnable._blocks import in_blocks
from temporal.frontends.learnable._filtering import Blocks

# Relative to the peak of the energies. float32: sums of 401 products (measured 8e-7); float64: measured 2e-15.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
ENGINES = ("fft", "conv")
engines = pytest.mark.parametrize("engine", ENGINES)
FILTERS = ("center", "bandwidth", "pooling")
HALF = math.sqrt(2 * math.log(2))


def mel_gabor(rate, count, low, high, n_fft=512):
    """Centres and deviations: triangles that are straight in mel, counted bin by bin."""

    def mel(hertz):
        return 1127 * math.log1p(hertz / 700)

    edges = np.linspace(mel(low), mel(high), count + 2)
    centres, deviations = [], []
    for band in range(count):
        weights = np.zeros(n_fft // 2 + 1)
        for k in range(1, n_fft // 2 + 1):
            place = mel(k * rate / n_fft)
            rise = (place - edges[band]) / (edges[band + 1] - edges[band])
            fall = (edges[band + 2] - place) / (edges[band + 2] - edges[band + 1])
            weights[k] = max(0.0, min(rise, fall))
        roots = np.sqrt(weights)
        centres.append(2 * math.pi * np.argmax(roots) / n_fft)
        deviations.append(HALF * n_fft / (math.pi * np.sum(roots >= roots.max() / 2)))
    return np.array(centres), np.array(deviations)


def energies(wave, centres, deviations, widths, size, hop):
    """The definition: convolve, square, weigh."""
    half = size // 2
    time = np.arange(-half, half + 1)
    out = []
    for centre, deviation, width in zip(centres, deviations, widths, strict=True):
        centre = min(max(centre, 0), math.pi)
        deviation = min(max(deviation, 4 * HALF / math.pi), size * HALF / math.pi)
        gabor = np.exp(-(time**2) / (2 * deviation**2) + 1j * centre * time) / (deviation * math.sqrt(2 * math.pi))
        power = np.abs(np.convolve(np.pad(wave, half), gabor, "valid")) ** 2
        window = np.exp(-0.5 * (time / (min(max(width, 2 / size), 0.5) * half)) ** 2)
        pooled = np.correlate(np.pad(power, half), window, "valid")[::hop]
        out.append(np.maximum(pooled, 1e-5))
    return np.array(out)


def assert_close(ours, theirs, tolerance):
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("rate, count, low, high", [(16000, 40, 60.0, 7800.0), (8000, 30, 60.0, 4000.0)])
def test_it_starts_from_a_mel_bank(rate, count, low, high):
    leaf = LEAF(rate, n_filters=count, fmin=low, fmax=high)
    centres, deviations = mel_gabor(rate, count, low, high)
    # parameters are float32; the gate is 1e-5
    assert_close(leaf.center.detach().double(), centres, 1e-7)
    assert_close(leaf.bandwidth.detach().double(), deviations, 1e-7)
    assert leaf.kernel_size == rate // 40 + 1
    assert torch.allclose(leaf.center_frequencies, leaf.center.detach() * rate / (2 * math.pi))
    response = torch.fft.fft(torch.complex(*leaf._kernels(torch.float64)), 2**16)[count - 1].abs()
    width = (response >= response.max() / 2).sum() * rate / 2**16  # the highest filter fits its kernel
    assert abs(width - leaf.bandwidths[-1]) < 2


@engines
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_energies_are_the_formulas(signal, engine, dtype):
    wave, rate = signal
    leaf = LEAF(rate, n_filters=20, pcen=False, engine=engine, trainable=()).to(dtype)
    centres, deviations = mel_gabor(rate, 20, 60.0, min(7800.0, rate / 2))
    expected = energies(wave, centres, deviations, [0.4] * 20, leaf.kernel_size, 160)
    assert_close(leaf(torch.tensor(wave, dtype=dtype)).double(), expected, TOLERANCE[dtype])


@engines
def test_values_out_of_range_count_as_the_ends_of_their_range(engine):
    leaf = LEAF(8000, n_filters=4, kernel_size=31, hop_length=7, pcen=False, engine=engine).double()
    values = ([-1.0, 9.0, 1.0, 2.0], [0.1, 99.0, 4.0, 5.0], [0.0, 1.0, 0.3, 0.01])
    with torch.no_grad():
        for parameter, value in zip((leaf.center, leaf.bandwidth, leaf.pooling), values, strict=True):
            parameter.copy_(torch.tensor(value, dtype=torch.float64))
    wave = torch.randn(300, dtype=torch.float64)
    out = leaf(wave)
    assert_close(out, energies(wave.numpy(), *values, 31, 7), 1e-12)
    out.sum().backward()
    assert leaf.center.grad[:2].tolist() == leaf.bandwidth.grad[:2].tolist() == leaf.pooling.grad[:2].tolist() == [0, 0]
    assert (leaf.center.grad[2:] != 0).all()


def test_pcen_is_leafs():
    wave = torch.randn(2, 3000, dtype=torch.float64)
    energy, out = LEAF(16000, pcen=False).double()(wave), LEAF(16000).double()(wave)
    smoothed, last = [], energy[..., 0]
    for t in range(energy.shape[-1]):
        last = 0.96 * last + 0.04 * energy[..., t]
        smoothed.append(last)
    level = energy / (1e-12 + torch.stack(smoothed, -1)) ** 0.96
    torch.testing.assert_close(out, (level + 2) ** 0.5 - 2**0.5, rtol=1e-6, atol=1e-7)  # parameters from float32
    own = LEAF(16000, pcen={"gain": 0.5, "time_constant": 0.1}).double()(wave)
    pcen = PCEN(16000, 160, gain=0.5, time_constant=0.1, bias=2.0, power=0.5, eps=1e-12, initial="first")
    torch.testing.assert_close(own, pcen(energy), rtol=1e-6, atol=1e-7)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    size=st.integers(0, 20), hop=st.integers(1, 90), samples=st.integers(1, 1500), seed=st.integers(0, 9)
)  # fmt: skip
def test_both_engines_count_and_agree(size, hop, samples, seed):
    size = 2 * size + 1
    wave = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    fft, conv = (
        LEAF(8000, n_filters=3, kernel_size=size, hop_length=hop, pcen=False, engine=engine).double()
        for engine in ENGINES
    )
    out = conv(wave)
    assert out.shape == (2, 3, -(-samples // hop)) and conv.frames(samples) == out.shape[-1]
    assert conv.frames(torch.tensor([samples])).tolist() == [out.shape[-1]]
    assert_close(fft(wave), out, 1e-12)


@engines
def test_gradcheck(engine):
    leaf = LEAF(1000, n_filters=3, kernel_size=9, hop_length=4, fmin=50.0, engine=engine).double()
    with torch.no_grad():
        leaf.bandwidth.copy_(torch.tensor([2.0, 2.5, 3.0]))
        leaf.pcen.gain.fill_(0.7)
        leaf.pcen.power.fill_(0.6)
    names = [name for name, _ in leaf.named_parameters()]
    wave = torch.randn(2, 21, dtype=torch.float64, requires_grad=True)

    def run(wave, *parameters):
        return torch.func.functional_call(leaf, dict(zip(names, parameters, strict=True)), (wave,))

    assert len(names) == 7
    torch.autograd.gradcheck(run, (wave, *leaf.parameters()))


@engines
@pytest.mark.parametrize("wave", [torch.zeros(2, 2000), torch.ones(2, 2000), 0.5 * torch.randn(2, 2000).sign()])
def test_gradients_are_finite_on_silence_and_on_clipping(engine, wave):
    leaf, wave = LEAF(16000, engine=engine), wave.clone().requires_grad_()
    leaf(wave).sum().backward()
    for tensor in (wave, *leaf.parameters()):
        assert torch.isfinite(tensor.grad).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.sampled_from([0, 1, 2, 40, 300]) | st.integers(0, 200), min_size=1, max_size=8),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    dtype=st.sampled_from(list(TOLERANCE)),
    pcen=st.booleans(),
)
def test_any_chunks_give_the_whole(cuts, leading, dtype, pcen):
    leaf = LEAF(1000, n_filters=5, kernel_size=25, hop_length=10, pcen=pcen, fmin=50.0).to(dtype)
    wave = torch.randn(*leading, sum(cuts), dtype=dtype)
    state, parts, seen = None, [], 0
    for chunk in wave.split(cuts, -1):
        frames, state = leaf.stream(chunk, state)
        parts.append(frames)
        seen += chunk.shape[-1]
        given = sum(part.shape[-1] for part in parts)
        assert given == max(0, (seen - leaf.latency) // leaf.hop_length + 1)
    frames, state = leaf.flush(state)
    assert state is None
    whole, out = leaf(wave), torch.cat([*parts, frames], -1)
    assert out.shape == whole.shape and out.dtype == whole.dtype
    if whole.numel():
        assert_close(out, whole.detach(), TOLERANCE[dtype])


def test_a_stream_of_real_speech(signal):
    wave, rate = signal
    wave = torch.tensor(wave, dtype=torch.float32)
    leaf = LEAF(rate, hop_length=rate // 100)
    with torch.no_grad():
        state, parts = None, []
        for chunk in wave.split(480):
            frames, state = leaf.stream(chunk, state)
            parts.append(frames)
        assert_close(torch.cat([*parts, leaf.flush(state)[0]], -1), leaf(wave), 1e-5)  # PCEN divides by quiet levels


def test_it_learns_what_to_listen_to():
    """Tones of 700 and of 760 Hz."""
    time = torch.arange(1600) / 8000
    labels = torch.arange(32) % 2
    wave = torch.sin(2 * torch.pi * (700 + 60 * labels[:, None]) * time + torch.rand(32, 1) * 6)
    leaf = LEAF(8000, n_filters=4, hop_length=80, fmin=300.0, fmax=1500.0)
    head = torch.nn.Linear(4, 2)
    before = [parameter.detach().clone() for parameter in leaf.parameters()]
    optimizer = torch.optim.Adam([*leaf.parameters(), *head.parameters()], 0.05)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(head(leaf(wave).mean(-1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for old, new in zip(before, leaf.parameters(), strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize("names", [(), ("center",), ("pooling", "bandwidth"), ("gain", "smoothing"), ("pcen",)])
def test_what_learns_is_stored(names):
    leaf = LEAF(16000, trainable=names)
    own = [name for name in names if name in FILTERS]
    pcen = ("gain", "bias", "power", "smoothing") if "pcen" in names else [n for n in names if n not in FILTERS]
    assert set(leaf.state_dict()) == {*own, *(f"pcen.{name}" for name in pcen)}
    torch.testing.assert_close(leaf(torch.ones(800)), LEAF(16000)(torch.ones(800)))


def test_blocks_are_the_whole_function_and_its_gradient():
    rows, shared = torch.randn(7, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    def function(rows, shared):
        return (rows @ shared).tanh()

    for size in (1, 3, 7, 100):
        torch.autograd.gradcheck(
            lambda rows, shared, size=size: in_blocks(function, size, (rows,), (shared,)),
            (rows.requires_grad_(), shared.requires_grad_()),
        )
    for kernel, hop in ((1, 1), (401, 160), (33, 5000)):
        blocks = Blocks.of(kernel, hop)
        assert blocks.step > 0 and blocks.step % hop == 0 and blocks.step + kernel - 1 <= blocks.length


def test_fft_makes_no_tensor_of_all_filters_at_all_samples():
    leaf, wave = LEAF(16000, pcen=False, engine="fft"), torch.randn(4, 16000)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, arguments=(), options=None):
            nonlocal largest
            out = operator(*arguments, **(options or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Sizes():
        leaf(wave).sum().backward()
    assert largest < 40 * wave.numel() / 4


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: LEAF(16000, fmax=9000), ValueError, r"fmax=9000 Hz is above the Nyquist frequency .*\(8000 Hz\)"),
        (lambda: LEAF(16000, kernel_size=400), ValueError, "kernel_size=400 samples is even; give 401"),
        (lambda: LEAF(16000, hop_length=0), ValueError, "hop_length=0 samples is not positive"),
        (lambda: LEAF(16000, n_filters=0), ValueError, "n_filters=0 filters is not positive"),
        (lambda: LEAF(16000, engine="conv1d"), ValueError, "engine='conv1d' is unknown; did you mean 'conv'"),
        (lambda: LEAF(16000, trainable="center"), TypeError, r"trainable='center' is a string; .*\('center',\)"),
        (lambda: LEAF(16000, trainable=("centre",)), ValueError, "'centre' is unknown; did you mean 'center'"),
        (lambda: LEAF(16000)(torch.zeros(99, dtype=torch.int16)), TypeError, r"int16; .*divide by 32768"),
        (lambda: LEAF(16000)(torch.zeros(99, dtype=torch.complex64)), TypeError, "complex64; give real numbers"),
        (lambda: LEAF(16000).flush(None), ValueError, "flush needs the state that stream returned"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=f"LEAF: .*{message}"):
        make()


@engines
def test_nan_and_nothing(engine):
    leaf = LEAF(16000, engine=engine, pcen=False)
    wave = torch.zeros(2, 16000)
    wave[0, 8000] = math.nan
    out = leaf(wave)
    assert out[0, :, 48:53].isnan().all() and not out[1].isnan().any()
    assert leaf(torch.zeros(0, 1000)).shape == (0, 40, 7) and leaf(torch.zeros(3, 0)).shape == (3, 40, 0)
