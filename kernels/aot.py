"""Compile a kernel for a target that is not there, and read what it costs:
registers, spills, shared memory.

Spills are the compiler's own count (ptxas: stack bytes that a kernel without local
arrays can only use for spills; amdgcn: .vgpr_spill_count).
"""

import re
import subprocess
import tempfile
from importlib import import_module
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.targets import SHARED


class Cost(NamedTuple):
    """What a compiled kernel takes; registers and spills per thread."""

    registers: int
    spills: int
    shared: int

    def fits(self, target: str) -> bool:
        """No spill, and the shared memory is there."""
        return self.spills == 0 and self.shared <= SHARED[target]


class Plain(NamedTuple):
    """One binary of a kernel without a table of tiles.

    kernel: "module:function". types: what each argument that is no constant is
    ("*bf16", "i32", …); pointers are aligned. None as a constant: not given.
    """

    target: str
    kernel: str
    types: dict[str, str]
    constants: dict[str, object]
    warps: int = 4

    @property
    def name(self) -> str:
        """target kernel flags."""
        module, _, function = self.kernel.partition(":")
        room = module.split(".")[1]
        flags = [
            key.lower() if value is True else f"{key.lower()}={value}"
            for key, value in self.constants.items()
            if value is not False and value is not None
        ]
        kinds = {x for x in self.types.values() if x in ("*bf16", "*fp16")}
        # Most kernels have fp32 arguments; what the first one is tells them apart.
        kinds |= {x for x in list(self.types.values())[:1] if x == "*fp32"}
        parts = [*sorted(kind[1:] for kind in kinds), *flags]
        return f"{self.target} {room}.{function.strip('_')} {' '.join(parts)}"

    @property
    def choice(self) -> str:
        """How a program runs."""
        return f"{self.warps} warps"

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return {"num_warps": self.warps}

    def source(self) -> ASTSource:
        """The kernel specialised as a launch would do it."""
        module, _, function = self.kernel.partition(":")
        fn = getattr(import_module(module), function)
        given = {**dict.fromkeys(self.constants, "constexpr"), **self.types}
        signature = {name: given[name] for name in fn.arg_names}
        return ASTSource(fn, signature, self.constants, aligned(signature))


def aligned(signature: dict[str, str]) -> dict[tuple[int], list]:
    """Attributes of a launch whose pointers are multiples of 16."""
    return {
        (index,): [["tt.divisibility", 16]]
        for index, kind in enumerate(signature.values())
        if kind.startswith("*")
    }


def gpu_target(name: str) -> GPUTarget:
    """cuda:90, hip:gfx1100 … as the compiler names it."""
    backend, _, chip = name.partition(":")
    if backend == "cuda":
        return GPUTarget("cuda", int(chip), 32)
    return GPUTarget("hip", chip, 64 if chip.startswith("gfx9") else 32)


def cost(case) -> Cost:
    """Compile one case (target, source(), options) and read its resources."""
    compiled = triton.compile(
        case.source(), target=gpu_target(case.target), options=case.options
    )
    shared = compiled.metadata.shared
    if case.target.startswith("cuda"):
        registers, spills = _nvidia(compiled.asm["cubin"])
    else:
        registers, spills = _amd(compiled.asm["amdgcn"])
    return Cost(registers, spills, shared)


def _nvidia(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes as cuobjdump reports them."""
    tool = triton.knobs.nvidia.cuobjdump.path
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name],
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
    used = re.search(r"REG:(\d+) STACK:(\d+)", text)
    return int(used[1]), int(used[2])


def _amd(assembly: str) -> tuple[int, int]:
    """Vector registers and spills from the kernel's metadata."""
    registers = re.search(r"\.vgpr_count:\s*(\d+)", assembly)
    spills = re.search(r"\.vgpr_spill_count:\s*(\d+)", assembly)
    return int(registers[1]), int(spills[1])
