"""Which tile each kernel runs with: one table per target, no tuning at run time.

A tile is chosen by target, kernel, padded head width, variant and whether rows are
short, ragged or have a tail; the first row that matches serves. `make aot` compiles
every tile without a GPU and refuses spills, so a faster tile that spills is not here.
cuda:90 was measured on an H100 and an H200 (results/bench), except for ragged rows, tails and
repairs; the others are the largest that fit.
"""

from functools import cache
from typing import NamedTuple

import torch

from kernels.targets import INTERPRETER, TARGETS, target_of

KERNELS = ("forward", "band", "row", "column")
WIDTHS = (16, 32, 64, 128)
# Rows of up to so many tokens are short.
SHORT = 2048


class Tile(NamedTuple):
    """Rows of a query block (m) and a key block (n), and how a program runs.

    descriptors: stream unmasked blocks through tensor descriptors where the
    layout allows them (the values are the same). ahead: stages of the loops over
    a band's tiles; of the forward pass, whose loop reads three tiles, they decide how
    much shared memory a program takes.
    """

    m: int
    n: int
    warps: int
    stages: int
    registers: int | None = None
    descriptors: bool = False
    ahead: int = 1

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        options = {"num_warps": self.warps, "num_stages": self.stages}
        if self.registers is not None:
            options["maxnreg"] = self.registers
        return options


class Row(NamedTuple):
    """Serves heads up to `width` wide; band, pick (softpick), short, tail and ragged:
    True, False or None for both.
    """

    width: int
    band: bool | None
    pick: bool | None
    tile: Tile
    short: bool | None = None
    tail: bool | None = None
    ragged: bool | None = None

    def matches(
        self,
        width: int,
        band: bool,
        pick: bool,
        short: bool = False,
        tail: bool = False,
        ragged: bool = False,
    ) -> bool:
        """Whether it serves this."""
        own = self.band, self.pick, self.short, self.tail, self.ragged
        flags = zip(own, (band, pick, short, tail, ragged))
        return width <= self.width and all(flag in (None, is_) for flag, is_ in flags)


