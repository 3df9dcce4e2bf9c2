"""The rule at its edges, and on random studies against tests/matrix/byhand.py."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from scipy import stats as scipy_stats

from matrix.evidence import planning, stats
from matrix.evidence.verdict import Contrast, Rule, decide
from matrix.results import selection
from tests.matrix import byhand

UNIT = 1 / 4096
"""Losses and differences are multiples of it: their sums are exact."""
SEEDS = (5, 2, 9, 30, 7, 11, 1, 40)
UP, DOWN = math.inf, -math.inf


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """What the power and the seeds were asked for; they take long."""
    calls = []
    monkeypatch.setattr(planning, "plan", lambda *a: calls.append(a) or len(calls))
    return calls


def contrast(d, step="arm", seeds=SEEDS, **changes) -> Contrast:
    """A contrast with these differences, which are multiples of UNIT."""
    seeds = seeds[: len(d)]
    control = {k: 3 + UNIT * ((k * 37) % 101) for k in seeds}
    return Contrast(
        step, {k: control[k] + x for k, x in zip(seeds, d)}, control, **changes
    )


def drawn(rng: random.Random, n: int) -> list[float]:
    """n differences with a spread."""
    shift, spread = rng.choice([-40, -20, -9, 0, 9, 20, 40]), rng.choice([3, 9, 30])
    while True:
        d = [UNIT * round(rng.gauss(shift, spread)) for _ in range(n)]
        if len(set(d)) > 1:
            return d


def family(rng: random.Random) -> list[tuple[Contrast, bool]]:
    """Some arms, and whether each can be tested: seeds of its own number, ties with
    another arm, lost, unfair and A/A ones.
    """
    made, before = [], None
    for number in range(rng.randint(1, 5)):
        n = rng.choice([2, 3, 4, 5, 6, 6, 7, 8])
        fresh = (drawn(rng, n), tuple(rng.sample(SEEDS, len(SEEDS))))
        d, seeds = before = fresh if before is None or rng.random() < 0.7 else before
        kind = rng.choice(["", "", "", "", "aa", "invalid", "unfair"])
        more = {"aa": {"aa": True}, "invalid": {"invalid": ("lost",)}}
        more |= {"unfair": {"unfair": ("dtype",)}, "": {}}
        one = contrast(d, f"arm{number}", seeds, **more[kind])
        made.append((one, kind in ("", "aa") and len(d) >= 3))
    return made


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2, 1 / 32, 0.03])
@pytest.mark.parametrize("lower", [True, False])
def test_random_studies(asked, alpha, lower):
    """Word, direction and every number of every arm; all words occur."""
    rng, told = random.Random(f"{alpha} {lower}"), Counter()
    for _ in range(30):
        arms = family(rng)
        smallest = rng.choice([None, 0.001, 0.004, 0.01])
        asked.clear()
        rule = Rule(alpha, smallest, lower)
        found = decide([one for one, _ in arms], rule)
        whole = [one for one, _ in arms if not one.aa]
        p = [
            byhand.p_value(list(one.differences.values())) if sound else 1.0
            for one, sound in arms
            if not one.aa
        ]
        names = [one.step for one in whole]
        held = dict(zip(names, byhand.step_down(p, alpha)))
        same: dict[str, float] = {}
        if smallest is not None:
            p = [
                byhand.outside(list(one.differences.values()), smallest) if sound else 1
                for one, sound in arms
                if not one.aa
            ]
            same = {k: a for k, (a, _) in zip(names, byhand.step_down(p, 0.05))}
        able = [(one.arm, one.control) for one, sound in arms if sound and not one.aa]
        spread = byhand.two_way(able) if able else None
        calls = iter(list(asked))
        for (one, sound), verdict in zip(arms, found):
            numbers = held.get(one.step), same.get(one.step)
            check(one, sound, verdict, rule, *numbers, spread, calls)
            told[verdict.label.replace("better", "x").replace("worse", "x")] += 1
        assert next(calls, None) is None
    words = {"A/A", "INVALID", "NON_DIAGNOSTIC", "UNRESOLVED", "NEUTRAL"}
    assert set(told) == {*words, "LIMITED x", "SUPPORTED x"}


def check(one, sound, verdict, rule, held, same, spread, calls) -> None:
    """One verdict against the rule by hand."""
    d = {k: one.arm[k] - one.control[k] for k in sorted(one.arm)}
    assert list(verdict.differences.items()) == list(d.items())
    assert (verdict.step, verdict.r) == (one.step, close(by_seed(one), 1e-9))
    assert verdict.outliers == byhand.outliers(d)
    if not sound:
        lost = "INVALID" if one.invalid else "NON_DIAGNOSTIC"
        assert (verdict.label, verdict.measured) == (lost, None)
        few = f"n = {len(d)}: fewer than 3 seeds say nothing"
        assert verdict.reasons == (one.invalid or one.unfair or (few,))
        return
    values, alpha = list(d.values()), rule.alpha
    p = byhand.p_value(values)
    adjusted, level = held or (p, alpha)
    expected = "A/A"
    if not one.aa:
        expected = byhand.word(values, adjusted, alpha, same)
    if expected in ("LIMITED", "SUPPORTED"):
        good = (sum(values) < 0) is rule.lower_is_better
        expected += " better" if good else " worse"
    assert (verdict.label, verdict.reasons) == (expected, ())
    found, n, sd = verdict.measured, len(d), byhand.deviation(values)
    assert found.difference == close(math.fsum(values) / n)
    assert (found.sd, found.p) == (close(sd), close(p, 1e-9))
    assert found.t == close(found.difference / (sd / math.sqrt(n)), 1e-9)
    assert (found.adjusted, found.level) == (close(adjusted, 1e-9), close(level))
    assert found.flip == byhand.flip(values)
    assert found.interval == close(byhand.interval(values, 1 - level), 1e-9)
    assert found.narrow == close(byhand.interval(values, 0.9), 1e-9)
    assert found.equivalence == close(same, 1e-9)
    if one.aa:
        assert found.planning is None
        return
    seeds, planned, *rest = next(calls)
    assert (planned.sd, planned.df) == (close(spread[0], 1e-6), spread[1])
    fewest = byhand.fewest(alpha)
    assert (seeds, rest) == (n, [close(level), alpha, fewest, rule.smallest])


def close(value, rel=1e-12):
    """approx, also of a tuple or of None."""
    return None if value is None else pytest.approx(value, rel=rel, abs=1e-15)


def by_seed(one: Contrast) -> float | None:
    """r over the seeds that both have."""
    seeds = sorted(one.arm)
    return byhand.correlation(
        [one.arm[k] for k in seeds], [one.control[k] for k in seeds]
    )


# -- exactly at, just inside and just outside

FIVE = [UNIT * x for x in (9, 14, 11, 2, 16)]
SIX = [UNIT * x for x in (9, 14, 11, 2, 16, 3)]
SEVEN = [UNIT * x for x in (30, 31, 29, 32, 28, 33, -1)]


def told(d, alpha=0.05, smallest=None, arms=(), lower=True) -> str:
    """The verdict on d in a family with `arms`."""
    rule = Rule(alpha, smallest, lower)
    return decide([contrast(d), *arms], rule)[0].label


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("d", [FIVE, SIX], ids=len)
def test_the_level_of_the_t_test(asked, d, m):
    """Holm p = α is a claim; the next smaller α is none."""
    others = [contrast(d, f"lost{k}", invalid=("lost",)) for k in range(m - 1)]
    values = list(contrast(d).differences.values())
    alpha = min(1.0, m * stats.paired_t(values).p)
    claim = "LIMITED worse" if len(d) < byhand.fewest(alpha) else "SUPPORTED worse"
    assert told(d, alpha, arms=others) == claim
    assert told(d, math.nextafter(alpha, DOWN), arms=others) == "UNRESOLVED"


def test_the_level_of_the_sign_flips(asked):
    """Seven with one against them: p = 4 / 128 = 1/32, although t would do."""
    assert byhand.flip(SEVEN) == 1 / 32 and byhand.p_value(SEVEN) < 0.005
    assert told(SEVEN, 1 / 32) == "SUPPORTED worse"
    assert told(SEVEN, math.nextafter(1 / 32, DOWN)) == "UNRESOLVED"
    assert told(SEVEN, math.nextafter(1 / 32, UP)) == "SUPPORTED worse"


@pytest.mark.parametrize("alpha, fewest", [(0.05, 6), (1 / 32, 6), (1 / 64, 7)])
def test_how_many_seeds_a_claim_takes(asked, alpha, fewest):
    """LIMITED with one fewer; from three on anything is said."""
    for edge, least in [(alpha, fewest), (math.nextafter(alpha, DOWN), fewest + 1)]:
        if alpha == 0.05:
            least = fewest
        assert Rule(edge).fewest == least
        for n in range(2, 9):
            d = [1 + UNIT * (k % 3) for k in range(n)]
            claim = "SUPPORTED worse" if n >= least else "LIMITED worse"
            assert told(d, edge) == (claim if n > 2 else "NON_DIAGNOSTIC")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [3, 5, 6, 8])
def test_the_edge_of_neutral(asked, sign, n):
    """Of one arm: the 90 % interval lies within ± the smallest effect."""
    d = [sign * UNIT * x for x in (3, -2, 4, 0, 2, -1, 3, 1)[:n]]
    edge = max(map(abs, stats.interval(d, 0.9)))
    assert edge == close(max(map(abs, byhand.interval(d, 0.9))), 1e-9)
    assert stats.equivalence(d, edge) == close(0.05, 1e-9)
    assert told(d, smallest=edge * (1 - 1e-9)) == "UNRESOLVED"
    assert told(d, smallest=edge * (1 + 1e-9)) == "NEUTRAL"
    assert told(d, smallest=None) == "UNRESOLVED"


@pytest.mark.parametrize("kind", [{"invalid": ("lost",)}, {"unfair": ("dtype",)}])
def test_neutral_is_held_over_the_family(asked, kind):
    """m times the p of one arm; lost and unfair arms are paid for, A/A arms are not."""
    d = [UNIT * x for x in (3, -2, 4, 0, 2, -1)]
    alone = stats.equivalence(d, smallest := 6 * UNIT)
    assert alone == close(byhand.outside(d, smallest), 1e-9) and alone < 0.05
    m = 1 + math.floor(0.05 / alone)
    rest = [contrast(d, f"lost{k}", **kind) for k in range(m - 1)]
    again = [contrast(d, "again", aa=True)]
    rule = Rule(0.05, smallest)
    for count, expected in [(m - 1, "NEUTRAL"), (m, "UNRESOLVED")]:
        first, *_, last = decide([contrast(d), *rest[: count - 1], *again], rule)
        assert first.label == expected
        assert first.measured.equivalence == close(count * alone, 1e-9)
        assert (last.label, last.measured.equivalence) == ("A/A", None)


def test_a_claim_comes_before_neutral(asked):
    """A difference of less than the smallest effect can be a claim."""
    assert told(SIX, smallest=1.0) == "SUPPORTED worse"
    lost = [contrast(SIX, f"lost{k}", invalid=("x",)) for k in range(9)]
    assert told(SIX, smallest=1.0, arms=lost) == "NEUTRAL"


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("sign", [True, False])
def test_which_direction_is_better(asked, lower, sign):
    """Down is better where lower is; n of both tests."""
    d = [-x if sign else x for x in SIX]
    better = "better" if sign is lower else "worse"
    assert told(d, lower=lower) == f"SUPPORTED {better}"
    assert told(d[:5], 0.04, lower=lower) == f"LIMITED {better}"


def test_an_aa_arm_and_the_family(asked):
    """It pays nothing and costs nothing, wherever it stands, and has its own level."""
    for place in (0, 1, 2):
        arms = [contrast(SIX, "one"), contrast(FIVE, "two")]
        arms.insert(place, contrast([-x for x in SEVEN], "again", aa=True))
        found = {verdict.step: verdict for verdict in decide(arms, Rule(0.05))}
        again = found["again"].measured
        assert (found["again"].label, again.level) == ("A/A", 0.05)
        assert again.adjusted == again.p == close(byhand.p_value(SEVEN), 1e-9)
        p = [byhand.p_value(d) for d in (SIX, FIVE)]
        for step, (adjusted, level) in zip(("one", "two"), byhand.step_down(p, 0.05)):
            assert found[step].measured.adjusted == close(adjusted, 1e-9)
            assert found[step].measured.level == close(level)


def test_tied_p_in_both_orders():
    """Equal p are adjusted alike; the first of them is held at the stricter level."""
    for p in ([0.01, 0.01, 0.5], [0.5, 0.01, 0.01], [0.01, 0.5, 0.01]):
        found = stats.holm(p, 0.05)
        small = [each for each, value in zip(found, p) if value == 0.01]
        assert [each.adjusted for each in small] == [0.03, 0.03]
        assert [each.level for each in small] == [0.05 / 3, 0.05 / 2]
        assert stats.holm(p, 0.05)[p.index(0.5)] == stats.Holm(0.5, 0.05)
    assert stats.holm([0.02, 0.02], 0.05) == [stats.Holm(0.04, 0.025)] + [
        stats.Holm(0.04, 0.05)
    ]
    assert stats.holm([0.03, 0.03], 0.05) == [stats.Holm(0.06, 0.025)] * 2
    assert [h.adjusted for h in stats.holm([0.6, 0.7, 1.0], 0.05)] == [1.0] * 3
    assert stats.holm([0.0, 1.0], 0.05)[1] == stats.Holm(1.0, 0.05)
    assert stats.holm([0.025, 1.0], 0.05)[1].level == 0.05, "a p at its level is passed"


@pytest.mark.parametrize("bad", [-1e-9, 1.0000001, math.nan])
def test_what_is_no_p(bad):
    with pytest.raises(ValueError, match="outside 0 to 1"):
        stats.holm([0.5, bad], 0.05)


# -- what cannot be tested


def obstacle(arm, control, **changes):
    (verdict,) = decide([Contrast("a", arm, control, **changes)], Rule())
    return verdict.label, verdict.reasons, list(verdict.differences)


FULL = {k: 3 + UNIT * k for k in (2, 5, 9)}


@pytest.mark.parametrize(
    "arm, control, changes, reasons",
    [
        ({2: 3.0, 5: 3.0}, FULL, {}, ("without a pair: seed 9",)),
        (FULL, {5: 3.0}, {}, ("without a pair: seeds 2, 9",)),
        ({2: 3.0, 7: 3.0}, {7: 3.1, 5: 3.0}, {}, ("without a pair: seeds 2, 5",)),
        ({}, FULL, {}, ("without a pair: seeds 2, 5, 9",)),
        ({}, {}, {}, ("no run has the metric",)),
        ({}, {}, {"invalid": ("lost",)}, ("lost",)),
        ({2: 3.0}, FULL, {"invalid": ("lost",)}, ("lost",)),
        (
            {**FULL, 5: math.nan},
            FULL,
            {"invalid": ("lost", "a second"), "unfair": ("dtype",)},
            ("lost", "a second", "not a finite number in seed 5"),
        ),
        (FULL, {**FULL, 9: math.inf, 2: math.inf}, {}, None),
    ],
)
def test_invalid_arms(arm, control, changes, reasons):
    """Everything that is missing is named by its seed; INVALID goes before unfair."""
    reasons = reasons or ("not a finite number in seeds 2, 9",)
    both = sorted(arm.keys() & control.keys())
    assert obstacle(arm, control, **changes) == ("INVALID", reasons, both)


def test_unfair_goes_before_few_and_few_before_equal():
    two = {2: 3.0, 5: 3.0}
    few = ("n = 2: fewer than 3 seeds say nothing",)
    assert obstacle(two, two, unfair=("a", "b"))[:2] == ("NON_DIAGNOSTIC", ("a", "b"))
    assert obstacle(two, two)[:2] == ("NON_DIAGNOSTIC", few)
    (reason,) = obstacle(FULL, FULL)[1]
    assert reason.startswith("bit-identical to the control in all 3 seeds: nothing")


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("side", ["arm", "control"])
def test_the_edge_of_no_spread(asked, scale, side):
    """10⁻¹² of the largest value that was subtracted, of arm or control; a difference
    more is a spread, however small.
    """
    tiny = 2.0**-44 * scale  # 5.7e-14 of scale; 17 of them are 9.7e-13 of it
    for steps, equal in [(17, True), (18, False)]:
        base = dict.fromkeys((2, 5), scale) | {9: scale}
        other = {2: 0.0, 5: 0.0, 9: steps * tiny}
        pair = (other, base) if side == "arm" else (base, other)
        word, reasons, _ = obstacle(*pair)
        if equal:
            sign = "-" if side == "arm" else "+"
            assert word == "NON_DIAGNOSTIC"
            assert reasons[0].startswith(f"all 3 differences are {sign}{scale:g}: with")
        else:
            assert word.startswith("LIMITED") and reasons == ()


def test_the_edge_of_bit_identical(asked):
    """One seed that differs by anything is not bit-identical."""
    one = {**FULL, 9: math.nextafter(FULL[9], UP)}
    (reason,) = obstacle(one, FULL)[1]
    assert reason.startswith("all 3 differences are +0: without spread")


# -- outliers, ties, r


@pytest.mark.parametrize("n", [3, 4, 6, 8])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_edge_of_an_outlier(n, alpha):
    """Held against the others at α / n, two-sided, with n − 2 degrees of freedom."""
    rest = np.array([1.0, 2.0, 4.0, 3.0, 7.0, 5.0, 6.0])[: n - 1]
    limit = scipy_stats.t.isf(alpha / n / 2, n - 2)
    reach = limit * rest.std(ddof=1) * math.sqrt(1 + 1 / (n - 1))
    for sign in (1, -1):
        far, near = (rest.mean() + sign * reach * f for f in (1 + 1e-9, 1 - 1e-9))
        for place in (0, n - 1):
            assert place in stats.outliers(np.insert(rest, place, far), alpha)
            assert place not in stats.outliers(np.insert(rest, place, near), alpha)
    if alpha == 0.05:
        assert 0 in stats.outliers(np.insert(rest, 0, rest.mean() + 1.00001 * reach))
        near = np.insert(rest, 0, rest.mean() + 0.99999 * reach)
        assert 0 not in stats.outliers(near)


def test_an_outlier_among_equal_ones():
    """Anything beyond rounding stands apart from others that are all the same."""
    assert stats.outliers([1.0, 1.0, 1.0 + 2e-12]) == (2,)
    assert stats.outliers([1.0, 1.0, 1.0 + 5e-13]) == ()
    assert stats.outliers([2.0, 1.0, 1.0, 1.0]) == (0,)
    assert stats.outliers([1.0, 5.0]) == stats.outliers([]) == ()


def test_the_edge_of_a_tie():
    """10⁻¹² of the scale, itself included; without a scale, of the largest value."""
    assert stats.tied([0.0, 1e-12], scale=1.0)
    assert not stats.tied([0.0, math.nextafter(1e-12, 1)], scale=1.0)
    assert stats.tied([4.0, 4.0 + 3.9e-12]) and not stats.tied([4.0, 4.0 + 4.1e-12])
    assert stats.tied([-4.0, -4.0 - 3.9e-12]) and not stats.tied([-4.0, 4.0])
    assert stats.tied([]) and stats.tied([7.0]) and stats.tied([0.0, 0.0])


def test_r_of_what_has_no_spread():
    two, three = [1.0, 2.0], [1.0, 2.0, 4.0]
    assert stats.correlation(two, two) is None
    assert stats.correlation(three, three[::-1]) == close(
        byhand.correlation(three, three[::-1])
    )
    assert stats.correlation(three, [5.0] * 3) is None
    assert stats.correlation([5.0] * 3, three) is None
    assert stats.correlation(three, [-x for x in three]) == close(-1.0)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.1])
def test_levels_without_an_interval(level):
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        stats.interval([1.0, 2.0, 4.0], level)


# -- power


def share(n: int, ratio: float, level: float, flip_at: float | None) -> float:
    """Power by simulation with other random numbers, pattern by pattern."""
    d = np.random.default_rng(5).normal(ratio, 1.0, (3000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(n))
    passed = t > scipy_stats.t.isf(level / 2, n - 1)
    if flip_at is not None:
        signs = np.array(np.meshgrid(*[[1, -1]] * n)).reshape(n, -1)
        p = (abs(d @ signs) >= abs(d.sum(1))[:, None] - 1e-9).mean(1)
        passed &= p <= flip_at
    return passed.mean()


@pytest.mark.parametrize(
    "n, ratio, level, flip_at",
    [
        (3, 3.0, 0.05, None),
        (5, 1.5, 0.02, None),
        (6, 1.5, 0.05, 0.05),
        (6, 1.5, 0.05, 2 / 64),
        (6, 1.5, 0.05, math.nextafter(2 / 64, DOWN)),
        (7, 1.2, 0.05, 4 / 128),
        (7, 1.2, 0.05, math.nextafter(4 / 128, DOWN)),
        (8, 1.2, 0.004, 0.05),
    ],
)
def test_power_by_simulation(n, ratio, level, flip_at):
    found = stats.both_power(n, ratio, level, flip_at)
    assert found == pytest.approx(share(n, ratio, level, flip_at), abs=0.03)
    assert stats.both_power(n, -ratio, level, flip_at) == found


def test_power_is_of_both_tests_up_to_twelve_seeds():
    assert stats.both_power(12, 0.9, 0.05, 2 / 2**12) < stats.power(12, 0.9, 0.05) / 2
    assert stats.both_power(13, 0.9, 0.05, 2 / 2**13) == stats.power(13, 0.9, 0.05)


@pytest.mark.parametrize("n, level", [(3, 0.05), (5, 0.01), (8, 0.05)])
def test_what_can_be_seen_has_the_power_said(n, level):
    """80 %, by the noncentral t; in the unit of the deviation."""
    seen = stats.visible(n, 1.0, level)
    limit = scipy_stats.t.isf(level / 2, n - 1)
    power = scipy_stats.nct.sf(limit, n - 1, seen * math.sqrt(n))
    assert power == pytest.approx(0.8, abs=1e-5)
    assert stats.visible(n, 0.25, level) == seen / 4


def test_what_both_tests_see_has_the_power_said():
    seen = stats.visible(6, 2.0, 0.05, 0.05)
    assert share(6, seen / 2.0, 0.05, 0.05) == pytest.approx(0.8, abs=0.03)
    assert stats.visible(6, 2.0, 0.01, 0.05) > seen > stats.visible(6, 2.0, 0.05)


@pytest.mark.parametrize("sd, level", [(1.0, 0.05), (2.5, 0.05), (1.0, 0.003)])
def test_the_fewest_seeds_that_see_a_difference(sd, level):
    """The first n, from 2 on, whose power by the noncentral t is 80 %."""

    def power(n: int) -> float:
        limit = scipy_stats.t.isf(level / 2, n - 1)
        return scipy_stats.nct.sf(limit, n - 1, 1.0 / sd * math.sqrt(n))

    first = next(n for n in range(2, 200) if power(n) >= 0.8)
    assert stats.seeds_needed(sd, 1.0, level) == first


def test_the_fewest_seeds_that_both_tests_take():
    """At a difference that t sees with three: six, because five cannot flip."""
    assert stats.seeds_needed(0.1, 1.0, 0.05) == 3
    assert stats.seeds_needed(0.1, 1.0, 0.05, 0.05) == 6
    assert stats.seeds_needed(0.1, 1.0, 0.05, 0.02) == 7
    assert stats.seeds_needed(1.0, 1.0, 0.05, 0.05) == next(
        n for n in range(6, 30) if stats.both_power(n, 1.0, 0.05, 0.05) >= 0.8
    )


@pytest.mark.parametrize("alpha, n", [(1.0, 1), (0.5, 2), (0.499, 3), (0.25, 3)])
def test_the_fewest_that_can_flip(alpha, n):
    assert selection.fewest_flips(alpha) == n
