"""What the attention kernels share: tiles, masks, weights, block ranges.

With x_ts = q_t · k_s, plus alpha_h q_s · k_t where 0 <= t - s <= W (reciprocal),
the scores are scale * x. Everything is kept in units of x ("dot units"): row
maxima, and L_t = log(sum) / scale, so that (x - L) is exact where the two are
close and exp2((x - L) * unit), unit = scale * log2(e), needs no row sum.

Softpick (2504.20966) goes through the same loops: its row maximum starts at 0,
its weights are relu(e^(s-L) - e^(-L)), and L holds the log of the sum of
|e^s - 1| plus eps. A masked score is set to 0 there, where its weight, its
part of the sum and its gradient are all exactly 0.

Legend: B batch, T positions, H query heads, G key/value heads, D head width,
M/N rows of a query/key block. A program owns one block of one head; loops over
blocks that need no mask, that need one, and that touch the band are apart.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
EPS = tl.constexpr(1e-6)
# Rows and columns of a band tile: a multiple of every other block.
TILE = tl.constexpr(64)
# Below every finite score, and finite: the difference of two is no NaN.
LOWEST = tl.constexpr(-1e38)
# The L of no row: e^(s - L) is 0.
HIGH = tl.constexpr(1e38)
# Far below every score, and a number also times STEEP.
LOW = tl.constexpr(-1e18)
# Softpick's fast arithmetic serves rows with |log2 of the sum| up to LOUD and a mean
# |e^s - 1| of at least QUIET: there no e^s leaves the range of bf16, and all is right
# to 2^-11, half's rounding. Blocks with another row are repaired by a second launch
# with the careful form. Masked tiles are always careful: rows that see few keys lie
# there, whose gradient is what 1 - p leaves.
LOUD = tl.constexpr(64.0)
QUIET = tl.constexpr(0.001)
# step(x) is x times this within [0, 1], a power of 2: one multiplication.
STEEP = tl.constexpr(2.0**60)
# Rows with fewer visible keys get softpick's delta summed, not from the rounded o, and
# lie in masked tiles alone: no block has fewer keys.
FEW = tl.constexpr(16)
# What is gathered of every row beside its sum (STATISTIC): the mass of its TOP
# largest weights, the entropy -sum p ln p, or sum p^2. `kind` in launch.py.
MASS = tl.constexpr(1)
ENTROPY = tl.constexpr(2)
SQUARES = tl.constexpr(3)
# Below ln of the smallest fp32: p ln p is 0 from here on.
VANISHED = tl.constexpr(-200.0)


@triton.jit
def _load(base, start, stride, rows, cols, T, D: tl.constexpr, CHECK: tl.constexpr):
    """The tile of rows start + rows of one head; 0 beyond T (CHECK) and D."""
    tile = base + tl.cast(start, tl.int64) * stride
    tile += rows[:, None] * stride + cols[None, :]
    if CHECK:
        inside = (start + rows < T)[:, None] & (cols < D)[None, :]
        return tl.load(tile, mask=inside, other=0.0)
    if cols.shape[0] > D:
        return tl.load(tile, mask=(cols < D)[None, :], other=0.0)
    return tl.load(tile)


@triton.jit
def _place(start, stride):
    """(row, column) of element `start` where memory is read as rows of a stride."""
    return (start // stride).to(tl.int32), (start % stride).to(tl.int32)


@triton.jit
def _stream(
    TILES,
    row,
    column,
    base,
    start,
    stride,
    rows,
    cols,
    T,
    D: tl.constexpr,
    CHECK: tl.constexpr,
):
    """_load, or the same tile through the tensor descriptor TILES, which sees
    memory as rows of a stride; it brings whole tiles only (not CHECK).
    """
    if CHECK or TILES is None:
        tile = _load(base, start, stride, rows, cols, T, D, CHECK)
    else:
        tile = TILES.load([row + start, column])
    return tile


@triton.jit
def _store(base, start, stride, rows, cols, T, D: tl.constexpr, value):
    """Write the rows of a tile that lie before T and D."""
    tile = base + tl.cast(start, tl.int64) * stride
    tile += rows[:, None] * stride + cols[None, :]
    inside = (start + rows < T)[:, None] & (cols < D)[None, :]
    tl.store(tile, value.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _dot(a, b, acc=None):
    """a b (+ acc) in fp32; fp32 operands are not rounded to tf32."""
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def _reach(STARTS, t, T, window):
    """How many keys the rows t see: `window`, or no more than since their document's
    STARTS.
    """
    reach = window
    if STARTS is not None:
        start = tl.load(STARTS + t, mask=t < T, other=0)
        reach = tl.minimum(t - start + 1, window)
    return reach


@triton.jit
def _visible(back, reach, WINDOW: tl.constexpr):
    """Whether a query sees a key that lies `back` positions before it."""
    if WINDOW:
        return (back >= 0) & (back < reach)
    return back >= 0


@triton.jit
def _masked(x, seen, PICK: tl.constexpr):
    """x where seen; elsewhere -inf, for softpick 0."""
    return tl.where(seen, x, 0.0 if PICK else float("-inf"))


@triton.jit
def _power(x, level, scale, CAREFUL: tl.constexpr):
    """e^(scale (x - level)) in fp32: careful, the difference is taken first, so that
    equals give 1; else one fused multiply-add, whose error grows with |scale level|.
    """
    unit = scale * LOG2E
    if CAREFUL:
        above = (x - level).to(tl.float32) * unit
    else:
        above = x * unit - level * unit
    return tl.exp2(above)


@triton.jit
def _floor(level, scale):
    """e^(-scale level)."""
    return tl.exp2((-level * (scale * LOG2E)).to(tl.float32))


@triton.jit
def _minus_one(x, e, floor, scale, CAREFUL: tl.constexpr, EXACT: tl.constexpr):
    """floor * (e^s - 1), s = scale * x, from e = floor * e^s; careful, without
    cancellation near 0: by the series where its next term is below rounding.
    """
    if EXACT:
        s = x * scale
        series = 1 + s * (1 / 5) * (1 + s * (1 / 6))
        series = 1 + s * (1 / 2) * (1 + s * (1 / 3) * (1 + s * (1 / 4) * series))
        return tl.where(tl.abs(s) < 0.35, floor * s * series, e - floor)
    if CAREFUL:
        return tl.where(tl.abs(x) < QUIET / scale, x * (floor * scale), e - floor)
    return e - floor


@triton.jit
def _clamped(x):
    """x within [0, 1]: what computes x saturates, so that this costs nothing."""
    return tl.clamp(x, 0.0, 1.0)


@triton.jit
def _needs_care(level, t, T, reach, scale, WINDOW: tl.constexpr):
    """1 where a row of this block has scores so large that a fused multiply-add
    rounds visibly, or, in tiles without a mask, mostly so small that e^s - 1 cancels;
    else 0.
    """
    log_sum = level * (scale * LOG2E)
    seen = t + 1
    if WINDOW:
        seen = tl.minimum(seen, reach)
    quiet = (seen >= FEW) & (tl.exp2(log_sum) < seen * QUIET)
    care = (tl.abs(log_sum) > LOUD) | quiet
    return tl.max(tl.where(care & (t < T), 1, 0), 0)


@triton.jit
def _sees_few(t, reach, WINDOW: tl.constexpr):
    """Whether a block of queries has rows that see fewer than FEW keys."""
    seen = t + 1
    if WINDOW:
        seen = tl.minimum(seen, reach)
    return tl.min(seen, 0) < FEW


@triton.jit
def _any(FLAGS, lo, hi):
    """The largest of FLAGS[lo:hi], 0 at least."""
    found = 0
    for start in range(lo, hi, 128):
        lanes = start + tl.arange(0, 128)
        flags = tl.load(FLAGS + lanes, mask=lanes < hi, other=0)
        found = tl.maximum(found, tl.max(flags, 0))
    return found


@triton.jit
def _share(count):
    """(lo, hi): this program's share of `count` blocks."""
    each = tl.cdiv(count, tl.num_programs(0))
    lo = tl.program_id(0) * each
    return lo, tl.minimum(lo + each, count)


