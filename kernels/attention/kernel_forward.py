"""The forward pass of causal attention: online sums over blocks of keys.

kernel_tiles.py has the formulas, the units and the legend.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_statistics import _begin, _finish, _gather
from kernels.attention.kernel_tiles import (
    EPS,
    LOG2E,
    LOWEST,
    _dot,
    _key_ranges,
    _load,
    _masked,
    _minus_one,
    _any,
    _needs_care,
    _share,
    _place,
    _power,
    _reach,
    _store,
    _stream,
    _visible,
)


@triton.jit
def _rounded(top, unit):
    """top * unit, rounded before another term meets it, and no infinity."""
    return tl.maximum(tl.fma(top, tl.zeros_like(top) + unit, 0.0), LOWEST)


@triton.jit
def _remainder(top, unit, base):
    """top * unit - base, exact."""
    return tl.fma(top, tl.zeros_like(top) + unit, -base)


@triton.jit
def _powers(
    x,
    top,
    base,
    scale,
    SAFE: tl.constexpr,
    FUSED: tl.constexpr,
    CAREFUL: tl.constexpr,
):
    """(e, floor, shrink, top, base): e^s and e^0 of a tile over e^m, m the maximum of
    its rows so far, what sums over the maximum before shrink by, and both of m. Not
    SAFE: m = 0.

    FUSED they are over 2^base: m in powers of two, rounded once, so that x * unit -
    base is one multiply-add and right to its own rounding. The largest e is off 1 by
    what base was rounded by: 2^32 at a score of 5e8, which fp16 has no room for, and
    more than fp32 has from 1.5e9 on.
    """
    unit = scale * LOG2E
    floor, shrink = 1.0, 1.0
    if SAFE:
        new_top = tl.maximum(top, tl.max(x, 1))
        if FUSED:
            new_base = _rounded(new_top, unit)
            shrink = tl.exp2(base - new_base)
            e = tl.exp2(x * unit - new_base[:, None])
            base = new_base
        else:
            shrink = tl.exp2((top - new_top) * unit)
            floor = tl.exp2(-new_top * unit)[:, None]
            e = _power(x, new_top[:, None], scale, CAREFUL)
        top = new_top
    else:
        e = tl.exp2(x * unit)
    return e, floor, shrink, top, base


@triton.jit
def _forward_blocks(
    acc,
    total,
    top,
    base,
    state,
    q,
    m0,
    lo,
    hi,
    t,
    alpha,
    Q,
    K,
    V,
    K_TILES,
    V_TILES,
    k_row,
    k_column,
    v_row,
    v_column,
    stride_q,
    stride_k,
    stride_v,
    T,
    reach,
    band,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CHECK: tl.constexpr,
    BAND: tl.constexpr,
    WINDOW: tl.constexpr,
    PICK: tl.constexpr,
    SAFE: tl.constexpr,
    FUSED: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Online sums over the key blocks in [lo, hi)."""
    rows, cols = tl.arange(0, BLOCK_N), tl.arange(0, D_PAD)
    if BAND:
        # Not earlier: the loops before this one have use for its shared memory.
        k_here = _load(K, m0, stride_k, tl.arange(0, q.shape[0]), cols, T, D, True)
    for n0 in tl.range(lo, hi, BLOCK_N, num_stages=AHEAD if BAND else None):
        k = _stream(K_TILES, k_row, k_column, K, n0, stride_k, rows, cols, T, D, CHECK)
        x = _dot(q, tl.trans(k))
        back = t[:, None] - (n0 + rows)[None, :]
        if BAND:
            q_there = _load(Q, n0, stride_q, rows, cols, T, D, CHECK)
            x += tl.where(back <= band, alpha * _dot(k_here, tl.trans(q_there)), 0.0)
        if CHECK:
            x = _masked(x, _visible(back, reach, WINDOW), PICK)
        before = total
        e, floor, shrink, new_top, base = _powers(
            x, top, base, scale, SAFE, FUSED, CAREFUL or CHECK
        )
        if SAFE:
            total = total * shrink
            if V is not None:
                acc = acc * shrink[:, None]
        if PICK:
            e = _minus_one(x, e, floor, scale, CAREFUL or CHECK, EXACT)
            total += tl.sum(tl.abs(e), 1)
            e = e + tl.abs(e)
        else:
            total += tl.sum(e, 1)
        state = _gather(state, x, e, before, shrink, top, new_top, STATISTIC, TOP)
        if V is not None:
            # fmt: off
            v = _stream(
                V_TILES, v_row, v_column, V, n0, stride_v, rows, cols, T, D, CHECK)
            # fmt: on
            acc = _dot(e.to(v.dtype), v, acc)
        top = new_top
    return acc, total, top, base, state


