"""Powers and bands of spectra: against their definition, torch.stft, and their own gradients."""

import math
import threading

import pytest
import torch

from temporal.kernels import use
from temporal.kernels.bands import _plan, bands, magnitude, spans, spectrogram, step_of


def bank_of(count, bins, dtype=torch.float32):
    """Overlapping triangles over the bins, the last band empty."""
    centres = torch.linspace(0, bins - 1, count, dtype=torch.float64)[:, None]
    width = 1.5 * bins / count
    bank = (1 - (torch.arange(bins) - centres).abs() / width).clamp_min(0)
    bank[-1] = 0
    return bank.to(dtype)


def truth(wave, window, bank, hop, left, right, power, log):
    """In float64, by torch.stft."""
    padded = torch.nn.functional.pad(wave.double(), (left, right))
    spectra = torch.stft(padded, len(window), hop, window=window.double(), center=False, return_complex=True)
    result = spectra.abs() ** power
    result = result if bank is None else bank.double() @ result
    return result if log is None else torch.log(result + log)


def error(ours, true):
    return float((ours.double() - true).abs().max() / true.abs().max())


def test_spans_hold_all_that_is_not_zero():
    bank = torch.tensor([[0, 1.0, 0, 2.0, 0], [0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0, 3.0]])
    assert spans(bank).tolist() == [[1, 4], [0, 1], [0, 1], [4, 5]]
    assert spans(bank).dtype == torch.int32


