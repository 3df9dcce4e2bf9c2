"""What the kernels of the recurrence share: tiles of a chunk, and its decays.

Every tensor of tokens is contiguous, (B, T, H, W); the state (B, H, K, V). A program
owns one chunk of C tokens of one head; within it tokens are i, from 0. Sums of the log
decay, b_i = Σ_{m≤i} g_m, run within the chunk and the document of i. From them

    D_ij = exp(b_i − b_j)     for j ≤ i of one document, else 0
    P_i  = exp(b_i)           what entered the chunk, decayed; 0 for another document
    d_j  = exp(b_last − b_j)  what leaves it; 0 for another document than the last
    p    = exp(b_last)        what passes through; 0 where a document began

The b_i of a document fall with i, in floating point too, as terms of one sum are
masked: no exponent is above 0. Their differences would lose digits: b is summed in
fp64 and kept as two fp32, (B, H, T, 2). Tokens past T are 0 and take the last token's
b and document.

Legend: B batch, T tokens, H heads, K key width, V value width, W any width, C chunk.
"""

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, acc=None):
    """a b (+ acc) in fp32; fp32 operands are not rounded to tf32."""
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def _place(T, H, C: tl.constexpr):
    """(chunk, head of all sequences, its number, first token, b T, elements of width 1
    before the first token) of this program.
    """
    chunks = (T + C - 1) // C
    chunk, head = tl.program_id(0) % chunks, tl.program_id(0) // chunks
    base = (head // H).to(tl.int64) * T
    return chunk, head, chunks, chunk * C, base, (base + chunk * C) * H + head % H


@triton.jit
def _tile(X, at, H, left, first, W: tl.constexpr, C: tl.constexpr, N: tl.constexpr):
    """C x N: columns from `first` on of the tokens from element `at` on; 0 past W and
    where no more than i are left.
    """
    i, n = tl.arange(0, C), first + tl.arange(0, N)
    inside = (i < left)[:, None] & (n < W)[None, :]
    return tl.load(X + at * W + i[:, None] * (H * W) + n[None, :], inside, 0.0)


@triton.jit
def _turned(X, at, H, left, first, W: tl.constexpr, C: tl.constexpr, N: tl.constexpr):
    """_tile as N x C."""
    i, n = tl.arange(0, C), first + tl.arange(0, N)
    inside = (n < W)[:, None] & (i < left)[None, :]
    return tl.load(X + at * W + i[None, :] * (H * W) + n[:, None], inside, 0.0)


@triton.jit
def _write(X, at, H, left, first, value, W: tl.constexpr, C: tl.constexpr):
    """Store a tile, rounded to what X holds."""
    i, n = tl.arange(0, C), first + tl.arange(0, value.shape[1])
    inside = (i < left)[:, None] & (n < W)[None, :]
    place = X + at * W + i[:, None] * (H * W) + n[None, :]
    tl.store(place, value.to(X.dtype.element_ty), inside)


@triton.jit
def _decays(
    SUMS,
    STARTS,
    base,
    head,
    first,
    T,
    C: tl.constexpr,
    DECAY: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """(b_C, what it leaves of the sum, starts_C, the same of the last token); starts are
    counted from the chunk's first token, -1 without documents: then all that entered is
    theirs.
    """
    t, last = tl.minimum(first + tl.arange(0, C), T - 1), tl.minimum(first + C, T) - 1
    if DECAY:
        sums = SUMS + head.to(tl.int64) * T * 2
        b_C, b_last = tl.load(sums + 2 * t), tl.load(sums + 2 * last)
        low_C, low_last = tl.load(sums + 2 * t + 1), tl.load(sums + 2 * last + 1)
    else:
        b_C, b_last = t * 0.0, last * 0.0
        low_C, low_last = b_C, b_last
    if DOCUMENTS:
        starts_C = tl.load(STARTS + base + t) - first
        start_last = tl.load(STARTS + base + last) - first
    else:
        starts_C, start_last = t * 0 - 1, last * 0 - 1
    return b_C, low_C, starts_C, b_last, low_last, start_last


@triton.jit
def _masked(x, seen):
    """exp(x) where seen, else 0, whatever x is there."""
    return tl.where(seen, tl.exp(tl.where(seen, x, 0.0)), 0.0)


@triton.jit
def _pairs(
    b_C,
    low_C,
    starts_C,
    C: tl.constexpr,
    REVERSED: tl.constexpr,
    STRICT: tl.constexpr,
):
    """D with own tokens down: they are the later of a pair, REVERSED the earlier.
    STRICT: 0 on the diagonal.
    """
    i = tl.arange(0, C)
    here, there = i[:, None], i[None, :]
    if REVERSED:
        seen = (there >= here) & (starts_C[None, :] <= here)
        x = b_C[None, :] - b_C[:, None] + (low_C[None, :] - low_C[:, None])
    else:
        seen = (there <= here) & (starts_C[:, None] <= there)
        x = b_C[:, None] - b_C[None, :] + (low_C[:, None] - low_C[None, :])
    if STRICT:
        seen = seen & (here != there)
    return _masked(x, seen)


@triton.jit
def _edge(
    b_C,
    low_C,
    starts_C,
    b_last,
    low_last,
    start_last,
    C: tl.constexpr,
    LEAVES: tl.constexpr,
):
    """P_C of what enters; LEAVES: d_C of what leaves."""
    if LEAVES:
        x = b_last - b_C + (low_last - low_C)
        found = _masked(x, start_last <= tl.arange(0, C))
    else:
        found = _masked(b_C, starts_C < 0)
    return found


@triton.jit
def _product(X, A, at, H, left, W: tl.constexpr, C: tl.constexpr, STEP: tl.constexpr):
    """x_i · a_j, C x C."""
    found = tl.zeros([C, C], tl.float32)
    for first in range(0, W, STEP):
        x = _tile(X, at, H, left, first, W, C, STEP)
        found = _dot(x, _turned(A, at, H, left, first, W, C, STEP), found)
    return found
