"""The oracle of sequential.py against scipy's tests and studies worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.oracles import sequential
from tests.oracles.sequential import decide, holm, repeated_p

D = [-0.0021, 0.0004, -0.0013, -0.0030, 0.0011, -0.0009, -0.0017]
TABLE = {
    0.05: (0.0133, 0.0177, 0.0222, 0.0266),
    0.0125: (0.0030, 0.0039, 0.0049, 0.0059),
}
LOOKS = (6, 8)
LAWS = sequential.Laws(LOOKS, *2 * [[i / 1000 for i in range(1, 1000)]])
"""P(Q) = Q in steps of 0.001: Q = 0.0125 has 12 values below it, P = 13/1000."""


def test_single_tests_are_scipys():
    for theta in (0.0, -0.002, 0.001):
        whole = stats.ttest_1samp(D, theta)
        assert sequential.two_sided(D, theta) == pytest.approx(whole.pvalue)
        greater = stats.ttest_1samp(D, theta, alternative="greater").pvalue
        assert sequential.above(D, theta) == pytest.approx(greater)
        less = stats.ttest_1samp(D, theta, alternative="less").pvalue
        assert sequential.below(D, theta) == pytest.approx(less)
    flips = stats.permutation_test(
        (D,), np.sum, permutation_type="samples", n_resamples=math.inf
    )
    assert sequential.sign_flip(D) == pytest.approx(flips.pvalue)


def test_the_sign_flip_counts_ties():
    # |±1 ± 1 ± 2| reaches 2 in 6 of 8 patterns, and 4 in 2
    assert sequential.sign_flip([1, -1, 2]) == 6 / 8
    assert sequential.sign_flip([1, 1, 2]) == 2 / 8
    assert sequential.sign_flip([0.1] * 3 + [-0.3]) == 1.0


def test_holm_stops_where_a_p_is_too_large():
    # 3 · 0.01, 2 · 0.04 > 0.05, so the last is held against 0.05 / 2 too
    adjusted, levels = zip(*holm([0.045, 0.01, 0.04], 0.05))
    assert adjusted == pytest.approx((0.08, 0.03, 0.08))
    assert levels == pytest.approx((0.025, 0.05 / 3, 0.025))


def test_the_published_boundary():
    """Three standard errors of 400,000 sequences are 2 % at 0.0125, 1 % at 0.05."""
    looks = (6, 8, 10, 12)
    law = sequential.boundary(looks, 400_000, 1).two_sided
    for alpha, nominal in TABLE.items():
        q = nominal[-1]
        assert repeated_p(q, law, looks) == pytest.approx(alpha, rel=0.03)
        assert nominal == pytest.approx([q * n / 12 for n in looks], abs=1e-4)


def test_one_look_is_p_itself_and_no_p_is_zero():
    assert repeated_p(0.0312, [], (6,)) == 0.0312
    assert repeated_p(0.0, LAWS.two_sided, LOOKS) == 1 / 1000
    assert repeated_p(2.0, LAWS.two_sided, LOOKS) == 1.0


def test_looks_of_a_small_alpha_begin_where_flips_suffice():
    # 2 / 2^8 = 0.0078 is the first ≤ 0.01
    assert sequential.looks_for((6, 8, 10, 12), 0.01) == (8, 10, 12)
    assert sequential.looks_for((6, 12), 0.01) == (8, 12)
    assert sequential.looks_for((6, 12), 0.05) == (6, 12)


def spread(mean: float, t: float, n: int = 6) -> list[float]:
    """n differences, ± alternating, of this mean and this t."""
    wave = [(-1.0) ** i for i in range(n)]
    error = sequential.standard_error(wave)
    return [mean + w * abs(mean / t) / error for w in wave]


def test_an_arm_costs_the_look_where_it_stops_and_the_control_the_last():
    arms = {
        "claimed": spread(-0.02, -20) + [None, None],
        "equal": spread(0.0001, 0.9) + [None, None],
        "worse": spread(0.003, 3) + [None, None],
        "open": spread(-0.003, -2) + [0.001, -0.004],
        "lost": spread(-0.02, -20) + [0.0, None],
    }
    result = decide(arms, LOOKS, 0.05, 0.002, "equality", LAWS)
    outcomes = {name: (arm.outcome, arm.n) for name, arm in result.arms.items()}
    assert outcomes == {
        "claimed": ("SUPPORTED", 6),
        "equal": ("NEUTRAL", 6),
        "worse": ("UNRESOLVED", 6),
        "open": ("UNRESOLVED", 8),
        "lost": ("SUPPORTED", 6),
    }
    assert result.runs == 6 + 6 + 6 + 8 + 6 + 8
    assert result.arms["claimed"].direction == "better"
    assert result.arms["worse"].reason == "futility"


def test_a_stopped_arm_is_claimed_when_holm_allows_it():
    """|t| = 3.7 with 5 degrees of freedom: p 0.0140, over 6/8 0.0187, P 0.019; two
    arms: 0.038 > α. The other arm's p at look 2 halves the factor; flips 2 / 2^6 < α.
    """
    arms = {
        "stopped": spread(0.003, 3.7) + [None, None],
        "late": spread(-0.003, -3.6) + [-0.003, -0.003],
    }
    settings = (0.0321, 0.0001, "equality", LAWS)
    first = decide(arms, LOOKS, *settings, until=1).arms["stopped"]
    assert (first.reason, first.p, first.holm) == ("futility", 0.019, 0.038)
    last = decide(arms, LOOKS, *settings).arms
    assert last["late"].p < 0.019 and last["late"].outcome == "SUPPORTED"
    stopped = last["stopped"]
    assert (stopped.outcome, stopped.direction) == ("SUPPORTED", "worse")
    assert (stopped.look, stopped.n, stopped.claimed) == (1, 6, 2)
    assert (stopped.p, stopped.holm) == (0.019, 0.019)


def test_the_interval_excludes_zero_where_holm_refuses_it():
    looks = (6, 8)
    for mean in (-0.004, -0.002, 0.003):
        d = {"a": spread(mean, 2.9) + [mean, mean], "b": spread(0.001, 1.5) + [0, 0]}
        for arm in decide(d, looks, 0.05, 1e-6, "worse", LAWS).arms.values():
            low, high = arm.interval
            assert (low > 0 or high < 0) == (arm.holm <= 0.05)


def test_higher_is_better_turns_the_words_and_the_interval_back():
    d = {"a": spread(0.02, 20) + [None, None]}
    arm = decide(d, LOOKS, 0.05, 0.002, "gain", LAWS, lower_is_better=False).arms["a"]
    assert arm.direction == "better" and 0 < arm.interval[0] < 0.02 < arm.interval[1]
