"""Odd input is served right, wrong input is refused in words: one table of neurons, on every backend of this machine.

A NaN current silences its neuron: no spike from then on, a membrane of NaN, gradients of NaN. An infinite current makes it
fire; a hard reset then ends it, a soft reset leaves the membrane infinite. Minus infinity silences. In each case no other
neuron and no other sample changes by a bit; in a ``Recurrent`` layer, whose neurons hear each other, no other sample.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from temporal.kernels import use
from temporal.neurons import ALIF, IF, LI, LIF, AdLIF, CubaLIF, ParametricLIF, Recurrent, functional

T, B, N = 24, 3, 4
NAN, INF = math.nan, math.inf


@dataclass
class Neuron:
    """One class or function: how it is made, and what its state holds."""

    name: str
    make: Callable[..., Callable]  # a function takes (x, state), too; keywords replace those of the neuron
    parts: tuple[str, ...] = ()  # of the state; () where it is one tensor
    state: str = "state"
    function: bool = False
    knobs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """The name that errors begin with."""
        return self.name.partition("-")[0]

    def new_state(self, *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
        state = tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in self.parts or "v")
        return state if self.parts else state[0]


def layer(name: str, make: Callable[..., nn.Module], *parts: str) -> Neuron:
    return Neuron(name, make, parts)


def function(name: str, call: Callable, *parts: str, state: str = "state", **knobs: Any) -> Neuron:
    owner = name.partition("-")[0]

    def make(**replaced: Any) -> Callable:
        return lambda x, state=None: call(x, state, **{**knobs, **replaced})

    assert call.__name__ == owner
    return Neuron(name, make, parts, state, True, knobs)


LAYERS = [
    layer("LIF", LIF),
    layer("LIF-soft", lambda **k: LIF(v_reset=None, **k)),
    layer("IF", IF),
    layer("ParametricLIF", ParametricLIF),
    layer("ALIF", lambda **k: ALIF(**{"tau": 2.0, "tau_adaptation": 9.0, **k}), "v", "w"),
    layer("AdLIF", lambda **k: AdLIF(**{"tau": 2.0, "tau_adaptation": 9.0, "a": 2.0, "b": 5.0, **k}), "v", "w"),
    layer(
        "AdLIF-Euler",
        lambda **k: AdLIF(**{"tau": 2.0, "tau_adaptation": 9.0, "a": 2.0, "b": 5.0, "symplectic": False, **k}),
        "v", "w", "w_next",
    ),
    layer("CubaLIF", CubaLIF, "v", "i"),
    layer("LI", LI),
]  # fmt: skip
FUNCTIONS = [
    function("lif", functional.lif, state="v", decay=0.5),
    function("lif-hard", functional.lif, state="v", decay=0.5, reset_to=0.25, detach_reset=False),
    function("li", functional.li, state="v", decay=0.5),
    function("cuba_lif", functional.cuba_lif, "v", "i", decay=0.5, i_decay=0.5, reset_to=0.0),
    function("alif", functional.alif, "v", "w", decay=0.5, w_decay=0.75, adaptation=0.5, reset_to=0.0),
    function("adlif", functional.adlif, "v", "w", decay=0.5, w_decay=0.75, a=1.0, b=2.0, reset_to=0.0),
    function(
        "adlif-Euler", functional.adlif, "v", "w", "w_next", decay=0.5, w_decay=0.75, a=1.0, b=2.0, symplectic=False
    ),
]
NEURONS = LAYERS + FUNCTIONS
LEARNED = {
    "LIF": ("tau", "v_threshold"),
    "LIF-soft": ("tau", "v_threshold"),
    "IF": ("v_threshold",),
    "ParametricLIF": ("v_threshold",),
    "ALIF": ("tau", "tau_adaptation", "adaptation", "v_threshold"),
    "AdLIF": ("tau", "tau_adaptation", "a", "b", "v_threshold"),
    "AdLIF-Euler": ("tau", "tau_adaptation", "a", "b", "v_threshold"),
    "CubaLIF": ("tau", "tau_synapse", "v_threshold"),
    "LI": ("tau",),
}
SPIKING = [neuron for neuron in NEURONS if neuron.owner not in ("LI", "li")]
RECURRENT = [Neuron(f"Recurrent-{n}", lambda n=n: Recurrent(n.make(), N)) for n in LAYERS]

every_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=str)
every_spiking_neuron = pytest.mark.parametrize("neuron", SPIKING, ids=str)
every_layer = pytest.mark.parametrize("neuron", LAYERS, ids=str)
recurrent_too = pytest.mark.parametrize("neuron", NEURONS + RECURRENT, ids=str)


@pytest.fixture(params=["reference", "cpu"])
def backend(request, neuron):
    """Every backend that runs here, where it has this neuron's operator."""
    with use(request.param):
        try:
            made(neuron)(torch.zeros(1, 1, N))
        except NotImplementedError as refusal:
            pytest.skip(str(refusal))
        yield request.param


