"""Every branch of the rule, on numbers whose verdict is known."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from matrix.evidence import stats
from matrix.evidence.verdict import Contrast, Rule, decide

RULE = Rule()
SD = 0.0013


def noise(n: int, sd: float = SD) -> np.ndarray:
    """n numbers of mean 0 and standard deviation sd (n−1), none of them equal."""
    raw = np.random.default_rng(n).normal(size=n)
    return sd * (raw - raw.mean()) / raw.std(ddof=1)


def contrast(d, step: str = "arm", **changes) -> Contrast:
    """A contrast with these differences, seeds from 1."""
    control = {seed: 3.3 + 0.01 * math.sin(seed) for seed in range(1, len(d) + 1)}
    arm = {seed: control[seed] + x for seed, x in zip(control, d)}
    return Contrast(step, arm, control, **changes)


def one(d, rule: Rule = RULE, **changes):
    (verdict,) = decide([contrast(d, **changes)], rule)
    return verdict


@pytest.mark.parametrize(
    "n, shift, told",
    [
        (3, -0.01, "LIMITED better"),
        (3, +0.01, "LIMITED worse"),
        (5, -0.01, "LIMITED better"),
        (6, -0.01, "SUPPORTED better"),
        (6, +0.01, "SUPPORTED worse"),
        (10, -0.01, "SUPPORTED better"),
        (3, -0.002, "UNRESOLVED"),
        (6, 0.0, "NEUTRAL"),
        (6, 0.0015, "UNRESOLVED"),
        (1, -0.01, "NON_DIAGNOSTIC"),
        (2, -0.01, "NON_DIAGNOSTIC"),
    ],
)
def test_the_words(n, shift, told):
    sd = SD if n > 1 else 0.0
    d = noise(n, sd) + shift if n > 1 else [shift]
    assert one(d).label == told


def test_a_real_improvement_with_its_numbers():
    d = noise(6) - 0.01
    verdict = one(d)
    assert verdict.label == "SUPPORTED better" and verdict.reasons == ()
    found = verdict.measured
    assert found.difference == pytest.approx(-0.01) and found.sd == pytest.approx(SD)
    assert found.p == pytest.approx(stats.paired_t(d).p, rel=1e-6)
    assert (found.adjusted, found.level) == (found.p, 0.05)
    assert found.flip == 2 / 2**6
    assert found.interval == pytest.approx(stats.interval(d, 0.95), abs=1e-12)
    assert found.narrow == pytest.approx(stats.interval(d, 0.90), abs=1e-12)
    assert list(verdict.differences.values()) == pytest.approx(d)
    assert found.bca is None


def test_the_direction_of_a_metric():
    d = noise(6) - 0.01
    assert one(d, Rule(lower_is_better=False)).label == "SUPPORTED worse"
    assert one(-d, Rule(lower_is_better=False)).label == "SUPPORTED better"


def test_a_sign_flip_can_stop_what_the_t_test_lets_pass():
    """Five seeds agree, one points the other way by little: flip p = 4 / 64."""
    d = np.array([0.0100, 0.0101, 0.0099, 0.0102, 0.0098, -0.0012])
    verdict = one(d)
    assert verdict.measured.adjusted <= 0.05 < verdict.measured.flip
    assert verdict.label == "UNRESOLVED"
    assert one(d[:5]).label == "LIMITED worse"


@pytest.mark.parametrize("m, told", [(1, "SUPPORTED better"), (18, "UNRESOLVED")])
def test_the_family_is_paid_for(m, told):
    """p = 0.01 alone stands; as the first of 18 it would need 0.0028."""
    t = scipy_stats.t.isf(0.01 / 2, 5)
    d = noise(6) - t * SD / math.sqrt(6)
    flat = [contrast(noise(6), f"flat{k}") for k in range(m - 1)]
    verdict = decide([*flat, contrast(d)], RULE)[-1]
    assert verdict.measured.p == pytest.approx(0.01)
    assert verdict.measured.adjusted == pytest.approx(m * verdict.measured.p)
    assert verdict.label == told


def test_eighteen_arms_of_which_two_are_true():
    arms = [contrast(noise(6), f"flat{k}") for k in range(16)]
    arms += [contrast(noise(6) - 0.02, "good"), contrast(noise(6) + 0.02, "bad")]
    claims = ["SUPPORTED better", "SUPPORTED worse"]
    told = [verdict.label for verdict in decide(arms, RULE)]
    assert told == ["UNRESOLVED"] * 16 + claims, "each is within ± 0.002 by itself"
    told = [verdict.label for verdict in decide(arms, Rule(smallest=0.0035))]
    assert told == ["NEUTRAL"] * 16 + claims


def test_lost_arms_stay_in_the_family():
    d = noise(6) - 0.0021
    alone = one(d)
    lost = [
        contrast([], "failed", invalid=("seed 2 failed",)),
        contrast(noise(6) - 0.01, "unfair", unfair=("dtype differs",)),
        contrast(noise(2) - 0.01, "short"),
    ]
    family = decide([contrast(d), *lost], RULE)
    assert family[0].measured.adjusted == pytest.approx(4 * alone.measured.p)
    assert [v.outcome for v in family[1:]] == ["INVALID", *["NON_DIAGNOSTIC"] * 2]
    assert [v.measured for v in family[1:]] == [None] * 3
    assert family[1].reasons == ("seed 2 failed",)
    assert family[2].reasons == ("dtype differs",)


def test_an_aa_arm_is_measured_outside_the_family():
    d = noise(6) - 0.01
    good, floor = decide([contrast(d), contrast(noise(6), "aa", aa=True)], RULE)
    assert good.measured.adjusted == one(d).measured.adjusted
    assert (floor.label, floor.measured.level) == ("A/A", 0.05)
    (wild,) = decide([contrast(noise(6) - 0.01, "aa", aa=True)], RULE)
    assert wild.label == "A/A" and wild.measured.adjusted < 0.05
    (lost,) = decide([contrast(noise(6), aa=True, invalid=("x",))], RULE)
    assert lost.label == "INVALID"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(bad):
    d = noise(6)
    d[2] = bad
    verdict = one(d)
    assert verdict.label == "INVALID"
    assert verdict.reasons == ("not a finite number in seed 3",)
    assert verdict.r is None and verdict.outliers == ()


def test_a_missing_seed_and_none_in_common():
    whole = contrast(noise(6) - 0.01)
    short = {k: v for k, v in whole.arm.items() if k != 4}
    (verdict,) = decide([Contrast("a", short, whole.control)], RULE)
    assert (verdict.label, verdict.reasons) == ("INVALID", ("without a pair: seed 4",))
    assert len(verdict.differences) == 5
    moved = {k + 10: v for k, v in whole.arm.items()}
    (verdict,) = decide([Contrast("a", moved, whole.control)], RULE)
    assert verdict.label == "INVALID" and verdict.differences == {}
    (verdict,) = decide([Contrast("a", {}, {})], RULE)
    assert verdict.reasons == ("no run has the metric",)


def test_bit_identical_arms_say_nothing():
    verdict = one([0.0] * 6)
    assert verdict.label == "NON_DIAGNOSTIC"
    assert verdict.reasons[0].startswith("bit-identical to the control in all 6 seeds")
    assert verdict.r == pytest.approx(1.0)


def test_differences_without_spread():
    verdict = one([0.0100000] * 6)  # equal but for the rounding of 3.3 + 0.01
    assert verdict.label == "NON_DIAGNOSTIC"
    assert "all 6 differences are +0.01" in verdict.reasons[0]


def test_neutral_needs_a_smallest_effect_and_a_narrow_interval():
    assert one(noise(6), Rule(smallest=None)).label == "UNRESOLVED"
    assert one(noise(6), Rule(smallest=0.0005)).label == "UNRESOLVED"
    low, high = one(noise(6)).measured.narrow
    assert -0.002 < low < 0 < high < 0.002


def test_unresolved_says_what_could_be_seen():
    """Of one arm the pooled spread is its own; the numbers are those of its ends."""
    found = one(noise(6) + 0.0015).measured.planning
    assert (found.spread.sd, found.spread.df) == (pytest.approx(SD), 5)
    for seen, sd in zip(found.visible, (found.spread.low, found.spread.high)):
        assert stats.both_power(6, seen / sd, 0.05, 0.05) == pytest.approx(
            0.8, abs=1e-3
        )
    wide = one(noise(6, 0.004)).measured.planning
    ends = [
        stats.seeds_needed(sd, 0.002, 0.05)
        for sd in (wide.spread.low, wide.spread.high)
    ]
    assert list(wide.needed) == ends and ends[0] < 35 < ends[1]
    few = one(noise(5) + 0.0015).measured.planning
    ratio = few.visible[1] / few.spread.high
    assert stats.power(5, ratio, 0.05) == pytest.approx(0.8)
    none = one(noise(6), Rule(smallest=None)).measured.planning
    assert (none.needed, none.power, none.exaggeration) == (None,) * 3


def test_a_small_alpha_takes_seeds_that_can_flip_to_it():
    strict = Rule(alpha=0.01)
    assert (strict.fewest, Rule().fewest, Rule(alpha=0.2).fewest) == (8, 6, 6)
    assert one(noise(7, 0.0001) - 1.0, strict).label == "LIMITED better"
    assert one(noise(8, 0.0001) - 1.0, strict).label == "SUPPORTED better"
    assert one(noise(7), strict).measured.planning.needed[0] >= 8


def test_more_seeds_than_can_be_enumerated():
    assert one(noise(46, 0.001) - 0.01).label == "SUPPORTED better"
    assert one(noise(46, 0.001)).label == "NEUTRAL"


def test_a_significant_but_tiny_effect_is_supported():
    assert one(noise(10, 0.00001) - 0.0001).label == "SUPPORTED better"


def test_outliers_are_marked_and_kept():
    d = noise(6) - 0.01
    d[4] = 0.2
    verdict = one(d)
    assert verdict.outliers == (5,)
    assert verdict.differences[5] == pytest.approx(0.2)
    assert verdict.label == "UNRESOLVED"


def test_the_bootstrap_describes_from_20_seeds_on():
    assert one(noise(20)).measured.bca is not None
