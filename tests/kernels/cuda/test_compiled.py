"""The Triton kernels compiled ahead of time, without a GPU, and what their machine code says."""

import itertools
import os
import pathlib
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest
import torch

pytest.importorskip("triton", reason="the compiler of the kernels, which is not installed")

from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from temporal.benchmarks import kernels
from temporal.benchmarks._machine_code import machine_code
from temporal.kernels._launch import LAUNCH_OPTIONS
from temporal.kernels._scan import Rule, steps_per_checkpoint
from temporal.kernels.surrogates import names

ROOT = pathlib.Path(__file__).parents[3]
TABLE = (ROOT / "benchmarks" / "KERNELS.md").read_text(encoding="utf-8")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CASES = {case.name: case for case in kernels.cases(dtypes=DTYPES)}
# Bytes a neuron-step that may be moved: by inference with dense and with packed spikes, and by training.
BUDGET = {torch.float32: (8.2, 4.2, 17), torch.bfloat16: (4.2, 2.2, 9), torch.float16: (4.2, 2.2, 9)}

FAST = [
    "lif, inference, float32",
    "lif, inference, packed, bfloat16",
    "lif, training backward, scalar knobs, bfloat16",
    "cuba, training forward, packed, float32",
    "cuba, training backward, scalar knobs, float32",
    "adaptive, training backward, all knobs learned, float32",
    "adaptive_late, training backward, scalar knobs, float32",
]


def check(code, allowed: frozenset = frozenset()) -> None:
    assert code.spills == 0 and code.local_bytes == 0
    assert code.fused == 0, "a fused multiply-add: the spikes may differ from the reference's"
    assert code.shared_bytes == 0, "the threads of a warp need no memory to talk to each other"
    assert {name.split(".")[0] for name in code.accesses} == {"LDG", "STG"}
    assert code.narrow() <= allowed, code.accesses


def check_case(name: str, architecture: int) -> None:
    """128-bit accesses, but for the bytes of packed spikes and for 16 bits with all knobs learned, whose registers do not
    suffice for 8 neurons a thread."""
    case = CASES[name]
    allowed = {"STG.E.U8"} if "packed" in name else set()
    if "learned" in name and case.dtype != torch.float32:
        allowed = {"LDG.E.64", "STG.E.64"}
    check(case.compile(architecture), allowed=frozenset(allowed))


@pytest.mark.parametrize("name", FAST)
def test_machine_code(name):
    check_case(name, 90)


