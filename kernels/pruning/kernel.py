"""Scores and the exact choice of the lowest, in Triton: all matrices at once.

The same result as the reference, bit for bit. Scores are computed anew in every
pass over the tensors, so nothing of the size of the weights is stored. A sample
brackets the threshold; one pass counts what lies below the bracket and keeps the
keys inside it; a radix select over those finds the threshold, and one more pass
sets the masks and the zeros. Where the bracket missed (few weights, many ties)
the radix select counts all weights instead, a byte of the ordered keys per pass.
The host waits once, for what was found. All counts are integers: the order in
which programs add them does not matter.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from kernels.tensors import chunks, table

Source = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

BLOCK = 1024
WARPS = 4
PROGRAMS = 4096  # of a counting pass; each takes every 4096th chunk
KEY_PROGRAMS = 264  # of a pass over the bracket's keys
RUN, EVERY = 16, 4  # the sample takes 16 neighbours from one chunk of four
BRACKETED = 2**22  # weights from which on a bracket pays
MARGIN = 6.0  # half of the bracket, in standard deviations of independent draws
TIES = 2048  # weights that may share the threshold inside a bracket
EPS = tl.constexpr(1e-8)
BINS = tl.constexpr(256)
SIGN = tl.constexpr(-(2**31))
LAST = 2**31 - 1  # the signed key of what is not ranked; no index is as large
# The state on the device, int64: the bytes of the threshold found so far; the
# wanted rank among the keys that begin with them; how many those are; how many
# are ranked in all; how many live scores are no number; of a bracket, how many
# lie below it (upper 32 bits) and in it (lower 32).
RANK, BRACKET, WORDS = 1, 5, 6


def prune_lowest(
    criterion: str,
    sources: list[Source],
    masks: list[torch.Tensor],
    count: int,
    pattern: str = "unstructured",
    zeroed: Sequence[list[torch.Tensor]] = (),
) -> None:
    """As the reference's, for tensors of one GPU."""
    if count == 0:
        return
    _require_fp32([tensor for source in sources for tensor in source])
    _require_fp32([tensor for tensors in zeroed for tensor in tensors])
    found = table([*map(list, zip(*sources)), masks, *zeroed])
    layout = chunks(found.sizes, BLOCK, masks[0].device)
    total = len(layout[0])
    fixed = {"CRITERION": criterion, "PATTERN": pattern, "BLOCK": BLOCK}
    fixed |= {"ALIGNED": found.alignment, "num_warps": WARPS}
    arguments = (found.addresses, len(masks), *layout, total)
    weights, chosen = sum(found.sizes), None
    if weights >= BRACKETED and total * BLOCK < LAST:
        chosen = _bracketed(arguments, weights, count, fixed)
    state, last = chosen or _counted(arguments, count, fixed)
    tied = last is not None
    last = last if tied else state
    _mark[(total,)](*arguments, state, last, TIED=tied, ZEROED=len(zeroed), **fixed)


