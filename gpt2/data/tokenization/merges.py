"""Training a byte-level BPE: which pair of tokens is merged next.

    count(a, b) = sum over words w of n(w) · |{places of w where b follows a}|

n(w) how often w occurs. The pair of the largest count, of equal ones the smaller
(a, b), becomes the next token, from left to right in every word, and so on (Sennrich
et al. 2016, 1508.07909). These are the merges of the `tokenizers` library, token for
token (tests/gpt2/data/tokenization/test_merges.py), whose own trainer moves the rest of a word at every
merge in it: a word of n bytes costs n² there. Here the different words lie in one
array whose places are linked, and a place is looked at when a pair there may merge:
n log n, whatever the words.

Legend: n places, m of them where a pair is merged.
"""

import heapq
import re
from collections import Counter
from typing import Iterable, Iterator

import numpy as np
from tokenizers import pre_tokenizers

# Between a byte that is no blank and a blank no word goes on; nor between a blank
# and one that opens a word (`\s+(?!\S)` leaves it to that word).
PIECES = re.compile(r"(?<=[!-~])(?=[ \n])|(?<=[ \n])(?= [!-~])")
# Different pieces of text held before they are cut into words.
HELD = PART = 1 << 20
SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)
# The characters that stand for the 256 bytes, in order of their tokens.
ALPHABET = sorted(SPLIT.alphabet())
EDGE, GONE = -1, -2
PAIR = 1 << 32


def words(texts: Iterable[str]) -> Counter[str]:
    """The words of the texts and how often each occurs, a character for a byte.

    Equal pieces are cut into words once.
    """
    found, pieces = Counter(), Counter()
    for text in texts:
        for part in _parts(text):
            pieces.update(PIECES.split(part))
            if len(pieces) > HELD:
                _count(pieces, found)
    _count(pieces, found)
    return found


def _parts(text: str) -> Iterator[str]:
    """The text in parts of PART characters, more where no piece ends."""
    start = 0
    while place := PIECES.search(text, start + PART):
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]


def _count(pieces: Counter[str], found: Counter[str]) -> None:
    for piece, count in pieces.items():
        for word, _ in SPLIT.pre_tokenize_str(piece):
            found[word] += count
    pieces.clear()


def merges(counts: Counter[str], wanted: int) -> Iterator[tuple[int, int]]:
    """At most `wanted` pairs (a, b) in order, of which pair i makes token 256 + i;
    fewer where the words have no more.
    """
    places = _Places(counts)
    for new in range(256, 256 + wanted):
        pair = places.largest()
        if pair is None:
            return
        places.merge(*pair, new)
        yield pair


