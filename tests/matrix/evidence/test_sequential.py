"""Looks at a group-sequential confirmation: the law, what stops an arm, what is kept."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from matrix.evidence import sequential, stats
from matrix.evidence.sequential import CLAIM, END, EQUAL, FLAT, GIVEN_UP, LIVE, LOST
from matrix.evidence.sequential import Design, EQUALITY, GAIN, WORSE, replay
from matrix.evidence.looks import judge
from matrix.evidence.verdict import Contrast, Rule
from matrix.results.selection import Looks

LOOKS = (6, 8, 10, 12)
NOISE = np.random.default_rng(7).standard_normal(12) * 0.001


def test_one_look_is_the_plain_t_test():
    d = NOISE[:6] - 0.001
    found = replay(d[None], Design((6,)))
    p = scipy_stats.ttest_1samp(d, 0).pvalue
    assert found.p_XA == pytest.approx([p])
    ends = sequential.repeated_interval(d, (6,), 1, 0.05)
    assert ends == pytest.approx(stats.interval(d, 0.95))


def test_a_repeated_p_is_never_zero_and_one_without_a_look():
    law = sequential.laws(LOOKS).two_sided
    assert law.p(np.array(0.0)) == 1 / (sequential.DRAWS + 1)
    assert law.p(np.array(np.inf)) == 1.0


def test_the_limit_is_where_p_passes_the_level():
    law = sequential.laws(LOOKS).two_sided
    for level in (0.05, 0.0125, 0.5):
        limit = law.limit(level)
        assert law.p(np.array(limit)) > level
        assert law.p(np.array(np.nextafter(limit, 0))) <= level


def test_holm_is_the_same_as_of_single_p_values():
    p = np.random.default_rng(3).uniform(size=(50, 7)) ** 3
    found = sequential.holm_adjusted(p)
    for mine, row in zip(found, p):
        assert mine == pytest.approx([h.adjusted for h in stats.holm(row, 0.05)])


def states(*arms, **settings):
    return replay(np.array(arms), Design(LOOKS, **settings))


def test_a_huge_effect_stops_at_the_first_look_and_the_rest_is_not_read():
    d = NOISE - 0.02
    rubbish = d.copy()
    rubbish[6:] = np.nan
    found = states(rubbish, NOISE)
    assert found.state_XA[0] == CLAIM and found.n_XA[0] == 6
    assert found.mean_XA[0] == pytest.approx(d[:6].mean())


def test_the_sign_flip_test_can_hold_a_claim_back():
    d = np.full(12, -0.01) + NOISE * 0.01
    assert states(d, alpha=0.04).state_XA[0] == CLAIM
    # six seeds flip to 2 / 2^6 at best
    assert states(d, alpha=0.03).n_XA[0] == 8


def test_equal_arms_stop_as_neutral_and_only_with_a_smallest_effect():
    quiet = NOISE * 0.3
    assert states(quiet).state_XA[0] == EQUAL
    assert states(quiet, smallest=None).state_XA[0] == END


@pytest.mark.parametrize(
    "pursue, state", [(GAIN, GIVEN_UP), (EQUALITY, END), (WORSE, END)]
)
def test_what_is_pursued_decides_when_an_arm_is_given_up(pursue, state):
    # too noisy to be equal, not surely worse, and a gain of 0.0005 is out of sight
    d = NOISE - NOISE.mean() + 0.0003
    assert states(d, smallest=0.0005, pursue=pursue, alpha=1e-4).state_XA[0] == state


def with_t(t, sign):
    """Six differences whose paired t is `t`."""
    z = scipy_stats.zscore(np.linspace(-1, 1, 6), ddof=1)
    return sign * 0.001 * (1 + z * np.sqrt(6) / t)


def test_an_arm_that_stopped_is_claimed_once_holm_allows_it():
    """Its Q is frozen; the other arm's claim lowers the factor it is held against."""
    worse = np.concatenate([with_t(3.95, +1), np.full(6, np.nan)])
    better = np.concatenate([with_t(3.0, -1), np.full(6, -0.001)])
    design = Design(LOOKS, smallest=0.0001)
    first = replay(np.array([worse, better]), design, np.array([6, 6]))
    assert list(first.state_XA) == [GIVEN_UP, LIVE]
    assert 0.025 < first.p_XA[0] <= 0.05 < first.adjusted_XA[0]
    found = replay(np.array([worse, better]), design)
    assert list(found.state_XA) == [CLAIM, CLAIM]
    assert found.n_XA[0] == 6 < found.n_XA[1]
    assert found.mean_XA[0] == pytest.approx(0.001)


def test_a_lost_run_keeps_the_arm_in_the_family_with_p_one():
    d = np.array([NOISE - 0.02, NOISE - 0.02])
    found = replay(d, Design(LOOKS), np.array([5, 12]), np.array([True, False]))
    assert list(found.state_XA) == [LOST, CLAIM]
    assert found.p_XA[0] == 1.0
    assert found.adjusted_XA[1] == pytest.approx(2 * found.p_XA[1])


def test_a_look_is_judged_when_every_live_arm_has_its_seeds():
    d = np.array([NOISE, NOISE[::-1] - 0.02])
    waiting = replay(d, Design(LOOKS), np.array([12, 5]))
    assert waiting.looks_X == 0 and list(waiting.state_XA) == [LIVE, LIVE]


def test_differences_without_spread_are_no_evidence():
    found = states(np.full(12, -0.004), NOISE)
    assert found.state_XA[0] == FLAT and found.p_XA[0] == 1.0


def test_the_repeated_interval_excludes_zero_where_the_repeated_p_is_small():
    rng = np.random.default_rng(11)
    for shift in np.linspace(0, 0.002, 40):
        d = rng.standard_normal(12) * 0.001 - shift
        found = replay(d[None], Design(LOOKS, smallest=None, pursue=WORSE))
        last = int(found.look_XA[0])
        low, high = sequential.repeated_interval(d, LOOKS, last, 0.05)
        assert (low > 0 or high < 0) == (found.p_XA[0] <= 0.05)


@pytest.mark.parametrize("looks", [(), (1, 6), (6, 6), (8, 6)])
def test_looks_must_rise(looks):
    with pytest.raises(ValueError, match="do not rise"):
        sequential.laws(looks)


def test_a_claim_keeps_the_holm_p_of_its_look():
    """A later loss of another arm raises the others' Holm p; what was claimed stands,
    and is printed as it was."""
    rule = Rule(0.055, 0.0001)
    worse = dict(zip(range(12), with_t(4.6, -1)))
    other = np.array([1e-5, -1e-3, -1.001e-3, -1.002e-3, -1.003e-3, -1.004e-3])
    seeds = tuple(range(12))
    control = dict.fromkeys(range(12), 3.0)
    arms = [
        Contrast("claimed", {k: 3.0 + d for k, d in worse.items()}, control),
        Contrast("lost", dict(zip(range(6), 3.0 + other)), control, lost={6: "lost"}),
        Contrast("null", {k: 3.0 + NOISE[k] for k in seeds}, control),
    ]
    (claimed, lost, _), _ = judge(arms, "control", rule, Looks(LOOKS, seeds))
    assert (claimed.outcome, lost.outcome) == ("SUPPORTED", "INVALID")
    assert claimed.measured.adjusted <= 0.055
    low, high = claimed.measured.interval
    assert high < 0
