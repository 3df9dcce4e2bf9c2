"""The attention kernels' cases for kernels.aot: target, kernel, tile, head width,
dtype and flags decide a binary.
"""

from collections.abc import Iterator
from itertools import chain, product
from typing import NamedTuple

import torch
import triton
from triton.compiler import ASTSource

from kernels.attention import kernel_backward, kernel_column, kernel_forward, launch
from kernels.attention.configs import KERNELS, WIDTHS, Tile, served, tile
from kernels.attention.spec import OF_SOFTMAX
from kernels.targets import TARGETS
from kernels.topk_routing import launch as routing

TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
JITTED = {
    "forward": kernel_forward.forward,
    "band": kernel_backward.backward_band,
    "row": kernel_backward.backward_row,
    "column": kernel_column.backward_column,
    "routing": routing.kernel.routing,
    "mix_back": routing.kernel.mix_back,
}
# fp16 takes what bf16 takes, but in the forward pass.
COMPILED = (torch.bfloat16, torch.float32)
BOOLS = (False, True)
FLOATS = {"L", "VALUE", "CUT", "DL", "RATE", "DELTA", "FLOOR", "ALPHA", "DALPHA"}
FLOATS |= {"LEVEL", "LSE", "WEIGHT"}
INTEGERS = {"CARE", "STARTS", "ENDS", "INDEX"}
# What a statistic adds: nothing else that a launch can choose is heavier.
GATHERED = ("mass", "entropy")
TOP = 8
# What the rows' shape adds: a T that the blocks divide, one that they do not, a
# window, documents.
ROWS = ("", "ragged", "window", "ragged window", "packed", "ragged packed")
# Kernels that are launched again for the blocks that need care.
REPAIRED = ("forward", "column")
# What the routing mixes.
MIXED = 96


class Case(NamedTuple):
    """One binary; rows is one of ROWS."""

    target: str
    kernel: str
    width: int
    dtype: torch.dtype
    band: bool
    pick: bool
    tile: Tile
    statistic: str | None = None
    rows: str = ""
    short: bool = False
    repair: bool = False

    @property
    def name(self) -> str:
        """target kernel width dtype flags."""
        flags = ["softpick" if self.pick else "softmax", "ra" * self.band, self.rows]
        flags += ["short" * self.short, "repair" * self.repair, self.statistic]
        told = "+".join(flag for flag in flags if flag)
        return f"{self.target} {self.kernel} D{self.width} {TYPES[self.dtype]} {told}"

    @property
    def masked(self) -> bool:
        """Whether keys are hidden that the order of positions would show."""
        return self.rows.removeprefix("ragged ") in ("window", "packed")

    @property
    def careful(self) -> bool:
        """Whether all arithmetic is."""
        return self.repair or not self.fast

    @property
    def fast(self) -> bool:
        """Whether there is a fast arithmetic, and with it a repair."""
        return self.pick and self.dtype != torch.float32

    @property
    def choice(self) -> str:
        """How a program runs."""
        tile = self.tile
        return f"{tile.m}x{tile.n} {tile.warps} warps {tile.stages} stages"

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return self.tile.options

    @property
    def telling(self) -> bool:
        """Whether it may need more registers than the cases beside it, so that it is
        compiled without FULL=y: documents in ragged rows are the heaviest mask, and
        statistics and repairs are compiled with that one alone. The column kernel
        leaves a mask out where rows are not ragged, so it has the others too.
        """
        whole, packed = self.rows == "", self.rows == "ragged packed"
        plain = self.statistic is None and not self.repair
        if self.masked and not packed and self.rows != "ragged window":
            return plain and self.kernel == "column" and self.dtype != torch.float32
        if self.dtype == torch.float16:
            return plain and (packed or whole)
        if self.repair:
            return packed
        if self.statistic == "entropy":
            return whole
        if self.dtype == torch.float32 or self.kernel == "routing":
            return packed or whole and self.statistic is None
        return packed or whole or self.statistic is None

    def source(self) -> ASTSource:
        """The kernel specialised as a launch with aligned inputs would do it."""
        return _source(self)


def cases(targets: tuple[str, ...], full: bool) -> Iterator[Case]:
    """Both kinds below; without full the telling ones."""
    for case in chain(shipped(targets), routes(targets)):
        if full or case.telling:
            yield case


def shipped(targets: tuple[str, ...] = TARGETS) -> Iterator[Case]:
    """Every tile that a launch can choose, per target, in its variants."""
    kinds = *product(COMPILED, KERNELS), (torch.float16, "forward")
    for target, (dtype, name) in product(targets, kinds):
        for width, band, pick in product(WIDTHS, BOOLS, BOOLS):
            if name == "band" and not band:
                continue
            if not served(target, dtype, width, band, pick):
                continue
            shape = target, name, width, dtype, band, pick
            for statistic in (None, *GATHERED):
                if not pick or statistic not in OF_SOFTMAX:
                    yield from _launched(shape, statistic)


