"""Tests and sample sizes against scipy, brute force and published figures."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from matrix.evidence import stats
from matrix.results import selection

SD = 0.0013  # nats/token over the seeds, and of paired differences at r = 0.5


def sample(n: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, n)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 20])
def test_the_paired_t_test_is_scipys(n):
    a, b = sample(n, 1, 0.3), sample(n, 2)
    found, expected = stats.paired_t(a - b), scipy_stats.ttest_rel(a, b)
    assert found.t == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.n, found.mean) == (n, pytest.approx((a - b).mean(), rel=1e-12))
    for level in (0.90, 0.95, 1 - 0.05 / 18):
        theirs = expected.confidence_interval(level)
        assert stats.interval(a - b, level) == pytest.approx(tuple(theirs), rel=1e-9)


@pytest.mark.parametrize(
    "values, cause",
    [
        ([0.1], "1 values, at least 2"),
        ([0.1, math.nan], "not finite"),
        ([0.1, math.inf, 0.2], "not finite"),
        ([0.5, 0.5, 0.5], "no spread"),
        ([0.0, 0.0], "no spread"),
    ],
)
def test_what_no_t_test_can_judge(values, cause):
    with pytest.raises(ValueError, match=cause):
        stats.paired_t(values)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match="level"):
        stats.interval([1.0, 2.0, 3.0], level)


def brute_force(d) -> float:
    """Every sign pattern, one by one, in exact integers."""
    patterns = list(itertools.product((1, -1), repeat=len(d)))
    sums = [abs(sum(s * x for s, x in zip(pattern, d))) for pattern in patterns]
    return sum(total >= abs(sum(d)) for total in sums) / len(patterns)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 9, 12])
@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_against_all_patterns(n, seed):
    d = np.random.default_rng(seed).integers(-4, 9, n).tolist()  # with ties and 0
    assert stats.sign_flip(d) == brute_force(d)
    assert stats.sign_flip([0.1 * x for x in d]) == brute_force(d)  # rounded sums


@pytest.mark.parametrize("n, p", [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_least_p_of_a_sign_flip(n, p):
    assert stats.sign_flip([0.01 + 0.001 * k for k in range(n)]) == p


def test_sign_flips_of_nothing_and_of_many():
    assert stats.sign_flip([0.0] * 6) == 1.0
    assert stats.sign_flip(sample(26, 3) + 0.4) == pytest.approx(
        scipy_stats.permutation_test(
            (sample(26, 3) + 0.4,),
            np.mean,
            permutation_type="samples",
            n_resamples=20_000,
            rng=np.random.default_rng(0),
        ).pvalue,
        abs=0.01,
    )
    assert stats.sign_flip(np.ones(40)) == 2.0**-39


def test_sign_flips_of_more_than_can_be_enumerated(monkeypatch):
    """Random patterns and the observed one: near the exact p, never below the least."""
    d = sample(30, 5)
    d += 0.3 * d.std() - d.mean()
    exact = stats.sign_flip(d)
    monkeypatch.setattr(stats, "MOST_FLIPPED", 29)
    assert 0.01 < exact < 0.5
    assert stats.sign_flip(d) == stats.sign_flip(d) == pytest.approx(exact, abs=0.002)
    assert stats.sign_flip(np.ones(60)) == 1e-6
    assert stats.sign_flip([0.1, -0.1] * 30) == 1.0


@pytest.mark.parametrize("alpha, n", [(0.05, 6), (2**-5, 6), (0.03, 7), (0.01, 8)])
def test_the_fewest_that_can_flip_to_a_level(alpha, n):
    assert selection.fewest_flips(alpha) == n
    assert stats.sign_flip(np.ones(n)) <= alpha < stats.sign_flip(np.ones(n - 1))


@pytest.mark.parametrize(
    "n, ratio, level", [(6, 1.4, 0.05), (8, 1.2, 0.01), (10, 0.9, 0.02)]
)
def test_power_of_both_tests_by_simulation(n, ratio, level):
    rng, passed = np.random.default_rng(99), 0
    for _ in range(1500):
        d = rng.normal(ratio, 1.0, n)
        found = stats.paired_t(d)
        passed += found.t > 0 and found.p <= level and stats.sign_flip(d) <= level
    assert stats.both_power(n, ratio, level, level) == pytest.approx(
        passed / 1500, abs=0.04
    )
    assert stats.both_power(n, ratio, level, None) == stats.power(n, ratio, level)
    assert stats.both_power(13, ratio, level, level) == stats.power(13, ratio, level)


def test_power_of_both_where_no_flip_is_rare_enough():
    assert stats.both_power(5, 50.0, 0.05, 0.05) == 0.0
    assert stats.seeds_needed(1e-9, 1.0, 0.05, 0.05) == 6


def test_holm_by_hand():
    """m = 4: 4 × 0.01, 3 × 0.013, 2 × 0.04, 1 × 0.5, made monotone."""
    found = stats.holm([0.5, 0.01, 0.04, 0.013], 0.05)
    assert [each.adjusted for each in found] == pytest.approx([0.5, 0.04, 0.08, 0.04])
    stopped = 0.05 / 2  # at 0.04 > 0.05 / 2; what comes after it is held there too
    expected = [stopped, 0.05 / 4, stopped, 0.05 / 3]
    assert [each.level for each in found] == pytest.approx(expected)


def test_holm_of_one_and_of_none():
    assert stats.holm([0.04], 0.05) == [stats.Holm(0.04, 0.05)]
    assert stats.holm([], 0.05) == []
    with pytest.raises(ValueError, match="outside"):
        stats.holm([0.1, math.nan], 0.05)


@pytest.mark.parametrize("m", [1, 3, 18])
@pytest.mark.parametrize("seed", range(5))
def test_the_holm_interval_excludes_zero_where_holm_rejects(m, seed):
    random = np.random.default_rng(seed)
    arms = random.normal(random.choice([0.0, 0.5, 2.0], (m, 1)), 1.0, (m, 6))
    family = stats.holm([stats.paired_t(d).p for d in arms], 0.05)
    for d, each in zip(arms, family):
        low, high = stats.interval(d, 1 - each.level)
        assert (low > 0 or high < 0) == (each.adjusted <= 0.05)


def test_missing_arms_make_the_others_harder():
    alone = stats.holm([0.02], 0.05)[0].adjusted
    assert alone == 0.02
    assert stats.holm([0.02, 1.0, 1.0], 0.05)[0].adjusted == pytest.approx(0.06)


def test_correlation():
    a, b = sample(9, 1), sample(9, 2)
    assert stats.correlation(a, b) == pytest.approx(
        scipy_stats.pearsonr(a, b).statistic, abs=1e-12
    )
    assert stats.correlation(a, a) == pytest.approx(1.0)
    assert stats.correlation([1, 2], [2, 1]) is None
    assert stats.correlation([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="pairs"):
        stats.correlation([1, 2, 3], [1, 2])


@pytest.mark.parametrize("n", [2, 3, 6, 10, 500])
@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.2, 3.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 18])
def test_power_is_the_tail_of_the_noncentral_t(n, ratio, alpha):
    limit = scipy_stats.t.isf(alpha / 2, n - 1)
    expected = scipy_stats.nct.sf(limit, n - 1, ratio * math.sqrt(n))
    assert stats.power(n, ratio, alpha) == pytest.approx(expected, abs=1e-5)


def test_power_at_its_ends():
    assert stats.power(6, 1e9, 0.05) == pytest.approx(1.0)
    assert stats.power(6, 0.0, 0.05) == pytest.approx(0.025, abs=1e-5)


@pytest.mark.parametrize(
    "r, alpha, seeds",
    [
        (0.5, 0.05, 6),
        (0.8, 0.05, 4),
        (0.5, 0.05 / 18, 11),
        (0.8, 0.05 / 18, 7),
    ],
)
def test_seeds_needed_for_two_millinats(r, alpha, seeds):
    """The figures of docs/evidence.md."""
    sd = SD * math.sqrt(2 * (1 - r))
    assert stats.seeds_needed(sd, 0.002, alpha) == seeds
    assert (
        stats.visible(seeds, sd, alpha) <= 0.002 < stats.visible(seeds - 1, sd, alpha)
    )


def test_seeds_needed_has_an_end():
    assert stats.seeds_needed(1.0, 1e-6, 0.05) is None
    assert stats.seeds_needed(1e-9, 1.0, 0.05) == 2


def test_visible_has_the_power_it_claims():
    assert stats.power(5, stats.visible(5, 1.0, 0.01), 0.01) == pytest.approx(0.8)
    assert stats.visible(5, 3.0, 0.01) == pytest.approx(3 * stats.visible(5, 1.0, 0.01))


def test_outliers_are_found_and_rare():
    assert stats.outliers([0.1, 0.11, 0.09, 0.1, 0.12, 0.9]) == (5,)
    assert stats.outliers([0.1, 0.1, 0.1, 0.2]) == (3,)
    assert stats.outliers([0.1, 0.1, 0.1]) == stats.outliers([0.1, 9.0]) == ()
    random = np.random.default_rng(1)
    for n in (3, 6):
        marked = [bool(stats.outliers(d)) for d in random.normal(0, 1, (600, n))]
        assert np.mean(marked) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_bca_only_describes_many():
    assert stats.bca(sample(19)) is None
    assert stats.bca(np.ones(30)) is None
    low, high = stats.bca(sample(30))
    assert (low, high) == stats.bca(sample(30))  # the same every time
    t = stats.interval(sample(30), 0.95)
    assert (low, high) == pytest.approx(t, abs=0.15)


def test_ties_forgive_rounding():
    assert stats.tied([3.3 - 3.1, 2.3 - 2.1], scale=3.3)
    assert stats.tied([0.1 + 0.2, 0.3])
    assert not stats.tied([0.1, 0.1000001])