# Of heads of 128 with softpick and masks at the end, four warps spill.
WIDE = Tile(32, 64, 8, 3)
WIDE_BAND = Tile(32, 64, 8, 3, descriptors=True, ahead=3)
# Where four warps fit with two stages alone.
NARROW = Tile(32, 64, 4, 2, descriptors=True)
# With a statistic.
GATHERING_BAND = Tile(32, 64, 4, 3, descriptors=True, ahead=3)
# fp16 and bf16.
HALF: dict[str, dict[str, list[Row]]] = {
    "cuda:90": {
        "forward": [
            Row(64, True, None, Tile(64, 64, 4, 3, descriptors=True, ahead=2)),
            Row(64, False, True, Tile(64, 32, 4, 3, descriptors=True), short=True),
            Row(64, False, False, Tile(64, 64, 4, 3), short=True),
            Row(64, False, None, Tile(64, 64, 4, 3, descriptors=True)),
            Row(128, True, None, Tile(64, 32, 4, 3, descriptors=True), tail=True),
            # Three programs per processor: 168 registers, and little shared memory.
            Row(128, True, None, Tile(64, 32, 4, 3, registers=168, descriptors=True)),
            Row(128, False, None, Tile(64, 32, 4, 3, descriptors=True)),
        ],
        "band": [
            Row(64, True, None, Tile(64, 32, 4, 1)),
            Row(128, True, False, Tile(64, 64, 4, 1)),
            Row(128, True, True, Tile(64, 32, 4, 2)),
        ],
        "row": [
            Row(64, True, False, Tile(64, 64, 4, 2, descriptors=True)),
            Row(64, True, True, Tile(64, 64, 4, 2), short=True),
            Row(64, True, True, Tile(64, 64, 4, 3, descriptors=True, ahead=2)),
            Row(64, False, None, Tile(64, 64, 4, 3, descriptors=True)),
            Row(128, True, None, Tile(64, 64, 4, 2, descriptors=True, ahead=3)),
            Row(128, False, False, Tile(64, 32, 4, 3, descriptors=True)),
            Row(128, False, True, Tile(64, 64, 4, 2, descriptors=True), tail=True),
            Row(128, False, True, Tile(64, 64, 4, 2, descriptors=True), ragged=True),
            Row(128, False, True, Tile(64, 32, 4, 2, descriptors=True)),
        ],
        "column": [
            Row(
                64,
                True,
                None,
                Tile(32, 64, 4, 3, descriptors=True, ahead=3),
                short=True,
            ),
            Row(64, True, None, Tile(64, 64, 4, 3, ahead=3)),
            Row(64, False, False, Tile(32, 64, 4, 3), short=True),
            Row(64, False, True, Tile(64, 64, 4, 2), tail=True),
            Row(64, False, None, Tile(64, 64, 4, 3)),
            Row(128, True, True, WIDE_BAND, tail=True),
            Row(128, True, None, Tile(32, 64, 4, 3, descriptors=True, ahead=3)),
            Row(128, False, True, WIDE, tail=True),
            Row(128, False, True, Tile(32, 64, 4, 3, descriptors=True), ragged=True),
            Row(128, False, False, NARROW, tail=True),
            Row(128, False, False, NARROW, ragged=True),
            Row(128, False, None, Tile(32, 64, 4, 3)),
        ],
    },
    "cuda:80": {
        "forward": [Row(128, None, None, Tile(64, 32, 4, 2, ahead=2))],
        "band": [
            Row(64, True, None, Tile(64, 32, 4, 1)),
            Row(128, True, None, Tile(64, 32, 8, 1)),
        ],
        "row": [
            Row(64, True, None, Tile(64, 32, 8, 2)),
            Row(128, None, None, Tile(64, 32, 4, 2, registers=255)),
        ],
        "column": [
            Row(64, False, True, Tile(16, 64, 4, 2), tail=False, ragged=True),
            Row(64, None, None, Tile(32, 64, 4, 2)),
            Row(128, None, None, Tile(32, 64, 8, 1)),
        ],
    },
    "hip:gfx942": {
        "forward": [Row(128, None, None, Tile(64, 32, 4, 1))],
        "band": [Row(128, True, None, Tile(64, 32, 4, 1))],
        "row": [Row(128, None, None, Tile(64, 32, 4, 1))],
        "column": [Row(128, None, None, Tile(32, 64, 4, 1))],
    },
    # 128 wide, row and column spill at every tile tried down to 16 x 16.
    "hip:gfx1100": {
        "forward": [
            Row(64, True, None, Tile(64, 16, 4, 1)),
            Row(64, False, None, Tile(64, 32, 4, 1)),
        ],
        "band": [Row(64, True, None, Tile(32, 32, 4, 1))],
        "row": [
            Row(64, None, False, Tile(64, 32, 16, 1)),
            Row(64, None, True, Tile(64, 32, 8, 1)),
        ],
        "column": [
            Row(64, True, True, Tile(16, 32, 8, 1), tail=True),
            Row(64, True, True, Tile(16, 32, 8, 1), ragged=True),
            Row(64, None, None, Tile(16, 32, 4, 1)),
        ],
    },
}
# Where a statistic of the rows is gathered, or its gradient spread; what is not here
# takes what it takes without.
GATHERING: dict[str, dict[str, list[Row]]] = {
    "cuda:90": {
        "forward": [
            Row(64, True, None, Tile(64, 64, 4, 3, ahead=3)),
            Row(64, False, None, Tile(64, 64, 4, 3, descriptors=True)),
            Row(128, None, None, Tile(64, 32, 4, 2, ahead=2)),
        ],
        "column": [
            Row(64, True, None, GATHERING_BAND, tail=True),
            Row(64, True, None, GATHERING_BAND, ragged=True),
            Row(64, True, None, Tile(64, 64, 4, 3, ahead=3)),
            Row(64, False, False, Tile(64, 64, 4, 2), tail=False, ragged=False),
            Row(64, False, None, Tile(32, 64, 4, 3)),
            Row(128, True, None, WIDE_BAND, tail=True),
            Row(128, True, None, GATHERING_BAND),
            Row(128, False, True, WIDE),
            Row(128, False, False, WIDE, tail=True),
            Row(128, False, False, Tile(32, 64, 4, 3, descriptors=True), ragged=True),
            Row(128, False, False, NARROW),
        ],
        # A tile of 64 keys spills.
        "row": [Row(128, False, True, Tile(64, 32, 4, 2, descriptors=True))],
    },
    "cuda:80": {
        "row": [Row(128, None, None, Tile(64, 32, 4, 2, registers=255))],
        "forward": [
            Row(64, None, None, Tile(64, 32, 4, 2, registers=255, ahead=2)),
            Row(128, False, False, Tile(64, 32, 4, 2)),
            Row(128, None, None, Tile(64, 32, 8, 2, ahead=2)),
        ],
    },
    "hip:gfx942": {},
    "hip:gfx1100": {
        "forward": [Row(64, None, None, Tile(64, 16, 4, 1))],
        "band": [Row(64, True, None, Tile(32, 32, 8, 1))],
        "column": [
            Row(64, True, False, Tile(16, 32, 4, 1)),
            Row(64, None, None, Tile(16, 32, 8, 1)),
        ],
    },
}
# Softpick's blocks that are done again, with arithmetic that takes more registers; a
# forward pass keeps its m.
REPAIRING: dict[str, dict[str, list[Row]]] = {
    "cuda:90": {
        "forward": [
            Row(64, None, None, Tile(64, 32, 4, 2, ahead=2)),
            Row(128, None, None, Tile(64, 32, 8, 2, ahead=2)),
        ],
        "column": [
            Row(64, None, None, Tile(32, 64, 4, 3)),
            Row(128, None, None, Tile(16, 64, 8, 2)),
        ],
    },
    "cuda:80": {
        "forward": [
            Row(64, None, None, Tile(64, 32, 4, 2, registers=255, ahead=2)),
            Row(128, None, None, Tile(64, 32, 8, 2, ahead=2)),
        ],
        "column": [
            Row(64, None, None, Tile(16, 64, 4, 2, registers=255)),
            Row(128, None, None, Tile(32, 64, 8, 1)),
        ],
    },
    "hip:gfx942": {
        "column": [
            Row(64, None, None, Tile(32, 64, 4, 1)),
            Row(128, None, None, Tile(16, 64, 4, 1)),
        ],
    },
    "hip:gfx1100": {
        "forward": [Row(64, None, None, Tile(64, 16, 4, 1))],
        "column": [
            Row(64, True, None, Tile(16, 16, 4, 1)),
            Row(64, None, None, Tile(16, 32, 8, 1)),
        ],
    },
}
# fp32: its products run on the scalar units. On gfx1100 no tile was found that does
# not spill for heads 128 wide, nor for softpick's band kernel on heads 64 wide.
ANY_SINGLE: dict[str, list[Row]] = {
    "forward": [Row(128, None, None, Tile(32, 16, 8, 1))],
    "band": [Row(128, True, None, Tile(16, 16, 8, 1))],
    "row": [Row(128, None, None, Tile(16, 16, 8, 1))],
    "column": [Row(128, None, None, Tile(16, 16, 8, 1))],
}
# A cap far above what they take: without one ptxas aims at two programs per
# processor, and spills a register or two of it.
CAPPED = Row(64, None, None, Tile(16, 16, 8, 1, registers=255))
SINGLE: dict[str, dict[str, list[Row]]] = {
    "cuda:90": ANY_SINGLE
    | {
        "forward": [Row(128, None, None, Tile(32, 16, 8, 1, registers=255))],
        "row": [CAPPED, *ANY_SINGLE["row"]],
        "column": [CAPPED, *ANY_SINGLE["column"]],
    },
    "cuda:80": ANY_SINGLE
    | {
        "forward": [
            Row(16, True, None, Tile(32, 16, 4, 1)),
            *ANY_SINGLE["forward"],
        ],
        "row": [Row(64, False, True, CAPPED.tile), *ANY_SINGLE["row"]],
        "column": [CAPPED, Row(128, None, None, Tile(16, 16, 8, 2, registers=255))],
    },
    "hip:gfx942": ANY_SINGLE,
    "hip:gfx1100": {
        "forward": [Row(64, None, None, Tile(32, 16, 16, 1))],
        "band": [
            Row(64, True, False, Tile(32, 16, 16, 1)),
            Row(32, True, True, Tile(16, 32, 16, 1)),
        ],
        "row": [Row(64, None, None, Tile(32, 16, 16, 1))],
        "column": [
            Row(64, True, False, Tile(16, 16, 16, 1)),
            Row(64, None, None, Tile(16, 32, 16, 1)),
        ],
    },
}


