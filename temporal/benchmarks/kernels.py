"""The compiled Triton kernels in numbers, without a GPU: ``python -m temporal.benchmarks.kernels benchmarks/KERNELS.md``.

Every case is a call of a backend's own function on tensors without content, compiled for each architecture; the table holds
what its machine code uses, the bytes of its arguments, and an estimate of its speed from those bytes.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from temporal.kernels._scan import Rule, steps_per_checkpoint

from ._machine_code import MachineCode, machine_code

__all__ = ["ARCHITECTURES", "Case", "cases", "main", "row", "table"]

ARCHITECTURES = (80, 90, 100)
# GB/s of memory, from the data sheets: A100 80 GB SXM, H100 SXM, B200.
_BANDWIDTH = {"A100": 2039, "H100": 3350, "B200": 8000}
# 10^12 float32 multiply-adds a second, from the same sheets, and how many there are for an element from the first-level
# cache, of which 32 come in a clock.
_ARITHMETIC = {"A100": (9.75, 2), "H100": (33.5, 4), "B200": (40.0, 4)}
# 10^12 multiply-adds a second of tensor cores, from the same sheets, without sparsity.
_TENSOR = {"tf32": {"A100": 78, "H100": 247, "B200": 550}, "bfloat16": {"A100": 156, "H100": 495, "B200": 1125}}
_STEPS, _BATCH, _FEATURES = 1024, 128, 512

_HEAD = """# Triton kernels, from their machine code

Written by `python -m temporal.benchmarks.kernels benchmarks/KERNELS.md`, never by hand. Nothing here was measured on a GPU
(that is `GPU.md`): the kernels are compiled ahead of time for sm_80, sm_90 and sm_100, and their machine code is read.

- Registers: a thread, of 255, on the three architectures. Spills: instructions that use local memory. Shared: bytes of
  shared memory a program (a warp of 32 threads).
- Narrow: accesses to global memory of less than 128 bits; `U8` are bytes of packed spikes, one for 8 neurons.
- Bytes: of all arguments, read or written once, a neuron-step, at T={steps}, B={batch}, N={features}.
- Again: steps of x that backward reads a second time for each step, to get from a checkpoint to its piece; the program read
  them shortly before, so they come from a cache and not from memory.
- ESTIMATE: 10^9 neuron-steps a second if nothing took time but these bytes at the data sheet's bandwidth
  ({bandwidth}). A roofline, not a measurement.

