"""What the machine code of a compiled Triton kernel says about it: registers, spills, shared memory, width of its memory
accesses. Read by the disassembler that Triton brings; no GPU is needed."""

import re
import subprocess
import tempfile
from collections import Counter
from typing import Any, NamedTuple

__all__ = ["MachineCode", "machine_code"]


class MachineCode(NamedTuple):
    """Of one kernel.

    registers: a thread.
    local_bytes: of local memory a thread (spilled registers, arrays), with its stack.
    shared_bytes: of shared memory a program.
    accesses: how many instructions there are of each kind that reads or writes global (LDG, STG) or local (LDL, STL) memory.
    fused: how many are multiply-adds that round once, of float32.
    """

    registers: int
    local_bytes: int
    shared_bytes: int
    accesses: Counter[str]
    fused: int

    @property
    def spills(self) -> int:
        """Instructions that read or write local memory."""
        return sum(count for name, count in self.accesses.items() if name.startswith(("LDL", "STL")))

    def narrow(self) -> set[str]:
        """The instructions that read or write less than 128 bits of global memory a thread."""
        return {name for name in self.accesses if name.startswith(("LDG", "STG")) and ".128" not in name}


def machine_code(compiled: Any) -> MachineCode:
    """Of what ``Launch.compile`` returns."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, listing = _disassemble("-res-usage", file.name), _disassemble("-sass", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of a kernel's resources:\n{usage}")
    registers, stack, shared, local = map(int, found.groups())
    accesses = Counter(re.findall(r"\b((?:LDGSTS|(?:LD|ST)[GL])(?:\.[\w.]+)?)(?=\s)", listing))
    fused = len(re.findall(r"\bFFMA", listing))
    return MachineCode(registers, stack + local, max(shared, compiled.metadata.shared), accesses, fused)


def _disassemble(option: str, path: str) -> str:
    from triton import knobs

    command = [knobs.nvidia.cuobjdump.path, option, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
