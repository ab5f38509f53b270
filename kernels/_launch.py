"""A call of a Triton kernel as a value: to be made, or to be compiled for a GPU that is not there."""

import contextlib
import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["LAUNCH_OPTIONS", "WARP", "Launch", "announce"]

WARP = 32  # threads
# One warp a program: no thread waits for another. No fused multiply-add: see ``_scan/_triton.py``. All registers there are:
# some architectures' compilers otherwise spill a few to have more warps.
LAUNCH_OPTIONS = {"num_warps": 1, "enable_fp_fusion": False, "maxnreg": 255}

_TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
}


class Launch(NamedTuple):
    """One call of a kernel, not yet made; ``options`` are Triton's, of warps, registers and fusion."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    constants: dict[str, Any]
    options: dict[str, Any] = LAUNCH_OPTIONS

    def run(self, device: torch.device) -> None:
        """Queue it on the tensors' device."""
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self.kernel[(self.programs,)](**self.arguments, **self.constants, **self.options)

    def compile(self, capability: int) -> Any:
        """What Triton makes of it for a GPU of that capability (80, 90, 100), which need not be there.

        Tensors are taken to start at multiples of 16 bytes, as torch allocates them; they may be "meta".
        """
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        signature: dict[str, Any] = {}
        constants: dict[tuple[int, ...], Any] = {}
        hints: dict[tuple[int, ...], Any] = {}
        for place, name in enumerate(self.kernel.arg_names):
            if name in self.constants:
                signature[name], constants[(place,)] = "constexpr", self.constants[name]
                continue
            signature[name] = _type(self.arguments[name])
            for path, part in _parts(self.arguments[name], place):
                if part is None:
                    constants[path] = None
                elif isinstance(part, Tensor):
                    hints[path] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, hints)
        return triton.compile(source, target=GPUTarget("cuda", capability, WARP), options=self.options)


class _Announcer:
    """Says so when a kernel was compiled, not when it came from Triton's cache; once for each kernel."""

    def __init__(self, whose: str, kernels: tuple[Any, ...], before: Any):
        self.whose = whose
        self.unsaid = {kernel.__name__ for kernel in kernels}
        self.before = before  # whoever listened already

    def __call__(self, *, src: Any, cache_hit: bool, **more: Any) -> None:
        name = getattr(src, "name", None)
        if not cache_hit and name in self.unsaid:
            self.unsaid.remove(name)
            logging.getLogger("temporal").warning(
                "temporal: compiled %s %s for this kind of GPU, once", self.whose, name
            )
        if self.before is not None:
            self.before(src=src, cache_hit=cache_hit, **more)


def announce(whose: str, *kernels: Any) -> None:
    """Tell the user of the seconds that the first compilation of these takes, where this Triton lets one know."""
    from triton import knobs

    if hasattr(knobs, "compilation") and hasattr(knobs.compilation, "listener"):
        knobs.compilation.listener = _Announcer(whose, kernels, knobs.compilation.listener)


def _parts(argument: Any, *path: int) -> list[tuple[tuple[int, ...], Any]]:
    """An argument, or what a tuple of them holds, each with its place."""
    if isinstance(argument, tuple):
        return [((*path, k), part) for k, part in enumerate(argument)]
    return [(path, argument)]


def _type(argument: Any) -> Any:
    """An argument's type, as Triton writes it."""
    if isinstance(argument, tuple):
        return tuple(map(_type, argument))
    if argument is None:
        return "constexpr"
    return f"*{_TYPES[argument.dtype]}" if isinstance(argument, Tensor) else {int: "i32", float: "fp32"}[type(argument)]
