"""What the forward pass gathers of every row beside its sum, block by block.

The state is a tuple of tensors, empty where nothing is gathered. ENTROPY and
SQUARES keep sum e (x - top) and sum e^2 relative to the running maximum. MASS
keeps the TOP + 1 largest scores: the columns of a tile fall into FOLD classes of
a row, each with its own sorted list, so that a score enters by TOP + 1 pairs of
maximum and minimum and no thread asks another one; the lists of a row meet once,
at the end. The score after the last that counts makes the cut, half way between
the two: backward computes scores anew, to rounding, and must split them alike.

kernel_tiles.py has the formulas, the units and the legend.
"""

import triton
import triton.language as tl

from kernels.attention.kernel_tiles import (
    ENTROPY,
    LOG2E,
    LOWEST,
    MASS,
    SQUARES,
    _minus_one,
    _power,
)

# A tile is folded twice: four columns share a list.
FOLD = tl.constexpr(4)


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
def _enter(x, lists, TOP: tl.constexpr):
    """The sorted lists with one more score each; the smallest drops out."""
    grown = ()
    for place in tl.static_range(TOP + 1):
        grown = grown + (tl.maximum(lists[place], x),)
        x = tl.minimum(lists[place], x)
    return grown


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
        left, right = _halves(x)
        first, second = _halves(left)
        third, fourth = _halves(right)
        state = _enter(first, state, TOP)
        state = _enter(second, state, TOP)
        state = _enter(third, state, TOP)
        state = _enter(fourth, state, TOP)
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
    level,
    scale,
    STATISTIC: tl.constexpr,
    TOP: tl.constexpr,
    PICK: tl.constexpr,
    EXACT: tl.constexpr,
):
    """(statistic, cut) of every row; the cut is LOWEST but for MASS."""
    value = tl.zeros_like(total)
    cut = value + LOWEST
    if STATISTIC == MASS:
        classes = tl.arange(0, state[0].shape[1])[None, :]
        lists, best = state, cut
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
                    floor = tl.exp2(-level * (scale * LOG2E))
                    p = _minus_one(best, p, floor, scale, True, EXACT)
                    p = tl.maximum(p, 0.0)
                value += p
            else:
                cut = 0.5 * best + 0.5 * before
    elif STATISTIC == ENTROPY:
        value = tl.log(total) - scale * state[0] / total
    elif STATISTIC == SQUARES:
        value = state[0] / (total * total)
    return value, cut