def _launched(shape: tuple, statistic: str | None) -> Iterator[Case]:
    """What the rows make of a kernel, and its repair. Of heads that take the tile of
    wider ones the plain case alone: all others need fewer registers than there.
    """
    target, name, width, dtype, band, pick = shape
    repairs = BOOLS if name in REPAIRED else (False,)
    for repair, rows, short in product(repairs, ROWS, BOOLS):
        tail, ragged = rows not in ("", "ragged"), "ragged" in rows
        kind = {"short": short, "tail": tail, "ragged": ragged, "repair": repair}
        choice = tile(target, name, width, band, pick, dtype, statistic, **kind)
        case = Case(*shape, choice, statistic, rows, short, repair)
        plain = statistic is None and rows == "" and not repair
        if repair and not case.fast:
            continue
        wider = 2 * width
        if plain or wider > WIDTHS[-1] or not served(target, dtype, wider, band, pick):
            yield case
        elif choice != tile(target, name, wider, band, pick, dtype, statistic, **kind):
            yield case


def routes(targets: tuple[str, ...] = TARGETS) -> Iterator[Case]:
    """The kernels of topk_routing likewise."""
    for target in targets:
        for dtype, band, width in product(COMPILED, BOOLS, (64, 128)):
            if not routing.served(target, width, band, dtype):
                continue
            for pick, rows in product(BOOLS, ROWS):
                if served(target, dtype, width, band, pick):
                    shape = target, "routing", width, dtype, band, pick
                    tail = rows not in ("", "ragged")
                    choice = routing.tile(target, width, band, dtype, pick, tail)
                    yield Case(*shape, choice, rows=rows)
        shape = target, "mix_back", MIXED, torch.bfloat16
        yield Case(*shape, False, False, routing.BACK)


def _source(case: Case) -> ASTSource:
    fn, dtype = JITTED[case.kernel], TYPES[case.dtype]
    constants = {
        "GROUP": 1,
        "D": case.width,
        "D_PAD": case.width,
        "BLOCK_M": case.tile.m,
        "BLOCK_N": case.tile.n,
        "STRIPS": 2 if case.band else 0,
        "WINDOW": case.masked,
        "PICK": case.pick,
        "SAFE": case.dtype == torch.float16 or not case.fast or case.repair,
        "UNSAFE": False,
        "ROW_BLOCK": 64,
        "AHEAD": case.tile.ahead,
        "REPAIR": case.repair,
        "CAREFUL": case.careful,
        "RAGGED": "ragged" in case.rows,
        "EXACT": case.dtype == torch.float32,
        "STATISTIC": launch.GATHERED[case.statistic][0],
        "TOP": TOP if case.statistic == "mass" or case.kernel not in KERNELS else 0,
        "R": MIXED,
        "R_PAD": triton.next_power_of_2(MIXED),
    }
    absent = set() if case.band else {"ALPHA", "P", "DS"}
    if not case.pick:
        absent.add("FLOOR")
    if case.statistic is None:
        absent |= {"DL", "VALUE", "RATE"}
    if case.statistic != "mass":
        absent.add("CUT")
    if "packed" not in case.rows:
        absent |= {"STARTS", "ENDS"}
    if not case.fast:
        absent.add("CARE")
    if not case.tile.descriptors:
        absent |= {name for name in fn.arg_names if name.endswith("_TILES")}
    constants |= dict.fromkeys(absent)
    signature, integers = {}, []
    for index, name in enumerate(fn.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_TILES"):
            rows = case.tile.m if case.kernel == "column" else case.tile.n
            signature[name] = f"tensordesc<{dtype}[{rows}, {case.width}]>"
        elif name == "scale":
            signature[name] = "fp32"
        elif name in ("H", "G", "count", "window", "band"):
            signature[name] = "i32"
        else:
            if name != "T" or case.rows != "ragged":
                integers.append(index)
            pointer = name.isupper() and name != "T"
            kind = "fp32" if name in FLOATS else "i32" if name in INTEGERS else dtype
            if name in ("L", "LEVEL") and case.dtype == torch.float32:
                kind = "fp64"  # rows.levels
            signature[name] = f"*{kind}" if pointer else "i32"
    constants = {name: constants[name] for name in fn.arg_names if name in constants}
    attributes = {(index,): [["tt.divisibility", 16]] for index in integers}
    return ASTSource(fn, signature, constants, attributes)
