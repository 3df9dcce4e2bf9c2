"""The two yardsticks, against sums written out."""

import math
from collections import Counter

import numpy as np
import pytest

from gpt2.data.packing import entropy
from gpt2.data.packing.entropy import entropies


def by_hand(streams: list[list[int]]) -> tuple[float, float]:
    single = Counter(token for stream in streams for token in stream)
    pairs = Counter(pair for stream in streams for pair in zip(stream, stream[1:]))
    before = Counter(a for stream in streams for a in stream[:-1])
    n, m = sum(single.values()), sum(pairs.values())
    unigram = -sum(c / n * math.log(c / n) for c in single.values())
    bigram = -sum(c / m * math.log(c / before[a]) for (a, _), c in pairs.items())
    return unigram, bigram


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_it_is_the_plug_in_estimate(monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(entropy, "CHUNK", chunk)
    random = np.random.default_rng(1)
    streams = [random.integers(0, 5, n) ** 2 for n in (300, 40)]
    pieces = [np.split(stream.astype("<u2"), [3, 3, 11]) for stream in streams]
    found = entropies(pieces, 17)
    assert found == pytest.approx(by_hand([s.tolist() for s in streams]), rel=1e-12)


def test_an_alternating_text_has_one_bit_and_no_surprise() -> None:
    unigram, bigram = entropies([[np.array([0, 1] * 50, "<u2")]], 2)
    assert unigram == pytest.approx(math.log(2))
    assert bigram == pytest.approx(0, abs=1e-12)


def test_one_token_has_no_entropy() -> None:
    assert entropies([[np.array([3], "<u2")]], 4) == (0.0, 0.0)


def test_a_large_vocabulary_is_not_measured() -> None:
    assert entropies([[np.array([3])]], 1025) == (None, None)