def made(neuron: Neuron, **arguments: Any) -> Callable:
    torch.manual_seed(3)  # a recurrent layer has weights
    return neuron.make(**arguments)


def currents(*shape: int) -> Tensor:
    """Currents at which every neuron fires."""
    return torch.randn(shape or (T, B, N), generator=torch.Generator().manual_seed(5)) * 2 + 1


def kind(value: Any) -> str:
    return type(value).__name__


def tensors(result: Any) -> list[Tensor]:
    """All tensors that a neuron returned, however deep."""
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors(part)]


def loss(outputs: list[Tensor]) -> Tensor:
    """A weighted sum of everything that was returned, in which no NaN of one element reaches another's gradient."""
    generator = torch.Generator().manual_seed(7)
    return sum((y * torch.randint(-8, 9, y.shape, generator=generator)).sum() for y in outputs)


def run(neuron: Callable, x: Tensor, state: Any = None) -> tuple[list[Tensor], Tensor]:
    """What the neuron returns, and the gradient of x."""
    x = x.detach().requires_grad_()
    outputs = tensors(neuron(x, state))
    return [y.detach() for y in outputs], torch.autograd.grad(loss(outputs), x)[0]


def equal(ours: Any, theirs: Any) -> None:
    """Bit for bit, NaN for NaN."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


VIEWS = {
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features first": lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    "every second step": lambda x: x.repeat_interleave(2, 0)[::2],
    "every second neuron": lambda x: torch.stack([x, x], -1)[..., 0],
    "part of the neurons": lambda x: torch.cat([x, x], -1)[..., :N],
    "one sample for all": lambda x: x[:, :1].expand(-1, B, -1),
    "one step for all": lambda x: x[:1].expand(T, -1, -1),
}


@recurrent_too
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_currents_of_any_strides(neuron, backend, view):
    strided = view(currents())
    dense = strided.clone(memory_format=torch.contiguous_format)
    assert not strided.is_contiguous() and dense.is_contiguous()
    equal(run(made(neuron), strided), run(made(neuron), dense))


@every_neuron
def test_a_state_of_any_strides(neuron, backend):
    x, state = currents(), [currents(B, N) for _ in tensors(neuron.new_state(B, N))]
    turned = [s.t().contiguous().t() for s in state]
    results = [run(made(neuron), x, tuple(s) if neuron.parts else s[0]) for s in (state, turned)]
    assert not turned[0].is_contiguous()
    equal(*results)


@recurrent_too
@pytest.mark.parametrize("shape", [(0, B, N), (T, 0, N), (0, 0, N), (T, B, 0), (0, 0, 0)], ids=str)
def test_nothing_in_an_axis(neuron, backend, shape):
    if neuron in RECURRENT and shape[2] == 0:
        pytest.skip("a recurrent layer has at least one neuron")
    outputs, grad = run(made(neuron), currents(*shape))
    assert outputs[0].shape == grad.shape == shape
    last = outputs[2:] if neuron.function and neuron.owner != "li" else outputs[1:]
    assert {state.shape for state in last} == {shape[1:]}


@recurrent_too
def test_gradients_of_any_strides(neuron, backend):
    """As autograd hands them back: transposed, and one number for all from a plain sum."""
    x = currents().requires_grad_()
    y = made(neuron)(x)[0]
    for dense in (currents(), torch.ones(T, B, N)):
        strided = dense.transpose(0, 2).contiguous().transpose(0, 2)
        equal(*(torch.autograd.grad(y, x, grad, retain_graph=True)[0] for grad in (dense, strided)))
    equal(torch.autograd.grad(y.sum(), x, retain_graph=True)[0], torch.autograd.grad(y, x, torch.ones(T, B, N))[0])


@pytest.mark.parametrize("neuron", FUNCTIONS, ids=str)
def test_knobs_of_any_strides(neuron, backend):
    for knob in given(neuron):
        values = 0.5 + torch.rand(2 * N) / 4
        for strided in (values[::2], values[:1].expand(N)):
            equal(*(run(made(neuron, **{knob: k}), currents()) for k in (strided, strided.clone().contiguous())))


@every_neuron
def test_no_step_leaves_the_state_alone(neuron, backend):
    state = neuron.new_state(B, N)
    for n, part in enumerate(tensors(state)):
        part.copy_(currents(B, N) + n)
        part.requires_grad_()
    outputs = tensors(made(neuron)(currents(0, B, N), state))
    last = outputs[-len(tensors(state)) :]
    equal(last, tensors(state))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(last, tensors(state), strict=True))
    ones = torch.autograd.grad(sum(y.sum() for y in outputs), tensors(state))
    equal(list(ones), [torch.ones(B, N) for _ in ones])


@every_layer
@pytest.mark.parametrize("shape", [(0, B, N), (T, 0, N)], ids=str)
def test_nothing_teaches_nothing(neuron, backend, shape):
    layer = made(neuron, size=N, trainable=LEARNED[neuron.name])
    spikes, _ = layer(torch.zeros(shape))
    for grad in torch.autograd.grad(spikes.sum(), list(layer.parameters())):
        equal(grad, torch.zeros(N))


@recurrent_too
def test_one_step_at_a_time(neuron, backend):
    """Equal to all at once, gradients too, which autograd adds up in another order."""
    call = made(neuron)
    x = currents().requires_grad_()
    whole = call(x)
    state, parts = None, []
    for t in range(T):
        y, *_, state = call(x[t : t + 1], state)
        parts.append(y)
    equal([torch.cat(parts), *tensors(state)], [whole[0], *tensors(whole[-1])])
    grads = [torch.autograd.grad(loss([y]), x)[0] for y in (torch.cat(parts), whole[0])]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def spoilt(value: float) -> Tensor:
    """Currents of which one is ``value``: that of sample 1 and neuron 2 at step 10."""
    x = currents()
    x[10, 1, 2] = value
    return x


@recurrent_too
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_spoilt_current_stays_in_its_neuron(neuron, backend, value):
    """Outputs, states and gradients of every other neuron and sample are the same bits."""
    (outputs, grad), (expected, clean_grad) = run(made(neuron), spoilt(value)), run(made(neuron), currents())
    spared = torch.ones(B, N, dtype=torch.bool)
    spared[1 if neuron in RECURRENT else (1, 2)] = False
    for ours, theirs in zip([*outputs, grad], [*expected, clean_grad], strict=True):
        equal(ours[..., spared], theirs[..., spared])
        if ours.dim() == 3 and ours is not grad:
            equal(ours[:10], theirs[:10])  # nor is the past changed


@every_spiking_neuron
@pytest.mark.parametrize("value", [NAN, -INF])
def test_a_neuron_that_met_nan_is_silent(neuron, backend, value):
    outputs, grad = run(made(neuron), spoilt(value))
    spikes, v = outputs[0], outputs[-len(neuron.parts or "v")]
    assert spikes.isfinite().all() and (spikes[10:, 1, 2] == 0).all() and spikes.any()
    assert (~v.isfinite()).nonzero().tolist() == [[1, 2]]  # the state says why
    if neuron.function:
        assert not outputs[1][10:, 1, 2].isfinite().any()
    if value is NAN:
        assert grad[10:, 1, 2].isnan().all()


@every_spiking_neuron
def test_a_neuron_that_met_infinity_fires(neuron, backend):
    outputs, _ = run(made(neuron), spoilt(INF))
    spikes, v = outputs[0], outputs[-len(neuron.parts or "v")]
    assert spikes.isfinite().all() and spikes[10, 1, 2] == 1
    if neuron.owner in ("CubaLIF", "cuba_lif"):  # the synaptic current stays infinite
        assert (spikes[10:, 1, 2] == 1).all()
    elif neuron.name in ("LIF-soft", "lif"):
        assert (spikes[10:, 1, 2] == 1).all() and v[1, 2] == INF
    elif neuron.name in ("ALIF", "adlif-Euler"):  # a soft reset, and an adaptation that follows: infinity less infinity
        assert not v[1, 2].isfinite()
    else:
        equal(outputs, run(made(neuron), spoilt(1e4))[0])  # a hard reset forgets what made the neuron fire


@pytest.mark.parametrize("neuron", [n for n in NEURONS if n not in SPIKING], ids=str)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_an_integrator_keeps_what_it_met(neuron, backend, value):
    (v, last), _ = run(made(neuron), spoilt(value))
    equal(v[10:, 1, 2], torch.full((T - 10,), value))
    assert (~last.isfinite()).nonzero().tolist() == [[1, 2]]


@every_layer
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_spoilt_current_does_not_reach_what_other_neurons_learn(neuron, backend, value):
    layer = made(neuron, size=N, trainable=LEARNED[neuron.name])
    parameters = list(layer.parameters())
    grads = [torch.autograd.grad(loss(tensors(layer(x))), parameters) for x in (spoilt(value), currents())]
    kept = torch.arange(N) != 2
    assert len(grads[0]) == len(LEARNED[neuron.name]) + (neuron.name == "ParametricLIF")
    for ours, theirs in zip(*grads, strict=True):
        equal(ours[kept], theirs[kept])
        assert theirs.isfinite().all()


WRONG_X = [
    (torch.zeros(T, B, N, dtype=torch.int64), TypeError, r"x is torch\.int64"),
    (torch.zeros(T, B, N, dtype=torch.uint8), TypeError, r"x is torch\.uint8"),
    (torch.zeros(T, B, N, dtype=torch.bool), TypeError, r"x is torch\.bool"),
    (torch.zeros(T, B, N, dtype=torch.complex64), TypeError, r"x is torch\.complex64"),
    (torch.zeros(N), ValueError, rf"x has shape \[{N}\]; expected \[T, B, "),
    (torch.zeros(()), ValueError, r"x has shape \[\]; expected \[T, B, "),
]


@recurrent_too
@pytest.mark.parametrize(("x", "error", "message"), WRONG_X, ids=[m for _, _, m in WRONG_X])
def test_what_is_no_current(neuron, x, error, message):
    with pytest.raises(error, match=f"{neuron.owner}: {message}"):
        made(neuron)(x)


@every_neuron
@pytest.mark.parametrize("x", [None, 1.0, [[[0.0]]], (torch.zeros(T, B, N),), np.zeros((T, B, N))], ids=kind)
def test_what_is_no_tensor(neuron, x):
    with pytest.raises(TypeError, match=rf"{neuron.owner}: x must be a tensor \[T, B, .*\], got {kind(x)}"):
        made(neuron)(x)


def wrong_states(neuron: Neuron) -> list[tuple[Any, type, str]]:
    """A state, the error, and its message after the owner's name."""
    first = f"{neuron.state}.v" if neuron.parts else neuron.state
    fields = ", ".join(neuron.parts)
    shape = rf"{first} has shape \[{{}}\], but x of shape \[{T}, {B}, {N}\] needs \[{B}, {N}\]; a state belongs to one"
    other = rf"state must be None or the tensors \({fields}\), got" if neuron.parts else "must be a tensor"
    several = neuron.new_state(B, N) if neuron.parts else (torch.zeros(B, N), torch.zeros(B, N))
    return [
        (neuron.new_state(B + 1, N), ValueError, shape.format(f"{B + 1}, {N}")),
        (neuron.new_state(1, N), ValueError, shape.format(f"1, {N}")),
        (neuron.new_state(B, N + 1), ValueError, shape.format(f"{B}, {N + 1}")),
        (neuron.new_state(N), ValueError, shape.format(f"{N}")),
        (neuron.new_state(T, B, N), ValueError, shape.format(f"{T}, {B}, {N}")),
        (neuron.new_state(B, N, dtype=torch.float64), TypeError, rf"{first} is torch\.float64, .* in torch\.float32"),
        (neuron.new_state(B, N, dtype=torch.bfloat16), TypeError, rf"{first} is torch\.bfloat16, .* in torch\.float32"),
        (neuron.new_state(B, N, dtype=torch.int64), TypeError, rf"{first} is torch\.int64"),
        (neuron.new_state(B, N, device="meta"), ValueError, f"{first} is on meta, x is on cpu"),
        (torch.zeros(B, N) if neuron.parts else several, TypeError, other),
        ((*several, torch.zeros(B, N)), TypeError, other),
        ([*several], TypeError, other),
        (0.0, TypeError, other),
        (several[:1], TypeError, other),
        ((None, *several[1:]), TypeError, other),
    ]