def serves(
    device: torch.device, width: int, dtype: torch.dtype, band: bool, pick: bool
) -> bool:
    """Whether a GPU has tiles for heads of this width, by score and normaliser."""
    target = target_of(device)
    return target in HALF and served(target, dtype, width, band, pick)


def table(target: str, dtype: torch.dtype) -> dict[str, list[Row]]:
    """kernel -> rows of a target for fp32, or for fp16 and bf16."""
    return (SINGLE if dtype == torch.float32 else HALF)[target]


def served(target: str, dtype: torch.dtype, width: int, band: bool, pick: bool) -> bool:
    """Whether every kernel that a variant runs has a tile for this width."""
    kernels = [kernel for kernel in KERNELS if band or kernel != "band"]
    rows = table(target, dtype)
    shape = width, band, pick
    return all(any(row.matches(*shape) for row in rows[kernel]) for kernel in kernels)


@cache
def tile(
    target: str,
    kernel: str,
    width: int,
    band: bool,
    pick: bool,
    dtype: torch.dtype,
    statistic: str | None = None,
    *,
    short: bool = False,
    tail: bool = False,
    ragged: bool = False,
    repair: bool = False,
) -> Tile:
    """The tile of a kernel; NotImplementedError where none was found to serve. tail:
    masks lie elsewhere than along the diagonal alone; ragged: the last block is not
    full; repair: for the launch that does softpick's blocks again.
    """
    if target == INTERPRETER:
        return Tile(32, 16, 4, 1)
    if target not in HALF:
        raise NotImplementedError(
            f"no tiles for {target}: add it to {__name__} ({', '.join(TARGETS)}), "
            "or use another implementation"
        )
    rows = table(target, dtype)[kernel]
    if statistic is not None and dtype != torch.float32:
        rows = GATHERING[target].get(kernel, []) + rows
    if repair:
        rows = REPAIRING[target].get(kernel, rows)
    shape = width, band, pick, short, tail, ragged
    row = next((row for row in rows if row.matches(*shape)), None)
    if row is None:
        variant = ("softpick" if pick else "softmax") + " with a band" * band
        raise NotImplementedError(
            f"heads of width {width}, {variant}, in {dtype} on {target}: no tile of the "
            f"{kernel} kernel fits its registers; use CONFIG_ATTENTION_IMPL_REFERENCE"
        )
    return row.tile
