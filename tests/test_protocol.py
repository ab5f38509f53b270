"""One suite that every layer over time joins with one line of LAYERS: streams, neighbours, dtypes, pickles, gradients.

How equal a stream must be to the whole depends on what the layer computes, and is said in its line:

- ``exact``: element-wise scans, bit for bit;
- ``grid``: a matrix product over spikes: exact on weights and inputs whose float32 sums are exact in any order (weights on
  a grid of 2^-10, inputs 0 or 1, partial sums under 16), and within 1e-5 on random ones;
- ``close``: a product over real numbers, whose sums depend on the shape: within 1e-5.
"""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import temporal
from temporal.convolution import CausalConv1d
from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays
from temporal.layers._protocol import call, role
from temporal.neurons import ALIF, IF, LI, LIF, AdLIF, CubaLIF, ParametricLIF, Recurrent
from temporal.neurons.functional import lif

FEATURES = 6


def spiking_network() -> nn.Module:
    return temporal.Sequential(
        DelayedLinear(FEATURES, 5, 4).round_(),
        LIF(2.0),
        temporal.Dropout(0.3),
        DelayedLinear(5, FEATURES, 3).round_(),
        LI(2.0),
    )


class Bands(nn.Module):
    """A layer over [T, B, channels, positions], of which the suite's features are 2 channels at 3 positions."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = self.layer(x.unflatten(2, (2, FEATURES // 2)), state)
        return y.flatten(2), state


@dataclass
class Case:
    name: str
    make: Callable[[], nn.Module]
    equal: str = "close"
    smooth: bool = True  # the gradient is that of the forward pass, so gradcheck applies (a surrogate's is not)

    def __str__(self) -> str:
        return self.name


LAYERS = [
    Case("BatchNorm", lambda: temporal.BatchNorm(FEATURES), "exact"),
    Case("Dropout", lambda: temporal.Dropout(0.5), "exact"),
    Case("TimeDistributed", lambda: temporal.TimeDistributed(nn.Linear(FEATURES, FEATURES)), "grid"),
    Case("LIF", lambda: LIF(2.0), "exact", smooth=False),
    Case("LIF-soft", lambda: LIF(torch.linspace(1.5, 9, FEATURES), v_reset=None, size=FEATURES), "exact", smooth=False),
    Case("IF", lambda: IF(), "exact", smooth=False),
    Case("LI", lambda: LI(3.0), "exact"),
    Case("ParametricLIF", lambda: ParametricLIF(3.0), "exact", smooth=False),
    Case("CubaLIF", lambda: CubaLIF(2.0, 3.0), "exact", smooth=False),
    Case("ALIF", lambda: ALIF(2.0, 9.0, size=FEATURES, trainable=("adaptation",)), "exact", smooth=False),
    Case("AdLIF", lambda: AdLIF(2.0, 9.0, a=2.0, b=5.0), "exact", smooth=False),
    Case("AdLIF-Euler", lambda: AdLIF(2.0, 9.0, a=2.0, b=5.0, symplectic=False), "exact", smooth=False),
    Case("Recurrent-LIF", lambda: Recurrent(LIF(2.0), FEATURES), "exact", smooth=False),
    Case("Recurrent-AdLIF", lambda: Recurrent(AdLIF(2.0, 9.0, a=2.0, b=5.0), FEATURES), "exact", smooth=False),
    Case("Recurrent-LI", lambda: Recurrent(LI(3.0), FEATURES, gain=0.3)),
    Case("DelayedLinear", lambda: DelayedLinear(FEATURES, FEATURES, 7)),
    Case("DelayedLinear-whole", lambda: DelayedLinear(FEATURES, FEATURES, 7).round_(), "grid"),
    Case("DelayedLinear-triangle", lambda: DelayedLinear(FEATURES, FEATURES, 7, kernel="triangle")),
    Case("DelayedLinear-axon", lambda: DelayedLinear(FEATURES, FEATURES, 7, per="axon")),
    Case("DelayedLinear-dendrite", lambda: DelayedLinear(FEATURES, FEATURES, 7, per="dendrite")),
    Case("DelayedLinear-axon-4", lambda: DelayedLinear(FEATURES, FEATURES, 7, per="axon", synapses=4)),
    Case("DelayedLinear-dendrite-2", lambda: DelayedLinear(FEATURES, FEATURES, 7, per="dendrite", synapses=2)),
    Case("DelayedLinear-0", lambda: DelayedLinear(FEATURES, FEATURES, 0), "grid"),
    Case(
        "DelayedLinear-straight", lambda: DelayedLinear(FEATURES, FEATURES, 7, kernel="rounded"), "grid", smooth=False
    ),
    Case("DelayedLinear-pruned", lambda: DelayedLinear(FEATURES, FEATURES, 7).prune_(0.5)),
    Case("DelayedConv1d", lambda: Bands(DelayedConv1d(2, 2, 3, 7, padding=1))),
    Case("DelayedConv1d-whole", lambda: Bands(DelayedConv1d(2, 2, 2, 5, padding="same").round_()), "grid"),
    Case("RecurrentDelays", lambda: RecurrentDelays(LIF(2.0), FEATURES, 5), smooth=False),
    Case(
        "RecurrentDelays-whole",
        lambda: RecurrentDelays(LIF(2.0), FEATURES, 7, min_delay=3).round_(),
        "grid",
        smooth=False,
    ),
    Case("RecurrentDelays-axon", lambda: RecurrentDelays(LI(3.0), FEATURES, 6, min_delay=2, per="axon", gain=0.3)),
    Case("Sequential", spiking_network, "grid", smooth=False),
    Case("CausalConv1d", lambda: CausalConv1d(FEATURES, FEATURES, 3, dilation=2, bias=False), "grid"),
    Case("CausalConv1d-depthwise", lambda: CausalConv1d(FEATURES, FEATURES, 5, groups=FEATURES, activation="silu")),
    Case("CausalConv1d-groups", lambda: CausalConv1d(FEATURES, FEATURES, 4, dilation=3, groups=2, activation="gelu")),
    Case("CausalConv1d-1", lambda: CausalConv1d(FEATURES, FEATURES, 1, activation="tanh")),
]

every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)


def run(layer: nn.Module, x: Tensor, state=None, lengths: Tensor | None = None):
    return call(layer, x, state, lengths, role(layer))


def built(case: Case, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(3)
    layer = case.make().to(dtype)
    for name, buffer in layer.named_buffers():  # a fresh BatchNorm's averages would hide a wrong one
        if name.endswith("running_mean"):
            buffer.uniform_(-1, 1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return layer.eval()


def on_the_grid(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((parameter * 1024).round() / 1024)
    return layer


def spikes(steps: int, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(steps, batch, FEATURES) < 0.4).to(dtype)


def streamed(layer: nn.Module, x: Tensor, cuts: list[int]):
    state, parts, start = None, [], 0
    for end in [*cuts, x.shape[0]]:
        y, state = run(layer, x[start:end], state)
        parts.append(y)
        start = end
    return torch.cat(parts), state


cuts_of_20 = st.lists(st.integers(0, 20), max_size=6).map(sorted)


@every_layer
@given(cuts=cuts_of_20)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_stream_equals_the_whole(case, cuts):
    layer = built(case)
    x = torch.randn(20, 3, FEATURES, generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        if case.equal == "grid":
            layer, exact_x = on_the_grid(layer), spikes(20, 3)
            torch.testing.assert_close(streamed(layer, exact_x, cuts)[0], run(layer, exact_x)[0], rtol=0, atol=0)
        whole, state = run(layer, x)
        parts, last_state = streamed(layer, x, cuts)
    tolerance = 0 if case.equal == "exact" else 1e-5
    torch.testing.assert_close(parts, whole, rtol=0, atol=tolerance)
    torch.testing.assert_close(last_state, state, rtol=0, atol=tolerance)


@every_layer
def test_a_stream_has_the_gradient_of_the_whole(case):
    """The state carries gradients as well: back-propagation through chunks is back-propagation through time."""
    grads = []
    for cuts in ([], [1, 7, 7, 13]):
        layer = built(case, torch.float64)
        x = torch.randn(20, 2, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2
        x.requires_grad_()
        y, _ = streamed(layer, x, cuts)
        y.square().sum().backward()
        grads.append([x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=1e-9)  # fp64: sums in another order


@every_layer
def test_neighbours_and_padding_do_not_matter(case):
    layer = built(case)
    lengths = torch.tensor([9, 4, 1, 7])
    x = torch.randn(9, 4, FEATURES)
    alone = [run(layer, x[:n, b : b + 1], lengths=lengths[b : b + 1])[0] for b, n in enumerate(lengths.tolist())]
    for padding in (0.0, 100.0):
        padded = x.clone()
        for b, n in enumerate(lengths.tolist()):
            padded[n:, b] = padding
        together, _ = run(layer, padded, lengths=lengths)
        for b, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(together[:n, b], alone[b][:, 0], rtol=0, atol=1e-5)


@every_layer
def test_the_future_does_not_matter(case):
    layer = built(case)
    x = torch.randn(12, 2, FEATURES)
    changed = x.clone()
    changed[8:] += 1
    torch.testing.assert_close(run(layer, changed)[0][:8], run(layer, x)[0][:8], rtol=0, atol=1e-6)


@every_layer
@pytest.mark.parametrize("shape", [(5, 1), (1, 3), (1, 1), (0, 2), (3, 0)], ids=str)
def test_small_inputs(case, shape):
    layer = built(case)
    y, state = run(layer, torch.randn(*shape, FEATURES))
    assert y.shape == (*shape, FEATURES)
    again, _ = run(layer, torch.randn(2, shape[1], FEATURES), state)
    assert torch.isfinite(again).all()


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_output_has_the_input_dtype(case, dtype):
    y, _ = run(built(case, dtype), torch.randn(4, 2, FEATURES, dtype=dtype))
    assert y.dtype == dtype


@every_layer
def test_autocast_stays_finite_and_near(case):
    layer, x = built(case), torch.randn(6, 2, FEATURES)
    plain, _ = run(layer, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = run(layer, x)
    assert torch.isfinite(y).all()
    if case.smooth:  # a spike may flip; a smooth output may not move beyond bfloat16's 3 digits
        torch.testing.assert_close(y.float(), plain, rtol=0.1, atol=0.1)


@every_layer
def test_no_tensor_is_left_behind_on_a_move(case):
    """On the meta device an operation with a forgotten CPU tensor raises."""
    layer = built(case).to("meta")
    y, _ = run(layer, torch.randn(4, 2, FEATURES, device="meta"))
    assert y.device.type == "meta" and y.shape == (4, 2, FEATURES)


@every_layer
def test_pickle_copy_and_state_dict_keep_everything(case):
    layer, x = built(case), torch.randn(5, 2, FEATURES)
    y, _ = run(layer, x)
    fresh = case.make().eval()
    fresh.load_state_dict(layer.state_dict())
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), fresh):
        torch.testing.assert_close(run(other, x)[0], y, rtol=0, atol=0)


@every_layer
def test_gradcheck(case):
    if not case.smooth:
        pytest.skip("a surrogate gradient is not the forward pass's: compared with SpikingJelly's instead")
    layer = built(case, torch.float64)
    x = torch.randn(4, 2, FEATURES, dtype=torch.float64, requires_grad=True)
    parameters = [p for p in layer.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda x, *_: run(layer, x)[0], (x, *parameters))


@every_layer
def test_compiles_in_one_graph(case):
    torch._dynamo.reset()
    layer, x = built(case), torch.randn(5, 2, FEATURES)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y, _ = call(compiled, x, None, None, role(layer))
    torch.testing.assert_close(y, run(layer, x)[0], rtol=0, atol=1e-6)


@every_layer
def test_the_documentation_says_shapes(case):
    kind = type(case.make())
    if kind.__module__.startswith("temporal"):
        for section in ("Shape:", ">>> "):
            assert section in (kind.__doc__ or ""), f"{kind.__name__} has no {section!r} in its docstring"


@pytest.mark.parametrize("seed", range(8))
def test_with_real_weights_a_first_difference_lies_on_the_threshold(seed):
    """A product's sums depend on the shape by 1e-6 or so; a spike may flip only where the membrane is that near."""
    torch.manual_seed(seed)
    delayed, decay = DelayedLinear(64, 64, 9).round_(), 0.5
    x = (torch.rand(200, 16, 64) < 0.3).float()
    with torch.no_grad():
        current, _ = run(delayed, x)
        pieces, _ = streamed(delayed, x, [1, 2, 17, 60, 61, 133])
        s, v, _ = lif(current, decay=decay)
        s_pieces, _, _ = lif(pieces, decay=decay)
    assert 0.02 < s.mean() < 0.9, "the test needs spikes and silences"
    charged = current + decay * torch.cat([torch.zeros_like(v[:1]), v[:-1]])  # the membrane before it is reset
    differs = s != s_pieces
    first = differs & (differs.cumsum(0) == 1)
    assert (charged[first] - 1.0).abs().max() < 1e-5 if first.any() else (current - pieces).abs().max() < 1e-4
