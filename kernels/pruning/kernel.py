"""Scores and the exact choice of the lowest, in Triton: all matrices at once.

The same result as the reference, bit for bit. A radix select: four passes over
the tensors count one byte each of the ordered keys of those that match the bytes
found so far, then one pass sets the masks; scores are computed anew in every
pass, so nothing of the size of the weights is stored. The host waits once, for
the answer whether every score is a number. All counts are integers: the order in
which programs add them does not matter.
"""

import torch
import triton
import triton.language as tl

from kernels.tensors import chunks, table

Source = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

BLOCK = 4096
WARPS = 8
PROGRAMS = 2048  # of a counting pass; each takes every 2048th chunk
EPS = tl.constexpr(1e-8)
BINS = tl.constexpr(256)
SIGN = tl.constexpr(-(2**31))
# The state on the device, int64: the bytes of the threshold found so far; the
# wanted rank among the keys that begin with them; how many those are; how many
# are ranked in all; how many live scores are no number.
RANK, WORDS = 1, 5


def prune_lowest(
    criterion: str,
    sources: list[Source],
    masks: list[torch.Tensor],
    count: int,
    pattern: str = "unstructured",
) -> None:
    """As the reference's, for tensors of one GPU."""
    if count == 0:
        return
    _require_fp32([tensor for source in sources for tensor in source])
    device = masks[0].device
    found = table([*map(list, zip(*sources)), masks])
    layout = chunks(found.sizes, BLOCK, device)
    total = len(layout[0])
    grid = (min(total, PROGRAMS),)
    fixed = {"CRITERION": criterion, "PATTERN": pattern, "BLOCK": BLOCK}
    fixed |= {"ALIGNED": found.alignment, "num_warps": WARPS}
    state = torch.zeros(WORDS, dtype=torch.int64, device=device)
    state[RANK] = count
    bins = torch.zeros(256, dtype=torch.int32, device=device)
    arguments = (found.addresses, len(masks), *layout, total, state)
    for shift in (24, 16, 8, 0):
        _count[grid](*arguments, bins, SHIFT=shift, **fixed)
        _descend[(1,)](bins, state, FIRST=shift == 24)
    _, left, equal, live, wild = state.tolist()
    if wild:
        raise ArithmeticError("a weight's score is not a number, nothing to rank")
    if count > live:
        raise ValueError(f"{count} weights to prune, {live} are live")
    before = torch.zeros(total, dtype=torch.int64, device=device)
    if left < equal:
        ties = torch.empty_like(before)
        _ties[(total,)](*arguments, ties, **fixed)
        before = ties.cumsum(0) - ties
    _mark[(total,)](*arguments, before, **fixed)


