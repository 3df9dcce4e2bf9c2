"""From tensors to launches of the routing kernels: outputs, grids, tiles."""

import torch
import triton

from kernels.attention.configs import Row, Tile
from kernels.attention.launch import flags, strides
from kernels.attention.spec import Variant
from kernels.launching import blocks_of, launch
from kernels.targets import INTERPRETER, target_of
from kernels.topk_routing import kernel

SMALL = Row(128, True, None, Tile(64, 16, 8, 1))
# fp16 and bf16, by target: the first row that matches serves.
HALF: dict[str, list[Row]] = {
    "cuda:90": [
        Row(64, False, None, Tile(64, 64, 4, 3)),
        Row(64, True, False, Tile(64, 64, 4, 3), tail=False),
        Row(64, True, None, Tile(64, 32, 4, 3)),
        Row(128, False, None, Tile(64, 64, 4, 2)),
        SMALL,
    ],
    "cuda:80": [
        Row(64, None, None, Tile(64, 32, 8, 1)),
        Row(128, False, None, Tile(64, 32, 8, 1, registers=255)),
        SMALL,
    ],
    "hip:gfx942": [
        Row(64, True, None, Tile(64, 32, 8, 1)),
        Row(128, False, None, Tile(64, 32, 8, 1)),
        SMALL,
    ],
    "hip:gfx1100": [
        Row(64, None, None, Tile(32, 32, 8, 1)),
    ],
}
ANY_SINGLE = Row(128, None, None, Tile(16, 16, 8, 1))
# fp32; the cap as in attention.configs. On gfx1100 every tile from 16 x 16 up spills
# where a band meets heads wider than 32.
SINGLE: dict[str, list[Row]] = {
    "cuda:90": [ANY_SINGLE],
    "cuda:80": [
        Row(64, True, None, Tile(16, 16, 8, 1, registers=128)),
        ANY_SINGLE,
    ],
    "hip:gfx942": [ANY_SINGLE],
    "hip:gfx1100": [
        Row(32, True, None, Tile(16, 16, 8, 1)),
        Row(64, False, None, Tile(16, 16, 8, 1)),
    ],
}
BACK = Tile(32, 64, 4, 3)


def _first(
    target: str, width: int, band: bool, dtype: torch.dtype, pick: bool, tail: bool
) -> Tile | None:
    """The tile that serves; None where none does."""
    rows = (SINGLE if dtype == torch.float32 else HALF)[target]
    matching = (row.tile for row in rows if row.matches(width, band, pick, tail=tail))
    return next(matching, None)


def served(target: str, width: int, band: bool, dtype: torch.dtype) -> bool:
    """Whether `routing` has a tile that does not spill."""
    return _first(target, width, band, dtype, False, False) is not None


def tile(
    target: str,
    width: int,
    band: bool,
    dtype: torch.dtype,
    pick: bool = False,
    tail: bool = False,
) -> Tile:
    """The tile of `routing`; NotImplementedError where there is none. tail: a window
    or documents.
    """
    if target == INTERPRETER:
        return Tile(32, 16, 4, 1)
    if target not in HALF:
        raise NotImplementedError(f"no tiles for {target}: {', '.join(HALF)}")
    found = _first(target, width, band, dtype, pick, tail)
    if found is None:
        raise NotImplementedError(
            f"routing of heads of width {width} with a band in {dtype} on {target}: no "
            "tile fits its registers; use CONFIG_ATTENTION_IMPL_REFERENCE"
        )
    return found


def routing(
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    variant: Variant,
) -> tuple[torch.Tensor, torch.Tensor]:
    """index_BTk and weight_BTk; lse_BHT contiguous."""
    B, T, H, _ = q.shape
    index = torch.empty(B, T, variant.top, dtype=torch.int32, device=q.device)
    weight = torch.empty(B, T, variant.top, dtype=torch.float32, device=q.device)
    shared = dict(flags(q, k, starts, variant))
    del shared["STATISTIC"]
    band = shared["STRIPS"] > 0
    asked = shared["D_PAD"], band, q.dtype, variant.pick, shared["WINDOW"]
    block = tile(target_of(q.device), *asked)
    launch(
        kernel.routing,
        (B * blocks_of(T, block.m),),
        q,
        k,
        lse,
        alpha,
        starts,
        index,
        weight,
        *strides(q),
        *strides(k),
        T,
        H,
        variant.window or T,
        variant.band or 0,
        variant.scale,
        BLOCK_M=block.m,
        BLOCK_N=block.n,
        TOP=variant.top,
        **shared,
        **block.options,
    )
    return index, weight


def mix(m: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """r_BTr; the rows of m may be parts of longer ones."""
    B, T, r = m.shape
    if m.stride() != (T * m.stride(1), m.stride(1), 1):
        m = m.contiguous()
    out = torch.empty_like(m, memory_format=torch.contiguous_format)
    width = triton.next_power_of_2(r)
    top = index.shape[2]
    given = m, index, weight, out, m.stride(1), T
    launch(kernel.mix, (B * T,), *given, R=r, R_PAD=width, TOP=top)
    return out


def mix_back(
    dr: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """dm_BTr of contiguous tensors."""
    B, T, r = dr.shape
    dm = torch.empty_like(dr)
    launch(
        kernel.mix_back,
        (B * blocks_of(T, BACK.n),),
        dr,
        index,
        weight,
        dm,
        T,
        R=r,
        R_PAD=max(16, triton.next_power_of_2(r)),
        TOP=index.shape[2],
        BLOCK_M=BACK.m,
        BLOCK_N=BACK.n,
        **BACK.options,
    )
    return dm
