"""Which keys all heads together look at most, and mixing by them.

routing   a block of queries: scores of every head anew, p from the known L, their
          mean per tile, and the k largest of every row kept, with their places.
          The columns of a tile fall into FOLD classes of a row, each with a sorted
          list, which keys enter in ascending order: of equals the earlier stays.
mix       r_t = sum_j w_tj m_index_tj, k gathered rows per query
mix_back  dm_s = sum_t [s among the keys of t] w_ts dr_t for a block of keys: the
          tile of weights is made from the places, so that no sum needs an atomic

kernels/attention/kernel_tiles.py has the formulas, the units and the legend; here
K counts the keys that are kept and R is the width of what is mixed.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_statistics import FOLD, _eighths
from kernels.attention.kernel_tiles import (
    LOG2E,
    _dot,
    _key_ranges,
    _load,
    _minus_one,
    _power,
    _reach,
    _store,
    _visible,
)

# Above every place.
NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def _enter(value, place, values, places, TOP: tl.constexpr):
    """The sorted lists with one more weight each; the smallest drops out."""
    new_values, new_places = (), ()
    for i in tl.static_range(TOP):
        above = value > values[i]
        new_values = new_values + (tl.where(above, value, values[i]),)
        new_places = new_places + (tl.where(above, place, places[i]),)
        value, place = (
            tl.where(above, values[i], value),
            tl.where(above, places[i], place),
        )
    return new_values, new_places


@triton.jit
def _mean_tile(
    n0,
    m0,
    t,
    Q,
    K,
    LSE,
    ALPHA,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    T,
    H,
    band,
    scale,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BAND: tl.constexpr,
    PICK: tl.constexpr,
    EXACT: tl.constexpr,
):
    """sum_h p of one tile, without masks."""
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    others = tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for h in range(0, H):
        Q_h = Q + tl.cast(h, tl.int64) * stride_qh
        K_h = K + tl.cast(h // GROUP, tl.int64) * stride_kh
        q = _load(Q_h, m0, stride_qt, rows, cols, T, D, True)
        k = _load(K_h, n0, stride_kt, others, cols, T, D, True)
        x = _dot(q, tl.trans(k))
        if BAND:
            q_there = _load(Q_h, n0, stride_qt, others, cols, T, D, True)
            k_here = _load(K_h, m0, stride_kt, rows, cols, T, D, True)
            back = t[:, None] - (n0 + others)[None, :]
            r = _dot(k_here, tl.trans(q_there))
            alpha = tl.load(ALPHA + h).to(tl.float32)
            x += tl.where(back <= band, alpha * r, 0.0)
        level = tl.load(LSE + h * T + t, mask=t < T, other=0.0) / scale
        p = _power(x, level[:, None], scale, True)
        if PICK:
            floor = tl.exp2(-level * (scale * LOG2E))
            p = _minus_one(x, p, floor[:, None], scale, True, EXACT)
            p = tl.maximum(p, 0.0)
        total += p
    return total


@triton.jit
def _routing_blocks(
    values,
    places,
    lo,
    hi,
    m0,
    t,
    reach,
    Q,
    K,
    LSE,
    ALPHA,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    T,
    H,
    band,
    scale,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BAND: tl.constexpr,
    WINDOW: tl.constexpr,
    PICK: tl.constexpr,
    EXACT: tl.constexpr,
    TOP: tl.constexpr,
):
    """The lists after the key blocks in [lo, hi)."""
    part: tl.constexpr = BLOCK_N // FOLD
    first = tl.arange(0, part)[None, :]
    for n0 in range(lo, hi, BLOCK_N):
        # fmt: off
        p = _mean_tile(
            n0, m0, t, Q, K, LSE, ALPHA, stride_qt, stride_qh, stride_kt, stride_kh,
            T, H, band, scale, GROUP, D, D_PAD, BLOCK_M, BLOCK_N, BAND, PICK, EXACT,
        )
        # fmt: on
        back = t[:, None] - (n0 + tl.arange(0, BLOCK_N))[None, :]
        p = tl.where(_visible(back, reach, WINDOW), p / H, 0.0)
        parts = _eighths(p)
        for i in tl.static_range(FOLD):
            place = tl.broadcast_to(first + n0 + i * part, [BLOCK_M, part])
            values, places = _enter(parts[i], place, values, places, TOP)
    return values, places


# fmt: off
@triton.jit
def routing(
    Q, K, LSE, ALPHA, STARTS, INDEX, WEIGHT, stride_qb, stride_qt, stride_qh, stride_kb,
    stride_kt, stride_kh, T, H, window, band, scale, GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, WINDOW: tl.constexpr, PICK: tl.constexpr, EXACT: tl.constexpr,
    TOP: tl.constexpr,
):
    """index_BTk and weight_BTk of one block of queries, largest weight first; LSE_BHT
    is contiguous.
    """
    blocks = tl.cdiv(T, BLOCK_M)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    m0 = (blocks - 1 - tl.program_id(0) % blocks) * BLOCK_M
    Q += b * stride_qb
    K += b * stride_kb
    LSE += b * H * T
    if STARTS is not None:
        STARTS += b * T
    t = m0 + tl.arange(0, BLOCK_M)
    reach = _reach(STARTS, t[:, None], T, window)
    lo, _, near, hi = _key_ranges(
        m0, T, STARTS, window, BLOCK_M, BLOCK_N, STRIPS, WINDOW
    )
    values, places = (), ()
    for _i in tl.static_range(TOP):
        zeros = tl.zeros([BLOCK_M, BLOCK_N // FOLD], tl.float32)
        values = values + (zeros,)
        places = places + (zeros.to(tl.int32) + NOWHERE,)
    if STRIPS > 0:
        values, places = _routing_blocks(
            values, places, lo, near, m0, t, reach, Q, K, LSE, ALPHA, stride_qt,
            stride_qh, stride_kt, stride_kh, T, H, band, scale, GROUP, D, D_PAD,
            BLOCK_M, BLOCK_N, False, WINDOW, PICK, EXACT, TOP,
        )
        lo = near
    values, places = _routing_blocks(
        values, places, lo, hi, m0, t, reach, Q, K, LSE, ALPHA, stride_qt, stride_qh,
        stride_kt, stride_kh, T, H, band, scale, GROUP, D, D_PAD, BLOCK_M, BLOCK_N,
        STRIPS > 0, WINDOW, PICK, EXACT, TOP,
    )
    for place in tl.static_range(TOP):
        best = tl.max(values[0], 1)
        equal = values[0] == best[:, None]
        where = tl.min(tl.where(equal, places[0], NOWHERE), 1)
        taken = places[0] == where[:, None]
        rest_values, rest_places = (), ()
        for depth in tl.static_range(TOP - 1):
            next_value = tl.where(taken, values[depth + 1], values[depth])
            next_place = tl.where(taken, places[depth + 1], places[depth])
            rest_values = rest_values + (next_value,)
            rest_places = rest_places + (next_place,)
        values = rest_values + (tl.where(taken, 0.0, values[TOP - 1]),)
        places = rest_places + (tl.where(taken, NOWHERE, places[TOP - 1]),)
        entry = (b * T + t) * TOP + place
        tl.store(WEIGHT + entry, best, mask=t < T)
        tl.store(INDEX + entry, tl.where(best > 0, where, 0), mask=t < T)
# fmt: on


@triton.jit
def mix(
    M,
    INDEX,
    WEIGHT,
    OUT,
    stride,
    T,
    R: tl.constexpr,
    R_PAD: tl.constexpr,
    TOP: tl.constexpr,
):
    """OUT_t = sum_j WEIGHT_tj M_INDEX_tj of one query, rows of R; M's rows of all
    sequences lie `stride` apart, the rest is contiguous.
    """
    row = tl.program_id(0).to(tl.int64)
    base = row // T * T
    cols = tl.arange(0, R_PAD)
    total = tl.zeros([R_PAD], tl.float32)
    for j in tl.static_range(TOP):
        weight = tl.load(WEIGHT + row * TOP + j)
        source = base + tl.load(INDEX + row * TOP + j)
        m = tl.load(M + source * stride + cols, mask=cols < R, other=0.0)
        total += weight * m.to(tl.float32)
    tl.store(OUT + row * R + cols, total.to(OUT.dtype.element_ty), mask=cols < R)


@triton.jit
def mix_back(
    DOUT,
    INDEX,
    WEIGHT,
    DM,
    T,
    R: tl.constexpr,
    R_PAD: tl.constexpr,
    TOP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """DM_s = sum_t [s = INDEX_tj] WEIGHT_tj DOUT_t of one block of keys."""
    blocks = tl.cdiv(T, BLOCK_N)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    n0 = tl.program_id(0) % blocks * BLOCK_N
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, R_PAD)
    others = tl.arange(0, BLOCK_N)
    s = n0 + others
    dm = tl.zeros([BLOCK_N, R_PAD], tl.float32)
    DOUT += b * T * R
    for m0 in range(n0 // BLOCK_M * BLOCK_M, T, BLOCK_M):
        t = m0 + rows
        weights = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for j in tl.static_range(TOP):
            entry = (b * T + t) * TOP + j
            weight = tl.load(WEIGHT + entry, mask=t < T, other=0.0)
            place = tl.load(INDEX + entry, mask=t < T, other=0)
            weights += tl.where(s[:, None] == place[None, :], weight[None, :], 0.0)
        dout = _load(DOUT, m0, R, rows, cols, T, R, True)
        dm = _dot(weights.to(dout.dtype), dout, dm)
    _store(DM + b * T * R, n0, R, others, cols, T, R, dm)
