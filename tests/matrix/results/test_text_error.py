"""Both errors against a second writing of them, and by simulation of what they claim."""

import math

import numpy as np
import pytest
from scipy import stats

from matrix.evidence.text_claims import p_value
from matrix.results.text_error import two_way


def drawn(rng, S, U, seed, unit, both, effect=0.0, sizes=None):
    """d[s, u] of a study with two crossed random effects, in nats, and its tokens."""
    n_U = np.full(U, 400) if sizes is None else sizes
    a, b = seed * rng.standard_normal((S, 1)), unit * rng.standard_normal(U)
    e = both * rng.standard_normal((S, U))
    return n_U * (effect + a + b + e), n_U


def by_jackknife(d, n):
    """The same by leaving out seeds, units, and one of each: the ratio estimator's
    delete-one jackknife, which shares no formula with `two_way`.
    """
    S, U = d.shape

    def ratio(rows, units):
        return d[np.ix_(rows, units)].sum() / (len(rows) * n[units].sum())

    def without(size, k):
        return [i for i in range(size) if i != k]

    rows, units = list(range(S)), list(range(U))
    by_seed = np.array([ratio(without(S, s), units) for s in rows])
    by_unit = np.array([ratio(rows, without(U, u)) for u in units])
    each = np.array(
        [[ratio(without(S, s), without(U, u)) for u in units] for s in rows]
    )
    seeds = (S - 1) / S * ((by_seed - by_seed.mean()) ** 2).sum()
    text = (U - 1) / U * ((by_unit - by_unit.mean()) ** 2).sum()
    apart = each - by_seed[:, None] - by_unit + ratio(rows, units)
    shared = (S - 1) / S * (U - 1) / U * (apart**2).sum()
    return math.sqrt(seeds), math.sqrt(text), seeds + text - shared


@pytest.mark.parametrize("S, U", [(3, 25), (6, 40), (8, 60)])
def test_the_errors_are_the_jackknifes(S, U):
    rng = np.random.default_rng(S)
    d, n = drawn(rng, S, U, 0.002, 0.02, 0.01, 0.003, rng.integers(380, 420, U))
    found, (seeds, text, both) = two_way(d, n), by_jackknife(d, n)
    assert found.difference == pytest.approx(d.sum() / (S * n.sum()), rel=1e-12)
    assert found.seed_error == pytest.approx(seeds, rel=1e-9)
    assert found.text_error == pytest.approx(text, rel=5e-3)
    assert found.both**2 == pytest.approx(max(both, seeds**2, text**2), rel=1e-2)


def test_the_errors_by_hand():
    """Four numbers: d = [[1, 3], [2, 8]] nats over units of 1 and 3 tokens."""
    found = two_way(np.array([[1.0, 3.0], [2.0, 8.0]]), [1, 3])
    # m = 1, 2.5; D = 1.75; means 1.5, 5.5; unit rests -0.25, 0.25
    assert found.difference == 1.75 and found.seed_error == 0.75
    assert found.text_error == pytest.approx(math.sqrt(2 * 0.125) / 4)
    # rests 0.25, -0.25, -0.25, 0.25 over (2 · 4)²; 2 · 2 of them lost
    shared = 4 * 0.25 / 64
    assert found.both == pytest.approx(math.sqrt(0.5625 + 0.015625 - shared))
    assert (found.units, found.tokens, found.seeds) == (2, 4, 2)


def test_the_share_of_both_is_counted_once_and_never_below_one_source():
    rng = np.random.default_rng(7)
    d, n = drawn(rng, 6, 80, 0.0, 0.0, 0.05)
    found = two_way(d, n)
    assert found.both == pytest.approx(max(found.seed_error, found.text_error), rel=0.2)
    assert found.both >= max(found.seed_error, found.text_error)
    assert found.both < 0.9 * math.hypot(found.seed_error, found.text_error)


CASES = {
    "text": (0.0003, 0.02, 0.005, 8, 100),
    "seeds": (0.002, 0.004, 0.005, 8, 100),
    "even": (0.001, 0.02, 0.02, 6, 200),
    "interaction": (0.0, 0.0, 0.05, 6, 100),
    "three seeds": (0.001, 0.02, 0.02, 3, 100),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_of_both_errors_cover(case):
    """95 % intervals over fresh seeds and fresh units together, of unequal documents."""
    *spread, S, U = CASES[case]
    rng, inside, alone, runs = np.random.default_rng(11), 0, 0, 1000
    for _ in range(runs):
        sizes = rng.integers(50, 1200, U)
        d, n = drawn(rng, S, U, *spread, 0.0, sizes)
        found = two_way(d, n)
        inside += p_value(found) > 0.05
        alone += abs(found.difference) < stats.t.ppf(0.975, S - 1) * found.seed_error
    assert 0.93 <= inside / runs
    assert inside / runs <= (0.999 if case == "interaction" else 0.985)
    if case == "text":
        assert alone / runs < 0.6  # what the verdict's own test says of other text


def test_units_of_other_sizes_are_weighted_by_tokens():
    """One long document with its own difference is one observation, not a thousand."""
    n = np.array([100] * 50 + [50_000])
    d = np.zeros((6, 51)) + 1e-4 * n * np.linspace(0.9, 1.1, 6)[:, None]
    d[:, -1] += 0.01 * n[-1]
    found = two_way(d, n)
    assert found.difference == pytest.approx(d.sum() / (6 * n.sum()))
    assert found.text_error > 10 * found.seed_error


@pytest.mark.parametrize(
    "d, n",
    [
        (np.ones((1, 5)), [1] * 5),
        (np.ones((3, 1)), [1]),
        (np.ones((3, 4)), [1] * 5),
        (np.full((3, 4), np.nan), [1] * 4),
    ],
)
def test_what_has_no_error_is_refused(d, n):
    with pytest.raises(ValueError):
        two_way(d, n)
