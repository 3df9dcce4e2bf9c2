"""The recurrence chunk by chunk (2312.06635, section 4; 2406.06484, section 3).

states   one program per head and block of columns goes through the chunks: the state
         that enters each is kept, and S ← p S + Σ_j d_j (k_j v_jᵀ − c_j w_jᵀ). Going
         back it is the same from the last chunk on, with q, do, e and −dw in the
         places of k, v, c and w, and P in that of d
mix      all chunks at once. Every output and gradient of a token has one form:
             out_t = edge_t (x_t Z) + Σ_s D_ts (x_t·a_s) b_s − Σ_s D_ts (x_t·y_s) z_s
         with Z the state that entered, or the gradient of the one that leaves; the
         table is in launch.py
decays   dg: with L = D ⊙ ((q·k)(do·v) − (q·c)(do·w) + (e·k)(dw·v) − (e·c)(dw·w)) off
         the diagonal, the gradient of b_i is its row's sum less its column's, and dg_m
         sums those of the tokens whose sums hold g_m

Sums are fp32. Nothing of a later token, or of another document, is ever added to an
output. No atomics: two runs agree bit for bit.

Legend: as in kernel_tiles.py; w' = −dw.
"""

import triton
import triton.language as tl

from kernels.recurrence.kernel_solve import _inverse_tile
from kernels.recurrence.kernel_tiles import (
    _decays,
    _dot,
    _edge,
    _masked,
    _pairs,
    _place,
    _product,
    _tile,
    _turned,
    _write,
)