def zero(tensors: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    """Each tensor is 0 where its mask is True, in place; fp32."""
    _require_fp32(tensors)
    found = table([tensors, masks])
    layout = chunks(found.sizes, BLOCK, masks[0].device)
    _zero[(len(layout[0]),)](
        found.addresses,
        len(masks),
        *layout,
        ALIGNED=found.alignment,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def _require_fp32(tensors: list[torch.Tensor]) -> None:
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            raise TypeError(f"scores are fp32, not {tensor.dtype}")


@triton.jit
def _load(table, row, tensors, tensor, at, inside, ALIGNED: tl.constexpr):
    """fp32 elements of one tensor of a row of the table."""
    address = tl.load(table + row * tensors + tensor)
    pointer = tl.multiple_of(address.to(tl.pointer_type(tl.float32)), ALIGNED)
    return tl.load(pointer + at, mask=inside, other=0.0)


@triton.jit
def _score(
    table,
    tensors,
    tensor,
    at,
    inside,
    CRITERION: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """The reference's SCORES, operation by operation."""
    w = _load(table, 0, tensors, tensor, at, inside, ALIGNED)
    if CRITERION == "given":
        score = w
    elif CRITERION == "magnitude":
        score = tl.abs(w)
    elif CRITERION == "variance":
        v = _load(table, 2, tensors, tensor, at, inside, ALIGNED)
        score = tl.abs(w) * tl.sqrt_rn(tl.sqrt_rn(v))
    elif CRITERION == "gradient_magnitude":
        m = _load(table, 1, tensors, tensor, at, inside, ALIGNED)
        score = tl.abs(w) * tl.sqrt_rn(tl.abs(m))
    else:
        m = _load(table, 1, tensors, tensor, at, inside, ALIGNED)
        v = _load(table, 2, tensors, tensor, at, inside, ALIGNED)
        if CRITERION == "hybrid":
            score = tl.div_rn(tl.abs(w * m) * tl.abs(w), tl.sqrt_rn(v) + EPS)
        elif CRITERION == "movement":
            sign = tl.where(w > 0, 1.0, tl.where(w < 0, -1.0, w))
            score = tl.div_rn(-sign * m, tl.sqrt_rn(v) + EPS)
        else:
            tl.static_assert(CRITERION == "coherence")
            signal = tl.sqrt_rn(tl.div_rn(m * m, v + EPS))
            score = tl.abs(w) * tl.sqrt_rn(tl.abs(m)) * signal
    return score


@triton.jit
def _keys(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    chunk,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of a chunk: unsigned keys in the order of the scores, which of them are
    ranked, which live scores are no number, the masks' addresses.
    """
    tensor = tl.load(tensor_C + chunk)
    start = tl.multiple_of(tl.load(start_C + chunk), BLOCK)
    at = start + tl.arange(0, BLOCK)
    length = tl.load(sizes_N + tensor)
    if ALIGNED == 16:
        length = tl.multiple_of(length, 4)
    inside = at < length
    masks = tl.load(table + 3 * tensors + tensor).to(tl.pointer_type(tl.int8))
    pruned = tl.load(tl.multiple_of(masks, ALIGNED) + at, mask=inside, other=1) != 0
    live = inside & (pruned == 0)
    score = _score(table, tensors, tensor, at, inside, CRITERION, ALIGNED)
    bits = score.to(tl.int32, bitcast=True)
    bits = tl.where(score == 0.0, 0, bits)
    key = (bits ^ ((bits >> 31) | SIGN)).to(tl.uint32, bitcast=True)
    ranked = live
    if PATTERN == "2:4":
        ranked = live & _free(key, live, BLOCK)
    return key, ranked, live & (score != score), masks + at


@triton.jit
def _free(key, live, BLOCK: tl.constexpr):
    """Which of every four may still go: the 2 − pruned lowest live ones."""
    k = tl.reshape(key, (BLOCK // 4, 4))
    alive = tl.reshape(live.to(tl.int32), (BLOCK // 4, 4))
    mine = tl.arange(0, 4)[None, :, None]
    other = tl.arange(0, 4)[None, None, :]
    lower = k[:, None, :] < k[:, :, None]
    lower = lower | ((k[:, None, :] == k[:, :, None]) & (other < mine))
    place = tl.sum(lower.to(tl.int32) * alive[:, None, :], axis=2)
    spare = tl.sum(alive, axis=1) - 2
    return tl.reshape(place < spare[:, None], (BLOCK,))


@triton.jit
def _count(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    bins,
    SHIFT: tl.constexpr,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add to the bins one byte of the ranked keys that begin with the prefix."""
    prefix = tl.load(state + 0)
    counts = tl.zeros((BINS,), tl.int32)
    wild = 0
    for chunk in range(tl.program_id(0), total, tl.num_programs(0)):
        key, ranked, bad, _ = _keys(
            table,
            tensors,
            tensor_C,
            start_C,
            sizes_N,
            chunk,
            CRITERION,
            PATTERN,
            ALIGNED,
            BLOCK,
        )
        if SHIFT == 24:
            wild += tl.sum(bad.to(tl.int32))
        else:
            ranked = ranked & ((key >> (SHIFT + 8)).to(tl.int64) == prefix)
        byte = ((key >> SHIFT) & 255).to(tl.int32)
        counts += tl.histogram(byte, BINS, mask=ranked)
    tl.atomic_add(bins + tl.arange(0, BINS), counts)
    if SHIFT == 24:
        tl.atomic_add(state + 4, wild.to(tl.int64))


@triton.jit
def _descend(bins, state, FIRST: tl.constexpr):
    """Extend the prefix by the byte that holds the wanted rank; clear the bins."""
    at = tl.arange(0, BINS)
    counts = tl.load(bins + at).to(tl.int64)
    rank = tl.load(state + 1)
    below = tl.cumsum(counts, 0) < rank
    byte = tl.sum(below.to(tl.int64))
    tl.store(state + 0, tl.load(state + 0) * 256 + byte)
    tl.store(state + 1, rank - tl.sum(tl.where(below, counts, 0)))
    tl.store(state + 2, tl.sum(tl.where(at == byte, counts, 0)))
    if FIRST:
        tl.store(state + 3, tl.sum(counts))
    tl.store(bins + at, tl.zeros((BINS,), tl.int32))


@triton.jit
def _ties(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    ties_C,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """How many ranked keys of each chunk equal the threshold."""
    chunk = tl.program_id(0)
    key, ranked, _, _ = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    equal = ranked & (key.to(tl.int64) == tl.load(state + 0))
    tl.store(ties_C + chunk, tl.sum(equal.to(tl.int64)))


@triton.jit
def _mark(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    before_C,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Prune what lies below the threshold, and of the equal ones the first."""
    chunk = tl.program_id(0)
    key, ranked, _, masks = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    threshold, left = tl.load(state + 0), tl.load(state + 1)
    equal = ranked & (key.to(tl.int64) == threshold)
    place = tl.load(before_C + chunk) + tl.cumsum(equal.to(tl.int32), 0)
    goes = ranked & (key.to(tl.int64) < threshold) | (equal & (place <= left))
    tl.store(masks, tl.full((BLOCK,), 1, tl.int8), mask=goes)


@triton.jit
def _zero(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Zeros where the mask of a chunk is set."""
    chunk = tl.program_id(0)
    tensor = tl.load(tensor_C + chunk)
    at = tl.multiple_of(tl.load(start_C + chunk), BLOCK) + tl.arange(0, BLOCK)
    length = tl.load(sizes_N + tensor)
    if ALIGNED == 16:
        length = tl.multiple_of(length, 4)
    inside = at < length
    masks = tl.load(table + tensors + tensor).to(tl.pointer_type(tl.int8))
    pruned = tl.load(tl.multiple_of(masks, ALIGNED) + at, mask=inside, other=0) != 0
    values = tl.load(table + tensor).to(tl.pointer_type(tl.float32))
    tl.store(values + at, tl.zeros((BLOCK,), tl.float32), mask=pruned)