@triton.jit
def _forward_rows(
    m0,
    q,
    t,
    alpha,
    Q,
    K,
    V,
    K_TILES,
    V_TILES,
    k_row,
    k_column,
    v_row,
    v_column,
    stride_q,
    stride_k,
    stride_v,
    T,
    STARTS,
    window,
    band,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    WINDOW: tl.constexpr,
    PICK: tl.constexpr,
    SAFE: tl.constexpr,
    FUSED: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """The sums of one block of queries: sum e v (softpick: twice that), sum |e|,
    the row maximum they are relative to, that times the unit as it was used, and what
    was gathered.
    """
    acc = tl.zeros([BLOCK_M, D_PAD], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.zeros([BLOCK_M], tl.float32)
    if not PICK:
        top += LOWEST
    base = top
    lo, full, near, hi = _key_ranges(
        m0, T, STARTS, window, BLOCK_M, BLOCK_N, STRIPS, WINDOW
    )
    reach = _reach(STARTS, t[:, None], T, window)
    state = _begin(BLOCK_M, BLOCK_N, STATISTIC, TOP)
    # fmt: off
    if WINDOW:
        acc, total, top, base, state = _forward_blocks(
            acc, total, top, base, state, q, m0, lo, full, t, alpha, Q, K, V,
            K_TILES, V_TILES, k_row, k_column, v_row, v_column,
            stride_q, stride_k, stride_v, T, reach, band, scale,
            D, D_PAD, BLOCK_N, True, False, WINDOW, PICK, SAFE, FUSED, CAREFUL, EXACT,
            STATISTIC, TOP, AHEAD,
        )
    acc, total, top, base, state = _forward_blocks(
        acc, total, top, base, state, q, m0, full, near, t, alpha, Q, K, V,
        K_TILES, V_TILES, k_row, k_column, v_row, v_column,
        stride_q, stride_k, stride_v, T, reach, band, scale,
        D, D_PAD, BLOCK_N, False, False, WINDOW, PICK, SAFE, FUSED, CAREFUL, EXACT,
        STATISTIC, TOP, AHEAD,
    )
    acc, total, top, base, state = _forward_blocks(
        acc, total, top, base, state, q, m0, near, hi, t, alpha, Q, K, V,
        K_TILES, V_TILES, k_row, k_column, v_row, v_column,
        stride_q, stride_k, stride_v, T, reach, band, scale,
        D, D_PAD, BLOCK_N, True, STRIPS > 0, WINDOW, PICK, SAFE, FUSED, CAREFUL, EXACT,
        STATISTIC, TOP, AHEAD,
    )
    # fmt: on
    return acc, total, top, base, state


# fmt: off
@triton.jit
def _forward_item(
    item, Q, K, V, O, L, VALUE, CUT, ALPHA, STARTS, CARE, K_TILES, V_TILES, stride_qb,
    stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt,
    stride_vh, T, stride_l, H, window, band, scale, GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, WINDOW: tl.constexpr, PICK: tl.constexpr, SAFE: tl.constexpr,
    UNSAFE: tl.constexpr, CAREFUL: tl.constexpr, EXACT: tl.constexpr,
    STATISTIC: tl.constexpr, TOP: tl.constexpr, AHEAD: tl.constexpr,
):
    """o, L and a statistic of one block of queries of one head."""
    blocks = tl.cdiv(T, BLOCK_M)
    head = item // blocks
    m0 = (blocks - 1 - item % blocks) * BLOCK_M
    b, h = (head // H).to(tl.int64), head % H
    Q += b * stride_qb + tl.cast(h, tl.int64) * stride_qh
    k_start = b * stride_kb + tl.cast(h // GROUP, tl.int64) * stride_kh
    v_start = b * stride_vb + tl.cast(h // GROUP, tl.int64) * stride_vh
    k_row, k_column = _place(k_start, stride_kt)
    v_row, v_column = _place(v_start, stride_vt)
    K += k_start
    if V is not None:
        V += v_start
    if STARTS is not None:
        STARTS += b * T
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    t = m0 + rows
    q = _load(Q, m0, stride_qt, rows, cols, T, D, True)
    alpha = 0.0
    if STRIPS > 0:
        alpha = tl.load(ALPHA + h).to(tl.float32)
    FUSED: tl.constexpr = not PICK and q.dtype != tl.float16
    acc, total, top, base, state = _forward_rows(
        m0, q, t, alpha, Q, K, V,
        K_TILES, V_TILES, k_row, k_column, v_row, v_column,
        stride_qt, stride_kt, stride_vt, T, STARTS, window, band, scale,
        D, D_PAD, BLOCK_M, BLOCK_N, STRIPS, WINDOW, PICK, SAFE, FUSED, CAREFUL, EXACT,
        STATISTIC, TOP, AHEAD,
    )
    norm = total
    if PICK:
        if UNSAFE:
            # Its eps stands beside sums that are not relative to a maximum.
            total += EPS * tl.exp2(-top * (scale * LOG2E))
        else:
            total += EPS
        norm = 2 * total
    if V is not None:
        stride_ot = H * D
        O += b * T * stride_ot + h * D
        _store(O, m0, stride_ot, rows, cols, T, D, acc / norm[:, None])
    lines = tl.cast(head, tl.int64) * stride_l + t
    log_sum = tl.log2(total)
    if FUSED:
        log_sum -= _remainder(top, scale * LOG2E, base)
    level = top.to(L.dtype.element_ty) + log_sum / (scale * LOG2E)
    tl.store(L + lines, level, mask=t < T)
    if STATISTIC > 0:
        value, cut = _finish(
            state, total, log_sum, level, scale, STATISTIC, TOP, PICK, EXACT)
        tl.store(VALUE + lines, value, mask=t < T)
        if CUT is not None:
            tl.store(CUT + lines, cut, mask=t < T)
    if not CAREFUL:
        reach = _reach(STARTS, t, T, window)
        tl.store(CARE + item, _needs_care(level, t, T, reach, scale, WINDOW))
# fmt: on


# fmt: off
@triton.jit
def forward(
    Q, K, V, O, L, VALUE, CUT, ALPHA, STARTS, CARE, K_TILES, V_TILES, stride_qb,
    stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt,
    stride_vh, T, stride_l, H, count, window, band, scale, GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, WINDOW: tl.constexpr, PICK: tl.constexpr, SAFE: tl.constexpr,
    UNSAFE: tl.constexpr, REPAIR: tl.constexpr, CAREFUL: tl.constexpr,
    EXACT: tl.constexpr, STATISTIC: tl.constexpr, TOP: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """o_BTHD (where there is a V), L_BHT (dot units) and, where STATISTIC asks for
    one, its value and cut_BHT, a program per block. Fast programs (not CAREFUL)
    leave in CARE whether their block has to be done again; REPAIR: a few programs
    share all `count` blocks and do those.
    """
    if REPAIR:
        lo, hi = _share(count)
        if _any(CARE, lo, hi) > 0:
            # Nothing is hoisted: it would take the registers that care needs.
            for item in tl.range(lo, hi, disable_licm=True):
                if tl.load(CARE + item) > 0:
                    _forward_item(
                        item, Q, K, V, O, L, VALUE, CUT, ALPHA, STARTS, CARE, K_TILES,
                        V_TILES, stride_qb, stride_qt, stride_qh, stride_kb, stride_kt,
                        stride_kh, stride_vb, stride_vt, stride_vh, T, stride_l, H,
                        window, band, scale, GROUP, D, D_PAD, BLOCK_M, BLOCK_N, STRIPS,
                        WINDOW, PICK, SAFE, UNSAFE, CAREFUL, EXACT, STATISTIC, TOP,
                        AHEAD,
                    )
    else:
        _forward_item(
            tl.program_id(0), Q, K, V, O, L, VALUE, CUT, ALPHA, STARTS, CARE, K_TILES,
            V_TILES, stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
            stride_vb, stride_vt, stride_vh, T, stride_l, H, window, band, scale, GROUP,
            D, D_PAD, BLOCK_M, BLOCK_N, STRIPS, WINDOW, PICK, SAFE, UNSAFE, CAREFUL,
            EXACT, STATISTIC, TOP, AHEAD,
        )
# fmt: on