Backward: "scalar knobs" takes numbers and wants no gradient of them, the setting of a layer that does not train them;
"all knobs learned" takes a row of each knob, with a value a neuron, and wants every gradient, the heaviest there is.
Packed spikes are an option of the backends' ``forward``, not yet of a layer.
"""


class Case(NamedTuple):
    """One kernel as it is called in one situation. ``bytes`` a neuron-step."""

    neuron: str
    pass_: str
    dtype: torch.dtype
    launch: Any
    bytes: float
    again: float

    def compile(self, architecture: int) -> MachineCode:
        """For one of ARCHITECTURES."""
        return machine_code(self.launch.compile(architecture))

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.neuron}, {self.pass_}, {str(self.dtype).removeprefix('torch.')}"


_NEURONS = ("lif", "cuba", "adaptive", "adaptive_late")


def cases(neurons: Sequence[str] = _NEURONS, dtypes=(torch.float32, torch.bfloat16)) -> Iterator[Case]:
    """All rows of the table, or those of some neurons and dtypes."""
    for neuron in neurons:
        for dtype in dtypes:
            yield from _cases(neuron, dtype)


def _cases(neuron: str, dtype: torch.dtype) -> Iterator[Case]:
    fused = import_module(f"temporal.kernels.{neuron}.cuda").fused
    every = steps_per_checkpoint(fused.family, "cuda")
    x = torch.empty(_STEPS, _BATCH, _FEATURES, dtype=dtype, device="meta")
    state = fused.family.state(*(x.new_empty(x.shape[1:], dtype=torch.float32) for _ in fused.family.state._fields))
    numbers = fused.family.knobs(*(torch.tensor(0.5) for _ in fused.family.knobs._fields))
    rows = fused.family.knobs(*(x.new_empty(_FEATURES, dtype=torch.float32) for _ in numbers))
    rule = Rule(hard=True, strict=False, detach_reset=False, surrogate="atan", alpha=2.0)

    def case(name: str, launch: Any) -> Case:
        again = 0.0
        if "BACK" in launch.constants:
            every, span, piece = (launch.constants[name] for name in ("EVERY", "SPAN", "PIECE"))
            again = (every / span - 1) / 2 + (span / piece - 1) / 2
        return Case(neuron, name, dtype, launch, _bytes(launch) / x.numel(), again)

    def forward(name: str, every: int, packed: bool) -> tuple[Any, Case]:
        results, launch = fused.plan_forward(x, state, numbers, None, rule, False, every, packed=packed)
        return results, case(name, launch)

    yield forward("inference", 0, False)[1]
    yield forward("inference, packed", 0, True)[1]
    (*_, checkpoints), dense = forward("training forward", every, False)
    yield dense
    yield forward("training forward, packed", every, True)[1]
    for name, knobs, learned in (("scalar knobs", numbers, False), ("all knobs learned", rows, True)):
        needs = [learned] * len(knobs)
        grad_last = fused.family.state(*[None] * len(state))
        _, launch = fused.plan_backward(x, None, grad_last, x, checkpoints, knobs, None, rule, every, 0, needs)
        yield case(f"training backward, {name}", launch)


def _bytes(launch: Any) -> int:
    arguments = [part for a in launch.arguments.values() for part in (a if isinstance(a, tuple) else (a,))]
    return sum(tensor.numel() * tensor.element_size() for tensor in arguments if isinstance(tensor, torch.Tensor))


def row(case: Case) -> str:
    """Its line of the table."""
    codes = [case.compile(architecture) for architecture in ARCHITECTURES]
    narrow = sorted(set().union(*(code.narrow() for code in codes)))
    estimates = [f"{bandwidth / case.bytes:.0f}" for bandwidth in _BANDWIDTH.values()]
    cells = [
        case.neuron,
        case.pass_,
        str(case.dtype).removeprefix("torch."),
        "/".join(str(code.registers) for code in codes),
        "/".join(str(code.spills) for code in codes),
        "/".join(str(code.shared_bytes) for code in codes),
        ", ".join(narrow) or "none",
        f"{case.bytes:.3f}",
        f"{case.again:g}",
        *estimates,
    ]
    return _line(cells)


def table() -> str:
    """The whole file."""
    bandwidth = ", ".join(f"{name} {gigabytes} GB/s" for name, gigabytes in _BANDWIDTH.items())
    head = _HEAD.format(steps=_STEPS, batch=_BATCH, features=_FEATURES, bandwidth=bandwidth)
    columns = ["neuron", "pass", "dtype", "registers", "spills", "shared", "narrow", "bytes", "again"]
    columns += [f"ESTIMATE {name}" for name in _BANDWIDTH]
    all_cases = list(cases())
    lines = [f"triton {version('triton')}", "", _line(columns), _line(["---"] * len(columns)), *map(row, all_cases)]
    tables = ([*_sums(all_cases)], [*spectral_table()], [*dilated_table()], [*dense_table()], [*delayed_table()])
    return "\n".join([head, *lines, *(line for part in tables for line in ("", *part)), ""])


def spectral_cases() -> Iterator[tuple[str, Any, float]]:
    """Name, launch and bytes a frame of the bands of a spectrum: log-mel and mel, of power and of magnitude."""
    from temporal.kernels.bands import cuda  # loads Triton

    frames, bins, bands = 4096, 257, 80
    spectra = torch.empty(16, frames, bins, dtype=torch.complex64, device="meta")
    bank = torch.empty(bands, bins, device="meta")
    spans = torch.empty(bands, 2, dtype=torch.int32, device="meta")
    for power, log in ((2.0, 1e-6), (2.0, None), (1.0, None)):
        _, launch = cuda.plan(spectra, bank, spans, power, log)
        name = f"{'magnitude' if power == 1 else 'power'}, bands{'' if log is None else ', logarithm'}"
        yield name, launch, 8.0 * bins + 4.0 * bands


def spectral_table() -> Iterator[str]:
    """The lines about bands."""
    yield "Bands of spectra, 257 bins to 80 bands, float32. Rows of 257 complex numbers start at multiples of 8 bytes, so no"
    yield "access can be wider; the bytes are those of the spectra and the bands, a frame; ESTIMATE: 10^6 frames a second.\n"
    columns = ["bands", "registers", "spills", "shared", "bytes", *(f"ESTIMATE {name}" for name in _BANDWIDTH)]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for name, launch, count in spectral_cases():
        codes = [machine_code(launch.compile(architecture)) for architecture in ARCHITECTURES]
        found = ("/".join(str(of(code)) for code in codes) for of in (_registers, _spills, _shared))
        estimates = (f"{bandwidth * 1e3 / count:.0f}" for bandwidth in _BANDWIDTH.values())
        yield _line([name, *found, f"{count:.0f}", *estimates])


def dilated_cases() -> Iterator[tuple[str, Any, float]]:
    """Name, launch and bytes an output of depthwise convolutions of 9 taps."""
    from temporal.kernels.dilated import cuda  # loads Triton

    x, weight, bias = (torch.empty(shape, device="meta") for shape in ((1024, 16, 256), (256, 1, 9), (256,)))
    for dtype in (torch.float32, torch.bfloat16):
        given = (x.to(dtype), weight.to(dtype), bias.to(dtype))
        for name, activation, keep in (("inference", "relu", False), ("training forward, gelu", "gelu", True)):
            _, _, launch = cuda.plan(*given, None, 8, activation, keep)
            yield f"{name}, {str(dtype).removeprefix('torch.')}", launch, dtype.itemsize * (2.0 + keep)
        _, _, launch = cuda.plan(*given[:2], None, None, 8, "none", False, backwards=True)
        yield f"gradient for x, {str(dtype).removeprefix('torch.')}", launch, dtype.itemsize * 2.0


def dilated_table() -> Iterator[str]:
    """The lines about convolutions."""
    yield "Depthwise causal convolutions, 9 taps, T=1024, B=16, C=256. Bytes: input and output, an output, if the taps read"
    yield "again from caches; ESTIMATE: 10^9 outputs a second.\n"
    columns = ["convolution", "registers", "spills", "shared", "narrow", "bytes"]
    columns += [f"ESTIMATE {name}" for name in _BANDWIDTH]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for name, launch, count in dilated_cases():
        codes = [machine_code(launch.compile(architecture)) for architecture in ARCHITECTURES]
        found = ("/".join(str(of(code)) for code in codes) for of in (_registers, _spills, _shared))
        narrow = ", ".join(sorted(set().union(*(code.narrow() for code in codes)))) or "none"
        estimates = (f"{bandwidth / count:.0f}" for bandwidth in _BANDWIDTH.values())
        yield _line([name, *found, narrow, f"{count:.0f}", *estimates])


def dense_cases() -> Iterator[tuple[str, Any, dict[str, float]]]:
    """Name, launch and milliseconds on each GPU's data sheet of dense convolutions of 9 taps."""
    from temporal.kernels.dilated import cuda  # loads Triton

    x, weight, bias = (torch.empty(shape, device="meta") for shape in ((1024, 16, 256), (256, 256, 9), (256,)))
    products = x.numel() * 256 * 9
    for dtype, precision in ((torch.float32, "tf32"), (torch.float32, "tf32x3"), (torch.bfloat16, "tf32")):
        given = (x.to(dtype), weight.to(dtype))
        plans = {
            "training forward, gelu": cuda.plan_dense(*given, bias.to(dtype), None, 8, "gelu", True),
            "gradient for x": cuda.plan_dense(*given, None, None, 8, "none", False, backwards=True),
        }
        kind = precision if dtype == torch.float32 else "bfloat16"
        rates, times = _TENSOR["bfloat16" if kind == "bfloat16" else "tf32"], 3 if kind == "tf32x3" else 1
        bytes_ = x.numel() * dtype.itemsize
        for name, (_, z, launch) in plans.items():
            launch = cuda.with_precision(launch, precision)
            moved = bytes_ * (3 if z.numel() else 2)
            found = {g: max(times * products / rates[g] / 1e9, moved / b / 1e6) for g, b in _BANDWIDTH.items()}
            yield f"{name}, {'float32, ' if dtype == torch.float32 else ''}{kind}", launch, found


