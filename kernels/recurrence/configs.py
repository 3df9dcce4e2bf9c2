"""How the kernels of the recurrence run: tables per target, no tuning at run time.

`make aot` compiles every choice; none may spill.
"""

from typing import NamedTuple

import torch

from kernels.targets import INTERPRETER, RECURRENT

WIDEST = 128
"""Keys; values may have one column more: a sum of weights."""


class Tile(NamedTuple):
    """columns: of the state that a program of `states` goes through the chunks with;
    of every other kernel, what it multiplies at a time, at most.
    """

    columns: int
    warps: int
    stages: int

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return {"num_warps": self.warps, "num_stages": self.stages}


KERNELS = ("sums", "erased", "inverse", "solved", "states", "mix", "decays")
ONE = Tile(64, 4, 1)
HALF = {
    "sums": ONE,
    "erased": ONE,
    "inverse": Tile(64, 8, 1),
    "solved": ONE,
    "states": Tile(32, 4, 2),
    "mix": ONE,
    "decays": Tile(32, 8, 1),
}
SINGLE = HALF | {
    "erased": Tile(32, 8, 1),
    "solved": Tile(32, 8, 1),
    "states": Tile(16, 8, 1),
    "mix": Tile(32, 8, 1),
    "decays": Tile(16, 4, 1),
}
# What differs from HALF.
OTHERS = {("hip:gfx942", "decays"): Tile(16, 4, 1)}


def tile(target: str, kernel: str, dtype: torch.dtype, width: int) -> Tile:
    """The tile of a kernel for keys that wide; NotImplementedError where there is none."""
    if not served(target, width):
        raise NotImplementedError(
            f"no tiles for keys {width} wide on {target}: add them to {__name__}, or "
            "use CONFIG_MIXER_IMPL_REFERENCE"
        )
    if dtype == torch.float32:
        return SINGLE[kernel]
    return OTHERS.get((target, kernel), HALF[kernel])


def served(target: str, width: int) -> bool:
    """Whether there are tiles for keys that wide."""
    return target in (*RECURRENT, INTERPRETER) and width <= WIDEST


def step(width: int, most: int) -> int:
    """Columns of a tile: a power of 2 of at most `most` that leaves little over."""
    if width > most and most > 32 and width % most:
        most = 32
    return max(16, min(most, 1 << (width - 1).bit_length()))


def size(dtype: torch.dtype) -> int:
    """C, tokens of a chunk: products of fp32 tiles of 64 tokens do not fit registers."""
    return 16 if dtype == torch.float32 else 64


def padded(width: int) -> int:
    """The columns of a tile that holds them all."""
    return max(16, 1 << (width - 1).bit_length())
