"""Two yardsticks of a corpus: its unigram and bigram entropy.

A model whose loss (nats per token) stays above the bigram entropy has not yet
learned what a table of token pairs knows. Both are plug-in estimates from the
counts c, hence a little low for a small corpus:

    unigram  H(x)        = -sum_b c_b/n ln(c_b/n)
    bigram   H(x | prev) = -sum_ab c_ab/n ln(c_ab/c_a)
"""

from typing import Iterable

import numpy as np

MAX_VOCABULARY = 1024
CHUNK = 1 << 22


def entropies(
    streams: Iterable[Iterable[np.ndarray]], vocab_size: int
) -> tuple[float | None, float | None]:
    """(unigram, bigram) nats per token over all streams together.

    Each stream is a sequence of arrays that follow one another; no pair spans
    two streams. (None, None) above MAX_VOCABULARY: the table of pairs has
    vocab_size^2 entries. A corpus without one pair has bigram entropy 0.
    """
    if vocab_size > MAX_VOCABULARY:
        return None, None
    single = np.zeros(vocab_size, np.int64)
    pairs = np.zeros(vocab_size**2, np.int64)
    for stream in streams:
        previous = np.zeros(0, np.int64)
        for shard in stream:
            for start in range(0, len(shard), CHUNK):
                chunk = shard[start : start + CHUNK].astype(np.int64)
                single += np.bincount(chunk, minlength=vocab_size)
                chunk = np.concatenate([previous, chunk])
                code = chunk[:-1] * vocab_size + chunk[1:]
                pairs += np.bincount(code, minlength=vocab_size**2)
                previous = chunk[-1:]
    table = pairs.reshape(vocab_size, vocab_size)
    return _plug_in(single), _plug_in(pairs) - _plug_in(table.sum(axis=1))


def _plug_in(counts: np.ndarray) -> float:
    """-sum p ln p of the counts, 0 when there are none."""
    seen = counts[counts > 0].astype(np.float64)
    if not seen.size:
        return 0.0
    total = seen.sum()
    return float(np.log(total) - (seen * np.log(seen)).sum() / total)