def dense_table() -> Iterator[str]:
    """The lines about dense convolutions."""
    yield "Dense causal convolutions, 256 channels, 9 taps, T=1024, B=16. Three products of TF32 parts (tf32x3) where torch"
    yield "does not let cuDNN use TF32. Narrow: the bias. ESTIMATE: milliseconds, of tensor cores' products or the bytes.\n"
    columns = ["convolution", "registers", "spills", "shared", "narrow", *(f"ESTIMATE {name}" for name in _BANDWIDTH)]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for name, launch, milliseconds in dense_cases():
        codes = [machine_code(launch.compile(architecture)) for architecture in ARCHITECTURES]
        found = ("/".join(str(of(code)) for code in codes) for of in (_registers, _spills, _shared))
        narrow = ", ".join(sorted(set().union(*(code.narrow() for code in codes)))) or "none"
        yield _line([name, *found, narrow, *(f"{milliseconds[name]:.3f}" for name in _BANDWIDTH)])


class Delays(NamedTuple):
    """A kernel of delays: multiply-adds, elements that are loaded, and bytes from and to memory."""

    name: str
    launch: Any
    products: float
    loads: float
    bytes: float

    def milliseconds(self, gpu: str) -> float:
        """If nothing took time but what takes longest, on its data sheet."""
        rate, load = _ARITHMETIC[gpu]
        return max(max(self.products, load * self.loads) / rate / 1e9, self.bytes / _BANDWIDTH[gpu] / 1e6)


