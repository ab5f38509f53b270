"""Frames and their overlap-add: against loops over the definition, each other's adjoint, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels.framing import frame, overlap_add

property_test = settings(derandomize=True, deadline=None, max_examples=60)


def cut(wave, window, hop, left, right):
    """The definition of ``frame``, for one signal."""
    padded = [0.0] * left + wave.tolist() + [0.0] * max(right, 0)
    padded = padded[max(-left, 0) : len(padded) + min(right, 0)]
    n_fft = len(window)
    starts = range(0, len(padded) - n_fft + 1, hop)
    rows = [[w * x for w, x in zip(window.tolist(), padded[s : s + n_fft], strict=True)] for s in starts]
    return torch.tensor(rows, dtype=wave.dtype).reshape(-1, n_fft)


def added(frames, window, hop, left, samples):
    """The definition of ``overlap_add``, for one signal."""
    wave = [0.0] * samples
    for t, row in enumerate(frames.tolist()):
        for n, value in enumerate(row):
            if 0 <= t * hop + n - left < samples:
                wave[t * hop + n - left] += value * float(window[n])
    return torch.tensor(wave, dtype=frames.dtype)


@property_test
@given(
    samples=st.integers(0, 60), n_fft=st.integers(1, 20), hop=st.integers(1, 25), left=st.integers(-5, 20),
    right=st.integers(-5, 30), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_frames_are_cut_as_defined(samples, n_fft, hop, left, right, dtype):
    left = max(left, -samples)
    right = max(right, -samples - min(left, 0))
    wave, window = torch.randn(samples, dtype=dtype), torch.randn(n_fft, dtype=dtype)
    result = frame(wave, window, hop, left=left, right=right)
    assert result.dtype == dtype and result.is_contiguous()
    assert torch.equal(result, cut(wave, window, hop, left, right))  # one product each, exact


@property_test
@given(
    count=st.integers(0, 9), n_fft=st.integers(1, 20), hop=st.integers(1, 25), left=st.integers(-30, 20),
    samples=st.integers(0, 90), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_frames_are_added_as_defined(count, n_fft, hop, left, samples, dtype):
    frames, window = torch.randn(count, n_fft, dtype=dtype), torch.randn(n_fft, dtype=dtype)
    result = overlap_add(frames, window, hop, left=left, samples=samples)
    assert result.dtype == dtype and result.is_contiguous() and result.shape == (samples,)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14  # the order of at most 20 sums near 1
    torch.testing.assert_close(result, added(frames, window, hop, left, samples), rtol=0, atol=tolerance)


@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (0,), (2, 0)])
def test_leading_dimensions_and_strides(leading):
    wave = torch.randn(*leading, 50, 2)[..., 0]
    window = torch.randn(8)
    frames = frame(wave, window, 3, left=4, right=4)
    assert frames.shape == (*leading, 17, 8)
    for one, its in zip(wave.reshape(-1, 50), frames.reshape(-1, 17, 8), strict=True):
        assert torch.equal(its, cut(one, window, 3, 4, 4))
    back = overlap_add(frames.transpose(-1, -2).contiguous().transpose(-1, -2), window, 3, left=4, samples=50)
    assert back.shape == wave.shape
    for one, its in zip(frames.reshape(-1, 17, 8), back.reshape(-1, 50), strict=True):
        torch.testing.assert_close(its, added(one, window, 3, 4, 50), rtol=0, atol=2e-6)


def test_each_is_the_others_adjoint_in_float32():
    wave, window, weights = torch.randn(2, 301), torch.randn(32), torch.randn(2, 32, 32)
    wave.requires_grad_()
    frames = frame(wave, window, 10, left=16, right=16)
    frames.backward(weights[:, : frames.shape[1]])
    expected = overlap_add(weights[:, : frames.shape[1]], window, 10, left=16, samples=301)
    torch.testing.assert_close(wave.grad, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("left", "right", "samples"), [(0, 0, 23), (3, 5, 20), (2, -4, 21)])
def test_gradients(left, right, samples):
    wave = torch.randn(2, samples, dtype=torch.float64, requires_grad=True)
    window = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: frame(x, w, 4, left=left, right=right), (wave, window))
    frames = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    for length in (17, 22, 30):
        assert torch.autograd.gradcheck(
            lambda f, w, length=length: overlap_add(f, w, 4, left=left, samples=length), (frames, window)
        )


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_operators_are_well_formed():
    window = torch.rand(8)
    torch.library.opcheck(torch.ops.temporal.frame.default, (torch.randn(2, 50, requires_grad=True), window, 3, 4, 4))
    frames = torch.randn(2, 9, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.temporal.overlap_add.default, (frames, window, 3, 4, 25))


def test_compiled_whole_and_exported_plain():
    window = torch.rand(8)

    def call(x):
        return overlap_add(frame(x, window, 3, left=4, right=4), window, 3, left=4, samples=50)

    wave = torch.randn(2, 50, requires_grad=True)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(wave), call(wave))
    assert torch.equal(*(torch.autograd.grad(f(wave).sum(), wave)[0] for f in (compiled, call)))
    second = torch.autograd.grad(call(wave).square().sum(), wave, create_graph=True)[0]
    assert torch.autograd.grad(second.sum(), wave)[0].isfinite().all()

    class Both(torch.nn.Module):
        def forward(self, x):
            return call(x)

    program = torch.export.export(Both(), (wave.detach(),))
    assert not any("temporal" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(wave), call(wave), rtol=1e-5, atol=1e-5)