def _counted(
    arguments: tuple, count: int, fixed: dict
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(state, index of the last weight at the threshold that goes, None where all
    of them go), by passes over all weights.
    """
    device, total = arguments[0].device, arguments[-1]
    state = _fresh(count, device)
    bins = torch.zeros(256, dtype=torch.int32, device=device)
    for shift in (24, 16, 8, 0):
        grid = (min(total, PROGRAMS),)
        _count[grid](*arguments, state, bins, SHIFT=shift, **fixed)
        _descend[(1,)](bins, state, FIRST=shift == 24)
    _, left, equal, live, wild, _ = state.tolist()
    _require_numbers(wild)
    if count > live:
        raise ValueError(f"{count} weights to prune, {live} are live")
    if left == equal:
        return state, None
    ties_C = torch.empty(total, dtype=torch.int64, device=device)
    _ties[(total,)](*arguments, state, ties_C, **fixed)
    upto_C = ties_C.cumsum(0)
    before_C = upto_C - ties_C
    chunk = (upto_C < left).sum()
    last = torch.empty_like(chunk)
    _last[(1,)](*arguments, state, chunk, left - before_C[chunk], last, **fixed)
    return state, last


def _bracketed(
    arguments: tuple, weights: int, count: int, fixed: dict
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """As `_counted`, through a bracket of sampled keys; None where that missed."""
    device, total = arguments[0].device, arguments[-1]
    runs = triton.cdiv(total, EVERY)
    sample_S = torch.empty(runs * RUN, dtype=torch.int32, device=device)
    small = {**fixed, "BLOCK": RUN, "num_warps": 1, "CHUNK": BLOCK, "EVERY": EVERY}
    _sample[(runs,)](*arguments, sample_S, LAST=LAST, **small)
    sample_S = sample_S.sort().values
    place = count / weights * len(sample_S)
    # The weights of a run are not independent: half of them are counted as such.
    half = MARGIN * (2 * len(sample_S)) ** 0.5 / 2
    ends = (sample_S, len(sample_S), int(place - half), int(place + half))
    room = int(4 * half / len(sample_S) * weights)
    kept_2K = torch.empty(2, room, dtype=torch.int32, device=device)
    state = _fresh(count, device)
    _split[(total,)](*arguments, state, *ends, kept_2K, room, LAST=LAST, **fixed)
    state[RANK] -= state[BRACKET] >> 32
    bins = torch.zeros(256, dtype=torch.int32, device=device)
    grid, keys = (min(total, KEY_PROGRAMS),), {"BLOCK": BLOCK, "num_warps": WARPS}
    for shift in (24, 16, 8, 0):
        _count_keys[grid](kept_2K, state, room, bins, SHIFT=shift, **keys)
        _descend[(1,)](bins, state, FIRST=False)
    _, left, equal, _, wild, bracket = state.tolist()
    _require_numbers(wild)
    below, inside = bracket >> 32, bracket & (2**32 - 1)
    if not (below < count <= below + inside and inside <= room and equal <= TIES):
        return None
    if left == equal:
        return state, None
    ties_T = torch.full((TIES,), LAST, dtype=torch.int64, device=device)
    found = torch.zeros(1, dtype=torch.int64, device=device)
    _collect[grid](kept_2K, state, room, found, ties_T, **keys)
    return state, ties_T.sort().values[left - 1]


def _fresh(count: int, device: torch.device) -> torch.Tensor:
    state = torch.zeros(WORDS, dtype=torch.int64, device=device)
    state[RANK] = count
    return state


def _require_numbers(wild: int) -> None:
    if wild:
        raise ArithmeticError("a weight's score is not a number, nothing to rank")


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
    skip,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of a chunk, from its element `skip` on (a multiple of 16): unsigned keys in the order of
    the scores, which of them are ranked, which live scores are no number; the
    elements, and the address of their mask.
    """
    tensor = tl.load(tensor_C + chunk)
    at = tl.load(start_C + chunk) + skip
    if ALIGNED == 16:
        at = tl.multiple_of(at, 16)
    at += tl.arange(0, BLOCK)
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
    return key, ranked, live & (score != score), at, masks


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
        key, ranked, bad, _, _ = _keys(
            table,
            tensors,
            tensor_C,
            start_C,
            sizes_N,
            chunk,
            0,
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
def _sample(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    sample_S,
    CHUNK: tl.constexpr,
    EVERY: tl.constexpr,
    LAST: tl.constexpr,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The signed keys of BLOCK neighbours somewhere in one of EVERY chunks, LAST
    where not ranked.
    """
    run = tl.program_id(0)
    scattered = (run.to(tl.int64) * 2654435761) % 4294967296
    chunk = tl.minimum(run * EVERY + (scattered >> 4).to(tl.int32) % EVERY, total - 1)
    length = tl.load(sizes_N + tl.load(tensor_C + chunk))
    there = tl.minimum(length - tl.load(start_C + chunk), CHUNK)
    runs = tl.maximum(there // BLOCK, 1)
    skip = ((scattered >> 8) % runs) * BLOCK
    key, ranked, _, _, _ = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        skip,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    signed = key.to(tl.int32, bitcast=True) ^ SIGN
    at = run * BLOCK + tl.arange(0, BLOCK)
    tl.store(sample_S + at, tl.where(ranked, signed, LAST))


@triton.jit(do_not_specialize=["samples", "low_at", "high_at", "room"])
def _split(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    sample_S,
    samples,
    low_at,
    high_at,
    kept_2K,
    room,
    LAST: tl.constexpr,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count the ranked keys below a bracket of the sorted sample; keep those in it,
    signed, and in the second row their indices.

    Which places they get depends on the order of the programs; which are kept,
    and how many, does not.
    """
    low = tl.load(sample_S + tl.maximum(low_at, 0))
    low = tl.where(low_at < 0, SIGN, low)
    high = tl.load(sample_S + tl.minimum(high_at, samples - 1))
    high = tl.where(high_at >= samples, LAST, high)
    chunk = tl.program_id(0)
    key, ranked, bad, _, _ = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        0,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    wild = tl.sum(bad.to(tl.int32))
    if wild > 0:
        tl.atomic_add(state + 4, wild.to(tl.int64))
    signed = key.to(tl.int32, bitcast=True) ^ SIGN
    below = tl.sum((ranked & (signed < low)).to(tl.int32))
    kept = (ranked & (signed >= low) & (signed <= high)).to(tl.int32)
    upto = tl.cumsum(kept, 0)
    both = (below.to(tl.int64) << 32) | tl.sum(kept).to(tl.int64)
    first = tl.atomic_add(state + 5, both) & 0xFFFFFFFF
    place = first + upto - 1
    stored = (kept != 0) & (place < room)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    tl.store(kept_2K + place, signed, mask=stored)
    tl.store(kept_2K + room + place, index, mask=stored)


@triton.jit(do_not_specialize=["room"])
def _count_keys(kept_2K, state, room, bins, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    """As _count, over the keys that a bracket kept."""
    prefix = tl.load(state + 0)
    kept = tl.minimum(tl.load(state + 5) & 0xFFFFFFFF, room)
    counts = tl.zeros((BINS,), tl.int32)
    step = tl.num_programs(0) * BLOCK
    for start in range(tl.program_id(0) * BLOCK, kept, step):
        at = start + tl.arange(0, BLOCK)
        signed = tl.load(kept_2K + at, mask=at < kept, other=0)
        key = (signed ^ SIGN).to(tl.uint32, bitcast=True)
        counted = at < kept
        if SHIFT < 24:
            counted = counted & ((key >> (SHIFT + 8)).to(tl.int64) == prefix)
        byte = ((key >> SHIFT) & 255).to(tl.int32)
        counts += tl.histogram(byte, BINS, mask=counted)
    tl.atomic_add(bins + tl.arange(0, BINS), counts)


@triton.jit(do_not_specialize=["room"])
def _collect(kept_2K, state, room, found, ties_T, BLOCK: tl.constexpr):
    """The indices of the kept keys that equal the threshold, in any order."""
    threshold = tl.load(state + 0)
    kept = tl.minimum(tl.load(state + 5) & 0xFFFFFFFF, room)
    step = tl.num_programs(0) * BLOCK
    for start in range(tl.program_id(0) * BLOCK, kept, step):
        at = start + tl.arange(0, BLOCK)
        signed = tl.load(kept_2K + at, mask=at < kept, other=0)
        key = (signed ^ SIGN).to(tl.uint32, bitcast=True)
        equal = ((at < kept) & (key.to(tl.int64) == threshold)).to(tl.int32)
        count = tl.sum(equal)
        if count > 0:
            first = tl.atomic_add(found, count.to(tl.int64))
            index = tl.load(kept_2K + room + at, mask=equal != 0, other=0)
            place = first + tl.cumsum(equal, 0) - 1
            tl.store(ties_T + place, index.to(tl.int64), mask=equal != 0)


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
    key, ranked, _, _, _ = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        0,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    equal = ranked & (key.to(tl.int64) == tl.load(state + 0))
    tl.store(ties_C + chunk, tl.sum(equal.to(tl.int64)))


@triton.jit
def _last(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    chunk_at,
    left_at,
    last,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The index of a chunk's `left`-th ranked key that equals the threshold."""
    chunk = tl.load(chunk_at)
    key, ranked, _, _, _ = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        0,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    equal = (ranked & (key.to(tl.int64) == tl.load(state + 0))).to(tl.int32)
    before = (tl.cumsum(equal, 0) < tl.load(left_at)).to(tl.int64)
    tl.store(last, chunk * BLOCK + tl.sum(before))


@triton.jit
def _mark(
    table,
    tensors,
    tensor_C,
    start_C,
    sizes_N,
    total,
    state,
    last,
    TIED: tl.constexpr,
    ZEROED: tl.constexpr,
    CRITERION: tl.constexpr,
    PATTERN: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Prune what lies below the threshold and what equals it, with TIED up to the
    index `last`; zeros where they were, in the tensors of the table's rows from 4 on.
    """
    chunk = tl.program_id(0)
    key, ranked, _, at, masks = _keys(
        table,
        tensors,
        tensor_C,
        start_C,
        sizes_N,
        chunk,
        0,
        CRITERION,
        PATTERN,
        ALIGNED,
        BLOCK,
    )
    threshold = tl.load(state + 0)
    equal = key.to(tl.int64) == threshold
    if TIED:
        index = chunk.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        equal = equal & (index <= tl.load(last))
    goes = ranked & ((key.to(tl.int64) < threshold) | equal)
    tl.store(masks + at, tl.full((BLOCK,), 1, tl.int8), mask=goes)
    tensor = tl.load(tensor_C + chunk)
    for row in tl.static_range(ZEROED):
        address = tl.load(table + (4 + row) * tensors + tensor)
        values = tl.multiple_of(address.to(tl.pointer_type(tl.float32)), ALIGNED)
        tl.store(values + at, tl.zeros((BLOCK,), tl.float32), mask=goes)


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
