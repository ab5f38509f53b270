"""Which backends of the kernels work here, and why the others do not."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from ._finding import Finding

__all__ = ["backends"]


def backends() -> Iterator[Finding]:
    """The choice in force, then each backend: reference, cpu, cuda."""
    import temporal.kernels
    from temporal.kernels._dispatch import _KNOWN as known

    wanted = os.environ.get("TEMPORAL_KERNELS") or "auto"
    if wanted not in known:
        text = f"TEMPORAL_KERNELS={wanted} is no backend: every operator will refuse"
        yield Finding("choice", text, "problem", f"one of {', '.join(known)}; or unset it")
    elif wanted == "auto":
        yield Finding("choice", "each operator takes the fastest that can do what is asked", data={"kernels": wanted})
    else:
        yield Finding("choice", f"{wanted} alone, by TEMPORAL_KERNELS", "note", data={"kernels": wanted})
    folder = Path(temporal.kernels.__path__[0])
    having = {
        backend: sorted(file.parent.name for file in folder.glob(f"[!_]*/{backend}.py"))
        for backend in ("reference", "cpu", "cuda")
    }
    yield _loaded("reference", "plain torch", having["reference"])
    yield _loaded("cpu", "numba", having["cpu"])
    yield _cuda(having["cuda"])


def _loaded(backend: str, by: str, operators: list[str]) -> Finding:
    """Whether the modules of all operators load; what they compute is compared in the check."""
    faults: dict[str, str] = {}
    for operator in operators:
        try:
            importlib.import_module(f"temporal.kernels.{operator}.{backend}")
        except Exception as error:
            faults[operator] = (str(error).strip().splitlines() or [type(error).__name__])[0]
    data = {"operators": operators, "faults": faults}
    if faults:
        operator, why = next(iter(faults.items()))
        text = f"{by}: {len(faults)} of {len(operators)} operators do not load; {operator}: {why}"
        return Finding(backend, text, "problem", "see packages", data)
    return Finding(backend, f"{by}: {len(operators)} operators ({', '.join(operators)})", data=data)


def _cuda(operators: list[str]) -> Finding:
    why, hint = _no_gpu()
    if why:
        return Finding("cuda", f"does not work here: {why}", "note", hint, {"operators": operators, "why": why})
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = _loaded("cuda", f"Triton on {', '.join(names)}", operators)
    found.data["devices"] = names
    found.hint = found.hint or "python examples/gpu_check.py tries everything on it in two minutes"
    return found


def _no_gpu() -> tuple[str, str]:
    """Why no kernel can run on a GPU, and what would change that; empty if one can."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA",
            "a CPU is enough; with an NVIDIA GPU install torch for CUDA",
        )
    if not torch.cuda.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        if hidden is not None:
            return f"torch sees no GPU, with CUDA_VISIBLE_DEVICES={hidden!r}", "unset it"
        return "torch sees no GPU", "a CPU is enough; if there is a GPU, nvidia-smi shows whether its driver works"
    try:
        importlib.import_module("triton")
    except Exception as error:
        return f"Triton cannot be loaded: {error}", "pip install 'temporal[gpu]'"
    major, minor = torch.cuda.get_device_capability()
    if major < 8 and torch.version.hip is None:
        return f"the GPU is of sm_{major}{minor}; the kernels are made for sm_80 and newer", "the reference runs on it"
    return "", ""