def delayed_cases(counts: Sequence[int] = (1, 6)) -> Iterator[Delays]:
    """Synapses with delays, with this many live taps, and shifts of neurons."""
    from temporal.kernels.delayed import cuda  # loads Triton

    steps, batch, neurons, max_delay = 100, 64, 256, 24
    history = torch.empty(max_delay + steps, batch, neurons, device="meta")
    grad, pairs = history[max_delay:], history.new_empty(neurons, neurons)
    sigma = history.new_empty(())
    rows, signal = steps * batch, 4.0 * grad.numel()
    for count in counts:
        synapses = rows * neurons * neurons
        taps = f"{count} live tap{'s' if count > 1 else ''}"
        _, forward = cuda.plan_forward(history, pairs, pairs, sigma, max_delay, "gaussian", count)
        both = (True, True)
        _, _, back = cuda.plan_backward(grad, history, pairs, pairs, sigma, max_delay, "gaussian", count, both)
        once, window = synapses * count, synapses * (8 + count - 1) / 8
        again = window + synapses / max(1, 2 // count)
        yield Delays(f"synapses, forward, {taps}", forward, once, window, 2 * signal)
        yield Delays(f"synapses, gradient for x, {taps}", back[0], once, window, 2 * signal)
        yield Delays(f"synapses, gradients for taps, {taps}", back[1], once, again, 2 * signal)
    share = history.new_empty(neurons, max_delay + 1)
    _, forward = cuda.plan_shift(history, share)
    _, _, back = cuda.plan_shift_backward(grad, history, share, (True, True))
    # 25 lags in 4 groups of 7, each of which loads 14 steps for 8.
    products, window = 28.0 * rows * neurons, 4 * 14 / 8 * rows * neurons
    yield Delays("shift, forward", forward, products, window, 2 * signal)
    yield Delays("shift, gradient for x", back[0], products, window, 2 * signal)
    yield Delays("shift, gradients for shares", back[1], products, window + 4.0 * rows * neurons, 2 * signal)


def delayed_table() -> Iterator[str]:
    """The lines about delays."""
    rates = ", ".join(f"{gpu} {rate:g} and {load}" for gpu, (rate, load) in _ARITHMETIC.items())
    yield "Delays, 256 inputs and outputs, 25 lags, T=100, B=64, float32. Loads: elements from the first-level cache a"
    yield "multiply-add. Narrow: a synapse's place, weights and sums. ESTIMATE: milliseconds, the longest of the bytes,"
    yield f"the multiply-adds and the loads (10^12 multiply-adds a second, and how many an element costs: {rates}).\n"
    columns = ["delays", "registers", "spills", "shared", "narrow", "loads"]
    columns += [f"ESTIMATE {name}" for name in _BANDWIDTH]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for case in delayed_cases():
        codes = [machine_code(case.launch.compile(architecture)) for architecture in ARCHITECTURES]
        found = ("/".join(str(of(code)) for code in codes) for of in (_registers, _spills, _shared))
        narrow = ", ".join(sorted(set().union(*(code.narrow() for code in codes)))) or "none"
        estimates = (f"{case.milliseconds(gpu):.3f}" for gpu in _BANDWIDTH)
        yield _line([case.name, *found, narrow, f"{case.loads / case.products:.2f}", *estimates])


def _registers(code: MachineCode) -> int:
    return code.registers


def _spills(code: MachineCode) -> int:
    return code.spills


def _shared(code: MachineCode) -> int:
    return code.shared_bytes


def _sums(all_cases: Sequence[Case]) -> Iterator[str]:
    """Bytes a neuron-step of a whole training step, with numbers as knobs."""
    yield "Bytes a neuron-step, both passes of training (scalar knobs) taken together:\n"
    columns = ["neuron", "dtype", "inference", "packed", "training", "packed"]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for case in all_cases:
        found.setdefault((case.neuron, case.name.rpartition(" ")[2]), {})[case.pass_] = case.bytes
    for (neuron, dtype), of in found.items():
        back = of["training backward, scalar knobs"]
        trained = (of["training forward"] + back, of["training forward, packed"] + back)
        yield _line(
            [neuron, dtype, *(f"{count:.2f}" for count in (of["inference"], of["inference, packed"], *trained))]
        )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Write the file that is named."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m temporal.benchmarks.kernels FILE.md")
    Path(arguments[0]).write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
