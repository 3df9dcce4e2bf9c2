"""The delta rule within a chunk: what every token erases, solved for all at once.

w_i = e_iᵀ exp(g_i) S_{i-1} is what the state answers to e_i. With S the state that
entered, N_ij = D_ij (e_i·k_j) and M_ij = D_ij (e_i·c_j) below the diagonal,

    (I + M) w = P ⊙ (e S) + N v,    so w = W S + U,  W = R (P ⊙ e),  U = R N v

with R = inv(I + M). Going back, −dw = X dS + Y with X = Rᵀ (d ⊙ c), Y = Rᵀ Aᵀ do and
A_ij = D_ij (q_i·c_j), j ≤ i. No product is transposed: Triton before 3.7.1 reads
tl.trans of one wrongly on Hopper. R is read from memory in either order instead.

sums      b from g
erased    M
inverse   R from M: rows of the diagonal blocks one by one, as products of powers of
          M lose all digits where keys repeat; then the blocks below by products
solved    W, X

Legend: as in kernel_tiles.py.
"""

import triton
import triton.language as tl

from kernels.recurrence.kernel_tiles import (
    _decays,
    _dot,
    _edge,
    _pairs,
    _place,
    _product,
    _tile,
    _write,
)

# Rows and columns of a block of R.
BLOCK = tl.constexpr(16)


@triton.jit
def sums(G, STARTS, SUMS, T, H, C: tl.constexpr, DOCUMENTS: tl.constexpr):
    """b of g_BTH, (B, H, T, 2): rounded, and what that leaves."""
    _, head, _, first, base, at = _place(T, H, C)
    i = tl.arange(0, C)
    g_C = tl.load(G + at + i * H, first + i < T, 0.0).to(tl.float64)
    seen = i[None, :] <= i[:, None]
    if DOCUMENTS:
        starts_C = tl.load(STARTS + base + tl.minimum(first + i, T - 1)) - first
        seen = seen & (starts_C[:, None] <= i[None, :])
    sum_C = tl.sum(tl.where(seen, g_C[None, :], 0.0), 1)
    b_C = sum_C.to(tl.float32)
    there = SUMS + (head.to(tl.int64) * T + first + i) * 2
    tl.store(there, b_C, first + i < T)
    tl.store(there + 1, (sum_C - b_C).to(tl.float32), first + i < T)


