"""Filters against loops over the sorted probabilities; the draw; greedy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gpt2.generation.sampling import Sampling, min_p, top_k, top_p

# Few distinct values, so that ties are common.
LOGITS = st.lists(st.integers(-6, 6), min_size=1, max_size=12)
P = st.floats(1e-3, 1.0)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def ranked(values):
    """(index, probability), most probable first, of equal ones the lower index."""
    weights = [math.exp(value) for value in values]
    total = math.fsum(weights)
    pairs = [(i, weight / total) for i, weight in enumerate(weights)]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def kept(values, found):
    """The indices that are left; what is left is unchanged."""
    indices = [i for i, z in enumerate(found.tolist()) if z > -math.inf]
    assert all(found[i] == values[i] for i in indices)
    return set(indices)


@given(LOGITS, st.integers(0, 20))
def test_top_k_keeps_the_k_largest(values, k):
    wanted = {i for i, _ in ranked(values)[: k or len(values)]}
    assert kept(values, top_k(tensor(values), k)) == wanted


@given(LOGITS, P)
def test_top_p_keeps_the_smallest_set_of_that_mass(values, p):
    wanted, mass = set(), 0.0
    for i, probability in ranked(values):
        assume(p == 1 or abs(mass - p) > 1e-12)
        if mass >= p and p < 1:
            break
        wanted.add(i)
        mass += probability
    found = kept(values, top_p(tensor(values), p))
    assert found == wanted and found


@given(LOGITS, st.floats(0, 1))
def test_min_p_compares_with_the_most_probable(values, p):
    pairs = ranked(values)
    bound = p * pairs[0][1]
    assume(p == 1 or all(abs(q - bound) > 1e-12 * bound or q == 0 for _, q in pairs))
    top = max(values)
    wanted = {i for i, q in pairs if (values[i] == top if p == 1 else q >= bound)}
    assert kept(values, min_p(tensor(values), p)) == wanted


def test_equal_tokens_at_the_border():
    half = tensor([0.0, 0.0])
    assert kept([0, 0], top_p(half, 0.5)) == {0}
    assert kept([0, 0], top_p(half, 0.501)) == {0, 1}
    assert kept([0, 0, 0], top_k(tensor([0, 0, 0]), 2)) == {0, 1}
    assert kept([0, 0, 0], min_p(tensor([0, 0, 0]), 1.0)) == {0, 1, 2}


def test_equal_tokens_of_a_large_vocabulary():
    """Where a sort that is not stable would shuffle them."""
    equal = torch.zeros(50_000, dtype=torch.float64)
    assert top_k(equal, 7).isfinite().nonzero().flatten().tolist() == [*range(7)]
    assert top_p(equal, 9e-5).isfinite().nonzero().flatten().tolist() == [*range(5)]


def test_p_1_keeps_what_the_rounding_of_a_sum_would_lose():
    values = [0.0] + [-40.0] * 5
    assert kept(values, top_p(tensor(values), 1.0)) == set(range(6))


def test_removed_tokens_stay_removed():
    gone = tensor([1.0, -math.inf, 0.0])
    for found in (top_k(gone, 3), top_p(gone, 0.999), min_p(gone, 0.0)):
        assert kept([1.0, None, 0.0], found) == {0, 2}


@given(LOGITS, st.floats(0.05, 3), st.integers(0, 6), P, st.floats(0, 1))
def test_something_is_always_left(values, temperature, k, p, m):
    left = Sampling(temperature, k, p, m).filtered(tensor(values))
    assert left.isfinite().any()
    assert left.argmax() == tensor(values).argmax()


def test_the_order_is_temperature_top_k_top_p_min_p():
    values = np.log([0.5, 0.25, 0.15, 0.1])
    # Of the three that top-k leaves, 0.5/0.9 + 0.25/0.9 >= 0.8: without it, 0.75 < 0.8.
    assert kept_by(values, top_k=3, top_p=0.8) == {0, 1}
    assert kept_by(values, top_p=0.8) == {0, 1, 2}
    # At temperature 1/2 the probabilities are squared: 0.25 : 0.0625 = 4.
    assert kept_by(values, temperature=0.5, min_p=0.3) == {0}
    assert kept_by(values, min_p=0.3) == {0, 1, 2}


def kept_by(values, **options):
    left = Sampling(**options).filtered(tensor(values))
    return {i for i, z in enumerate(left.tolist()) if z > -math.inf}


@given(LOGITS, st.floats(0, 1, exclude_max=True))
def test_the_draw_is_the_inverse_of_the_distribution(values, uniform):
    probabilities = dict(ranked(values))
    cumulative = 0.0
    for wanted in range(len(values)):
        cumulative += probabilities[wanted]
        assume(abs(cumulative - uniform) > 1e-12)
        if cumulative > uniform:
            break
    assert Sampling().choose(tensor(values), uniform) == wanted


@given(LOGITS, st.floats(0, 1, exclude_max=True))
def test_greedy_is_the_first_of_the_largest(values, uniform):
    chosen = Sampling(temperature=0.0).choose(tensor(values), uniform)
    assert chosen == values.index(max(values))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_removed_token_is_never_drawn(uniform):
    logits = tensor([-5.0, 2.0, 2.0, -5.0])
    assert Sampling(top_k=2).choose(logits, uniform) in (1, 2)
    assert Sampling(temperature=1e-310).choose(logits, uniform) in (1, 2)


def test_logits_that_are_not_finite():
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ArithmeticError, match="not finite"):
            Sampling().choose(tensor([0.0, bad]), 0.5)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"temperature": -1}, "temperature -1"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"top_k": -1}, "top-k -1"),
        ({"top_p": 0}, "top-p 0"),
        ({"top_p": 1.5}, "top-p 1.5"),
        ({"min_p": -0.1}, "min-p -0.1"),
        ({"min_p": 2}, "min-p 2"),
    ],
)
def test_values_out_of_range(options, named):
    with pytest.raises(ValueError, match=named):
        Sampling(**options)
