"""docs/neurons.md says which knobs make our neurons those of other libraries; every row of its tables is run."""

import ast
import itertools
import pathlib
import random
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import temporal.neurons
from temporal.neurons import functional

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "neurons.md"

# What the letters of the document stand for. snnTorch keeps its decays in float32, so those are exact there.
VALUES = {
    "tau": (1.005, 2.0, 5.0, 20.0),
    "th": (1.0, 0.5),
    "r": (0.0, 0.25, -0.5),
    "d": (True, False),
    "alpha": (0.5, 0.75),
    "beta": (0.5, 0.90625),
    "c_decay": (0.5, 0.75),
    "v_decay": (0.5, 0.9),
    "m": (100.0, 200.0, 30.0),
    "n": (400.0, 200.0),
    "e": (0.0, -0.25, 0.125),
}
DT = 1e-3  # norse's default
SETTINGS_A_ROW = 10  # drawn from all combinations, which can be 48

# Another order of float64 operations, over some tens of steps; ParametricLIF's decay also comes out of another formula.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
CLOSE_TO_FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}  # snnTorch's spikes, and so the gradients through its resets


@dataclass
class Row:
    """One row of a table: a neuron of a library, the currents for which it is claimed, and what it is here."""

    library: str
    neuron: str
    bound: str | None  # x <= bound, where the claim needs it
    ours: str | dict[str, str]  # a layer, or the arguments of ``function``
    function: Any = None

    def settings(self) -> list[dict[str, Any]]:
        """Values for the letters that the row uses."""
        cells = [self.neuron, *(self.ours.values() if isinstance(self.ours, dict) else [self.ours])]
        names = {n.id for cell in cells if cell for n in ast.walk(ast.parse(cell)) if isinstance(n, ast.Name)}
        letters = [name for name in VALUES if name in names]
        chosen = [dict(zip(letters, v, strict=True)) for v in itertools.product(*(VALUES[name] for name in letters))]
        return random.Random(0).sample(chosen, min(SETTINGS_A_ROW, len(chosen)))


def tables() -> list[list[dict[str, str]]]:
    """Every table of the document, a dictionary a row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", DOCUMENT.read_text(), re.M):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        header, rule, *rows = lines
        assert all(cell == "---" for cell in rule)
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def neuron_and_bound(cell: str) -> tuple[str, str | None]:
    return re.fullmatch(r"`([^`]+)`(?:, while x <= `([^`]+)`)?", cell).groups()


def rows() -> tuple[list[Row], list[Row]]:
    """The rows of knobs, and those of layers."""
    knobs, layers = [], []
    for table in tables():
        for cells in table:
            if "library" in cells:
                library, (neuron, bound) = cells.pop("library"), neuron_and_bound(cells.pop("neuron"))
                arguments = {name: re.fullmatch(r"`(.+)`", cell)[1] for name, cell in cells.items() if cell}
                function = functional.cuba_lif if "i_decay" in cells else functional.lif
                sources = ["norse's equations", "norse"] if library == "norse" else [library]
                knobs.extend(Row(source, neuron, bound, arguments, function) for source in sources)
            else:
                (library, theirs), (_, ours) = cells.items()
                layers.append(Row(library, *neuron_and_bound(theirs), ours.strip("`")))
    return knobs, layers


def name_of(row: Row) -> str:
    return f"{row.library} {row.neuron}"


KNOBS, LAYERS = rows()


def library(name: str) -> tuple[dict[str, Any], Any]:
    """The names that a row may use, and how to run one of that library's neurons."""
    if name == "SpikingJelly":
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
        return {**vars(neuron), "ATan": surrogate.ATan}, run_spikingjelly
    if name == "snnTorch":
        return vars(pytest.importorskip("snntorch", reason="rows of snnTorch are not run without it")), run_snntorch
    if name == "norse":
        norse = pytest.importorskip("norse.torch", reason="rows of norse are run against its equations alone")
        reset = pytest.importorskip("norse.torch.functional.reset")
        return {**vars(norse), "reset_subtract": reset.reset_subtract}, run_norse
    assert name == "norse's equations"
    return NORSE, run_norse


def run_spikingjelly(node, x):
    spikes, membranes = zip(*((node(current), node.v) for current in x.unbind(0)), strict=True)
    return torch.stack(spikes), torch.stack(membranes)


def run_snntorch(node, x):
    """Its membranes only where they are those after the reset."""
    spikes, membranes, state = [], [], ()
    for current in x.unbind(0):
        spike, *state = node(current, *state)
        spikes.append(spike.to(x.dtype))  # float32, whatever the network
        membranes.append(state[-1])
    return torch.stack(spikes), None if node.reset_delay else torch.stack(membranes)


def run_norse(cell, x):
    spikes, membranes, state = [], [], None
    for current in x.unbind(0):
        spike, state = cell(current, state)
        spikes.append(spike)
        membranes.append(state.v)
    return torch.stack(spikes), torch.stack(membranes)


