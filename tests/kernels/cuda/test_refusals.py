"""What the Triton backend refuses, and life without Triton."""

import subprocess
import sys

import pytest
import torch

from temporal.kernels import dilated, use
from temporal.kernels.adaptive import adaptive
from temporal.kernels.adaptive_late import adaptive_late
from temporal.kernels.cuba import cuba
from temporal.kernels.delayed import delayed_linear
from temporal.kernels.delayed import operator as delayed
from temporal.kernels.lif import lif
from temporal.neurons import functional

OPERATORS = (lif, cuba, adaptive, adaptive_late)


def on_gpu(dtype=torch.float32):
    """What a refusal looks at: there is no GPU here to hold a tensor."""

    class Stand:
        device = torch.device("cuda")

    stand = Stand()
    stand.dtype = dtype
    return stand


def test_a_cpu_tensor_is_refused_with_the_backends_that_can():
    with (
        use("cuda"),
        pytest.raises(
            NotImplementedError, match="lif: backend 'cuda' needs a CUDA tensor, x is on cpu; use: cpu, reference"
        ),
    ):
        functional.lif(torch.zeros(2, 1, 3), decay=0.5)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_reasons(operator, monkeypatch):
    refuses = operator.backends.refusals["cuda"]
    assert refuses(on_gpu(torch.float64), None) == "computes in float32, x is float64"
    assert refuses(on_gpu(), torch.zeros(3, 3)) == "has no recurrent weights"
    monkeypatch.setattr("temporal.kernels._scan.operator.find_spec", lambda name: None)
    assert refuses(on_gpu(), None) == "needs the package triton, which is not installed"
    monkeypatch.setattr("temporal.kernels._scan.operator.find_spec", lambda name: object())
    assert refuses(on_gpu(), None) is None
    assert next(iter(operator.backends.refusals)) == "cuda", "the first backend that can is taken"


def test_delayed_synapses(monkeypatch):
    """A GPU's own tensors are refused as well where the kernels do not compute what is asked."""
    refuses = delayed._BACKENDS.refusals["cuda"]

    def reason(history=(), **of_others):
        tensors = [torch.empty(shape, device="meta") for shape in ((30, 2, 4), (3, 4), (3, 4), ())]
        tensors = [Stand(tensor, dtype=of_others.get("dtype", torch.float32)) for tensor in tensors]
        if history:
            tensors[0] = Stand(torch.empty(history, device="meta"))
        return refuses(*tensors, None, 24, "gaussian")

    class Stand:
        """There is no GPU here to hold a tensor."""

        device = torch.device("cuda")

        def __init__(self, tensor, dtype=torch.float32):
            self.shape, self.dtype, self.numel = tensor.shape, dtype, tensor.numel

    monkeypatch.setattr(delayed, "find_spec", lambda name: object())
    assert reason() is None
    assert reason(dtype=torch.float64) == reason(dtype=torch.bfloat16) == "computes in float32"
    assert reason(history=(1 << 20, 1 << 10, 4)) == "cannot count so many rows or synapses"
    with monkeypatch.context() as autocast:
        autocast.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
        assert reason() == "leaves autocast to torch's convolution"
    monkeypatch.setattr(delayed, "find_spec", lambda name: None)
    assert reason() == "needs the package triton, which is not installed"
    assert next(iter(delayed._BACKENDS.refusals)) == "cuda", "the first backend that can is taken"
    with (
        use("cuda"),
        pytest.raises(NotImplementedError, match="needs a CUDA tensor, the history is on cpu; use: cpu, ref"),
    ):
        delayed_linear(torch.zeros(30, 2, 4), torch.zeros(3, 4), torch.zeros(3, 4), 0.5, max_delay=24)


def test_causal_convolutions(monkeypatch):
    """Depthwise and dense, not in groups."""
    refuses = dilated._BACKENDS.refusals["cuda"]

    def reason(weight, groups):
        stand = on_gpu()
        stand.shape, stand.numel = (9, 2, 4), lambda: 72
        return refuses(stand, torch.empty(weight, device="meta"), None, 1, groups)

    monkeypatch.setattr(dilated, "find_spec", lambda name: object())
    assert reason((4, 1, 3), 4) is reason((5, 4, 3), 1) is None
    assert reason((4, 2, 3), 2) == "has dense and depthwise kernels, not 2 groups of 4 channels into 4"


def test_everything_imports_and_runs_without_triton():
    program = """
import sys
sys.modules["triton"] = None
import torch
import temporal.benchmarks.kernels
from temporal.neurons import functional
x = torch.ones(3, 1, 2, requires_grad=True)
functional.lif(x, decay=0.5)[0].sum().backward()
assert x.grad is not None and not any(name.startswith("triton.") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
