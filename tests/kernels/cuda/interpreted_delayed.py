"""The Triton kernels of delays under Triton's interpreter, against the reference in float64. Run by test_interpreter.py."""

import pytest
import torch

from temporal.kernels.delayed import delayed_linear, operator, reference
from temporal.kernels.delayed import shift as shifts
from temporal.kernels.delayed._live import felt, taps

pytest.importorskip("triton", reason="the interpreter of Triton, which is not installed")
from temporal.kernels.delayed import cuda

# Float32 sums of up to a hundred terms, in another order, and what the live taps leave out, 1e-6 of the largest share;
# gradients of delay and sigma divide by sigma and its square, and sigma's is a sum that nearly cancels.
CLOSE = {"y": 2e-6, "history": 2e-6, "weight": 2e-6, "delay": 1e-5, "sigma": 1e-4}


def check(found, truth, names):
    for name, one, other in zip(names, found, truth, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one.double(), other, rtol=0, atol=CLOSE[name] * scale)


def drawn(*shape, walls):
    """Off the walls and the triangles' kinks, where a rounding may decide on which side a delay lies."""
    return (torch.rand(shape) * 0.98 + 0.01) * walls


# Samples in one block and several, outputs too; several synapses; one step, one sample; no delay; taps in one group and two.
@pytest.mark.parametrize(
    ("shape", "kernel", "sigma"),
    [
        ((2, 33, 1, 17, 1, 4), "gaussian", 0.3),
        ((11, 3, 2, 5, 2, 10), "gaussian", 3.0),
        ((6, 4, 3, 3, 1, 8), "triangle", 0.3),
        ((1, 1, 3, 2, 1, 5), "rounded", 0.0),
        ((5, 3, 2, 4, 2, 6), "rounded", 0.0),
        ((260, 1, 2, 3, 1, 4), "gaussian", 0.25),
        ((5, 2, 3, 4, 1, 0), "gaussian", 0.5),
    ],
    ids=str,
)
def test_synapses(shape, kernel, sigma):
    steps, batch, inputs, outputs, synapses, max_delay = shape
    pairs = (outputs, inputs) + ((synapses,) if synapses > 1 else ())
    history, weight = torch.randn(max_delay + steps, batch, inputs), torch.randn(pairs)
    delay, width, grad = drawn(*pairs, walls=max_delay), torch.tensor(sigma), torch.randn(steps, batch, outputs)
    given = (history, weight, delay, width)
    leaves = [tensor.double().requires_grad_() for tensor in given]
    y = reference.delayed_product(leaves[0], reference.delay_kernel(*leaves[1:], max_delay, kernel))
    truth = (y, *torch.autograd.grad(y, leaves, grad.double(), materialize_grads=True))
    live = taps(sigma, max_delay, kernel)
    rest = (max_delay, kernel, live)
    of_history, of_parameters = cuda.backward(grad, *given, *rest[:2], felt(live, *rest[:2]), (True, True))
    check((cuda.forward(*given, *rest), of_history, *of_parameters), truth, CLOSE)
    assert cuda.backward(grad, *given, *rest, (True, False))[1] == (None, None, None)
    assert cuda.backward(grad, *given, *rest, (False, True))[0] is None


# Lags in one group and in several that overlap; neurons in two blocks; one step; no delay.
@pytest.mark.parametrize("shape", [(9, 1, 130, 10), (1, 1, 3, 5), (5, 3, 4, 0)], ids=str)
def test_shifts(shape):
    steps, batch, neurons, max_delay = shape
    history, share, grad = (
        torch.randn(size) for size in ((max_delay + steps, batch, neurons), (neurons, max_delay + 1), shape[:3])
    )
    leaves = [tensor.double().requires_grad_() for tensor in (history, share)]
    y = reference.delayed_shift(*leaves)
    truth = (y, *torch.autograd.grad(y, leaves, grad.double()))
    found = (cuda.shift(history, share), *cuda.shift_backward(grad, history, share, (True, True)))
    check(found, truth, ("y", "history", "weight"))
    assert [g.numel() for g in cuda.shift_backward(grad, history, share, (False, False))] == [0, 0]


def test_a_nan_stays_with_its_sample_and_the_steps_that_hear_it():
    history, weight, delay = torch.randn(18, 3, 4), torch.randn(5, 4), drawn(5, 4, walls=8)
    history[9, 1, 2] = torch.nan
    hit = cuda.forward(history, weight, delay, torch.tensor(0.4), 8, "gaussian", 5).isnan()
    assert hit[:, 1].any(0).all() and not hit[:, [0, 2]].any() and not hit[0].any()


@pytest.mark.parametrize("per", ["synapse", "additive"])
def test_a_layer_on_these_kernels(per, monkeypatch):
    """The operators as a GPU's tensors take them: live taps for synapses, shifts for axons and dendrites."""
    sizes = {"synapse": (4, 3), "additive": (7,)}
    history, weight, delay = torch.randn(11, 2, 3), torch.randn(4, 3), drawn(*sizes[per], walls=2)
    leaves = [tensor.requires_grad_() for tensor in (history, weight, delay)]

    def outcome():
        y = delayed_linear(*leaves, 0.3, max_delay=4, per=per)
        return y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))

    truth = outcome()
    for module in (operator, shifts):
        monkeypatch.setattr(module._BACKENDS, "choose", lambda *request: cuda)
    monkeypatch.setattr(operator, "_way", lambda *given, back: (taps(0.3, 4, "gaussian"), "taps", False))
    launched = []
    monkeypatch.setattr(
        cuda.Launch, "run", lambda launch, device, run=cuda.Launch.run: launched.append(run(launch, device))
    )
    torch.testing.assert_close(outcome(), truth, rtol=1e-4, atol=1e-5)
    assert len(launched) == (3 if per == "synapse" else 6)
