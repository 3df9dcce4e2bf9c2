"""The binaries of the recurrence, for `make aot`."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from triton.compiler import ASTSource

from kernels.aot import aligned
from kernels.attention.aot import COMPILED, TYPES
from kernels.recurrence import kernel, kernel_solve
from kernels.recurrence.configs import Tile, padded, served, size, step, tile
from kernels.targets import TARGETS

# K and V of a head: linear attention has a column more for the sum of its weights, and
# columns are padded to multiples of 8.
WIDTHS = ((64, 64), (64, 72), (128, 128))
SINGLE = {"STATE", "LAST", "SUMS", "G", "DG", "M"}
# What `mix` computes (launch.py): of the forward pass, of the backward pass, a product
# with R. The rest differ in a sign or a mask.
MIXES = {
    "o": {"SECOND": True, "ENTERS": True},
    "dk": {"SECOND": True, "ENTERS": True, "REVERSED": True, "STRICTER": True},
    "U": {"STRICT": True, "SOLVED": True},
}
MASKS = ("REVERSED", "STRICT", "STRICTER", "NEGATED", "SECOND", "ENTERS", "SOLVED")


class Case(NamedTuple):
    """One binary; variant: a way of `mix`, or back."""

    target: str
    kernel: str
    K: int
    V: int
    dtype: torch.dtype
    variant: str
    delta: bool
    tile: Tile

    @property
    def name(self) -> str:
        """target kernel widths dtype flags."""
        flags = f"{'delta' if self.delta else 'sum'} {self.variant}".strip()
        dtype = TYPES[self.dtype]
        shape = f"K{self.K} V{self.V}"
        return f"{self.target} recurrence.{self.kernel} {shape} {dtype} {flags}"

    @property
    def size(self) -> int:
        """Tokens of a chunk."""
        return size(self.dtype)

    @property
    def choice(self) -> str:
        """The tile and how a program runs."""
        tile = self.tile
        return f"{self.size}x{tile.columns} {tile.warps} warps {tile.stages} stages"

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return self.tile.options

    def source(self) -> ASTSource:
        """The kernel specialised as a launch would do it."""
        of = kernel_solve if self.kernel in vars(kernel_solve) else kernel
        fn = getattr(of, self.kernel)
        constants = {k: v for k, v in self._constants().items() if k in fn.arg_names}
        signature = {}
        for name in fn.arg_names:
            if name in constants:
                signature[name] = "constexpr"
            elif name in ("T", "H"):
                signature[name] = "i32"
            else:
                kind = "fp32" if name in SINGLE else TYPES[self.dtype]
                signature[name] = "*i32" if name == "STARTS" else f"*{kind}"
        return ASTSource(fn, signature, constants, aligned(signature))

    def _constants(self) -> dict[str, object]:
        K, V, columns = self.K, self.V, self.tile.columns
        back, mixes = self.variant in ("back", "dk"), self.kernel == "mix"
        W, out = (V, K) if self.variant == "dk" else (K, V)
        absent = [] if self.delta else ["ERASES", "W", "U", "ANSWERS", "E", "DW"]
        if mixes:
            asked = MIXES[self.variant]
            absent = [] if "SECOND" in asked and self.delta else ["Y", "Z"]
            absent += [] if "SOLVED" in asked else ["R"]
            absent += [] if "ENTERS" in asked else ["STATES"]
        found = dict.fromkeys(absent)
        found |= {"C": self.size, "DECAY": True, "DOCUMENTS": True, "DELTA": self.delta}
        found |= {"K": K, "K_PAD": padded(K), "V": out if mixes else V}
        found |= {"N": step(out if mixes else V, columns), "REVERSED": back}
        if mixes or self.kernel == "solved":
            found["W"] = W
        if mixes:
            found |= {name: asked.get(name, False) for name in MASKS}
            found["SECOND"] &= self.delta
            found |= {"ACROSS": 1 if back else V, "DOWN": V if back else 1}
        width = columns if self.kernel == "decays" else step(W, columns)
        return found | {"STEP": width}


def cases(targets: tuple[str, ...] = TARGETS, full: bool = False) -> Iterator[Case]:
    """Every tile that a launch can choose, per target, in its heavier variants; full:
    without the delta rule too.
    """
    variants = [("sums", ""), ("erased", ""), ("inverse", ""), ("solved", "")]
    variants += [("states", ""), ("states", "back"), ("decays", "")]
    variants += [("mix", way) for way in MIXES]
    alone = ("states", "mix", "decays")
    for target, dtype, (K, V) in product(targets, COMPILED, WIDTHS):
        for name, variant in variants if served(target, K) else ():
            choice = tile(target, name, dtype, K)
            for delta in (True, False) if full and name in alone else (True,):
                if delta or variant != "U":
                    yield Case(target, name, K, V, dtype, variant, delta, choice)