@triton.jit
def _weights(
    x,
    level,
    floor,
    delta,
    dp,
    cut,
    rate,
    scale,
    STATISTIC: tl.constexpr,
    PICK: tl.constexpr,
    CAREFUL: tl.constexpr,
    EXACT: tl.constexpr,
    CLAMP: tl.constexpr = False,
):
    """p and dS of a tile from L, softpick's floor = e^-L, delta = o · do and dP, which
    broadcast. Softpick: dS = e^(s-L) (step(s) dP - sign(s) delta), at s = 0 as from
    below; p is at most 1, so that one clamp serves as max(p, 0).

    A statistic of the row adds to dP, `rate` being its gradient per row: MASS rate
    where x lies above `cut`, ENTROPY rate ln p, SQUARES rate p; and what that adds
    to sum p dP is part of delta. CLAMP: steps by a clamp, which is faster where there
    are more comparisons than other units hide.
    """
    e = _power(x, level, scale, CAREFUL)
    p = e
    if STATISTIC == MASS:
        if CLAMP:
            term = rate * _clamped(x * STEEP - cut * STEEP)
        else:
            term = tl.where(x > cut, rate, 0.0)
    elif STATISTIC == ENTROPY:
        term = rate * tl.maximum((x - level).to(tl.float32) * scale, VANISHED)
    elif STATISTIC == SQUARES:
        term = rate * e
    if STATISTIC > 0:
        if not CLAMP:
            dp += term
    slope = dp - (2 * delta if PICK and CLAMP else delta)
    if STATISTIC > 0:
        if CLAMP:
            # Not to dP, or its product is compiled to wait for what it starts from.
            slope += term
    if PICK:
        p = _clamped(_minus_one(x, e, floor, scale, CAREFUL, EXACT))
        if CLAMP:
            slope = _clamped(x * STEEP) * slope + delta
        else:
            slope = tl.where(x > 0, slope, delta)
    return p, e * slope