@triton.jit
def states(
    KEYS,
    VALUES,
    ERASES,
    W,
    U,
    STATE,
    SUMS,
    STARTS,
    STATES,
    ANSWERS,
    LAST,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    K_PAD: tl.constexpr,
    N: tl.constexpr,
    REVERSED: tl.constexpr,
    DELTA: tl.constexpr,
    DECAY: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """STATES: S before each chunk, (B, H, chunks, K, V); ANSWERS: w; LAST: S after the
    last one. REVERSED: from the last chunk on.
    """
    head = tl.program_id(0)
    base = (head // H).to(tl.int64) * T
    k, n = tl.arange(0, K_PAD), tl.program_id(1) * N + tl.arange(0, N)
    inside = (k < K)[:, None] & (n < V)[None, :]
    place = k[:, None] * V + n[None, :]
    S = tl.load(STATE + head.to(tl.int64) * (K * V) + place, inside, 0.0)
    chunks = (T + C - 1) // C
    for step in range(0, chunks):
        chunk = chunks - 1 - step if REVERSED else step
        first = chunk * C
        at, left = (base + first) * H + head % H, T - first
        kept = STATES + (head.to(tl.int64) * chunks + chunk) * (K * V)
        tl.store(kept + place, S.to(STATES.dtype.element_ty), inside)
        b_C, low_C, starts_C, b_last, low_last, start_last = _decays(
            SUMS, STARTS, base, head, first, T, C, DECAY, DOCUMENTS
        )
        edge_C = _edge(
            b_C, low_C, starts_C, b_last, low_last, start_last, C, not REVERSED
        )
        v = _tile(VALUES, at, H, left, tl.program_id(1) * N, V, C, N)
        keys = _turned(KEYS, at, H, left, 0, K, C, K_PAD)
        new = _dot((keys * edge_C[None, :]).to(v.dtype), v)
        if DELTA:
            w = _tile(U, at, H, left, tl.program_id(1) * N, V, C, N).to(tl.float32)
            w = _dot(_tile(W, at, H, left, 0, K, C, K_PAD), S.to(v.dtype), w)
            _write(ANSWERS, at, H, left, tl.program_id(1) * N, w, V, C)
            erases = _turned(ERASES, at, H, left, 0, K, C, K_PAD)
            new -= _dot((erases * edge_C[None, :]).to(v.dtype), w.to(v.dtype))
        S = S * _masked(b_last, start_last < 0) + new
    tl.store(LAST + head.to(tl.int64) * (K * V) + place, S, inside)


@triton.jit
def mix(
    X,
    A,
    B,
    Y,
    Z,
    STATES,
    R,
    SUMS,
    STARTS,
    OUT,
    T,
    H,
    W: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    STEP: tl.constexpr,
    N: tl.constexpr,
    ACROSS: tl.constexpr,
    DOWN: tl.constexpr,
    REVERSED: tl.constexpr,
    STRICT: tl.constexpr,
    STRICTER: tl.constexpr,
    NEGATED: tl.constexpr,
    SECOND: tl.constexpr,
    ENTERS: tl.constexpr,
    SOLVED: tl.constexpr,
    DECAY: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """x, a, y are W wide, b, z and out V. ACROSS, DOWN: strides of the state between
    elements of x and of out. REVERSED: sums run over later tokens. STRICT, STRICTER:
    the first, the second sum leaves t out. NEGATED: −out. SOLVED: R out, Rᵀ out.
    """
    chunk, head, chunks, first, base, at = _place(T, H, C)
    left, column = T - first, tl.program_id(1) * N
    b_C, low_C, starts_C, b_last, low_last, start_last = _decays(
        SUMS, STARTS, base, head, first, T, C, DECAY, DOCUMENTS
    )
    out = tl.zeros([C, N], tl.float32)
    if ENTERS:
        w, n = tl.arange(0, STEP), column + tl.arange(0, N)
        kept = STATES + (head.to(tl.int64) * chunks + chunk) * (W * V)
        for step in range(0, W, STEP):
            inside = (step + w < W)[:, None] & (n < V)[None, :]
            place = (step + w)[:, None] * ACROSS + n[None, :] * DOWN
            x = _tile(X, at, H, left, step, W, C, STEP)
            out = _dot(x, tl.load(kept + place, inside, 0.0), out)
        edge_C = _edge(b_C, low_C, starts_C, b_last, low_last, start_last, C, REVERSED)
        out *= edge_C[:, None]
    b = _tile(B, at, H, left, column, V, C, N)
    pairs = _product(X, A, at, H, left, W, C, STEP)
    pairs *= _pairs(b_C, low_C, starts_C, C, REVERSED, STRICT)
    out = _dot(pairs.to(b.dtype), b, out)
    if SECOND:
        z = _tile(Z, at, H, left, column, V, C, N)
        pairs = _product(X, Y, at, H, left, W, C, STEP)
        pairs *= -_pairs(b_C, low_C, starts_C, C, REVERSED, STRICTER)
        out = _dot(pairs.to(z.dtype), z, out)
    if SOLVED:
        out = _dot(_inverse_tile(R, C, REVERSED), out.to(b.dtype))
    _write(OUT, at, H, left, column, -out if NEGATED else out, V, C)


@triton.jit
def _through(
    X,
    Y,
    S,
    at,
    H,
    left,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    STEP: tl.constexpr,
):
    """x_iᵀ S y_i, of C tokens; x is K wide, y V."""
    found = tl.zeros([C], tl.float32)
    k, n = tl.arange(0, STEP), tl.arange(0, STEP)
    for column in range(0, V, STEP):
        part = tl.zeros([C, STEP], tl.float32)
        for row in range(0, K, STEP):
            inside = (row + k < K)[:, None] & (column + n < V)[None, :]
            place = (row + k)[:, None] * V + (column + n)[None, :]
            x = _tile(X, at, H, left, row, K, C, STEP)
            part = _dot(x, tl.load(S + place, inside, 0.0), part)
        y = _tile(Y, at, H, left, column, V, C, STEP)
        found += tl.sum(part * y.to(tl.float32), 1)
    return found


@triton.jit
def decays(
    Q,
    KEYS,
    VALUES,
    E,
    ERASES,
    ANSWERS,
    DO,
    DW,
    STATES,
    GRADS,
    SUMS,
    STARTS,
    DG,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    K_PAD: tl.constexpr,
    STEP: tl.constexpr,
    DELTA: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """dg_BTH. STATES: before each chunk; GRADS: of the states after each; DW: w'."""
    chunk, head, chunks, first, base, at = _place(T, H, C)
    left, i = T - first, tl.arange(0, C)
    b_C, low_C, starts_C, b_last, low_last, start_last = _decays(
        SUMS, STARTS, base, head, first, T, C, True, DOCUMENTS
    )
    kept = (head.to(tl.int64) * chunks + chunk) * (K * V)
    S, dS = STATES + kept, GRADS + kept
    pairs = _product(DO, VALUES, at, H, left, V, C, STEP)
    found = pairs * _product(Q, KEYS, at, H, left, K, C, STEP)
    enters_C = _through(Q, DO, S, at, H, left, K, V, C, STEP)
    leaves_C = _through(KEYS, VALUES, dS, at, H, left, K, V, C, STEP)
    if DELTA:
        pairs = _product(DO, ANSWERS, at, H, left, V, C, STEP)
        found -= pairs * _product(Q, ERASES, at, H, left, K, C, STEP)
        pairs = _product(DW, VALUES, at, H, left, V, C, STEP)
        found -= pairs * _product(E, KEYS, at, H, left, K, C, STEP)
        pairs = _product(DW, ANSWERS, at, H, left, V, C, STEP)
        found += pairs * _product(E, ERASES, at, H, left, K, C, STEP)
        enters_C -= _through(E, DW, S, at, H, left, K, V, C, STEP)
        leaves_C -= _through(ERASES, ANSWERS, dS, at, H, left, K, V, C, STEP)
    found *= _pairs(b_C, low_C, starts_C, C, False, True)
    enters_C *= _edge(b_C, low_C, starts_C, b_last, low_last, start_last, C, False)
    leaves_C *= _edge(b_C, low_C, starts_C, b_last, low_last, start_last, C, True)
    db_C = tl.sum(found, 1) - tl.sum(found, 0) + enters_C - leaves_C
    passes = 0.0
    k, n = tl.arange(0, K_PAD), tl.arange(0, STEP)
    for column in range(0, V, STEP):
        inside = (k < K)[:, None] & (column + n < V)[None, :]
        place = k[:, None] * V + (column + n)[None, :]
        before = tl.load(S + place, inside, 0.0).to(tl.float32)
        passes += tl.sum(before * tl.load(dS + place, inside, 0.0).to(tl.float32))
    passes *= _masked(b_last, start_last < 0)
    # Down: m, whose g the sums of the tokens across hold.
    holds = (i[None, :] >= i[:, None]) & (starts_C[None, :] <= i[:, None])
    dg_C = tl.sum(tl.where(holds, db_C[None, :], 0.0), 1)
    dg_C += tl.where(start_last <= i, passes + tl.sum(leaves_C), 0.0)
    tl.store(DG + at + i * H, dg_C, i < left)
