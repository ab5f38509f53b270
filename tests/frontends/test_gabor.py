"""InvertibleCQT: exact inverse, filters as defined, slices that add up to the whole, and a stream of them."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import InvertibleCQT
from temporal.frontends.gabor import _bands

# Relative to the peak of the signal: rounding of two long FFTs, measured 5e-7 and 1e-15.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}
SMALL = {"fmin": 60.0, "bins_per_octave": 4, "hop_length": 2}

FORMS = {
    "matrix": lambda rate, **more: InvertibleCQT(rate, fmin=rate / 50, **more),
    "octaves": lambda rate, **more: InvertibleCQT(rate, fmin=rate / 200, layout="octaves", **more),
    "cosine, odd hop": lambda rate, **more: InvertibleCQT(
        rate, fmin=rate / 40, fmax=rate / 9, window="cosine", hop_length=11, bins_per_octave=24, **more
    ),
    "slices": lambda rate, **more: InvertibleCQT(rate, fmin=rate / 50, slice_length=2048, **more),
    "slices, long fade": lambda rate, **more: InvertibleCQT(
        rate, fmin=rate / 50, slice_length=2048, transition=1024, hop_length=8, **more
    ),
}
forms = pytest.mark.parametrize("form", FORMS)


def small_slices(**more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few samples tell no bands apart, but can be inverted all the same
        return InvertibleCQT(1000, **SMALL, slice_length=64, **more)


def apart(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return float((ours - theirs).abs().max() / (theirs.abs().max() or 1.0))


@forms
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_reconstruction_of_signals(signal, form, dtype):
    wave, rate = signal
    wave = torch.tensor(wave, dtype=dtype)
    cqt = FORMS[form](rate)
    assert apart(cqt.inverse(cqt(wave), len(wave)), wave) <= TOLERANCE[dtype]


@forms
@pytest.mark.parametrize("length", [0, 1, 2, 3, 17, 997, 7919, 8000])
def test_reconstruction_at_any_length(form, length):
    cqt = FORMS[form](8000)
    for dtype, leading in ((torch.float32, (2, 1)), (torch.float64, ()), (torch.float64, (0, 2))):
        wave = torch.randn(*leading, length, dtype=dtype)
        coefficients = cqt(wave)
        if form != "octaves":
            assert coefficients.shape[-1] == cqt.frames(length) == cqt.frames(torch.tensor([length]))[0]
        back = cqt.inverse(coefficients, length)
        assert back.shape == wave.shape and back.dtype == dtype
        assert not wave.numel() or apart(back, wave) <= TOLERANCE[dtype]


@pytest.mark.parametrize("window", ["hann", "cosine"])
@pytest.mark.parametrize("layout", ["matrix", "octaves"])
def test_coefficients_are_the_filters_sums(window, layout):
    """Against the definition, written as a sum over the bins with a filter of its own."""
    cqt = InvertibleCQT(8000, fmin=110.0, bins_per_octave=6, window=window, layout=layout)
    wave = np.random.default_rng(0).standard_normal(999)
    parts = cqt(torch.tensor(wave))
    parts = [parts] if layout == "matrix" else parts
    size = parts[0].shape[-1] * cqt.hop_length if layout == "matrix" else 1024
    spectrum = np.fft.rfft(wave, size)
    hertz = np.arange(len(spectrum)) * 8000 / size
    edges = [110 * 2 ** (-1 / 6), *cqt.frequencies.numpy()[1:]]
    filters = np.zeros((cqt.n_bins, len(hertz)))
    for k in range(cqt.n_bins):
        for j, f in enumerate(hertz):
            if f <= edges[0]:
                filters[k, j] = k == 0
            elif k > 0 and edges[k - 1] < f <= edges[k]:
                filters[k, j] = np.sin(np.pi / 2 * np.log(f / edges[k - 1]) / np.log(edges[k] / edges[k - 1]))
            elif k + 1 < cqt.n_bins and edges[k] <= f < edges[k + 1]:
                filters[k, j] = np.cos(np.pi / 2 * np.log(f / edges[k]) / np.log(edges[k + 1] / edges[k]))
    filters = filters ** (2 if window == "hann" else 1)
    gain = np.full(len(hertz), 2 / size)
    gain[[0, -1]] /= 2
    row = 0
    for part in parts:
        bins, frames = part.shape
        turns = np.outer(np.arange(len(hertz)), np.arange(frames)) / frames
        expected = (filters[row : row + bins] * spectrum * gain) @ np.exp(2j * np.pi * turns)
        assert np.abs(part.numpy() - expected).max() <= 1e-12 * np.abs(expected).max()
        row += bins
    assert row == cqt.n_bins


def test_a_sinusoid_has_its_amplitude_and_phase_at_its_frequency():
    cqt = InvertibleCQT(8000, fmin=100.0)
    time = torch.arange(16384, dtype=torch.float64) / 8000
    for k in (10, 30, 45):
        frequency = float(cqt.frequencies[k])
        wave = 0.3 * torch.cos(2 * torch.pi * frequency * time + 1.0)
        inner = cqt(wave)[k, 300:600]
        clock = time[: 600 * cqt.hop_length : cqt.hop_length][300:600]
        expected = 0.3 * torch.exp(1j * (2 * torch.pi * frequency * clock + 1.0))
        assert (inner - expected).abs().max() < 2e-4  # the signal's ends, and the grid of its length


def test_bands_reach_from_0_to_nyquist():
    cqt = InvertibleCQT(16000, fmin=100.0, fmax=1000.0)
    centres = cqt.frequencies
    assert centres[0] == 0 and centres[-1] == 8000 and (centres.diff() > 0).all()
    np.testing.assert_allclose(centres[1:41], 100 * 2 ** (np.arange(40) / 12), rtol=1e-12)
    steps = centres[40:].diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))
    full = InvertibleCQT(16000, fmin=100.0)
    assert full.frequencies[-2] < 8000 / 2 ** (0.4 / 12)


def test_octaves_share_a_rate_and_hold_few_numbers():
    cqt = InvertibleCQT(22050, layout="octaves")
    parts = cqt(torch.randn(3, 80000))
    assert [tuple(part.shape[-2:]) for part in parts] == cqt.sizes(80000)
    assert [bins for bins, _ in cqt.sizes(80000)] == [1, *[12] * 8, 6]
    assert sum(part[0].numel() for part in parts) < 1.45 * 80000
    assert not hasattr(cqt, "hop_length")


@pytest.mark.parametrize("output", ["magnitude", "power", "phase"])
def test_outputs_are_those_of_the_complex_one(output):
    wave = torch.randn(2, 3000, dtype=torch.float64)
    show = {"magnitude": torch.abs, "power": lambda c: c.abs() ** 2, "phase": torch.angle}[output]
    for form in ("matrix", "slices", "octaves"):
        whole, shown = FORMS[form](8000)(wave), FORMS[form](8000, output=output)(wave)
        if form == "octaves":
            for a, b in zip(shown, whole, strict=True):
                torch.testing.assert_close(a, show(b))
        else:
            torch.testing.assert_close(shown, show(whole.sum(-3) if form == "slices" else whole))


def test_slices_show_what_the_whole_shows():
    """Away from the slices' limits of resolution, which is a band of few bins: above 400 Hz here."""
    time = torch.arange(40000, dtype=torch.float64) / 8000
    wave = torch.sin(2 * torch.pi * (400 * time + 150 * time**2))
    options = {"fmin": 150.0, "hop_length": 4, "output": "magnitude"}
    whole, sliced = InvertibleCQT(8000, **options)(wave), InvertibleCQT(8000, **options, slice_length=16384)(wave)
    # Measured 3e-3, of the bins' own grid in a whole of 40960 samples and in a slice of 16384.
    assert (whole[20:, 200:9800] - sliced[20:, 200:9800]).abs().max() < 1e-2 * whole.max()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 16, 64]) | st.integers(0, 150), min_size=1, max_size=9),
    leading=st.sampled_from([(), (2,), (2, 1), (0,)]),
    transition=st.sampled_from([2, 8, 32]),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_any_chunks_give_the_whole_and_the_signal_back(cuts, leading, transition, dtype):
    cqt = small_slices(transition=transition)
    wave = torch.randn(*leading, sum(cuts), dtype=dtype)
    frames, samples, state, back = [], [], None, None
    for chunk in wave.split(cuts, -1):
        out, state = cqt.stream(chunk, state)
        frames.append(out)
        seen = sum(part.shape[-1] for part in frames)
        assert seen == max(0, (state.read - cqt.latency) // cqt.hop_length + 1)
    frames.append(cqt.flush(state)[0])
    for out in frames:
        now, back = cqt.inverse_stream(out, back)
        samples.append(now)
    samples = torch.cat([*samples, cqt.inverse_flush(back)[0]], -1)
    streamed, whole = torch.cat(frames, -1), cqt(wave)
    assert streamed.shape == whole.shape and samples.shape[-1] >= wave.shape[-1]
    if wave.numel():
        assert apart(streamed, whole) <= TOLERANCE[dtype]
        assert apart(samples[..., : wave.shape[-1]], wave) <= 5 * TOLERANCE[dtype]
        assert samples[..., wave.shape[-1] :].abs().sum() <= 1e-4


def test_a_slice_does_not_depend_on_what_follows():
    cqt = small_slices()
    wave = torch.randn(500, dtype=torch.float64)
    longer = torch.nn.functional.pad(wave, (0, 300))
    count = cqt.frames(500)
    assert apart(cqt(longer)[..., :count], cqt(wave)) < 1e-13


def test_the_state_of_a_stream_stays_small():
    cqt = small_slices()
    _, state = cqt.stream(torch.randn(20_000))
    assert state.samples.untyped_storage().nbytes() <= 4 * 64 * 2
    assert state.frames.untyped_storage().nbytes() <= 8 * 2 * cqt.n_bins * 64 * 2


@pytest.mark.parametrize("form", ["matrix", "octaves", "slices"])
def test_gradients(form):
    def make(output):
        if form == "slices":
            return small_slices(output=output, transition=8)
        options = {} if form == "octaves" else {"hop_length": 2}
        return InvertibleCQT(1000, fmin=60.0, bins_per_octave=4, layout=form, output=output, **options)

    wave = torch.randn(2, 35, dtype=torch.float64, requires_grad=True)
    for output in ("complex", "magnitude"):
        layer = make(output)
        assert torch.autograd.gradcheck(lambda x, layer=layer: tuple(layer(x)) if form == "octaves" else layer(x), wave)
    layer = make("complex")
    assert torch.autograd.gradcheck(lambda x: layer.inverse(layer(x), 35), wave)
    silence = torch.zeros(2, 75, requires_grad=True)
    for output in ("magnitude", "power", "phase"):
        shown = make(output)(silence)
        sum(part.sum() for part in (shown if form == "octaves" else [shown])).backward()
        assert torch.isfinite(silence.grad).all()


@forms
def test_compiled_exported_and_under_autocast(form):
    cqt = FORMS[form](8000)

    def there_and_back(wave):
        return cqt.inverse(cqt(wave), wave.shape[-1])

    torch.compiler.reset()
    _bands._tables.cache_clear()  # so that tables are made inside the trace
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    for length in (1000, 1700):
        wave = torch.randn(2, length)
        assert apart(compiled(wave), wave) <= 1e-6
    _bands._tables.cache_clear()
    with torch.inference_mode():
        exported = torch.export.export(cqt, (wave,)).module()
    learning = wave.clone().requires_grad_()
    for ours, theirs in zip(exported(wave), cqt(learning), strict=True):
        assert torch.equal(ours, theirs)
    cqt.inverse(cqt(learning), 1700).sum().backward()  # the tables were made in inference mode
    with torch.autocast("cpu", torch.bfloat16):
        back = there_and_back(wave)
    assert back.dtype == torch.float32 and apart(back, wave) <= 1e-6


def test_slices_are_exported_with_any_length():
    cqt = FORMS["slices"](8000)
    shapes = ({0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("samples", min=5000, max=10**6)},)
    exported = torch.export.export(
        cqt, (torch.randn(2, 7000),), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    wave = torch.randn(3, 12345)
    assert torch.equal(exported(wave), cqt(wave))


def test_the_kept_tables_are_few():
    for length in range(1000, 40000, 500):
        InvertibleCQT(8000, layout="octaves")(torch.zeros(length))
    info = _bands._tables.cache_info()
    assert info.currsize <= 8


@settings(derandomize=True, deadline=None, max_examples=200)
@given(count=st.integers(1, 10**7))
def test_buckets(count):
    size = _bands.bucket(count)
    assert count <= size <= count * 9 / 8 + 1 and _bands.bucket(size) == size
    assert _bands.bucket(torch.tensor([count])).tolist() == [size]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fmin": 0}, "fmin=0 Hz must be greater than 0"),
        ({"fmax": 5000}, r"fmax=5000 Hz is above the Nyquist frequency of sample_rate=8000 Hz \(4000 Hz\)"),
        ({"fmin": 300, "fmax": 200}, "fmin=300 Hz must lie at or below fmax=200 Hz"),
        ({"fmin": 2500}, "fmin=2500 Hz must lie at or below .*2000 Hz"),
        ({"hop_length": 0}, "hop_length=0 samples is not positive"),
        ({"hop_length": 64}, "hop_length=64 samples is too long for the widest band .* give at most 1[0-9]"),
        ({"layout": "octave"}, "layout='octave' is unknown; did you mean 'octaves'"),
        ({"layout": "octaves", "hop_length": 4}, "belong to layout='matrix'"),
        (
            {"slice_length": 1000},
            r"slice_length=1000 samples is no multiple of 4 \* hop_length = 64; the nearest is 1024",
        ),
        ({"slice_length": 1024, "transition": 7}, "transition=7 samples must be even"),
        ({"slice_length": 1024, "transition": 600}, "at most slice_length // 2 = 512"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=f"InvertibleCQT: .*{message}"):
        InvertibleCQT(8000, **options)


def test_a_slice_too_short_for_the_lowest_band():
    with pytest.warns(
        UserWarning, match="slice_length=1024 .* band at fmin=100 Hz .* give a slice of 2769 samples or more"
    ):
        InvertibleCQT(8000, fmin=100.0, slice_length=1024)


def test_bad_input():
    cqt, octaves, sliced = FORMS["matrix"](8000), FORMS["octaves"](8000), FORMS["slices"](8000)
    with pytest.raises(TypeError, match=r"int16; .*divide by 32768"):
        cqt(torch.zeros(100, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"stream|whole signal at once; InvertibleCQT\(\.\.\., slice_length"):
        cqt.stream(torch.zeros(100))
    assert "slice_length=..." in cqt.stream_obstacle and sliced.stream_obstacle is None
    with pytest.raises(TypeError, match=r"coefficients came as torch\.float32; give those of output='complex'"):
        cqt.inverse(torch.zeros(cqt.n_bins, 10))
    with pytest.raises(ValueError, match=rf"came as \[3, 10\]; give \[\.\.\., {cqt.n_bins}, frames\]"):
        cqt.inverse(torch.zeros(3, 10, dtype=torch.complex64))
    with pytest.raises(ValueError, match="span less than length=999"):
        cqt.inverse(cqt(torch.zeros(500)), 999)
    with pytest.raises(ValueError, match="needs length"):
        octaves.inverse(octaves(torch.zeros(500)))
    with pytest.raises(ValueError, match="are not those of 999 samples"):
        octaves.inverse(octaves(torch.zeros(500)), 999)
    with pytest.raises(ValueError, match="layout='octaves' has a number of frames for each octave"):
        octaves.frames(100)
    with pytest.raises(ValueError, match="not those of whole slices"):
        sliced.inverse(sliced(torch.zeros(500))[..., :-1])
    with pytest.raises(ValueError, match="flush needs the state"):
        sliced.flush(None)
    _, state = sliced.stream(torch.zeros(2, 100))
    with pytest.raises(ValueError, match="does not continue a stream"):
        sliced.stream(torch.zeros(3, 100), state)
    with pytest.raises(ValueError, match="inverse_flush before all frames"):
        sliced.inverse_flush(None)


def test_nan_stays_nan():
    wave = torch.randn(9000)
    wave[4000] = float("nan")
    assert FORMS["matrix"](8000)(wave).isnan().all()  # one transform of the whole signal
    bad = FORMS["slices"](8000)(wave).isnan().any(0).any(0)
    assert bad.any() and not bad.all()


def test_export_of_the_whole_has_a_fixed_length_and_says_so():
    layer, wave = InvertibleCQT(8000, fmin=200.0, output="magnitude"), torch.randn(3, 3000)
    batch, samples = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("samples", min=2048, max=10**6)
    with pytest.raises(ValueError, match="InvertibleCQT: the filters of the whole signal depend on its length"):
        torch.export.export(layer, (wave,), dynamic_shapes=({0: batch, 1: samples},))
    exported = torch.export.export(layer, (wave,), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(wave[:2]), layer(wave[:2]), rtol=0, atol=1e-6)


def test_nothing_learns_and_it_says_why():
    InvertibleCQT(8000, trainable=())
    for names in (("windows",), "windows"):
        with pytest.raises(ValueError, match=r"trainable=.*nothing learns here, because the inverse.*use CQT\("):
            InvertibleCQT(8000, trainable=names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("layout", ["matrix", "octaves"])
def test_onnx_of_the_whole_with_any_batch(layout):
    """At a length whose FFTs are of powers of two; onnxruntime's own of 12288 points, say, are off by 3e-4."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = InvertibleCQT(8000, fmin=110.0, layout=layout, output="magnitude")
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        layer, (torch.randn(2, 4096),), dynamo=True, verbose=False, dynamic_shapes=({0: batch},)
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    wave = torch.randn(3, 4096)
    ours = session.run(None, {session.get_inputs()[0].name: wave.numpy()})
    theirs = layer(wave)
    theirs = [theirs] if layout == "matrix" else theirs
    peak = max(float(part.abs().max()) for part in theirs)
    # The octaves have FFTs of other sizes than powers of two.
    for part, expected in zip(ours, theirs, strict=True):
        assert np.abs(part - expected.numpy()).max() <= (1e-6 if layout == "matrix" else 5e-5) * peak
