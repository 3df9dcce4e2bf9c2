"""The column kernel of the backward pass: dK and dV of a block of keys.

kernel_backward.py says how it shares the work with the row and the band kernel;
kernel_tiles.py has the formulas, the units and the legend.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_tiles import (
    TILE,
    _any,
    _dot,
    _load,
    _place,
    _reach,
    _share,
    _statistic,
    _store,
    _stream,
    _strip,
    _visible,
    _weights,
)


@triton.jit
def _sums(LEVEL, DELTA, FLOOR, t, PICK: tl.constexpr):
    """(L, e^-L, delta) of the queries t. Softmax has no use for e^-L."""
    level = tl.load(LEVEL + t)
    delta = tl.load(DELTA + t)
    floor = delta
    if PICK:
        floor = tl.load(FLOOR + t)
    return level, floor, delta


@triton.jit
def _column_blocks(
    dk,
    dv,
    k,
    v,
    lo,
    near,
    full,
    hi,
    s,
    Q,
    DO,
    LEVEL,
    DELTA,
    FLOOR,
    lines,
    CUT,
    RATE,
    STARTS,
    Q_TILES,
    DO_TILES,
    q_row,
    q_column,
    do_row,
    do_column,
    stride_q,
    stride_o,
    T,
    window,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    CHECK: tl.constexpr,
    WINDOW: tl.constexpr,
    RAGGED: tl.constexpr,
    PICK: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """dK and dV over the query blocks in [lo, near) and then [full, hi). Tiles are
    [N, M]: keys are rows. Beyond T (RAGGED) L is HIGH, so that p is 0, delta and rate
    are 0; q and dO are 0 or, by a descriptor, rows of another batch or head.
    """
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    Q_OVER: tl.constexpr = RAGGED and (CHECK or Q_TILES is None)
    O_OVER: tl.constexpr = RAGGED and (CHECK or DO_TILES is None)
    # The masked loop of heads of 128 has no register left for it.
    CLAMP: tl.constexpr = not CHECK or (PICK and D_PAD <= 64)
    first = tl.cdiv(near - lo, BLOCK_M)
    count = first + tl.cdiv(tl.maximum(hi - full, 0), BLOCK_M)
    for block in range(0, count):
        m0 = lo + block * BLOCK_M
        if CHECK:
            m0 = tl.where(block < first, m0, full + (block - first) * BLOCK_M)
        t = m0 + rows
        q = _stream(Q_TILES, q_row, q_column, Q, m0, stride_q, rows, cols, T, D, Q_OVER)
        level, floor, delta = _sums(LEVEL, DELTA, FLOOR, t, PICK)
        x = _dot(k, tl.trans(q))
        if CHECK:
            reach = _reach(STARTS, t[None, :], T, window)
            seen = _visible(t[None, :] - s[:, None], reach, WINDOW)
            x = tl.where(seen, x, float("-inf"))
        dp = tl.zeros_like(x)
        # fmt: off
        if DO is not None:
            do = _stream(
                DO_TILES, do_row, do_column, DO, m0, stride_o, rows, cols, T, D, O_OVER)
            dp = _dot(v, tl.trans(do))
        cut, rate = _statistic(CUT, RATE, lines + t[None, :])
        p, ds = _weights(
            x, level[None, :], floor[None, :], delta[None, :], dp, cut, rate, scale,
            STATISTIC, PICK, CAREFUL or CHECK, EXACT, CLAMP,
        )
        # fmt: on
        if DO is not None:
            dv = _dot(p.to(do.dtype), do, dv)
        dk = _dot(ds.to(q.dtype), q, dk)
    return dk, dv


@triton.jit
def _column_all(
    dk,
    dv,
    k,
    v,
    lo,
    near,
    full,
    hi,
    s,
    Q,
    DO,
    LEVEL,
    DELTA,
    FLOOR,
    lines,
    CUT,
    RATE,
    STARTS,
    Q_TILES,
    DO_TILES,
    q_row,
    q_column,
    do_row,
    do_column,
    stride_q,
    stride_o,
    T,
    window,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    STRIPS: tl.constexpr,
    WINDOW: tl.constexpr,
    RAGGED: tl.constexpr,
    PICK: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """dK and dV over every block that no strip holds: those that need a mask (near
    the diagonal and, WINDOW, at the end), then the rest.
    """
    # fmt: off
    if WINDOW or STRIPS == 0:
        start = near if STRIPS > 0 else lo
        dk, dv = _column_blocks(
            dk, dv, k, v, start, near, full, hi, s, Q, DO, LEVEL, DELTA, FLOOR, lines,
            CUT, RATE, STARTS,
            Q_TILES, DO_TILES, q_row, q_column, do_row, do_column,
            stride_q, stride_o, T, window, scale,
            D, D_PAD, BLOCK_M, True, WINDOW, RAGGED, PICK, CAREFUL, EXACT, STATISTIC,
        )
    dk, dv = _column_blocks(
        dk, dv, k, v, near, full, hi, hi, s, Q, DO, LEVEL, DELTA, FLOOR, lines, CUT,
        RATE, STARTS,
        Q_TILES, DO_TILES, q_row, q_column, do_row, do_column,
        stride_q, stride_o, T, window, scale,
        D, D_PAD, BLOCK_M, False, WINDOW, RAGGED, PICK, CAREFUL, EXACT, STATISTIC,
    )
    # fmt: on
    return dk, dv


@triton.jit
def _query_ranges(
    n0,
    T,
    ENDS,
    window,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """(lo, near, full, hi) of a key block, multiples of BLOCK_M but for hi: masks or
    the strips in [lo, near), none in [near, full), masks in [full, hi), where there
    is a WINDOW. Blocks may reach beyond T.
    """
    lo = n0 // BLOCK_M * BLOCK_M
    hi = tl.cdiv(T, BLOCK_M) * BLOCK_M
    whole = hi
    near = tl.cdiv(n0 + BLOCK_N - 1, BLOCK_M) * BLOCK_M
    if STRIPS > 0:
        near = (n0 // TILE + STRIPS) * TILE
    if WINDOW:
        hi = tl.minimum(T, n0 + BLOCK_N - 1 + window)
        whole = tl.minimum(T, n0 + window)
    if ENDS is not None:
        hi = tl.minimum(hi, tl.load(ENDS + tl.minimum(n0 + BLOCK_N, T) - 1))
        whole = tl.minimum(whole, tl.load(ENDS + n0))
    # A multiple of BLOCK_M at any T, or the compiler takes rows one by one.
    near = tl.minimum(near, tl.cdiv(T, BLOCK_M) * BLOCK_M)
    full = tl.maximum(whole // BLOCK_M * BLOCK_M, near)
    return lo, near, full, hi


@triton.jit
def _pairs(places, inside, RAGGED: tl.constexpr):
    """What a strip holds; RAGGED: 0 beyond T."""
    if RAGGED:
        return tl.load(places, mask=inside, other=0.0)
    return tl.load(places)


@triton.jit
def _column_strips(
    dk,
    dv,
    n0,
    s,
    lo,
    near,
    Q,
    DO,
    P,
    DS,
    alpha,
    stride_q,
    stride_o,
    T,
    band,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    AHEAD: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """dK and dV from the strips: alpha times what the block's positions are as
    queries, then what they are as keys over the query blocks in [lo, near).
    """
    width: tl.constexpr = STRIPS * TILE
    other, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    part = tl.zeros([BLOCK_N, D_PAD], tl.float32)
    end = tl.minimum(n0 + BLOCK_N, T)
    start = tl.maximum((n0 // TILE - STRIPS + 1) * TILE, 0)
    for m0 in tl.range(start, end, BLOCK_M, num_stages=AHEAD):
        # Here the block's positions are queries, and m0 is one of keys.
        q = _load(Q, m0, stride_q, other, cols, T, D, RAGGED)
        back = s[:, None] - (m0 + other)[None, :]
        pairs = _strip(DS, width, s[:, None], (m0 + other)[None, :], STRIPS)
        ds = _pairs(pairs, (s < T)[:, None], RAGGED)
        part = _dot(tl.where(back <= band, ds, 0.0), q, part)
    dk += part * alpha
    for m0 in tl.range(lo, near, BLOCK_M, num_stages=AHEAD):
        q = _load(Q, m0, stride_q, other, cols, T, D, RAGGED)
        do = _load(DO, m0, stride_o, other, cols, T, D, RAGGED)
        t = (m0 + other)[None, :]
        pairs = _strip(0, width, t, s[:, None], STRIPS)
        p = _pairs(P + pairs, t < T, RAGGED)
        ds = _pairs(DS + pairs, t < T, RAGGED)
        dv = _dot(p, do, dv)
        dk = _dot(ds, q, dk)
    return dk, dv


# fmt: off
@triton.jit
def _column_item(
    item, Q, K, V, DO, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA, STARTS, ENDS, P, DS, DK,
    DV, Q_TILES, DO_TILES, stride_qb, stride_qt, stride_qh, stride_kb, stride_kt,
    stride_kh, stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    stride_gb, stride_gt, T, stride_l, G, window, band, scale, GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, AHEAD: tl.constexpr, WINDOW: tl.constexpr,
    RAGGED: tl.constexpr, PICK: tl.constexpr, CAREFUL: tl.constexpr,
    EXACT: tl.constexpr, STATISTIC: tl.constexpr,
):
    """dK and dV of one block of keys, over the GROUP heads that read it."""
    blocks = tl.cdiv(T, BLOCK_N)
    head = item // blocks
    n0 = item % blocks * BLOCK_N
    b, g = (head // G).to(tl.int64), head % G
    K += b * stride_kb + tl.cast(g, tl.int64) * stride_kh
    rows, cols = tl.arange(0, BLOCK_N), tl.arange(0, D_PAD)
    s = n0 + rows
    dk = tl.zeros([BLOCK_N, D_PAD], tl.float32)
    dv = tl.zeros([BLOCK_N, D_PAD], tl.float32)
    if STARTS is not None:
        STARTS += b * T
        ENDS += b * T
    lo, near, full, hi = _query_ranges(
        n0, T, ENDS, window, BLOCK_M, BLOCK_N, STRIPS, WINDOW
    )
    H = G * GROUP
    # What is hoisted takes registers that heads of 64, and fp32, then lack.
    ANEW: tl.constexpr = D_PAD <= 64 or EXACT
    for h in tl.range(g * GROUP, g * GROUP + GROUP, disable_licm=ANEW):
        q_start = b * stride_qb + tl.cast(h, tl.int64) * stride_qh
        do_start = b * stride_ob + tl.cast(h, tl.int64) * stride_oh
        q_row, q_column = _place(q_start, stride_qt)
        do_row, do_column = _place(do_start, stride_ot)
        Q_h = Q + q_start
        DO_h = DO
        if DO is not None:
            DO_h = DO + do_start
        lines = (b * H + h) * stride_l
        floors = FLOOR
        if FLOOR is not None:
            floors = FLOOR + lines
        if STRIPS > 0:
            strips = (b * H + h) * T * STRIPS * TILE
            dk, dv = _column_strips(
                dk, dv, n0, s, lo, near, Q_h, DO_h, P + strips, DS + strips,
                tl.load(ALPHA + h).to(tl.float32), stride_qt, stride_ot, T, band,
                D, D_PAD, BLOCK_M, BLOCK_N, STRIPS, AHEAD, RAGGED,
            )
        k = _load(K, n0, stride_kt, rows, cols, T, D, True)
        v = k
        if V is not None:
            V_g = V + b * stride_vb + tl.cast(g, tl.int64) * stride_vh
            v = _load(V_g, n0, stride_vt, rows, cols, T, D, True)
        dk, dv = _column_all(
            dk, dv, k, v, lo, near, full, hi, s, Q_h, DO_h, LEVEL + lines,
            DELTA + lines, floors, lines, CUT, RATE, STARTS,
            Q_TILES, DO_TILES, q_row, q_column, do_row, do_column,
            stride_qt, stride_ot, T, window, scale,
            D, D_PAD, BLOCK_M, STRIPS, WINDOW, RAGGED, PICK, CAREFUL, EXACT,
            STATISTIC,
        )
    own = b * stride_gb + g * D
    _store(DK + own, n0, stride_gt, rows, cols, T, D, dk * scale)
    if V is not None:
        _store(DV + own, n0, stride_gt, rows, cols, T, D, dv)
# fmt: on


# fmt: off
@triton.jit
def backward_column(
    Q, K, V, DO, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA, STARTS, ENDS, P, DS, CARE, DK,
    DV, Q_TILES, DO_TILES, stride_qb, stride_qt, stride_qh, stride_kb, stride_kt,
    stride_kh, stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    stride_gb, stride_gt, T, stride_l, G, count, window, band, scale,
    GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, AHEAD: tl.constexpr, ROW_BLOCK: tl.constexpr,
    WINDOW: tl.constexpr, RAGGED: tl.constexpr, PICK: tl.constexpr,
    REPAIR: tl.constexpr, CAREFUL: tl.constexpr, EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """dK_BTGD and dV_BTGD, a program per block of keys. RAGGED: TILE does not divide T.
    REPAIR: a few programs share all `count` blocks and do again those that see a row
    which needs care.
    """
    if REPAIR:
        lo, hi = _share(count)
        blocks = tl.cdiv(T, BLOCK_N)
        row_blocks = tl.cdiv(T, ROW_BLOCK)
        heads = GROUP * row_blocks
        if _any(CARE, lo // blocks * heads, tl.cdiv(hi, blocks) * heads) > 0:
            # Nothing is hoisted: it would take the registers that care needs.
            for item in tl.range(lo, hi, disable_licm=True):
                first = item % blocks * BLOCK_N // ROW_BLOCK
                care = 0
                for head in range(item // blocks * GROUP, (item // blocks + 1) * GROUP):
                    flags = CARE + head * row_blocks
                    care = tl.maximum(care, _any(flags, first, row_blocks))
                if care > 0:
                    _column_item(
                        item, Q, K, V, DO, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA,
                        STARTS, ENDS, P, DS, DK, DV, Q_TILES, DO_TILES, stride_qb,
                        stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
                        stride_vb, stride_vt, stride_vh, stride_ob, stride_ot,
                        stride_oh, stride_gb, stride_gt, T, stride_l, G, window, band,
                        scale, GROUP, D, D_PAD, BLOCK_M, BLOCK_N, STRIPS, AHEAD, WINDOW,
                        RAGGED, PICK, CAREFUL, EXACT, STATISTIC,
                    )
    else:
        _column_item(
            tl.program_id(0), Q, K, V, DO, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA,
            STARTS, ENDS, P, DS, DK, DV, Q_TILES, DO_TILES, stride_qb, stride_qt,
            stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
            stride_ob, stride_ot, stride_oh, stride_gb, stride_gt, T, stride_l, G,
            window, band, scale, GROUP, D, D_PAD, BLOCK_M, BLOCK_N, STRIPS, AHEAD,
            WINDOW, RAGGED, PICK, CAREFUL, EXACT, STATISTIC,
        )
# fmt: on