@triton.jit
def _key_ranges(
    m0,
    T,
    STARTS,
    window,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STRIPS: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """(lo, full, near, hi) of a query block, multiples of BLOCK_N but for hi: masks
    in [lo, full) (the edge of the window or of a document), none in [full, near),
    masks and what the band touches in [near, hi).
    """
    hi = tl.minimum(T, m0 + BLOCK_M)
    near = (m0 + 1) // BLOCK_N * BLOCK_N
    if STRIPS > 0:
        near = tl.maximum((m0 // TILE - STRIPS + 1) * TILE // BLOCK_N * BLOCK_N, 0)
    lo = 0
    full = 0
    if WINDOW:
        first = m0 + 1 - _reach(STARTS, m0, T, window)
        lo = tl.maximum(first, 0) // BLOCK_N * BLOCK_N
        near = tl.maximum(near, lo)
        last = tl.minimum(m0 + BLOCK_M, T) - 1
        edge = tl.maximum(last + 1 - _reach(STARTS, last, T, window), 0)
        full = tl.minimum(tl.cdiv(edge, BLOCK_N) * BLOCK_N, near)
    return lo, full, near, hi


@triton.jit
def _statistic(CUT, RATE, lines):
    """(cut, rate) of rows, as _weights takes them; 0 where there is none. Behind the
    last row there is memory, and 0.
    """
    cut, rate = 0.0, 0.0
    if CUT is not None:
        cut = tl.load(CUT + lines)
    if RATE is not None:
        rate = tl.load(RATE + lines)
    return cut, rate


@triton.jit
def _strip(base, width, t, s, STRIPS: tl.constexpr):
    """Where the pair (t, s) of a band tile lies in a head's strips."""
    column = s - (t // TILE - (STRIPS - 1)) * TILE
    return base + t.to(tl.int64) * width + column