@every_neuron
@pytest.mark.parametrize("case", range(15))
def test_a_state_of_another_batch_dtype_device_or_kind(neuron, case):
    state, error, message = wrong_states(neuron)[case]
    with pytest.raises(error, match=f"{neuron.owner}: .*{message}"):
        made(neuron)(torch.zeros(T, B, N), state)


@every_neuron
def test_every_part_of_a_state_is_looked_at(neuron):
    wrong = {
        rf"has shape \[1, {N}\]": torch.zeros(1, N),
        r"is torch\.float64": torch.zeros(B, N, dtype=torch.float64),
        "is on meta, x is on cpu": torch.zeros(B, N, device="meta"),
    }
    for n, part in enumerate(neuron.parts):
        for message, tensor in wrong.items():
            state = list(neuron.new_state(B, N))
            state[n] = tensor
            with pytest.raises((ValueError, TypeError), match=rf"{neuron.owner}: state\.{part} {message}"):
                made(neuron)(torch.zeros(T, B, N), tuple(state))


def test_a_state_of_another_neuron():
    x = torch.zeros(T, B, N)
    lif, cuba, adlif, euler, recurrent = (
        layer(x)[1] for layer in (LIF(), CubaLIF(), AdLIF(), AdLIF(symplectic=False), Recurrent(LIF(), N))
    )
    for layer, states in {
        LIF(): (cuba, adlif, recurrent),
        CubaLIF(): (lif, euler),
        AdLIF(): (lif, euler),
        AdLIF(symplectic=False): (lif, adlif),
        Recurrent(LIF(), N): (lif, euler, (lif,), [lif, lif], (lif, None)),
    }.items():
        for state in states:
            with pytest.raises(TypeError, match=rf"{kind(layer)}: state must be"):
                layer(x, state)


