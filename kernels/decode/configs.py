"""Which tile a decode runs with: one table per target, no tuning at run time.

A tile's m are rows (new tokens of the heads that share a key head), its n keys.
"""

import torch

from kernels.attention.configs import Tile
from kernels.targets import INTERPRETER, TARGETS, target_of

WIDEST = 512
# Heads as the band multiplies them.
WIDEST_HEAD = 128
# New tokens in one step; more are a prompt, which is not what these kernels are for.
MOST_NEW = 16
# Parts of the keys that are merged.
MOST_PARTS = 64
# Products that a program holds at a time, rows x keys x columns: of several rows, by
# target, and of one, which leaves no fewer keys to a block.
HELD = {"cuda:80": 8192, "cuda:90": 8192, "hip:gfx942": 8192, "hip:gfx1100": 4096}
ONE = 4096
FEWEST, MOST = 16, 64


def serves(device: torch.device) -> bool:
    """Whether there are tiles for this device."""
    return target_of(device) in (*TARGETS, INTERPRETER)


def tile(target: str, width: int, several: bool) -> Tile:
    """The tile for rows (several or one) of a padded width, the wider of product and
    values; NotImplementedError where there is none.
    """
    if target == INTERPRETER:
        return Tile(2 if several else 1, 16, 4, 1)
    if target not in TARGETS:
        raise NotImplementedError(
            f"no tiles for {target}: add it to {__name__} ({', '.join(TARGETS)}), "
            "or decode by the reference"
        )
    warps = 4 if width <= 64 else 8
    if several:
        rows = HELD[target] // (FEWEST * width)
        return Tile(min(4, max(1, rows)), FEWEST, warps, 1)
    return Tile(1, max(FEWEST, min(MOST, ONE // width)), warps, 1)


def chunk(block: Tile, head_width: int) -> int:
    """Columns of a head that a band's tile multiplies at a time."""
    return max(4, min(head_width, ONE // (block.m * block.n)))