@pytest.mark.parametrize("banded", [False, True])
@pytest.mark.parametrize("log", [None, 1e-6])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bands(dtype, power, log, banded):
    spectra = torch.randn(2, 3, 37, 33, dtype=dtype.to_complex())
    bank = bank_of(7, 33, dtype)
    result = bands(spectra, bank, spans=spans(bank) if banded else None, power=power, log=log)
    true = bank.double() @ (spectra.to(torch.complex128).abs() ** power).transpose(-1, -2)
    true = true if log is None else torch.log(true + log)
    assert result.dtype == dtype and result.shape == (2, 3, 7, 37)
    # Sums of at most 33 terms and one logarithm, relative to the largest.
    assert error(result, true) < (1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_magnitude(power):
    spectra = torch.randn(2, 19, 9, dtype=torch.complex64)
    result = magnitude(spectra, power=power)
    assert result.shape == (2, 9, 19)
    assert error(result, (spectra.to(torch.complex128).abs() ** power).transpose(-1, -2)) < 3e-7


@pytest.mark.parametrize("log", [None, 1e-5])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("n_fft", [64, 60, 31, 512])
@pytest.mark.parametrize("banded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectrogram(dtype, banded, n_fft, power, log):
    wave = torch.randn(3, 1000, dtype=dtype)
    window = torch.hann_window(n_fft, dtype=torch.float64).to(dtype)
    bank = bank_of(9, n_fft // 2 + 1, dtype) if banded else None
    left, right = n_fft // 2, n_fft - n_fft // 2
    result = spectrogram(
        wave,
        window,
        bank,
        17,
        spans=None if bank is None else spans(bank),
        left=left,
        right=right,
        power=power,
        log=log,
    )
    true = truth(wave, window, bank, 17, left, right, power, log)
    assert result.shape == true.shape and result.dtype == dtype
    if log is not None:  # a relative error of the power is an absolute one of its logarithm; the floor keeps it small
        result, true = result.exp(), true.exp()
    assert error(result, true) < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_gradients_in_float64(power):
    wave = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    window = torch.rand(8, dtype=torch.float64, requires_grad=True)
    bank = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)

    def call(wave, window, bank):
        return spectrogram(wave, window, bank, 5, left=4, right=4, power=power, log=0.1)

    assert torch.autograd.gradcheck(call, (wave, window, bank))


@pytest.mark.parametrize("banded", [True, False])
@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("log", [None, 1e-6])
def test_silence_has_finite_gradients(log, power, banded):
    wave = torch.zeros(1, 256, requires_grad=True)
    bank = bank_of(5, 33) if banded else None
    result = spectrogram(wave, torch.hann_window(64), bank, 16, power=power, log=log)
    assert result.allclose(torch.tensor(0.0 if log is None else math.log(log)))
    result.sum().backward()
    assert torch.equal(wave.grad, torch.zeros_like(wave))


@pytest.mark.parametrize("shape", [(0, 300), (2, 0, 300), (2, 10)])
def test_nothing(shape):
    bank = bank_of(5, 33)
    frames = 1 + (300 - 64) // 16 if shape[-1] == 300 else 0
    for wave in (torch.zeros(shape), torch.zeros(shape, requires_grad=True)):
        result = spectrogram(wave, torch.hann_window(64), bank, 16, spans=spans(bank), log=1e-6)
        assert result.shape == (*shape[:-1], 5, frames)
    torch.autograd.backward(result, torch.ones_like(result))
    assert wave.grad.shape == shape and not wave.grad.any()


def test_nan_stays_where_it_is():
    wave = torch.randn(1000)
    wave[500] = torch.nan
    bank = bank_of(5, 33)
    result = spectrogram(wave, torch.hann_window(64), bank, 16, spans=spans(bank))
    sees = torch.isnan(torch.ones(5)[:, None] * wave.unfold(0, 64, 16).sum(1))
    assert torch.equal(torch.isnan(result), sees)


@pytest.mark.parametrize("n_fft", [2, 4, 6, 10, 18, 30, 32, 48, 50, 90, 96, 160, 250, 400, 1000])
@pytest.mark.parametrize("log", [None, 1e-3])
@pytest.mark.parametrize("power", [2.0, 1.0])
def test_compiled_forward_and_backward_at_every_kind_of_length(n_fft, log, power):
    """All radices and orders of them, blocks of 16 frames and what is left, frames beyond both ends, gaps between frames."""
    assert _plan.plan(n_fft) is not None
    bins = n_fft // 2 + 1
    for banded, hop, left, right in ((True, max(1, n_fft // 3), n_fft // 2, n_fft), (False, n_fft + 3, 1, -2)):
        wave = torch.randn(2, 20 * n_fft + 7, dtype=torch.float64)
        window = torch.rand(n_fft, dtype=torch.float64) + 0.1
        bank = torch.rand(5, bins, dtype=torch.float64) if banded else None
        results = []
        for dtype, backend in ((torch.float32, "cpu"), (torch.float64, "reference")):
            x = wave.to(dtype).requires_grad_()
            with use(backend):
                y = spectrogram(
                    x, window.to(dtype), None if bank is None else bank.to(dtype), hop,
                    left=left, right=right, power=power, log=log,
                )  # fmt: skip
                grad = torch.linspace(-1, 2, y.numel(), dtype=dtype).reshape(y.shape)
                (back,) = torch.autograd.grad(y if log is None else y.exp(), x, grad)
            results.append((y.detach() if log is None else y.detach().exp(), back))
        (ours, gradient), (true, true_gradient) = results
        assert error(ours, true) < 1e-6
        # 1 / |X| of a magnitude that is nearly 0 is only as good as the magnitude.
        assert error(gradient, true_gradient) < (2e-6 if power == 2 else 1e-4)


@pytest.mark.parametrize("log", [None, 1e-3])
@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 9), (2, 35, 33), (3, 16, 17)])
def test_gradients_of_bands_of_spectra(shape, power, log):
    spectra, bank = torch.randn(shape, dtype=torch.complex128), torch.rand(4, shape[-1], dtype=torch.float64)
    for banded in (True, False):
        gradients = []
        for dtype in (torch.complex64, torch.complex128):
            x = spectra.to(dtype).requires_grad_()
            constant = bank.to(dtype.to_real())
            y = bands(x, constant, power=power, log=log) if banded else magnitude(x, power=power, log=log)
            gradients.append(torch.autograd.grad(y.sin().sum(), x)[0])
        ours, true = gradients
        assert float((ours - true).abs().max() / true.abs().max()) < 1e-5


def test_strides_and_threads_change_nothing():
    wave, window, bank = torch.randn(6, 3000, 2), torch.hann_window(128), bank_of(9, 65)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for x in (wave[..., 0], wave[..., 0].contiguous()):
                x = x.clone(memory_format=torch.preserve_format).requires_grad_()
                y = spectrogram(x, window, bank, 40, spans=spans(bank), left=64, right=64)
                results.append((y, torch.autograd.grad(y.sum(), x)[0]))
    finally:
        torch.set_num_threads(threads)
    for y, grad in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(grad, results[0][1])


def test_many_python_threads_at_once():
    wave, window = torch.randn(4, 4000), torch.hann_window(64)
    expected, found = spectrogram(wave, window, None, 16), []
    workers = [threading.Thread(target=lambda: found.append(spectrogram(wave, window, None, 16))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(torch.equal(one, expected) for one in found)


def test_constants_that_change_in_place_and_others_in_their_place():
    """What is kept between calls are views of the constants, not copies of them."""
    wave, bank = torch.randn(500), bank_of(5, 33)
    for _ in range(100):
        window = torch.rand(64)
        true = truth(wave, window, bank, 16, 0, 0, 2, None)
        assert error(spectrogram(wave, window, bank, 16), true) < 1e-6
        window.mul_(2)
        assert error(spectrogram(wave, window, bank, 16), 4 * true) < 1e-6


def test_the_same_constants_with_another_power_and_logarithm():
    """What is kept of them from call to call depends on both."""
    wave, window, bank = torch.rand(300), torch.hann_window(64), torch.rand(5, 33)
    for power, log in ((2.0, None), (1.0, None), (2.0, 1e-3), (2.0, 1.0), (2.0, None)):
        found = spectrogram(wave, window, bank, 16, power=power, log=log)
        with use("reference"):
            expected = spectrogram(wave, window, bank, 16, power=power, log=log)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_operators_are_well_formed():
    wave, window, bank = torch.randn(2, 300, requires_grad=True), torch.hann_window(32), bank_of(4, 17)
    given = (wave, window, bank, spans(bank), 8, 16, 16, 2.0, 1e-3)
    torch.library.opcheck(torch.ops.temporal.spectrogram.default, given)
    spectra = torch.randn(2, 20, 17, dtype=torch.complex64, requires_grad=True)
    torch.library.opcheck(torch.ops.temporal.bands.default, (spectra, bank, spans(bank), 2.0, None))
    torch.library.opcheck(torch.ops.temporal.bands.default, (spectra, None, None, 1.0, None))


def test_compiled_whole():
    wave, window, bank = torch.randn(2, 300, requires_grad=True), torch.hann_window(32), bank_of(4, 17)

    def call(x):
        return spectrogram(x, window, bank, 8, spans=spans(bank), left=16, right=16, log=1e-3)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(wave), call(wave))
    ours, plain = (torch.autograd.grad(f(wave).sum(), wave)[0] for f in (compiled, call))
    assert torch.equal(ours, plain)


def test_exported_it_is_plain_torch():
    class Mel(torch.nn.Module):
        def forward(self, x):
            bank = torch.ones(4, 17)
            return spectrogram(x, torch.ones(32), bank, 8, spans=spans(bank), left=16, right=16, log=1e-3)

    wave = torch.randn(2, 300)
    sizes = {0: torch.export.Dim("batch", min=1, max=100), 1: torch.export.Dim("length", min=64, max=10000)}
    program = torch.export.export(Mel(), (wave,), dynamic_shapes=(sizes,))
    assert not any("temporal" in str(node.target) for node in program.graph.nodes)
    for samples in (300, 777):
        wave = torch.randn(2, samples)
        torch.testing.assert_close(program.module()(wave), Mel()(wave), rtol=1e-5, atol=1e-5)


def test_refusals():
    wave, window = torch.randn(300), torch.hann_window(62)
    with use("cpu"):
        with pytest.raises(NotImplementedError, match="takes even n_fft of factors 2, 3 and 5, not 62; use: reference"):
            spectrogram(wave, window, None, 8)
        with pytest.raises(NotImplementedError, match=r"has powers 1 and 2, not 0.5"):
            spectrogram(wave, torch.ones(64), None, 8, power=0.5)
        with pytest.raises(NotImplementedError, match="gives no gradient of window or bank"):
            spectrogram(wave, torch.ones(64, requires_grad=True), None, 8)
        with pytest.raises(NotImplementedError, match=r"computes in torch.float32, not torch.float64"):
            spectrogram(wave.double(), torch.ones(64).double(), None, 8)
    wave.requires_grad_()
    (grad,) = torch.autograd.grad(spectrogram(wave, torch.ones(64), None, 8).sum(), wave, create_graph=True)
    if grad.requires_grad:
        with pytest.raises(RuntimeError, match="no second derivatives"):
            grad.sum().backward()


def test_vmap_takes_the_plain_form():
    wave, window = torch.randn(3, 300), torch.hann_window(64)
    mapped = torch.func.vmap(lambda x: spectrogram(x, window, None, 16))(wave)
    torch.testing.assert_close(mapped, spectrogram(wave, window, None, 16), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n_fft", [2, 4, 6, 8, 16, 48, 64, 128, 400, 512, 1024, 2048])
@pytest.mark.parametrize("log", [None, 1e-6])
@pytest.mark.parametrize("power", [2.0, 1.0])
def test_a_step_has_the_bits_of_the_whole(n_fft, log, power):
    """One frame goes a way of its own where n_fft is a power of two."""
    window, hop, bins = torch.rand(n_fft), n_fft // 3 + 1, n_fft // 2 + 1
    bank = torch.rand(7, bins)
    bank[:, : bins // 4] = bank[3, bins // 2 :] = 0
    for options in ({"bank": None, "spans": None}, {"bank": bank, "spans": spans(bank)}, {"bank": bank, "spans": None}):
        step = step_of(window, hop_length=hop, power=power, log=log, **options)
        for frames, start, over in ((1, 3, hop - 1), (1, 0, 0), (2, 1, 0), (16, 0, hop - 1)):
            wave = torch.randn(start + n_fft + (frames - 1) * hop + over)
            given, kept, after = step(wave[: n_fft // 2].clone(), wave[n_fft // 2 :].clone(), start)
            assert torch.equal(
                given, spectrogram(wave[start:], window, hop_length=hop, power=power, log=log, **options)
            )
            assert given.shape[-1] == frames
            place = start + frames * hop
            assert torch.equal(kept, wave[place:]) and after == max(0, place - wave.shape[-1])


def test_a_step_waits_for_its_frame():
    step = step_of(torch.ones(8), None, 4, spans=None, power=2.0, log=None)
    frames, kept, start = step(torch.arange(3.0), torch.arange(3.0, 7.0), 0)
    assert frames.shape == (5, 0) and kept.tolist() == list(range(7)) and start == 0
    frames, kept, start = step(kept, torch.ones(0), 11)
    assert frames.shape == (5, 0) and kept.shape == (0,) and start == 4
    assert step(torch.zeros(3), torch.zeros(8 + 16 * 4), 0) is None  # 17 frames


@pytest.mark.parametrize(
    "window, power",
    [(torch.ones(7), 2.0), (torch.ones(8), 1.5), (torch.ones(8).double(), 2.0), (torch.ones(16)[::2], 2.0)],
)
def test_there_is_no_step_for_everything(window, power):
    assert step_of(window, None, 4, spans=None, power=power, log=None) is None