@triton.jit
def erased(
    E,
    ERASES,
    SUMS,
    STARTS,
    M,
    T,
    H,
    K: tl.constexpr,
    C: tl.constexpr,
    STEP: tl.constexpr,
    DECAY: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """M of every chunk, C x C."""
    _, head, _, first, base, at = _place(T, H, C)
    b_C, low_C, starts_C, _, _, _ = _decays(
        SUMS, STARTS, base, head, first, T, C, DECAY, DOCUMENTS
    )
    m = _product(E, ERASES, at, H, T - first, K, C, STEP)
    m *= _pairs(b_C, low_C, starts_C, C, False, True)
    i = tl.arange(0, C)
    there = M + tl.program_id(0).to(tl.int64) * (C * C)
    tl.store(there + i[:, None] * C + i[None, :], m)


@triton.jit
def _block(M, row: tl.constexpr, column: tl.constexpr, C: tl.constexpr):
    """A block of M."""
    i = tl.arange(0, BLOCK)
    down, across = i + row * BLOCK, i + column * BLOCK
    return tl.load(M + down[:, None] * C + across[None, :])


@triton.jit
def _diagonal(M, block: tl.constexpr, C: tl.constexpr):
    """inv(I + M) of a diagonal block: row i is that of I less m_ij times row j < i."""
    i = tl.arange(0, BLOCK)
    found = (i[:, None] == i[None, :]).to(tl.float32)
    corner = M + block * (C + 1) * BLOCK
    for row in range(1, BLOCK):
        m_i = tl.load(corner + row * C + i)
        less = tl.sum(m_i[:, None] * found, 0)
        found = tl.where((i == row)[:, None], found - less[None, :], found)
    return found


@triton.jit
def _keep(R, row: tl.constexpr, column: tl.constexpr, value, C: tl.constexpr):
    """Store a block of R."""
    i = tl.arange(0, BLOCK)
    down, across = i + row * BLOCK, i + column * BLOCK
    place = R + down[:, None] * C + across[None, :]
    tl.store(place, value.to(R.dtype.element_ty))


@triton.jit
def inverse(M, R, C: tl.constexpr):
    """R of every chunk: R_ij = −R_ii Σ_{j≤k<i} M_ik R_kj by blocks. C: 16, 32 or 64."""
    M += tl.program_id(0).to(tl.int64) * (C * C)
    R += tl.program_id(0).to(tl.int64) * (C * C)
    none = tl.zeros([BLOCK, BLOCK], tl.float32)
    r00 = _diagonal(M, 0, C)
    _keep(R, 0, 0, r00, C)
    if C > 16:
        r11 = _diagonal(M, 1, C)
        r10 = -_dot(r11, _dot(_block(M, 1, 0, C), r00))
        _keep(R, 1, 1, r11, C)
        _keep(R, 1, 0, r10, C)
        _keep(R, 0, 1, none, C)
    if C > 32:
        r22 = _diagonal(M, 2, C)
        m20, m21 = _block(M, 2, 0, C), _block(M, 2, 1, C)
        r21 = -_dot(r22, _dot(m21, r11))
        r20 = -_dot(r22, _dot(m20, r00, _dot(m21, r10)))
        _keep(R, 2, 2, r22, C)
        _keep(R, 2, 1, r21, C)
        _keep(R, 2, 0, r20, C)
        r33 = _diagonal(M, 3, C)
        m30, m31, m32 = _block(M, 3, 0, C), _block(M, 3, 1, C), _block(M, 3, 2, C)
        r32 = -_dot(r33, _dot(m32, r22))
        r31 = -_dot(r33, _dot(m31, r11, _dot(m32, r21)))
        r30 = -_dot(r33, _dot(m30, r00, _dot(m31, r10, _dot(m32, r20))))
        _keep(R, 3, 3, r33, C)
        _keep(R, 3, 2, r32, C)
        _keep(R, 3, 1, r31, C)
        _keep(R, 3, 0, r30, C)
        _keep(R, 0, 2, none, C)
        _keep(R, 0, 3, none, C)
        _keep(R, 1, 2, none, C)
        _keep(R, 1, 3, none, C)
        _keep(R, 2, 3, none, C)


@triton.jit
def _inverse_tile(R, C: tl.constexpr, TURNED: tl.constexpr):
    """R of this program's chunk; TURNED: Rᵀ."""
    i = tl.arange(0, C)
    there = R + tl.program_id(0).to(tl.int64) * (C * C)
    if TURNED:
        found = tl.load(there + i[None, :] * C + i[:, None])
    else:
        found = tl.load(there + i[:, None] * C + i[None, :])
    return found


@triton.jit
def solved(
    X,
    R,
    SUMS,
    STARTS,
    OUT,
    T,
    H,
    W: tl.constexpr,
    C: tl.constexpr,
    STEP: tl.constexpr,
    REVERSED: tl.constexpr,
    DECAY: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """R (P ⊙ x); REVERSED: Rᵀ (d ⊙ x)."""
    _, head, _, first, base, at = _place(T, H, C)
    b_C, low_C, starts_C, b_last, low_last, start_last = _decays(
        SUMS, STARTS, base, head, first, T, C, DECAY, DOCUMENTS
    )
    edge_C = _edge(b_C, low_C, starts_C, b_last, low_last, start_last, C, REVERSED)
    r = _inverse_tile(R, C, REVERSED)
    for column in range(0, W, STEP):
        x = _tile(X, at, H, T - first, column, W, C, STEP)
        found = _dot(r, (x * edge_C[:, None]).to(x.dtype))
        _write(OUT, at, H, T - first, column, found, W, C)
