"""What the forward pass gathers of every row beside its sum, block by block.

The state is a tuple of tensors, empty where nothing is gathered. ENTROPY and
SQUARES keep sum e (x - top) and sum e^2 relative to the running maximum. MASS
keeps the TOP + 1 largest scores: FOLD columns of a tile share a list, which is kept
sorted. Their scores are sorted by Batcher's network of 19 comparisons and merged
into the list, whose smallest drop out: nine comparisons of two per score where
entering them one by one takes TOP + 1 each. No thread asks another one; the lists
of a row meet once, at the end. The score after the last that counts makes the cut,
half way between the two: backward computes scores anew, to rounding, and must split
them alike.

kernel_tiles.py has the formulas, the units and the legend.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_tiles import (
    ENTROPY,
    LOG2E,
    LOW,
    LOWEST,
    MASS,
    SQUARES,
    _floor,
    _minus_one,
    _power,
)

# A tile is folded three times: eight columns share a list.
FOLD = tl.constexpr(8)


@triton.jit
def _begin(
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
):
    """The state before the first block."""
    state = ()
    if STATISTIC == MASS:
        for _ in tl.static_range(TOP + 1):
            state = state + (tl.full([BLOCK_M, BLOCK_N // FOLD], LOWEST, tl.float32),)
    elif STATISTIC > 0:
        state = (tl.zeros([BLOCK_M], tl.float32),)
    return state


@triton.jit
def _halves(x):
    """The left and the right half of a tile's columns."""
    M: tl.constexpr = x.shape[0]
    N: tl.constexpr = x.shape[1]
    return tl.split(tl.permute(tl.reshape(x, [M, 2, N // 2]), (0, 2, 1)))


@triton.jit
def _eighths(x):
    """A tile's columns in FOLD parts, from left to right."""
    left, right = _halves(x)
    a, b = _halves(left)
    c, d = _halves(right)
    return _halves(a) + _halves(b) + _halves(c) + _halves(d)


@triton.jit
def _compare(x, i: tl.constexpr, j: tl.constexpr, COUNT: tl.constexpr):
    """The tuple of COUNT tensors with the larger of places i < j in i."""
    out = ()
    for place in tl.static_range(COUNT):
        if place == i:
            out = out + (tl.maximum(x[i], x[j]),)
        elif place == j:
            out = out + (tl.minimum(x[i], x[j]),)
        else:
            out = out + (x[place],)
    return out


@triton.jit
def _sorted(x):
    """Eight tensors in descending order (Batcher's odd-even merge sort, 1968)."""
    for i in tl.static_range(0, 8, 2):
        x = _compare(x, i, i + 1, 8)
    for i in tl.static_range(0, 8, 4):
        x = _compare(x, i, i + 2, 8)
        x = _compare(x, i + 1, i + 3, 8)
        x = _compare(x, i + 1, i + 2, 8)
    for i in tl.static_range(4):
        x = _compare(x, i, i + 4, 8)
    x = _compare(x, 2, 4, 8)
    x = _compare(x, 3, 5, 8)
    for i in tl.static_range(1, 7, 2):
        x = _compare(x, i, i + 1, 8)
    return x


@triton.jit
def _merged(lists, x, COUNT: tl.constexpr):
    """The COUNT largest of the sorted lists and of eight sorted tensors, sorted.

    max(a_i, b_(n-1-i)) of two descending sequences of n are the n largest of both, and
    first fall, then rise: a bitonic merge sorts them, as if +inf stood before them up
    to 32.
    """
    merged = ()
    for i in tl.static_range(COUNT):
        if COUNT - 1 - i < 8:
            merged = merged + (tl.maximum(lists[i], x[COUNT - 1 - i]),)
        else:
            merged = merged + (lists[i],)
    for level in tl.static_range(5):
        for i in tl.static_range(COUNT):
            if (i + 32 - COUNT) // (16 // 2**level) % 2 == 0:
                if i + 16 // 2**level < COUNT:
                    merged = _compare(merged, i, i + 16 // 2**level, COUNT)
    return merged


@triton.jit
def _gather(
    state,
    x,
    e,
    total,
    shrink,
    top,
    new_top,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
):
    """The state with one more tile: scores x, weights e relative to new_top. total is
    the sum so far relative to top, shrink what both lose by the new maximum.
    """
    if STATISTIC == MASS:
        state = _merged(state, _sorted(_eighths(x)), TOP + 1)
    elif STATISTIC == ENTROPY:
        before = shrink * (state[0] + (top - new_top) * total)
        terms = e * tl.maximum(x - new_top[:, None], LOWEST)
        state = (before + tl.sum(terms, 1),)
    elif STATISTIC == SQUARES:
        state = (shrink * shrink * state[0] + tl.sum(e * e, 1),)
    return state


@triton.jit
def _finish(
    state,
    total,
    log_sum,
    level,
    scale,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
    PICK: tl.constexpr,
    EXACT: tl.constexpr,
):
    """(statistic, cut) of every row; the cut is LOW but for MASS."""
    value = tl.zeros_like(total)
    cut = value + LOW
    if STATISTIC == MASS:
        classes = tl.arange(0, state[0].shape[1])[None, :]
        lists, best = state, value + LOWEST
        for place in tl.static_range(TOP + 1):
            before = best
            best, where = tl.max(lists[0], 1, return_indices=True)
            taken = classes == where[:, None]
            rest = ()
            for depth in tl.static_range(TOP):
                rest = rest + (tl.where(taken, lists[depth + 1], lists[depth]),)
            lists = rest + (tl.where(taken, LOWEST, lists[TOP]),)
            if place < TOP:
                p = _power(best, level, scale, True)
                if PICK:
                    floor = _floor(level, scale)
                    p = _minus_one(best, p, floor, scale, True, EXACT)
                    p = tl.maximum(p, 0.0)
                value += p
            else:
                cut = tl.maximum(0.5 * best + 0.5 * before, LOW)
    elif STATISTIC == ENTROPY:
        value = log_sum / LOG2E - scale * state[0] / total
    elif STATISTIC == SQUARES:
        value = state[0] / (total * total)
    return value, cut
