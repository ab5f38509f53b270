"""Try the Triton kernels and the spectrogram layers on this machine's GPU, in about two minutes, and write what was found.

    python examples/gpu_check.py                      # a table, and gpu_check.json
    python examples/gpu_check.py --out result.json

Checked: the same spikes, membranes and gradients as the reference; nothing waits for the GPU in secret; forward and
backward can be captured in a CUDA graph; bytes a second, beside a plain copy and beside SpikingJelly where it is installed;
spectrograms as on the CPU, and for which lengths FFTs are faster than convolutions; causal convolutions beside cuDNN's;
delays beside dcls, where it is installed, and beside cuDNN's convolution with the kernels made beforehand.

Exit status: 0 all is well, 1 a check failed, 2 wrong arguments, 3 there is no CUDA GPU here.
"""

import argparse
import contextlib
import copy
import functools
import importlib
import inspect
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from temporal.delays import DelayedLinear
from temporal.frontends import STFT, MelSpectrogram
from temporal.kernels import use
from temporal.kernels.bands import bands, spans
from temporal.kernels.delayed import operator as delayed
from temporal.kernels.dilated import causal_conv
from temporal.neurons import LIF
from temporal.neurons.functional import adlif, alif, cuba_lif, li, lif

NO_GPU = 3

# Each neuron's function with its knobs: numbers, and the same as one value a neuron, which then get gradients.
SOFT, HARD = {"reset_by": 0.8}, {"reset_to": 0.0}
NEURONS: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "li": (li, {"decay": 0.9}),
    "lif, hard reset": (lif, {"decay": 0.7, "threshold": 0.8} | HARD),
    "lif, soft reset": (lif, {"decay": 0.7, "threshold": 0.8} | SOFT),
    "cuba_lif": (cuba_lif, {"decay": 0.7, "i_decay": 0.6, "threshold": 0.9} | HARD),
    "alif": (alif, {"decay": 0.7, "w_decay": 0.9, "adaptation": 0.4} | SOFT),
    "adlif": (adlif, {"decay": 0.7, "w_decay": 0.9, "a": 0.5, "b": 0.6, "threshold": 0.5} | HARD),
    "adlif, forward Euler": (
        functools.partial(adlif, symplectic=False),
        {"decay": 0.7, "w_decay": 0.9, "a": 0.3, "b": 0.6, "threshold": 0.5} | HARD,
    ),
}
# Samples of unequal length, and truncated back-propagation.
PADDED = {"lengths": [50, 0, 17, 50, 33, 1], "truncate": 12}
# Largest difference over the largest value. Gradients: sums of float32 in another order. 16 bits: the result's rounding.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Check:
    """What the sections have found so far, and where they run.

    Args:
        device: "cuda", or "cpu" for a rehearsal on machines without a GPU.
        backend: that is checked against "reference".
        steps, batch, features: of the timed calls.
    """

    def __init__(self, device: str, backend: str, steps: int, batch: int, features: int):
        self.device = torch.device(device)
        self.backend = backend
        self.shape = (steps, batch, features)
        self.found: dict[str, list[dict[str, Any]]] = {}

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def add(self, section: str, name: str, passed: bool | None, **figures: Any) -> None:
        """Note and show one line; ``passed`` is None for a figure that cannot fail."""
        self.found.setdefault(section, []).append({"name": name, "passed": passed, **figures})
        word = {True: "ok", False: "FAILED", None: ""}[passed]
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        print(f"{section:9} {name:52} {word:7} {shown}", flush=True)

    @contextlib.contextmanager
    def trial(self, section: str, name: str) -> Iterator[None]:
        """A check that fails by raising."""
        try:
            yield
        except Exception as error:
            self.add(section, name, False, error=f"{type(error).__name__}: {error}".splitlines()[0])
        else:
            self.add(section, name, True)

    @property
    def failures(self) -> list[str]:
        return [
            f"{section}: {line['name']}"
            for section, lines in self.found.items()
            for line in lines
            if line["passed"] is False
        ]

    def seconds(self, call: Callable[[], Any], repeats: int = 15) -> float:
        """The median time of a call, after three to warm up."""
        times = []
        for repeat in range(repeats + 3):
            if self.on_gpu:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                call()
                end.record()
                end.synchronize()
                took = start.elapsed_time(end) / 1e3
            else:
                begun = time.perf_counter()
                call()
                took = time.perf_counter() - begun
            if repeat >= 3:
                times.append(took)
        return statistics.median(times)


