"""One step of a decode, split over the keys: a program sums one part of them for a
few rows, and a second kernel merges the parts in their order.

A row is a new token of a query head; the rows of a program share a key head. They
are few: products are multiplied and summed in fp32, for which no matrix unit is
needed and memory is the limit. What a part leaves is what an online pass holds at its end: the row maximum, the sum, and
the sum of values, relative to that maximum. Scores are kept in units of the products
("dot units", kernels/attention/kernel_tiles.py): x, with exp2((x - top) * unit).
Softpick's maximum starts at 0, so that parts with nothing to pick agree on it.

Legend: as in reference.py; R rows of a program, N keys of a block.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_tiles import (
    EPS,
    LOG2E,
    LOWEST,
    _masked,
    _minus_one,
    _power,
)

# fmt: off
@triton.jit
def _transposed(
    QUERIES, KEYS, stride_ww, stride_wh, stride_nn, stride_nj, i, h, there, inside,
    J_GROUP: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, CHUNK: tl.constexpr,
):
    """queries_s · keys_t [R, N] where `inside`, 0 elsewhere; `there` is the place of
    key s among the queries that are kept.
    """
    r = tl.zeros(inside.shape, tl.float32)
    for d0 in tl.static_range(0, D_PAD, CHUNK):
        d = d0 + tl.arange(0, CHUNK)
        near = i[:, None] * stride_nn + (h // J_GROUP)[:, None] * stride_nj + d[None, :]
        key = tl.load(KEYS + near, mask=(d < D)[None, :], other=0.0)
        far = there[None, :, None] * stride_ww + h[:, None, None] * stride_wh
        wanted = inside[:, :, None] & (d < D)[None, None, :]
        query = tl.load(QUERIES + far + d[None, None, :], mask=wanted, other=0.0)
        r += tl.sum(key[:, None, :].to(tl.float32) * query.to(tl.float32), 2)
    return r


@triton.jit
def _keys(
    acc, total, top, lo, hi, q, t, i, h, alpha, K, V, QUERIES, KEYS, stride_ks,
    stride_vs, stride_ww, stride_wh, stride_nn, stride_nj, S, w, window, band, scale,
    J_GROUP: tl.constexpr, C: tl.constexpr, C_PAD: tl.constexpr, WIDE: tl.constexpr,
    WIDE_PAD: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr, BAND: tl.constexpr, PICK: tl.constexpr, SAFE: tl.constexpr,
):
    """The online sums over the keys [lo, hi), whose band is looked at where BAND."""
    c, wide = tl.arange(0, C_PAD), tl.arange(0, WIDE_PAD)
    unit = scale * LOG2E
    for n0 in range(lo, hi, BLOCK_N):
        s = n0 + tl.arange(0, BLOCK_N)
        row = s.to(tl.int64)[:, None]
        here = (s < S)[:, None]
        k = tl.load(K + row * stride_ks + c[None, :], here & (c < C)[None, :], 0.0)
        v_at = V + row * stride_vs + wide[None, :]
        v = tl.load(v_at, here & (wide < WIDE)[None, :], 0.0)
        x = tl.sum(q[:, None, :] * k[None, :, :].to(tl.float32), 2)
        back = t[:, None] - s[None, :]
        if BAND:
            inside = (back >= 0) & (back <= band)
            x += alpha[:, None] * _transposed(
                QUERIES, KEYS, stride_ww, stride_wh, stride_nn, stride_nj, i, h,
                s - (S - w), inside, J_GROUP, D, D_PAD, CHUNK,
            )
        x = _masked(x, (back >= 0) & (back < window), PICK)
        new_top = top
        if SAFE:
            new_top = tl.maximum(top, tl.max(x, 1))
            shrink = tl.exp2((top - new_top) * unit)
            total = total * shrink
            acc = acc * shrink[:, None]
        e = _power(x, new_top[:, None], scale, True)
        if PICK:
            floor = tl.exp2(-new_top * unit)
            e = _minus_one(x, e, floor[:, None], scale, True, True)
            total += tl.sum(tl.abs(e), 1)
            e = tl.maximum(e, 0.0)
        else:
            total += tl.sum(e, 1)
        acc += tl.sum(e[:, :, None] * v[None, :, :].to(tl.float32), 1)
        top = new_top
    return acc, total, top


@triton.jit(do_not_specialize=["S", "n", "w", "first", "length", "window", "band"])
def parts(
    Q, K, V, QUERIES, KEYS, ALPHA, ACC, TOTAL, TOP, stride_qb, stride_qn, stride_qh,
    stride_kb, stride_ks, stride_kg, stride_vb, stride_vs, stride_vg, stride_wb,
    stride_ww, stride_wh, stride_nb, stride_nn, stride_nj, S, n, w, H, first, length,
    window, band, scale, GROUP: tl.constexpr, J_GROUP: tl.constexpr, C: tl.constexpr,
    C_PAD: tl.constexpr, WIDE: tl.constexpr, WIDE_PAD: tl.constexpr, D: tl.constexpr,
    D_PAD: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr, BAND: tl.constexpr, PICK: tl.constexpr, SAFE: tl.constexpr,
):
    """The sums of part program_id(1), `length` keys from first + part * length on, of
    the rows of a program: ACC [rows, parts, V], TOTAL and TOP [rows, parts] in fp32,
    rows in the order of o_BnHV.
    """
    blocks = tl.cdiv(n * GROUP, ROWS)
    pair, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    groups = H // GROUP
    b, g = (pair // groups).to(tl.int64), pair % groups
    row = block * ROWS + tl.arange(0, ROWS)
    here = row < n * GROUP
    i = tl.where(here, row // GROUP, 0)
    h = g * GROUP + row % GROUP
    t = S - n + i
    c = tl.arange(0, C_PAD)
    at = b * stride_qb + i[:, None] * stride_qn + h[:, None] * stride_qh + c[None, :]
    q = tl.load(Q + at, mask=here[:, None] & (c < C)[None, :], other=0.0)
    q = q.to(tl.float32)
    K += b * stride_kb + g * stride_kg
    V += b * stride_vb + g * stride_vg
    acc = tl.zeros([ROWS, WIDE_PAD], tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    top = tl.zeros([ROWS], tl.float32)
    if not PICK:
        top += LOWEST
    lo = first + tl.program_id(1) * length
    hi = tl.minimum(lo + length, S)
    near, alpha = hi, top
    if BAND:
        QUERIES += b * stride_wb
        KEYS += b * stride_nb
        alpha = tl.load(ALPHA + h)
        near = tl.maximum(S - n - band, 0) // BLOCK_N * BLOCK_N
        near = tl.minimum(tl.maximum(near, lo), hi)
    acc, total, top = _keys(
        acc, total, top, lo, near, q, t, i, h, alpha, K, V, QUERIES, KEYS, stride_ks,
        stride_vs, stride_ww, stride_wh, stride_nn, stride_nj, S, w, window, band,
        scale, J_GROUP, C, C_PAD, WIDE, WIDE_PAD, D, D_PAD, CHUNK, BLOCK_N, False,
        PICK, SAFE,
    )
    if BAND:
        acc, total, top = _keys(
            acc, total, top, near, hi, q, t, i, h, alpha, K, V, QUERIES, KEYS,
            stride_ks, stride_vs, stride_ww, stride_wh, stride_nn, stride_nj, S, w,
            window, band, scale, J_GROUP, C, C_PAD, WIDE, WIDE_PAD, D, D_PAD, CHUNK,
            BLOCK_N, True, PICK, SAFE,
        )
    place = ((b * n + i) * H + h) * tl.num_programs(1) + tl.program_id(1)
    tl.store(TOTAL + place, total, mask=here)
    tl.store(TOP + place, top, mask=here)
    wide = tl.arange(0, WIDE_PAD)
    places = ACC + place[:, None] * WIDE + wide[None, :]
    tl.store(places, acc, mask=here[:, None] & (wide < WIDE)[None, :])


@triton.jit(do_not_specialize=["count"])
def merge(
    ACC, TOTAL, TOP, O, count, scale, WIDE: tl.constexpr, WIDE_PAD: tl.constexpr,
    MOST: tl.constexpr, STEP: tl.constexpr, PICK: tl.constexpr, UNSAFE: tl.constexpr,
):
    """The row program_id(0) of o from its `count` parts, at most MOST."""
    row = tl.program_id(0).to(tl.int64)
    unit = scale * LOG2E
    every = tl.arange(0, MOST)
    tops = tl.load(TOP + row * count + every, mask=every < count, other=LOWEST)
    top = tl.max(tops, 0)
    wide = tl.arange(0, WIDE_PAD)
    acc = tl.zeros([WIDE_PAD], tl.float32)
    total = 0.0
    for p0 in range(0, count, STEP):
        part = p0 + tl.arange(0, STEP)
        here = part < count
        place = row * count + part
        its_top = tl.load(TOP + place, mask=here, other=LOWEST)
        share = tl.exp2((its_top - top) * unit)
        sums = tl.load(TOTAL + place, mask=here, other=0.0)
        total += tl.sum(share * sums, 0)
        places = ACC + place[:, None] * WIDE + wide[None, :]
        its_acc = tl.load(places, here[:, None] & (wide < WIDE)[None, :], 0.0)
        acc += tl.sum(share[:, None] * its_acc, 0)
    if PICK:
        if UNSAFE:
            # Its eps stands beside sums that are not relative to a maximum.
            total += EPS * tl.exp2(-top * unit)
        else:
            total += EPS
    o = acc / total
    tl.store(O + row * WIDE + wide, o.to(O.dtype.element_ty), mask=wide < WIDE)
# fmt: on
