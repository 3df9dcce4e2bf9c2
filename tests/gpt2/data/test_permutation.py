"""The permutation that shuffles an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.data.permutation import Permutation

GOLDEN_PERMUTATION = [1, 6, 3, 7, 2, 8, 0, 5, 9, 4]


@given(st.integers(1, 3000), st.text(max_size=5))
def test_a_permutation_is_a_bijection(size: int, key: str) -> None:
    found = Permutation(size, key)(np.arange(size))
    assert sorted(found.tolist()) == list(range(size))


@given(st.integers(1, 2**40), st.data())
@settings(max_examples=50)
def test_a_large_permutation_stays_inside_and_apart(size: int, data) -> None:
    index = np.unique(data.draw(st.lists(st.integers(0, size - 1), max_size=50)))
    found = Permutation(size, "key")(index)
    assert len(np.unique(found)) == len(index)
    assert all(0 <= value < size for value in found.tolist())


def test_a_permutation_is_fixed_by_size_and_key_for_all_time() -> None:
    found = Permutation(10, "data:1:0")(np.arange(10))
    assert found.tolist() == GOLDEN_PERMUTATION
    assert Permutation(10, "data:2:0")(np.arange(10)).tolist() != GOLDEN_PERMUTATION


@pytest.mark.parametrize("size", [5, 16, 100])
def test_over_many_keys_every_place_is_equally_likely(size: int) -> None:
    keys = 2000
    first = [Permutation(size, f"k{key}")(np.array([0]))[0] for key in range(keys)]
    counts = np.bincount(first, minlength=size)
    expected = keys / size
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < size - 1 + 5 * np.sqrt(2 * (size - 1))


def test_neighbours_are_torn_apart() -> None:
    order = Permutation(10_000, "k")(np.arange(10_000)).astype(float)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.04


@pytest.mark.parametrize("index", [-1, 10])
def test_a_permutation_refuses_what_is_outside(index: int) -> None:
    with pytest.raises(IndexError, match="expected 0..9"):
        Permutation(10, "k")(np.array([index]))
