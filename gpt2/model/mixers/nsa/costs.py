"""What native sparse attention costs, from its spec and the weights of its parts.

Legend: T tokens of a sequence, E width, G key/value heads.
"""

from gpt2.model.values import Products
from kernels.nsa import NsaSpec


def cached_tokens(spec: NsaSpec, tokens: int, once: bool) -> dict[str, int]:
    """Places that a cache has after so many tokens: sel, win, blocks, and pending, those
    of the tokens from the next compression block on. once: all tokens' serve the window.
    """
    blocks = spec.compressed(tokens) if spec.scores else 0
    return {
        "sel": tokens * ("sel" in spec.branches),
        "win": min(spec.window, tokens) * ("win" in spec.branches and not once),
        "blocks": blocks,
        "pending": tokens - blocks * spec.stride if spec.scores else 0,
    }


def products(
    spec: NsaSpec, T: int, E: int, per_block: float, per_token: float
) -> Products:
    """q·k and p·v take E each with every key that a branch reads; the choice takes a
    pass q·k over the compressed keys more, forward alone. per_block, per_token: what φ
    multiplies once per compression block, and what is multiplied once per token, beside
    N, which has every weight once per token.
    """
    more, found = per_block * spec.compressed(T) / T + per_token, []
    for reads, count in ((spec.reads(T), 1), (spec.all_reads(T), T)):
        attended = sum(reads[name] for name in spec.branches) / count
        scored = reads["cmp"] / count if "sel" in spec.branches else 0
        found.append(2 * E * attended + E * scored / 3 + more)
    return Products(*found)


def keys(spec: NsaSpec, T: int) -> int:
    """Tokens in a row that the last query of T reads whatever it chooses, its own the
    last: all where compressed blocks reach those that the other branches read.
    """
    near = [1]
    if "win" in spec.branches:
        near.append(min(spec.window, T))
    if "sel" in spec.branches:
        forced = (T - 1) % spec.block + 1 + spec.block if spec.forced else 1
        near.append(T if spec.candidates(T) <= spec.top else min(T, forced))
    blocks = spec.compressed(T) if "cmp" in spec.branches else 0
    if blocks and T - (blocks - 1) * spec.stride - spec.length <= max(near):
        return T
    return max(near)
