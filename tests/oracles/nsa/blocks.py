"""Blocks of NSA: how many there are, how they overlap, which are chosen.

Python integers and floats, one at a time. Legend: options.py.
"""

from collections.abc import Sequence


def compressed_blocks(S: int, l: int, d: int) -> int:
    """C(S): blocks i with i d + l <= S; 0 if S < l, else ⌊(S-l)/d⌋ + 1."""
    return 0 if S < l else (S - l) // d + 1


def overlap(i: int, j: int, l: int, d: int, b: int) -> int:
    """|compression block i ∩ selection block j|, in tokens."""
    return len(set(range(i * d, i * d + l)) & set(range(j * b, j * b + b)))


def columns(i: int, l: int, d: int, b: int) -> range:
    """Selection blocks that compression block i touches: ⌊id/b⌋ … ⌊(id+l-1)/b⌋."""
    return range(i * d // b, (i * d + l - 1) // b + 1)


def block_scores(
    p: Sequence[float], candidates: int, l: int, d: int, b: int
) -> list[float]:
    """p^s[j] = Σ_i p^c[i] |block_i ∩ block_j| / l for j < candidates (Eq. 9, by
    overlap: as printed, with both indices from 1, times l/d).
    """
    scores = [0.0] * candidates
    for i, p_i in enumerate(p):
        for j in columns(i, l, d, b):
            scores[j] += p_i * overlap(i, j, l, d, b) / l
    return scores


def group_scores(rows: Sequence[Sequence[float]]) -> list[float]:
    """Σ_h p^s_h[j] over the heads of a group (Eq. 10)."""
    total = list(rows[0])
    for row in rows[1:]:
        total = [a + x for a, x in zip(total, row, strict=True)]
    return total


def forced_blocks(c: int) -> list[int]:
    """0, c-1 and c as far as they exist, each once, c the query's block."""
    return sorted({j for j in (0, c - 1, c) if j >= 0})


def choice(scores: Sequence[float], n: int, forced: bool) -> list[int]:
    """The chosen of blocks 0 … c, c = len(scores) - 1, in order: the forced ones,
    then by falling score, of equal scores the lower index, until there are
    min(n, c+1) (Eq. 11).
    """
    c = len(scores) - 1
    taken = forced_blocks(c) if forced else []
    rest = [j for j in range(c + 1) if j not in taken]
    rest.sort(key=lambda j: (-scores[j], j))
    return sorted(taken + rest[: n - len(taken)])


def chosen_tokens(chosen: Sequence[int], b: int, t: int) -> list[int]:
    """Tokens of the chosen blocks that query t sees, in order (Eq. 12)."""
    return [s for j in chosen for s in range(j * b, j * b + b) if s <= t]


def chosen_ranges(chosen: Sequence[int], b: int, t: int) -> list[tuple[int, int]]:
    """The same as ranges [start, end), end <= t+1, neighbours merged."""
    ranges: list[tuple[int, int]] = []
    for j in chosen:
        start, end = j * b, min(j * b + b, t + 1)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    return ranges


def window_tokens(t: int, w: int) -> list[int]:
    """The last min(w, t+1) tokens, t the last of them."""
    return [s for s in range(t + 1) if t - s < w]