@pytest.mark.parametrize("architecture", [80, 100])
def test_machine_code_of_other_architectures(architecture):
    check_case("lif, training backward, scalar knobs, float32", architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
@pytest.mark.parametrize("name", CASES)
def test_all_machine_code(name, architecture):
    check_case(name, architecture)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neuron", ["lif", "cuba", "adaptive", "adaptive_late"])
def test_bytes_of_a_neuron_step(neuron, dtype):
    of = {case.pass_: case.bytes for case in CASES.values() if case.neuron == neuron and case.dtype == dtype}
    dense, packed, training = BUDGET[dtype]
    assert of["inference"] <= dense and of["inference, packed"] <= packed
    for knobs in ("scalar knobs", "all knobs learned"):
        assert of["training forward, packed"] + of[f"training backward, {knobs}"] <= training
    size = dtype.itemsize
    assert of["inference"] > 2 * size and of["training backward, scalar knobs"] > 3 * size  # nothing was forgotten


def launches(
    neuron, dtype, device="meta", *, learned=(), kind="row", lengths=False, membranes=False, truncate=0, every=None,
    features=512, **rule,
):  # fmt: skip
    """The two kernels of a call as they would be launched, forward and backward."""
    fused = import_module(f"temporal.kernels.{neuron}.cuda").fused
    every = every or steps_per_checkpoint(fused.family, "cuda")
    x = torch.empty(64, 128, features, dtype=dtype, device=device)
    fields = fused.family.knobs._fields
    learned = fields if learned == "all" else learned
    tensor = x.new_empty(features if kind == "row" else 1, dtype=torch.float32)
    state = fused.family.state(*(x.new_empty(x.shape[1:], dtype=torch.float32) for _ in fused.family.state._fields))
    knobs = fused.family.knobs(*(tensor if field in learned else torch.tensor(0.5) for field in fields))
    ends = x.new_empty(x.shape[1], dtype=torch.int64) if lengths else None
    rule = Rule(**{"hard": True, "strict": False, "detach_reset": False, "surrogate": "atan", "alpha": 2.0} | rule)
    (*_, checkpoints), forward = fused.plan_forward(x, state, knobs, ends, rule, membranes, every)
    _, backward = fused.plan_backward(
        x, x.new_empty(x.shape, dtype=torch.float32) if membranes else None, fused.family.state(*[None] * len(state)), x,
        checkpoints, knobs, ends, rule, every, truncate, [field in learned for field in fields],
    )  # fmt: skip
    return forward, backward


def backward(neuron, dtype, **options):
    """The backward kernel's machine code, for sm_90."""
    return machine_code(launches(neuron, dtype, **options)[1].compile(90))


class _Driver:
    """Of a GPU that is not there."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.mark.parametrize(("neuron", "kind", "lengths"), [("lif", "row", False), ("adaptive_late", "element", True)])
def test_what_is_compiled_here_is_what_a_launch_compiles(neuron, kind, lengths, monkeypatch):
    """Triton's own launcher, short of launching, makes the same machine code of the same arguments."""
    both = launches(neuron, torch.bfloat16, "cpu", learned=("decay",), kind=kind, lengths=lengths)
    monkeypatch.setattr(driver, "_active", _Driver())
    for launch in both:
        monkeypatch.setattr(launch.kernel, "device_caches", launch.kernel.device_caches.copy())
        launch.kernel.device_caches.clear()
        launched = launch.kernel.warmup(
            grid=(launch.programs,), **launch.arguments, **launch.constants, **LAUNCH_OPTIONS
        )
        assert launched.asm["cubin"] == launch.compile(90).asm["cubin"]


@pytest.mark.parametrize("hard", [True, False])
def test_a_layer_that_learns_tau_and_threshold_in_16_bits(hard):
    """The usual trained layer: with a hard reset its loads are wide, too; a soft one subtracts the learned threshold."""
    learned = ("decay", "threshold") if hard else ("decay", "threshold", "reset")
    code = backward("lif", torch.bfloat16, learned=learned, hard=hard)
    check(code, allowed=frozenset() if hard else frozenset({"LDG.E.64", "STG.E.64"}))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("neuron", ["lif", "cuba", "adaptive", "adaptive_late"])
def test_no_call_spills(neuron, dtype):
    everything = {"lengths": True, "membranes": True, "truncate": 7}
    for hard, detach_reset in itertools.product([True, False], repeat=2):
        rule = {"hard": hard, "detach_reset": detach_reset}
        for learned, kind in (((), "row"), (("decay", "threshold"), "row"), ("all", "row"), ("all", "element")):
            for more in ({}, everything):
                code = backward(neuron, dtype, learned=learned, kind=kind, **rule, **more)
                assert code.spills == code.local_bytes == code.fused == 0, (rule, learned, kind, more)


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", names())
def test_no_surrogate_spills(surrogate):
    for neuron, dtype in itertools.product(("lif", "adaptive_late"), (torch.float32, torch.bfloat16)):
        for learned in ((), "all"):
            code = backward(neuron, dtype, learned=learned, surrogate=surrogate)
            assert code.spills == code.local_bytes == code.fused == 0


@pytest.mark.slow
@pytest.mark.parametrize("features", [511, 510, 508, 504])
@pytest.mark.parametrize("every", [1, 5, 16, 24, 64])
def test_odd_rows_and_blocks(features, every):
    """Narrower accesses where the features are no multiple of 4 (8), but never local memory."""
    for dtype in (torch.float32, torch.bfloat16):
        code = backward("adaptive", dtype, learned="all", every=every, features=features)
        assert code.spills == code.local_bytes == code.fused == 0


def test_more_neurons_than_can_be_counted_are_refused():
    fused = import_module("temporal.kernels.lif.cuda").fused
    x = torch.empty(1, 4, 2**29, device="meta")
    with pytest.raises(ValueError, match=r"lif: x of shape \[1, 4, 536870912\] has 2147483648 neurons; the most is"):
        fused.forward(x, fused.family.state(x[0]), (), None, None, None, False, 0)


def committed_version() -> str:
    return next(line for line in TABLE.splitlines() if line.startswith("triton ")).removeprefix("triton ")


same_compiler = pytest.mark.skipif(
    committed_version() != version("triton"), reason="KERNELS.md was written with another version of triton"
)


@same_compiler
@pytest.mark.parametrize("name", ["lif, inference, packed, float32", "lif, training backward, scalar knobs, float32"])
def test_a_line_of_the_committed_table(name):
    assert kernels.row(CASES[name]) in TABLE.splitlines()


def test_the_committed_table_has_every_case():
    rows = [line.removeprefix("| ").split(" | ")[:3] for line in TABLE.splitlines() if line.count(" | ") == 11]
    assert [", ".join(row) for row in rows[2:]] == [case.name for case in kernels.cases()]


@pytest.mark.slow
@same_compiler
def test_the_committed_table_is_what_is_generated(tmp_path):
    kernels.main([str(tmp_path / "KERNELS.md")])
    assert (tmp_path / "KERNELS.md").read_text(encoding="utf-8") == TABLE


@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
def test_bands_of_spectra_use_no_local_memory(architecture):
    for name, launch, _ in kernels.spectral_cases():
        code = machine_code(launch.compile(architecture))
        assert code.spills == 0 and code.local_bytes == 0, name
        assert {access.split(".")[0] for access in code.accesses} == {"LDG", "STG"}
        assert code.registers <= 128, (name, code)  # 16 warps and more a multiprocessor hide the way to memory


@same_compiler
def test_the_committed_lines_about_bands():
    assert "\n".join(kernels.spectral_table()) in TABLE


@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
def test_convolutions_use_no_local_memory_and_wide_accesses(architecture):
    for name, launch, _ in kernels.dilated_cases():
        code = machine_code(launch.compile(architecture))
        assert code.spills == 0 and code.local_bytes == 0, name
        assert {access.split(".")[0] for access in code.accesses} <= {"LDG", "STG"}
        assert code.registers <= 168, (name, code)  # 12 warps and more a multiprocessor hide the way to memory
        assert not code.narrow() - {"LDG.E.64", "STG.E.64"}, (name, code)


def check_dense(name, launch, architecture):
    """Signals in 128 bits, on their way to tensor cores; only a bias is read in less."""
    code = machine_code(launch.compile(architecture))
    assert code.spills == 0 and code.local_bytes == 0, (name, code)
    copied = [access for access in code.accesses if access.startswith("LDGSTS")]
    assert copied and all(access.endswith(".128") for access in copied), (name, code)
    assert code.narrow() <= {"LDG.E", "LDG.E.64"} and (not code.narrow() or "forward" in name), (name, code)
    assert code.registers <= 255 and code.shared_bytes <= 163 << 10, (name, code)  # of an A100's multiprocessor


def test_dense_convolutions_use_no_local_memory_and_wide_accesses():
    name, launch, _ = next(kernels.dense_cases())
    check_dense(name, launch, 90)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
def test_all_dense_convolutions(architecture):
    for name, launch, _ in kernels.dense_cases():
        check_dense(name, launch, architecture)


def test_three_products_where_torch_allows_no_tf32(monkeypatch):
    from temporal.kernels.dilated import cuda

    x, weight = torch.empty(64, 2, 32, device="meta"), torch.empty(32, 32, 3, device="meta")

    def precision(x):
        return cuda.plan_dense(x, weight.to(x.dtype), None, None, 1, "none", False)[2].constants["PRECISION"]

    assert (precision(x), precision(x.bfloat16())) == ("tf32", "tf32")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert (precision(x), precision(x.bfloat16())) == ("tf32x3", "tf32")


@same_compiler
def test_the_committed_lines_about_convolutions():
    assert "\n".join(kernels.dilated_table()) in TABLE


def check_delays(case, architecture):
    """Signals in 128 bits; only a synapse's place, its weights and its sums in 32."""
    code = machine_code(case.launch.compile(architecture))
    assert code.spills == 0 and code.local_bytes == 0, case.name
    assert {access.split(".")[0] for access in code.accesses} == {"LDG", "STG"}
    assert code.registers <= 168, (case.name, code)  # 12 warps and more a multiprocessor hide the way to memory
    allowed = {"LDG.E"} if "synapses" in case.name else set()
    allowed |= {"STG.E"} if "for taps" in case.name else set()
    assert code.narrow() <= allowed and code.accesses["LDG.E.128"] >= 8, (case.name, code)


def test_delays_use_no_local_memory_and_wide_accesses():
    for case in kernels.delayed_cases(counts=(6,)):
        check_delays(case, 90)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
def test_delays_of_any_number_of_taps(architecture):
    """25 taps, of a wide sigma, are groups of 7."""
    for case in kernels.delayed_cases(counts=(1, 2, 3, 4, 6, 25)):
        check_delays(case, architecture)


@same_compiler
def test_the_committed_lines_about_delays():
    case = next(case for case in kernels.delayed_cases(counts=(6,)) if case.name.startswith("shift, forward"))
    codes = [machine_code(case.launch.compile(architecture)) for architecture in kernels.ARCHITECTURES]
    registers = "/".join(str(code.registers) for code in codes)
    assert f"| {case.name} | {registers} | 0/0/0 |" in TABLE
    assert [c.name for c in kernels.delayed_cases()] == [
        line.split(" | ")[0].removeprefix("| ")
        for line in TABLE.splitlines()
        if line.startswith(("| synapses,", "| shift,"))
    ]


ONE_COMPILATION = """
from temporal.benchmarks import kernels
case = next(case for case in kernels.cases() if case.name == "lif, inference, float32")
case.launch.compile(90)
case.launch.compile(80)
"""


def test_one_line_at_the_first_compilation_and_none_from_the_cache(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    for expected in (["temporal: compiled the neurons' forward_kernel for this kind of GPU, once"], []):
        done = subprocess.run(
            [sys.executable, "-c", ONE_COMPILATION],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line for line in done.stderr.splitlines() if line.startswith("temporal:")] == expected
