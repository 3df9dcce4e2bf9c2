"""The binaries of the decode kernels, for `make aot`."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from triton.compiler import ASTSource

from kernels.attention.aot import COMPILED, TYPES
from kernels.attention.configs import Tile
from kernels.decode import kernel
from kernels.decode.configs import MOST_PARTS, WIDEST, chunk, tile
from kernels.decode.launch import STEP
from kernels.targets import TARGETS

HEADS = 12
# Widths of heads with keys of their own, and of latents before heads of 64.
OWN, LATENTS = (16, 64, 128), (64, 128, 256, 512)
FLOATS = ("ALPHA", "ACC", "TOTAL", "TOP")


class Case(NamedTuple):
    """One binary; width: of products and values, a head's or a latent's."""

    target: str
    kernel: str
    width: int
    dtype: torch.dtype
    several: bool
    latent: bool
    band: bool
    pick: bool
    tile: Tile

    @property
    def name(self) -> str:
        """target kernel width dtype flags."""
        flags = ("softpick" if self.pick else "softmax") + "+ra" * self.band
        flags += "+rows" * self.several
        width = f"{'L' if self.latent else 'D'}{self.width}"
        dtype = TYPES[self.dtype]
        return f"{self.target} decode.{self.kernel} {width} {dtype} {flags}"

    @property
    def choice(self) -> str:
        """The tile and how a program runs."""
        tile = self.tile
        return f"{tile.m}x{tile.n} {tile.warps} warps {tile.stages} stages"

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return self.tile.options

    def source(self) -> ASTSource:
        """The kernel specialised as a launch with aligned inputs would do it."""
        return _source(self)


def cases(targets: tuple[str, ...] = TARGETS) -> Iterator[Case]:
    """Every tile that a launch can choose, per target, in its heavier variants."""
    bools = (False, True)
    for target, dtype in product(targets, COMPILED):
        for latent, band, pick, several in product(bools, bools, bools, bools):
            if latent and not several or not (band or pick):
                continue  # all heads share a latent; less than either alone
            for width in LATENTS if latent else OWN:
                choice = tile(target, width, several)
                flags = several, latent, band, pick, choice
                yield Case(target, "parts", width, dtype, *flags)
        for pick in bools:
            flags = False, True, False, pick, Tile(1, STEP, 4, 3)
            yield Case(target, "merge", WIDEST, dtype, *flags)


def _source(case: Case) -> ASTSource:
    fn, dtype = getattr(kernel, case.kernel), TYPES[case.dtype]
    D = 64 if case.latent else case.width
    constants = {
        "GROUP": HEADS if case.several else 1,
        "J_GROUP": 1 if case.latent or not case.several else HEADS,
        "C": case.width,
        "C_PAD": case.width,
        "WIDE": case.width,
        "WIDE_PAD": case.width,
        "D": D,
        "D_PAD": D,
        "CHUNK": chunk(case.tile, D),
        "ROWS": case.tile.m,
        "BLOCK_N": case.tile.n,
        "BAND": case.band,
        "PICK": case.pick,
        "SAFE": True,
        "UNSAFE": False,
        "MOST": MOST_PARTS,
        "STEP": STEP,
    }
    if not case.band:
        constants |= dict.fromkeys(("QUERIES", "KEYS", "ALPHA"))
    signature, attributes = {}, {}
    loose = {"S", "n", "w", "H", "first", "length", "window", "band", "count"}
    for index, name in enumerate(fn.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name == "scale":
            signature[name] = "fp32"
        elif name in loose:
            signature[name] = "i32"
        else:
            attributes[(index,)] = [["tt.divisibility", 16]]
            pointer = name.isupper()
            kind = f"*{'fp32' if name in FLOATS else dtype}" if pointer else "i32"
            signature[name] = kind
    constants = {name: constants[name] for name in fn.arg_names if name in constants}
    return ASTSource(fn, signature, constants, attributes)
