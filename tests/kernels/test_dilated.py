"""Causal dilated convolutions: the reference against sums written out, every backend against the reference."""

import math
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import use
from temporal.kernels.dilated import ACTIVATIONS, _dense, _little, causal_conv, causal_conv_stream

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def tensors(steps, batch, inputs, outputs, taps, dilation=1, groups=1, *, bias=True, history=False, seed=0):
    """x, weight, bias and history in float64; sums of K I products of about unit size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x, weight = draw(steps, batch, inputs), draw(outputs, inputs // groups, taps) / (taps * inputs / groups) ** 0.5
    past = draw((taps - 1) * dilation, batch, inputs)
    return x, weight, draw(outputs) if bias else None, past if history else None


def written_out(x, weight, bias, history, dilation, groups):
    """The sum, term by term."""
    (steps, batch, _), (outputs, of_group, taps) = x.shape, weight.shape
    y = x.new_zeros(steps, batch, outputs) if bias is None else bias.expand(steps, batch, outputs).clone()
    past = 0 if history is None else len(history)
    for t in range(steps):
        for o in range(outputs):
            first = o // (outputs // groups) * of_group
            for k in range(taps):
                before = t - (taps - 1 - k) * dilation
                if before < 0 and history is None:
                    continue
                source = x[before] if before >= 0 else history[past + before]
                y[t, :, o] += source[:, first : first + of_group] @ weight[o, :, k]
    return y


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 4, 4), (3, 5, 1), (6, 4, 2), (4, 8, 4)])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (3, 2), (4, 3)])
def test_the_reference_is_the_sum(taps, dilation, inputs, outputs, groups, bias, history):
    given = tensors(7, 2, inputs, outputs, taps, dilation, groups, bias=bias, history=history)
    y = causal_conv(*given[:3], dilation=dilation, groups=groups, history=given[3])
    torch.testing.assert_close(y, written_out(*given, dilation, groups), rtol=1e-12, atol=1e-12)


@every_activation
def test_activations_are_those_of_torch(activation):
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 1e4, 0.0, torch.inf, torch.nan])]).view(-1, 1, 1)
    one = torch.ones(1, 1, 1)
    truth = ACTIVATIONS[activation](x.double())
    # The polynomial of the normal distribution is within 1.5e-7, times x; the others to some units in the last place.
    torch.testing.assert_close(
        causal_conv(x, one, activation=activation).double(), truth, rtol=1e-6, atol=2e-6, equal_nan=True
    )
    x = x[:-2].clone()
    grads = []
    for kind in (x, x.double()):
        kind.requires_grad_()
        y = causal_conv(kind, one.to(kind.dtype), activation=activation)
        grads += torch.autograd.grad(y.sum(), kind)
    torch.testing.assert_close(grads[0].double(), grads[1], rtol=1e-6, atol=2e-6)


def both(given, dilation, groups, activation="none", needs=(True,) * 4):
    """Values and gradients on the CPU in float32, and of the reference in float64; and that they agree."""
    found = []
    for dtype, backend in ((torch.float32, "cpu"), (torch.float64, "reference")):
        inputs = [None if t is None else t.to(dtype).requires_grad_(n) for t, n in zip(given, needs, strict=True)]
        with use(backend):
            y = causal_conv(*inputs[:3], dilation=dilation, groups=groups, activation=activation, history=inputs[3])
            weight = torch.linspace(-1, 2, y.numel(), dtype=dtype).reshape(y.shape)
            wanted = [t for t in inputs if t is not None and t.requires_grad]
            found.append([y.detach(), *(torch.autograd.grad(y, wanted, weight) if wanted else ())])
    for ours, true in zip(*found, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == true.shape and ours.is_contiguous()
        # Sums of some hundred float32 products, of which each rounds by 6e-8, relative to the largest; a sum of n numbers of
        # size 1 that cancels has the rounding of its terms, which grows as their root.
        floor = 1e-2 * max(1, given[0].shape[0] * given[0].shape[1]) ** 0.5
        error = (ours.double() - true).abs().max() / true.abs().max().clamp_min(floor) if ours.numel() else 0
        assert error < 4e-6, error


# Fewer channels than a vector, whole vectors, vectors that overlap; few taps and, where phases are packed, many; fewer steps
# than the kernel is long; strides below and above the rows of a tile.
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (2, 5), (9, 1), (9, 7), (40, 1), (40, 3)])
@pytest.mark.parametrize("shape", [(61, 1, 6), (37, 3, 32), (90, 1, 20), (5, 2, 50), (1, 1, 33), (130, 4, 16)], ids=str)
def test_depthwise(shape, taps, dilation, history):
    steps, batch, channels = shape
    both(tensors(steps, batch, channels, channels, taps, dilation, channels, history=history), dilation, channels)


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(("taps", "dilation"), [(8, 1), (9, 4), (40, 1), (21, 2)])
@pytest.mark.parametrize("shape", [(400, 2, 36), (700, 1, 16)], ids=str)
def test_depthwise_windows(shape, taps, dilation, history, activation):
    """Many rows behind those that look back before the first, and some left over."""
    steps, batch, channels = shape
    given = tensors(steps, batch, channels, channels, taps, dilation, channels, history=history)
    both(given, dilation, channels, activation)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_meets_its_own_outputs_alone(value):
    x, weight, *_ = tensors(300, 2, 20, 20, 9, 1, 20)
    x[150, 1, 3] = value
    spoilt = ~causal_conv(x, weight, groups=20, dilation=3).isfinite()
    expected = torch.zeros_like(spoilt)
    expected[150:175:3, 1, 3] = True
    assert spoilt.equal(expected)


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (2, 5), (9, 1), (9, 7), (40, 3)])
@pytest.mark.parametrize(
    "shape", [(61, 1, 6, 5), (37, 3, 17, 20), (400, 2, 16, 16), (5, 9, 8, 3), (1, 1, 1, 7)], ids=str
)
@pytest.mark.parametrize("columns", [0, 1 << 18])
def test_dense(columns, shape, taps, dilation, history, monkeypatch):
    """As an image of one line or several, and in columns."""
    monkeypatch.setattr(_dense, "_COLUMNS", columns)
    monkeypatch.setattr(_dense, "_NARROW", 0 if not columns else 4)
    monkeypatch.setattr(_little, "_NUMBERS", 0)
    steps, batch, inputs, outputs = shape
    both(tensors(steps, batch, inputs, outputs, taps, dilation, history=history), dilation, 1)


@every_activation
@pytest.mark.parametrize("taps", [3, 40])
@pytest.mark.parametrize("groups", [1, 24])
@pytest.mark.parametrize("history", [False, True])
def test_activations_and_their_gradients(history, groups, taps, activation):
    both(tensors(70, 2, 24, 24, taps, 1, groups, history=history), 1, groups, activation)
    both(tensors(70, 2, 24, 24, taps, 1, groups, history=history, bias=False), 1, groups, activation)


def test_a_dense_activation_in_blocks():
    both(tensors(3000, 2, 8, 96, 3), 1, 1, "silu")


@pytest.mark.parametrize("groups", [1, 20])
@pytest.mark.parametrize("wanted", range(4))
def test_one_gradient_alone(wanted, groups):
    needs = tuple(k == wanted for k in range(4))
    both(tensors(30, 2, 20, 20, 5, 2, groups, history=True), 2, groups, "tanh", needs)


# A serial loop, the library's product; a state that is copied with the step, and a large one; none.
@every_activation
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "taps", "dilation", "groups"),
    [(1, 6, 5, 3, 2, 1), (3, 7, 7, 4, 1, 7), (2, 40, 50, 9, 3, 1), (2, 80, 80, 40, 4, 80), (1, 5, 5, 1, 1, 1)],
)
def test_one_step_and_its_state(batch, inputs, outputs, taps, dilation, groups, history, activation):
    x, weight, bias, past = (
        None if t is None else t.float()
        for t in tensors(4, batch, inputs, outputs, taps, dilation, groups, history=history)
    )
    rest = {"dilation": dilation, "groups": groups, "activation": activation}
    before = torch.zeros((taps - 1) * dilation, batch, inputs) if past is None else past
    for offset in (None, bias):
        whole, state = causal_conv(x, weight, offset, history=past, **rest), past
        for t in range(4):
            # Neither the step nor the state need lie in one piece.
            step = x.transpose(0, 2).contiguous().transpose(0, 2)[t : t + 1]
            y, state = causal_conv_stream(step, weight, offset, history=state, **rest)
            torch.testing.assert_close(y, whole[t : t + 1], rtol=0, atol=2e-6)  # sums of 360 products of size 1/20
            assert torch.equal(state, torch.cat([before, x[: t + 1]])[t + 1 :])
            state = state.transpose(0, 2).contiguous().transpose(0, 2)


def test_a_step_keeps_nan_and_is_differentiated_where_wanted():
    weight, history = torch.ones(3, 1, 4), torch.zeros(3, 1, 3)
    history[1, 0, 2] = torch.nan
    y, state = causal_conv_stream(torch.ones(1, 1, 3), weight, groups=3, history=history)
    assert torch.isnan(y).flatten().tolist() == [False, False, True] and torch.isnan(state).sum() == 1
    weight, x = torch.randn(5, 3, 4, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
    y, state = causal_conv_stream(x, weight)
    of_x, of_weight = torch.autograd.grad(y.sum() + state.sum(), (x, weight))
    torch.testing.assert_close(of_x[0], (weight[:, :, -1].sum(0) + 1).expand(2, 3))
    torch.testing.assert_close(of_weight[:, :, -1], x[0].sum(0).expand(5, 3))


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_little_work_and_much_of_it_give_the_same(limit, monkeypatch):
    """Both ways, on the same sizes; that one is taken that pays."""
    monkeypatch.setattr(_little, "_NUMBERS", limit)
    taken, run = [], _little.F.linear
    monkeypatch.setattr(_little.F, "linear", lambda *given: taken.append(limit) or run(*given))
    for history in (False, True):
        both(tensors(300, 4, 24, 40, 9, 2, history=history), 2, 1, "tanh")
    assert bool(taken) == bool(limit)


@given(
    st.integers(1, 60), st.integers(1, 4), st.integers(1, 40), st.integers(1, 30), st.integers(1, 9), st.booleans(),
    st.booleans(), st.sampled_from(list(ACTIVATIONS)),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_sizes(steps, batch, channels, taps, dilation, depthwise, history, activation):
    groups = channels if depthwise else 1
    both(
        tensors(steps, batch, channels, channels, taps, dilation, groups, history=history), dilation, groups, activation
    )


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_gradcheck(activation, groups):
    given = [t.requires_grad_() for t in tensors(5, 2, 4, 4, 3, 2, groups, history=True)]

    def call(x, weight, bias, history):
        return causal_conv(x, weight, bias, dilation=2, groups=groups, activation=activation, history=history)

    assert torch.autograd.gradcheck(call, given)


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4), (0, 0, 4)], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_nothing(groups, shape):
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(4, 4 // groups, 3, requires_grad=True)
    y = causal_conv(x, weight, groups=groups, dilation=2)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape and not weight.grad.any()


@pytest.mark.parametrize("groups", [1, 20])
def test_strides_and_threads_change_nothing(groups):
    wide, weight = torch.randn(20, 400, 3, 2), torch.randn(20, 20 // groups, 30)
    x = wide[..., 0].permute(1, 2, 0)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for one in (x, x.contiguous()):
                one = one.clone(memory_format=torch.preserve_format).requires_grad_()
                y = causal_conv(one, weight, groups=groups, activation="relu")
                results.append((y.detach(), *torch.autograd.grad(y.sum(), one)))
    finally:
        torch.set_num_threads(threads)
    # A depthwise sum has one order; a dense one is the library's, which may divide it by threads.
    tolerance = 0 if groups > 1 else 1e-5
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=tolerance, atol=10 * tolerance)


def test_nan_stays_where_it_is():
    x = torch.randn(50, 2, 20)
    x[20, 1, 3] = torch.nan
    for taps in (3, 40):
        for groups, weight, channels in ((20, torch.ones(20, 1, taps), 3), (1, torch.ones(7, 20, taps), slice(None))):
            hit = torch.isnan(causal_conv(x, weight, groups=groups, activation="relu"))
            expected = torch.zeros_like(hit)
            expected[20 : 20 + taps, 1, channels] = True
            assert torch.equal(hit, expected)


def test_many_python_threads_at_once():
    x, weight = torch.randn(300, 4, 32), torch.randn(32, 1, 30)
    expected, found = causal_conv(x, weight, groups=32), []
    workers = [threading.Thread(target=lambda: found.append(causal_conv(x, weight, groups=32))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(torch.equal(one, expected) for one in found)


# opcheck itself looks at .grad of the tensors it makes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
@pytest.mark.parametrize("groups", [1, 20])
def test_operators_are_well_formed(groups, activation):
    given = [t.float().requires_grad_() for t in tensors(30, 2, 20, 20, 5, 2, groups, history=True)]
    torch.library.opcheck(torch.ops.temporal.causal_conv.default, (*given, 2, groups, activation, True))
    given = [t.detach() for t in given]
    torch.library.opcheck(
        torch.ops.temporal.causal_conv.default, (*given[:2], None, None, 2, groups, activation, False)
    )


@pytest.mark.parametrize("groups", [1, 20])
def test_compiled_whole(groups):
    x, weight, bias, _ = (
        None if t is None else t.float().requires_grad_() for t in tensors(30, 2, 20, 20, 5, 2, groups)
    )

    def call(x, weight, bias):
        return causal_conv(x, weight, bias, dilation=2, groups=groups, activation="gelu")

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    results = [
        (f(x, weight, bias), *torch.autograd.grad(f(x, weight, bias).sum(), (x, weight, bias)))
        for f in (compiled, call)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


def test_a_backend_that_is_changed_between_the_passes():
    given = [t.float().requires_grad_() for t in tensors(30, 2, 20, 20, 5, 2, 20, history=True)]
    y = causal_conv(*given[:3], dilation=2, groups=20, activation="silu", history=given[3])
    expected = torch.autograd.grad(y.sum(), given, retain_graph=True)
    with use("reference"):
        torch.testing.assert_close(torch.autograd.grad(y.sum(), given), expected, rtol=1e-5, atol=1e-5)


def test_transforms_and_export_take_the_plain_form():
    x, weight = torch.randn(3, 9, 2, 4), torch.randn(4, 1, 3)
    mapped = torch.func.vmap(lambda one: causal_conv(one, weight, groups=4))(x)
    torch.testing.assert_close(mapped[1], causal_conv(x[1], weight, groups=4), rtol=1e-5, atol=1e-6)

    class Layer(torch.nn.Module):
        def forward(self, x):
            return causal_conv(x, torch.ones(4, 1, 3), groups=4)

    program = torch.export.export(Layer(), (x[0],))
    assert not any("temporal" in str(node.target) for node in program.graph.nodes)


def test_refusals():
    x, weight = torch.randn(9, 2, 6), torch.randn(4, 3, 3)
    with use("cpu"):
        with pytest.raises(NotImplementedError, match="not 2 groups of 6 channels into 4; use: reference"):
            causal_conv(x, weight, groups=2)
        with pytest.raises(
            NotImplementedError, match=r"very long depthwise kernels, x is torch.float64; use: reference"
        ):
            causal_conv(x.double(), torch.randn(4, 6, 3).double())
    with use("cuda"), pytest.raises(NotImplementedError, match="needs a CUDA tensor, x is on cpu"):
        causal_conv(x, torch.randn(4, 6, 3))
    for arguments, wrong in (
        ({"activation": "elu"}, "activation='elu' is not one of 'none', 'relu'"),
        ({"dilation": 0}, "dilation=0, groups=2: both are at least 1"),
        ({"groups": 4}, r"weight has shape \[4, 3, 3\], which does not fit x of 6 channels in groups=4"),
        ({"bias": torch.ones(3)}, r"bias has shape \[3\], expected \[4\]"),
        ({"history": torch.ones(2, 1, 6)}, r"history has shape \[2, 1, 6\], expected \[2, 2, 6\]"),
    ):
        with pytest.raises(ValueError, match=wrong):
            causal_conv(x, weight, **{"groups": 2, **arguments})
    with pytest.raises(ValueError, match=r"right are \[T, B, I\]"):
        causal_conv(x[0], weight, groups=2)
    with pytest.raises(TypeError, match=r"weight is torch.float64 on cpu, x is torch.float32 on cpu: they must agree"):
        causal_conv(x, weight.double(), groups=2)
    with pytest.raises(TypeError, match=r"weight is torch\.float32 on meta"):
        causal_conv(x, weight.to("meta"), groups=2)


def test_no_second_derivative_but_in_float64():
    x, weight = torch.randn(9, 2, 4, requires_grad=True), torch.randn(4, 1, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(causal_conv(x, weight, groups=4).square().sum(), x, create_graph=True)
    if grad.requires_grad:
        with pytest.raises(RuntimeError, match="no second derivatives"):
            grad.sum().backward()
    given = [t.requires_grad_() for t in tensors(4, 1, 2, 2, 2, groups=2)[:2]]
    assert torch.autograd.gradgradcheck(lambda x, w: causal_conv(x, w, groups=2, activation="tanh"), given)
