"""From tensors to launches: outputs, strides, grids, tiles.

Legend: B batch, T positions, H query heads, G key/value heads, D head width.
q_BTHD, k_BTGD, v_BTGD have unit stride in D and any other strides; what is
made here is contiguous.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.attention import kernel_backward, kernel_column, kernel_forward
from kernels.attention.configs import SHORT, WIDTHS, Tile, tile
from kernels.attention.kernel_tiles import ENTROPY, MASS, SQUARES, TILE
from kernels.attention.rows import levels, per_row, whole
from kernels.attention.spec import Variant
from kernels.launching import blocks_of, launch
from kernels.targets import target_of

# Statistic -> how it is compiled; its gradient per weight is a factor times its own
# times 1 (above the cut), ln p or p; Euler's sum p d/dp is a factor times itself.
GATHERED = {
    None: (0, 0.0, 0.0),
    "mass": (MASS.value, 1.0, 1.0),
    "entropy": (ENTROPY.value, -1.0, 1.0),
    "squares": (SQUARES.value, 2.0, 2.0),
}
# Programs that look for blocks of softpick to do again.
REPAIRERS = 264
INTERPRETED = not isinstance(kernel_forward.forward, triton.JITFunction)


def strips(band: int | None, positions: int) -> int:
    """Tiles of keys per row that the band can touch; 0 without a band."""
    if band is None:
        return 0
    side = TILE.value
    return min(blocks_of(band, side) + 1, blocks_of(positions, side))


def require(device: torch.device) -> None:
    """NotImplementedError where nothing can run the kernels."""
    if device.type == "cpu" and not INTERPRETED:
        raise NotImplementedError(
            "Triton has no CPU: use the reference, or set TRITON_INTERPRET=1 "
            "before the first import to interpret the kernels"
        )


def flags(
    q: torch.Tensor, k: torch.Tensor, starts: torch.Tensor | None, variant: Variant
) -> Mapping:
    """The compile-time arguments that all kernels share."""
    _, T, H, D = q.shape
    exact = q.dtype == torch.float32
    return _flags(T, H // k.shape[2], D, exact, starts is not None, variant)


@cache
def _flags(
    T: int, group: int, D: int, exact: bool, packed: bool, variant: Variant
) -> Mapping:
    found = {
        "GROUP": group,
        "D": D,
        "D_PAD": max(16, triton.next_power_of_2(D)),
        "STRIPS": strips(variant.band, T),
        "WINDOW": variant.window is not None or packed,
        "PICK": variant.pick,
        "EXACT": exact,
        "STATISTIC": GATHERED[variant.statistic][0],
    }
    return MappingProxyType(found)


def is_ragged(q: torch.Tensor) -> bool:
    """Whether the last block is not full."""
    return q.shape[1] % TILE.value != 0


def chosen(
    name: str, q: torch.Tensor, shared: Mapping, variant: Variant, repair: bool = False
) -> Tile:
    """The tile of a kernel for these tensors."""
    return tile(
        target_of(q.device),
        name,
        shared["D_PAD"],
        shared["STRIPS"] > 0,
        shared["PICK"],
        q.dtype,
        variant.statistic,
        short=q.shape[1] <= SHORT,
        tail=shared["WINDOW"],
        ragged=is_ragged(q),
        repair=repair,
    )


def strides(x: torch.Tensor | None) -> tuple[int, int, int]:
    """(batch, position, head); any where there is nothing."""
    return (0, 1, 0) if x is None else x.stride()[:3]


def descriptor(
    x_BTHD: torch.Tensor | None, rows: int, wanted: bool, beyond: bool = False
):
    """Memory as rows of x's position stride, read `rows` positions at a time; None
    where not wanted or where a head is no aligned column range of such rows. beyond:
    it will read behind T, where there have to be rows of another batch or head. Their
    weight is 0, but a NaN among them is one in this head too.
    """
    if x_BTHD is None or not wanted or x_BTHD.data_ptr() % 16 != 0:
        return None
    found = _rectangle(x_BTHD.shape, x_BTHD.stride(), x_BTHD.element_size(), beyond)
    if found is None:
        return None
    return TensorDescriptor(x_BTHD, *map(list, found), [rows, x_BTHD.shape[3]])


@cache
def _rectangle(
    shape: torch.Size, stride: tuple[int, ...], size: int, beyond: bool
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(rows, columns) of such memory and their strides, in elements of `size` bytes;
    None where it is none.
    """
    B, T, H, D = shape
    batch, position, head, _ = stride
    aligned = all(step * size % 16 == 0 for step in (batch, position, head))
    if not aligned or position == 0 or D not in WIDTHS:
        return None
    last = (B - 1) * batch + (H - 1) * head
    width = max(h * head % position for h in range(H)) + D
    if width > position or (B > 1 and batch % position != 0):
        return None
    starts = batch * (B > 1), *(h * head for h in range(H))
    if beyond and any(start // position % T != 0 for start in starts):
        return None
    return (last // position + T, width), (position, 1)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    variant: Variant,
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """o_BTHD where there is a v, L_BHT (dot units); the statistic and its cut_BHT
    where there are any.
    """
    B, T, H, D = q.shape
    o = None
    if v is not None:
        o = torch.empty(B, T, H, D, dtype=q.dtype, device=q.device)
    L = levels(q)
    value = None if variant.statistic is None else per_row(q)
    cut = per_row(q, zero=True) if variant.statistic == "mass" else None
    shared = flags(q, k, starts, variant)
    block = chosen("forward", q, shared, variant)
    count = B * H * blocks_of(T, block.m)
    fast = variant.pick and q.dtype != torch.float32
    care = torch.empty(count, dtype=torch.int32, device=q.device) if fast else None
    for repair in (False, True) if fast else (False,):
        block = chosen("forward", q, shared, variant, repair)
        launch(
            kernel_forward.forward,
            (min(count, REPAIRERS) if repair else count,),
            q,
            k,
            v,
            o,
            L,
            value,
            cut,
            alpha,
            starts,
            care,
            descriptor(k, block.n, block.descriptors),
            descriptor(v, block.n, block.descriptors),
            *strides(q),
            *strides(k),
            *strides(v),
            T,
            L.stride(1),
            H,
            count,
            variant.window or T,
            variant.band or 0,
            variant.scale,
            BLOCK_M=block.m,
            BLOCK_N=block.n,
            # Fast softpick takes m = 0, but in fp16, whose range ends at scores of 11.
            SAFE=q.dtype == torch.float16
            or not (variant.unsafe or (fast and not repair)),
            UNSAFE=variant.unsafe,
            REPAIR=repair,
            CAREFUL=repair or not fast,
            TOP=variant.top,
            AHEAD=block.ahead,
            **shared,
            **block.options,
        )
    return o, L, value, cut


class Gradients(NamedTuple):
    """Where the kernels write: dq_BTHD, dk_BTGD, dv_BTGD (None without a v), dense
    but for their strides of batch and position; dk and dv have the same.
    """

    dq: torch.Tensor
    dk: torch.Tensor
    dv: torch.Tensor | None

    @classmethod
    def apart(cls, *qkv: torch.Tensor | None) -> "Gradients":
        """Three new tensors."""
        return cls(
            *(
                (
                    None
                    if x is None
                    else torch.empty_like(x, memory_format=torch.contiguous_format)
                )
                for x in qkv
            )
        )


class Rows(NamedTuple):
    """What a row's statistics add to backward, fp32 [B, H, T] each or None: the
    gradient of L less what they add to delta, where the mass is cut, their rate.
    """

    dL: torch.Tensor | None
    cut: torch.Tensor | None
    rate: torch.Tensor | None


class Summed(NamedTuple):
    """Of every row [B, H, T]: L, delta = o · do less what statistics add, softpick's
    e^-L. The first backward kernel writes them, and what weighs nothing behind them.
    """

    level: torch.Tensor
    delta: torch.Tensor
    floor: torch.Tensor | None

    @classmethod
    def empty(cls, q: torch.Tensor, variant: Variant) -> "Summed":
        """Room for them."""
        return cls(levels(q), per_row(q), per_row(q) if variant.pick else None)


class Band(NamedTuple):
    """What the band kernel leaves: p and dS of the band's tiles [B, H, T, columns],
    dalpha per head and block of queries.
    """

    p: torch.Tensor
    ds: torch.Tensor
    dalpha: torch.Tensor


def backward_band(
    do: torch.Tensor,
    rows: Rows,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    L: torch.Tensor,
    alpha: torch.Tensor,
    starts: torch.Tensor | None,
    variant: Variant,
) -> tuple[Summed, Band]:
    """The band's tiles and the sums: the first backward kernel where there is one."""
    B, T, H, D = q.shape
    shared = flags(q, k, starts, variant)
    block = chosen("band", q, shared, variant)
    blocks = blocks_of(T, block.m)
    summed = Summed.empty(q, variant)
    columns = shared["STRIPS"] * TILE.value
    p, ds = torch.empty(2, B, H, T, columns, dtype=q.dtype, device=q.device)
    dalpha = torch.empty(B, H, blocks, dtype=torch.float32, device=q.device)
    launch(
        kernel_backward.backward_band,
        (B * H * blocks,),
        q,
        k,
        v,
        o,
        do,
        L,
        *rows,
        *summed,
        alpha,
        starts,
        p,
        ds,
        dalpha,
        *strides(q),
        *strides(k),
        *strides(v),
        *strides(do),
        T,
        L.stride(1),
        H,
        variant.window or T,
        variant.band,
        variant.scale,
        UNSAFE=variant.unsafe,
        BLOCK_M=block.m,
        BLOCK_N=block.n,
        **shared,
        **block.options,
    )
    return summed, Band(p, ds, dalpha)


def backward_row(
    do: torch.Tensor | None,
    rows: Rows,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    o: torch.Tensor | None,
    L: torch.Tensor,
    summed: Summed,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    band: Band | None,
    variant: Variant,
    dq: torch.Tensor,
) -> torch.Tensor | None:
    """Writes dq and, where there is no band, the sums; returns, where column is fast,
    which blocks of queries need careful arithmetic.
    """
    B, T, H, _ = q.shape
    shared = flags(q, k, starts, variant)
    block = chosen("row", q, shared, variant)
    blocks = blocks_of(T, block.m)
    care = None
    if variant.pick and q.dtype != torch.float32:
        care = torch.empty(B, H, blocks, dtype=torch.int32, device=q.device)
    launch(
        kernel_backward.backward_row,
        (B * H * blocks,),
        q,
        k,
        v,
        o,
        do,
        L,
        *rows,
        *summed,
        alpha,
        starts,
        band and band.ds,
        care,
        dq,
        descriptor(k, block.n, block.descriptors),
        descriptor(v, block.n, block.descriptors),
        *strides(q),
        *strides(k),
        *strides(v),
        *strides(do),
        *strides(dq)[:2],
        T,
        L.stride(1),
        H,
        variant.window or T,
        variant.band or 0,
        variant.scale,
        UNSAFE=variant.unsafe,
        AHEAD=block.ahead,
        BLOCK_M=block.m,
        BLOCK_N=block.n,
        **shared,
        **block.options,
    )
    return care


def backward_column(
    do: torch.Tensor | None,
    rows: Rows,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    summed: Summed,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    band: Band | None,
    care: torch.Tensor | None,
    variant: Variant,
    dk: torch.Tensor,
    dv: torch.Tensor | None,
) -> None:
    """Writes dk and dv."""
    B, T, G, _ = k.shape
    shared = flags(q, k, starts, variant)
    ends = None
    if starts is not None:
        ends = torch.searchsorted(starts, starts, right=True, out_int32=True)
    # The row kernel's block, which divides T into as many as there are flags.
    flagged = 1 if care is None else triton.next_power_of_2(blocks_of(T, care.shape[2]))
    for repair in (False,) if care is None else (False, True):
        block = chosen("column", q, shared, variant, repair)
        count = B * G * blocks_of(T, block.n)
        launch(
            kernel_column.backward_column,
            (min(count, REPAIRERS) if repair else count,),
            q,
            k,
            v,
            do,
            rows.cut,
            rows.rate,
            *summed,
            alpha,
            starts,
            ends,
            band and band.p,
            band and band.ds,
            care,
            dk,
            dv,
            descriptor(q, block.m, block.descriptors, is_ragged(q)),
            descriptor(do, block.m, block.descriptors, is_ragged(q)),
            *strides(q),
            *strides(k),
            *strides(v),
            *strides(do),
            *strides(dk)[:2],
            T,
            summed.level.stride(1),
            G,
            count,
            variant.window or T,
            variant.band or 0,
            variant.scale,
            AHEAD=block.ahead,
            BLOCK_M=block.m,
            BLOCK_N=block.n,
            ROW_BLOCK=flagged,
            REPAIR=repair,
            CAREFUL=repair or care is None,
            RAGGED=is_ragged(q),
            **shared,
            **block.options,
        )


def statistic_rows(
    q: torch.Tensor,
    dL: torch.Tensor | None,
    dvalue: torch.Tensor | None,
    value: torch.Tensor | None,
    cut: torch.Tensor | None,
    variant: Variant,
) -> Rows:
    """From the gradients of L and of the statistic."""
    if dvalue is None:
        return Rows(None if dL is None else per_row(q).copy_(dL), None, None)
    _, slope, degree = GATHERED[variant.statistic]
    whole = dvalue * value * (-degree * variant.scale)
    whole = whole if dL is None else whole + dL
    rate = per_row(q, zero=True).copy_(slope * dvalue)
    return Rows(per_row(q).copy_(whole), cut, rate)


def backward(
    do: torch.Tensor | None,
    dL: torch.Tensor | None,
    dvalue: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    o: torch.Tensor | None,
    L: torch.Tensor,
    value: torch.Tensor | None,
    cut: torch.Tensor | None,
    alpha: torch.Tensor | None,
    starts: torch.Tensor | None,
    variant: Variant,
    into: Gradients,
) -> torch.Tensor | None:
    """Writes the gradients of q, k and v; returns dalpha_H where there is an alpha."""
    if dvalue is None:
        variant = variant._replace(statistic=None)
    L, cut = whole(L, q), whole(cut, q)
    rows = statistic_rows(q, dL, dvalue, value, cut, variant)
    given = alpha, starts
    if alpha is None:
        summed, band = Summed.empty(q, variant), None
    else:
        summed, band = backward_band(do, rows, q, k, v, o, L, *given, variant)
    given = *given, band
    care = backward_row(do, rows, q, k, v, o, L, summed, *given, variant, into.dq)
    backward_column(do, rows, q, k, v, summed, *given, care, variant, into.dk, into.dv)
    return None if band is None else band.dalpha.sum(dim=(0, 2))