def currents(check: Check, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """That make a neuron fire in about a third of the steps."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(*shape, generator=generator) * 0.8 + 0.4).to(check.device, dtype).requires_grad_()


def learned(check: Check, knobs: dict[str, float], features: int) -> dict[str, Any]:
    """The same knobs as tensors, one value a neuron, that want gradients."""
    spread = torch.linspace(0.95, 1.05, features)
    return {name: (value * spread).to(check.device).requires_grad_() for name, value in knobs.items()}


def outcome(name: str, x: torch.Tensor, knobs: dict[str, Any], backend: str, **options: Any) -> tuple[list, list]:
    """All results of a neuron's function, and all gradients of a fixed sum of them."""
    function, _ = NEURONS[name]
    with use(backend):
        *sequences, state = function(x, **knobs, **options)
        values = [*sequences, *(state if isinstance(state, tuple) else (state,))]
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(value.shape, generator=generator).to(value) for value in values]
        inputs = [x, *(knob for knob in knobs.values() if isinstance(knob, torch.Tensor))]
        torch.autograd.backward(values, weights)
    gradients = [tensor.grad for tensor in inputs]
    for tensor in inputs:
        tensor.grad = None
    return [value.detach() for value in values], gradients


def error(ours: torch.Tensor, true: torch.Tensor) -> float:
    """The largest difference over the largest value; infinite where one is NaN."""
    difference = (ours.double() - true.double()).abs().max() / true.double().abs().max().clamp(min=1e-30)
    return difference.nan_to_num(nan=float("inf")).item()


def compare(check: Check, name: str, dtype: torch.dtype, ours: tuple[list, list], true: tuple[list, list]) -> None:
    """Spikes must be equal one by one; membranes and gradients within the dtype's tolerance."""
    (values, gradients), (true_values, true_gradients) = ours, true
    spikes = 0 if name.startswith("li,") else int((values[0] != true_values[0]).sum())
    worst_value = max(map(error, values, true_values))
    worst_gradient = max(map(error, gradients, true_gradients))
    passed = spikes == 0 and max(worst_value, worst_gradient) <= TOLERANCE[dtype]
    figures = {"spikes that differ": spikes, "values": worst_value, "gradients": worst_gradient}
    check.add("parity", name, passed, **figures)


def parity(check: Check) -> None:
    """Every neuron: knobs as numbers, and learned ones in rows that are no multiple of 4; padded and truncated, too."""
    for (name, (_, knobs)), dtype in itertools.product(NEURONS.items(), TOLERANCE):
        for kind, features in (("numbers", 128), ("a value a neuron", 125), ("padded, truncated", 128)):
            full = f"{name}, {str(dtype).removeprefix('torch.')}, {kind}"
            x = currents(check, 50, 6, features, dtype=dtype)
            given = knobs if kind == "numbers" else learned(check, knobs, features)
            options = {}
            if kind == "padded, truncated":
                options = PADDED | {"lengths": torch.tensor(PADDED["lengths"], device=check.device)}
            try:
                ours, true = (outcome(name, x, given, backend, **options) for backend in (check.backend, "reference"))
                compare(check, full, dtype, ours, true)
            except Exception as failure:
                check.add("parity", full, False, error=f"{type(failure).__name__}: {failure}".splitlines()[0])


def waiting(check: Check) -> None:
    """Forward and backward while every hidden wait of the host for the GPU is an error."""
    for name, (function, knobs) in NEURONS.items():
        for kind in ("numbers", "a value a neuron"):
            x = currents(check, 40, 4, 64)
            given = knobs if kind == "numbers" else learned(check, knobs, 64)
            ones = torch.ones((), device=check.device)

            def call(function=function, x=x, given=given, ones=ones):
                with use(check.backend):
                    function(x, **given)[0].sum().backward(ones)

            with check.trial("no wait", f"{name}, {kind}"):
                call()  # compiles, which may wait
                with no_wait(check):
                    call()


@contextlib.contextmanager
def no_wait(check: Check) -> Iterator[None]:
    """Every hidden wait of the host for the GPU is an error."""
    if check.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if check.on_gpu:
            torch.cuda.set_sync_debug_mode("default")


