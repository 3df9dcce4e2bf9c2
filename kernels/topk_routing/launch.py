"""From tensors to launches of the routing kernels: outputs, grids, tiles."""

import torch
import triton

from kernels.attention.configs import INTERPRETER, Tile, target_of
from kernels.attention.launch import Variant, flags, strides
from kernels.topk_routing import kernel

# By target; SMALL where a band meets heads wider than 64; fp32 takes SINGLE.
TILES = {
    "cuda:90": Tile(64, 64, 4, 3),
    "cuda:80": Tile(64, 32, 8, 1),
    "hip:gfx942": Tile(64, 32, 8, 1),
    "hip:gfx1100": Tile(32, 32, 8, 1),
}
SMALL = Tile(64, 16, 8, 1)
SINGLE = Tile(16, 16, 8, 1)
BACK = Tile(64, 32, 4, 1)


def served(target: str, width: int, band: bool, dtype: torch.dtype) -> bool:
    """Whether `routing` has a tile: on gfx1100 in fp32 every one from 16 x 16 up
    spills where a band meets heads wider than 32.
    """
    single = dtype == torch.float32
    return not (single and target == "hip:gfx1100" and band and width > 32)


def tile(target: str, width: int, band: bool, dtype: torch.dtype) -> Tile:
    """The tile of `routing`; NotImplementedError where there is none."""
    if target == INTERPRETER:
        return Tile(32, 16, 4, 1)
    if target not in TILES:
        raise NotImplementedError(f"no tiles for {target}: {', '.join(TILES)}")
    if not served(target, width, band, dtype):
        raise NotImplementedError(
            f"routing of heads of width {width} with a band in {dtype} on {target}: no "
            "tile fits its registers; use CONFIG_ATTENTION_IMPL_REFERENCE"
        )
    if dtype == torch.float32:
        return SINGLE
    return SMALL if band and width > 64 else TILES[target]


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
    shared = flags(q, k, starts, variant)
    del shared["STATISTIC"]
    band = shared["STRIPS"] > 0
    block = tile(target_of(q.device), shared["D_PAD"], band, q.dtype)
    kernel.routing[(B * triton.cdiv(T, block.m),)](
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
    kernel.mix[(B * T,)](
        m, index, weight, out, m.stride(1), T, R=r, R_PAD=width, TOP=top
    )
    return out


def mix_back(
    dr: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """dm_BTr of contiguous tensors."""
    B, T, r = dr.shape
    dm = torch.empty_like(dr)
    kernel.mix_back[(B * triton.cdiv(T, BACK.n),)](
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
