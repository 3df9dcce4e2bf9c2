"""The backward pass of causal attention: two kernels, three with a band.

Two kernels walk every visible tile once each:

row     a block of queries: dQ_t = scale sum_s dS_ts k_s
column  a block of keys, on transposed tiles: dV_s and dK_s (kernel_column.py)

With a band a third one comes first. It computes p and dS of the tiles that the
band touches, TILE x TILE, and leaves them in a strip of STRIPS * TILE columns
per row, so that nothing about the band is computed twice: row and column read
these tiles instead of making them, and a second time, as the transposed score
asks, for alpha sum_t dS_ts k_t (a part of dQ_s) and alpha sum_s dS_ts q_s (of
dK_t). No gradient is written twice; the order of every sum is fixed.

kernel_tiles.py has the formulas, the units and the legend.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_tiles import (
    EPS,
    HIGH,
    TILE,
    _dot,
    _floor,
    _key_ranges,
    _load,
    _masked,
    _minus_one,
    _needs_care,
    _place,
    _power,
    _reach,
    _sees_few,
    _statistic,
    _store,
    _stream,
    _strip,
    _visible,
    _weights,
)


@triton.jit
def _row_blocks(
    dq,
    q,
    do,
    level,
    floor,
    delta,
    cut,
    rate,
    lo,
    hi,
    t,
    K,
    V,
    K_TILES,
    V_TILES,
    k_row,
    k_column,
    v_row,
    v_column,
    stride_k,
    stride_v,
    T,
    reach,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CHECK: tl.constexpr,
    WINDOW: tl.constexpr,
    PICK: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """dQ over the key blocks in [lo, hi)."""
    rows, cols = tl.arange(0, BLOCK_N), tl.arange(0, D_PAD)
    for n0 in range(lo, hi, BLOCK_N):
        k = _stream(K_TILES, k_row, k_column, K, n0, stride_k, rows, cols, T, D, CHECK)
        x = _dot(q, tl.trans(k))
        if CHECK:
            back = t[:, None] - (n0 + rows)[None, :]
            x = tl.where(_visible(back, reach, WINDOW), x, float("-inf"))
        dp = tl.zeros_like(x)
        if V is not None:
            # fmt: off
            v = _stream(
                V_TILES, v_row, v_column, V, n0, stride_v, rows, cols, T, D, CHECK)
            # fmt: on
            dp = _dot(do, tl.trans(v))
        # fmt: off
        _, ds = _weights(
            x, level[:, None], floor[:, None], delta[:, None], dp, cut, rate, scale,
            STATISTIC, PICK, CAREFUL, EXACT,
        )
        # fmt: on
        dq = _dot(ds.to(k.dtype), k, dq)
    return dq


@triton.jit
def _row_all(
    dq,
    q,
    do,
    level,
    floor,
    delta,
    cut,
    rate,
    lo,
    full,
    near,
    hi,
    t,
    K,
    V,
    K_TILES,
    V_TILES,
    k_row,
    k_column,
    v_row,
    v_column,
    stride_k,
    stride_v,
    T,
    reach,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    WINDOW: tl.constexpr,
    PICK: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """dQ over every block that no strip holds."""
    # fmt: off
    if WINDOW:
        dq = _row_blocks(
            dq, q, do, level, floor, delta, cut, rate, lo, full, t, K, V,
            K_TILES, V_TILES, k_row, k_column, v_row, v_column,
            stride_k, stride_v, T, reach, scale,
            D, D_PAD, BLOCK_N, True, WINDOW, PICK, CAREFUL, EXACT, STATISTIC,
        )
    dq = _row_blocks(
        dq, q, do, level, floor, delta, cut, rate, full, near, t, K, V,
        K_TILES, V_TILES, k_row, k_column, v_row, v_column,
        stride_k, stride_v, T, reach, scale,
        D, D_PAD, BLOCK_N, False, WINDOW, PICK, CAREFUL, EXACT, STATISTIC,
    )
    if STRIPS == 0:
        dq = _row_blocks(
            dq, q, do, level, floor, delta, cut, rate, near, hi, t, K, V,
            K_TILES, V_TILES, k_row, k_column, v_row, v_column,
            stride_k, stride_v, T, reach, scale,
            D, D_PAD, BLOCK_N, True, WINDOW, PICK, CAREFUL, EXACT, STATISTIC,
        )
    # fmt: on
    return dq


@triton.jit
def _delta(O, DO, m0, stride_o, T, H, rows, cols, D: tl.constexpr):
    """delta = o · do of a block of rows."""
    o = _load(O, m0, H * D, rows, cols, T, D, True).to(tl.float32)
    delta = tl.sum(o * _load(DO, m0, stride_o, rows, cols, T, D, True), 1)
    return delta


@triton.jit
def _store_sums(LEVEL, DELTA, FLOOR, lines, level, delta, floor, t, T):
    """What the column kernel reads by whole blocks: beyond T there is no weight."""
    tl.store(LEVEL + lines, tl.where(t < T, level, HIGH))
    tl.store(DELTA + lines, tl.where(t < T, delta, 0.0))
    if FLOOR is not None:
        tl.store(FLOOR + lines, tl.where(t < T, floor, 0.0))


@triton.jit
def _summed_delta(
    q,
    do,
    k_here,
    level,
    lo,
    hi,
    t,
    alpha,
    Q,
    K,
    V,
    stride_q,
    stride_k,
    stride_v,
    T,
    reach,
    band,
    scale,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BAND: tl.constexpr,
    WINDOW: tl.constexpr,
    UNSAFE: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Softpick's delta as sum_s p_ts dP_ts over the key blocks in [lo, hi). Where few
    keys are seen dP - delta cancels, and e^(s-L), which softpick does not bound by
    1, magnifies what the rounding of o leaves in o · do; and what L's leaves in p, so
    that p is divided by what it and the rest add up to.
    """
    rows, cols = tl.arange(0, BLOCK_N), tl.arange(0, D_PAD)
    delta = tl.zeros([BLOCK_M], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.zeros([BLOCK_M], tl.float32)
    for n0 in tl.range(lo, hi, BLOCK_N, num_stages=1):
        k = _load(K, n0, stride_k, rows, cols, T, D, True)
        v = _load(V, n0, stride_v, rows, cols, T, D, True)
        x = _dot(q, tl.trans(k))
        back = t[:, None] - (n0 + rows)[None, :]
        if BAND:
            q_there = _load(Q, n0, stride_q, rows, cols, T, D, True)
            x += tl.where(back <= band, alpha * _dot(k_here, tl.trans(q_there)), 0.0)
        x = _masked(x, _visible(back, reach, WINDOW), True)
        e = _power(x, level[:, None], scale, True)
        p = _minus_one(x, e, _floor(level, scale)[:, None], scale, True, EXACT)
        total += tl.sum(tl.abs(p), 1)
        top = tl.maximum(top, tl.max(x, 1))
        delta += tl.sum(tl.maximum(p, 0.0) * _dot(do, tl.trans(v)), 1)
    rest = _floor(level, scale) if UNSAFE else _power(top, level, scale, True)
    return delta / (total + EPS * rest)


# fmt: off
@triton.jit
def backward_band(
    Q, K, V, O, DO, L, DL, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA, STARTS, P, DS, DALPHA,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb,
    stride_vt, stride_vh, stride_ob, stride_ot, stride_oh, T, stride_l, H, window, band,
    scale, GROUP: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, STRIPS: tl.constexpr,
    WINDOW: tl.constexpr, PICK: tl.constexpr, UNSAFE: tl.constexpr, EXACT: tl.constexpr,
    STATISTIC: tl.constexpr,
):
    """level_, delta_ and floor_BHT, the strips of p and dS (0 where not visible), and
    this block's part of dalpha = scale sum dS_ts q_s · k_t, for one block of queries.
    """
    blocks = tl.cdiv(T, BLOCK_M)
    head = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    m0 = block * BLOCK_M
    b, h = (head // H).to(tl.int64), head % H
    Q += b * stride_qb + tl.cast(h, tl.int64) * stride_qh
    K += b * stride_kb + tl.cast(h // GROUP, tl.int64) * stride_kh
    V += b * stride_vb + tl.cast(h // GROUP, tl.int64) * stride_vh
    DO += b * stride_ob + tl.cast(h, tl.int64) * stride_oh
    O += b * T * H * D + h * D
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    t = m0 + rows
    lines = tl.cast(head, tl.int64) * stride_l + t
    level = tl.load(L + lines, mask=t < T, other=0.0)
    q = _load(Q, m0, stride_qt, rows, cols, T, D, True)
    k_here = _load(K, m0, stride_kt, rows, cols, T, D, True)
    do = _load(DO, m0, stride_ot, rows, cols, T, D, True)
    alpha = tl.load(ALPHA + h).to(tl.float32)
    if STARTS is not None:
        STARTS += b * T
    reach = _reach(STARTS, t[:, None], T, window)
    delta = _delta(O, DO, m0, stride_ot, T, H, rows, cols, D)
    if PICK:
        if _sees_few(t, _reach(STARTS, t, T, window), WINDOW):
            lo, _, _, hi = _key_ranges(
                m0, T, STARTS, window, BLOCK_M, BLOCK_N, STRIPS, WINDOW)
            delta = _summed_delta(
                q, do, k_here, level, lo, hi, t, alpha, Q, K, V,
                stride_qt, stride_kt, stride_vt, T, reach, band, scale,
                D, D_PAD, BLOCK_M, BLOCK_N, True, WINDOW, UNSAFE, EXACT,
            )
    if DL is not None:
        # L moves with e^(s-L), as delta enters dS with it.
        delta -= tl.load(DL + lines, mask=t < T, other=0.0) / scale
    floor = _floor(level, scale)
    _store_sums(LEVEL, DELTA, FLOOR, lines, level, delta, floor, t, T)
    cut, rate = _statistic(CUT, RATE, lines[:, None])
    width: tl.constexpr = STRIPS * TILE
    P += tl.cast(head, tl.int64) * T * width
    DS += tl.cast(head, tl.int64) * T * width
    s_rows, dalpha = tl.arange(0, BLOCK_N), tl.zeros([BLOCK_M], tl.float32)
    end = (m0 // TILE + 1) * TILE
    for n0 in range(tl.maximum(end - STRIPS * TILE, 0), end, BLOCK_N):
        k = _load(K, n0, stride_kt, s_rows, cols, T, D, True)
        q_there = _load(Q, n0, stride_qt, s_rows, cols, T, D, True)
        v = _load(V, n0, stride_vt, s_rows, cols, T, D, True)
        back = t[:, None] - (n0 + s_rows)[None, :]
        r = _dot(k_here, tl.trans(q_there))
        # Rounded as in the forward pass: x - L has few digits where scores are large.
        x = _dot(q, tl.trans(k)) + tl.where(back <= band, alpha * r, 0.0)
        x = tl.where(_visible(back, reach, WINDOW), x, float("-inf"))
        dp = _dot(do, tl.trans(v))
        p, ds = _weights(
            x, level[:, None], floor[:, None], delta[:, None], dp, cut, rate, scale,
            STATISTIC, PICK, True, EXACT,
        )
        dalpha += tl.sum(tl.where(back <= band, ds * r, 0.0), 1)
        inside = (t < T)[:, None]
        pairs = _strip(0, width, t[:, None], (n0 + s_rows)[None, :], STRIPS)
        tl.store(P + pairs, p.to(P.dtype.element_ty), mask=inside)
        tl.store(DS + pairs, ds.to(DS.dtype.element_ty), mask=inside)
    dalpha = tl.sum(tl.where(t < T, dalpha, 0.0), 0) * scale
    tl.store(DALPHA + tl.cast(head, tl.int64) * blocks + block, dalpha)
# fmt: on


@triton.jit
def _row_strips(
    dq,
    m0,
    t,
    near,
    hi,
    K,
    DS,
    alpha,
    stride_k,
    T,
    band,
    D: tl.constexpr,
    D_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """dQ from the strips: alpha times what the block's positions are as keys, then
    what they are as queries over the key blocks in [near, hi).
    """
    width: tl.constexpr = STRIPS * TILE
    other, cols = tl.arange(0, BLOCK_N), tl.arange(0, D_PAD)
    end = tl.minimum((m0 // TILE + STRIPS) * TILE, T)
    for n0 in tl.range(m0 // BLOCK_N * BLOCK_N, end, BLOCK_N, num_stages=AHEAD):
        # Here the block's positions are keys, and n0 is one of queries.
        k = _load(K, n0, stride_k, other, cols, T, D, True)
        query = (n0 + other)[None, :]
        pairs = _strip(DS, width, query, t[:, None], STRIPS)
        # A mask of single pairs would load them one by one.
        ds = tl.load(pairs, mask=query < T, other=0.0)
        dq = _dot(tl.where(query - t[:, None] <= band, ds, 0.0), k, dq)
    dq = dq * alpha
    for n0 in tl.range(near, hi, BLOCK_N, num_stages=AHEAD):
        k = _load(K, n0, stride_k, other, cols, T, D, True)
        pairs = _strip(DS, width, t[:, None], (n0 + other)[None, :], STRIPS)
        ds = tl.load(pairs, mask=(t < T)[:, None], other=0.0)
        dq = _dot(ds, k, dq)
    return dq


# fmt: off
@triton.jit
def backward_row(
    Q, K, V, O, DO, L, DL, CUT, RATE, LEVEL, DELTA, FLOOR, ALPHA, STARTS, DS, CARE, DQ,
    K_TILES, V_TILES, stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh, stride_gb,
    stride_gt, T, stride_l, H, window, band, scale, GROUP: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr, AHEAD: tl.constexpr, WINDOW: tl.constexpr, PICK: tl.constexpr,
    UNSAFE: tl.constexpr, EXACT: tl.constexpr, STATISTIC: tl.constexpr,
):
    """dQ_BTHD of one block of queries; without a band also level_, delta_ and
    floor_BHT, which column reads. Without a V there was no o: dP is what a statistic
    adds.
    """
    blocks = tl.cdiv(T, BLOCK_M)
    head = tl.program_id(0) // blocks
    block = blocks - 1 - tl.program_id(0) % blocks
    m0 = block * BLOCK_M
    b, h = (head // H).to(tl.int64), head % H
    k_start = b * stride_kb + tl.cast(h // GROUP, tl.int64) * stride_kh
    v_start = b * stride_vb + tl.cast(h // GROUP, tl.int64) * stride_vh
    k_row, k_column = _place(k_start, stride_kt)
    v_row, v_column = _place(v_start, stride_vt)
    Q += b * stride_qb + tl.cast(h, tl.int64) * stride_qh
    K += k_start
    own = b * T * H * D + h * D
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, D_PAD)
    t = m0 + rows
    lines = tl.cast(head, tl.int64) * stride_l + t
    level = tl.load(L + lines, mask=t < T, other=0.0)
    floor = _floor(level, scale)
    dq = tl.zeros([BLOCK_M, D_PAD], tl.float32)
    if STARTS is not None:
        STARTS += b * T
    reach = _reach(STARTS, t[:, None], T, window)
    lo, full, near, hi = _key_ranges(
        m0, T, STARTS, window, BLOCK_M, BLOCK_N, STRIPS, WINDOW)
    cut, rate = _statistic(CUT, RATE, lines[:, None])
    q = _load(Q, m0, stride_qt, rows, cols, T, D, True)
    do = q
    if V is not None:
        V += v_start
        DO += b * stride_ob + tl.cast(h, tl.int64) * stride_oh
        do = _load(DO, m0, stride_ot, rows, cols, T, D, True)
    if STRIPS == 0:
        delta = tl.zeros([BLOCK_M], tl.float32)
        if V is not None:
            delta = _delta(O + own, DO, m0, stride_ot, T, H, rows, cols, D)
            if PICK:
                if _sees_few(t, _reach(STARTS, t, T, window), WINDOW):
                    delta = _summed_delta(
                        q, do, q, level, lo, hi, t, 0.0, Q, K, V,
                        stride_qt, stride_kt, stride_vt, T, reach, band, scale,
                        D, D_PAD, BLOCK_M, BLOCK_N, False, WINDOW, UNSAFE, EXACT,
                    )
        if DL is not None:
            # L moves with e^(s-L), as delta enters dS with it.
            delta -= tl.load(DL + lines, mask=t < T, other=0.0) / scale
        _store_sums(LEVEL, DELTA, FLOOR, lines, level, delta, floor, t, T)
    else:
        delta = tl.load(DELTA + lines, mask=t < T, other=0.0)
        dq = _row_strips(
            dq, m0, t, near, hi, K, DS + tl.cast(head, tl.int64) * T * STRIPS * TILE,
            tl.load(ALPHA + h).to(tl.float32), stride_kt, T, band,
            D, D_PAD, BLOCK_N, STRIPS, AHEAD,
        )
    if CARE is not None:
        here = _reach(STARTS, t, T, window)
        care = _needs_care(level, t, T, here, scale, WINDOW)
        tl.store(CARE + tl.cast(head, tl.int64) * blocks + block, care)
    dq = _row_all(
        dq, q, do, level, floor, delta, cut, rate, lo, full, near, hi, t, K, V,
        K_TILES, V_TILES, k_row, k_column, v_row, v_column,
        stride_kt, stride_vt, T, reach, scale,
        D, D_PAD, BLOCK_N, STRIPS, WINDOW, PICK, True, EXACT, STATISTIC,
    )
    DQ += b * stride_gb + h * D
    _store(DQ, m0, stride_gt, rows, cols, T, D, dq * scale)
# fmt: on