def graphs(check: Check) -> None:
    """Forward and backward captured once and replayed on other currents."""
    for name, (function, knobs) in NEURONS.items():
        x = currents(check, 40, 4, 64)
        weights = currents(check, 40, 4, 64).detach()

        def call(function=function, x=x, knobs=knobs, weights=weights):
            with use(check.backend):
                result = function(x, **knobs)[0]
                return result.detach(), *torch.autograd.grad(result, x, weights)

        with check.trial("graph", name):
            replay = captured(check, call)
            with torch.no_grad():
                x.copy_(x.flip(0))
            for replayed, eager in zip(replay(), call(), strict=True):
                if not torch.equal(replayed, eager):
                    raise RuntimeError("a replay gave other numbers than the call itself")


def captured(check: Check, call: Callable[[], tuple[torch.Tensor, ...]]) -> Callable[[], tuple[torch.Tensor, ...]]:
    """A call's CUDA graph, which writes into the same tensors at every replay; the call itself where there is no GPU."""
    if not check.on_gpu:
        return call
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> tuple[torch.Tensor, ...]:
        graph.replay()
        return results

    return replay


def speed(check: Check) -> None:
    """A LIF layer: bytes that it cannot avoid a second, and those of a clone of as large a tensor.

    A neuron-step of float32 moves 8 bytes in inference (x, spikes); training 8.25 forward and 12.25 backward (x, the
    gradient of the spikes, that of x), with 1/16 of a membrane each way. 16 bits: half of all but the membrane.
    """
    for dtype in (torch.float32, torch.bfloat16):
        x = currents(check, *check.shape, dtype=dtype)
        size, steps = x.element_size(), x.numel()
        copied = 2 * size * steps / check.seconds(lambda x=x: x.detach().clone())
        short = str(dtype).removeprefix("torch.")
        check.add("speed", f"clone, {short}", None, **{"GB/s": copied / 1e9})
        for kind, (forward, backward) in layers(check).items():
            counted = {"inference": 2 * size, "training": 5 * size + 0.5}
            for pass_, count in counted.items():
                with contextlib.ExitStack() as stack:
                    if kind == "temporal":
                        stack.enter_context(use(check.backend))
                    run = forward if pass_ == "inference" else backward
                    seconds = check.seconds(lambda run=run, x=x: run(x))
                rate = count * steps / seconds
                figures = {"ms": seconds * 1e3, "GB/s": rate / 1e9, "of clone": rate / copied}
                check.add("speed", f"{kind} LIF, {pass_}, {short}", None, **figures)


def layers(check: Check) -> dict[str, tuple[Callable, Callable]]:
    """For each library its layer's inference, and its forward and backward pass."""
    ours = LIF(tau=2.0).to(check.device)
    runs = {"temporal": lambda x: ours(x)[0]}
    try:
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError as missing:
        check.add("speed", "SpikingJelly", None, skipped=str(missing))
    else:
        surrogate_function = surrogate.ATan()
        theirs = neuron.LIFNode(
            tau=2.0, decay_input=False, detach_reset=True, surrogate_function=surrogate_function, step_mode="m"
        ).to(check.device)

        def stepped(x):
            theirs.reset()
            return theirs(x)

        runs["SpikingJelly"] = stepped

    def passes(run):
        def forward(x):
            with torch.no_grad():
                run(x)

        def backward(x):
            y = run(x)
            torch.autograd.grad(y, x, x.detach())  # any gradient that is in memory already

        return forward, backward

    return {name: passes(run) for name, run in runs.items()}


def front_ends(check: Check) -> None:
    """Spectrogram layers: the CPU's numbers, no hidden wait, a CUDA graph; and the bands' kernel beside plain torch."""
    makers = {
        "mel": lambda: MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=80),
        "STFT": lambda: STFT(512, hop_length=160),
    }
    wave = torch.randn(4, 16000, device=check.device, requires_grad=True)
    for name, make in makers.items():
        layer, true = make().to(check.device), make().double()(wave.detach().cpu().double())
        worst = error(layer(wave).detach().cpu(), true)
        check.add("front end", f"{name}, against float64 on the CPU", worst <= 1e-5, error=worst)
        weights = torch.randn_like(layer(wave))

        def call(layer=layer, weights=weights):
            result = layer(wave)
            return result.detach(), *torch.autograd.grad(result, wave, weights)

        with check.trial("front end", f"{name}, no wait"):
            call()
            with no_wait(check):
                call()
        with check.trial("front end", f"{name}, graph"):
            replay = captured(check, call)
            with torch.no_grad():
                wave.copy_(wave.flip(-1))
            for replayed, eager in zip(replay(), call(), strict=True):
                if not torch.allclose(replayed, eager, rtol=1e-5, atol=1e-5):
                    raise RuntimeError("a replay gave other numbers than the call itself")
    spectra = torch.randn(64, 1000 if check.on_gpu else 10, 257, dtype=torch.complex64, device=check.device)
    bank = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=80).filter_bank.to(check.device)

    def fused(backend):
        with use(backend):
            return bands(spectra, bank, spans=spans(bank), log=1e-6)

    worst = error(fused(check.backend), fused("reference"))
    times = {name: check.seconds(lambda name=name: fused(name)) * 1e3 for name in (check.backend, "reference")}
    check.add("front end", "log-mel of spectra", worst <= 1e-5, error=worst, ms=times[check.backend])
    check.add("front end", "log-mel of spectra, plain torch", None, ms=times["reference"])