class _Places:
    """The tokens of all different words, and where each pair of them may lie.

    token_n: EDGE before, between and behind words, GONE where a merge to the left
    took the place in. A pair is one number, a · 2³² + b.
    """

    def __init__(self, counts: Counter[str]):
        code_of = np.full(ord(ALPHABET[-1]) + 1, EDGE, np.int32)
        code_of[[ord(character) for character in ALPHABET]] = np.arange(256)
        text = "\0".join(["", *counts, ""]).encode("utf-32-le")
        self.token_n = code_of[np.frombuffer(text, np.uint32)]
        n = len(self.token_n)
        index = np.int32 if n < 1 << 31 else np.int64
        self.before_n = np.arange(-1, n - 1, dtype=index)
        self.after_n = np.arange(1, n + 1, dtype=index)
        sizes = np.fromiter(map(len, counts), np.int64, len(counts)) + 1
        self.weight_n = np.repeat(
            np.fromiter(counts.values(), np.int64, len(counts)), sizes
        )
        self.count: dict[int, int] = {}
        self.places: dict[int, np.ndarray] = {}
        self.heap: list[tuple[int, int]] = []
        inside = (self.token_n[:-1] != EDGE) & (self.token_n[1:] != EDGE)
        left = np.flatnonzero(inside).astype(index)
        code = self.token_n[left] * 256 + self.token_n[left + 1]
        self._add(code.astype(np.uint16), left, self.weight_n[left], 256)

    def largest(self) -> tuple[int, int] | None:
        """The pair to merge next, taken out; None without one.

        Counts only fall once a pair is there: a heap entry that is too large is
        put back with what the count is now.
        """
        while self.heap:
            noted, pair = heapq.heappop(self.heap)
            count = self.count[pair]
            if count == -noted:
                return divmod(pair, PAIR)
            if count:
                heapq.heappush(self.heap, (-count, pair))
            else:
                del self.count[pair], self.places[pair]
        return None

    def merge(self, a: int, b: int, new: int) -> None:
        """Every a that b follows becomes `new`, from left to right in each word."""
        token_n, before_n, after_n = self.token_n, self.before_n, self.after_n
        pair = a * PAIR + b
        first_m = self.places.pop(pair)
        second_m = after_n[first_m]
        there = (token_n[first_m] == a) & (token_n[second_m] == b)
        first_m, second_m = first_m[there], second_m[there]
        if a == b:
            kept = _every_other(second_m[:-1] == first_m[1:])
            first_m, second_m = first_m[kept], second_m[kept]
        left_m, right_m = before_n[first_m], after_n[second_m]
        weight_m = self.weight_n[first_m]
        before, behind = token_n[left_m].astype(int), token_n[right_m].astype(int)
        # Where two merges touch, the pair between them is one: (new, new) now.
        touching = np.zeros(len(first_m), bool)
        touching[1:] = left_m[1:] == second_m[:-1]
        opens, ends = before != EDGE, behind != EDGE
        alone = opens & ~touching
        self._lose(
            np.concatenate([before[alone] * PAIR + a, b * PAIR + behind[ends]]),
            np.concatenate([weight_m[alone], weight_m[ends]]),
        )
        del self.count[pair]
        ends[:-1] &= ~touching[1:]
        before[touching] = new
        left_m[touching] = first_m[:-1][touching[1:]]
        token_n[first_m], token_n[second_m] = new, GONE
        after_n[first_m], before_n[right_m] = right_m, first_m
        self._add(
            np.concatenate([before[opens] * PAIR + new, new * PAIR + behind[ends]]),
            np.concatenate([left_m[opens], first_m[ends]]),
            np.concatenate([weight_m[opens], weight_m[ends]]),
        )

    def _lose(self, pair_m: np.ndarray, weight_m: np.ndarray) -> None:
        """Pairs that are no longer there."""
        for pair, _, lost in _grouped(pair_m, pair_m, weight_m):
            self.count[pair] -= lost

    def _add(
        self,
        pair_m: np.ndarray,
        place_m: np.ndarray,
        weight_m: np.ndarray,
        base: int = PAIR,
    ) -> None:
        """Pairs a · base + b that are new, and their places in ascending order."""
        for pair, place, count in _grouped(pair_m, place_m, weight_m):
            a, b = divmod(pair, base)
            pair = a * PAIR + b
            self.count[pair], self.places[pair] = count, place
            heapq.heappush(self.heap, (-count, pair))


def _every_other(follows: np.ndarray) -> np.ndarray:
    """Of places of which i + 1 overlaps i where follows[i], those from left to right
    that overlap none taken before; bool (m,).
    """
    m = np.arange(len(follows) + 1)
    opened = m.copy()
    opened[1:][follows] = 0
    return (m - np.maximum.accumulate(opened)) % 2 == 0


def _grouped(
    pair_m: np.ndarray, place_m: np.ndarray, weight_m: np.ndarray
) -> Iterator[tuple[int, np.ndarray, int]]:
    """(pair, its places in their order, its weight) of every pair."""
    if not len(pair_m):
        return
    order = np.argsort(pair_m, kind="stable")
    sorted_m, place_m = pair_m[order], place_m[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_m[1:] != sorted_m[:-1]]))
    totals = np.add.reduceat(weight_m[order], starts)
    yield from zip(
        sorted_m[starts].tolist(), np.split(place_m, starts[1:]), totals.tolist()
    )
