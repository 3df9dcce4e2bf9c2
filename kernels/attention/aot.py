"""The attention kernels' cases for kernels.aot: target, kernel, tile, head width,
dtype and flags decide a binary.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import triton
from triton.compiler import ASTSource

from kernels.attention import kernel_backward, kernel_column, kernel_forward
from kernels.attention.configs import KERNELS, TARGETS, WIDTHS, Tile, served, tile
from kernels.attention.launch import GATHERED as GATHERING
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
# fp16 takes what bf16 takes, and a window adds the same masks to both normalisers.
COMPILED = (torch.bfloat16, torch.float32)
FLOATS = {"L", "VALUE", "CUT", "DL", "RATE", "DELTA", "FLOOR", "ALPHA", "DALPHA"}
FLOATS |= {"LSE", "WEIGHT"}
INTEGERS = {"CARE", "STARTS", "ENDS", "INDEX"}
# What a statistic adds: beyond these nothing else that a launch can choose is heavier.
GATHERED = ("mass", "entropy")
TOP = 8
# What the routing mixes.
MIXED = 96


class Case(NamedTuple):
    """One binary."""

    target: str
    kernel: str
    width: int
    dtype: torch.dtype
    band: bool
    pick: bool
    window: bool
    tile: Tile
    statistic: str | None = None
    packed: bool = False
    short: bool = False

    @property
    def name(self) -> str:
        """target kernel width dtype flags."""
        flags = ("softpick" if self.pick else "softmax") + ("+ra" * self.band)
        flags += "+window" * self.window + "+packed" * self.packed
        flags += "+short" * self.short
        flags += f"+{self.statistic}" if self.statistic else ""
        dtype = TYPES[self.dtype]
        return f"{self.target} {self.kernel} D{self.width} {dtype} {flags}"

    @property
    def choice(self) -> str:
        """How a program runs."""
        tile = self.tile
        return f"{tile.m}x{tile.n} {tile.warps} warps {tile.stages} stages"

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return self.tile.options

    def source(self) -> ASTSource:
        """The kernel specialised as a launch with aligned inputs would do it."""
        return _source(self)


def shipped(targets: tuple[str, ...] = TARGETS) -> Iterator[Case]:
    """Every tile that a launch can choose, per target, in its variants."""
    bools = (False, True)
    for target, dtype, name in product(targets, COMPILED, KERNELS):
        for width, band, pick, window in product(WIDTHS, bools, bools, bools):
            if name == "band" and not band or window and pick:
                continue
            if not served(target, dtype, width, band, pick):
                continue
            shape = target, name, width, band, pick, dtype
            for choice, short in _choices(*shape, None):
                case = Case(target, name, width, dtype, band, pick, window, choice)
                case = case._replace(short=short)
                yield case
                if window and width >= 64:
                    yield case._replace(packed=True)
            if window or pick or width < 64:
                continue
            for statistic in GATHERED:
                for choice, short in _choices(*shape, statistic):
                    gathers = {"statistic": statistic, "tile": choice, "short": short}
                    yield case._replace(**gathers)


def _choices(*asked) -> Iterator[tuple[Tile, bool]]:
    """(tile, False) for long rows, (tile, True) where short ones have another."""
    long = tile(*asked, short=False)
    yield long, False
    if tile(*asked, short=True) != long:
        yield tile(*asked, short=True), True


def routes(targets: tuple[str, ...] = TARGETS) -> Iterator[Case]:
    """The kernels of topk_routing likewise."""
    for target in targets:
        for dtype, band, width in product(COMPILED, (False, True), (64, 128)):
            if served(target, dtype, width, band, False):
                if routing.served(target, width, band, dtype):
                    choice = routing.tile(target, width, band, dtype)
                    shape = target, "routing", width, dtype
                    yield Case(*shape, band, False, False, choice)
        shape = target, "mix_back", MIXED, torch.bfloat16
        yield Case(*shape, False, False, False, routing.BACK)


def _source(case: Case) -> ASTSource:
    fn, dtype = JITTED[case.kernel], TYPES[case.dtype]
    careful = not case.pick or case.dtype == torch.float32
    constants = {
        "GROUP": 1,
        "D": case.width,
        "D_PAD": case.width,
        "BLOCK_M": case.tile.m,
        "BLOCK_N": case.tile.n,
        "STRIPS": 2 if case.band else 0,
        "WINDOW": case.window,
        "PICK": case.pick,
        "SAFE": True,
        "UNSAFE": False,
        "ROW_BLOCK": 64,
        "AHEAD": case.tile.ahead,
        "REPAIR": False,
        "CAREFUL": careful,
        "TAIL": case.window,
        "EXACT": case.dtype == torch.float32,
        "STATISTIC": GATHERING[case.statistic][0],
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
    if not case.packed:
        absent |= {"STARTS", "ENDS"}
    if careful:
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
            integers.append(index)
            pointer = name.isupper() and name != "T"
            kind = "fp32" if name in FLOATS else "i32" if name in INTEGERS else dtype
            if name == "L" and case.dtype == torch.float32:
                kind = "fp64"  # rows.levels
            signature[name] = f"*{kind}" if pointer else "i32"
    constants = {name: constants[name] for name in fn.arg_names if name in constants}
    attributes = {(index,): [["tt.divisibility", 16]] for index in integers}
    return ASTSource(fn, signature, constants, attributes)