def test_the_state_of_a_recurrent_layer():
    x, layer = torch.zeros(T, B, N), Recurrent(LIF(), N)
    v, sent = layer(x)[1]
    for state, message in (
        ((v, sent[:1]), rf"Recurrent: the state's last output has shape \[1, {N}\], but x .* needs \[{B}, {N}\]"),
        ((v, sent.to("meta")), "Recurrent: the state is on meta, x is on cpu"),
        ((v[:1], sent), rf"LIF: state has shape \[1, {N}\]"),
        ((v.to("meta"), sent), "LIF: state is on meta, x is on cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x, state)


@every_layer
def test_parameters_on_another_device(neuron):
    layer = made(neuron, size=N, trainable=LEARNED[neuron.name])
    for there, here in (("cpu", "meta"), ("meta", "cpu")):
        with pytest.raises(ValueError, match=rf"{neuron.owner}: \w+ is on {there}, x is on {here}; move one of them"):
            layer.to(there)(torch.zeros(T, B, N, device=here))


def given(neuron: Neuron) -> list[str]:
    """The knobs of a function that are numbers."""
    names = [name for name, value in neuron.knobs.items() if not isinstance(value, bool)]
    return [*names, "threshold"] if neuron.owner != "li" else [*names, "gain", "bias"]


@pytest.mark.parametrize("neuron", FUNCTIONS, ids=str)
def test_knobs_that_do_not_fit(neuron):
    x = torch.zeros(T, B, N)
    for knob in given(neuron):
        named = rf"{neuron.owner}: {'reset' if knob == 'reset_to' else knob}\w*"
        with pytest.raises(ValueError, match=f"{named} is on meta, x is on cpu"):
            made(neuron, **{knob: torch.zeros(N, device="meta")})(x)
        for shape in ((N + 1,), (B, N), (1, N), (2, 1)):  # a knob never enlarges the features
            listed = ", ".join(map(str, shape))
            with pytest.raises(ValueError, match=rf"{named} has shape \[{listed}\], which does not broadcast"):
                made(neuron, **{knob: torch.full(shape, 0.5)})(x)
        with pytest.raises(ValueError, match=f"{named} is NaN"):
            made(neuron, **{knob: NAN})(x)
    if neuron.owner != "li":
        with pytest.raises(ValueError, match=rf"{neuron.owner}: give reset_by .* or reset_to .* not both"):
            made(neuron, reset_by=1.0, reset_to=0.0)(x)


@every_neuron
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_may_mix_where_nothing_is_lost(neuron, dtype):
    """Parameters per neuron of one dtype beside currents of another: the state's dtype, which follows x, decides."""
    name = {"IF": "v_threshold", "ParametricLIF": "v_threshold"}.get(neuron.name, "decay" if neuron.function else "tau")
    value = 0.5 if name == "decay" else 2.0
    x = currents().to(dtype)
    expected = tensors(made(neuron, **{name: value})(x))
    for of in (torch.float64, torch.float32, torch.bfloat16):
        ours = tensors(made(neuron, **{name: torch.full((N,), value, dtype=of)})(x))
        equal([y.detach() for y in ours], [y.detach() for y in expected])
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        readout = neuron.owner in ("LI", "li")
        assert [y.dtype for y in ours] == [wide if readout else dtype, *[wide for _ in ours[1:]]]
    if dtype != torch.float32:
        message = rf"{neuron.owner}: .* beside x of {dtype} it is kept in {wide}"
        with pytest.raises(TypeError, match=message):
            made(neuron)(x, neuron.new_state(B, N, dtype=torch.float32 if wide == torch.float64 else dtype))


TIME_CONSTANTS = [
    (LIF, "tau"),
    (ParametricLIF, "init_tau"),
    (ALIF, "tau"),
    (ALIF, "tau_adaptation"),
    (AdLIF, "tau"),
    (AdLIF, "tau_adaptation"),
    (CubaLIF, "tau"),
    (CubaLIF, "tau_synapse"),
    (LI, "tau"),
]


@pytest.mark.parametrize(("neuron", "name"), TIME_CONSTANTS)
@pytest.mark.parametrize("tau", [1.0, 0.5, 0.0, -2.0, NAN, INF, -INF])
def test_time_constants_of_at_most_one_step(neuron, name, tau):
    with pytest.raises(ValueError, match=rf"{neuron.__name__}: {name}.* must be above 1"):
        neuron(**{name: tau})
    for one_of_many in (torch.tensor([2.0, tau]), torch.tensor([2.0, tau], dtype=torch.float64)):
        with pytest.raises(ValueError, match=rf"{neuron.__name__}: {name} must be above 1 step .*for every neuron"):
            neuron(**{name: one_of_many})
    if name in LEARNED[neuron.__name__]:
        with pytest.raises(ValueError, match=rf"{neuron.__name__}: {name} must be above 1 step"):
            neuron(**{name: tau}, size=2, trainable=(name,))


@pytest.mark.parametrize(("neuron", "name"), TIME_CONSTANTS)
@pytest.mark.parametrize("tau", ["2", None, [2.0], 2j])
def test_time_constants_that_are_no_numbers(neuron, name, tau):
    with pytest.raises(TypeError, match=rf"{neuron.__name__}: {name} must be a number or a tensor"):
        neuron(**{name: tau})


@every_layer
def test_parameters_of_the_wrong_size(neuron):
    owner, parameter = neuron.owner, {"ParametricLIF": "init_tau", "IF": "v_threshold"}.get(neuron.owner, "tau")
    with pytest.raises(ValueError, match=rf"{owner}: {parameter} has shape \[3\], which disagrees with size=4"):
        made(neuron, **{parameter: torch.full((3,), 2.0)}, size=N)
    for name in LEARNED[neuron.name]:
        if name not in (parameter, "tau"):
            with pytest.raises(ValueError, match=rf"{owner}: {name} has shape \[2\], which disagrees with"):
                made(neuron, **{parameter: torch.full((3,), 2.0), name: torch.full((2,), 2.0)})
    for size in (0, -1, (3, 0)):
        with pytest.raises(ValueError, match=rf"{owner}: size=.* must hold positive"):
            made(neuron, size=size)
    for arguments in ({"size": 3}, {parameter: torch.full((3,), 2.0)}, {"size": (1, N)}):
        with pytest.raises(ValueError, match=rf"{owner}: x of shape \[{T}, {B}, {N}\] has features \[{N}\], but size="):
            made(neuron, **arguments)(torch.zeros(T, B, N))
    with pytest.raises(ValueError, match=rf"{owner}: x of shape \[{T}, {B}\] has features \[\], but size=\[{N}\]"):
        made(neuron, size=N)(torch.zeros(T, B))


@every_layer
def test_one_value_broadcasts(neuron):
    """A size of 1 is one value for all neurons, not a mistake."""
    equal(run(made(neuron, size=1), currents()), run(made(neuron), currents()))


@pytest.mark.parametrize("neuron", RECURRENT, ids=str)
def test_currents_that_do_not_fit_recurrent_weights(neuron):
    for shape in ((T, B, N + 1), (T, B, 1), (T, B), (T, B, 1, N)):
        with pytest.raises(ValueError, match=rf"Recurrent: x has shape .*; expected \[T, B, {N}\]"):
            made(neuron)(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"Recurrent: x is torch\.float64, the weights are torch\.float32"):
        made(neuron)(torch.zeros(T, B, N, dtype=torch.float64))


@pytest.mark.parametrize("x", [None, [[[0.0]]], np.zeros((T, B, N))], ids=kind)
def test_what_is_no_tensor_to_a_recurrent_layer(x):
    with pytest.raises(TypeError, match=rf"Recurrent: x must be a tensor \[T, B, {N}\], got {kind(x)}"):
        Recurrent(LIF(), N)(x)


@pytest.mark.parametrize(("there", "here"), [("cpu", "meta"), ("meta", "cpu")])
def test_recurrent_weights_on_another_device(there, here):
    layer = Recurrent(LIF(), N).to(there)
    with pytest.raises(ValueError, match=f"Recurrent: x is on {here}, the weights are on {there}"):
        layer(torch.zeros(T, B, N, device=here))


@pytest.mark.parametrize(
    ("neuron", "other"), [(CubaLIF(), ALIF()), (ALIF(), CubaLIF()), (Recurrent(LIF(), N), CubaLIF())]
)
def test_a_state_of_another_neuron_with_as_many_parts(neuron, other):
    x = torch.zeros(T, B, N)
    with pytest.raises(TypeError, match=f"{kind(neuron)}: state must be"):
        neuron(x, other(x)[1])


@pytest.mark.parametrize(
    "call", [lambda x, p: functional.lif(x, decay=p), lambda x, p: LIF(2 + p)(x)], ids=["lif", "LIF"]
)
def test_complex_parameters(call):
    """Today they lose their imaginary part in silence."""
    with pytest.raises(TypeError, match="complex"):
        call(torch.zeros(T, B, N), torch.full((N,), 0.5 + 1j))