def engines(check: Check) -> None:
    """Where convolutions are faster than FFTs: the rule behind engine="auto" is to be compared with this."""
    if "engine" not in inspect.signature(STFT).parameters:
        check.add("engine", "STFT", None, skipped="this version has one engine")
        return
    wave = torch.randn(16, 16000 if check.on_gpu else 4096, device=check.device)
    for n_fft in (64, 128, 256, 512, 1024, 2048):
        times = {}
        for engine in ("fft", "conv"):
            layer = STFT(n_fft, hop_length=n_fft // 4, engine=engine).to(check.device)
            times[f"{engine} ms"] = check.seconds(lambda layer=layer: layer(wave), 5) * 1e3
        check.add("engine", f"STFT, n_fft {n_fft}", None, **times)


def convolutions(check: Check) -> None:
    """Causal convolutions: the reference's numbers and gradients, no hidden wait; their time beside cuDNN's.

    Dense ones of float32 are compared without TF32, and timed with and without it.
    """
    channels, steps, batch = 256, 1024 if check.on_gpu else 30, 16 if check.on_gpu else 2
    kinds = ((3, 8, channels), (31, 1, channels), (3, 8, 1), (9, 1, 1))
    for (taps, dilation, groups), dtype in itertools.product(kinds, TOLERANCE):
        generator = torch.Generator().manual_seed(0)
        shapes = ((steps, batch, channels), (channels, channels // groups, taps), (channels,))
        x, weight, bias = (torch.randn(shape, generator=generator).to(check.device, dtype) for shape in shapes)
        weight = weight / (weight.shape[1] * taps) ** 0.5
        given = (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())

        def call(backend, given=given, dilation=dilation, groups=groups):
            with use(backend):
                y = causal_conv(*given, dilation=dilation, groups=groups, activation="silu")
                return y.detach(), *torch.autograd.grad(y, given, y.detach())

        kind = "dense" if groups == 1 else "depthwise"
        name = f"{kind}, {taps} taps, dilation {dilation}, {str(dtype).removeprefix('torch.')}"
        with check.trial("conv", f"{name}, no wait"):
            call(check.backend)
            with no_wait(check):
                call(check.backend)
        with use("reference"):
            double = tuple(t.detach().double().requires_grad_() for t in given)
            y = causal_conv(*double, dilation=dilation, groups=groups, activation="silu")
            true = (y.detach(), *torch.autograd.grad(y, double, y.detach()))
        with tf32(False):
            worst = max(map(error, call(check.backend), true))
        # the gradient's own gradient is rounded, too
        check.add("conv", name, worst <= 3 * TOLERANCE[dtype], error=worst)
        for allowed in (True, False) if kind == "dense" and dtype == torch.float32 else (True,):
            with tf32(allowed):
                times = {
                    b: check.seconds(lambda call=call, b=b: call(b), 5) * 1e3 for b in (check.backend, "reference")
                }
            figures = {"ms": times[check.backend], "cudnn_ms": times["reference"]}
            check.add("conv", f"{name}, forward and backward{'' if allowed else ', no TF32'}", None, **figures)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions may round float32 to TF32, ours and cuDNN's."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def delays(check: Check) -> None:
    """Delayed synapses and shifts of neurons: numbers, gradients, no hidden wait, a CUDA graph; the time of every form."""
    steps, batch, size, most = (100, 64, 256, 24) if check.on_gpu else (12, 2, 6, 4)
    x = currents(check, steps, batch, size)
    for per, sigma in [("synapse", 12.0), ("synapse", 0.5), ("synapse", 0.0)] + [
        (per, 0.5) for per in ("axon", "dendrite", "additive")
    ]:
        torch.manual_seed(0)
        layer = DelayedLinear(size, size, most, per=per).to(check.device)
        layer.set_sigma(sigma)

        def call(backend=check.backend, layer=layer, x=x):
            with use(backend):
                y, _ = layer(x)
                leaves = (x, layer.weight, layer.delay)
                return y.detach(), *torch.autograd.grad(y, leaves, y.detach(), materialize_grads=True)

        name = f"{per}, sigma {sigma:g}"
        forms = ("taps", "frequency", "dense") if per == "synapse" and check.on_gpu else ("",)
        double = x.detach().double().requires_grad_()
        true = call("reference", copy.deepcopy(layer).double(), double)
        for form in forms:
            chosen = mock.patch.object(delayed, "form_on_gpu", lambda *sizes, form=form: form)
            with chosen if form else contextlib.nullcontext(), tf32(False):
                worst = max(map(error, call(), true))
                seconds = check.seconds(call, 7)
            full = f"{name}, {form}" if form else name
            check.add("delays", full, worst <= TOLERANCE[x.dtype], error=worst, ms=seconds * 1e3)
        with check.trial("delays", f"{name}, no wait"), no_wait(check):
            call()
        with check.trial("delays", f"{name}, graph"):
            replay = captured(check, call)
            for replayed, eager in zip(replay(), call(), strict=True):
                if not torch.allclose(replayed, eager, rtol=1e-5, atol=1e-5):
                    raise RuntimeError("a replay gave other numbers than the call itself")
    delay_peers(check, x, most)


def delay_peers(check: Check, x: torch.Tensor, most: int) -> None:
    """cuDNN's convolution alone, with the kernels over all lags made beforehand; and dcls, which makes them."""
    size, pull = x.shape[2], x.detach().permute(1, 2, 0)
    late = F.pad(x.detach().permute(1, 2, 0), (most, 0)).requires_grad_()
    kernels = torch.randn(size, size, most + 1, device=check.device, requires_grad=True)
    peers: dict[str, Callable[[], Any]] = {
        "cuDNN": lambda: torch.autograd.grad(F.conv1d(late, kernels), (late, kernels), pull)
    }
    try:
        peer = importlib.import_module("DCLS.construct.modules")  # `dcls`, which no extra of the examples brings
    except ImportError as missing:
        check.add("delays", "dcls", None, skipped=str(missing))
    else:
        theirs = peer.Dcls1d(size, size, 1, dilated_kernel_size=most + 1, bias=False, version="gauss").to(check.device)
        peers["dcls"] = lambda: torch.autograd.grad(theirs(late), (late, theirs.weight, theirs.P), pull)
    for (name, call), allowed in itertools.product(peers.items(), (True, False)):
        with tf32(allowed):
            check.add(
                "delays", f"{name}, synapses{'' if allowed else ', no TF32'}", None, ms=check.seconds(call, 7) * 1e3
            )


def surroundings(device: torch.device) -> dict[str, str]:
    """Versions, and the GPU."""
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "triton", "spikingjelly"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = (
            f"{properties.name}, sm_{properties.major}{properties.minor}, {properties.total_memory >> 30} GiB"
        )
        found["cuda"] = str(torch.version.cuda)
    else:
        found["gpu"] = "none: a rehearsal on the CPU, whose figures say nothing"
    return found


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_check.json"), help="the JSON file to write (default: %(default)s)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="rehearse every part on the CPU, the reference against itself, at small sizes",
    )
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    if options.dry_run:
        check = Check("cpu", "reference", 20, 4, 32)
    elif torch.cuda.is_available():
        check = Check("cuda", "cuda", 128, 256, 1024)
    else:
        print(
            "gpu_check: there is no CUDA GPU here (torch.cuda.is_available() is False), so nothing was checked",
            file=sys.stderr,
        )
        return NO_GPU
    about = surroundings(check.device)
    print("\n".join(f"{name:13} {value}" for name, value in about.items()), flush=True)
    started = time.perf_counter()
    for section in (parity, waiting, graphs, speed, front_ends, engines, convolutions, delays):
        section(check)
    result = {"about": about, "seconds": time.perf_counter() - started, "failures": check.failures, **check.found}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{len(check.failures)} failed; {result['seconds']:.0f} s; written to {options.out}")
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
