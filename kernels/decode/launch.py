"""From tensors to the two launches of a decode: parts, grids, tiles.

Legend: as in reference.py.
"""

from functools import cache
from typing import NamedTuple

import torch
import triton

from kernels.attention.launch import require, strides
from kernels.attention.spec import Variant
from kernels.decode import kernel
from kernels.decode.configs import MOST_PARTS, chunk, tile
from kernels.launching import blocks_of, launch
from kernels.targets import target_of

# Multiprocessors that the interpreter's grid is made for.
INTERPRETED = 4
# Programs for each multiprocessor, and parts that the merge takes at a time.
PROGRAMS = 2
STEP = 8
NONE = (0, 0, 0)


class Part(NamedTuple):
    """`count` parts of `length` keys from `first` on, which is the first block that
    any row sees.
    """

    first: int
    length: int
    count: int


@cache
def padded(width: int) -> int:
    """The columns of a tile."""
    return max(16, triton.next_power_of_2(width))


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device."""
    if device.type == "cpu":
        return INTERPRETED
    return torch.cuda.get_device_properties(device).multi_processor_count


def divide(
    S: int, n: int, window: int | None, block: int, programs: int, device: torch.device
) -> Part:
    """As many parts as fill the device with `programs` each, a function of shapes and
    device alone: two runs agree bit for bit.
    """
    first = 0 if window is None else max(S - n - window + 1, 0) // block * block
    blocks = blocks_of(S - first, block)
    wanted = blocks_of(PROGRAMS * processors(device), programs)
    each = blocks_of(blocks, min(wanted, blocks, MOST_PARTS))
    return Part(first, each * block, blocks_of(blocks, each))


def decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    alpha: torch.Tensor | None,
    queries: torch.Tensor | None,
    keys: torch.Tensor | None,
    variant: Variant,
) -> torch.Tensor:
    """o_BnHV, contiguous."""
    require(q.device)
    (B, n, H, C), (S, G, V) = q.shape, v.shape[1:]
    group, widths = H // G, (padded(C), padded(V))
    block = tile(target_of(q.device), max(widths), n * group > 1)
    programs = B * G * blocks_of(n * group, block.m)
    part = divide(S, n, variant.window, block.n, programs, q.device)
    made = {"dtype": torch.float32, "device": q.device}
    acc = torch.empty(B * n * H, part.count, V, **made)
    total, top = torch.empty(2, B * n * H, part.count, **made)
    D = 16 if keys is None else keys.shape[3]
    launch(
        kernel.parts,
        (programs, part.count),
        q,
        k,
        v,
        queries,
        keys,
        alpha,
        acc,
        total,
        top,
        *strides(q),
        *strides(k),
        *strides(v),
        *(NONE if queries is None else strides(queries)),
        *(NONE if keys is None else strides(keys)),
        S,
        n,
        0 if queries is None else queries.shape[1],
        H,
        part.first,
        part.length,
        variant.window or S,
        variant.band or 0,
        variant.scale,
        GROUP=group,
        J_GROUP=1 if keys is None else H // keys.shape[2],
        C=C,
        C_PAD=widths[0],
        WIDE=V,
        WIDE_PAD=widths[1],
        D=D,
        D_PAD=padded(D),
        CHUNK=chunk(block, padded(D)),
        ROWS=block.m,
        BLOCK_N=block.n,
        BAND=keys is not None,
        PICK=variant.pick,
        SAFE=not variant.unsafe,
        **block.options,
    )
    o = torch.empty(B, n, H, V, dtype=q.dtype, device=q.device)
    launch(
        kernel.merge,
        (B * n * H,),
        acc,
        total,
        top,
        o,
        part.count,
        variant.scale,
        WIDE=V,
        WIDE_PAD=widths[1],
        MOST=MOST_PARTS,
        STEP=STEP,
        PICK=variant.pick,
        UNSAFE=variant.unsafe,
    )
    return o