def theirs(row: Row, setting: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Any]:
    """The library's neuron, and the function that runs it."""
    names, run = library(row.library)
    if row.library.startswith("norse"):  # its parameters are tensors
        setting = {name: torch.tensor(value, dtype=dtype) for name, value in setting.items()}
    node = eval(row.neuron, dict(names), setting)
    return node.to(dtype) if isinstance(node, nn.Module) else node, lambda x: run(node, x)


def knobs_of(row: Row, setting: dict[str, Any], w: torch.Tensor | None) -> dict[str, Any]:
    return {
        name: eval(cell, {**setting, "w": w, "dt": DT, "sigmoid": torch.sigmoid}) for name, cell in row.ours.items()
    }


def learned(node: Any) -> list[torch.Tensor]:
    """What the library's neuron learns: nothing, or ParametricLIFNode's w."""
    return list(node.parameters()) if isinstance(node, nn.Module) else []


def run_function(row: Row, knobs: dict[str, Any], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes and membranes."""
    knobs = dict(knobs)
    v = torch.full_like(x[0], float(knobs.pop("v")))
    state = (v, torch.zeros_like(v)) if row.function is functional.cuba_lif else v
    return row.function(x, state, **knobs)[:2]


def currents(row: Row, setting: dict[str, Any], shape: tuple[int, ...], gain: Any) -> torch.Tensor:
    """Such that every neuron fires now and then."""
    threshold = setting.get("th", 1.0)
    if row.bound is not None:
        x = eval(row.bound, dict(setting)) * (1.3 * torch.rand(shape, dtype=torch.float64) - 0.3)
    else:
        x = (torch.randn(shape, dtype=torch.float64) * 0.7 + 0.2) * threshold / float(torch.as_tensor(gain).detach())
    return x


def gradients(spikes: torch.Tensor, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Of a weighted sum, its weights exact in float32, which snnTorch's spikes are."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-8, 9, spikes.shape, generator=generator) / 8
    return torch.autograd.grad((spikes * weight).sum(), inputs)


def close(row: Row) -> dict[str, float]:
    """How close gradients are."""
    return CLOSE_TO_FLOAT32 if row.library == "snnTorch" and "reset_delay=False" in row.neuron else CLOSE


@pytest.mark.parametrize("row", KNOBS, ids=name_of)
def test_knobs_in_float64(row):
    """Equal spikes, equal membranes, equal gradients of the current and of what the library's neuron learns."""
    rates = []
    for setting in row.settings():
        node, run = theirs(row, setting, torch.float64)
        own = [w.detach().clone().requires_grad_() for w in learned(node)]
        knobs = knobs_of(row, setting, *own or [None])
        x = currents(row, setting, (40, 3, 5), knobs["gain"]).requires_grad_()
        spikes, membranes = run_function(row, knobs, x)
        their_spikes, their_membranes = run(x)
        assert torch.equal(spikes, their_spikes), setting
        if their_membranes is not None:
            torch.testing.assert_close(membranes, their_membranes, **CLOSE)
        ours, expected = gradients(spikes, [x, *own]), gradients(their_spikes, [x, *learned(node)])
        torch.testing.assert_close(ours, expected, **close(row))
        rates.append(spikes.mean().item())
    assert min(rates) > 0.01 and max(rates) < 0.98, rates


@pytest.mark.parametrize("row", KNOBS, ids=name_of)
def test_knobs_in_float32_up_to_the_threshold(row):
    """The first difference of a neuron, if any, lies within 1e-5 of its threshold: there the roundings decide."""
    for setting in row.settings():
        node, run = theirs(row, setting, torch.float32)
        with torch.no_grad():
            knobs = knobs_of(row, setting, *learned(node) or [None])
            x = currents(row, setting, (150, 2, 6), knobs["gain"]).float()
            spikes, membranes = run_function(row, knobs, x)
            their_spikes, _ = run(x)
        for b, n in itertools.product(range(2), range(6)):
            differs = (spikes[:, b, n] != their_spikes[:, b, n]).nonzero()
            if len(differs):
                t = int(differs[0])
                h = charged(knobs, x[: t + 1, b, n], membranes[t - 1, b, n] if t else knobs["v"])
                assert abs(h - knobs["threshold"]) < 1e-5, (setting, t)


@pytest.mark.parametrize("row", KNOBS, ids=name_of)
def test_on_the_threshold(row):
    """One step from 0 that ends exactly there; with these values nothing is rounded."""
    halves = dict.fromkeys(("alpha", "beta", "c_decay", "v_decay"), 0.5)
    setting = {"tau": 2.0, "th": 1.0, "r": 0.0, "d": True, "m": 100.0, "n": 200.0, "e": 0.0, **halves}
    node, run = theirs(row, setting, torch.float64)
    knobs = knobs_of(row, setting, *learned(node) or [None])
    with torch.no_grad():
        x = torch.ones(1, 1, 1, dtype=torch.float64) / knobs["gain"]
        assert run_function(row, knobs, x)[0].item() == run(x)[0].item() == (not knobs["strict"])


def charged(knobs: dict[str, Any], x: torch.Tensor, v: Any) -> float:
    """The membrane of one neuron before the reset of the last step of x, in float64, from the one v before that step."""
    current = 0.0
    for value in x.tolist():
        current = float(knobs.get("i_decay", 0.0)) * current + value
    return float(knobs["decay"]) * float(v) + float(knobs["gain"]) * current + float(knobs["bias"])


@pytest.mark.parametrize("row", LAYERS, ids=name_of)
def test_layers(row):
    for setting in row.settings():
        node, run = theirs(row, setting, torch.float64)
        layer = eval(row.ours, dict(vars(temporal.neurons)), setting).double()
        gain = 1 / setting.get("tau", 2.0) if getattr(layer, "decay_input", False) else 1.0
        x = currents(row, setting, (40, 3, 5), gain).requires_grad_()
        spikes, _ = layer(x)
        their_spikes, _ = run(x)
        assert spikes.mean() > 0.02
        assert torch.equal(spikes, their_spikes), setting
        ours = gradients(spikes, [x, *layer.parameters()])
        expected = gradients(their_spikes, [x, *node.parameters()])
        signs = [1, *[-1 for _ in layer.parameters()]]  # ParametricLIF learns minus their w
        torch.testing.assert_close(
            [sign * grad for sign, grad in zip(signs, ours, strict=True)], [*expected], **close(row)
        )


def test_what_no_setting_expresses():
    """The two exceptions that the document explains are real: if a release of snnTorch ends one, the text can go."""
    snntorch = pytest.importorskip("snntorch", reason="rows of snnTorch are not run without it")
    x = torch.randn(60, 4, 8, dtype=torch.float64) + 0.3
    late, _ = run_snntorch(snntorch.Synaptic(0.5, 0.75, reset_mechanism="zero").double(), x)
    ours, _, _ = functional.cuba_lif(x, decay=0.75, i_decay=0.5, reset_to=0.0, strict=True)
    assert not torch.equal(late, ours)
    twice, _ = run_snntorch(snntorch.Leaky(0.5, reset_delay=False).double(), 3 * x)
    ours, _, _ = functional.lif(3 * x, decay=0.5, strict=True)
    assert not torch.equal(twice, ours)


def _reset_value(z, v, reset, threshold):
    return (1 - z) * v + z * reset


def reset_subtract(z, v, reset, threshold):
    return (1 - z) * v + z * (v - threshold)


class LIFBoxParameters(NamedTuple):
    """norse's, without the surrogate's."""

    tau_mem_inv: torch.Tensor
    v_leak: torch.Tensor
    v_th: torch.Tensor
    v_reset: float = 0.0
    reset_method: Any = _reset_value


class LIFParameters(NamedTuple):
    """norse's, without the surrogate's."""

    tau_syn_inv: torch.Tensor
    tau_mem_inv: torch.Tensor
    v_leak: torch.Tensor
    v_th: torch.Tensor
    v_reset: torch.Tensor


class NorseState(NamedTuple):
    v: torch.Tensor
    i: torch.Tensor


class SuperSpike(torch.autograd.Function):
    """Fires above 0, not on it; the slope is 1 / (1 + |x|)^2."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + ctx.saved_tensors[0].abs()) ** 2


class LIFBoxCell:
    """The published update of norse's boxed neuron, dv = dt / tau_mem (v_leak - v + x), from its leak potential."""

    def __init__(self, p: LIFBoxParameters):
        self.p = p

    def __call__(self, x, state):
        p, v = self.p, torch.full_like(x, float(self.p.v_leak)) if state is None else state.v
        v = v + DT * p.tau_mem_inv * (x + p.v_leak - v)
        z = SuperSpike.apply(v - p.v_th)
        return z, NorseState(p.reset_method(z, v, p.v_reset, p.v_th), None)


class LIFCell:
    """That of its neuron behind a synapse: the current jumps, drives the membrane, then decays."""

    def __init__(self, p: LIFParameters):
        self.p = p

    def __call__(self, x, state):
        p = self.p
        v, i = state or NorseState(torch.full_like(x, float(p.v_leak)), torch.zeros_like(x))
        i = i + x
        v = v + DT * p.tau_mem_inv * (p.v_leak - v + i)
        z = SuperSpike.apply(v - p.v_th)
        return z, NorseState(_reset_value(z, v, p.v_reset, p.v_th), i - DT * p.tau_syn_inv * i)


NORSE = {c.__name__: c for c in (LIFBoxParameters, LIFParameters, LIFBoxCell, LIFCell, reset_subtract)}
