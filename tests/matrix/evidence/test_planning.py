"""What seeds can see, with its error: spread, ranges, exaggeration, by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from matrix.evidence import planning, stats
from matrix.evidence.planning import Spread, plan, pooled

SD = 0.0013


def drawn(random, runs: int, seeds: int, sd: float = SD) -> np.ndarray:
    """Losses of runs × seeds, the seed's part in common; the SD of a difference is sd."""
    own = random.normal(0, sd / math.sqrt(2), (runs, seeds))
    return 3.3 + 0.01 * np.arange(runs)[:, None] + random.normal(0, 0.01, seeds) + own


@pytest.mark.parametrize("runs, seeds", [(2, 3), (2, 8), (5, 4), (19, 6)])
def test_the_spread_of_a_difference(runs, seeds):
    """Unbiased in its square, whatever the means; two runs: of their differences."""
    random = np.random.default_rng([runs, seeds])
    found = [pooled([drawn(random, runs, seeds)]) for _ in range(2000)]
    assert {each.df for each in found} == {(runs - 1) * (seeds - 1)}
    square = np.mean([each.sd**2 for each in found]) / SD**2
    assert square == pytest.approx(1.0, abs=4 * math.sqrt(2 / found[0].df / 2000))
    table = drawn(random, 2, seeds)
    assert pooled([table]).sd == pytest.approx((table[1] - table[0]).std(ddof=1))


def test_the_interval_of_a_spread_is_that_of_chi_square():
    found = pooled([drawn(np.random.default_rng(1), 4, 6)])
    for end, q in ((found.low, 0.975), (found.high, 0.025)):
        assert end == pytest.approx(
            found.sd * math.sqrt(15 / scipy_stats.chi2.ppf(q, 15))
        )


def test_tables_of_other_seeds_are_pooled():
    random = np.random.default_rng(2)
    one, other = drawn(random, 3, 4), drawn(random, 2, 7)
    a, b = pooled([one]), pooled([other])
    both = pooled([one, other])
    assert both.df == a.df + b.df == 6 + 6
    assert both.sd**2 == pytest.approx((a.sd**2 * a.df + b.sd**2 * b.df) / both.df)


@pytest.mark.parametrize("tables", [[], [[[1.0, 2.0]]], [[[1.0, 2.0], [2.0, 3.0]]]])
def test_nothing_to_plan_with(tables):
    with pytest.raises(ValueError, match="no spread to plan with"):
        pooled(tables)


@pytest.mark.parametrize("arms, seeds, level", [(1, 5, 0.05), (3, 3, 0.05 / 3)])
def test_the_range_of_seeds_holds_the_true_number(arms, seeds, level, monkeypatch):
    """In 95 % of studies; the number at the estimate would be wrong in most."""
    monkeypatch.setattr(stats, "MOST_JOINT", 0)  # the t-test alone: it is quick
    smallest = 0.0006
    true = planning.seeds_needed(SD, smallest, level, 0.05, 6)
    seen = stats.visible(seeds, SD, level)
    random, studies = np.random.default_rng(3), 400
    held = near = differences = 0
    for _ in range(studies):
        spread = pooled([drawn(random, arms + 1, seeds)])
        found = plan(seeds, spread, level, 0.05, 6, smallest)
        held += found.needed[0] <= true <= found.needed[1]
        differences += found.visible[0] <= seen <= found.visible[1]
        near += planning.seeds_needed(spread.sd, smallest, level, 0.05, 6) == true
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    assert held / studies >= 0.95 - error
    assert differences / studies == pytest.approx(0.95, abs=error)
    assert near / studies < 0.3, "one number would do"


@pytest.mark.parametrize(
    "n, ratio, level, power, factor",
    [
        (6, 0.002 / SD, 0.05 / 18, 0.24, 1.19),
        (5, 0.002 / SD, 0.05 / 18, 0.13, 1.22),
        (3, 0.002 / SD, 0.05, 0.33, 1.20),
        (8, 3.0, 0.05, 1.0, 1.0),
    ],
)
def test_how_much_too_large_a_significant_difference_is(n, ratio, level, power, factor):
    """The integral against studies drawn one by one."""
    d = np.random.default_rng(4).normal(ratio, 1.0, (60_000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(n))
    passed = abs(t) > scipy_stats.t.isf(level / 2, n - 1)
    assert passed.mean() == pytest.approx(power, abs=0.01)
    found = planning.exaggeration(n, ratio, level)
    assert found == pytest.approx(abs(d.mean(1)[passed]).mean() / ratio, abs=0.01)
    assert found == pytest.approx(factor, abs=0.01)


def test_what_a_plan_says():
    """Everything at the ends of the spread: little noise first, much noise last."""
    spread = Spread(0.0013, 5, 0.0008, 0.0032)
    found = plan(6, spread, 0.01, 0.05, 6, 0.002)
    assert found.visible[0] == stats.visible(6, 0.0008, 0.01, 0.05)
    assert found.visible[1] == stats.visible(6, 0.0032, 0.01, 0.05)
    assert found.needed == (
        *(6, stats.seeds_needed(0.0032, 0.002, 0.01, 0.05)),
    ), "no fewer than can be SUPPORTED"
    powers = [stats.both_power(6, 0.002 / sd, 0.01, 0.05) for sd in (0.0032, 0.0013)]
    assert found.power[:2] == tuple(powers) and found.power[1] < found.power[2]
    assert found.exaggeration[0] < found.exaggeration[1]
    assert found.exaggeration[1] == planning.exaggeration(6, 0.002 / 0.0032, 0.01)
    few = plan(5, spread, 0.01, 0.05, 6, 0.002)
    assert few.visible[1] == stats.visible(5, 0.0032, 0.01), "the t-test alone"
    assert plan(6, spread, 0.01, 0.05, 6, 1e-5).needed == (None, None)
