"""How many weights each block loses when later blocks lose more."""

import math

FIRST, LAST = 0.7, 1.3
"""Of the sparsity, in the first and in the last block."""


def sparsities(sizes: list[int], sparsity: float) -> list[float]:
    """The sparsity of every block: min(1, λ f_i s), exact in total.

    f_i rises linearly over the depth from 0.7 to 1.3; λ is such that the blocks
    together, of `sizes` weights, have the sparsity s: what a full block cannot
    take is shared by the others in proportion to f_i.
    """
    last = max(len(sizes) - 1, 1)
    factors = [FIRST + (LAST - FIRST) * i / last for i in range(len(sizes))]
    if len(sizes) == 1:
        factors = [1.0]
    full: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        wanted = sparsity * sum(sizes) - sum(sizes[i] for i in full)
        if not free:
            return [1.0] * len(sizes)
        scale = wanted / sum(factors[i] * sizes[i] for i in free)
        over = {i for i in free if scale * factors[i] > 1}
        if not over:
            break
        full |= over
    return [1.0 if i in full else scale * f for i, f in enumerate(factors)]


def shares(sizes: list[int], pruned: list[int], total: int) -> list[int]:
    """Weights to be pruned in every block, `total` in all, none coming back.

    The sparsities above, each rounded to a whole weight: down, then up where the
    most is cut off. A block never has fewer than the `pruned` it has.
    """
    wanted = [
        size * share
        for size, share in zip(sizes, sparsities(sizes, total / sum(sizes)))
    ]
    counts = [
        min(max(math.floor(w), done), size)
        for w, done, size in zip(wanted, pruned, sizes)
    ]
    while sum(counts) < total:
        room = [i for i, size in enumerate(sizes) if counts[i] < size]
        counts[max(room, key=lambda i: wanted[i] - counts[i])] += 1
    while sum(counts) > total:
        room = [i for i, done in enumerate(pruned) if counts[i] > done]
        counts[min(room, key=lambda i: wanted[i] - counts[i])] -= 1
    return counts
